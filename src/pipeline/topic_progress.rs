//! How far one topic of a lane is: finished, committed, and where its log ends.
//!
//! Place in the data path: beside it, in [`LaneProgress`](super::progress::LaneProgress).
//!
//! The end of the log comes from the client's fetches, once or more a second. Where it does not fetch, because the
//! queue is full (the lane is paused, or slow), its number stands still while the log grows. Then the coordinator
//! asks for it.
//!
//! Invariant: a number of a fetch that has not changed says nothing new, and does not take the place of an answer that
//! came later.

use tokio::time::Instant;

use crate::broker::FetchPosition;
use crate::message::{Offset, TopicPartition};
use crate::pipeline::epoch::Epoch;

/// One topic of a lane.
#[derive(Debug, Clone)]
pub(crate) struct TopicProgress {
    /// Index among the input topics.
    pub(crate) topic: u16,
    pub(crate) partition: TopicPartition,
    /// Knows what is committed.
    pub(crate) epoch: Epoch,
    /// Where the epoch began.
    began: Offset,
    /// The next offset behind the finished messages: what may be committed.
    pub(crate) finished: Offset,
    /// When the oldest message arrived that was finished since somebody last took this, if there is a latency target.
    pub(crate) arrived: Option<Instant>,
    /// How many of its keys are held in a quarantine.
    pub(crate) quarantined: usize,
    /// The end of the log when the partition was assigned.
    pub(crate) target: Offset,
    /// The end of the log as last heard of.
    pub(crate) end: Offset,
    /// It began beyond the end of the log. Being there means nothing then: the broker is about to say
    /// that the offset is out of range, or (under `read_committed`) a transaction is still open.
    pub(crate) began_beyond_end: bool,
    /// Everything below has been put into the lane's queue, as last reported.
    fetched: Option<Offset>,
    /// Everything below is finished, or yields no message.
    consumed: Option<Offset>,
    /// A report had this position, and after it the lane had nothing to do at this time. The next report tells
    /// whether the queue was empty because all was taken, or because the client had dropped what was in it.
    emptied: Option<(Offset, Instant)>,
    /// Positions that were taken before may be those of before a restart.
    reports_from: Instant,
    /// The end of the log in the last report of the fetch position.
    reported_end: Option<Offset>,
    /// What was reported when somebody last asked whether there is news.
    seen: Option<Reported>,
}

/// The fetch position, and the end of the log.
type Reported = (Option<Offset>, Option<Offset>);

impl TopicProgress {
    pub(crate) fn new(
        topic: u16,
        partition: TopicPartition,
        epoch: Epoch,
        start: Offset,
        end: Offset,
    ) -> Self {
        Self {
            topic,
            partition,
            epoch,
            began: start,
            finished: start,
            arrived: None,
            quarantined: 0,
            target: end,
            end,
            began_beyond_end: start > end,
            fetched: None,
            consumed: None,
            emptied: None,
            reports_from: Instant::now(),
            reported_end: None,
            seen: None,
        }
    }

    /// The offset was out of range: a new epoch begins at another one.
    pub(crate) fn move_to(&mut self, epoch: Epoch, offset: Offset) {
        self.epoch = epoch;
        self.began = offset;
        self.finished = offset;
        self.arrived = None;
        self.consumed = None;
        self.began_beyond_end = false;
    }

    /// What was fetched is dropped and fetched again. Positions count again that are taken after `from`, or later if they
    /// do so far: a seek of one partition does not make those true that the client reports of another one just after a rebalance.
    pub(crate) fn restart_reports(&mut self, from: Instant) {
        if fault!(BelieveEmptyQueue) {
            return;
        }
        self.fetched = None;
        self.emptied = None;
        self.reports_from = self.reports_from.max(from);
    }

    /// A report, and whether the lane is `idle` now: its queue is empty, and everything that was in it is finished.
    ///
    /// An empty queue alone says nothing. The sequence that breaks it: a report says "fetched to 1000"; 500 is
    /// finished; another member joins, and the client drops 500 to 999 from the queue, to fetch them again after the
    /// rebalance; the lane sees the empty queue before this process hears of the rebalance. So the position counts
    /// only when a later report comes with no rebalance before it: no report has a position while a rebalance
    /// waits for its answer, and [`restart_reports`](Self::restart_reports) forgets what was seen before.
    pub(crate) fn note(&mut self, position: &FetchPosition, taken: Instant, idle: bool) {
        if taken > self.reports_from {
            self.note_fetched(position.fetched, taken, idle);
        }
        if position.end.is_some() && position.end != self.reported_end {
            self.reported_end = position.end;
            self.end = position.end.unwrap_or(self.end);
        }
    }

