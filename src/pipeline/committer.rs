//! The committer: commits the next offsets of finished batches, for the partitions we own.
//!
//! Place in the data path: last stage. It is the one place where "what is finished" becomes "what is
//! committed".
//!
//! Invariants:
//! - An offset is committed only for the assignment epoch that it was finished in. The broker does not
//!   check this: a commit by explicit list for a partition that is no longer ours succeeds, and
//!   rewinds its new owner.
//! - At most one commit is outstanding, also where nobody waits for it any more. The client puts a
//!   commit off while the group's coordinator is away; a newer one could overtake it, and the older
//!   one then rewind what is committed.
//! - Offsets of a partition never go back within an epoch.
//!
//! Offsets that do not change are committed again at intervals. Kafka deletes a committed offset
//! `offsets.retention.minutes` after its own commit where the group has no members (static partitions,
//! or a group of the newer protocol whose members are gone), however much the other partitions move.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use crate::broker::{CommitError, CommitRefusal, CommitResult};
use crate::error::Error;
use crate::message::{Offset, TopicPartition};
use crate::metrics::processor::CommitMetrics;
use crate::pipeline::epoch::Epoch;
use crate::pipeline::punctuality::{Goal, Punctuality};

/// Until a last commit is made again.
const RETRY: Duration = Duration::from_millis(100);

/// How long a last commit is made again although a right is missing.
const LAST_DOUBT: Duration = Duration::from_secs(2);

/// How long a last commit is made again from the first time on that a rebalance refuses it, though it leaves the partitions
/// with us: until each member has heard of it, with the brokers' default heartbeat interval of 3 s.
const REBALANCE: Duration = Duration::from_secs(5);

struct Owned {
    /// Knows what is committed.
    epoch: Epoch,
    /// As last [collected](Committer::finished) from the lane: to be committed.
    finished: Offset,
    /// When the oldest message arrived that is finished and not committed, if there is a latency target.
    arrived: Option<Instant>,
    /// The broker deletes the committed offset some time after this. `None`: that may be soon.
    committed_at: Option<Instant>,
}

impl Owned {
    fn has_advanced(&self) -> bool {
        self.epoch.committed().is_none_or(|committed| committed < self.finished)
    }

    fn is_old(&self, refresh_interval: Duration) -> bool {
        self.committed_at.is_none_or(|at| at.elapsed() >= refresh_interval)
    }
}

struct Outstanding {
    offsets: Vec<Sent>,
    result: BoxFuture<'static, CommitResult>,
    begun: Instant,
}

/// An offset that is sent.
struct Sent {
    partition: TopicPartition,
    epoch: Epoch,
    next: Offset,
    /// When the oldest message arrived that it covers.
    arrived: Option<Instant>,
}

/// Sends a commit; see [`Consumer::commit`](crate::broker::Consumer::commit).
pub(crate) type SendCommit =
    dyn Fn(Vec<(TopicPartition, Offset)>) -> BoxFuture<'static, CommitResult> + Send + Sync;

pub(crate) struct Committer {
    send: Box<SendCommit>,
    /// How old a committed offset gets before it is committed again, changed or not.
    refresh_interval: Duration,
    /// The group has no members: committed offsets of partitions that begin have any age.
    is_static: bool,
    /// A rebalance refused the last commit that was answered.
    refused_by_rebalance: bool,
    next_epoch: u64,
    owned: BTreeMap<TopicPartition, Owned>,
    /// What is committed of partitions that were ours and were given back, not lost.
    given_back: BTreeMap<TopicPartition, Offset>,
    outstanding: Option<Outstanding>,
    metrics: CommitMetrics,
    /// If there is a latency target.
    punctuality: Option<Punctuality>,
}

impl Committer {
    pub(crate) fn new(send: Box<SendCommit>, refresh_interval: Duration, is_static: bool) -> Self {
        Self {
            send,
            refresh_interval,
            is_static,
            refused_by_rebalance: false,
            next_epoch: 1,
            owned: BTreeMap::new(),
            given_back: BTreeMap::new(),
            outstanding: None,
            metrics: CommitMetrics::off(),
            punctuality: None,
        }
    }

