//! A target for the time from a message's arrival to its committed offset: how long a batch may wait to grow, and how
//! large it may become.
//!
//! Place in the data path: the [`batcher`](super::batcher) asks when to cut; the [`in_flight`](super::in_flight) queue
//! tells what finished batches took, and [`punctuality`](super::punctuality) what commits take. Without a target nothing of
//! this exists.
//!
//! Fewer, larger batches make fewer store calls, and the time that makes them larger is what the target leaves. So a batch
//! is cut as late as
//!
//!   age of its oldest message + time from the cut until it is finished + time until its commit
//!
//! allows. The parts are estimated from above: the first by [`Arrivals`] (which does not see how long a task that was woken by a
//! message waited for a thread), the others by what the last
//! hundred and more took ([`Recent`]). A longer time counts at once, and is forgotten slowly. If the sum is too large whatever the
//! batch's size, waiting makes it worse: a batch is then what has arrived, up to the user's limits, which works a backlog
//! off fastest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::QueueLength;
use crate::pipeline::punctuality::Goal;

/// For so many samples at least, two that took long are remembered: one message in a hundred may be late, and what happens more
/// rarely may be forgotten.
const MEMORY: u32 = 128;

/// For so many, one that took long is.
const ALERT: u32 = 16;

/// How many moments [`Arrivals`] remembers at most.
const MOST_MARKS: u32 = 64;

/// As many as a `u64` can hold.
pub(super) fn nanos(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// The most of either, not necessarily of one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Most {
    pub(super) time: Duration,
    messages: usize,
}

impl Most {
    /// How long a batch of so many messages takes at most. Batches of up to `self.messages` took up to `self.time`; a larger one
    /// takes in proportion more, or less than that because a part does not depend on the size.
    fn expected(self, messages: usize) -> Duration {
        let known = self.messages.max(1);
        let expected = self.time.as_nanos() * messages.max(known) as u128 / known as u128;
        Duration::from_nanos(nanos(expected))
    }

    /// How many messages can be expected to be done in this time; `None` if that is not known of any number.
    fn possible(self, time: Duration) -> Option<usize> {
        if time < self.time || self.time.is_zero() {
            return None;
        }
        let possible = self.messages as u128 * time.as_nanos() / self.time.as_nanos();
        let possible = usize::try_from(possible).unwrap_or(usize::MAX);
        // One more than ever before: where a part of the time does not depend on the size, more would fit than known.
        Some(possible.max(self.messages.saturating_add(1)))
    }
}

/// What to expect, from the last samples: the longest of the last [`ALERT`] to twice as many, the second longest of the last
/// [`MEMORY`] to twice as many, and of these the most messages. So what becomes slow counts at once, and what was slow only once is
/// soon forgotten.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    count: u32,
    alert: [Duration; 2],
    memory: [Generation; 2],
}

/// So many samples in a row.
#[derive(Debug, Default, Clone, Copy)]
struct Generation {
    longest: Duration,
    second: Duration,
    messages: usize,
}

impl Recent {
    pub(crate) fn note(&mut self, time: Duration, messages: usize) {
        if self.count.is_multiple_of(ALERT) {
            self.alert = [Duration::ZERO, self.alert[0]];
        }
        if self.count.is_multiple_of(MEMORY) {
            self.memory = [Generation::default(), self.memory[0]];
        }
        self.count = self.count.wrapping_add(1);
        self.alert[0] = self.alert[0].max(time);
        let now = &mut self.memory[0];
        now.second = now.second.max(time.min(now.longest));
        now.longest = now.longest.max(time);
        now.messages = now.messages.max(messages);
    }

    pub(crate) fn most(&self) -> Most {
        let [now, before] = self.memory;
        let second = now.longest.min(before.longest).max(now.second).max(before.second);
        let time = second.max(self.alert[0]).max(self.alert[1]);
        Most { time, messages: now.messages.max(before.messages) }
    }
}

/// When a lane's messages arrived. The client does not say, but at some moments it is known how many were there: those
/// behind arrived later. So a message is at most as old as the last such moment before it. Messages are counted in the
/// order of the queue, from the lane's first one.
///
/// Where the queue is longer than its messages, or messages are dropped from it, they seem older than they are, until it
/// is seen empty.
#[derive(Debug)]
struct Arrivals {
    cut: u64,
    /// A moment, and how many messages there were until then. Both rise. The first is at or below `cut`.
    marks: VecDeque<(Instant, u64)>,
    /// How far apart they are at least.
    spacing: Duration,
}

