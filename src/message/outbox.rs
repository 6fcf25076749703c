//! The [`Outbox`]: outgoing messages, collected while `process` runs.
//!
//! Place in the data path: behind [`Context::send`](crate::Context::send). Taken from it, they are a [`Delivery`].
//!
//! Sent messages are copied into the outbox. Forwarded messages are not copied if they are at least half of the
//! batch: then the delivery keeps the whole batch alive, and the client reads from the batch's messages.

use std::borrow::Cow;
use std::num::NonZeroI64;
use std::ops::Range;
use std::sync::Arc;

use super::delivery::Delivery;
use super::need::{KEPT_BYTES, Need};
use super::undelivered::Origin;
use super::{Batch, Message, Offset, OutgoingBytes, OutgoingMessage, Tally};

/// Messages collected and not yet handed to the producer: one byte buffer, one entry a message.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<HeaderEntry>,
    /// Which incoming messages an entry was made from, by the entry's index, for those that say so.
    causes: Vec<(u32, u16, Offset)>,
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
    causes: Need,
}

/// A message. Small: a batch may send a million of them, and each is written here and read again.
#[derive(Debug, Clone)]
struct Entry {
    topic: u32,
    partition: Option<i32>,
    body: Body,
    headers: Range<u32>,
    /// None, like Kafka's client's 0, stands for the time of sending.
    timestamp: Option<NonZeroI64>,
}

/// Where key and value are.
#[derive(Debug, Clone, Copy)]
enum Body {
    /// In the byte buffer from `start` on, the value behind the key.
    Copied { start: usize, key: Length, value: Length },
    /// In the batch's record of this index.
    Forwarded(u32),
}

/// The length of bytes, or that there are none.
#[derive(Debug, Clone, Copy)]
struct Length(usize);

impl Length {
    /// No slice is that long.
    const NONE: usize = usize::MAX;

    fn of(bytes: Option<&[u8]>) -> Self {
        Self(bytes.map_or(Self::NONE, <[u8]>::len))
    }

    /// The bytes that `buffer` begins with, and what is behind them.
    fn split(self, buffer: &[u8]) -> (Option<&[u8]>, &[u8]) {
        match self.0 {
            Self::NONE => (None, buffer),
            length => {
                let (bytes, rest) = buffer.split_at(length);
                (Some(bytes), rest)
            }
        }
    }
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
        self.needs.causes.recycle(&mut self.causes);
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

    /// Where in the batch being processed this message is.
    pub(crate) fn index_of(&self, message: &Message<'_>) -> Option<usize> {
        self.batch.as_ref()?.index_of(message.record())
    }

    /// No message is forwarded any more.
    pub(crate) fn end(&mut self) {
        self.batch = None;
    }

    /// Takes a message part by part: one that is built for the call then is never put together in memory.
    #[inline]
    pub(crate) fn push(&mut self, message: OutgoingMessage<'_>) {
        let OutgoingMessage { topic, partition, key, value, headers, timestamp, causes } = message;
        for (topic, offset) in causes {
            self.causes.push((index32(self.entries.len()), topic, offset));
        }
        self.push_parts(&topic, partition, key.as_slice(), value.as_slice(), &headers, timestamp);
    }

    fn push_parts(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(Cow<'_, str>, OutgoingBytes<'_>)],
        timestamp: Option<i64>,
    ) {
        let topic = self.topic_index(topic);
        self.tallies[topic as usize].add(size_of_slice(key) + size_of_slice(value));
        let body = self.copy(key, value);
        let first = self.headers.len();
        for (name, value) in headers {
            self.append_header(name, value.as_slice());
        }
        self.finish(topic, partition, body, first, timestamp);
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
        let timestamp = timestamp.and_then(NonZeroI64::new);
        self.entries.push(Entry { topic, partition, body, headers, timestamp });
    }

    fn copy(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Body {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        Body::Copied { start, key: Length::of(key), value: Length::of(value) }
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
    #[inline]
    fn topic_index(&mut self, topic: &str) -> u32 {
        if self.topics.get(self.last_topic).is_none_or(|last| **last != *topic) {
            self.find_topic(topic);
        }
        index32(self.last_topic)
    }

    #[cold]
    fn find_topic(&mut self, topic: &str) {
        let known = self.topics.iter().position(|known| **known == *topic);
        self.last_topic = known.unwrap_or_else(|| {
            self.topics.push(topic.into());
            self.tallies.push(Tally::default());
            self.topics.len() - 1
        });
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
        Arc::new(Delivery::new(outbox, origin))
    }

    /// About the memory that is kept until everything is delivered: its bytes, and the batch that they are in.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + self.batch.as_ref().map_or(0, |batch| batch.bytes())
    }

    pub(super) fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }

    pub(super) fn tallies(&self) -> impl Iterator<Item = (&Arc<str>, Tally)> {
        let tallies = self.topics.iter().zip(self.tallies.iter().copied());
        tallies.filter(|(_, tally)| tally.messages > 0)
    }

    /// The incoming messages that this one was made from, if that was said, or it was forwarded and not copied.
    pub(super) fn causes(&self, index: usize) -> Vec<(u16, Offset)> {
        if let (Body::Forwarded(record), Some(batch)) = (self.entries[index].body, &self.batch) {
            let record = batch.record(record as usize);
            return vec![(record.topic, record.offset())];
        }
        let causes = self.causes.iter().filter(|(entry, ..)| *entry as usize == index);
        causes.map(|(_, topic, offset)| (*topic, *offset)).collect()
    }

    pub(super) fn message(&self, index: usize) -> OutgoingRef<'_> {
        self.outgoing(&self.entries[index])
    }

    #[inline]
    pub(super) fn messages(&self, range: Range<usize>) -> impl Iterator<Item = OutgoingRef<'_>> {
        self.entries[range].iter().map(|entry| self.outgoing(entry))
    }

    #[inline]
    fn outgoing<'a>(&'a self, entry: &Entry) -> OutgoingRef<'a> {
        let Self { bytes, headers, batch, .. } = self;
        let (key, value) = match (entry.body, batch) {
            (Body::Copied { start, key, value }, _) => {
                let (key, rest) = key.split(&bytes[start..]);
                (key, value.split(rest).0)
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
            timestamp: entry.timestamp.map(NonZeroI64::get),
            headers: &headers[entry.headers.start as usize..entry.headers.end as usize],
            bytes,
        }
    }
}

fn size_of_slice(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(0, <[u8]>::len)
}

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
    /// Bytes of key and value.
    pub(crate) fn size(&self) -> usize {
        size_of_slice(self.key) + size_of_slice(self.value)
    }

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
