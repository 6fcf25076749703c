//! [`Backoff`]: how long to wait before something that failed is tried again, and when to give up.
//!
//! Place in the data path: behind an error. [`on_error`](crate::on_error) takes one from the user; the stores have
//! their own.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// Longer than any process runs, and short enough to be added to a clock's time.
const YEARS: Duration = Duration::from_secs(30 * 365 * 86_400);

/// How long to wait before a call is made again, and when to give up.
///
/// The waits grow from [`first`](Backoff::first) by a [`factor`](Backoff::factor) up to
/// [`longest`](Backoff::longest), and each is shortened at random ([`jitter`](Backoff::jitter)), so that many
/// processes don't come back at the same moment. The budget is used up when one of [`max_retries`](Backoff::max_retries)
/// and [`max_elapsed`](Backoff::max_elapsed) is reached.
///
/// ```
/// use std::time::Duration;
///
/// use kasper::Backoff;
///
/// // 100 ms, 200 ms, 400 ms, … up to 10 s, each shortened by up to half; for at most 5 minutes.
/// let default = Backoff::new();
/// assert_eq!(default, Backoff::default());
/// // Three more calls, 1 s apart.
/// let fixed = Backoff::new().first(Duration::from_secs(1)).factor(1.0).jitter(0.0).max_retries(3);
/// assert_ne!(fixed, default);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct Backoff {
    first: Duration,
    factor: f64,
    longest: Duration,
    jitter: f64,
    max_retries: u32,
    max_elapsed: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            factor: 2.0,
            longest: Duration::from_secs(10),
            jitter: 0.5,
            max_retries: u32::MAX,
            max_elapsed: Duration::from_mins(5),
        }
    }
}

impl Backoff {
    /// Waits of 100 ms that double up to 10 s, each shortened by up to half at random, for at most 5 minutes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The wait before the second call. Default: 100 ms. Less than a millisecond counts as one.
    pub fn first(mut self, wait: Duration) -> Self {
        self.first = wait;
        self
    }

    /// By how much each wait is longer than the one before. Default: 2. Less than 1 counts as 1.
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// The longest wait. Default: 10 s. A longer one spares a server that is being restarted; a shorter one notices
    /// sooner that it is back.
    pub fn longest(mut self, wait: Duration) -> Self {
        self.longest = wait;
        self
    }

    /// By which part each wait is shortened at most, at random: from 0, for exact waits, to 1. Default: 0.5.
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = part;
        self
    }

    /// How often the call is made again at most. Default: no limit.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// For how long the call is made again: a wait that would end later than this, counted from the first error, is
    /// not begun. Default: 5 minutes.
    pub fn max_elapsed(mut self, time: Duration) -> Self {
        self.max_elapsed = time;
        self
    }

    /// Neither the number of calls nor the time is limited.
    pub fn forever(self) -> Self {
        self.max_retries(u32::MAX).max_elapsed(Duration::MAX)
    }
}

/// The moment when this time is over. A time longer than a clock can hold means that there is no deadline.
pub(crate) fn deadline(time: Duration) -> Instant {
    Instant::now() + time.min(YEARS)
}

/// The waits of one call, one after the other.
#[derive(Debug)]
pub(crate) struct Waits {
    next: Duration,
    longest: Duration,
    factor: f64,
    jitter: f64,
    left: u32,
}

impl Waits {
    /// Waits that double and are shortened by up to a half. Neither the first nor the longest is shorter than a
    /// millisecond: without waits, a call that fails at once would be made again and again, with all of a
    /// processor's time.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self::of(Backoff::new().first(first).longest(longest))
    }

    /// Does not look at the backoff's time: its owner has the [`deadline`].
    pub(crate) fn of(backoff: Backoff) -> Self {
        let Backoff { first, factor, longest, jitter, max_retries, .. } = backoff;
        // Longer than any deadline, shortened as well.
        let limited = |wait: Duration| wait.clamp(Duration::from_millis(1), 3 * YEARS);
        Self {
            next: limited(first),
            longest: limited(longest),
            // NaN is out of range, too.
            factor: if factor >= 1.0 { factor.min(1e9) } else { 1.0 },
            jitter: if jitter >= 0.0 { jitter.min(1.0) } else { 0.0 },
            left: max_retries,
        }
    }

    /// How long to wait, if that ends before the deadline and the number of retries is not used up.
    pub(crate) fn next(&mut self, deadline: Instant) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let wait = self.next.min(self.longest).mul_f64(1.0 - self.jitter * random_part());
        let wait = wait.max(Duration::from_micros(500));
        // What does not fit is longer than the longest.
        let grown = Duration::try_from_secs_f64(self.next.as_secs_f64() * self.factor);
        self.next = grown.unwrap_or(self.longest).min(self.longest);
        (wait < deadline.saturating_duration_since(Instant::now())).then_some(wait)
    }
}

/// The waits of a call that began to fail now, with the limits of a [`Backoff`].
#[derive(Debug)]
pub(crate) struct Retries {
    waits: Waits,
    deadline: Instant,
}

impl Retries {
    pub(crate) fn begin(backoff: Backoff) -> Self {
        Self { waits: Waits::of(backoff), deadline: deadline(backoff.max_elapsed) }
    }

    /// This time does not count.
    pub(crate) fn extend(&mut self, time: Duration) {
        self.deadline += time;
    }

    /// How long to wait before the next call; `None` if the budget is used up.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        self.waits.next(self.deadline)
    }
}

/// A number from 0 to 1, different each time: the standard library seeds each hasher anew.
fn random_part() -> f64 {
    let bits = RandomState::new().hash_one(0u8) >> 32;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(u32::MAX)
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

    #[tokio::test(start_paused = true)]
    async fn the_budget_ends_with_the_number_of_retries_or_the_time() {
        let exact = Backoff::new().first(Duration::from_secs(1)).jitter(0.0);
        let mut three = Retries::begin(exact.factor(3.0).max_retries(3));
        let waits: Vec<_> =
            std::iter::from_fn(|| three.next()).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [1, 3, 9]);
        let mut none = Retries::begin(exact.max_retries(0));
        assert_eq!(none.next(), None);
        let mut short = Retries::begin(exact.max_elapsed(Duration::from_millis(900)));
        assert_eq!(short.next(), None);
        let mut forever = Retries::begin(exact.forever());
        assert!((0..10_000).all(|_| forever.next().is_some_and(|wait| wait.as_secs() <= 10)));
    }

    #[tokio::test(start_paused = true)]
    async fn odd_numbers_do_no_harm() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300] {
            let mut retries = Retries::begin(Backoff::new().factor(odd).jitter(odd).forever());
            for _ in 0..100 {
                assert!(
                    retries.next().is_some_and(|wait| wait <= Duration::from_secs(10)),
                    "{odd}"
                );
            }
        }
    }
}
