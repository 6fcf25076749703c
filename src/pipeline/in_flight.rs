//! Batches that were processed, and ticks, that wait for the acks of what they sent.
//!
//! Place in the data path: behind the [call](super::call). Calls leave in the order in which they came; leaving
//! is what makes a batch *finished*. So no batch behind a tick is finished before the tick's messages are acked. After
//! a failed one nothing finishes any more.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use crate::error::Error;
use crate::message::delivery::Delivery;
use crate::message::outbox::Outbox;
use crate::message::rejected::Letters;
use crate::message::undelivered::{DeliveryFailure, Fault};
use crate::message::{Batch, Offset, OffsetRange};
use crate::metrics::lane::LaneMetrics;
use crate::on_error::Reason;
use crate::pipeline::call::Call;
use crate::pipeline::latency_target::{Most, Recent, Times};
use crate::pipeline::letters::{Post, Posted};
use crate::pipeline::progress::{Board, LaneProgress};
use crate::pipeline::suspects::Suspect;
use crate::settings::FlightLimits;

/// So many send buffers are kept for the next batches: few, so that their memory is still in the
/// processor's caches.
const KEPT_BUFFERS: usize = 2;

/// A call of the user's code that has returned.
pub(crate) struct InFlight {
    method: &'static str,
    /// What `process` was called with; the other methods get no messages.
    input: Option<Input>,
    deliveries: VecDeque<Arc<Delivery>>,
    letters: Letters,
    /// It is waited for, so that nothing overtakes it, and does not finish.
    is_abandoned: bool,
}

/// Of a batch, what is left to tell when it is finished.
struct Input {
    ranges: Vec<(u16, OffsetRange)>,
    messages: usize,
    bytes: usize,
    /// If there is a latency target.
    times: Option<Times>,
    /// It failed before: how long it took says nothing of what batches take.
    is_recovered: bool,
}

impl InFlight {
    /// `times` are the batch's.
    pub(crate) fn new(
        call: &Call,
        deliveries: VecDeque<Arc<Delivery>>,
        times: Option<Times>,
    ) -> Self {
        let input = call.batch().map(|batch| Input::of(batch, times));
        Self {
            method: call.method(),
            input,
            deliveries,
            letters: Letters::default(),
            is_abandoned: false,
        }
    }

    /// What was sent for a batch that was given up.
    pub(crate) fn abandoned(deliveries: VecDeque<Arc<Delivery>>) -> Self {
        let letters = Letters::default();
        Self { method: "process", input: None, deliveries, letters, is_abandoned: true }
    }

    pub(crate) fn with_letters(self, letters: Letters) -> Self {
        Self { letters, ..self }
    }

    pub(crate) fn recovered(mut self) -> Self {
        if let Some(input) = &mut self.input {
            input.is_recovered = true;
        }
        self
    }

    fn outgoing(&self) -> impl Iterator<Item = &Arc<Delivery>> {
        self.deliveries.iter().chain(&self.letters.deliveries)
    }

    fn outgoing_bytes(&self) -> usize {
        self.outgoing().map(|delivery| delivery.bytes()).sum()
    }
}

impl Input {
    #[allow(clippy::cast_possible_truncation, reason = "the builder allows 65,535 topics")]
    fn of(batch: &Batch, times: Option<Times>) -> Self {
        let ranges = batch.ranges().iter().enumerate();
        Self {
            ranges: ranges.filter_map(|(i, range)| range.map(|range| (i as u16, range))).collect(),
            messages: batch.len(),
            bytes: batch.bytes(),
            times,
            is_recovered: false,
        }
    }
}

/// Why a call does not finish.
#[derive(Debug)]
pub(crate) enum NotFinished {
    Failed(Error),
    /// The user's policy has messages of the batch rejected.
    Suspect(Box<Suspect>),
    /// Letters are not delivered, and the partition is about to be given back.
    GaveUpLetters,
}

pub(crate) struct InFlightQueue {
    limits: FlightLimits,
    calls: VecDeque<InFlight>,
    /// How many of them have no batch.
    ticks: usize,
    tick_finished: Option<Instant>,
    /// What batches took from the cut until they were finished, if there is a latency target.
    recent: Recent,
    outgoing_bytes: usize,
    /// A call's delivery failed: those behind it are waited for, and never finish.
    failed: bool,
    /// Send buffers of finished batches, which the next ones take. At once, not when they are taken: a
    /// forwarded batch would stay in memory for as long as its lane has nothing to do.
    spent: VecDeque<Outbox>,
    post: Post,
    /// Messages are rejected whose output cannot be produced.
    rejects: bool,
    progress: Arc<LaneProgress>,
    board: Arc<Board>,
    metrics: Arc<LaneMetrics>,
}

