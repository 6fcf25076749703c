//! The time that writes carry.
//!
//! Cassandra keeps, of two writes of a key, the one with the later timestamp, whichever came first. The
//! clock sees to it that this is the later write:
//!
//! - **Each call has a timestamp of its own, later than those of all calls before it.** A statement
//!   that is sent again, or that arrives late because its sender or a node hung, keeps the timestamp of
//!   its call, so it loses to every call made since. (Timestamps given by the server would be new at
//!   each arrival: the late one would win. And nodes whose clocks differ would order a put and the
//!   deletion after it by chance, when they go to two of them.)
//! - **The time is the servers', not this machine's**: asked for when connecting and once a minute.
//! - **What was read is overwritten.** Reads bring along when a value was written; what is written
//!   later, is later than that, even if the owner before had a clock that was ahead.
//! - A value from further in the future than [`MAX_LEAD`] is an error when it is read: following it
//!   would carry the fault to all other keys, and not following would lose writes silently.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How far ahead of the servers' time a value's write time may be.
pub(super) const MAX_LEAD: Duration = Duration::from_secs(600);

/// How long the servers' time is reckoned from the last answer, before they are asked again: machines'
/// clocks drift by some milliseconds in that.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// Between 1582-10-15, where the time in UUIDs begins, and 1970-01-01, in units of 100 ns.
const UUID_EPOCH: i64 = 0x01B2_1DD2_1381_4000;

/// Shared by all clones of a store.
#[derive(Debug, Default)]
pub(super) struct Clock {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The servers' time in microseconds since 1970, and when it was that.
    servers: Option<(i64, Instant)>,
    /// The latest timestamp given out or seen.
    last: i64,
}

impl Clock {
    /// Whether to ask the servers for their time.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let servers = self.state().servers;
        servers.is_none_or(|(_, at)| now.saturating_duration_since(at) >= ASK_EVERY)
    }

    /// Takes the servers' time: the answer that was asked for at one time and came at the other.
    pub(super) fn set(&self, micros: i64, asked: Instant, came: Instant) {
        // On the way for the same time there and back, as far as we know.
        let middle = asked + came.saturating_duration_since(asked) / 2;
        self.state().servers = Some((micros, middle));
    }

    /// The timestamp of a call.
    pub(super) fn stamp(&self, now: Instant) -> i64 {
        let mut state = self.state();
        state.last = state.now(now).max(state.last.saturating_add(1));
        state.last
    }

    /// Notes when a value that was read was written.
    ///
    /// # Errors
    /// By how much it is in the future, if that is too much.
    pub(super) fn saw(&self, written: i64, now: Instant) -> Result<(), Duration> {
        let mut state = self.state();
        if written <= state.last {
            return Ok(());
        }
        let lead = u64::try_from(written.saturating_sub(state.now(now))).unwrap_or_default();
        let lead = Duration::from_micros(lead);
        if lead > MAX_LEAD {
            return Err(lead);
        }
        state.last = written;
        Ok(())
    }

    // A panic cannot come in the middle of a change, so a poisoned state is still whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now(&self, now: Instant) -> i64 {
        let Some((micros, at)) = self.servers else { return 0 };
        let since = now.saturating_duration_since(at).as_micros();
        micros.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }
}

/// The time in a UUID of version 1, in microseconds since 1970.
pub(super) fn micros_of_uuid(uuid: u128) -> i64 {
    let low = (uuid >> 96) & 0xffff_ffff;
    let middle = (uuid >> 80) & 0xffff;
    let high = (uuid >> 64) & 0x0fff;
    let ticks = i64::try_from((high << 48) | (middle << 32) | low).unwrap_or(i64::MAX);
    (ticks - UUID_EPOCH) / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const MINUTE_MICROS: i64 = 60_000_000;

    fn clock(micros: i64) -> (Clock, Instant) {
        let (clock, now) = (Clock::default(), Instant::now());
        clock.set(micros, now, now);
        (clock, now)
    }

    #[test]
    fn every_call_is_later_than_the_one_before() {
        let (clock, now) = clock(1000);
        let stamps = [(); 3].map(|()| clock.stamp(now));
        assert_eq!(stamps, [1000, 1001, 1002]);
        assert_eq!(clock.stamp(now + MINUTE), 1000 + MINUTE_MICROS);
    }

    #[test]
    fn the_servers_clock_set_back_sets_no_timestamp_back() {
        let (clock, now) = clock(1000);
        assert_eq!(clock.stamp(now), 1000);
        clock.set(500, now, now);
        assert_eq!(clock.stamp(now), 1001);
    }

    #[test]
    fn the_answer_is_of_the_middle_of_its_way() {
        let (clock, now) = clock(0);
        clock.set(1000, now, now + Duration::from_micros(200));
        assert_eq!(clock.stamp(now + Duration::from_micros(200)), 1100);
    }

    #[test]
    fn what_was_read_is_overwritten() {
        let (clock, now) = clock(1000);
        clock.saw(1000 + MINUTE_MICROS, now).unwrap();
        assert_eq!(clock.stamp(now), 1001 + MINUTE_MICROS);
        clock.saw(7, now).unwrap();
        assert_eq!(clock.stamp(now), 1002 + MINUTE_MICROS);
    }

    #[test]
    fn the_far_future_is_not_followed() {
        let (clock, now) = clock(1000);
        let lead = clock.saw(1000 + 11 * MINUTE_MICROS, now).unwrap_err();
        assert_eq!(lead, 11 * MINUTE);
        assert_eq!(clock.stamp(now), 1000);
    }

    #[test]
    fn the_servers_are_asked_at_first_and_once_a_minute() {
        let (clock, now) = (Clock::default(), Instant::now());
        assert!(clock.is_due(now));
        clock.set(1, now, now);
        assert!(!clock.is_due(now + MINUTE / 2));
        assert!(clock.is_due(now + MINUTE));
    }

    #[test]
    fn the_time_in_a_uuid_is_read() {
        // RFC 9562, A.1: 2022-02-22T19:22:22Z.
        let uuid = 0xC232_AB00_9414_11EC_B3C8_9F6B_DECE_D846;
        assert_eq!(micros_of_uuid(uuid), 1_645_557_742_000_000);
    }
}
