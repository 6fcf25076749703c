//! [`TestClient`]: writes to topics and reads them, beside the processor under test.

use std::fmt;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

use super::failed;
use super::message::TestMessage;
use super::reading;
use super::writer::{Ack, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Offset;

/// A plain Kafka client for tests: it writes messages and reads whole topics, on the
/// [embedded broker](super::EmbeddedBroker::client) or on a real one.
///
/// Keys are partitioned as a processor's outgoing messages are by default: by murmur2, as in Java's clients. So a test's
/// input lies in the partitions where production's would. A [`Feeder`](super::Feeder) is for another task: it feeds a
/// running processor with more than the embedded broker keeps, and waits for the processor instead of for acks.
///
/// Clones share one connection. Dropping the last one drops messages whose acks were not awaited. If tokio's time is
/// paused, it may go on while acks are awaited; it stands still while a topic is read.
///
/// ```
/// # use kasper::{Batch, BoxError, Context, Processor};
/// use kasper::testkit::{EmbeddedBroker, TestMessage};
/// use kasper::{Offset, TopicProcessor};
///
/// struct Copy;
///
/// impl Processor for Copy {
///     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
///         Ok(batch.iter().for_each(|message| context.forward("copies", &message)))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// let broker = EmbeddedBroker::start()?;
/// broker.create_topic("orders", 4)?;
/// broker.create_topic("copies", 4)?;
/// let client = broker.client()?;
/// let order = TestMessage::new("orders").key("42").value("3 pens").header("source", "web");
/// let (partition, offset) = client.send(order.clone()).await?;
/// assert_eq!(offset, Offset::new(0));
///
/// let processor = TopicProcessor::builder("copy", ["orders"]).brokers(broker.brokers()).partitions(0..4);
/// processor.build(|_partition| Copy).await?.run_until_caught_up().await?;
///
/// let copies = client.read_all("copies").await?;
/// assert_eq!((copies.len(), copies[0].partition), (1, Some(partition)));
/// assert_eq!((copies[0].key_text(), copies[0].header_text("source")), (Some("42"), Some("web")));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TestClient {
    brokers: String,
    properties: Vec<(String, String)>,
    writer: Writer,
}

impl TestClient {
    /// A client of these brokers (`host:port,…`), with these properties of librdkafka, such as `security.protocol`.
    /// They override the test kit's own: `partitioner`, `message.timeout.ms`, `isolation.level` and others.
    ///
    /// Returns at once: the first call that needs a broker connects to it.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): a property does not exist, or its value is not valid.
    ///
    /// ```
    /// use kasper::ErrorKind;
    /// use kasper::testkit::TestClient;
    ///
    /// // For a processor that is built with `Partitioner::Fnv1aRandom`.
    /// TestClient::new("localhost:9092", &[("partitioner", "fnv1a_random")])?;
    /// let error = TestClient::new("localhost:9092", &[("no.such.property", "1")]).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// # Ok::<(), kasper::Error>(())
    /// ```
    pub fn new(brokers: impl Into<String>, properties: &[(&str, &str)]) -> Result<Self> {
        let brokers = brokers.into();
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let properties: Vec<_> = properties.iter().map(own).collect();
        let writer = Writer::new(&brokers, &properties)?;
        Ok(Self { brokers, properties, writer })
    }

