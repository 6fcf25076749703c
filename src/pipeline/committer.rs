//! The committer: records the next offsets of finished batches, for the partitions we own.
//!
//! Place in the data path: last stage. It is the one place where "what is finished" becomes "what is
//! recorded".
//!
//! Invariants:
//! - An offset is recorded only for the assignment epoch that it was finished in. The broker does not
//!   check this: a commit by explicit list for a partition that is no longer ours succeeds, and
//!   rewinds its new owner.
//! - At most one commit is outstanding, also where nobody waits for it any more. The client puts a
//!   commit off while the group's coordinator is away; a newer one could overtake it, and the older
//!   one then rewind what is recorded.
//! - Offsets of a partition never go back within an epoch.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

#[cfg(test)]
use crate::broker::sim::mutation::{self, Mutation};
use crate::error::{Error, Result};
use crate::message::{Offset, TopicPartition};
use crate::metrics::processor::CommitMetrics;
use crate::processor::BoxFuture;

/// Until a last commit is made again.
const RETRY: Duration = Duration::from_millis(100);

/// How long a last commit is made again although a right is missing.
const LAST_DOUBT: Duration = Duration::from_secs(2);

struct Owned {
    epoch: u64,
    /// Finished and to be recorded.
    finished: Offset,
    /// Recorded, as far as we know.
    committed: Option<Offset>,
}

struct Outstanding {
    offsets: Vec<(TopicPartition, u64, Offset)>,
    result: BoxFuture<'static, Result<()>>,
    begun: Instant,
}

/// Begins to record next offsets; see [`Consumer::commit`](crate::broker::Consumer::commit).
pub(crate) type Record =
    dyn Fn(Vec<(TopicPartition, Offset)>) -> BoxFuture<'static, Result<()>> + Send + Sync;

pub(crate) struct Committer {
    record: Box<Record>,
    owned: BTreeMap<TopicPartition, Owned>,
    outstanding: Option<Outstanding>,
    metrics: CommitMetrics,
}

impl Committer {
    pub(crate) fn new(record: Box<Record>) -> Self {
        let metrics = CommitMetrics::off();
        Self { record, owned: BTreeMap::new(), outstanding: None, metrics }
    }

    /// Counts commits here from now on.
    pub(crate) fn measure(&mut self, metrics: CommitMetrics) {
        self.metrics = metrics;
    }

    /// An epoch of a partition begins. Where nothing is committed yet, the start itself will be:
    /// else a `latest` start would be looked up again after a crash, and skip what came meanwhile.
    pub(crate) fn begin(
        &mut self,
        partition: TopicPartition,
        epoch: u64,
        start: Offset,
        committed: Option<Offset>,
    ) {
        self.owned.insert(partition, Owned { epoch, finished: start, committed });
    }

    /// The epoch of a partition ends: nothing more is recorded for it.
    pub(crate) fn end(&mut self, partition: &TopicPartition) {
        self.owned.remove(partition);
    }

    /// What is recorded, as far as we know.
    pub(crate) fn recorded(&self) -> impl Iterator<Item = (&TopicPartition, Offset)> {
        let owned = self.owned.iter();
        owned.filter_map(|(partition, owned)| Some((partition, owned.committed?)))
    }

    /// What is recorded of a partition, as far as we know.
    pub(crate) fn recorded_of(&self, partition: &TopicPartition, epoch: u64) -> Option<Offset> {
        let owned = self.owned.get(partition).filter(|owned| owned.epoch == epoch);
        owned.and_then(|owned| owned.committed)
    }

    /// Everything below `next` is finished. Ignored where the epoch is not the current one.
    pub(crate) fn finished(&mut self, partition: &TopicPartition, epoch: u64, next: Offset) {
        if let Some(owned) = self.owned.get_mut(partition).filter(|owned| owned.epoch == epoch) {
            owned.finished = owned.finished.max(next);
        }
    }

    pub(crate) fn owns_any(&self) -> bool {
        !self.owned.is_empty()
    }

    /// Begins to record what has advanced, for partitions that `wanted` names. Does nothing while a
    /// commit is outstanding.
    pub(crate) fn commit(&mut self, wanted: impl Fn(&TopicPartition) -> bool) {
        #[cfg(test)]
        let may_overlap = mutation::is(Mutation::CommitBesideAnother);
        #[cfg(not(test))]
        let may_overlap = false;
        if self.outstanding.is_some() && !may_overlap {
            return;
        }
        let advanced = self.owned.iter().filter(|(partition, owned)| {
            owned.committed.is_none_or(|committed| committed < owned.finished) && wanted(partition)
        });
        let offsets: Vec<_> = advanced
            .map(|(partition, owned)| (partition.clone(), owned.epoch, owned.finished))
            .collect();
        if offsets.is_empty() {
            return;
        }
        let list = offsets.iter().map(|(partition, _, next)| (partition.clone(), *next)).collect();
        let result = (self.record)(list);
        self.outstanding = Some(Outstanding { offsets, result, begun: Instant::now() });
    }

