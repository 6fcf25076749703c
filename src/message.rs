//! Messages as they come in (borrowed from a batch) and as they go out.
//!
//! Place in the data path: a [`Message`] is what a [`Batch`](crate::Batch) hands out; an
//! [`OutgoingMessage`] is what [`Context::send`](crate::Context::send) takes.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex};

use crate::batch::{Payload, Record};
use crate::trace_context::{TRACEPARENT, TRACESTATE, TraceContext};

/// A position in a partition's log.
///
/// The offset of a message is its own position; what Kafka records for a consumer is the *next*
/// offset, the one to read first. [`Offset::next`] is the only place where one becomes the other.
///
/// ```
/// use kasper::Offset;
///
/// assert_eq!(Offset::new(41).next(), Offset::new(42));
/// assert_eq!(Offset::new(41).to_string(), "41");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(i64);

impl Offset {
    /// The offset with this number.
    pub const fn new(offset: i64) -> Self {
        Self(offset)
    }

    /// The offset as a number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The offset after this one: what is recorded once the message at `self` is done.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition number.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A message of a [`Batch`](crate::Batch), borrowed from it: nothing is copied.
///
/// It cannot outlive the call of [`process`](crate::Processor::process) that it was given to;
/// [`to_owned`](Message::to_owned) copies what is to be kept.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    record: &'a Record,
    topic: &'a str,
    partition: i32,
    headers_lock: &'a Mutex<()>,
}

impl<'a> Message<'a> {
    pub(crate) fn new(
        record: &'a Record,
        topic: &'a str,
        partition: i32,
        headers_lock: &'a Mutex<()>,
    ) -> Self {
        Self { record, topic, partition, headers_lock }
    }

    /// The topic that the message was read from.
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// The partition number that the message was read from.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The message's own offset.
    pub fn offset(&self) -> Offset {
        self.record.offset()
    }

    /// The key; `None` if the message has none.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.record.key()
    }

    /// The value; `None` is a *tombstone*: the key's deletion in a compacted topic.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.record.value()
    }

    pub(crate) fn record(&self) -> &'a Record {
        self.record
    }

    /// The timestamp in milliseconds since 1970-01-01 UTC: the producer's or, with
    /// `message.timestamp.type=LogAppendTime`, the broker's. `None` if the message has none.
    pub fn timestamp(&self) -> Option<i64> {
        match &self.record.payload {
            #[cfg(feature = "kafka")]
            Payload::Kafka(message) => message.timestamp(),
            Payload::Owned(message) => message.timestamp,
        }
    }

    /// The headers, in order, repeated names included. They are parsed at the first call.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let list = match &self.record.payload {
            #[cfg(feature = "kafka")]
            Payload::Kafka(message) => HeaderList::Kafka(message.headers(self.headers_lock)),
            Payload::Owned(message) => HeaderList::Owned(&message.headers),
        };
        (0..).map_while(move |index| list.get(index))
    }

    /// The value of the last header of this name, as Kafka's own clients look it up.
    /// `None` if there is no such header or its value is null.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let headers = self.headers().filter(|header| header.name == name);
        headers.last().and_then(|header| header.value)
    }

    /// The trace that the message belongs to, by its W3C headers `traceparent` and `tracestate`; `None` without
    /// them, or if the first is not as [Trace Context](https://www.w3.org/TR/trace-context/) has it.
    pub fn trace_context(&self) -> Option<TraceContext> {
        TraceContext::parse(self.header(TRACEPARENT)?, self.header(TRACESTATE))
    }

    /// A copy that can be kept after `process` has returned.
    pub fn to_owned(&self) -> OwnedMessage {
        OwnedMessage {
            topic: self.topic.into(),
            partition: self.partition,
            offset: self.offset(),
            key: self.key().map(<[u8]>::to_vec),
            value: self.value().map(<[u8]>::to_vec),
            headers: self
                .headers()
                .map(|header| (header.name.into_owned(), header.value.map(<[u8]>::to_vec)))
                .collect(),
            timestamp: self.timestamp(),
        }
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("offset", &self.offset().get())
            .field("key_bytes", &self.key().map(<[u8]>::len))
            .field("value_bytes", &self.value().map(<[u8]>::len))
            .field("timestamp", &self.timestamp())
            .finish()
    }
}

