//! Whether a latency target is met, and how much of it commits take.
//!
//! Place in the data path: beside the [`committer`](super::committer), which tells it of each commit; the lanes' share of the
//! target ([`latency_target`](super::latency_target)) is what it leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::pipeline::latency_target::{Recent, nanos};

/// Until a target counts as met again.
const RECOVERY: Duration = Duration::from_secs(10);

/// What the lanes and the committer of a processor share.
#[derive(Debug)]
pub(crate) struct Goal {
    target: Duration,
    commit_interval: Duration,
    /// From when a batch is finished until its commit is answered, at most.
    commit_nanos: AtomicU64,
}

impl Goal {
    pub(crate) fn new(target: Duration, commit_interval: Duration) -> Arc<Self> {
        let goal = Self { target, commit_interval, commit_nanos: AtomicU64::new(0) };
        // Until a commit was made: as long as may be without commits being left out.
        goal.note_round_trip(commit_interval);
        Arc::new(goal)
    }

    /// A tenth is left for what nobody measures: timers that are late, a task that waits for a CPU.
    pub(super) fn planned(&self) -> Duration {
        self.target / 10 * 9
    }

    pub(super) fn commit_delay(&self) -> Duration {
        Duration::from_nanos(self.commit_nanos.load(Ordering::Relaxed))
    }

    /// A commit begins at each interval, unless the one before is not answered.
    pub(super) fn note_round_trip(&self, longest: Duration) {
        let interval = self.commit_interval.as_nanos().max(1);
        let wait = longest.as_nanos().div_ceil(interval).max(1) * interval;
        self.commit_nanos.store(nanos(wait + longest.as_nanos()), Ordering::Relaxed);
    }
}

/// Whether a target is met: of a hundred commits of a partition's offset, at most one has a message that is late.
#[derive(Debug)]
pub(crate) struct Punctuality {
    goal: Arc<Goal>,
    round_trips: Recent,
    /// A late commit counts a hundred, and one that is in time takes one back.
    score: u32,
    /// The target is missed since the first of these, and was last at the second.
    missed: Option<(Instant, Instant)>,
}

impl Punctuality {
    pub(crate) fn new(goal: Arc<Goal>) -> Self {
        Self { goal, round_trips: Recent::default(), score: 0, missed: None }
    }

    /// The brokers took so long for a commit.
    pub(crate) fn answered(&mut self, round_trip: Duration) {
        self.round_trips.note(round_trip, 0);
        self.goal.note_round_trip(self.round_trips.most().time);
    }

    /// The oldest message of a commit waited so long for it.
    pub(crate) fn committed(&mut self, latency: Duration) {
        if latency <= self.goal.target {
            self.score = self.score.saturating_sub(1);
            return;
        }
        self.score = (self.score + 100).min(200);
        if self.score <= 100 {
            return;
        }
        let now = Instant::now();
        match &mut self.missed {
            Some((_, last)) => *last = now,
            None => {
                self.missed = Some((now, now));
                let (target_ms, latency_ms) = (self.goal.target.as_millis(), latency.as_millis());
                warn!(target_ms, latency_ms, "`target_latency` is not met");
            }
        }
    }

    /// Since when the target is missed.
    pub(crate) fn missed_since(&mut self) -> Option<Instant> {
        if let Some((since, _)) = self.missed.take_if(|(_, last)| last.elapsed() >= RECOVERY) {
            let target_ms = self.goal.target.as_millis();
            info!(target_ms, missed_s = since.elapsed().as_secs(), "`target_latency` is met again");
            self.score = 0;
        }
        self.missed.map(|(since, _)| since)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn commits_that_take_longer_than_the_interval_are_left_out() {
        let goal = Goal::new(ms(100), ms(25));
        assert_eq!(goal.commit_delay(), ms(50));
        for (round_trip, delay) in [(5, 30), (25, 50), (26, 76), (60, 135)] {
            goal.note_round_trip(ms(round_trip));
            assert_eq!(goal.commit_delay(), ms(delay));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_is_missed_where_more_than_one_in_a_hundred_is_late() {
        let mut punctuality = Punctuality::new(Goal::new(ms(100), ms(25)));
        for _ in 0..5 {
            punctuality.committed(ms(101));
            (0..100).for_each(|_| punctuality.committed(ms(100)));
        }
        punctuality.committed(ms(101));
        assert_eq!(punctuality.missed_since(), None);
        let since = Instant::now();
        punctuality.committed(ms(5000));
        punctuality.committed(ms(1));
        advance(ms(9000)).await;
        assert_eq!(punctuality.missed_since(), Some(since));
        advance(ms(1000)).await;
        assert_eq!(punctuality.missed_since(), None);
        punctuality.committed(ms(1));
        punctuality.committed(ms(101));
        assert_eq!(punctuality.missed_since(), None, "what was late before is forgotten");
        punctuality.committed(ms(101));
        assert_eq!(punctuality.missed_since(), Some(Instant::now()));
    }
}
