//! A [`Delivery`]: outgoing messages on their way, finished when each of them has its delivery report.
//!
//! Place in the data path: between the [`Outbox`], where messages are collected, and
//! [`broker::Producer`](crate::broker::Producer). A delivery owns the bytes that the producer's
//! client reads from, so it stays alive until the last report, whatever happens to the partition.
//!
//! Invariants:
//! - Every message handed to the client is counted down exactly once, by its report or by the
//!   failure to hand it over. `remaining == 0` is the only meaning of "acknowledged".
//! - A delivery that failed once stays failed: its first error is kept and the batch that it belongs
//!   to is never committed.

use std::ops::Range;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::outbox::{Outbox, OutgoingRef};
use super::undelivered::{DeliveryFailure, Origin};
use super::{Offset, Tally};
use crate::error::Error;
use crate::lock::Mutex;

/// Counted for each message besides its own bytes. librdkafka keeps about 200 bytes for each (measured).
const BYTES_A_MESSAGE: usize = 128;

/// Outgoing messages on their way, counted down by their delivery reports.
pub(crate) struct Delivery {
    outbox: Outbox,
    /// The batch that it was sent from; none if it was sent by a tick.
    origin: Option<Origin>,
    /// The first message not yet handed to the client. Moved by one task only, the partition's.
    next: AtomicUsize,
    remaining: AtomicUsize,
    failure: Mutex<Option<DeliveryFailure>>,
    finished: Notify,
    /// When it was about to be handed to the client.
    begun: Instant,
    noticed: AtomicBool,
}

impl Delivery {
    pub(super) fn new(outbox: Outbox, origin: Option<Origin>) -> Self {
        Self {
            remaining: AtomicUsize::new(outbox.len()),
            next: AtomicUsize::new(0),
            outbox,
            origin,
            failure: Mutex::new(None),
            finished: Notify::new(),
            begun: Instant::now(),
            noticed: AtomicBool::new(false),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.outbox.len()
    }

    /// About how much memory is kept until the last report.
    pub(crate) fn bytes(&self) -> usize {
        self.outbox.bytes() + self.len() * BYTES_A_MESSAGE
    }

    /// The time when it began, for the first caller only: that caller counts the delivery.
    pub(crate) fn first_notice(&self) -> Option<Instant> {
        (!self.noticed.swap(true, Ordering::Relaxed)).then_some(self.begun)
    }

    /// Its messages and bytes for each topic.
    pub(crate) fn tallies(&self) -> impl Iterator<Item = (&Arc<str>, Tally)> {
        self.outbox.tallies()
    }

    pub(crate) fn topics(&self) -> &[Arc<str>] {
        self.outbox.topics()
    }

    /// The index of the first message that is not yet handed over; `len()` when all are.
    pub(crate) fn next(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    /// Notes how many messages, counted from the first, are handed over.
    pub(crate) fn handed_over(&self, next: usize) {
        self.next.store(next, Ordering::Relaxed);
    }

    /// Fails the delivery and counts down what is not handed over. Says whether these were the last.
    pub(crate) fn refuse_rest(&self, topic: &str, reason: &str) -> bool {
        let (next, end) = (self.next(), self.len());
        self.fail(DeliveryFailure::new(topic, reason));
        self.handed_over(end);
        self.count_down(end - next)
    }

    pub(crate) fn message(&self, index: usize) -> OutgoingRef<'_> {
        self.outbox.message(index)
    }

    /// The messages with these indexes.
    #[inline]
    pub(crate) fn messages(&self, range: Range<usize>) -> impl Iterator<Item = OutgoingRef<'_>> {
        self.outbox.messages(range)
    }

    /// Counts down `count` messages that are done, delivered or not. Says whether these were the last: true for one
    /// caller only.
    pub(crate) fn count_down(&self, count: usize) -> bool {
        let last = count > 0 && self.remaining.fetch_sub(count, Ordering::AcqRel) == count;
        if last {
            self.finished.notify_one();
        }
        last
    }

    /// The index of a message, found by what the client read it from: its value, which is not copied, and
    /// its key. Looks at each message, so it is for failures alone.
    pub(crate) fn index_of(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Option<usize> {
        let is_there = |bytes: Option<&[u8]>| match (bytes, value) {
            (Some(bytes), Some(value)) => std::ptr::eq(bytes, value),
            (bytes, value) => bytes.is_none() && value.is_none(),
        };
        (0..self.len()).find(|index| {
            let message = self.message(*index);
            is_there(message.value) && message.key == key && *self.topics()[message.topic] == *topic
        })
    }

    /// The incoming messages that the message with this index was made from, as far as that is known.
    pub(crate) fn causes(&self, index: usize) -> Vec<(u16, Offset)> {
        self.outbox.causes(index)
    }

    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Why the message with this index was not delivered; `partition` is where it was sent to, if that is known.
    pub(crate) fn failure_of(
        &self,
        index: usize,
        partition: Option<i32>,
        reason: String,
    ) -> DeliveryFailure {
        let message = self.message(index);
        let size =
            |bytes: Option<&[u8]>| bytes.map_or("none".into(), |bytes| bytes.len().to_string());
        let mut about = vec![("topic", self.topics()[message.topic].to_string())];
        about.extend(partition.map(|partition| ("output_partition", partition.to_string())));
        about.push(("message", format!("{} of {}", index + 1, self.len())));
        about.push(("key_bytes", size(message.key)));
        about.push(("value_bytes", size(message.value)));
        DeliveryFailure::of_message(reason, about)
    }

    /// Fails the delivery, unless it has failed before: the first failure is kept. The failed message is
    /// counted down besides.
    pub(crate) fn fail(&self, failure: DeliveryFailure) {
        self.first_failure().get_or_insert(failure);
    }

    pub(crate) fn failure(&self) -> Option<DeliveryFailure> {
        self.first_failure().clone()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.first_failure().is_some()
    }

    fn first_failure(&self) -> MutexGuard<'_, Option<DeliveryFailure>> {
        self.failure.lock()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.remaining.load(Ordering::Acquire) == 0
    }

    /// Waits for the last delivery report. Cancel-safe; one waiter at a time.
    ///
    /// The permit of `notify_one` is stored, so the report that comes between the look at the count
    /// and the wait is not missed.
    pub(crate) async fn finished(&self) {
        while !self.is_finished() {
            self.finished.notified().await;
        }
    }

    /// # Errors
    /// The first failure so far.
    pub(crate) fn result(&self) -> Result<(), Error> {
        self.first_failure().as_ref().map_or(Ok(()), |failure| Err(failure.error()))
    }

    /// The send buffer of a finished delivery, empty. `None` where the client's thread still holds the
    /// delivery, as it may for a moment after the last report; the memory is then free when it lets go.
    pub(crate) fn into_spent(self: Arc<Self>) -> Option<Outbox> {
        let mut outbox = Arc::into_inner(self)?.outbox;
        outbox.end();
        outbox.clear();
        Some(outbox)
    }
}