enum HeaderList<'a> {
    #[cfg(feature = "kafka")]
    Kafka(crate::broker::kafka::Headers<'a>),
    Owned(&'a [(String, Option<Vec<u8>>)]),
}

impl<'a> HeaderList<'a> {
    fn get(&self, index: usize) -> Option<Header<'a>> {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(headers) => headers.get(index).map(|(name, value)| Header { name, value }),
            Self::Owned(headers) => headers.get(index).map(|(name, value)| Header {
                name: Cow::Borrowed(name.as_str()),
                value: value.as_deref(),
            }),
        }
    }
}

/// One header of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name. Owned only where the sender's bytes are not UTF-8, which Kafka forbids and no
    /// broker checks; those bytes are replaced by U+FFFD.
    pub name: Cow<'a, str>,
    /// The value; `None` is Kafka's null.
    pub value: Option<&'a [u8]>,
}

/// A message that owns its parts: what [`Message::to_owned`] gives, and what tests are fed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedMessage {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition number.
    pub partition: i32,
    /// The message's own offset.
    pub offset: Offset,
    /// The key, if there is one.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values of the headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp: Option<i64>,
}

/// A message to send, built part by part; see [`Context::send`](crate::Context::send).
///
/// The parts may be borrowed (`&[u8]`, `&str`) or owned (`Vec<u8>`, `String`): they are copied
/// into the batch's send buffer, so that nothing is allocated for a single message.
///
/// ```
/// use kasper::OutgoingMessage;
///
/// let count = 3u64.to_string();
/// let message = OutgoingMessage::new("counts").key("word").value(count).header("lang", "en");
/// assert_eq!(message.topic(), "counts");
///
/// let deletion = OutgoingMessage::tombstone("counts", "word");
/// assert_eq!(deletion.topic(), "counts");
/// ```
#[derive(Debug, Clone)]
pub struct OutgoingMessage<'a> {
    pub(crate) topic: Cow<'a, str>,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<OutgoingBytes<'a>>,
    pub(crate) value: Option<OutgoingBytes<'a>>,
    pub(crate) headers: Vec<(Cow<'a, str>, Option<OutgoingBytes<'a>>)>,
    pub(crate) timestamp: Option<i64>,
}

