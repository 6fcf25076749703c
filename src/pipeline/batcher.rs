//! The batcher: takes messages from a partition number's queue and cuts them into batches.
//!
//! Place in the data path: first stage. A batch is cut when it has as many messages as the
//! [`batch_window`](super::batch_window) allows, when the next message would take it over the window's bytes, or when its first message is `max_batch_wait`
//! old and nothing more has arrived. With the default wait of zero a batch is what has arrived, up to the window: it
//! grows with the load by itself. A message larger than the byte limit makes a batch of its own. With a
//! [`latency_target`](super::latency_target), that says how long a batch waits, and may set a lower limit of messages.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::broker::{Queue, QueueError, QueueLength};
use crate::message::need::Need;
use crate::message::{Batch, Record};
use crate::pipeline::batch_window::BatchWindow;
use crate::pipeline::latency_target::{LatencyTarget, Most, Times};
use crate::pipeline::progress::LaneProgress;
use crate::pipeline::punctuality::Goal;
use crate::settings::BatchLimits;

/// A queue's wake-up is never lost, as far as anybody knows. Should one be, this bounds the damage.
const SAFETY_NET: Duration = Duration::from_secs(5);

/// What a message is thought to weigh before the first has been seen.
const FIRST_GUESS_BYTES: usize = 1024;

pub(crate) struct Batcher {
    partition: i32,
    topics: Arc<[Arc<str>]>,
    window: BatchWindow,
    max_wait: Duration,
    target: Option<LatencyTarget>,
    queue: Box<dyn Queue>,
    arrived: Arc<Notify>,
    /// Taken from the queue and not yet in a batch; the first `fitting` of them fit the next one.
    buffer: Vec<Record>,
    fitting: usize,
    fitting_bytes: usize,
    /// The message behind `fitting` would take the batch over its byte limit.
    over: bool,
    first_taken: Option<Instant>,
    cut_age: Duration,
    /// Of the last batch, if there is a target.
    times: Option<Times>,
    average_bytes: usize,
    /// An error found behind messages that are still to be processed.
    error: Option<QueueError>,
    spare: Vec<Record>,
    /// Whether the last batch had to wait.
    waited: bool,
    /// A batch that was processed, while its messages are not yet dropped.
    used: Option<Batch>,
    /// Of the buffers of records.
    need: Need,
}

impl Batcher {
    pub(crate) fn new(
        partition: i32,
        topics: Arc<[Arc<str>]>,
        limits: BatchLimits,
        queue: Box<dyn Queue>,
    ) -> Self {
        Self {
            partition,
            topics,
            window: BatchWindow::new(limits),
            max_wait: limits.max_wait,
            target: None,
            arrived: queue.arrived(),
            queue,
            buffer: Vec::new(),
            fitting: 0,
            fitting_bytes: 0,
            over: false,
            first_taken: None,
            cut_age: Duration::ZERO,
            times: None,
            average_bytes: FIRST_GUESS_BYTES,
            error: None,
            spare: Vec::new(),
            waited: false,
            used: None,
            need: Need::default(),
        }
    }

    /// Takes over when batches are cut, in place of `max_wait`.
    pub(crate) fn with_target(mut self, goal: Option<Arc<Goal>>) -> Self {
        self.target = goal.map(|goal| LatencyTarget::new(goal, self.queue.length()));
        self
    }

    /// Counts what waits in the queue.
    pub(crate) fn queue_length(&self) -> QueueLength {
        self.queue.length()
    }

    /// The next batch. Waits for messages as long as it takes.
    ///
    /// Cancel-safe: messages are only in the buffer across an await, and stay there.
    pub(crate) async fn next(&mut self, progress: &LaneProgress) -> Result<Batch, QueueError> {
        loop {
            self.measure();
            if self.is_full() {
                return Ok(self.cut());
            }
            // Before the take, not after it: else somebody who sees the queue empty in between would
            // take the messages just moved here for processed ones.
            progress.waiting.store(false, Ordering::SeqCst);
            if self.take()? > 0 {
                self.first_taken.get_or_insert_with(Instant::now);
            } else if self.buffer.is_empty() {
                self.drop_used();
                progress.waiting.store(true, Ordering::SeqCst);
                progress.changed();
                self.wait_for_messages().await;
                self.note_emptied();
            } else if !self.wait_for_more().await {
                return Ok(self.cut());
            }
        }
    }

