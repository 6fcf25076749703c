//! The seam to Kafka: what the pipeline asks of a consumer and a producer, and nothing more.
//!
//! Implemented by `kafka` (librdkafka) and, for tests, by `sim` (seeded faults on a paused clock); queue and
//! producer by the processor tester, too. Calls are per batch or rarer, so dynamic dispatch costs nothing that
//! could be measured.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::message::delivery::Delivery;
use crate::message::{Keepalive, Offset, Record, TopicPartition};

#[cfg(feature = "kafka")]
pub(crate) mod kafka;
#[cfg(test)]
pub(crate) mod sim;
#[cfg(test)]
pub(crate) mod tests;

/// Numbers the assignments and revocations that a consumer reports; later ones have higher numbers.
pub(crate) type RebalanceId = u64;

/// What a consumer tells the topic processor, in order.
///
/// Each assignment and revocation waits for its answer, and the next usually comes after it. Not always: a
/// member of an eager group that learns of new topics or partitions joins again without waiting. An
/// assignment that [replaces](Event::Assigned::replaces) everything may follow an event that is not answered yet.
#[derive(Debug)]
pub(crate) enum Event {
    /// These partitions are ours. Answered by [`Consumer::assign`], also where the list is empty.
    /// `replaces`: these and no others; those that were ours before may already have another owner. Otherwise
    /// they are ours besides the others.
    Assigned { id: RebalanceId, partitions: Vec<TopicPartition>, replaces: bool },
    /// These partitions go away. Answered by [`Consumer::unassign`] with the same list, once nothing
    /// of them is processed or committed any more. `lost`: they may already have a new owner.
    Revoked { id: RebalanceId, partitions: Vec<TopicPartition>, lost: bool },
    /// Where fetching stood at the time `taken`; comes at intervals. Where an event or a call has the client drop
    /// what it has fetched and fetch it again, old positions are reported for up to
    /// [`POSITIONS_SETTLE`] after the answer.
    Positions { taken: Instant, positions: Vec<FetchPosition> },
    /// The member is part of a stable group and has `assigned` topic-partitions. Comes at intervals.
    Settled { assigned: usize },
    /// An error that is transient, or that the client retries; worth a line in the log.
    Warning(Error),
    /// The client cannot go on.
    Fatal(Error),
}

/// How long after the answer to an assignment or a revocation a position may be reported that fetching had before it.
/// The client's fetchers look at their partitions once a second.
pub(crate) const POSITIONS_SETTLE: Duration = Duration::from_secs(3);

/// How far the client has fetched a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FetchPosition {
    pub(crate) partition: TopicPartition,
    /// The next offset to be fetched. Every message below it has been put into the partition's
    /// queue before this value was taken; control records and gaps below it yield no message.
    pub(crate) fetched: Option<Offset>,
    /// The end of the partition as the consumer may read it: the last stable offset under
    /// `read_committed`, else the high watermark.
    pub(crate) end: Option<Offset>,
    /// About the memory of what waits in the queue of the partition number, of all topics together.
    pub(crate) queued_bytes: u64,
}

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OffsetSpec {
    Earliest,
    /// The last stable offset under `read_committed`, else the high watermark.
    End,
    /// The first message at or after this time (milliseconds since 1970); the end if there is none.
    Timestamp(i64),
}

/// An input topic as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopicState {
    Exists {
        /// Differs where a topic was deleted and created again. `None`: the broker is older than topic ids.
        id: Option<String>,
        partitions: i32,
    },
    Missing,
    /// The cluster does not say.
    Unknown,
}

/// What became of a [`seek`](Consumer::seek).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sought {
    Done,
    /// A rebalance must be answered first; then seek again.
    AfterAnswer,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Taken,
    /// The client has gone on without it: an assignment that replaces this one has been reported.
    Superseded,
}

/// Why an offset commit failed, as far as it decides what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommitRefusal {
    /// The group is rebalancing, or has been since this member last heard of it.
    Rebalancing,
    /// The group does not know the member.
    UnknownMember,
    Other,
}

#[derive(Debug)]
pub(crate) struct CommitError {
    pub(crate) refusal: CommitRefusal,
    pub(crate) error: Error,
}

impl CommitError {
    /// The group refused because it is, or was, rebalancing: it may have removed the member.
    pub(crate) fn is_rebalance(&self) -> bool {
        self.refusal != CommitRefusal::Other
    }
}

impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        Self { refusal: CommitRefusal::Other, error }
    }
}

pub(crate) type CommitResult = Result<(), CommitError>;

