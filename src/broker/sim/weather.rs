//! How slow and how faulty the cluster is. A property test draws it from the seed; a scenario begins
//! [calm](Weather::calm) and sets what it is about.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Times are in milliseconds, chances in percent.
#[derive(Debug, Clone)]
pub(crate) struct Weather {
    /// A request on its way to a broker, or an answer on its way back.
    pub(crate) latency: RangeInclusive<u64>,
    /// Until a member hears what the group wants of it.
    pub(crate) heartbeat: RangeInclusive<u64>,
    /// Until a member that was thrown out of the group hears of it. Meanwhile it goes on.
    pub(crate) notice: RangeInclusive<u64>,
    /// From a look at the fetch positions until the application hears of them.
    pub(crate) report: RangeInclusive<u64>,
    /// Between two fetches of a partition.
    pub(crate) fetch: RangeInclusive<u64>,
    /// Messages that come with one fetch.
    pub(crate) fetched: RangeInclusive<usize>,
    /// Fetching stops when so many messages wait in a queue.
    pub(crate) queue_limit: usize,
    /// From the hand-over of an outgoing message to its place in the log.
    pub(crate) append: RangeInclusive<u64>,
    /// From there to its delivery report.
    pub(crate) ack: RangeInclusive<u64>,
    /// Outgoing messages that a producer's queue holds.
    pub(crate) producer_queue: usize,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) session_timeout: Duration,
    pub(crate) faults: Faults,
}

/// What goes wrong by itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// A commit is refused, though nothing is wrong with it.
    pub(crate) commit_refused: u64,
    /// A commit waits in the client.
    pub(crate) commit_deferred: u64,
    /// For at most so many milliseconds.
    pub(crate) deferred_up_to: u64,
    /// The answer to a commit does not come: the client reports an error after it was applied.
    pub(crate) answer_lost: u64,
    /// An outgoing message is not delivered, in the end.
    pub(crate) delivery_failed: u64,
    /// The client does not take an outgoing message at all.
    pub(crate) message_refused: u64,
    /// The producer's queue is full, for a moment.
    pub(crate) queue_full: u64,
    /// A lookup of offsets fails, retryably.
    pub(crate) lookup_failed: u64,
    /// A lookup of offsets is refused for good.
    pub(crate) lookup_refused: u64,
    /// A revocation comes in several parts, where the protocol allows.
    pub(crate) piecemeal: u64,
}

impl Weather {
    /// Everything takes a millisecond or so and nothing fails.
    pub(crate) fn calm() -> Self {
        Self {
            latency: 1..=1,
            heartbeat: 5..=5,
            notice: 20..=20,
            report: 1..=1,
            fetch: 1..=1,
            fetched: 1..=100,
            queue_limit: 1000,
            append: 1..=1,
            ack: 1..=1,
            producer_queue: 1000,
            rebalance_timeout: Duration::from_secs(60),
            session_timeout: Duration::from_secs(10),
            faults: Faults::default(),
        }
    }
}

/// How partitions change hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything is revoked, then everything is assigned anew.
    Eager,
    /// Only what moves is revoked; every member has an epoch of its own (KIP-848).
    Incremental,
}
