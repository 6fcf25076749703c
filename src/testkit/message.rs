//! [`TestMessage`]: what tests write, and what they find.

use std::fmt;

use bytes::Bytes;

use crate::codec::Decode;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::message::outbox::OutgoingRef;
use crate::message::{Offset, OutgoingBytes, OutgoingMessage, OwnedMessage};

/// The message of the test kit, going in and coming out: what a test [pushes](super::ProcessorTester::push) to a
/// processor, what the processor has [sent](super::ProcessorTester::outgoing), what a test writes to a topic and what
/// it reads from one with the `TestClient`.
///
/// It is built with the methods of an [`OutgoingMessage`], and its parts can be read as fields. Two messages are equal
/// if all parts are. A broker sets partition, offset and timestamp: [`content`](Self::content) leaves these out of a
/// comparison. The `Debug` output shows keys, values and headers as text.
///
/// A processor has types of its own: it reads a borrowed [`Message`](crate::Message), keeps it as an [`OwnedMessage`],
/// and sends an [`OutgoingMessage`]. The latter two become a `TestMessage` by `into()`.
///
/// ```
/// use kasper::OutgoingMessage;
/// use kasper::testkit::TestMessage;
///
/// let order = TestMessage::new("orders").key("42").value("3 pens").header("source", "web");
/// assert_eq!((order.key_text(), order.value_text()), (Some("42"), Some("3 pens")));
/// assert_eq!(order.header_text("source"), Some("web"));
/// assert_ne!(order, TestMessage::tombstone("orders", "42").header("source", "web"));
///
/// let sent = OutgoingMessage::new("orders").key("42").value("3 pens").header("source", "web");
/// assert_eq!(order, sent.into());
/// let shown = r#"TestMessage { topic: "orders", key: "42", value: "3 pens", headers: {"source": "web"} }"#;
/// assert_eq!(format!("{order:?}"), shown);
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TestMessage {
    /// The topic's name.
    pub topic: String,
    /// The partition number. `None` leaves the choice to the partitioner.
    pub partition: Option<i32>,
    /// The message's own offset. `None` until the message is in a log.
    pub offset: Option<Offset>,
    /// The key, if there is one.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values of the headers, in order.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since 1970-01-01 UTC. `None` means the time of sending, for a message that is sent.
    pub timestamp: Option<i64>,
}

