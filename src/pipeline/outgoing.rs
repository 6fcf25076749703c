//! Outgoing messages: collected in an [`Outbox`] while `process` runs, handed to the producer as one
//! [`Delivery`], finished when each of its messages has its delivery report.
//!
//! Place in the data path: between [`Context::send`](crate::Context::send) and
//! [`broker::Producer`](crate::broker::Producer). A delivery owns the bytes that the producer's
//! client reads from, so it stays alive until the last report, whatever happens to the partition.
//!
//! Invariants:
//! - Every message handed to the client is counted down exactly once, by its report or by the
//!   failure to hand it over. `remaining == 0` is the only meaning of "acknowledged".
//! - A delivery that failed once stays failed: its first error is kept and the batch that it belongs
//!   to is never recorded.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::error::{Error, ErrorKind};
use crate::message::{Message, OutgoingBytes, OutgoingMessage};

/// Messages collected and not yet handed to the producer: one byte buffer, one entry a message.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<HeaderEntry>,
    topics: Vec<Arc<str>>,
    last_topic: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    topic: u32,
    partition: Option<i32>,
    key: Option<Span>,
    value: Option<Span>,
    headers: Range<u32>,
    timestamp: Option<i64>,
}

#[derive(Debug, Clone)]
struct HeaderEntry {
    name: Span,
    value: Option<Span>,
}

/// A range of the byte buffer.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    len: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Drops what was collected and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.headers.clear();
    }

    pub(crate) fn push(&mut self, message: &OutgoingMessage<'_>) {
        let topic = self.topic_index(&message.topic);
        let key = message.key.as_ref().map(|key| self.append(key.as_slice()));
        let value = message.value.as_ref().map(|value| self.append(value.as_slice()));
        let first = self.headers.len();
        for (name, value) in &message.headers {
            self.append_header(name, value.as_ref().map(OutgoingBytes::as_slice));
        }
        self.finish(topic, message.partition, key, value, first, message.timestamp);
    }

    /// Copies key, value, headers and timestamp of an incoming message.
    pub(crate) fn push_forwarded(&mut self, topic: &str, message: &Message<'_>) {
        let topic = self.topic_index(topic);
        let key = message.key().map(|key| self.append(key));
        let value = message.value().map(|value| self.append(value));
        let first = self.headers.len();
        for header in message.headers() {
            self.append_header(&header.name, header.value);
        }
        self.finish(topic, None, key, value, first, message.timestamp());
    }

    fn finish(
        &mut self,
        topic: u32,
        partition: Option<i32>,
        key: Option<Span>,
        value: Option<Span>,
        first_header: usize,
        timestamp: Option<i64>,
    ) {
        let headers = index32(first_header)..index32(self.headers.len());
        self.entries.push(Entry { topic, partition, key, value, headers, timestamp });
    }

    fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Span { start, len: bytes.len() }
    }

    fn append_header(&mut self, name: &str, value: Option<&[u8]>) {
        let name = self.append(name.as_bytes());
        let value = value.map(|value| self.append(value));
        self.headers.push(HeaderEntry { name, value });
    }

    /// Most processors send to one topic, or to few by turns: look at the last one first.
    fn topic_index(&mut self, topic: &str) -> u32 {
        if self.topics.get(self.last_topic).is_none_or(|last| **last != *topic) {
            let known = self.topics.iter().position(|known| **known == *topic);
            self.last_topic = known.unwrap_or_else(|| {
                self.topics.push(topic.into());
                self.topics.len() - 1
            });
        }
        index32(self.last_topic)
    }

    /// Everything collected, as one delivery; the outbox is empty afterwards.
    /// `spent` gives its memory back for the next messages.
    pub(crate) fn take(&mut self, spent: Option<Outbox>) -> Arc<Delivery> {
        let outbox = std::mem::replace(self, spent.unwrap_or_default());
        self.clear();
        // The next batch probably sends to the same topics, unless there is one for every customer.
        self.topics.clear();
        if outbox.topics.len() <= KEPT_TOPICS {
            self.topics.extend_from_slice(&outbox.topics);
        }
        self.last_topic = 0;
        Arc::new(Delivery {
            remaining: AtomicUsize::new(outbox.entries.len()),
            next: AtomicUsize::new(0),
            outbox,
            failure: Mutex::new(None),
            finished: Notify::new(),
        })
    }
}

