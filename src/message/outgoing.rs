//! A message that a processor sends.
//!
//! Place in the data path: [`Context::send`](crate::Context::send) takes it.

use std::borrow::Cow;
use std::fmt;

use super::trace_context::{TRACEPARENT, TRACESTATE, TraceContext};
use super::{Message, Offset};

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
    pub(crate) key: OutgoingBytes<'a>,
    pub(crate) value: OutgoingBytes<'a>,
    pub(crate) headers: Vec<(Cow<'a, str>, OutgoingBytes<'a>)>,
    pub(crate) timestamp: Option<i64>,
    /// The incoming messages that it was made from, by topic and offset.
    pub(crate) causes: Vec<(u16, Offset)>,
}

impl<'a> OutgoingMessage<'a> {
    /// A message to `topic` with no key, no value and no headers yet.
    pub fn new(topic: impl Into<Cow<'a, str>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: OutgoingBytes::NULL,
            value: OutgoingBytes::NULL,
            headers: Vec::new(),
            timestamp: None,
            causes: Vec::new(),
        }
    }

    /// A message to `topic` with the key, the headers and the timestamp of an incoming message. It has no value yet, and
    /// the partitioner chooses its partition.
    ///
    /// Each part can be changed: setting the key or the timestamp replaces it, [`without_header`](Self::without_header)
    /// removes a header. To send the value on too, use [`Context::forward`](crate::Context::forward) or set
    /// [`Message::value`].
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};
    /// # struct Enrich;
    /// # impl Processor for Enrich {
    /// #     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    /// for message in batch.iter() {
    ///     context.send(OutgoingMessage::like("enriched", &message).value("rich").without_header("via"));
    /// }
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # let mut tester = ProcessorTester::new(["orders"], |_| Enrich);
    /// # let order = TestMessage::new("orders").key("7").value("poor").header("via", "web").header("lang", "en");
    /// # tester.push(order.timestamp(1_700_000_000_000));
    /// # tester.run_batch().await?;
    /// let sent = TestMessage::new("enriched").key("7").value("rich").header("lang", "en");
    /// assert_eq!(tester.outgoing(), [sent.timestamp(1_700_000_000_000)]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn like(topic: impl Into<Cow<'a, str>>, message: &Message<'a>) -> Self {
        let mut like = Self::new(topic).key(message.key());
        like.headers.extend(message.headers().map(|header| (header.name, header.value.into())));
        like.timestamp = message.timestamp();
        like
    }

    /// The deletion of `key` in a compacted topic: a message without a value.
    ///
    /// ```
    /// # use kasper::OutgoingMessage;
    /// # use kasper::testkit::TestMessage;
    /// let deletion = TestMessage::from(OutgoingMessage::tombstone("counts", "a"));
    /// assert_eq!(deletion.value, None);
    /// // An empty value is a value.
    /// assert_ne!(deletion, TestMessage::new("counts").key("a").value(""));
    /// ```
    pub fn tombstone(topic: impl Into<Cow<'a, str>>, key: impl Into<OutgoingBytes<'a>>) -> Self {
        Self::new(topic).key(key)
    }

    /// Sets the key; `None` removes it, so that the key of an incoming message, which may have none, can be given as it
    /// is. Default: none.
    ///
    /// ```
    /// # use kasper::OutgoingMessage;
    /// # use kasper::testkit::TestMessage;
    /// let copy = |key: Option<&'static [u8]>| OutgoingMessage::new("copies").key(key).value("1");
    /// assert_eq!(TestMessage::from(copy(None)).key, None);
    /// assert_eq!(TestMessage::from(copy(Some(b""))).key.as_deref(), Some(&b""[..]));
    /// ```
    #[must_use]
    pub fn key(mut self, key: impl Into<OutgoingBytes<'a>>) -> Self {
        self.key = key.into();
        self
    }

    /// Sets the value; `None` removes it, which makes the message a tombstone. Default: none.
    #[must_use]
    pub fn value(mut self, value: impl Into<OutgoingBytes<'a>>) -> Self {
        self.value = value.into();
        self
    }

    /// Adds a header. The same name may be added more than once. The value `None` is Kafka's null.
    ///
    /// ```
    /// # use kasper::OutgoingMessage;
    /// # use kasper::testkit::TestMessage;
    /// let message = OutgoingMessage::new("counts").header("via", "a").header("via", "b").null_header("note");
    /// let record = TestMessage::from(message);
    /// assert_eq!(record.headers.len(), 3);
    /// assert_eq!(record.header_text("via"), Some("b")); // as a Kafka client reads it
    /// assert_eq!(record.headers[2], ("note".into(), None));
    /// ```
    #[must_use]
    pub fn header(
        mut self,
        name: impl Into<Cow<'a, str>>,
        value: impl Into<OutgoingBytes<'a>>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds a header whose value is Kafka's null.
    #[must_use]
    pub fn null_header(self, name: impl Into<Cow<'a, str>>) -> Self {
        self.header(name, OutgoingBytes::NULL)
    }

    /// Removes all headers with this name.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(existing, _)| existing != name);
        self
    }

    /// Sets the headers of a trace, so that the reader of the message can continue the trace: the trace context of an
    /// [incoming message](crate::Message::trace_context), or a [child](TraceContext::child) of it. They replace those
    /// that the message has. `None` changes nothing.
    ///
    /// ```
    /// # use kasper::testkit::TestMessage;
    /// # use kasper::{OutgoingMessage, TraceContext};
    /// let answer = |trace: Option<TraceContext>| {
    ///     OutgoingMessage::new("answers").header("tracestate", "old").trace_context(trace)
    /// };
    /// let record = TestMessage::from(answer(TraceContext::new([0x1a; 16], [0x2b; 8], true)));
    /// let sent = "00-1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a-2b2b2b2b2b2b2b2b-01";
    /// assert_eq!(record.header_text("traceparent"), Some(sent));
    /// assert_eq!(record.header_text("tracestate"), None);
    /// assert_eq!(TestMessage::from(answer(None)).header_text("tracestate"), Some("old"));
    /// ```
    #[must_use]
    pub fn trace_context(self, context: impl Into<Option<TraceContext>>) -> Self {
        let Some(context) = context.into() else { return self };
        let message = self.without_header(TRACEPARENT).without_header(TRACESTATE);
        let message = message.header(TRACEPARENT, context.traceparent());
        match context.into_tracestate() {
            Some(state) => message.header(TRACESTATE, state),
            None => message,
        }
    }

    /// Sets the timestamp, in milliseconds since 1970-01-01 UTC. Default: the time of sending. Kafka's client treats
    /// 0 as the time of sending, too.
    #[must_use]
    #[inline]
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }

    /// Sends the message to this partition, whatever its key. Default: the partitioner chooses one from the key.
    ///
    /// ```
    /// # use kasper::OutgoingMessage;
    /// # use kasper::testkit::TestMessage;
    /// let chosen = TestMessage::from(OutgoingMessage::new("counts").key("a").partition(3));
    /// assert_eq!(chosen.partition, Some(3));
    /// assert_eq!(TestMessage::from(OutgoingMessage::new("counts").key("a")).partition, None);
    /// ```
    #[must_use]
    #[inline]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Says that it was made from this message of the batch; of several, call it for each. If it cannot be produced and
    /// [`ErrorPolicy::undeliverable`](crate::ErrorPolicy::undeliverable) rejects messages, these are rejected at once. Otherwise
    /// the library looks for the message that causes it.
    ///
    /// ```
    /// # use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};
    /// # struct Bills;
    /// # impl Processor for Bills {
    /// #     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    /// for order in batch.iter() {
    ///     context.send(OutgoingMessage::new("bills").value(order.value()).caused_by(&order));
    /// }
    /// #         Ok(())
    /// #     }
    /// # }
    /// ```
    #[must_use]
    pub fn caused_by(mut self, message: &Message<'_>) -> Self {
        self.causes.push((message.record().topic, message.offset()));
        self
    }

    /// The topic that the message goes to.
    pub fn topic(&self) -> &str {
        &self.topic
    }
}

