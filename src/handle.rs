//! [`Handle`]: what may be asked and wanted of a running topic processor, from any task.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::message::{Offset, TopicPartition};
use crate::pipeline::progress::Board;

/// Controls and watches a topic processor from anywhere: other tasks, signal handlers, and from
/// within `process`. Cheap to clone; outlives the processor.
#[derive(Clone)]
pub struct Handle {
    board: Arc<Board>,
    name: Arc<str>,
}

impl Handle {
    pub(crate) fn new(board: Arc<Board>, name: Arc<str>) -> Self {
        Self { board, name }
    }

    /// The topic processor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks for a shutdown: the batches in flight are finished (until the
    /// [drain deadline](crate::Builder::drain_deadline)) and recorded, the group is left, and `run`
    /// returns. Only signals: returns at once, may be called as often as you like, before `run` too.
    #[doc(alias = "Close")]
    pub fn close(&self) {
        self.board.request_close();
    }

    /// Done when `run` has returned or its future was dropped. Cancel-safe.
    pub async fn closed(&self) {
        let mut closed = self.board.closed.subscribe();
        // An error would mean that the board is gone, and we hold it.
        let _closed = closed.wait_for(|closed| *closed).await;
    }

    /// Begins no new batch, for no partition, until [`resume`](Handle::resume); what is in flight
    /// finishes and is recorded. Partitions are kept, and ones assigned later are paused too.
    pub fn pause(&self) {
        self.board.control.send_modify(|control| control.paused = true);
    }

    /// Like [`pause`](Handle::pause) for one partition number, whether it is assigned now or later.
    pub fn pause_partition(&self, partition: i32) {
        self.board.control.send_modify(|control| {
            if !control.paused_partitions.contains(&partition) {
                control.paused_partitions.push(partition);
            }
        });
    }

    /// Ends every pause, of the whole and of single partition numbers.
    pub fn resume(&self) {
        self.board.control.send_modify(|control| {
            control.paused = false;
            control.paused_partitions.clear();
        });
    }

    /// Ends the pause of one partition number. While [all are paused](Handle::pause) it stays so.
    pub fn resume_partition(&self, partition: i32) {
        self.board.control.send_modify(|control| {
            control.paused_partitions.retain(|paused| *paused != partition);
        });
    }

    /// Whether everything is consumed: true only when each assigned partition is known to be at its
    /// end, an empty one included, everything before is finished, and nothing is queued or in flight.
    /// False until partitions are assigned, and while some are being looked up or given back.
    ///
    /// Ends are learnt from the fetches, about twice a second once a partition is being read; what
    /// was produced since is not known here.
    #[doc(alias = "HasConsumedAllMessages")]
    pub fn has_consumed_all(&self) -> bool {
        self.board.state() == ProcessorState::Running && self.board.reached_ends()
    }

    /// The sum of the lags of all assigned partitions, but for those that have not begun because no
    /// broker leads them.
    pub fn lag(&self) -> u64 {
        self.board.status().iter().map(|partition| partition.lag).sum()
    }

    /// What each assigned partition is doing that has begun. Waits for nothing, so a health check may
    /// ask for it.
    pub fn status(&self) -> Status {
        let totals = self.board.totals();
        Status {
            state: self.board.state(),
            settled: self.board.is_settled(),
            paused: self.board.control.borrow().paused,
            failure: self.board.failure(),
            partitions: self.board.status(),
            topics: self.board.topic_warnings(),
            messages: totals.messages,
            batches: totals.batches,
            bytes: totals.bytes,
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.board.state();
        f.debug_struct("Handle").field("name", &self.name).field("state", &state).finish()
    }
}

/// A picture of a topic processor at one moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// Where it is in its life.
    pub state: ProcessorState,
    /// Its partitions are assigned and have begun, or it is known that there are none for it; false while it
    /// waits for the group, and while some are being looked up or given back. With KIP-848 or a cooperative assignor it
    /// comes true again up to half a second after the rebalance.
    pub settled: bool,
    /// [`Handle::pause`] holds all partitions. Single ones have it in their state.
    pub paused: bool,
    /// What stopped it, with what caused that, once it has failed.
    pub failure: Option<String>,
    /// The assigned partitions, by topic and number.
    pub partitions: Vec<PartitionStatus>,
    /// Input topics that are no longer as they were when `run` began, or not as they have to be.
    pub topics: Vec<TopicWarning>,
    /// Messages in finished batches since `run` began.
    pub messages: u64,
    /// Finished batches since `run` began.
    pub batches: u64,
    /// Bytes of keys and values in finished batches since `run` began.
    pub bytes: u64,
}

/// What a lane is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PartitionState {
    /// Assigned; its processor is being made.
    Starting,
    /// Waiting for messages or processing them.
    Running,
    /// Held by [`Handle::pause`](crate::Handle::pause).
    Paused,
    /// About to be given up: finishing what was begun, starting nothing new.
    Draining,
    /// It failed; the topic processor is stopping.
    Failed,
}