    /// Notes whether this target is met.
    pub(crate) fn with_target(mut self, goal: Option<Arc<Goal>>) -> Self {
        self.punctuality = goal.map(Punctuality::new);
        self
    }

    /// Since when the latency target is missed.
    pub(crate) fn missed_since(&mut self) -> Option<Instant> {
        self.punctuality.as_mut().and_then(Punctuality::missed_since)
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
        start: Offset,
        committed: Option<Offset>,
    ) -> Epoch {
        let epoch = Epoch::new(self.next_epoch, committed);
        self.next_epoch += 1;
        // While a group has members, none of its offsets is deleted.
        let committed_at = (!self.is_static).then(Instant::now);
        let owned = Owned { epoch: epoch.clone(), finished: start, arrived: None, committed_at };
        self.owned.insert(partition, owned);
        epoch
    }

    /// The epoch of a partition ends: nothing more is committed for it. If the partition is `lost`, what was committed
    /// counts no longer.
    pub(crate) fn end(&mut self, partition: &TopicPartition, lost: bool) {
        self.note_end(partition, lost);
        self.owned.remove(partition);
    }

    fn note_end(&mut self, partition: &TopicPartition, lost: bool) {
        let committed = self.owned.get(partition).and_then(|owned| owned.epoch.committed());
        let Some(next) = committed else { return };
        match lost {
            true => self.given_back.remove(partition),
            false => self.given_back.insert(partition.clone(), next),
        };
    }

    /// What is committed of all partitions that are ours or were given back. Ours count if they are not `lost`.
    pub(crate) fn next_offsets(&mut self, lost: bool) -> BTreeMap<TopicPartition, Offset> {
        let owned: Vec<_> = self.owned.keys().cloned().collect();
        owned.iter().for_each(|partition| self.note_end(partition, lost));
        std::mem::take(&mut self.given_back)
    }

    /// Everything below `next` is finished. Ignored where the epoch is not the current one.
    pub(crate) fn finished(&mut self, partition: &TopicPartition, epoch: &Epoch, next: Offset) {
        if let Some(owned) = self.owned_in(partition, epoch) {
            owned.finished = owned.finished.max(next);
        }
    }

    /// The oldest message that is finished and was not told of arrived then.
    pub(crate) fn arrived(&mut self, partition: &TopicPartition, epoch: &Epoch, arrived: Instant) {
        if let Some(owned) = self.owned_in(partition, epoch) {
            owned.arrived.get_or_insert(arrived);
        }
    }

    /// The partition, if this is its current epoch.
    fn owned_in(&mut self, partition: &TopicPartition, epoch: &Epoch) -> Option<&mut Owned> {
        let owned = self.owned.get_mut(partition);
        owned.filter(|owned| owned.epoch.number() == epoch.number())
    }

    pub(crate) fn owned(&self) -> impl Iterator<Item = &TopicPartition> {
        self.owned.keys()
    }

    pub(crate) fn owns_any(&self) -> bool {
        !self.owned.is_empty()
    }

    /// Has the next commit include all offsets, also those that have not changed.
    pub(crate) fn refresh_all(&mut self) {
        for owned in self.owned.values_mut() {
            owned.committed_at = None;
        }
    }

    /// Whether something is finished that is not committed.
    pub(crate) fn has_uncommitted(&self) -> bool {
        self.owned.values().any(Owned::has_advanced)
    }

    /// Whether a rebalance refused the last commit that was answered.
    pub(crate) fn was_refused_by_rebalance(&self) -> bool {
        self.refused_by_rebalance
    }

