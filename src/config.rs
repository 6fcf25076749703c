//! The settings of a topic processor, once they are checked.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::handle::RebalanceEvent;
use crate::metrics::Metrics;
use crate::pipeline::batcher::BatchLimits;
use crate::pipeline::in_flight::FlightLimits;
use crate::pipeline::partition_processor::panic_error;
use crate::pipeline::start::{OutOfRange, StartFrom};

/// As good as for ever. A longer wait, added to the time of day, would be beyond what clocks can tell.
const FAR: Duration = Duration::from_hours(24 * 365 * 30);

/// A duration that can be added to any point in time of a running process.
pub(crate) fn addable(duration: Duration) -> Duration {
    duration.min(FAR)
}

/// Called with each [`RebalanceEvent`].
pub(crate) type RebalanceHook = Arc<dyn Fn(&RebalanceEvent) + Send + Sync>;

/// What the coordinator and the lanes go by. Made by the [`Builder`](crate::Builder).
pub(crate) struct Settings {
    pub(crate) name: Arc<str>,
    pub(crate) group_id: String,
    pub(crate) topics: Arc<[Arc<str>]>,
    pub(crate) is_static: bool,
    pub(crate) batch: BatchLimits,
    pub(crate) in_flight: FlightLimits,
    pub(crate) commit_interval: Duration,
    pub(crate) offset_refresh_interval: Duration,
    pub(crate) drain_deadline: Duration,
    pub(crate) commit_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) start_from: StartFrom,
    pub(crate) out_of_range: OutOfRange,
    pub(crate) on_rebalance: Option<RebalanceHook>,
    pub(crate) metrics: Metrics,
    pub(crate) metrics_interval: Duration,
    pub(crate) lag_interval: Duration,
    pub(crate) topic_check_interval: Duration,
    /// A partition number of several topics must be processed as a whole: they are joined.
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
    /// It panicked.
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
