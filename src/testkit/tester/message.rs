//! Messages that a test makes, and messages that it finds.

use bytes::Bytes;

use crate::message::delivery::OutgoingRef;
use crate::message::{Offset, OutgoingMessage, OwnedMessage};

/// A message for a processor under test; see [`ProcessorTester::push`](super::ProcessorTester::push).
///
/// It can also be made from an [`OwnedMessage`], for example a message copied from a real topic, or from an
/// [`OutgoingRecord`], so that one processor's outgoing messages feed the next processor.
///
/// ```
/// use kasper::OutgoingMessage;
/// use kasper::testkit::{OutgoingRecord, TestMessage};
///
/// let order = TestMessage::new("orders").key("42").value(r#"{"amount": 3}"#).header("source", "web");
/// assert_ne!(order, TestMessage::tombstone("orders", "42").header("source", "web"));
///
/// // A message that another processor has sent; its partition is not kept.
/// let sent = OutgoingRecord::from(OutgoingMessage::new("orders").key("42").partition(3));
/// assert_eq!(TestMessage::from(sent), TestMessage::tombstone("orders", "42"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestMessage {
    pub(super) topic: String,
    pub(super) offset: Option<Offset>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(super) timestamp: Option<i64>,
}

impl TestMessage {
    /// A message in `topic` with no key, no value (a tombstone), no headers and no timestamp yet.
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            offset: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// The deletion of `key` in a compacted topic: a message without a value.
    pub fn tombstone(topic: impl Into<String>, key: impl AsRef<[u8]>) -> Self {
        Self::new(topic).key(key)
    }

    /// Sets the key. Default: none.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// Sets the value. Default: none, which makes the message a tombstone.
    #[must_use]
    pub fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        self.value = Some(value.as_ref().to_vec());
        self
    }

    /// Adds a header. The same name may be added more than once.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), Some(value.as_ref().to_vec())));
        self
    }

    /// Adds a header whose value is Kafka's null.
    #[must_use]
    pub fn null_header(mut self, name: impl Into<String>) -> Self {
        self.headers.push((name.into(), None));
        self
    }

    /// Sets the timestamp, in milliseconds since 1970-01-01 UTC. Default: none.
    #[must_use]
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }

    /// Sets the offset, to leave a gap as compaction and transactions do. Default: the offset after the topic's last
    /// message.
    #[must_use]
    pub fn offset(mut self, offset: i64) -> Self {
        self.offset = Some(Offset::new(offset));
        self
    }
}

impl From<OwnedMessage> for TestMessage {
    /// Keeps the offset, but not the partition.
    fn from(message: OwnedMessage) -> Self {
        Self {
            topic: message.topic.to_string(),
            offset: Some(message.offset),
            key: message.key,
            value: message.value,
            headers: message.headers,
            timestamp: message.timestamp,
        }
    }
}

impl From<OutgoingRecord> for TestMessage {
    /// Does not keep the partition.
    fn from(record: OutgoingRecord) -> Self {
        let vec = |bytes: Option<Bytes>| bytes.map(Vec::from);
        Self {
            topic: record.topic,
            offset: None,
            key: vec(record.key),
            value: vec(record.value),
            headers: record.headers.into_iter().map(|(name, value)| (name, vec(value))).collect(),
            timestamp: record.timestamp,
        }
    }
}

/// A message that a processor under test has sent; see
/// [`ProcessorTester::outgoing`](super::ProcessorTester::outgoing).
///
/// It can be compared with the expected [`OutgoingMessage`], and can be made from one:
///
/// ```
/// use kasper::OutgoingMessage;
/// use kasper::testkit::OutgoingRecord;
///
/// let record = OutgoingRecord::from(OutgoingMessage::new("counts").key("a").value("2"));
/// assert_eq!(record, OutgoingMessage::new("counts").key("a").value("2"));
/// assert_eq!(record.value.as_deref(), Some(&b"2"[..]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutgoingRecord {
    /// The topic that the message was sent to.
    pub topic: String,
    /// The partition that the processor chose; `None` if it left the choice to the partitioner.
    pub partition: Option<i32>,
    /// The key, if there is one.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values of the headers, in order.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since 1970-01-01 UTC; `None` means the time of sending.
    pub timestamp: Option<i64>,
}

impl OutgoingRecord {
    pub(super) fn new(topic: &str, message: OutgoingRef<'_>) -> Self {
        let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        let headers = message.headers();
        Self {
            topic: topic.to_owned(),
            partition: message.partition,
            key: copy(message.key),
            value: copy(message.value),
            headers: headers
                .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), copy(value)))
                .collect(),
            timestamp: message.timestamp,
        }
    }

    /// The value of the last header of this name. `None` if there is no such header or its value is
    /// null.
    ///
    /// ```
    /// use kasper::OutgoingMessage;
    /// use kasper::testkit::OutgoingRecord;
    ///
    /// let record = OutgoingRecord::from(OutgoingMessage::new("counts").header("lang", "en"));
    /// assert_eq!(record.header("lang"), Some(&b"en"[..]));
    /// assert_eq!(record.header("other"), None);
    /// ```
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let header = self.headers.iter().rev().find(|(known, _)| known == name);
        header.and_then(|(_, value)| value.as_deref())
    }
}

impl From<OutgoingMessage<'_>> for OutgoingRecord {
    fn from(message: OutgoingMessage<'_>) -> Self {
        let copy = Bytes::copy_from_slice;
        let headers = message.headers.iter();
        Self {
            topic: message.topic.to_string(),
            partition: message.partition,
            key: message.key.as_slice().map(copy),
            value: message.value.as_slice().map(copy),
            headers: headers
                .map(|(name, value)| (name.to_string(), value.as_slice().map(copy)))
                .collect(),
            timestamp: message.timestamp,
        }
    }
}

impl PartialEq<OutgoingMessage<'_>> for OutgoingRecord {
    fn eq(&self, expected: &OutgoingMessage<'_>) -> bool {
        let expected = Self::from(expected.clone());
        *self == expected
    }
}