impl<'a> OutgoingMessage<'a> {
    /// A message to `topic` with no key, no value and no headers yet.
    pub fn new(topic: impl Into<Cow<'a, str>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// The deletion of `key` in a compacted topic: a message without a value.
    pub fn tombstone(topic: impl Into<Cow<'a, str>>, key: impl Into<OutgoingBytes<'a>>) -> Self {
        Self::new(topic).key(key)
    }

    /// Sets the key. Default: none.
    #[must_use]
    pub fn key(mut self, key: impl Into<OutgoingBytes<'a>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value. Default: none, which makes the message a tombstone.
    #[must_use]
    pub fn value(mut self, value: impl Into<OutgoingBytes<'a>>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Sets the key, or none: for a key that comes from a message that may have none.
    ///
    /// ```
    /// # use kasper::{Message, OutgoingMessage};
    /// fn renamed<'a>(message: &Message<'a>) -> OutgoingMessage<'a> {
    ///     let copy = OutgoingMessage::new("copies");
    ///     copy.optional_key(message.key()).optional_value(message.value())
    /// }
    /// ```
    #[must_use]
    pub fn optional_key(mut self, key: Option<impl Into<OutgoingBytes<'a>>>) -> Self {
        self.key = key.map(Into::into);
        self
    }

    /// Sets the value, or none, which makes the message a tombstone.
    #[must_use]
    pub fn optional_value(mut self, value: Option<impl Into<OutgoingBytes<'a>>>) -> Self {
        self.value = value.map(Into::into);
        self
    }

    /// Adds a header; names may repeat.
    #[must_use]
    pub fn header(
        mut self,
        name: impl Into<Cow<'a, str>>,
        value: impl Into<OutgoingBytes<'a>>,
    ) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Adds a header whose value is Kafka's null.
    #[must_use]
    pub fn null_header(mut self, name: impl Into<Cow<'a, str>>) -> Self {
        self.headers.push((name.into(), None));
        self
    }

    /// Adds the headers of a trace, so that who reads the message can go on with it: a message's
    /// [own](Message::trace_context), or a [child](TraceContext::child) of it. `None` adds nothing.
    ///
    /// ```
    /// # use kasper::{Message, OutgoingMessage};
    /// fn answer<'a>(message: &Message<'a>) -> OutgoingMessage<'a> {
    ///     OutgoingMessage::new("answers").optional_key(message.key()).trace_context(message.trace_context())
    /// }
    /// ```
    #[must_use]
    pub fn trace_context(self, context: impl Into<Option<TraceContext>>) -> Self {
        let Some(context) = context.into() else { return self };
        let message = self.header(TRACEPARENT, context.traceparent());
        match context.into_tracestate() {
            Some(state) => message.header(TRACESTATE, state),
            None => message,
        }
    }

    /// Sets the timestamp, in milliseconds since 1970-01-01 UTC. Default: the time of sending, for
    /// which Kafka's client takes a 0 too.
    #[must_use]
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }

    /// Sends to this partition. Default: the partitioner's choice, from the key.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The topic that the message goes to.
    pub fn topic(&self) -> &str {
        &self.topic
    }
}

/// Bytes of an [`OutgoingMessage`], borrowed or owned. Made by `into()` from `&[u8]`, `&str`,
/// `&[u8; N]`, `&Vec<u8>`, `&String`, `Vec<u8>`, `String` and [`bytes::Bytes`].
#[derive(Clone)]
pub struct OutgoingBytes<'a>(BytesRepr<'a>);

#[derive(Clone)]
enum BytesRepr<'a> {
    Slice(Cow<'a, [u8]>),
    Shared(bytes::Bytes),
}

impl OutgoingBytes<'_> {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            BytesRepr::Slice(slice) => slice,
            BytesRepr::Shared(shared) => shared,
        }
    }
}

impl fmt::Debug for OutgoingBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.as_slice().len())
    }
}

macro_rules! bytes_from {
    ($($type:ty => |$value:ident| $slice:expr),* $(,)?) => {$(
        impl<'a> From<$type> for OutgoingBytes<'a> {
            fn from($value: $type) -> Self {
                Self($slice)
            }
        }
    )*};
}

bytes_from! {
    &'a [u8] => |value| BytesRepr::Slice(Cow::Borrowed(value)),
    &'a str => |value| BytesRepr::Slice(Cow::Borrowed(value.as_bytes())),
    &'a Vec<u8> => |value| BytesRepr::Slice(Cow::Borrowed(value)),
    &'a String => |value| BytesRepr::Slice(Cow::Borrowed(value.as_bytes())),
    Vec<u8> => |value| BytesRepr::Slice(Cow::Owned(value)),
    String => |value| BytesRepr::Slice(Cow::Owned(value.into_bytes())),
    bytes::Bytes => |value| BytesRepr::Shared(value),
    Cow<'a, [u8]> => |value| BytesRepr::Slice(value),
}

impl<'a, const N: usize> From<&'a [u8; N]> for OutgoingBytes<'a> {
    fn from(value: &'a [u8; N]) -> Self {
        Self(BytesRepr::Slice(Cow::Borrowed(value)))
    }
}

impl<'a> From<&'a bytes::Bytes> for OutgoingBytes<'a> {
    fn from(value: &'a bytes::Bytes) -> Self {
        Self(BytesRepr::Slice(Cow::Borrowed(value)))
    }
}