impl TestMessage {
    /// A message in `topic` with no key, no value (a tombstone) and no headers yet.
    ///
    /// ```
    /// use kasper::testkit::TestMessage;
    ///
    /// let message = TestMessage::new("orders");
    /// assert_eq!((message.topic.as_str(), message.key, message.value), ("orders", None, None));
    /// ```
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            offset: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// The deletion of `key` in a compacted topic: a message without a value.
    ///
    /// ```
    /// use kasper::testkit::TestMessage;
    ///
    /// let deletion = TestMessage::tombstone("orders", "42");
    /// assert_eq!((deletion.key_text(), deletion.value_text()), (Some("42"), None));
    /// ```
    pub fn tombstone<'a>(topic: impl Into<String>, key: impl Into<OutgoingBytes<'a>>) -> Self {
        Self::new(topic).key(key)
    }

    /// Sets the key; `None` removes it. Default: none.
    ///
    /// ```
    /// use kasper::testkit::TestMessage;
    ///
    /// assert_eq!(TestMessage::new("orders").key("42").key_text(), Some("42"));
    /// assert_eq!(TestMessage::new("orders").key("42").key(None::<&str>).key, None);
    /// ```
    #[must_use]
    pub fn key<'a>(mut self, key: impl Into<OutgoingBytes<'a>>) -> Self {
        self.key = key.into().into_bytes();
        self
    }

    /// Sets the value; `None` removes it, which makes the message a tombstone. Default: none.
    ///
    /// ```
    /// use kasper::testkit::TestMessage;
    ///
    /// assert_eq!(TestMessage::new("orders").value("3 pens").value_text(), Some("3 pens"));
    /// ```
    #[must_use]
    pub fn value<'a>(mut self, value: impl Into<OutgoingBytes<'a>>) -> Self {
        self.value = value.into().into_bytes();
        self
    }

    /// Adds a header. The same name may be added more than once. The value `None` is Kafka's null.
    ///
    /// ```
    /// use kasper::testkit::TestMessage;
    ///
    /// let message = TestMessage::new("orders").header("via", "a").header("via", "b");
    /// assert_eq!(message.headers.len(), 2);
    /// assert_eq!(message.header_text("via"), Some("b")); // as a Kafka client reads it
    /// ```
    #[must_use]
    pub fn header<'a>(
        mut self,
        name: impl Into<String>,
        value: impl Into<OutgoingBytes<'a>>,
    ) -> Self {
        self.headers.push((name.into(), value.into().into_bytes()));
        self
    }

    /// Adds a header whose value is Kafka's null.
    ///
    /// ```
    /// use kasper::testkit::TestMessage;
    ///
    /// let message = TestMessage::new("orders").null_header("note");
    /// assert_eq!(message.headers, [("note".to_owned(), None)]);
    /// ```
    #[must_use]
    pub fn null_header(self, name: impl Into<String>) -> Self {
        self.header(name, None::<&[u8]>)
    }

    /// Sets the timestamp, in milliseconds since 1970-01-01 UTC. Default: none, or the time of sending. Kafka's client
    /// treats 0 as the time of sending, too.
    ///
    /// ```
    /// use kasper::testkit::TestMessage;
    ///
    /// let message = TestMessage::new("orders").timestamp(1_700_000_000_000);
    /// assert_eq!(message.timestamp, Some(1_700_000_000_000));
    /// ```
    #[must_use]
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }

    /// Sets the partition that the message goes to, whatever its key. Default: the partitioner chooses one. A
    /// [`ProcessorTester`](super::ProcessorTester) has one partition number, and takes the message there in any case.
    ///
    /// ```
    /// use kasper::testkit::TestMessage;
    ///
    /// assert_eq!(TestMessage::new("orders").partition(3).partition, Some(3));
    /// ```
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the offset that the message has in the log of a [`ProcessorTester`](super::ProcessorTester), to leave a gap
    /// as compaction and transactions do. Default: the offset after the topic's last message. A broker does not look
    /// at it.
    ///
    /// ```
    /// use kasper::Offset;
    /// use kasper::testkit::TestMessage;
    ///
    /// assert_eq!(TestMessage::new("orders").offset(7).offset, Some(Offset::new(7)));
    /// ```
    #[must_use]
    pub fn offset(mut self, offset: i64) -> Self {
        self.offset = Some(Offset::new(offset));
        self
    }

    /// The key as text; `None` if there is no key.
    ///
    /// ```
    /// use kasper::testkit::TestMessage;
    ///
    /// assert_eq!(TestMessage::new("orders").key("Zoë").key_text(), Some("Zoë"));
    /// assert_eq!(TestMessage::new("orders").key_text(), None);
    /// ```
    ///
    /// # Panics
    /// The key is not UTF-8.
    #[track_caller]
    pub fn key_text(&self) -> Option<&str> {
        self.text("key", self.key.as_deref())
    }

    /// The value as text; `None` if the message is a tombstone.
    ///
    /// ```
    /// use kasper::testkit::TestMessage;
    ///
    /// assert_eq!(TestMessage::new("orders").value("3 pens").value_text(), Some("3 pens"));
    /// assert_eq!(TestMessage::new("orders").value_text(), None);
    /// ```
    ///
    /// # Panics
    /// The value is not UTF-8.
    #[track_caller]
    pub fn value_text(&self) -> Option<&str> {
        self.text("value", self.value.as_deref())
    }

    /// The value of the last header of this name as text; `None` as for [`header_value`](Self::header_value).
    ///
    /// ```
    /// use kasper::testkit::TestMessage;
    ///
    /// let message = TestMessage::new("orders").header("lang", "en");
    /// assert_eq!((message.header_text("lang"), message.header_text("via")), (Some("en"), None));
    /// ```
    ///
    /// # Panics
    /// The value is not UTF-8.
    #[track_caller]
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.text(name, self.header_value(name))
    }

    /// The value of the last header of this name. `None` if there is no such header or its value is null.
    ///
    /// ```
    /// use kasper::testkit::TestMessage;
    ///
    /// let message = TestMessage::new("orders").header("hash", b"\x01\xff").null_header("note");
    /// assert_eq!(message.header_value("hash"), Some(&b"\x01\xff"[..]));
    /// assert_eq!(message.header_value("note"), None);
    /// ```
    pub fn header_value(&self, name: &str) -> Option<&[u8]> {
        let header = self.headers.iter().rev().find(|(known, _)| known == name);
        header.and_then(|(_, value)| value.as_deref())
    }

    /// The value, decoded, as [`Message::decode`](crate::Message::decode) does; `None` if the message is a tombstone.
    ///
    /// ```
    /// use kasper::codec::{Encode, Json};
    /// use kasper::testkit::TestMessage;
    ///
    /// let message = TestMessage::new("sums").value(Json.encode(&[1, 2])?);
    /// assert_eq!(message.decode::<Vec<u8>>(Json)?, Some(vec![1, 2]));
    /// # Ok::<(), kasper::BoxError>(())
    /// ```
    ///
    /// # Errors
    /// [`Decode`](ErrorKind::Decode): the value can't be decoded as a `T`. The error shows the message, and has the
    /// codec's error as its cause.
    pub fn decode<'a, T>(&'a self, codec: impl Decode<'a, T>) -> Result<Option<T>> {
        let decoded = self.value.as_deref().map(|value| codec.decode(value)).transpose();
        decoded.map_err(|cause: BoxError| {
            let message = format!("the value can't be decoded: {self:?}");
            Error::new(ErrorKind::Decode, message).with_source(cause)
        })
    }

    /// A copy without what a broker sets: partition, offset and timestamp. To compare messages that were read with
    /// those that are expected.
    ///
    /// ```
    /// use kasper::testkit::TestMessage;
    ///
    /// let read = TestMessage::new("counts").key("a").value("2").partition(1).offset(7).timestamp(5);
    /// assert_eq!(read.content(), TestMessage::new("counts").key("a").value("2"));
    /// ```
    #[must_use]
    pub fn content(&self) -> Self {
        Self { partition: None, offset: None, timestamp: None, ..self.clone() }
    }

    #[track_caller]
    fn text<'a>(&self, part: &str, bytes: Option<&'a [u8]>) -> Option<&'a str> {
        match bytes.map(std::str::from_utf8).transpose() {
            Ok(text) => text,
            Err(error) => panic!("`{part}` is not UTF-8 ({error}): {self:?}"),
        }
    }

    /// What a processor under test has sent.
    pub(super) fn sent(topic: &str, message: OutgoingRef<'_>) -> Self {
        let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        Self {
            topic: topic.to_owned(),
            partition: message.partition,
            offset: None,
            key: copy(message.key),
            value: copy(message.value),
            headers: message.headers().map(|(n, value)| (name(n), copy(value))).collect(),
            timestamp: message.timestamp,
        }
    }
}

