//! A message that a processor sends.
//!
//! Place in the data path: [`Context::send`](crate::Context::send) takes it.

use std::borrow::Cow;
use std::fmt;

use super::trace_context::{TRACEPARENT, TRACESTATE, TraceContext};

/// A message to send, built part by part; see [`Context::send`](crate::Context::send).
///
/// The parts may be borrowed (`&[u8]`, `&str`) or owned (`Vec<u8>`, `String`). They are copied into the batch's send
/// buffer, so a message without headers needs no allocation of its own.
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

    /// Sets the key, or removes it if `key` is `None`: for a key that is taken from a message that may have none.
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

    /// Sets the value, or removes it if `value` is `None`, which makes the message a tombstone.
    #[must_use]
    pub fn optional_value(mut self, value: Option<impl Into<OutgoingBytes<'a>>>) -> Self {
        self.value = value.map(Into::into);
        self
    }

    /// Adds a header. The same name may be added more than once.
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

    /// Adds the headers of a trace, so that the reader of the message can continue the trace: the trace context of an
    /// [incoming message](crate::Message::trace_context), or a [child](TraceContext::child) of it. `None` adds
    /// nothing.
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

    /// Sets the timestamp, in milliseconds since 1970-01-01 UTC. Default: the time of sending. Kafka's client treats
    /// 0 as the time of sending, too.
    #[must_use]
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }

    /// Sends the message to this partition. Default: the partitioner chooses one from the key.
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

/// Bytes of an [`OutgoingMessage`], borrowed or owned. Made by `into()` from `&[u8]`, `&str`, `&[u8; N]`, `&Vec<u8>`,
/// `&String`, `Vec<u8>`, `String`, `Cow<[u8]>`, [`bytes::Bytes`] and `&Bytes`.
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
