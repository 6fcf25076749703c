//! What a topic processor reports about itself: its state, the state of its partitions, and what happened to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::message::{Offset, TopicPartition};

/// A snapshot of a topic processor.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The stage of the topic processor's life.
    pub state: ProcessorState,
    /// True if the partitions are assigned and have begun, or if it is known that this process gets none. False while
    /// the topic processor waits for the group, and while partitions are being looked up or given back. With KIP-848 or a
    /// cooperative assignor, it becomes true again up to half a second after the rebalance.
    pub settled: bool,
    /// Whether [`Handle::pause`](crate::Handle::pause) pauses all partitions. A partition that is paused on its own
    /// shows it in its [state](PartitionStatus::state).
    pub paused: bool,
    /// If the topic processor has failed: the error that stopped it, with its causes.
    pub failure: Option<String>,
    /// The assigned partitions, sorted by topic and number.
    pub partitions: Vec<PartitionStatus>,
    /// Input topics that have changed since `run` began, or that are not as they have to be.
    pub topics: Vec<TopicWarning>,
    /// For how long [`target_latency`](crate::Builder::target_latency) has not been met: more than one in a hundred commits of a
    /// partition's offset covered a message that was late. `None` if the target is met, has been met again for 10 s, or
    /// is not set.
    pub target_missed: Option<Duration>,
    /// Messages in finished batches since `run` began.
    pub messages: u64,
    /// Finished batches since `run` began.
    pub batches: u64,
    /// Bytes of keys and values in finished batches since `run` began.
    pub bytes: u64,
    /// Messages that were rejected since `run` began: their letters are acknowledged, or they were skipped.
    pub rejected: u64,
}

/// What the task of a partition number (its *lane*) is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PartitionState {
    /// Assigned; its processor is being made.
    Starting,
    /// Waiting for messages or processing them.
    Running,
    /// Paused by [`Handle::pause`](crate::Handle::pause) or
    /// [`Handle::pause_partition`](crate::Handle::pause_partition), or because of a [change](TopicChange) of an input
    /// topic.
    Paused,
    /// The processor has failed and is called again, or the message that it fails for is being looked for; see
    /// [`PartitionStatus::retrying`].
    Retrying,
    /// About to be given up: it finishes what it has begun, and starts nothing new.
    Draining,
    /// The partition failed; the topic processor is stopping.
    Failed,
}

/// What is wrong with an input topic, or what changed in it while the topic processor runs. It asks the cluster
/// [at intervals](crate::Builder::topic_check_interval).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopicWarning {
    /// The topic.
    pub topic: Arc<str>,
    /// The kind of change.
    pub change: TopicChange,
    /// What was seen, and what to do about it.
    pub message: String,
    /// The time since the change was first seen.
    pub since: Duration,
}

/// How an input topic can differ from what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TopicChange {
    /// The cluster no longer has the topic.
    Deleted,
    /// The topic was deleted and created again, so its offsets start anew. Its partition numbers are paused, and its
    /// offsets are not committed. When the processor has stopped because of this, the next start begins at offset 0
    /// of the new topic.
    Recreated,
    /// In a group: the input topics have different numbers of partitions. All partitions are paused.
    Unaligned,
    /// In a group: this process was assigned a partition number of some input topics but not of this topic, although
    /// this topic has that number too. The number is paused.
    Incomplete,
    /// Partitions were added to the topic. No process reads them automatically, because
    /// [`partitions`](crate::Builder::partitions) lists the partitions to process.
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

    /// Whether the topic processor stops with an error if the change persists.
    ///
    /// ```
    /// use kasper::TopicChange;
    ///
    /// assert!(TopicChange::Deleted.stops());
    /// // The topic processor continues with the partitions that it has.
    /// assert!(!TopicChange::PartitionsAdded.stops());
    /// ```
    pub fn stops(self) -> bool {
        self != Self::PartitionsAdded
    }
}

/// The stage of a topic processor's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProcessorState {
    /// Built; `run` was not called yet, or has not begun to consume.
    Starting = 0,
    /// Consuming, or waiting for partitions.
    Running = 1,
    /// Shutting down: draining, committing, leaving the group.
    Closing = 2,
    /// `run` has returned, or its future was dropped.
    Closed = 3,
}

