//! What may be known about the partitions from outside: status, lag, caught up.
//!
//! Place in the data path: beside it. Each partition number's lane writes its [`LaneProgress`] once a
//! batch; the topic processor adds what it learns about log ends; handles read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, MutexGuard, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::warn;

use crate::broker::{FetchPosition, QueueLength};
use crate::error::Error;
use crate::lock::Mutex;
use crate::message::{Offset, TopicPartition};
use crate::pipeline::topic_progress::TopicProgress;
use crate::status::{
    PartitionState, PartitionStatus, ProcessorState, Retrying, TopicChange, TopicWarning,
};

#[derive(Debug)]
pub(crate) struct LaneStatus {
    pub(crate) topics: Vec<TopicProgress>,
    pub(crate) state: PartitionState,
    /// Batches begun and not finished: the one in `process` and those waiting for acks.
    pub(crate) in_flight: usize,
    /// What was fetched and waits, as last reported.
    pub(crate) buffered_bytes: u64,
    pub(crate) last_progress: Instant,
    /// When it was first seen that there is something to do.
    busy_since: Option<Instant>,
    pub(crate) last_error: Option<String>,
    pub(crate) stalled: bool,
    retrying: Option<Trouble>,
    /// Letters are sent again.
    letters: Option<Trouble>,
}

/// The user's code has failed and is called again.
#[derive(Debug)]
struct Trouble {
    attempt: u32,
    since: Instant,
    error: String,
}

impl Trouble {
    fn new(attempt: u32, since: Instant, error: &Error) -> Self {
        Self { attempt, since, error: format!("{error:#}") }
    }
}

/// The progress of one lane.
pub(crate) struct LaneProgress {
    pub(crate) partition: i32,
    queue_length: QueueLength,
    /// The lane has seen its queue empty and holds no message outside of batches in flight.
    pub(crate) waiting: AtomicBool,
    status: Mutex<LaneStatus>,
    changed: Arc<Notify>,
}

impl LaneProgress {
    pub(crate) fn new(
        partition: i32,
        topics: Vec<TopicProgress>,
        queue_length: QueueLength,
        changed: Arc<Notify>,
    ) -> Self {
        Self {
            partition,
            queue_length,
            waiting: AtomicBool::new(false),
            status: Mutex::new(LaneStatus {
                topics,
                state: PartitionState::Starting,
                in_flight: 0,
                buffered_bytes: 0,
                last_progress: Instant::now(),
                busy_since: None,
                last_error: None,
                stalled: false,
                retrying: None,
                letters: None,
            }),
            changed,
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self::new(0, Vec::new(), Arc::new(|| 0), Arc::default())
    }

    pub(crate) fn status(&self) -> MutexGuard<'_, LaneStatus> {
        self.status.lock()
    }

    /// The status, and whether the lane has nothing to do: everything that was fetched is finished.
    ///
    /// The queue's length comes first: once it is empty, what was fetched is with the lane, and a lane
    /// that then says it waits, with nothing in flight, has finished it. In the other order, a message
    /// moving from queue to lane would be overlooked.
    fn look(&self) -> (bool, MutexGuard<'_, LaneStatus>) {
        let queued = (self.queue_length)();
        let waiting = self.waiting.load(Ordering::SeqCst);
        let status = self.status();
        (queued == 0 && waiting && status.in_flight == 0, status)
    }

    /// The topics that the lane serves, in the order of the input topics.
    pub(crate) fn topics(&self) -> Arc<[Arc<str>]> {
        let mut topics: Vec<_> = self
            .status()
            .topics
            .iter()
            .map(|topic| (topic.topic, topic.partition.topic.clone()))
            .collect();
        topics.sort_by_key(|(index, _)| *index);
        topics.into_iter().map(|(_, topic)| topic).collect()
    }

