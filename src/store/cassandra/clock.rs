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
//! - **The time is the servers', not this machine's**: asked for when connecting, once a minute, and after this
//!   machine has slept. It is known to half of the time that the answer took; a slow one is asked for again.
//! - **What was read is overwritten.** Reads bring along when a value was written; what is written
//!   later, is later than that, even if the owner before had a clock that was ahead.
//! - A value from further in the future than [`MAX_LEAD`] is an error when it is read: following it
//!   would carry the fault to all other keys, and not following would lose writes silently.

use std::sync::MutexGuard;
use std::time::{Duration, Instant, SystemTime};

use crate::lock::Mutex;

/// How far ahead of the servers' time a value's write time may be.
pub(super) const MAX_LEAD: Duration = Duration::from_secs(600);

/// How long the servers' time is reckoned from the last answer, before they are asked again: machines'
/// clocks drift by some milliseconds in that.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// An answer that took longer than this tells the time too badly, if there is a better one.
const PROMPT: Duration = Duration::from_millis(100);

/// How far this machine's two clocks may move apart: of these the one that the servers' time is reckoned by stands
/// still while the machine sleeps.
const SLEPT: Duration = Duration::from_secs(1);

/// Between 1582-10-15, where the time in UUIDs begins, and 1970-01-01, in units of 100 ns.
const UUID_EPOCH: i64 = 0x01B2_1DD2_1381_4000;

/// Shared by all clones of a store.
#[derive(Debug, Default)]
pub(super) struct Clock {
    state: Mutex<State>,
}

/// A moment by this machine's two clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// How long after an earlier one this is.
    fn since(self, earlier: Self) -> Duration {
        self.monotonic.saturating_duration_since(earlier.monotonic)
    }

    /// Whether the machine slept in between, or its time was set.
    fn slept_since(self, earlier: Self) -> bool {
        let wall = self.wall.duration_since(earlier.wall);
        wall.map_or(true, |wall| wall.abs_diff(self.since(earlier)) > SLEPT)
    }
}

/// What the servers said of their time.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServersTime {
    pub(super) micros: i64,
    pub(super) asked: Moment,
    pub(super) came: Moment,
}

impl ServersTime {
    pub(super) fn is_prompt(self) -> bool {
        self.took() <= PROMPT
    }

    /// Nobody knows when such an answer was made.
    pub(super) fn slept_meanwhile(self) -> bool {
        self.came.slept_since(self.asked)
    }

    /// Without end if the machine slept meanwhile.
    fn took(self) -> Duration {
        match self.slept_meanwhile() {
            true => Duration::MAX,
            false => self.came.since(self.asked),
        }
    }

    fn is_old(self, now: Moment) -> bool {
        now.since(self.came) >= ASK_EVERY || now.slept_since(self.asked)
    }

    /// The one that came sooner, so it is better known when that was.
    pub(super) fn or_better(self, other: Self) -> Self {
        if other.took() < self.took() { other } else { self }
    }
}

#[derive(Debug, Default)]
struct State {
    /// What the servers said last, or better.
    servers: Option<ServersTime>,
    /// The latest timestamp given out or seen.
    last: i64,
}

impl Clock {
    /// Whether to ask the servers for their time.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.state().servers.is_none_or(|servers| servers.is_old(now))
    }

    /// Takes an answer, unless another call asked at the same time, and its answer came sooner.
    pub(super) fn set(&self, answer: ServersTime) {
        let mut state = self.state();
        let beside = state.servers.filter(|other| other.came.monotonic > answer.asked.monotonic);
        state.servers = Some(beside.map_or(answer, |other| answer.or_better(other)));
    }

    /// The timestamp of a call.
    pub(super) fn stamp(&self, now: Moment) -> i64 {
        let mut state = self.state();
        state.last = state.now(now).max(state.last.saturating_add(1));
        state.last
    }

    /// Notes when a value that was read was written.
    ///
    /// # Errors
    /// By how much it is in the future, if that is too much.
    pub(super) fn saw(&self, written: i64, now: Moment) -> Result<(), Duration> {
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn now(&self, now: Moment) -> i64 {
        let Some(servers) = self.servers else { return 0 };
        // On the way for the same time there and back, as far as we know.
        let half = servers.came.since(servers.asked) / 2;
        let since = now.since(servers.came) + half;
        servers.micros.saturating_add(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
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

    impl std::ops::Add<Duration> for Moment {
        type Output = Self;

        fn add(self, time: Duration) -> Self {
            Self { monotonic: self.monotonic + time, wall: self.wall + time }
        }
    }

    fn answer(micros: i64, asked: Moment, took: Duration) -> ServersTime {
        ServersTime { micros, asked, came: asked + took }
    }

    fn clock(micros: i64) -> (Clock, Moment) {
        let (clock, now) = (Clock::default(), Moment::now());
        clock.set(answer(micros, now, Duration::ZERO));
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
        clock.set(answer(500, now, Duration::ZERO));
        assert_eq!(clock.stamp(now), 1001);
    }

    #[test]
    fn the_answer_is_of_the_middle_of_its_way() {
        let (clock, now) = (Clock::default(), Moment::now());
        clock.set(answer(1000, now, Duration::from_micros(200)));
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
        let (clock, now) = (Clock::default(), Moment::now());
        assert!(clock.is_due(now));
        clock.set(answer(1, now, Duration::ZERO));
        assert!(!clock.is_due(now + MINUTE / 2));
        assert!(clock.is_due(now + MINUTE));
    }

    #[test]
    fn the_servers_are_asked_after_the_machine_has_slept() {
        let (clock, now) = clock(1);
        let awake = Moment { monotonic: now.monotonic, wall: now.wall + 2 * SLEPT };
        assert!(clock.is_due(awake));
        let set_back = Moment { monotonic: now.monotonic, wall: now.wall - 2 * SLEPT };
        assert!(clock.is_due(set_back));
    }

    #[test]
    fn of_answers_to_calls_at_the_same_time_the_one_that_came_soonest_is_kept() {
        let (clock, now) = (Clock::default(), Moment::now());
        clock.set(answer(5_000_000, now + PROMPT, Duration::ZERO));
        clock.set(answer(1, now, 2 * PROMPT));
        assert_eq!(clock.stamp(now + PROMPT), 5_000_000);
        clock.set(answer(6_000_000, now + 3 * PROMPT, PROMPT));
        assert_eq!(clock.stamp(now + 4 * PROMPT), 6_050_000, "asked later");
    }

    #[test]
    fn the_answer_that_came_soonest_is_taken() {
        let now = Moment::now();
        let (slow, soon) = (answer(1, now, 2 * PROMPT), answer(2, now, PROMPT));
        assert!(soon.is_prompt() && !slow.is_prompt());
        assert_eq!(slow.or_better(soon).micros, 2);
        assert_eq!(soon.or_better(slow).micros, 2);
    }

    #[test]
    fn the_time_in_a_uuid_is_read() {
        // RFC 9562, A.1: 2022-02-22T19:22:22Z.
        let uuid = 0xC232_AB00_9414_11EC_B3C8_9F6B_DECE_D846;
        assert_eq!(micros_of_uuid(uuid), 1_645_557_742_000_000);
    }
}