    /// Takes what fits into the batch by count and, by the average size seen, about by bytes.
    fn take(&mut self) -> Result<usize, QueueError> {
        if let Some(error) = self.error.take_if(|_| self.buffer.is_empty()) {
            return Err(error);
        }
        if self.error.is_some() {
            return Ok(0);
        }
        let by_count = self.max_messages().saturating_sub(self.buffer.len());
        let by_bytes =
            self.window.bytes().saturating_sub(self.fitting_bytes) / self.average_bytes.max(1);
        let taken = self.queue.take(by_count.min(by_bytes).max(1), &mut self.buffer);
        self.error = taken.error;
        if taken.messages == 0 && self.error.is_none() {
            self.note_emptied();
        }
        match self.error.take_if(|_| self.buffer.is_empty()) {
            Some(error) => Err(error),
            None => Ok(taken.messages),
        }
    }

    /// To be called before something else is done than taking messages: those that arrive meanwhile are not older than that.
    pub(crate) fn look(&mut self) {
        if let Some(target) = &mut self.target {
            target.look(self.buffer.len());
        }
    }

    fn note_emptied(&mut self) {
        if let Some(target) = &mut self.target {
            target.emptied(self.buffer.len());
        }
    }

    fn max_messages(&self) -> usize {
        let window = self.window.messages();
        self.target.as_ref().map_or(window, |target| target.messages().min(window))
    }

    async fn wait_for_messages(&mut self) {
        if timeout(SAFETY_NET, self.arrived.notified()).await.is_err() {
            // Nothing to do: the caller looks at the queue again.
        }
    }

