//! An incoming message, borrowed from its batch.
//!
//! Place in the data path: a [`Batch`](crate::Batch) hands it out.

use std::borrow::Cow;
use std::fmt;

use super::trace_context::{TRACEPARENT, TRACESTATE, TraceContext};
use super::{Offset, OwnedMessage, Payload, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::Mutex;

/// A message of a [`Batch`](crate::Batch), borrowed from it: nothing is copied.
///
/// It cannot outlive the call of [`process`](crate::Processor::process) that gets the batch. To keep a message, copy
/// it with [`to_owned`](Message::to_owned).
///
/// ```
/// # use kasper::testkit::{ProcessorTester, TestMessage};
/// # use kasper::{Batch, BoxError, Context, Processor};
/// use kasper::Message;
///
/// fn look_at(message: Message<'_>) {
///     assert_eq!(message.key(), None);
///     assert_eq!(message.value(), Some(&b""[..])); // empty, so it is not a tombstone
///     assert_eq!(message.timestamp(), None);
///     // The name `via` comes twice: the last value counts. `note` has the value null.
///     assert_eq!(message.header("via"), Some(&b"b"[..]));
///     assert_eq!(message.headers().count(), 3);
///     assert_eq!(message.header("note"), message.header("missing"));
/// }
/// # struct LookAt;
/// # impl Processor for LookAt {
/// #     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
/// #         Ok(batch.iter().for_each(look_at))
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// # let mut tester = ProcessorTester::new(["orders"], |_| LookAt);
/// # let message = TestMessage::new("orders").value("").header("via", "a").header("via", "b");
/// # tester.push(message.null_header("note"));
/// # assert_eq!(tester.run_batch().await?, 1);
/// # Ok(())
/// # }
/// ```
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
    #[inline]
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// The partition number that the message was read from.
    #[inline]
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The message's own offset.
    #[inline]
    pub fn offset(&self) -> Offset {
        self.record.offset()
    }

    /// The key; `None` if the message has none.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.record.key()
    }

    /// The key as text.
    ///
    /// # Errors
    /// [`Decode`](crate::ErrorKind::Decode): the message has no key, or its key is not UTF-8. The error has the
    /// `topic`, `partition` and `offset`.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct LookAt;
    /// # impl Processor for LookAt {
    /// #     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    /// # let mut messages = batch.iter();
    /// # let (message, without_key) = (messages.next().unwrap(), messages.next().unwrap());
    /// assert_eq!(message.key_str()?, "Zoë");
    /// assert_eq!(without_key.key_str().unwrap_err().get("offset"), Some("1"));
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # let mut tester = ProcessorTester::new(["orders"], |_| LookAt);
    /// # tester.push(TestMessage::new("orders").key("Zoë"));
    /// # tester.push(TestMessage::new("orders"));
    /// # assert_eq!(tester.run_batch().await?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn key_str(&self) -> Result<&'a str> {
        let key = self.key().ok_or_else(|| self.undecodable("a message has no key"))?;
        std::str::from_utf8(key)
            .map_err(|cause| self.undecodable("a message's key is not UTF-8").with_source(cause))
    }

    /// The value of the last header with this name as text; `None` as for [`header`](Self::header).
    ///
    /// # Errors
    /// [`Decode`](crate::ErrorKind::Decode): the value is not UTF-8. The error has the `topic`, `partition`, `offset`
    /// and `header`.
    pub fn header_str(&self, name: &str) -> Result<Option<&'a str>> {
        let text = self.header(name).map(std::str::from_utf8).transpose();
        text.map_err(|cause| {
            let error = self.undecodable("a header of a message is not UTF-8");
            error.with("header", name).with_source(cause)
        })
    }

    /// An error about this message's contents.
    pub(crate) fn undecodable(&self, fault: &str) -> Error {
        Error::new(ErrorKind::Decode, fault)
            .with("topic", self.topic())
            .with("partition", self.partition())
            .with("offset", self.offset())
    }

    /// The value. `None` for a *tombstone*, which deletes the key in a compacted topic.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.record.value()
    }

    pub(crate) fn record(&self) -> &'a Record {
        self.record
    }

    /// The timestamp in milliseconds since 1970-01-01 UTC. It is the producer's timestamp or, with
    /// `message.timestamp.type=LogAppendTime`, the broker's. `None` if the message has none.
    #[inline]
    pub fn timestamp(&self) -> Option<i64> {
        match &self.record.payload {
            #[cfg(feature = "kafka")]
            Payload::Kafka(message) => message.timestamp(),
            Payload::Owned(message) => message.timestamp,
        }
    }

    /// The headers, in order. A name may come more than once. They are parsed at the first call.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let list = match &self.record.payload {
            #[cfg(feature = "kafka")]
            Payload::Kafka(message) => HeaderList::Kafka(message.headers(self.headers_lock)),
            Payload::Owned(message) => HeaderList::Owned(&message.headers),
        };
        (0..).map_while(move |index| list.get(index))
    }

    /// The value of the last header of this name, as Kafka's own clients look headers up. `None` if there is no such
    /// header or its value is null.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let headers = self.headers().filter(|header| header.name == name);
        headers.last().and_then(|header| header.value)
    }

    /// The trace that the message belongs to, from its W3C headers `traceparent` and `tracestate`. `None` if there is
    /// no `traceparent`, or if it is not valid according to [Trace Context](https://www.w3.org/TR/trace-context/).
    pub fn trace_context(&self) -> Option<TraceContext> {
        TraceContext::parse(self.header(TRACEPARENT)?, self.header(TRACESTATE))
    }

    /// A copy that can be kept after `process` has returned.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// use std::sync::{Arc, Mutex};
    ///
    /// use kasper::{Batch, BoxError, Context, Offset, OwnedMessage, Processor};
    ///
    /// /// Keeps the tombstones.
    /// struct Deletions(Arc<Mutex<Vec<OwnedMessage>>>);
    ///
    /// impl Processor for Deletions {
    ///     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    ///         let deletions = batch.iter().filter(|message| message.value().is_none());
    ///         self.0.lock().unwrap().extend(deletions.map(|message| message.to_owned()));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let kept = Arc::new(Mutex::new(Vec::new()));
    /// # let shared = kept.clone();
    /// # let mut tester = ProcessorTester::new(["profiles"], move |_| Deletions(shared.clone()));
    /// tester.push(TestMessage::new("profiles").key("7").value("Ada"));
    /// tester.push(TestMessage::tombstone("profiles", "7"));
    /// tester.run_batch().await?;
    /// let kept = kept.lock().unwrap();
    /// assert_eq!((kept.len(), kept[0].offset, &kept[0].key), (1, Offset::new(1), &Some(b"7".to_vec())));
    /// # Ok(())
    /// # }
    /// ```
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
    /// The name. It is owned only if the sender's bytes are not UTF-8, which Kafka forbids but no broker checks. The
    /// invalid bytes are replaced by U+FFFD.
    pub name: Cow<'a, str>,
    /// The value; `None` is Kafka's null.
    pub value: Option<&'a [u8]>,
}