    pub(crate) fn changed(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn set_state(&self, state: PartitionState) {
        self.status().state = state;
    }

    /// What has failed stays so.
    pub(crate) fn drains(&self) {
        let mut status = self.status();
        if status.state != PartitionState::Failed {
            status.state = PartitionState::Draining;
        }
    }

    pub(crate) fn fail(&self, error: &Error) {
        let mut status = self.status();
        status.state = PartitionState::Failed;
        status.last_error = Some(error.to_string());
    }

    /// The user's code has failed so many times since then, and is called again.
    pub(crate) fn retrying(&self, attempt: u32, since: Instant, error: &Error) {
        let mut status = self.status();
        if status.state == PartitionState::Running || status.state == PartitionState::Starting {
            status.state = PartitionState::Retrying;
        }
        status.retrying = Some(Trouble::new(attempt, since, error));
    }

    /// Letters have failed so many times since then, and are sent again; or are delivered now.
    pub(crate) fn sends_again(&self, trouble: Option<(u32, Instant, &Error)>) {
        self.status().letters =
            trouble.map(|(attempt, since, error)| Trouble::new(attempt, since, error));
    }

    /// It has succeeded.
    pub(crate) fn recovered(&self) {
        let mut status = self.status();
        if status.retrying.take().is_some() && status.state == PartitionState::Retrying {
            status.state = PartitionState::Running;
        }
    }

    #[cfg(feature = "testkit")]
    pub(crate) fn is_retrying(&self) -> bool {
        let status = self.status();
        status.retrying.is_some() || status.letters.is_some()
    }

    pub(crate) fn note_position(&self, taken: Instant, position: &FetchPosition) {
        let (idle, mut status) = self.look();
        status.buffered_bytes = position.queued_bytes;
        let topics = &mut status.topics;
        if let Some(topic) = topics.iter_mut().find(|t| t.partition == position.partition) {
            topic.note(position, taken, idle);
        }
    }

    /// See [`TopicProgress::restart_reports`].
    pub(crate) fn restart_reports(&self, from: Instant) {
        self.status().topics.iter_mut().for_each(|topic| topic.restart_reports(from));
    }

    /// Of which topics no fetch has told the end of late, with their epochs; see
    /// [`TopicProgress::lacks_news`].
    pub(crate) fn without_news(&self) -> Vec<(TopicPartition, u64)> {
        let (idle, mut status) = self.look();
        let without = status.topics.iter_mut().filter_map(|topic| {
            let lacks_news = topic.lacks_news(idle);
            lacks_news.then(|| (topic.partition.clone(), topic.epoch.number()))
        });
        without.collect()
    }

    /// The end of a topic's log, as asked for in this epoch.
    pub(crate) fn note_end(&self, partition: &TopicPartition, epoch: u64, end: Offset) {
        let mut status = self.status();
        let mut topics = status.topics.iter_mut();
        let asked =
            topics.find(|topic| topic.partition == *partition && topic.epoch.number() == epoch);
        if let Some(topic) = asked {
            topic.note_end(end);
        }
    }

    /// Warns, once, when there is lag and nothing has finished for this long.
    ///
    /// Time without anything to do, or paused, does not count.
    pub(crate) fn watch(&self, stall_timeout: Duration) {
        let mut status = self.status();
        let in_flight = status.in_flight;
        let lag: u64 = status.topics.iter().map(TopicProgress::lag).sum();
        if status.state == PartitionState::Paused || (lag == 0 && in_flight == 0) {
            status.busy_since = None;
            status.stalled = false;
            return;
        }
        let since = *status.busy_since.get_or_insert_with(Instant::now);
        let still = since.max(status.last_progress).elapsed();
        if still < stall_timeout {
            status.stalled = false;
        } else if !status.stalled {
            status.stalled = true;
            let partition = self.partition;
            warn!(
                partition,
                lag,
                in_flight,
                still_s = still.as_secs(),
                "no batch has finished for longer than `stall_timeout`, though there are messages"
            );
        }
    }

    pub(crate) fn begin_batch(&self) {
        self.status().in_flight += 1;
    }

    /// A call that began a batch is over, and the batch, or the rest of it, is begun again.
    pub(crate) fn end_attempt(&self) {
        let mut status = self.status();
        status.in_flight = status.in_flight.saturating_sub(1);
    }

    /// What was not finished is given up; it will come again, and so the lane does not wait.
    pub(crate) fn abandon_batches(&self) {
        self.waiting.store(false, Ordering::SeqCst);
        self.status().in_flight = 0;
    }

    /// The oldest batch in flight is finished. Its oldest message arrived then, if there is a latency target.
    pub(crate) fn finish_batch(&self, next_offsets: &[(u16, Offset)], arrived: Option<Instant>) {
        let mut status = self.status();
        for (topic, next) in next_offsets {
            if let Some(progress) = status.topics.iter_mut().find(|t| t.topic == *topic) {
                progress.finished = progress.finished.max(*next);
                progress.began_beyond_end = false;
                progress.arrived = progress.arrived.or(arrived);
            }
        }
        status.in_flight = status.in_flight.saturating_sub(1);
        status.last_progress = Instant::now();
        status.stalled = false;
        drop(status);
        self.changed();
    }

    /// Whether everything below `bound` of each topic is finished.
    ///
    /// `must_be_idle`: and nothing beyond it is queued or in flight either.
    fn is_finished_to(&self, must_be_idle: bool, bound: impl Fn(&TopicProgress) -> Offset) -> bool {
        let (idle, status) = self.look();
        let consumed = status.topics.iter().all(|topic| topic.is_consumed_to(bound(topic)));
        let consumed = consumed
            || (idle
                && fault!(BelieveEmptyQueue)
                && status.topics.iter().all(|topic| topic.is_fetched_to(bound(topic))));
        consumed && (idle || !must_be_idle)
    }
}

/// Totals over all partitions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) messages: u64,
    pub(crate) batches: u64,
    pub(crate) bytes: u64,
    pub(crate) rejected: u64,
}