impl InFlightQueue {
    pub(crate) fn new(
        limits: FlightLimits,
        post: Post,
        rejects: bool,
        progress: Arc<LaneProgress>,
        board: Arc<Board>,
        metrics: Arc<LaneMetrics>,
    ) -> Self {
        Self {
            limits,
            post,
            rejects,
            calls: VecDeque::new(),
            ticks: 0,
            tick_finished: None,
            recent: Recent::default(),
            outgoing_bytes: 0,
            failed: false,
            spent: VecDeque::new(),
            progress,
            board,
            metrics,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.has_most_batches() && self.outgoing_bytes < self.limits.max_bytes
    }

    /// No batch may begin until the oldest call is acknowledged, which it is not, however few bytes are in flight.
    pub(crate) fn waits_for_acks(&self) -> bool {
        let front = self.calls.front().filter(|_| self.has_most_batches());
        front.is_some_and(|front| front.outgoing().any(|delivery| !delivery.is_finished()))
    }

    fn has_most_batches(&self) -> bool {
        self.calls.len() >= self.limits.max_batches
    }

    /// Whether a call without a batch waits for its acks.
    pub(crate) fn has_tick(&self) -> bool {
        self.ticks > 0
    }

    /// When the last such call was finished.
    pub(crate) fn tick_finished(&self) -> Option<Instant> {
        self.tick_finished
    }

    /// What recent batches took until they were finished; nothing without a latency target.
    pub(crate) fn most(&self) -> Most {
        self.recent.most()
    }

    pub(crate) fn push(&mut self, call: InFlight) {
        self.ticks += usize::from(call.input.is_none() && !call.is_abandoned);
        self.outgoing_bytes += call.outgoing_bytes();
        // Those that find no room now are sent when the call is the oldest.
        call.letters.deliveries.iter().for_each(|letters| self.post.try_send(letters));
        self.calls.push_back(call);
    }

    pub(crate) fn take_spent(&mut self) -> Option<Outbox> {
        self.spent.pop_back()
    }

    /// Waits for the acks of the oldest call and takes it out; never done while there is none.
    /// Cancel-safe: the call leaves after the last wait.
    ///
    /// # Errors
    /// The call's delivery failed, as the first one of this lane.
    pub(crate) async fn front_finished(&mut self) -> Result<(), NotFinished> {
        let Some(front) = self.calls.front() else { return std::future::pending().await };
        for delivery in &front.deliveries {
            if fault!(CommitBeforeAcks) {
                continue;
            }
            if fault!(ForgetTicks) && front.input.is_none() {
                continue;
            }
            delivery.finished().await;
        }
        if self.deliver_letters().await == Posted::GivenUp {
            self.failed = true;
            return Err(NotFinished::GaveUpLetters);
        }
        self.calls.pop_front().map_or(Ok(()), |front| self.finish(front))
    }

    /// Of the oldest call. Behind one that failed they are waited for, and not sent again.
    async fn deliver_letters(&mut self) -> Posted {
        let Some(front) = self.calls.front_mut() else { return Posted::Done };
        let letters = &mut front.letters.deliveries;
        if fault!(ForgetLetters) {
            return Posted::Done;
        }
        if !self.failed {
            return self.post.deliver(letters).await;
        }
        for letter in &*letters {
            self.post.abandon(letter);
            letter.finished().await;
        }
        Posted::Done
    }

    fn finish(&mut self, front: InFlight) -> Result<(), NotFinished> {
        self.outgoing_bytes -= front.outgoing_bytes();
        self.failed |= front.is_abandoned;
        if self.failed {
            return Ok(());
        }
        let failed = front.outgoing().find_map(|delivery| Some((delivery, delivery.failure()?)));
        let failed = failed.filter(|_| !fault!(IgnoreDeliveryFailure));
        if let Some((delivery, failure)) = failed {
            self.failed = true;
            return Err(self.not_finished(delivery, &failure, &front));
        }
        match &front.input {
            Some(input) => {
                let ranges = input.ranges.iter();
                let next: Vec<(u16, Offset)> =
                    ranges.map(|(topic, range)| (*topic, range.last.next())).collect();
                let rejections = &front.letters.rejections;
                self.board.add_batch(input.messages, input.bytes, rejections.len());
                self.metrics.rejected(rejections);
                if let Some(times) = input.times.filter(|_| !input.is_recovered) {
                    self.recent.note(times.cut.elapsed(), input.messages);
                }
                self.progress.finish_batch(&next, input.times.map(|times| times.arrived));
            }
            None => {
                self.ticks -= 1;
                self.tick_finished = Some(Instant::now());
            }
        }
        front.outgoing().for_each(|delivery| self.metrics.acknowledged(delivery));
        self.spent.extend(front.deliveries.into_iter().filter_map(Delivery::into_spent));
        self.spent.truncate(KEPT_BUFFERS);
        Ok(())
    }

    fn not_finished(
        &self,
        delivery: &Arc<Delivery>,
        failure: &DeliveryFailure,
        call: &InFlight,
    ) -> NotFinished {
        let error = self.locate(failure.error(), call);
        let is_letter =
            call.letters.deliveries.iter().any(|letters| Arc::ptr_eq(letters, delivery));
        let input = call.input.as_ref().filter(|_| self.rejects && !is_letter);
        match (failure.fault(), input) {
            (Fault::None, _) | (_, None) => NotFinished::Failed(error),
            (fault, Some(input)) => {
                let causes = match fault {
                    Fault::Message(index) => delivery.causes(index),
                    Fault::None | Fault::Request | Fault::Beside => Vec::new(),
                };
                let reason = Reason::of(&error, 1);
                let ranges = input.ranges.clone();
                NotFinished::Suspect(Box::new(Suspect { ranges, causes, reason }))
            }
        }
    }

    /// Says which input the undeliverable message was made from, or where it was sent if there was none.
    fn locate(&self, mut error: Error, call: &InFlight) -> Error {
        let Some(input) = &call.input else {
            return error.with("sent_by", call.method).with("partition", self.progress.partition);
        };
        let status = self.progress.status();
        for (topic, range) in &input.ranges {
            if let Some(progress) = status.topics.iter().find(|t| t.topic == *topic) {
                let input = format!("{} {range}", progress.partition);
                error = error.with("batch", input);
            }
        }
        error.with("partition", self.progress.partition)
    }
}

impl Drop for InFlightQueue {
    fn drop(&mut self) {
        for letters in self.calls.iter().flat_map(|call| &call.letters.deliveries) {
            self.post.abandon(letters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::record;
    use crate::message::OutgoingMessage;
    use crate::message::need::KEPT_BYTES;
    use crate::metrics::processor::ProcessorMetrics;

    /// A lane, a batch of two messages of 100 bytes, and what it sends to be filled.
    fn lane() -> (InFlightQueue, Arc<Batch>, Outbox) {
        let topics: Arc<[Arc<str>]> = ["in".into()].into();
        let metrics = LaneMetrics::new(ProcessorMetrics::off(), &topics, 0);
        let limits = FlightLimits { max_batches: 16, max_bytes: 1 << 30 };
        let progress = Arc::new(LaneProgress::for_test());
        let post = Post::for_test();
        let queue = InFlightQueue::new(limits, post, false, progress, Board::new(), metrics);
        let records = vec![record(0, 0, 100), record(0, 1, 100)];
        let batch = Arc::new(Batch::new(0, topics, records, 200, None));
        let mut outbox = Outbox::default();
        outbox.begin(Some(batch.clone()));
        (queue, batch, outbox)
    }

    /// Sends it all and acknowledges it.
    async fn finish(queue: &mut InFlightQueue, batch: &Arc<Batch>, outbox: &mut Outbox) {
        let delivery = outbox.take(queue.take_spent());
        queue.push(InFlight::new(&Call::Process(batch.clone()), [delivery.clone()].into(), None));
        delivery.count_down(delivery.len());
        drop(delivery);
        queue.front_finished().await.unwrap();
    }

    /// The buffer that the next batch was to take kept the batch, for as long as none came.
    #[tokio::test]
    async fn a_batch_that_was_forwarded_is_not_kept() {
        let (mut queue, batch, mut outbox) = lane();
        batch.iter().for_each(|message| outbox.push_forwarded("out", &message));
        finish(&mut queue, &batch, &mut outbox).await;
        outbox.end();
        assert_eq!(Arc::strong_count(&batch), 1);
    }

    #[tokio::test]
    async fn of_a_large_batchs_send_buffer_no_more_than_the_bound_is_kept() {
        let (mut queue, batch, mut outbox) = lane();
        for _ in 0..100_000 {
            outbox.push(OutgoingMessage::new("out").value(vec![0; 1000]).header("name", "x"));
        }
        finish(&mut queue, &batch, &mut outbox).await;
        let kept = queue.spent.iter().map(Outbox::kept_bytes).sum::<usize>();
        assert!(kept > 0, "a buffer is used again");
        assert!(kept <= 3 * KEPT_BYTES, "{kept} bytes");
    }

    #[tokio::test]
    async fn what_small_batches_do_not_need_is_given_back() {
        let (mut queue, batch, mut outbox) = lane();
        for size in std::iter::once(4_000_000).chain(std::iter::repeat_n(10, 60)) {
            outbox.push(OutgoingMessage::new("out").value(vec![0; size]));
            finish(&mut queue, &batch, &mut outbox).await;
            outbox.begin(Some(batch.clone()));
        }
        let kept = outbox.kept_bytes() + queue.spent.iter().map(Outbox::kept_bytes).sum::<usize>();
        assert!(kept < 600_000, "{kept} bytes");
    }
}