impl Arrivals {
    fn new() -> Self {
        Self { cut: 0, marks: [(Instant::now(), 0)].into(), spacing: Duration::ZERO }
    }

    /// At this moment, so many messages that are not cut were there.
    fn note(&mut self, at: Instant, there: usize) {
        let until = self.cut + there as u64;
        // The later moment says more.
        while self.marks.back().is_some_and(|(_, before)| *before >= until) {
            self.marks.pop_back();
        }
        match self.marks.back() {
            None => self.spacing = Duration::ZERO,
            Some((before, _)) if at - *before < self.spacing => return,
            Some(_) if self.marks.len() == MOST_MARKS as usize => self.thin_out(),
            Some(_) => {}
        }
        self.marks.push_back((at, until));
    }

    /// Forgets about half of the moments: a longer backlog needs a wider spacing.
    fn thin_out(&mut self) {
        let span = self.marks.back().map_or(Duration::ZERO, |(last, _)| *last - self.oldest());
        self.spacing = (span / MOST_MARKS * 2).max(Duration::from_nanos(1));
        let mut kept: Option<Instant> = None;
        self.marks.retain(|(at, _)| {
            let keep = kept.is_none_or(|kept| *at - kept >= self.spacing);
            kept = if keep { Some(*at) } else { kept };
            keep
        });
    }

    /// The oldest message that is not cut arrived then, or later.
    fn oldest(&self) -> Instant {
        self.marks.front().map_or_else(Instant::now, |(at, _)| *at)
    }

    fn cut(&mut self, messages: usize) {
        self.cut += messages as u64;
        while self.marks.get(1).is_some_and(|(_, until)| *until <= self.cut) {
            self.marks.pop_front();
        }
    }

    /// Some messages were dropped, nobody knows how many.
    fn restart(&mut self) {
        let oldest = self.oldest();
        self.marks.clear();
        self.marks.push_back((oldest, self.cut));
    }
}

/// Of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// Its oldest message arrived then, or later.
    pub(crate) arrived: Instant,
    pub(crate) cut: Instant,
}

/// Decides for a lane when a batch is cut.
pub(crate) struct LatencyTarget {
    goal: Arc<Goal>,
    queue_length: QueueLength,
    arrivals: Arrivals,
    /// Of finished batches, as last told.
    finished: Most,
}

impl LatencyTarget {
    pub(crate) fn new(goal: Arc<Goal>, queue_length: QueueLength) -> Self {
        Self { goal, queue_length, arrivals: Arrivals::new(), finished: Most::default() }
    }

    pub(crate) fn note_finished(&mut self, finished: Most) {
        self.finished = finished;
    }

    /// So many messages are taken and not cut, and so many more may be in the queue.
    pub(crate) fn look(&mut self, taken: usize) {
        let now = Instant::now();
        self.arrivals.note(now, taken + (self.queue_length)());
    }

    /// The queue is empty, and so many messages are taken from it and not cut.
    pub(crate) fn emptied(&mut self, taken: usize) {
        self.arrivals.note(Instant::now(), taken);
    }

    pub(crate) fn restart(&mut self) {
        self.arrivals.restart();
    }

    /// The most messages that the next batch may have. No limit if the oldest one will be late in any case.
    pub(crate) fn messages(&self) -> usize {
        let latest = self.latest(Duration::ZERO);
        let left = latest.map_or(Duration::ZERO, |latest| latest - Instant::now());
        self.finished.possible(left).unwrap_or(usize::MAX)
    }

    /// When a batch of so many messages has to be cut.
    pub(crate) fn due(&self, messages: usize) -> Instant {
        // Nothing is known of the first batch: it does not wait.
        let known = !self.finished.time.is_zero();
        let due = known.then(|| self.latest(self.finished.expected(messages))).flatten();
        due.unwrap_or_else(|| self.arrivals.oldest())
    }

    /// When a batch that takes so long has to be cut, unless that was before its oldest message arrived.
    fn latest(&self, takes: Duration) -> Option<Instant> {
        let wait = self.goal.planned().checked_sub(self.goal.commit_delay())?.checked_sub(takes)?;
        self.arrivals.oldest().checked_add(wait)
    }