    /// Begins to commit what has advanced, and what was committed long ago, for partitions that `wanted`
    /// names. Does nothing while a commit is outstanding.
    pub(crate) fn commit(&mut self, wanted: impl Fn(&TopicPartition) -> bool) {
        if self.outstanding.is_some() && !fault!(CommitBesideAnother) {
            return;
        }
        let due = self.owned.iter_mut().filter(|(partition, owned)| {
            (owned.has_advanced() || owned.is_old(self.refresh_interval)) && wanted(partition)
        });
        let sent = due.map(|(partition, owned)| Sent {
            partition: partition.clone(),
            epoch: owned.epoch.clone(),
            next: owned.finished,
            arrived: owned.arrived.take(),
        });
        let offsets: Vec<_> = sent.collect();
        if offsets.is_empty() {
            return;
        }
        let list = offsets.iter().map(|sent| (sent.partition.clone(), sent.next)).collect();
        let result = (self.send)(list);
        self.outstanding = Some(Outstanding { offsets, result, begun: Instant::now() });
    }

    /// Waits for the outstanding commit; never done while there is none. Cancel-safe.
    ///
    /// # Errors
    /// The commit failed; its offsets will be part of the next one.
    pub(crate) async fn settle(&mut self) -> CommitResult {
        let Some(outstanding) = &mut self.outstanding else { return std::future::pending().await };
        let result = outstanding.result.as_mut().await;
        self.metrics.settled(result.is_ok(), outstanding.begun.elapsed());
        self.refused_by_rebalance = result.as_ref().is_err_and(CommitError::is_rebalance);
        if let Some(done) = self.outstanding.take() {
            match result {
                Ok(()) => self.note_committed(done),
                Err(_) => self.note_failed(done),
            }
        }
        result
    }

    fn note_committed(&mut self, done: Outstanding) {
        let now = Instant::now();
        if let Some(punctuality) = &mut self.punctuality {
            punctuality.answered(now - done.begun);
        }
        for Sent { partition, epoch, next, arrived } in done.offsets {
            let Some(owned) = self.owned_in(&partition, &epoch) else { continue };
            owned.epoch.note_committed(next);
            // Not when the answer came: the broker counts from before that.
            owned.committed_at = Some(done.begun);
            if let (Some(punctuality), Some(arrived)) = (&mut self.punctuality, arrived) {
                punctuality.committed(now - arrived);
                self.metrics.committed(now - arrived);
            }
        }
    }

    /// What it was to commit goes into the next one.
    fn note_failed(&mut self, failed: Outstanding) {
        for Sent { partition, epoch, arrived, .. } in failed.offsets {
            if let Some(owned) = self.owned_in(&partition, &epoch) {
                owned.arrived = arrived.or(owned.arrived);
            }
        }
    }

