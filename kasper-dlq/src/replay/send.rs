//! The replay itself: a processor of the library that forwards. The library gives the rest: the group, an offset
//! commit after the acks of all before it, and the end in good order.
//!
//! Each batch is one letter, because a batch is committed as a whole: the replay can end at any letter, and those
//! behind it stay for the next run.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::{fmt, process};

use anyhow::Result;
use kasper::{
    Batch, BoxError, Context, ErrorKind, Handle, OwnedMessage, PartitionStatus, Processor,
    ProcessorState, Status,
};
use tokio::sync::watch;
use tokio::time::{Duration, sleep, sleep_until};

use super::pace::Pace;
use super::progress::Progress;
use super::rules::{Refused, Rules, Verdict, check};
use super::tally::{Outcome, Tally};
use crate::cluster::Cluster;
use crate::text::complain;

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// Why a replay ends, if nothing fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything was read that there was at the beginning.
    Complete,
    Limit,
    /// By a signal.
    Interrupted,
}

/// What the partitions of a replay share.
pub(crate) struct Run {
    pub(crate) rules: Rules,
    /// By partition: where the topic ended when the replay began.
    pub(crate) ends: BTreeMap<i32, i64>,
    pub(crate) limit: Option<u64>,
    pub(crate) pace: Pace,
    /// Knows the topics that messages are sent to.
    pub(crate) cluster: Arc<Cluster>,
    /// Messages that were given a place within the limit, and those of them that were sent.
    taken: AtomicU64,
    sent: AtomicU64,
    /// What went wrong first. The library returns what ended first, which may be a partition that only waited.
    failure: OnceLock<String>,
    tally: Mutex<Tally>,
    ended: watch::Sender<Option<End>>,
}

/// A letter was taken in that is not to be replayed any more: it stays for the next run.
#[derive(Debug)]
pub(crate) struct Enough;

impl fmt::Display for Enough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the replay ends before this letter")
    }
}

impl std::error::Error for Enough {}

impl Run {
    pub(crate) fn new(
        rules: Rules,
        ends: BTreeMap<i32, i64>,
        limit: Option<u64>,
        pace: Pace,
        cluster: Arc<Cluster>,
    ) -> Arc<Self> {
        Arc::new(Self {
            rules,
            ends,
            limit,
            pace,
            cluster,
            taken: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            failure: OnceLock::new(),
            tally: Mutex::default(),
            ended: watch::Sender::new(None),
        })
    }

    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first reason counts.
    pub(crate) fn end(&self, why: End) {
        self.ended.send_if_modified(|end| {
            let is_first = end.is_none();
            end.get_or_insert(why);
            is_first
        });
    }

    pub(crate) fn why_ended(&self) -> Option<End> {
        *self.ended.borrow()
    }

    /// Waits for the end. The letter at hand is left: it fails, so that it is not committed.
    async fn until_ended(&self) -> Result<(), BoxError> {
        // An error would mean that the sender is gone, and we hold it.
        let mut ended = self.ended.subscribe();
        drop(ended.wait_for(Option::is_some).await);
        Err(Enough.into())
    }

    /// A place within the limit.
    fn take(&self) -> bool {
        let Some(limit) = self.limit else { return true };
        let taken = self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |taken| {
            (taken < limit).then_some(taken + 1)
        });
        taken.is_ok()
    }

    /// Whether as many were sent as the limit allows.
    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.sent.load(Ordering::SeqCst) >= limit)
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    fn note_failure(&self, error: &impl ToString) {
        self.failure.get_or_init(|| error.to_string());
    }

    async fn handle(&self, letter: OwnedMessage, context: &mut Context) -> Result<(), BoxError> {
        let (partition, offset) = (letter.partition, letter.offset.get());
        // A partition that was added later has no letters of before.
        if self.ends.get(&partition).is_none_or(|end| offset >= *end) {
            self.tally().reached_end(partition);
            return self.until_ended().await;
        }
        let outcome = match self.rules.judge(&letter)? {
            Verdict::NotALetter => Outcome::NotALetter,
            Verdict::FilteredOut => Outcome::FilteredOut,
            Verdict::Exhausted => Outcome::Exhausted,
            Verdict::Reference => Outcome::Reference,
            Verdict::Replay(target) => {
                let partitions = self.partitions(&target.topic).await?;
                check(&target.topic, target.partition, partitions)?;
                // Those that have the last places may still wait for their time: the end comes after them.
                if !self.take() {
                    return self.until_ended().await;
                }
                tokio::select! {
                    biased;
                    ended = self.until_ended() => return ended,
                    () = sleep_until(self.pace.slot()) => {}
                }
                context.send(target.message(&letter));
                self.sent.fetch_add(1, Ordering::SeqCst);
                Outcome::Replayed
            }
        };
        self.tally().note(partition, offset, outcome);
        Ok(())
    }

    /// Asking may take a while, and blocks the thread.
    async fn partitions(&self, topic: &str) -> Result<Option<i32>, BoxError> {
        if let Some(known) = self.cluster.known(topic) {
            return Ok(known);
        }
        let (cluster, topic) = (self.cluster.clone(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || cluster.partitions(&topic)).await?;
        asked.map_err(|error| Refused(format!("{error:#}")).into())
    }

    /// Whether this process has nothing left to do: each of its partitions is done up to where it ended at the
    /// beginning. There may be markers of transactions at the end, which are no messages: then there is no lag.
    fn is_complete(&self, status: &Status) -> bool {
        let tally = self.tally();
        let is_done = |partition: &PartitionStatus| {
            let number = partition.partition.number;
            let end = self.ends.get(&number).copied().unwrap_or(0);
            partition.next_offset.get() >= end || partition.lag == 0 || tally.is_at_end(number)
        };
        // Without partitions, the library finds out by itself.
        status.settled && !status.partitions.is_empty() && status.partitions.iter().all(is_done)
    }

    /// Shows how far it is, and closes the topic processor when it is to end.
    pub(crate) async fn watch(&self, handle: Handle, progress: &mut Progress) -> Infallible {
        loop {
            sleep(LOOK).await;
            let status = handle.status();
            for partition in &status.partitions {
                self.tally().finished(partition.partition.number, partition.next_offset.get());
                // Those of `process` are known already, and may be no failures.
                let process = ErrorKind::Process.to_string();
                let errors = partition.last_error.iter().filter(|text| !text.starts_with(&process));
                errors.for_each(|error| self.note_failure(error));
            }
            let counts = self.tally().counts();
            progress.show(counts.all(), counts.replayed);
            if status.state == ProcessorState::Closing || self.is_complete(&status) {
                self.end(End::Complete);
            } else if self.is_full() {
                self.end(End::Limit);
            }
            if self.why_ended().is_some() {
                handle.close();
            }
        }
    }

    /// The first signal ends the replay in order, the second one at once.
    pub(crate) async fn listen(&self) -> Infallible {
        kasper::shutdown_signal().await;
        complain(
            "ending: what was sent is waited for and committed; press Ctrl-C again to end at once",
        );
        self.end(End::Interrupted);
        kasper::shutdown_signal().await;
        complain(
            "ended at once: letters that were sent last may be replayed again by the next run",
        );
        process::exit(130);
    }
}

/// One for each partition.
pub(crate) struct Replay(pub(crate) Arc<Run>);

impl Processor for Replay {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for letter in batch.iter() {
            let handled = self.0.handle(letter.to_owned(), context).await;
            if let Err(error) = &handled
                && !error.is::<Enough>()
            {
                self.0.note_failure(error);
            }
            handled?;
        }
        Ok(())
    }
}
