//! Deadlines of calls, and the waits between their attempts.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

#[cfg(feature = "cassandra")]
use crate::error::{Error, ErrorKind, Result};

/// Longer than any process runs, and short enough to be added to a clock's time.
const YEARS: Duration = Duration::from_secs(30 * 365 * 86_400);

/// The moment when this time is over. A time longer than a clock can hold means that there is no deadline.
pub(crate) fn deadline(time: Duration) -> Instant {
    Instant::now() + time.min(YEARS)
}

/// Waits that double and are shortened by up to a half at random: many clients that were refused together
/// should not come back together.
#[derive(Debug)]
pub(crate) struct Waits {
    next: Duration,
    longest: Duration,
}

impl Waits {
    /// The first wait and the longest one, of which neither is shorter than a millisecond: without waits, a call that
    /// fails at once would be made again and again, with all of a processor's time.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        // Longer than any deadline, shortened by a half as well.
        let limited = |wait: Duration| wait.clamp(Duration::from_millis(1), 3 * YEARS);
        Self { next: limited(first), longest: limited(longest) }
    }

    /// How long to wait, if that ends before the deadline.
    pub(crate) fn next(&mut self, deadline: Instant) -> Option<Duration> {
        let wait = self.next.min(self.longest).mul_f64(1.0 - 0.5 * random_part());
        self.next = self.next.saturating_mul(2);
        (wait < deadline.saturating_duration_since(Instant::now())).then_some(wait)
    }
}

/// A number from 0 to 1, different each time: the standard library seeds each hasher anew.
fn random_part() -> f64 {
    let bits = RandomState::new().hash_one(0u8) >> 32;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(u32::MAX)
}

/// The result, if it comes in this time.
///
/// # Errors
/// It took longer.
#[cfg(feature = "cassandra")]
pub(crate) async fn in_time<T>(time: Duration, future: impl Future<Output = T>) -> Result<T> {
    let late = |_| Error::new(ErrorKind::Timeout, format!("no answer within {time:?}")).retryable();
    tokio::time::timeout(time, future).await.map_err(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_the_longest_and_end_before_the_deadline() {
        let (first, longest) = (Duration::from_millis(10), Duration::from_millis(35));
        let mut waits = Waits::new(first, longest);
        let deadline = deadline(Duration::from_millis(40));
        for most in [first, 2 * first, longest, longest] {
            let wait = waits.next(deadline).unwrap();
            assert!((most / 2..=most).contains(&wait), "{wait:?} of {most:?}");
        }
        tokio::time::advance(Duration::from_millis(30)).await;
        assert_eq!(waits.next(deadline), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_is_too_long_or_too_short() {
        for (first, longest) in [
            (Duration::MAX, Duration::MAX),
            (Duration::ZERO, Duration::MAX),
            (Duration::MAX, Duration::ZERO),
            (Duration::ZERO, Duration::ZERO),
        ] {
            let mut waits = Waits::new(first, longest);
            let deadline = deadline(Duration::MAX);
            for _ in 0..200 {
                let wait = waits.next(deadline);
                assert!(wait.is_none_or(|wait| wait >= Duration::from_micros(500)), "{wait:?}");
            }
        }
    }
}