/// Everything that handles may see; shared by the topic processor, its lanes and its handles.
pub(crate) struct Board {
    lanes: Mutex<BTreeMap<i32, Arc<LaneProgress>>>,
    totals: Mutex<Totals>,
    /// A lane finished a batch or ran dry, or more is known of it: it may have caught up.
    pub(crate) changed: Arc<Notify>,
    pub(crate) control: watch::Sender<Requests>,
    pub(crate) closed: watch::Sender<bool>,
    phase: AtomicU8,
    /// The group is stable as far as we are told, or the partitions are static.
    settled: AtomicBool,
    failure: OnceLock<String>,
    topics: Mutex<Vec<(TopicWarning, Instant)>>,
    target_missed_since: Mutex<Option<Instant>>,
}

/// What handles ask for, and lanes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests {
    pub(crate) close: bool,
    /// A lane has failed, and may still have to wait for acks before it ends.
    pub(crate) failed: bool,
    pub(crate) paused: bool,
    pub(crate) paused_partitions: Vec<i32>,
}

impl Requests {
    pub(crate) fn is_over(&self) -> bool {
        self.close || self.failed
    }

    pub(crate) fn is_paused(&self, partition: i32) -> bool {
        self.paused || self.paused_partitions.contains(&partition)
    }
}

