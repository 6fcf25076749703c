//! Outgoing messages: collected in an [`Outbox`] while `process` runs, handed to the producer as one
//! [`Delivery`], finished when each of its messages has its delivery report.
//!
//! Place in the data path: between [`Context::send`](crate::Context::send) and
//! [`broker::Producer`](crate::broker::Producer). A delivery owns the bytes that the producer's
//! client reads from, so it stays alive until the last report, whatever happens to the partition.
//!
//! Sent messages are copied into the outbox. Forwarded messages are not copied if they are at least half of the
//! batch: then the delivery keeps the whole batch alive, and the client reads from the batch's messages.
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

use super::need::{KEPT_BYTES, Need};
use super::undelivered::{DeliveryFailure, Origin};
use super::{Batch, Message, OutgoingMessage, Tally};
use crate::error::Error;
use crate::lock::Mutex;

/// Messages collected and not yet handed to the producer: one byte buffer, one entry a message.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<HeaderEntry>,
    needs: Needs,
    topics: Vec<Arc<str>>,
    /// The messages and bytes for each topic; as long as `topics`.
    tallies: Vec<Tally>,
    last_topic: usize,
    /// The batch being processed, which forwarded messages are in.
    batch: Option<Arc<Batch>>,
    /// Bytes of the batch's messages that are forwarded, each counted once.
    forwarded_bytes: usize,
    last_forwarded: Option<usize>,
}

/// The needs of the buffers of the same names.
#[derive(Default)]
struct Needs {
    bytes: Need,
    entries: Need,
    headers: Need,
}

#[derive(Debug, Clone)]
struct Entry {
    topic: u32,
    partition: Option<i32>,
    body: Body,
    headers: Range<u32>,
    timestamp: Option<i64>,
}

/// Where key and value are.
#[derive(Debug, Clone, Copy)]
enum Body {
    Copied {
        key: Option<Span>,
        value: Option<Span>,
    },
    /// In the batch's record of this index.
    Forwarded(u32),
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

    /// Drops the collected messages, and keeps the memory that batches needed lately.
    pub(crate) fn clear(&mut self) {
        self.needs.bytes.recycle(&mut self.bytes);
        self.needs.entries.recycle(&mut self.entries);
        self.needs.headers.recycle(&mut self.headers);
        self.tallies.fill(Tally::default());
        self.forwarded_bytes = 0;
        self.last_forwarded = None;
    }