/// What is wrong with an input topic, or was changed while the processor runs. The cluster is asked
/// [at intervals](crate::Builder::topic_check_interval).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopicWarning {
    /// The topic.
    pub topic: Arc<str>,
    /// What it is about.
    pub change: TopicChange,
    /// What was seen, and what to do.
    pub message: String,
    /// The time since it was first seen.
    pub since: Duration,
}

/// How an input topic can be other than it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TopicChange {
    /// The cluster no longer has the topic.
    Deleted,
    /// The topic was deleted and created again, so that its offsets begin anew. Its partition numbers are
    /// paused, and its offsets are not committed. When the processor stops with that, the next start begins at
    /// offset 0 of the new topic.
    Recreated,
    /// In a group: the input topics have differing numbers of partitions. All partitions are paused.
    Unaligned,
    /// In a group: this process has a partition number of some input topics, and not of this one, which has the
    /// number, too. The number is paused.
    Incomplete,
    /// Partitions were added to the topic that no process gets by itself, because
    /// [`partitions`](crate::Builder::partitions) names those to process.
    PartitionsAdded,
}

impl TopicChange {
    pub(crate) const ALL: [Self; 5] =
        [Self::Deleted, Self::Recreated, Self::Unaligned, Self::Incomplete, Self::PartitionsAdded];

    /// The name in logs, metrics and `/status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Recreated => "recreated",
            Self::Unaligned => "unaligned",
            Self::Incomplete => "incomplete",
            Self::PartitionsAdded => "partitions added",
        }
    }

    /// Whether the processor stops with an error if it lasts.
    pub fn stops(self) -> bool {
        self != Self::PartitionsAdded
    }
}

/// Where a topic processor is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProcessorState {
    /// Built; `run` was not called or has not begun to consume.
    Starting = 0,
    /// Consuming, or waiting for partitions.
    Running = 1,
    /// Shutting down: draining, recording, leaving the group.
    Closing = 2,
    /// `run` has returned, or its future was dropped.
    Closed = 3,
}

/// How far a partition is, as [`Handle::status`](crate::Handle::status) tells it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// The topic and partition.
    pub partition: TopicPartition,
    /// What it is doing.
    pub state: PartitionState,
    /// Counts the assignments of this process: a higher one came later.
    pub epoch: u64,
    /// The next offset behind the finished messages.
    pub next_offset: Offset,
    /// The end of the partition as last heard of: the last stable offset under `read_committed`,
    /// else the high watermark.
    pub end_offset: Offset,
    /// Messages (rather: offsets) between the two; 0 where only control records or gaps are left.
    pub lag: u64,
    /// The next offset that is recorded in the group, as far as this process knows; `None` if nothing is.
    pub committed_offset: Option<Offset>,
    /// Offsets between the recorded one (where nothing is recorded, the one that it began at) and the end: what
    /// Kafka's own tools report. Besides what is not recorded yet, it counts offsets without a message: after a
    /// transaction, at least 1.
    pub committed_lag: u64,
    /// Batches of this partition number in `process` or waiting for acks.
    pub in_flight: usize,
    /// About the memory of this partition number's messages, of all topics together, that were fetched and wait in its
    /// queue, as the client last reported: up to half a second ago. Values, keys, headers, and the 350 bytes
    /// that the client keeps for each message. An estimate: keys and headers are thought to be as large as those
    /// that were taken from the queue lately.
    pub buffered_bytes: u64,
    /// The time since a batch of this partition number was last finished (since the assignment, if
    /// none was).
    pub last_progress: Duration,
    /// There is lag and no progress for longer than
    /// [`stall_timeout`](crate::Builder::stall_timeout).
    pub stalled: bool,
    /// The error that it failed with.
    pub last_error: Option<String>,
}

/// What [`run`](crate::TopicProcessor::run) did, when it ends well.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// Messages in finished batches.
    pub messages: u64,
    /// Finished batches.
    pub batches: u64,
    /// Bytes of keys and values in finished batches.
    pub bytes: u64,
    /// From the call of `run` to the last commit.
    pub duration: Duration,
    /// The next offset of each partition that this run had and did not lose, as recorded.
    pub next_offsets: BTreeMap<TopicPartition, Offset>,
}

/// A change of what is assigned; see [`Builder::on_rebalance`](crate::Builder::on_rebalance).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RebalanceEvent {
    /// These partitions came, besides those already there; their processors are being made.
    Assigned(Vec<TopicPartition>),
    /// These partitions went; what finished is recorded, unless the group refused the last commit
    /// (which is logged).
    Revoked(Vec<TopicPartition>),
    /// These partitions were lost, for example after a session time-out: they may already have had a
    /// new owner, so nothing was recorded.
    Lost(Vec<TopicPartition>),
}