impl From<OwnedMessage> for TestMessage {
    fn from(message: OwnedMessage) -> Self {
        let bytes = |bytes: Option<Vec<u8>>| bytes.map(Bytes::from);
        let headers = message.headers.into_iter();
        Self {
            topic: message.topic.to_string(),
            partition: Some(message.partition),
            offset: Some(message.offset),
            key: bytes(message.key),
            value: bytes(message.value),
            headers: headers.map(|(name, value)| (name, bytes(value))).collect(),
            timestamp: message.timestamp,
        }
    }
}

impl From<OutgoingMessage<'_>> for TestMessage {
    fn from(message: OutgoingMessage<'_>) -> Self {
        let headers = message.headers.into_iter();
        Self {
            topic: message.topic.into_owned(),
            partition: message.partition,
            offset: None,
            key: message.key.into_bytes(),
            value: message.value.into_bytes(),
            headers: headers.map(|(name, value)| (name.into_owned(), value.into_bytes())).collect(),
            // As it is sent: the client takes 0 for the time of sending.
            timestamp: message.timestamp.filter(|time| *time != 0),
        }
    }
}

impl fmt::Debug for TestMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TestMessage");
        shown.field("topic", &self.topic);
        if let Some(partition) = &self.partition {
            shown.field("partition", partition);
        }
        if let Some(offset) = self.offset {
            shown.field("offset", &offset.get());
        }
        shown.field("key", &Shown(&self.key)).field("value", &Shown(&self.value));
        if !self.headers.is_empty() {
            shown.field("headers", &ShownHeaders(&self.headers));
        }
        if let Some(timestamp) = &self.timestamp {
            shown.field("timestamp", timestamp);
        }
        shown.finish()
    }
}

/// Text as text, other bytes as a byte string.
struct Shown<'a>(&'a Option<Bytes>);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_deref().map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            None => f.write_str("null"),
            Some((_, Ok(text))) => write!(f, "{text:?}"),
            Some((bytes, Err(_))) => write!(f, "b\"{}\"", bytes.escape_ascii()),
        }
    }
}

/// A name may come more than once.
struct ShownHeaders<'a>(&'a [(String, Option<Bytes>)]);

impl fmt::Debug for ShownHeaders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, value)| (name, Shown(value)))).finish()
    }
}
