//! The settings of a topic processor, after they were checked.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Result, panic_error};
use crate::metrics::Metrics;
use crate::on_error::LetterWriter;
use crate::status::RebalanceEvent;

/// Practically for ever. A longer wait, added to the time of day, would be beyond what clocks can represent.
const FAR: Duration = Duration::from_hours(24 * 365 * 30);

/// A duration that can be added to any point in time of a running process.
pub(crate) fn addable(duration: Duration) -> Duration {
    duration.min(FAR)
}

/// Called with each [`RebalanceEvent`].
pub(crate) type RebalanceHook = Arc<dyn Fn(&RebalanceEvent) + Send + Sync>;

/// The settings of the coordinator and the lanes. Made by the [`Builder`](crate::Builder).
pub(crate) struct Settings {
    pub(crate) name: Arc<str>,
    pub(crate) group_id: String,
    pub(crate) topics: Arc<[Arc<str>]>,
    pub(crate) is_static: bool,
    pub(crate) batch: BatchLimits,
    pub(crate) in_flight: FlightLimits,
    pub(crate) tick_interval: Option<Duration>,
    pub(crate) commit_interval: Duration,
    pub(crate) target_latency: Option<Duration>,
    pub(crate) offset_refresh_interval: Duration,
    pub(crate) drain_deadline: Duration,
    pub(crate) commit_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) start_from: StartFrom,
    pub(crate) out_of_range: OutOfRange,
    pub(crate) on_rebalance: Option<RebalanceHook>,
    pub(crate) letters: Arc<LetterWriter>,
    pub(crate) metrics: Metrics,
    pub(crate) metrics_interval: Duration,
    pub(crate) lag_interval: Duration,
    pub(crate) topic_check_interval: Duration,
    /// All topics of a partition number must be processed together, because they are joined.
    pub(crate) needs_alignment: bool,
}

impl Settings {
    #[allow(clippy::cast_possible_truncation, reason = "the builder allows 65,535 topics")]
    pub(crate) fn topic_index(&self, topic: &str) -> Option<u16> {
        self.topics.iter().position(|name| **name == *topic).map(|index| index as u16)
    }

    /// Calls the user's hook.
    ///
    /// # Errors
    /// The hook panicked.
    pub(crate) fn rebalanced(&self, event: &RebalanceEvent) -> Result<()> {
        let Some(hook) = &self.on_rebalance else { return Ok(()) };
        catch_unwind(AssertUnwindSafe(|| hook(event)))
            .map_err(|panic| panic_error("the `on_rebalance` hook panicked", &*panic))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("group_id", &self.group_id)
            .field("topics", &self.topics)
            .field("is_static", &self.is_static)
            .field("batch", &self.batch)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

/// Where a partition begins that has no committed offset in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StartFrom {
    /// At the earliest message that the broker still has. The default: nothing is skipped.
    #[default]
    Earliest,
    /// At the end: only messages that are produced from now on are processed. If a partition is added to a topic that
    /// the group already reads, the partition begins at its earliest message instead, so that nothing is skipped that
    /// was produced before the group noticed. A group that has committed offsets with another library counts as
    /// reading the topic, too: its partitions without a committed offset begin at their earliest message.
    Latest,
    /// At the first message with this timestamp (milliseconds since 1970-01-01 UTC) or a later one; at the end if
    /// there is none. This also applies to partitions that are added later.
    Timestamp(i64),
}

/// What happens if the offset to read from is not in the log: retention has deleted it, or it lies beyond the end
/// because the topic was recreated or truncated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OutOfRange {
    /// Stop with an error that names the partition, the offset and the range of the log. The default: messages were
    /// lost, and a person should know before processing continues.
    #[default]
    Fail,
    /// Log a warning, and continue at the earliest message that the broker still has.
    Earliest,
    /// Log a warning, and continue at the end.
    Latest,
}

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) max_messages: usize,
    pub(crate) max_bytes: usize,
    pub(crate) max_wait: Duration,
    /// Batches may have as many from the beginning, and do not grow to it.
    pub(crate) is_fixed: bool,
}

/// How much may wait for acks, for each partition number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlightLimits {
    pub(crate) max_batches: usize,
    pub(crate) max_bytes: usize,
}