    /// Whether something arrived before the batch came of age.
    async fn wait_for_more(&mut self) -> bool {
        let Some(first) = self.first_taken else { return false };
        let due = match &self.target {
            Some(target) => Some(target.due(self.fitting)),
            None => first.checked_add(self.max_wait),
        };
        if self.error.is_some() || due.is_some_and(|due| due <= Instant::now()) {
            return false;
        }
        self.drop_used();
        let of_age = async {
            match due {
                Some(time) => sleep_until(time).await,
                // Beyond what the clock can tell.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = of_age => false,
            () = self.arrived.notified() => true,
        }
    }

    /// Moves `fitting` over the messages that fit.
    fn measure(&mut self) {
        let (most, most_bytes) = (self.window.messages(), self.window.bytes());
        let (mut fitting, mut bytes) = (self.fitting, self.fitting_bytes);
        for record in &self.buffer[fitting..] {
            let size = record.size();
            if fitting == most || (fitting > 0 && bytes + size > most_bytes) {
                self.over = true;
                break;
            }
            fitting += 1;
            bytes += size;
        }
        if fitting > self.fitting {
            self.average_bytes = bytes / fitting;
        }
        (self.fitting, self.fitting_bytes) = (fitting, bytes);
    }

    fn is_full(&self) -> bool {
        self.over
            || self.fitting >= self.max_messages()
            || (self.fitting > 0 && self.fitting_bytes >= self.window.bytes())
    }

    /// How long ago the first message of the last batch was taken when it was cut.
    pub(crate) fn cut_age(&self) -> Duration {
        self.cut_age
    }

    /// When the last batch was cut, and when its oldest message arrived, if there is a target.
    pub(crate) fn times(&self) -> Option<Times> {
        self.times
    }

    fn cut(&mut self) -> Batch {
        self.cut_age = self.first_taken.map_or(Duration::ZERO, |taken| taken.elapsed());
        let mut rest = std::mem::take(&mut self.spare);
        rest.extend(self.buffer.drain(self.fitting..));
        let records = std::mem::replace(&mut self.buffer, rest);
        self.need.note(records.len());
        let left = self.buffer.len();
        self.times = self.target.as_mut().map(|target| target.cut(records.len(), left));
        let bytes = self.fitting_bytes;
        self.restart_measuring();
        Batch::new(self.partition, self.topics.clone(), records, bytes, self.queue.keepalive())
    }

    fn restart_measuring(&mut self) {
        self.fitting = 0;
        self.fitting_bytes = 0;
        self.over = false;
        // What stays behind is as old as what went: it counts from the same moment.
        if self.buffer.is_empty() {
            self.first_taken = None;
        }
    }

    /// A batch was processed; whether it took a wait says how large the next ones may be.
    pub(crate) fn processed(&mut self, waited: bool) {
        self.waited = waited;
        self.window.processed(waited);
    }

    /// What batches took until they were finished, and how large they were.
    pub(crate) fn note_finished(&mut self, most: Most) {
        if let Some(target) = &mut self.target {
            target.note_finished(most);
        }
    }

    /// Takes a batch that is done with. If it had to wait, the next one likely has to, too: its messages are dropped
    /// then. Dropping 10,000 takes about half a millisecond, in which the store can work.
    pub(crate) fn recycle(&mut self, batch: Batch) {
        self.drop_used();
        self.used = Some(batch);
        if !self.waited {
            self.drop_used();
        }
    }

    /// To be called when something is waited for. The next batch gets the memory of the records.
    pub(crate) fn drop_used(&mut self) {
        let Some(used) = self.used.take() else { return };
        let records = used.into_spent();
        if self.spare.capacity() < records.capacity() {
            self.spare = records;
        }
        self.need.trim(&mut self.spare);
    }

    /// Drops the buffered messages of all topics but these, and an error of another one; the others
    /// were revoked.
    pub(crate) fn retain_topics(&mut self, topics: &[u16]) {
        let mut kept = topics.iter().map(|topic| &self.topics[usize::from(*topic)]);
        self.error.take_if(|error| !kept.any(|topic| **topic == *error.partition.topic));
        self.keep_only(|record| topics.contains(&record.topic));
    }

    /// Drops everything buffered: what follows comes from a new position.
    pub(crate) fn clear(&mut self) {
        self.error = None;
        self.keep_only(|_| false);
    }

    fn keep_only(&mut self, wanted: impl FnMut(&Record) -> bool) {
        if fault!(KeepBuffer) {
            return;
        }
        self.buffer.retain(wanted);
        if let Some(target) = &mut self.target {
            target.restart();
        }
        self.restart_measuring();
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        // The records point into the client that the queue keeps alive.
        self.buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::{ScriptedQueue, record};
    use crate::message::TopicPartition;

    fn batcher(limits: BatchLimits) -> (Batcher, ScriptedQueue, LaneProgress) {
        let queue = ScriptedQueue::default();
        let topics: Arc<[Arc<str>]> = ["a".into(), "b".into()].into();
        let batcher = Batcher::new(0, topics, limits, Box::new(queue.clone()));
        (batcher, queue, LaneProgress::for_test())
    }

    fn limits(max_messages: usize, max_bytes: usize, max_wait_ms: u64) -> BatchLimits {
        let max_wait = Duration::from_millis(max_wait_ms);
        BatchLimits { max_messages, max_bytes, max_wait, is_fixed: false }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_cut_at_its_message_limit() {
        let (mut batcher, queue, progress) = batcher(limits(2, 1000, 0));
        queue.push((0..5).map(|offset| record(0, offset, 1)));
        let sizes = [2, 2, 1];
        for size in sizes {
            assert_eq!(batcher.next(&progress).await.unwrap().len(), size);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_cut_before_its_byte_limit_and_an_oversize_message_fits_an_empty_one() {
        let (mut batcher, queue, progress) = batcher(limits(100, 10, 0));
        queue.push([4, 4, 4, 50, 1].into_iter().zip(0..).map(|(size, o)| record(0, o, size)));
        let mut sizes = Vec::new();
        for _ in 0..4 {
            let batch = batcher.next(&progress).await.unwrap();
            sizes.push((batch.len(), batch.bytes()));
            batcher.recycle(batch);
        }
        assert_eq!(sizes, [(2, 8), (1, 4), (1, 50), (1, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_comes_of_age_counted_from_its_first_message() {
        let (mut batcher, queue, progress) = batcher(limits(100, 1000, 50));
        let started = Instant::now();
        let feed = async {
            for offset in 0..4 {
                queue.push([record(0, offset, 1)]);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (batch, ()) = tokio::join!(batcher.next(&progress), feed);
        assert_eq!(batch.unwrap().len(), 3, "0, 20 and 40 ms, not 60 ms");
        assert_eq!(started.elapsed().as_millis(), 80);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_beyond_the_clock_ends_with_a_full_batch() {
        let (mut batcher, queue, progress) = batcher(limits(2, 1000, 0));
        batcher.max_wait = Duration::MAX;
        queue.push([record(0, 0, 1)]);
        let wait = timeout(Duration::from_secs(3600), batcher.next(&progress)).await;
        assert!(wait.is_err());
        queue.push([record(0, 1, 1)]);
        assert_eq!(batcher.next(&progress).await.unwrap().len(), 2);
    }

    /// One batch of many messages, and the lane kept room for as many for as long as it lived.
    #[tokio::test(start_paused = true)]
    async fn the_memory_of_a_large_batch_is_given_back() {
        let (mut batcher, queue, progress) = batcher(limits(1_000_000, 1 << 30, 0));
        queue.push((0..100_000).map(|offset| record(0, offset, 1)));
        for _ in 0..100 {
            let batch = batcher.next(&progress).await.unwrap();
            batcher.recycle(batch);
            queue.push([record(0, 200_000, 1)]);
        }
        assert!(batcher.spare.capacity() + batcher.buffer.capacity() < 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_waited_is_dropped_during_the_next_wait() {
        for waited in [true, false] {
            let (mut batcher, queue, progress) = batcher(limits(2, 1000, 0));
            queue.push((0..4).map(|offset| record(0, offset, 1)));
            let first = batcher.next(&progress).await.unwrap();
            batcher.processed(waited);
            batcher.recycle(first);
            let second = batcher.next(&progress).await.unwrap();
            assert_eq!((second.len(), batcher.used.is_some()), (2, waited));
            batcher.recycle(second);
            // Nothing more is there.
            assert!(timeout(Duration::from_millis(1), batcher.next(&progress)).await.is_err());
            assert!(batcher.used.is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_wait_loses_no_message() {
        let (mut batcher, queue, progress) = batcher(limits(100, 1000, 50));
        queue.push([record(0, 0, 1)]);
        let wait = timeout(Duration::from_millis(10), batcher.next(&progress)).await;
        assert!(wait.is_err());
        queue.push([record(0, 1, 1)]);
        assert_eq!(batcher.next(&progress).await.unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_comes_after_the_messages_before_it() {
        let (mut batcher, queue, progress) = batcher(limits(100, 1000, 0));
        queue.push([record(0, 0, 1)]);
        queue.fail("truncated");
        assert_eq!(batcher.next(&progress).await.unwrap().len(), 1);
        assert!(batcher.next(&progress).await.is_err());
    }

    /// The error of a topic that is no longer ours failed the lane that still has the other one.
    #[tokio::test(start_paused = true)]
    async fn a_revoked_topics_error_is_dropped() {
        for (kept, fails) in [(0, true), (1, false)] {
            let (mut batcher, queue, progress) = batcher(limits(100, 1000, 0));
            let error = crate::Error::new(crate::ErrorKind::Unauthorized, "no");
            batcher.error = Some(QueueError { partition: TopicPartition::new("a", 0), error });
            batcher.retain_topics(&[kept]);
            queue.push([record(kept, 0, 1)]);
            assert_eq!(batcher.next(&progress).await.is_err(), fails);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_revoked_topics_messages_are_dropped_and_the_others_kept() {
        let (mut batcher, queue, progress) = batcher(limits(100, 2, 0));
        queue.push([record(0, 0, 1), record(0, 1, 5)]);
        let batch = batcher.next(&progress).await.unwrap();
        assert_eq!(batch.len(), 1, "the second is too large for this batch, and stays buffered");
        batcher.retain_topics(&[1]);
        queue.push([record(1, 0, 1)]);
        let batch = batcher.next(&progress).await.unwrap();
        assert_eq!((batch.len(), batch.topic("b").count()), (1, 1));
    }
}