/// The progress of a partition, as reported by [`Handle::status`](crate::Handle::status).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// The topic and partition.
    pub partition: TopicPartition,
    /// What the task of the partition's number is doing.
    pub state: PartitionState,
    /// Numbers the assignments of this process: the higher the number, the later the assignment.
    pub epoch: u64,
    /// The next offset after the finished messages.
    pub next_offset: Offset,
    /// The end of the partition as last reported: the last stable offset under `read_committed`, otherwise the high
    /// watermark.
    pub end_offset: Offset,
    /// Messages, or more exactly offsets, between `next_offset` and `end_offset`; 0 if only control records or gaps
    /// are left.
    pub lag: u64,
    /// The next offset that is committed in the group, to this process's knowledge; `None` if nothing is committed.
    pub committed_offset: Option<Offset>,
    /// Offsets between the committed offset and the end, as Kafka's own tools report them. If nothing is committed,
    /// the count starts where the partition began. It includes what is not committed yet, and offsets without a
    /// message: after a transaction, it is at least 1.
    pub committed_lag: u64,
    /// Keys that are held in a [quarantine](crate::Quarantine): their messages become letters until they are replayed.
    pub quarantined_keys: usize,
    /// Batches of this partition number in `process` or waiting for acks.
    pub in_flight: usize,
    /// About how much memory is taken by the fetched messages that wait in the queue of this partition number, all
    /// topics together. It counts values, keys, headers, and the 350 bytes that the client keeps for each message. The
    /// client reported it up to half a second ago. It is an estimate: keys and headers are assumed to be as large as
    /// those of messages that were taken from the queue recently.
    pub buffered_bytes: u64,
    /// The time since a batch of this partition number last finished, or since the assignment if none has finished.
    pub last_progress: Duration,
    /// Whether there has been lag but no progress for longer than [`stall_timeout`](crate::Builder::stall_timeout).
    pub stalled: bool,
    /// The error that the partition failed with.
    pub last_error: Option<String>,
    /// While the processor of this partition number fails and is called again: since when, and why.
    pub retrying: Option<Retrying>,
}

/// A processor that failed and is called again, as [`Builder::on_error`](crate::Builder::on_error) says.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Retrying {
    /// How many calls have failed.
    pub attempt: u32,
    /// The time since the first of them failed.
    pub since: Duration,
    /// The error of the last one, with its causes.
    pub error: String,
}

/// What a [`run`](crate::TopicProcessor::run) that ended without an error did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// Messages in finished batches.
    pub messages: u64,
    /// Finished batches.
    pub batches: u64,
    /// Bytes of keys and values in finished batches.
    pub bytes: u64,
    /// Messages that were rejected: their letters are acknowledged, or they were skipped.
    pub rejected: u64,
    /// The time from the call of `run` to the last commit.
    pub duration: Duration,
    /// The committed next offset of each partition that this run was assigned and did not lose.
    pub next_offsets: BTreeMap<TopicPartition, Offset>,
}

/// A change of the assignment; see [`Builder::on_rebalance`](crate::Builder::on_rebalance).
///
/// A list may be empty, for example if the group has no partition for this process. There is no event for the
/// partitions that a process still has when `run` ends.
///
/// ```
/// # #[cfg(feature = "kafka")]
/// # async fn example() -> kasper::Result<()> {
/// # use kasper::{Batch, BoxError, Context, Processor};
/// # struct Count;
/// # impl Processor for Count {
/// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
/// # }
/// # use kasper::{RebalanceEvent, TopicPartition, TopicProcessor, testkit::EmbeddedBroker};
/// # use std::sync::{Arc, Mutex};
/// # let broker = EmbeddedBroker::start()?;
/// # broker.create_topic("orders", 1)?;
/// # let builder = TopicProcessor::builder("count-orders", ["orders"]).brokers(broker.brokers());
/// # let builder = builder.partitions([0]);
/// let events = Arc::new(Mutex::new(Vec::new()));
/// let noted = events.clone();
/// let processor = builder
///     .on_rebalance(move |event| noted.lock().unwrap().push(event.clone()))
///     .build(|_| Count)
///     .await?;
/// let report = processor.run_until_caught_up().await?; // the topic is empty
/// assert_eq!(report.messages, 0);
/// assert_eq!(*events.lock().unwrap(), [RebalanceEvent::Assigned(vec![TopicPartition::new("orders", 0)])]);
/// # Ok(())
/// # }
/// # #[cfg(feature = "kafka")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RebalanceEvent {
    /// These partitions were assigned, in addition to those already assigned. Their processors are being made.
    Assigned(Vec<TopicPartition>),
    /// These partitions were revoked. What was finished is committed, unless the last commit failed or was not
    /// answered in time (which is logged).
    Revoked(Vec<TopicPartition>),
    /// These partitions were lost, for example after a session time-out. They may already have had a new owner, so
    /// nothing was committed.
    Lost(Vec<TopicPartition>),
}