    fn note_fetched(&mut self, fetched: Option<Offset>, taken: Instant, idle: bool) {
        self.fetched = fetched;
        let Some(fetched) = fetched else {
            self.emptied = None;
            return;
        };
        if let Some((offset, at)) = self.emptied
            && taken > at
        {
            self.consumed = self.consumed.max(Some(offset));
            self.emptied = None;
        }
        if idle && self.emptied.is_none() {
            self.emptied = Some((fetched, Instant::now()));
        }
    }

    /// Whether everything below `bound` is finished, or yields no message.
    pub(crate) fn is_consumed_to(&self, bound: Offset) -> bool {
        let finished = self.finished >= bound && !self.began_beyond_end;
        finished || self.consumed.is_some_and(|consumed| consumed >= bound)
    }

    pub(crate) fn is_fetched_to(&self, bound: Offset) -> bool {
        self.fetched >= Some(bound)
    }

    /// Whether reports have brought nothing new since this was asked last. At the end of the log, with an empty
    /// queue (the lane is `idle`), that is as it should be: a fetch waits there for the next message.
    pub(crate) fn lacks_news(&mut self, idle: bool) -> bool {
        let reported = (self.fetched, self.reported_end);
        let unchanged = self.seen.replace(reported) == Some(reported);
        unchanged && !(idle && self.is_fetched())
    }

    /// The end of the log, as asked for when there was [no news](Self::lacks_news). By now there may be.
    pub(crate) fn note_end(&mut self, end: Offset) {
        if self.seen == Some((self.fetched, self.reported_end)) {
            self.end = end;
        }
    }

    fn is_fetched(&self) -> bool {
        self.fetched.is_some_and(|fetched| fetched >= self.end)
    }

    /// Offsets that are not known to be finished, or to yield no message.
    pub(crate) fn lag(&self) -> u64 {
        between(
            self.consumed.map_or(self.finished, |consumed| consumed.max(self.finished)),
            self.end,
        )
    }

    pub(crate) fn committed_lag(&self) -> u64 {
        between(self.epoch.committed().unwrap_or(self.began), self.end)
    }
}