    /// The memory of its buffers.
    #[cfg(test)]
    pub(crate) fn kept_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.headers.capacity() * size_of::<HeaderEntry>()
    }

    /// Messages of this batch, if there is one, may be forwarded from now on.
    pub(crate) fn begin(&mut self, batch: Option<Arc<Batch>>) {
        self.clear();
        self.batch = batch;
    }

    /// No message is forwarded any more.
    pub(crate) fn end(&mut self) {
        self.batch = None;
    }

    pub(crate) fn push(&mut self, message: &OutgoingMessage<'_>) {
        let topic = self.topic_index(&message.topic);
        let key = message.key.as_slice();
        let value = message.value.as_slice();
        self.tallies[topic as usize].add(size_of_slice(key) + size_of_slice(value));
        let body = self.copy(key, value);
        let first = self.headers.len();
        for (name, value) in &message.headers {
            self.append_header(name, value.as_slice());
        }
        self.finish(topic, message.partition, body, first, message.timestamp);
    }

    /// Takes key, value, headers and timestamp of an incoming message.
    pub(crate) fn push_forwarded(&mut self, topic: &str, message: &Message<'_>) {
        let topic = self.topic_index(topic);
        let record = message.record();
        let size = record.size();
        self.tallies[topic as usize].add(size);
        let body = match self.batch.as_ref().and_then(|batch| batch.index_of(record)) {
            Some(index) => {
                // To several topics, a message is sent several times in a row.
                if self.last_forwarded.replace(index) != Some(index) {
                    self.forwarded_bytes += size;
                }
                Body::Forwarded(index32(index))
            }
            None => self.copy(record.key(), record.value()),
        };
        let first = self.headers.len();
        for header in message.headers() {
            self.append_header(&header.name, header.value);
        }
        self.finish(topic, None, body, first, message.timestamp());
    }

    fn finish(
        &mut self,
        topic: u32,
        partition: Option<i32>,
        body: Body,
        first_header: usize,
        timestamp: Option<i64>,
    ) {
        let headers = index32(first_header)..index32(self.headers.len());
        self.entries.push(Entry { topic, partition, body, headers, timestamp });
    }

    fn copy(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Body {
        let key = key.map(|key| self.append(key));
        let value = value.map(|value| self.append(value));
        Body::Copied { key, value }
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

    /// Most processors send to one topic, or to a few in turn: look at the last one first.
    fn topic_index(&mut self, topic: &str) -> u32 {
        if self.topics.get(self.last_topic).is_none_or(|last| **last != *topic) {
            let known = self.topics.iter().position(|known| **known == *topic);
            self.last_topic = known.unwrap_or_else(|| {
                self.topics.push(topic.into());
                self.tallies.push(Tally::default());
                self.topics.len() - 1
            });
        }
        index32(self.last_topic)
    }

    /// Copies the forwarded messages, unless they are at least half of the batch: for a few messages it isn't worth
    /// keeping all others in memory until they are acknowledged.
    fn settle_forwarded(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        if self.forwarded_bytes > 0 && self.forwarded_bytes >= batch.bytes().div_ceil(2) {
            self.batch = Some(batch);
            return;
        }
        for index in 0..self.entries.len() {
            if let Body::Forwarded(record) = self.entries[index].body {
                let record = batch.record(record as usize);
                self.entries[index].body = self.copy(record.key(), record.value());
            }
        }
    }

    /// An empty one with room for as much as this one has: buffers that grow from nothing copy everything once more.
    fn as_large(&self) -> Self {
        let mut needs = Needs::default();
        needs.bytes.note(self.bytes.len());
        needs.entries.note(self.entries.len());
        Self {
            bytes: Vec::with_capacity(self.bytes.len().min(KEPT_BYTES)),
            entries: Vec::with_capacity(self.entries.len().min(KEPT_BYTES / size_of::<Entry>())),
            needs,
            ..Self::default()
        }
    }

    /// Everything collected, as one delivery; the outbox is empty afterwards.
    /// `spent` gives its memory back for the next messages.
    pub(crate) fn take(&mut self, spent: Option<Outbox>) -> Arc<Delivery> {
        let batch = self.batch.clone();
        let origin = batch.as_deref().map(Origin::of);
        self.settle_forwarded();
        let next = spent.unwrap_or_else(|| self.as_large());
        let outbox = std::mem::replace(self, next);
        self.batch = batch;
        // The next batch probably sends to the same topics, unless there is one for every customer.
        self.topics.clear();
        if outbox.topics.len() <= KEPT_TOPICS {
            self.topics.extend_from_slice(&outbox.topics);
        }
        self.tallies.clear();
        self.tallies.resize(self.topics.len(), Tally::default());
        self.last_topic = 0;
        Arc::new(Delivery {
            remaining: AtomicUsize::new(outbox.entries.len()),
            next: AtomicUsize::new(0),
            outbox,
            origin,
            failure: Mutex::new(None),
            finished: Notify::new(),
            begun: Instant::now(),
            noticed: AtomicBool::new(false),
        })
    }
}

fn size_of_slice(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(0, <[u8]>::len)
}

/// Counted for each message besides its own bytes. librdkafka keeps about 200 bytes for each (measured).
const BYTES_A_MESSAGE: usize = 128;

/// At most this many names of topics are kept from one batch to the next.
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
    pub(crate) fn len(&self) -> usize {
        self.outbox.entries.len()
    }

    /// About how much memory is kept until the last report.
    pub(crate) fn bytes(&self) -> usize {
        let batch = self.outbox.batch.as_ref().map_or(0, |batch| batch.bytes());
        self.outbox.bytes.len() + batch + self.len() * BYTES_A_MESSAGE
    }

    /// The time when it began, for the first caller only: that caller counts the delivery.
    pub(crate) fn first_notice(&self) -> Option<Instant> {
        (!self.noticed.swap(true, Ordering::Relaxed)).then_some(self.begun)
    }

    /// Its messages and bytes for each topic.
    pub(crate) fn tallies(&self) -> impl Iterator<Item = (&Arc<str>, Tally)> {
        let tallies = self.outbox.topics.iter().zip(self.outbox.tallies.iter().copied());
        tallies.filter(|(_, tally)| tally.messages > 0)
    }

    pub(crate) fn topics(&self) -> &[Arc<str>] {
        &self.outbox.topics
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
        let Outbox { bytes, entries, headers, batch, .. } = &self.outbox;
        let entry = &entries[index];
        let (key, value) = match (entry.body, batch) {
            (Body::Copied { key, value }, _) => {
                (key.map(|key| slice(bytes, key)), value.map(|value| slice(bytes, value)))
            }
            (Body::Forwarded(record), Some(batch)) => {
                let record = batch.record(record as usize);
                (record.key(), record.value())
            }
            (Body::Forwarded(_), None) => unreachable!("forwarded from no batch"),
        };
        OutgoingRef {
            topic: entry.topic as usize,
            partition: entry.partition,
            key,
            value,
            timestamp: entry.timestamp,
            headers: &headers[entry.headers.start as usize..entry.headers.end as usize],
            bytes,
        }
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