    /// So many messages are cut, and so many that were taken stay.
    pub(crate) fn cut(&mut self, messages: usize, taken: usize) -> Times {
        let times = Times { arrived: self.arrivals.oldest(), cut: Instant::now() };
        self.arrivals.cut(messages);
        // The time comes first: what arrives in between is taken for older, not for younger.
        self.arrivals.note(times.cut, taken + (self.queue_length)());
        times
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::advance;

    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A target of 100 ms, with commits every 25 ms that take 5: 60 ms are left. The queue's length is the test's.
    fn target() -> (LatencyTarget, Arc<AtomicUsize>) {
        let goal = Goal::new(ms(100), ms(25));
        goal.note_round_trip(ms(5));
        let queued = Arc::new(AtomicUsize::new(0));
        let length = queued.clone();
        (LatencyTarget::new(goal, Arc::new(move || length.load(Ordering::SeqCst))), queued)
    }

    fn most(milliseconds: u64, messages: usize) -> Most {
        Most { time: ms(milliseconds), messages }
    }

    #[test]
    fn what_was_slow_once_is_soon_forgotten_and_what_was_slow_twice_in_a_hundred_is_not() {
        let mut recent = Recent::default();
        let again = |recent: &mut Recent, times| (0..times).for_each(|_| recent.note(ms(2), 9));
        again(&mut recent, 1000);
        recent.note(ms(200), 7);
        again(&mut recent, ALERT - 1);
        assert_eq!(recent.most(), most(200, 9));
        again(&mut recent, ALERT + 1);
        assert_eq!(recent.most(), most(2, 9));
        recent.note(ms(100), 7);
        again(&mut recent, MEMORY - 3 * ALERT);
        assert_eq!(recent.most(), most(100, 9));
        again(&mut recent, 2 * MEMORY);
        assert_eq!(recent.most(), most(2, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_for_as_long_as_the_others_leave_and_less_the_larger_it_is() {
        let (mut target, _) = target();
        let begin = Instant::now();
        assert_eq!((target.due(5), target.messages()), (begin, usize::MAX), "nothing is known");
        target.note_finished(most(20, 100));
        assert_eq!(target.due(1), begin + ms(40));
        assert_eq!(target.due(100), begin + ms(40));
        assert_eq!(target.due(200), begin + ms(20));
        assert_eq!(target.messages(), 300);
        advance(ms(35)).await;
        assert_eq!(target.messages(), 125);
        advance(ms(6)).await;
        assert_eq!(target.messages(), usize::MAX, "it is late, and a small one would be as late");
        target.note_finished(most(70, 100));
        assert_eq!(target.due(1), begin, "a slow store leaves no time");
    }

    #[tokio::test(start_paused = true)]
    async fn messages_are_as_old_as_the_moment_when_they_were_not_there() {
        let (mut target, queued) = target();
        let begin = Instant::now();
        advance(ms(1000)).await;
        // A message wakes the lane; 30 more come until it is processed.
        target.emptied(0);
        assert_eq!(target.cut(1, 0).arrived, begin + ms(1000));
        advance(ms(10)).await;
        queued.store(20, Ordering::SeqCst);
        // Ten were taken of those that came, and are left behind by a full batch.
        let times = target.cut(10, 10);
        assert_eq!(times, Times { arrived: begin + ms(1000), cut: begin + ms(1010) });
        advance(ms(10)).await;
        assert_eq!(target.cut(29, 1).arrived, begin + ms(1000));
        assert_eq!(target.cut(1, 0).arrived, begin + ms(1000));
        assert_eq!(target.cut(1, 0).arrived, begin + ms(1010), "behind those 30");
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_long_backlog_moments_are_forgotten_and_messages_never_seem_younger() {
        let (mut target, queued) = target();
        let begin = Instant::now();
        // In each millisecond two come and one is cut.
        for millisecond in 0..10_000 {
            advance(ms(1)).await;
            queued.store(millisecond + 1, Ordering::SeqCst);
            let arrived = begin + ms(millisecond as u64 / 2);
            let oldest = target.cut(1, 0).arrived;
            assert!(oldest <= arrived, "{oldest:?}");
            assert!(arrived - oldest <= arrived.elapsed() / 16 + ms(2), "{:?}", arrived - oldest);
        }
        assert!(target.arrivals.marks.len() <= MOST_MARKS as usize);
        target.restart();
        target.emptied(0);
        assert_eq!(target.cut(1, 0).arrived, Instant::now());
    }
}