/// Offsets from one to the other; none if they are the other way round.
fn between(from: Offset, to: Offset) -> u64 {
    u64::try_from(to.get() - from.get()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(offset: i64) -> Offset {
        Offset::new(offset)
    }

    /// Began at 10, when the log ended at 100.
    fn topic() -> TopicProgress {
        TopicProgress::new(
            0,
            TopicPartition::new("a", 0),
            Epoch::new(1, None),
            offset(10),
            offset(100),
        )
    }

    fn report(topic: &mut TopicProgress, fetched: i64, end: i64) {
        let partition = topic.partition.clone();
        let (fetched, end) = (Some(offset(fetched)), Some(offset(end)));
        topic.note(
            &FetchPosition { partition, fetched, end, queued_bytes: 0 },
            Instant::now(),
            false,
        );
    }

    /// A report of the position alone, some time later, and whether the lane is idle when it comes.
    async fn position(topic: &mut TopicProgress, fetched: Option<i64>, idle: bool) {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let (partition, fetched) = (topic.partition.clone(), fetched.map(offset));
        let position = FetchPosition { partition, fetched, end: None, queued_bytes: 0 };
        topic.note(&position, Instant::now(), idle);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_queue_counts_when_the_next_report_confirms_it() {
        let mut topic = topic();
        position(&mut topic, Some(100), false).await;
        position(&mut topic, Some(100), true).await;
        assert!(
            !topic.is_consumed_to(offset(100)),
            "the client may just have dropped what was in the queue"
        );
        position(&mut topic, Some(100), false).await;
        assert!(topic.is_consumed_to(offset(100)));
        assert_eq!(topic.lag(), 0);
        topic.restart_reports(Instant::now());
        assert!(topic.is_consumed_to(offset(100)), "what is consumed stays so");
    }

    /// After a rebalance, another partition of the process was sought, and old positions counted again.
    #[tokio::test(start_paused = true)]
    async fn a_seek_does_not_shorten_the_time_after_a_rebalance() {
        let mut topic = topic();
        topic.restart_reports(Instant::now() + std::time::Duration::from_secs(3));
        topic.restart_reports(Instant::now());
        for _ in 0..3 {
            position(&mut topic, Some(100), true).await;
        }
        assert!(!topic.is_consumed_to(offset(100)));
        for _ in 0..6 {
            position(&mut topic, Some(100), true).await;
        }
        assert!(topic.is_consumed_to(offset(100)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rebalance_between_the_reports_denies_it() {
        for restarts in [false, true] {
            let mut topic = topic();
            position(&mut topic, Some(100), true).await;
            if restarts {
                topic.restart_reports(Instant::now());
            } else {
                position(&mut topic, None, true).await;
            }
            position(&mut topic, Some(100), true).await;
            assert!(!topic.is_consumed_to(offset(100)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_position_of_before_a_restart_does_not_count() {
        let mut topic = topic();
        topic.restart_reports(Instant::now() + std::time::Duration::from_secs(3));
        for _ in 0..6 {
            position(&mut topic, Some(100), true).await;
        }
        assert!(!topic.is_consumed_to(offset(100)));
        for _ in 0..2 {
            position(&mut topic, Some(100), true).await;
        }
        assert!(topic.is_consumed_to(offset(100)));
    }

    #[test]
    fn a_number_that_stands_still_is_asked_for() {
        let mut topic = topic();
        assert!(!topic.lacks_news(false), "the end was looked up at the assignment");
        assert!(topic.lacks_news(false), "no report came");
        report(&mut topic, 50, 100);
        assert!(!topic.lacks_news(false));
        report(&mut topic, 50, 100);
        assert!(topic.lacks_news(false));
        topic.note_end(offset(300));
        report(&mut topic, 50, 100);
        assert_eq!((topic.end, topic.lag()), (offset(300), 290), "100 is no news");
        assert!(topic.lacks_news(false), "nor will it be");
        report(&mut topic, 60, 310);
        assert_eq!(topic.end, offset(310));
        assert!(!topic.lacks_news(false));
    }

    #[test]
    fn at_the_end_only_an_idle_lane_needs_no_answer() {
        let mut topic = topic();
        report(&mut topic, 100, 100);
        topic.lacks_news(true);
        assert!(!topic.lacks_news(true), "a fetch waits for the next message");
        assert!(topic.lacks_news(false), "a full queue stops fetching, also at the end");
        topic.note_end(offset(120));
        assert!(topic.lacks_news(true), "it is the end no more");
    }

    #[test]
    fn an_answer_that_comes_after_news_is_old() {
        let mut topic = topic();
        report(&mut topic, 50, 100);
        topic.lacks_news(false);
        assert!(topic.lacks_news(false));
        report(&mut topic, 60, 400);
        topic.note_end(offset(300));
        assert_eq!(topic.end, offset(400));
    }

    #[test]
    fn a_log_that_was_cut_off_has_less() {
        let mut topic = topic();
        report(&mut topic, 50, 100);
        topic.lacks_news(false);
        assert!(topic.lacks_news(false));
        topic.note_end(offset(20));
        assert_eq!((topic.end, topic.lag()), (offset(20), 10));
        topic.note_end(offset(5));
        assert_eq!((topic.lag(), topic.committed_lag()), (0, 0), "never below zero");
        report(&mut topic, 50, 30);
        assert_eq!(topic.end, offset(30), "a report that has changed counts");
    }

    #[test]
    fn what_is_not_committed_yet_counts_from_where_it_began() {
        let mut topic = topic();
        assert_eq!(topic.committed_lag(), 90);
        topic.finished = offset(100);
        assert_eq!((topic.lag(), topic.committed_lag()), (0, 90));
        topic.epoch.note_committed(offset(99));
        assert_eq!(topic.committed_lag(), 1);
        topic.move_to(Epoch::new(2, None), offset(40));
        assert_eq!((topic.lag(), topic.committed_lag()), (60, 60));
    }
}
