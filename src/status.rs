//! What a topic processor tells of itself: its state, that of its partitions, and what happened to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::message::{Offset, TopicPartition};

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
    /// [`Handle::pause`](crate::Handle::pause) holds all partitions. Single ones have it in their state.
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
    /// The next offset that is committed in the group, as far as this process knows; `None` if nothing is.
    pub committed_offset: Option<Offset>,
    /// Offsets between the committed one (where nothing is committed, the one that it began at) and the end: what
    /// Kafka's own tools report. Besides what is not committed yet, it counts offsets without a message: after a
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
    /// The next offset of each partition that this run had and did not lose, as committed.
    pub next_offsets: BTreeMap<TopicPartition, Offset>,
}

/// A change of what is assigned; see [`Builder::on_rebalance`](crate::Builder::on_rebalance).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RebalanceEvent {
    /// These partitions came, besides those already there; their processors are being made.
    Assigned(Vec<TopicPartition>),
    /// These partitions went; what finished is committed, unless the group refused the last commit
    /// (which is logged).
    Revoked(Vec<TopicPartition>),
    /// These partitions were lost, for example after a session time-out: they may already have had a
    /// new owner, so nothing was committed.
    Lost(Vec<TopicPartition>),
}