/// Bytes of an [`OutgoingMessage`], borrowed or owned, or Kafka's null. Made by `into()` from `&[u8]`, `&str`,
/// `&[u8; N]`, `&Vec<u8>`, `&String`, `Vec<u8>`, `String`, `Cow<[u8]>`, [`bytes::Bytes`] and `&Bytes`, and from an
/// `Option` of one of these.
///
/// Its `Debug` output has the length only, so that contents of messages don't get into a log.
///
/// ```
/// use kasper::OutgoingBytes;
///
/// let value = OutgoingBytes::from("secret");
/// assert_eq!(value.as_slice(), Some(&b"secret"[..]));
/// assert_eq!(format!("{value:?}"), "6 bytes");
/// assert_eq!(OutgoingBytes::from(None::<&str>).as_slice(), None);
/// ```
#[derive(Clone)]
pub struct OutgoingBytes<'a>(BytesRepr<'a>);

#[derive(Clone)]
enum BytesRepr<'a> {
    Null,
    Slice(Cow<'a, [u8]>),
    Shared(Shared),
}

/// Taken out before they are dropped. `Bytes` are dropped by their address: if that were in the message, the compiler would
/// have to put every message together in memory, these bytes or others, to send it.
#[derive(Clone)]
struct Shared(Option<bytes::Bytes>);

impl Drop for Shared {
    #[inline]
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

impl OutgoingBytes<'_> {
    const NULL: Self = Self(BytesRepr::Null);

    /// The bytes; `None` for null.
    #[inline]
    pub fn as_slice(&self) -> Option<&[u8]> {
        match &self.0 {
            BytesRepr::Null => None,
            BytesRepr::Slice(slice) => Some(slice),
            BytesRepr::Shared(shared) => shared.0.as_deref(),
        }
    }

    /// The bytes as the test kit keeps them.
    #[cfg(feature = "testkit")]
    pub(crate) fn into_bytes(self) -> Option<bytes::Bytes> {
        match self.0 {
            BytesRepr::Null => None,
            BytesRepr::Slice(slice) => Some(slice.into_owned().into()),
            BytesRepr::Shared(mut shared) => shared.0.take(),
        }
    }
}

impl fmt::Debug for OutgoingBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_slice() {
            Some(bytes) => write!(f, "{} bytes", bytes.len()),
            None => f.write_str("null"),
        }
    }
}

impl<'a, B: Into<OutgoingBytes<'a>>> From<Option<B>> for OutgoingBytes<'a> {
    fn from(value: Option<B>) -> Self {
        value.map_or(Self::NULL, Into::into)
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
    bytes::Bytes => |value| BytesRepr::Shared(Shared(Some(value))),
    Cow<'a, [u8]> => |value| BytesRepr::Slice(value),
}