    /// Creates a topic on a real cluster, with the brokers' default replication. The embedded broker has no admin API:
    /// see [`EmbeddedBroker::create_topic`](super::EmbeddedBroker::create_topic).
    ///
    /// # Errors
    /// No broker answers within 10 s, the topic exists already, or its name or the count is not valid. The error names
    /// the topic and the brokers.
    ///
    /// # Cancel safety
    /// If the future is dropped, the topic may be created or not.
    ///
    /// ```no_run
    /// use kasper::testkit::TestClient;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let client = TestClient::new("localhost:9092", &[])?;
    /// client.create_topic("orders", 4).await?;
    /// assert_eq!(client.read_all("orders").await?, []);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.extend(self.properties.iter().cloned());
        let named = |error: &KafkaError| {
            failed("create_topic", error).with("topic", topic).with("brokers", &self.brokers)
        };
        let client: AdminClient<DefaultClientContext> =
            config.create().map_err(|error| named(&error))?;
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
        let results = client.create_topics([&new], &options).await;
        let results = results.map_err(|error| named(&error))?;
        let refused = results.into_iter().find_map(std::result::Result::err);
        refused.map_or(Ok(()), |(_, code)| Err(named(&KafkaError::AdminOp(code))))
    }

    /// Writes a message, waits until all in-sync replicas have acknowledged it, and returns its partition and its
    /// offset.
    ///
    /// The message's [partition](TestMessage::partition), if it has one, comes before its key. Its offset is not looked
    /// at. A topic that does not exist is created if the broker creates topics by itself, as the embedded one does.
    ///
    /// # Errors
    /// The error names the topic. [`Delivery`](ErrorKind::Delivery): the message was not acknowledged within 30 s
    /// (`message.timeout.ms`), the topic or the partition does not exist, or the broker refuses the message. Other
    /// kinds: the client refuses it, for example because it is too large.
    ///
    /// # Cancel safety
    /// If the future is dropped, the message may be written or not.
    ///
    /// ```
    /// use kasper::Offset;
    /// use kasper::testkit::{EmbeddedBroker, TestMessage};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let broker = EmbeddedBroker::start()?;
    /// broker.create_topic("orders", 4)?;
    /// let client = broker.client()?;
    /// let chosen = TestMessage::tombstone("orders", "42").partition(3).timestamp(1_700_000_000_000);
    /// assert_eq!(client.send(chosen).await?, (3, Offset::new(0)));
    ///
    /// let first = client.send(TestMessage::new("orders").key("7").value("1")).await?;
    /// let second = client.send(TestMessage::new("orders").key("7").value("2")).await?;
    /// assert_eq!((second.0, second.1), (first.0, first.1.next())); // one key, one partition
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send(&self, message: impl Into<TestMessage>) -> Result<(i32, Offset)> {
        let message = message.into();
        let ack = self.writer.write(&message).await?;
        acknowledged(ack, &message.topic).await
    }

    /// Writes many messages faster than one [`send`](Self::send) after the other: the acks are awaited at the end.
    /// Messages of one partition keep their order. Returns partitions and offsets in the order of the messages.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), for the first message that fails. Any of the others may be written.
    ///
    /// # Cancel safety
    /// If the future is dropped, some messages may be written and others not.
    ///
    /// ```
    /// use kasper::testkit::{EmbeddedBroker, TestMessage};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let broker = EmbeddedBroker::start()?;
    /// broker.create_topic("orders", 4)?;
    /// let order = |number: u32| TestMessage::new("orders").partition(1).value(number.to_string());
    /// let sent = broker.client()?.send_all((0..1000).map(order)).await?;
    /// assert_eq!((sent[999].0, sent[999].1.get()), (1, 999));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send_all(
        &self,
        messages: impl IntoIterator<Item = impl Into<TestMessage>>,
    ) -> Result<Vec<(i32, Offset)>> {
        let mut acks = Vec::new();
        for message in messages {
            let message = message.into();
            acks.push((self.writer.write(&message).await?, message.topic));
        }
        let mut placed = Vec::with_capacity(acks.len());
        for (ack, topic) in acks {
            placed.push(acknowledged(ack, &topic).await?);
        }
        Ok(placed)
    }

    /// Everything that the topic holds at the moment of the call, up to the high watermarks: partition by partition,
    /// in the order of the offsets. Each message has its partition, its offset and its timestamp.
    ///
    /// As a processor does, it leaves out messages of transactions that are aborted or open, and what stands behind an
    /// open one, unless the property `isolation.level` says otherwise. It joins no group and commits nothing. It takes the
    /// broker's word for where a partition ends: while leaders change, or with `client.rack`, that broker may lag behind.
    ///
    /// # Errors
    /// The error names the topic. [`UnknownTopic`](ErrorKind::UnknownTopic): no broker has known the topic for 5 s.
    /// [`Timeout`](ErrorKind::Timeout): the end was not reached within 30 s. It has the brokers' last error as its
    /// cause. [`Unavailable`](ErrorKind::Unavailable): no broker could be reached in that time.
    /// [`Unauthorized`](ErrorKind::Unauthorized): a right is missing.
    ///
    /// # Panics
    /// Outside of a tokio runtime: a thread of its blocking pool reads the topic.
    ///
    /// # Cancel safety
    /// If the future is dropped, nothing is lost; the thread goes on until it has read the topic or the time is over.
    ///
    /// ```
    /// use kasper::Offset;
    /// use kasper::testkit::{EmbeddedBroker, TestMessage};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let broker = EmbeddedBroker::start()?;
    /// broker.create_topic("counts", 2)?;
    /// let client = broker.client()?;
    /// let count = |key| TestMessage::new("counts").key(key).value("1").header("lang", "en");
    /// client.send_all([count("b").partition(1), count("a").partition(0)]).await?;
    ///
    /// let counts = client.read_all("counts").await?;
    /// let contents: Vec<_> = counts.iter().map(TestMessage::content).collect();
    /// assert_eq!(contents, [count("a"), count("b")]);
    /// assert_eq!((counts[1].partition, counts[1].offset), (Some(1), Some(Offset::new(0))));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_all(&self, topic: &str) -> Result<Vec<TestMessage>> {
        reading::read_all(&self.brokers, &self.properties, topic).await
    }
}

async fn acknowledged(ack: Ack, topic: &str) -> Result<(i32, Offset)> {
    let error = |fault: &str| Error::new(ErrorKind::Delivery, fault).with("topic", topic);
    match ack.await {
        Ok(Ok(place)) => Ok(place),
        Ok(Err(cause)) => Err(error("a message could not be delivered").with_source(cause)),
        Err(_) => Err(error("a message got no delivery report")),
    }
}

impl fmt::Debug for TestClient {
    /// Names of properties, never their values: they may be passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.iter().map(|(name, _)| name).collect();
        f.debug_struct("TestClient")
            .field("brokers", &self.brokers)
            .field("properties", &names)
            .finish_non_exhaustive()
    }
}