    /// Commits what has advanced for the partitions that `wanted` names and waits until it is. A commit
    /// that fails for a transient reason is made again, and for some seconds one that is refused because
    /// a right is missing, which may be on its way, or by a rebalance that leaves the partitions with us until we give
    /// them back (`by_parts`); drop the future to give up.
    /// Cancel-safe: a commit that is under way stays outstanding.
    ///
    /// # Errors
    /// The commit was refused, or the group is rebalancing: what comes next waits for the caller.
    pub(crate) async fn commit_now(
        &mut self,
        wanted: impl Fn(&TopicPartition) -> bool,
        by_parts: bool,
    ) -> CommitResult {
        if self.outstanding.is_some() {
            // Its failure needs no report: what it was to commit goes into the next one.
            let _superseded = self.settle().await;
        }
        let (begun, mut refused) = (Instant::now(), None);
        let doubted =
            |error: &Error| !error.doubted_for().is_zero() && begun.elapsed() < LAST_DOUBT;
        loop {
            self.commit(&wanted);
            if self.outstanding.is_none() {
                return Ok(());
            }
            match self.settle().await {
                Err(error) if error.is_rebalance() => {
                    let is_ours = by_parts && error.refusal == CommitRefusal::Rebalancing;
                    let refused = refused.get_or_insert_with(Instant::now);
                    if !is_ours || refused.elapsed() >= REBALANCE {
                        return Err(error);
                    }
                    sleep(RETRY).await;
                }
                Err(CommitError { error, .. }) if error.is_retryable() || doubted(&error) => {
                    sleep(RETRY).await;
                }
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::oneshot;

    use super::*;
    use crate::error::ErrorKind;

    type Answer = oneshot::Sender<CommitResult>;
    type Commit = (Vec<(TopicPartition, Offset)>, Answer);

    /// Notes what is committed and lets the test answer.
    #[derive(Default)]
    struct Commits(Mutex<Vec<Commit>>);

    impl Commits {
        fn take(&self, offsets: Vec<(TopicPartition, Offset)>) -> BoxFuture<'static, CommitResult> {
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

    fn first_epoch() -> Epoch {
        Epoch::new(1, None)
    }

    const HOUR: Duration = Duration::from_hours(1);

    fn committer_of(is_static: bool) -> (Committer, Arc<Commits>) {
        let commits = Arc::new(Commits::default());
        let broker = commits.clone();
        let send = Box::new(move |offsets| broker.take(offsets));
        let mut committer = Committer::new(send, HOUR, is_static);
        committer.begin(partition(), offset(5), Some(offset(5)));
        (committer, commits)
    }

    fn committer() -> (Committer, Arc<Commits>) {
        committer_of(false)
    }

    impl Commits {
        /// The only commit that was made since this was asked, answered well.
        async fn succeeds(&self, committer: &mut Committer) -> Vec<(TopicPartition, Offset)> {
            let (offsets, answer) = self.0.lock().unwrap().pop().unwrap();
            assert!(self.is_empty());
            answer.send(Ok(())).unwrap();
            committer.settle().await.unwrap();
            offsets
        }

        fn is_empty(&self) -> bool {
            self.0.lock().unwrap().is_empty()
        }
    }

    #[tokio::test]
    async fn at_most_one_commit_is_outstanding() {
        let (mut committer, commits) = committer();
        committer.finished(&partition(), &first_epoch(), offset(7));
        committer.commit(|_| true);
        committer.finished(&partition(), &first_epoch(), offset(9));
        committer.commit(|_| true);
        assert_eq!(commits.0.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_failed_commit_is_made_again_with_the_next() {
        let (mut committer, commits) = committer();
        committer.finished(&partition(), &first_epoch(), offset(7));
        committer.commit(|_| true);
        let (_, answer) = commits.0.lock().unwrap().pop().unwrap();
        answer.send(Err(Error::new(ErrorKind::Commit, "no coordinator").into())).unwrap();
        assert!(committer.settle().await.is_err());
        committer.commit(|_| true);
        let (offsets, answer) = commits.0.lock().unwrap().pop().unwrap();
        assert_eq!(offsets, [(partition(), offset(7))]);
        answer.send(Ok(())).unwrap();
        committer.settle().await.unwrap();
        committer.commit(|_| true);
        assert!(commits.0.lock().unwrap().is_empty(), "nothing has advanced");
    }

    /// How often a last commit is made that is refused twice like this, and what comes of it.
    async fn last_commit(refusal: CommitRefusal, by_parts: bool) -> (usize, CommitResult) {
        let (mut committer, commits) = committer();
        committer.finished(&partition(), &first_epoch(), offset(7));
        let mut attempts = 0;
        let commit = committer.commit_now(|_| true, by_parts);
        let refusing = async {
            loop {
                let commit = commits.0.lock().unwrap().pop();
                if let Some((_, answer)) = commit {
                    attempts += 1;
                    let error = Error::new(ErrorKind::Commit, "refused");
                    let refused = CommitError { refusal, error };
                    let result = if attempts < 3 { Err(refused) } else { Ok(()) };
                    let _ = answer.send(result);
                }
                sleep(RETRY / 10).await;
            }
        };
        tokio::select! {
            biased;
            result = commit => (attempts, result),
            () = refusing => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_last_commit_is_made_again_where_a_rebalance_leaves_the_partitions() {
        let (attempts, result) = last_commit(CommitRefusal::Rebalancing, true).await;
        assert!(result.is_ok());
        assert_eq!(attempts, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_last_commit_is_not_made_again_where_another_may_have_the_partitions() {
        use CommitRefusal::{Rebalancing, UnknownMember};
        for (refusal, by_parts) in [(Rebalancing, false), (UnknownMember, true)] {
            let (attempts, result) = last_commit(refusal, by_parts).await;
            assert_eq!(result.unwrap_err().refusal, refusal);
            assert_eq!(attempts, 1, "{refusal:?}");
        }
    }

    #[tokio::test]
    async fn an_earlier_epoch_commits_nothing() {
        let (mut committer, commits) = committer();
        committer.end(&partition(), false);
        committer.begin(partition(), offset(5), Some(offset(5)));
        committer.finished(&partition(), &first_epoch(), offset(9));
        committer.commit(|_| true);
        assert!(commits.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_start_without_a_committed_offset_is_committed() {
        let (mut committer, commits) = committer();
        committer.begin(TopicPartition::new("b", 0), offset(100), None);
        committer.commit(|_| true);
        let (offsets, _) = commits.0.lock().unwrap().pop().unwrap();
        assert_eq!(offsets, [(TopicPartition::new("b", 0), offset(100))]);
    }

    /// The group has no members: the broker counts from each offset's own commit.
    #[tokio::test(start_paused = true)]
    async fn an_unchanged_offset_of_a_static_partition_is_committed_again_in_time() {
        let (mut committer, commits) = committer_of(true);
        committer.commit(|_| true);
        let unchanged = [(partition(), offset(5))];
        assert_eq!(commits.succeeds(&mut committer).await, unchanged, "its age is not known");
        tokio::time::advance(HOUR - Duration::from_secs(1)).await;
        committer.commit(|_| true);
        assert!(commits.is_empty(), "it is young");
        tokio::time::advance(Duration::from_secs(1)).await;
        committer.commit(|_| true);
        assert_eq!(commits.succeeds(&mut committer).await, unchanged);
        committer.commit(|_| true);
        assert!(commits.is_empty());
    }

    /// A group of the newer protocol counts as soon as its last member is gone, also by a crash.
    #[tokio::test(start_paused = true)]
    async fn an_unchanged_offset_of_a_member_is_committed_again_in_time() {
        let (mut committer, commits) = committer();
        committer.begin(TopicPartition::new("b", 0), offset(100), Some(offset(100)));
        tokio::time::advance(HOUR / 2).await;
        committer.finished(&partition(), &first_epoch(), offset(7));
        committer.commit(|_| true);
        assert_eq!(commits.succeeds(&mut committer).await, [(partition(), offset(7))]);
        tokio::time::advance(HOUR / 2).await;
        committer.commit(|_| true);
        let idle = [(TopicPartition::new("b", 0), offset(100))];
        assert_eq!(commits.succeeds(&mut committer).await, idle, "only the one that is old");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_refresh_is_made_again() {
        let (mut committer, commits) = committer_of(true);
        committer.commit(|_| true);
        let (_, answer) = commits.0.lock().unwrap().pop().unwrap();
        answer.send(Err(Error::new(ErrorKind::Commit, "no coordinator").into())).unwrap();
        assert!(committer.settle().await.is_err());
        committer.commit(|_| true);
        assert_eq!(commits.succeeds(&mut committer).await, [(partition(), offset(5))]);
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_committed_again_where_that_is_wanted() {
        let (mut committer, commits) = committer();
        committer.commit(|_| true);
        assert!(commits.is_empty());
        assert!(!committer.has_uncommitted());
        committer.refresh_all();
        committer.commit(|_| true);
        assert_eq!(commits.succeeds(&mut committer).await, [(partition(), offset(5))]);
    }
}