/// So many names of topics are kept from one batch to the next.
const KEPT_TOPICS: usize = 64;

#[allow(clippy::cast_possible_truncation, reason = "asserted")]
fn index32(index: usize) -> u32 {
    assert!(u32::try_from(index).is_ok(), "more than 4,294,967,295 headers or topics in one batch");
    index as u32
}

/// One outgoing message as the producer sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutgoingRef<'a> {
    /// Index into [`Delivery::topics`].
    pub(crate) topic: usize,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) timestamp: Option<i64>,
    headers: &'a [HeaderEntry],
    bytes: &'a [u8],
}

impl<'a> OutgoingRef<'a> {
    pub(crate) fn headers(&self) -> impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let bytes = self.bytes;
        self.headers.iter().map(move |header| {
            (slice(bytes, header.name), header.value.map(|value| slice(bytes, value)))
        })
    }
}

fn slice(bytes: &[u8], span: Span) -> &[u8] {
    &bytes[span.start..span.start + span.len]
}

/// Outgoing messages on their way, counted down by their delivery reports.
pub(crate) struct Delivery {
    outbox: Outbox,
    /// The first message not yet handed to the client. Moved by one task only, the partition's.
    next: AtomicUsize,
    remaining: AtomicUsize,
    failure: Mutex<Option<DeliveryFailure>>,
    finished: Notify,
}

/// Why a message could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeliveryFailure {
    pub(crate) topic: String,
    pub(crate) reason: String,
}

impl Delivery {
    pub(crate) fn len(&self) -> usize {
        self.outbox.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.outbox.bytes.len()
    }

    pub(crate) fn topics(&self) -> &[Arc<str>] {
        &self.outbox.topics
    }

    /// The index of the first message that is not yet handed over; `len()` when all are.
    pub(crate) fn next(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    /// Notes how many messages, from the first, are handed over.
    pub(crate) fn handed_over(&self, next: usize) {
        self.next.store(next, Ordering::Relaxed);
    }

    /// Fails the delivery and counts down what is not handed over. Says whether these were the last.
    pub(crate) fn refuse_rest(&self, topic: &str, reason: &str) -> bool {
        let (next, end) = (self.next(), self.len());
        self.fail(topic, reason);
        self.handed_over(end);
        self.count_down(end - next)
    }

    pub(crate) fn message(&self, index: usize) -> OutgoingRef<'_> {
        let Outbox { bytes, entries, headers, .. } = &self.outbox;
        let entry = &entries[index];
        OutgoingRef {
            topic: entry.topic as usize,
            partition: entry.partition,
            key: entry.key.map(|key| slice(bytes, key)),
            value: entry.value.map(|value| slice(bytes, value)),
            timestamp: entry.timestamp,
            headers: &headers[entry.headers.start as usize..entry.headers.end as usize],
            bytes,
        }
    }

    /// Counts `count` messages as done with, delivered or not. Says whether these were the last:
    /// true for one caller only.
    pub(crate) fn count_down(&self, count: usize) -> bool {
        let last = count > 0 && self.remaining.fetch_sub(count, Ordering::AcqRel) == count;
        if last {
            self.finished.notify_one();
        }
        last
    }

    /// Keeps the first failure. The failed message is counted down besides.
    pub(crate) fn fail(&self, topic: &str, reason: &str) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure
            .get_or_insert_with(|| DeliveryFailure { topic: topic.into(), reason: reason.into() });
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
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            None => Ok(()),
            Some(DeliveryFailure { topic, reason }) => {
                Err(Error::new(ErrorKind::Delivery, reason.clone()).with("topic", topic))
            }
        }
    }

    /// The memory of a finished delivery, if nobody else holds it.
    pub(crate) fn into_spent(self: Arc<Self>) -> Option<Outbox> {
        Arc::into_inner(self).map(|delivery| delivery.outbox)
    }
}