impl Board {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            lanes: Mutex::default(),
            totals: Mutex::default(),
            changed: Arc::default(),
            control: watch::Sender::new(Requests::default()),
            closed: watch::Sender::new(false),
            phase: AtomicU8::new(ProcessorState::Starting as u8),
            settled: AtomicBool::new(false),
            failure: OnceLock::new(),
            topics: Mutex::default(),
            target_missed_since: Mutex::default(),
        })
    }

    /// Asks the topic processor to shut down; may be called from anywhere, as often as you like.
    pub(crate) fn request_close(&self) {
        self.control.send_modify(|control| control.close = true);
    }

    /// A lane has failed: the others are to be drained.
    pub(crate) fn report_failure(&self) {
        self.control.send_modify(|control| control.failed = true);
    }

    /// This error stops the topic processor; a later one no longer counts.
    pub(crate) fn note_failure(&self, error: &Error) {
        self.failure.get_or_init(|| format!("{error:?}"));
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    /// What is to be said of the input topics, each with the time when it was first seen.
    pub(crate) fn set_topic_warnings(&self, warnings: Vec<(TopicWarning, Instant)>) {
        *self.topics.lock() = warnings;
    }

    pub(crate) fn topic_warnings(&self) -> Vec<TopicWarning> {
        let warnings = self.topics.lock();
        let now = |(warning, first): &(TopicWarning, Instant)| TopicWarning {
            since: first.elapsed(),
            ..warning.clone()
        };
        warnings.iter().map(now).collect()
    }

    pub(crate) fn set_target_missed(&self, since: Option<Instant>) {
        *self.target_missed_since.lock() = since;
    }

    /// For how long the latency target has been missed.
    pub(crate) fn target_missed(&self) -> Option<Duration> {
        self.target_missed_since.lock().map(|since| since.elapsed())
    }

    /// Whoever waits for the processor looks again.
    pub(crate) fn set_settled(&self, settled: bool) {
        self.settled.store(settled, Ordering::SeqCst);
        self.changed.notify_one();
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::SeqCst)
    }

    /// `run` has ended, one way or the other.
    pub(crate) fn close_for_good(&self) {
        self.set_state(ProcessorState::Closed);
        self.set_target_missed(None);
        self.lanes().clear();
        self.closed.send_replace(true);
    }

    pub(crate) fn state(&self) -> ProcessorState {
        match self.phase.load(Ordering::SeqCst) {
            0 => ProcessorState::Starting,
            1 => ProcessorState::Running,
            2 => ProcessorState::Closing,
            _ => ProcessorState::Closed,
        }
    }

    pub(crate) fn set_state(&self, state: ProcessorState) {
        self.phase.store(state as u8, Ordering::SeqCst);
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<i32, Arc<LaneProgress>>> {
        self.lanes.lock()
    }

    pub(crate) fn insert(&self, progress: Arc<LaneProgress>) {
        self.lanes().insert(progress.partition, progress);
    }

    pub(crate) fn remove(&self, partition: i32) {
        self.lanes().remove(&partition);
    }

    pub(crate) fn all(&self) -> Vec<Arc<LaneProgress>> {
        self.lanes().values().cloned().collect()
    }

    pub(crate) fn add_batch(&self, messages: usize, bytes: usize, rejected: usize) {
        let mut totals = self.totals.lock();
        totals.rejected += rejected as u64;
        totals.messages += messages as u64;
        totals.batches += 1;
        totals.bytes += bytes as u64;
    }

    pub(crate) fn totals(&self) -> Totals {
        *self.totals.lock()
    }

    /// Waits until each assigned partition is finished up to where it ended when it was assigned. For one caller at a time.
    /// Cancel-safe: it looks before it waits.
    pub(crate) async fn caught_up(&self) {
        while !self.is_finished_to(false, |topic| topic.target) {
            self.changed.notified().await;
        }
    }

    /// Whether each assigned partition is finished up to its end as last heard of, with nothing on the
    /// way.
    pub(crate) fn reached_ends(&self) -> bool {
        self.is_finished_to(true, |topic| topic.end)
    }

    fn is_finished_to(&self, must_be_idle: bool, bound: impl Fn(&TopicProgress) -> Offset) -> bool {
        self.is_settled()
            && !self.lacks_topics()
            && self.lanes().values().all(|lane| lane.is_finished_to(must_be_idle, &bound))
    }

    /// Whether there may be input that the group has not given to anybody, or not to us.
    fn lacks_topics(&self) -> bool {
        let lacks = |change| {
            matches!(
                change,
                TopicChange::Deleted
                    | TopicChange::Recreated
                    | TopicChange::Unaligned
                    | TopicChange::Incomplete
            )
        };
        self.topics.lock().iter().any(|(warning, _)| lacks(warning.change))
    }

    pub(crate) fn status(&self) -> Vec<PartitionStatus> {
        let mut all: Vec<_> = self.all().iter().flat_map(|lane| self.lane_status(lane)).collect();
        all.sort_by(|a, b| a.partition.cmp(&b.partition));
        all
    }

    fn lane_status(&self, lane: &LaneProgress) -> Vec<PartitionStatus> {
        let status = lane.status();
        let topics = status.topics.iter().map(|topic| PartitionStatus {
            partition: topic.partition.clone(),
            state: status.state,
            epoch: topic.epoch.number(),
            next_offset: topic.finished,
            end_offset: topic.end,
            lag: topic.lag(),
            committed_offset: topic.epoch.committed(),
            committed_lag: topic.committed_lag(),
            quarantined_keys: topic.quarantined,
            in_flight: status.in_flight,
            buffered_bytes: status.buffered_bytes,
            last_progress: status.last_progress.elapsed(),
            stalled: status.stalled,
            last_error: status.last_error.clone(),
            retrying: status.retrying.as_ref().or(status.letters.as_ref()).map(|trouble| {
                Retrying {
                    attempt: trouble.attempt,
                    since: trouble.since.elapsed(),
                    error: trouble.error.clone(),
                }
            }),
        });
        topics.collect()
    }
}