    /// Waits for the outstanding commit; never done while there is none. Cancel-safe.
    ///
    /// # Errors
    /// The commit failed; its offsets will be part of the next one.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        let Some(outstanding) = &mut self.outstanding else { return std::future::pending().await };
        let result = outstanding.result.as_mut().await;
        self.metrics.settled(&result, outstanding.begun.elapsed());
        if let (Ok(()), Some(done)) = (&result, self.outstanding.take()) {
            for (partition, epoch, next) in done.offsets {
                let owned = self.owned.get_mut(&partition).filter(|owned| owned.epoch == epoch);
                if let Some(owned) = owned {
                    owned.committed = Some(next);
                }
            }
        }
        self.outstanding = None;
        result
    }

    /// Records what has advanced for the partitions that `wanted` names and waits until it is. A commit
    /// that fails for a transient reason is made again, and for some seconds one that is refused because
    /// a right is missing, which may be on its way; drop the future to give up.
    /// Cancel-safe: a commit that is under way stays outstanding.
    ///
    /// # Errors
    /// The commit was refused, or the group is rebalancing: what comes next waits for the caller.
    pub(crate) async fn commit_now(
        &mut self,
        wanted: impl Fn(&TopicPartition) -> bool,
    ) -> Result<()> {
        if self.outstanding.is_some() {
            // Its failure needs no report: what it was to record goes into the next one.
            let _superseded = self.settle().await;
        }
        let begun = Instant::now();
        let doubted =
            |error: &Error| !error.doubted_for().is_zero() && begun.elapsed() < LAST_DOUBT;
        loop {
            self.commit(&wanted);
            if self.outstanding.is_none() {
                return Ok(());
            }
            match self.settle().await {
                Err(error) if is_rebalance(&error) => return Err(error),
                Err(error) if error.is_retryable() || doubted(&error) => sleep(RETRY).await,
                result => return result,
            }
        }
    }
}

/// A commit that the group refused because it is, or was, rebalancing.
pub(crate) fn is_rebalance(error: &Error) -> bool {
    const CODES: [&str; 4] =
        ["REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "STALE_MEMBER_EPOCH"];
    error.get("code").is_some_and(|code| CODES.contains(&code))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::oneshot;

    use super::*;
    use crate::error::ErrorKind;

    type Answer = oneshot::Sender<Result<()>>;
    type Commit = (Vec<(TopicPartition, Offset)>, Answer);

    /// Notes what is committed and lets the test answer.
    #[derive(Default)]
    struct Commits(Mutex<Vec<Commit>>);

    impl Commits {
        fn record(&self, offsets: Vec<(TopicPartition, Offset)>) -> BoxFuture<'static, Result<()>> {
            let (answer, result) = oneshot::channel();
            self.0.lock().unwrap().push((offsets, answer));
            Box::pin(async { result.await.unwrap() })
        }
    }

    fn partition() -> TopicPartition {
        TopicPartition::new("a", 0)
    }

    fn offset(offset: i64) -> Offset {
        Offset::new(offset)
    }

    fn committer() -> (Committer, Arc<Commits>) {
        let commits = Arc::new(Commits::default());
        let recorder = commits.clone();
        let mut committer = Committer::new(Box::new(move |offsets| recorder.record(offsets)));
        committer.begin(partition(), 1, offset(5), Some(offset(5)));
        (committer, commits)
    }

    #[tokio::test]
    async fn at_most_one_commit_is_outstanding() {
        let (mut committer, commits) = committer();
        committer.finished(&partition(), 1, offset(7));
        committer.commit(|_| true);
        committer.finished(&partition(), 1, offset(9));
        committer.commit(|_| true);
        assert_eq!(commits.0.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_failed_commit_is_made_again_with_the_next() {
        let (mut committer, commits) = committer();
        committer.finished(&partition(), 1, offset(7));
        committer.commit(|_| true);
        let (_, answer) = commits.0.lock().unwrap().pop().unwrap();
        answer.send(Err(Error::new(ErrorKind::Commit, "no coordinator"))).unwrap();
        assert!(committer.settle().await.is_err());
        committer.commit(|_| true);
        let (offsets, answer) = commits.0.lock().unwrap().pop().unwrap();
        assert_eq!(offsets, [(partition(), offset(7))]);
        answer.send(Ok(())).unwrap();
        committer.settle().await.unwrap();
        committer.commit(|_| true);
        assert!(commits.0.lock().unwrap().is_empty(), "nothing has advanced");
    }

    #[tokio::test]
    async fn an_earlier_epoch_records_nothing() {
        let (mut committer, commits) = committer();
        committer.end(&partition());
        committer.begin(partition(), 2, offset(5), Some(offset(5)));
        committer.finished(&partition(), 1, offset(9));
        committer.commit(|_| true);
        assert!(commits.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_start_without_a_committed_offset_is_recorded() {
        let (mut committer, commits) = committer();
        committer.begin(TopicPartition::new("b", 0), 2, offset(100), None);
        committer.commit(|_| true);
        let (offsets, _) = commits.0.lock().unwrap().pop().unwrap();
        assert_eq!(offsets, [(TopicPartition::new("b", 0), offset(100))]);
    }
}
