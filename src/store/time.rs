//! Deadlines of calls.

use std::time::Duration;

use tokio::time::Instant;

/// When so much time is over. More than a clock can tell is no deadline.
pub(crate) fn deadline(time: Duration) -> Instant {
    const YEARS: Duration = Duration::from_secs(30 * 365 * 86_400);
    Instant::now() + time.min(YEARS)
}