/// The consuming side. Methods that ask a broker return a future that owns what it needs.
pub(crate) trait Consumer: Send + Sync + 'static {
    /// Begins: joins the group, or reports the static partitions as assigned.
    fn start(&self) -> Result<()>;

    /// Answers [`Event::Assigned`]: begins fetching each partition at its offset. A partition's
    /// messages arrive in the queue of its number; of one without an offset none do, until a
    /// [`seek`](Consumer::seek).
    fn assign(
        &self,
        id: RebalanceId,
        starts: &[(TopicPartition, Option<Offset>)],
    ) -> Result<Answer>;

    /// Answers [`Event::Revoked`]: nothing of these partitions arrives any more.
    fn unassign(&self, id: RebalanceId, partitions: &[TopicPartition]) -> Result<()>;

    /// The queue of a partition number that has an assigned topic.
    fn queue(&self, partition: i32) -> Result<Box<dyn Queue>>;

    /// Goes back to these offsets. When it is done, nothing fetched before arrives any more. Other
    /// partitions may be fetched anew from where their reader is: fetch positions reported before count
    /// for none.
    fn seek(&self, positions: Vec<(TopicPartition, Offset)>) -> BoxFuture<'static, Result<Sought>>;

    /// The committed next offsets, in the order asked for; `None` where nothing is committed.
    fn committed(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<'static, Result<Vec<Option<Offset>>>>;

    /// Which of these partitions, without a committed offset, were added to their topic when the group
    /// had already begun to read it; in the order asked for.
    fn added(&self, partitions: Vec<TopicPartition>) -> BoxFuture<'static, Result<Vec<bool>>>;

    /// Offsets of the log: an answer for each query, in the order asked for, with one request to each
    /// leader. Leaders have at least `patience` to answer, and at most a few times that; the answers
    /// come together, when the last one is there or its leader is given up.
    ///
    /// # Errors
    /// Of a single query. Retryable where no broker leads the partition, or its leader did not answer.
    fn list_offsets(
        &self,
        queries: Vec<(TopicPartition, OffsetSpec)>,
        patience: Duration,
    ) -> BoxFuture<'static, Vec<Result<Offset>>>;

    /// How the cluster has the input topics now, in their order.
    fn topics(&self) -> BoxFuture<'static, Result<Vec<TopicState>>>;

    /// Commits next offsets. The commit is under way when the call returns, whether or not the
    /// future is polled; the future is done when the broker has answered or the client gave up. Fails while an
    /// assignment that replaces everything waits for its answer: the commit would carry the new generation.
    fn commit(&self, offsets: Vec<(TopicPartition, Offset)>) -> BoxFuture<'static, CommitResult>;

    /// Whether the current assignment has been lost: it may already have new owners.
    fn assignment_lost(&self) -> bool;

    /// Leaves the group and stops. Everything is to be drained and committed before.
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// How many messages wait in a queue; asked from any thread, and never waits for a lock that is held
/// while something is asked of a broker.
pub(crate) type QueueLength = Arc<dyn Fn() -> usize + Send + Sync>;

/// What came out of a queue at once.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// How many messages came.
    pub(crate) messages: usize,
    /// What came behind them.
    pub(crate) error: Option<QueueError>,
}

/// Why a partition's messages end.
#[derive(Debug)]
pub(crate) struct QueueError {
    pub(crate) partition: TopicPartition,
    pub(crate) error: Error,
}

impl QueueError {
    /// The offset to read from is not in the log. Reading can go on elsewhere.
    pub(crate) fn is_out_of_range(&self) -> bool {
        self.error.kind() == ErrorKind::OffsetOutOfRange
    }
}

/// The reading side of one partition number's queue. One reader at a time.
pub(crate) trait Queue: Send {
    /// Moves messages that have arrived into `into`, at most `max`, without waiting.
    fn take(&mut self, max: usize, into: &mut Vec<Record>) -> Taken;

    /// Has a permit whenever messages may have arrived since the last empty [`take`](Queue::take).
    fn arrived(&self) -> Arc<Notify>;

    /// Counts what waits, also when the reader is elsewhere.
    fn length(&self) -> QueueLength {
        Arc::new(|| 0)
    }

    /// Keeps the records' memory alive.
    fn keepalive(&self) -> Keepalive;
}

/// Whether a producer took a whole delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handover {
    /// All messages are with the client, or counted as failed.
    Complete,
    /// The client's queue is full; call again after [`Producer::room`].
    QueueFull,
}

/// The producing side.
pub(crate) trait Producer: Send + Sync + 'static {
    /// Hands the delivery's messages from [`Delivery::next`] on to the client. Each message is
    /// counted down by its report. A message that the client refuses fails the delivery, and those
    /// behind it are counted down unsent.
    fn produce(&self, delivery: &Arc<Delivery>) -> Handover;

    /// Gives up the messages of a delivery that are not handed over: nobody will come back for them.
    fn abandon(&self, delivery: &Arc<Delivery>) {
        delivery.refuse_rest("", "the batch was abandoned before all its messages were sent");
    }

    /// Done when the client's queue may have room again.
    fn room(&self) -> BoxFuture<'_, ()>;
}
