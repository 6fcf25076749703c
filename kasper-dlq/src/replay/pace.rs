//! `--rate`: at most so many messages a second.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Messages a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate(Duration);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rate = text.parse::<f64>().map_err(|error| error.to_string())?;
        // Finer than any timer; and at most a day apart.
        if !(1.0 / 86_400.0..=1e6).contains(&rate) {
            return Err("from 0.00002 to 1000000 messages a second".into());
        }
        Ok(Self(Duration::from_secs_f64(1.0 / rate)))
    }
}

/// So much of a late start may be made up for: timers go off late by a millisecond or so.
const MADE_UP: Duration = Duration::from_millis(20);

/// Gives each message its time, over all partitions.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<Rate>,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        Self { rate, next: Mutex::new(None) }
    }

    /// When the next message may be sent; each call is for one.
    pub(crate) fn slot(&self) -> Instant {
        let now = Instant::now();
        let Some(Rate(interval)) = self.rate else { return now };
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(MADE_UP).unwrap_or(now);
        let slot = next.map_or(now, |next| next.max(earliest));
        *next = Some(slot + interval);
        slot
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    fn pace(rate: &str) -> Pace {
        Pace::new(Some(rate.parse().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn messages_are_sent_at_the_rate() {
        let (pace, begun) = (pace("50"), Instant::now());
        for _ in 0..101 {
            sleep_until(pace.slot()).await;
        }
        let took = begun.elapsed();
        assert!((2000..=2025).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_made_up_for() {
        let pace = pace("10");
        sleep_until(pace.slot()).await;
        advance(Duration::from_secs(60)).await;
        let begun = Instant::now();
        for _ in 0..11 {
            sleep_until(pace.slot()).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nothing_waits() {
        let (pace, begun) = (Pace::new(None), Instant::now());
        for _ in 0..1000 {
            sleep_until(pace.slot()).await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[test]
    fn rates_are_checked() {
        assert_eq!("0.5".parse(), Ok(Rate(Duration::from_secs(2))));
        for wrong in ["0", "-1", "x", "inf", "nan", "1e9"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}
