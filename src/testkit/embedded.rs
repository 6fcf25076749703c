//! A broker inside the process, and a feeder that writes to it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{
    BaseRecord, DefaultProducerContext, Producer, ProducerContext, ThreadedProducer,
};

use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::message::{Offset, OutgoingMessage};

/// A Kafka broker inside the process. It speaks the real protocol on a loopback port, and keeps its data in memory.
///
/// It is librdkafka's mock cluster. Groups, rebalances and commits work as with a real broker. It does not have the
/// admin API, and you can't rely on transactions. It keeps at most 5 MiB or 100,000 messages per partition, and drops
/// the oldest silently: a test that writes more must wait for the reader, as [`Feeder`] does. A group's first join takes
/// 3 s; static [`partitions`](crate::Builder::partitions) start at once.
///
/// The broker stops when the value is dropped.
///
/// ```
/// use kasper::testkit::EmbeddedBroker;
///
/// let broker = EmbeddedBroker::start()?;
/// broker.create_topic("orders", 4)?;
/// assert!(broker.create_topic("orders", 4).is_err()); // it exists
/// assert!(broker.brokers().starts_with("127.0.0.1:"));
/// # Ok::<(), kasper::Error>(())
/// ```
pub struct EmbeddedBroker {
    brokers: String,
    /// The cluster stays on its own thread, which ends when this sender is dropped.
    commands: mpsc::Sender<Command>,
}

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Command = Box<dyn FnOnce(&Cluster) + Send>;

impl EmbeddedBroker {
    /// Starts a cluster of one broker.
    ///
    /// # Errors
    /// The broker can't listen on a loopback port.
    pub fn start() -> Result<Self> {
        let (commands, received) = mpsc::channel::<Command>();
        let (started, brokers) = mpsc::channel();
        let serve = move || match Cluster::new(1) {
            Ok(cluster) => {
                let _nobody_waits = started.send(Ok(cluster.bootstrap_servers()));
                received.iter().for_each(|command| command(&cluster));
            }
            Err(error) => {
                let _nobody_waits = started.send(Err(failed("start", error)));
            }
        };
        let thread = thread::Builder::new().name("kasper-embedded-broker".into()).spawn(serve);
        thread.map_err(|error| gone("start").with_source(error))?;
        let brokers = brokers.recv().map_err(|_| gone("start"))??;
        Ok(Self { brokers, commands })
    }

    /// The address, for [`Builder::brokers`](crate::Builder::brokers).
    pub fn brokers(&self) -> String {
        self.brokers.clone()
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// The topic exists already, or the count is below 1.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        let name = topic.to_owned();
        self.call("create_topic", move |cluster| cluster.create_topic(&name, partitions, 1))
            .map_err(|error| error.with("topic", topic))
    }

    /// Stops answering, like a broker that has lost its network, until [`resume`](Self::resume) is called. The data
    /// stays.
    ///
    /// # Errors
    /// The cluster refused.
    pub fn suspend(&self) -> Result<()> {
        self.call("suspend", |cluster| cluster.broker_down(1))
    }

    /// Answers again after [`suspend`](Self::suspend).
    ///
    /// # Errors
    /// The cluster refused.
    pub fn resume(&self) -> Result<()> {
        self.call("resume", |cluster| cluster.broker_up(1))
    }

    fn call(
        &self,
        operation: &'static str,
        call: impl FnOnce(&Cluster) -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<()> {
        let (answer, answered) = mpsc::channel();
        let command: Command = Box::new(move |cluster| {
            let _nobody_waits = answer.send(call(cluster));
        });
        self.commands.send(command).map_err(|_| gone(operation))?;
        let result = answered.recv().map_err(|_| gone(operation))?;
        result.map_err(|error| failed(operation, error))
    }
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker").field("brokers", &self.brokers).finish()
    }
}

/// How much one partition may hold unread: well below what the embedded broker keeps.
const WINDOW_BYTES: usize = 2 << 20;
const WINDOW_MESSAGES: usize = 20_000;

/// Writes messages to the partitions of one topic, and waits for the reader if it falls too far behind.
///
/// It must be the topic's only writer, from the beginning, because it counts the offsets itself.
///
/// ```
/// # use kasper::{Batch, BoxError, Context, Processor};
/// # struct Count;
/// # impl Processor for Count {
/// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
/// # }
/// use kasper::testkit::{EmbeddedBroker, Feeder};
/// use kasper::{Offset, TopicPartition, TopicProcessor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// let broker = EmbeddedBroker::start()?;
/// broker.create_topic("orders", 2)?;
/// let processor = TopicProcessor::builder("count-orders", ["orders"])
///     .brokers(broker.brokers())
///     .partitions(0..2)
///     .build(|_partition| Count)
///     .await?;
/// let handle = processor.handle();
/// let mut feeder = Feeder::new(&broker.brokers(), "orders", 2, handle.clone())?;
/// let running = tokio::spawn(processor.run());
/// for order in ["1", "2", "3"] {
///     feeder.send(order.as_bytes()).await?;
/// }
/// assert_eq!(feeder.finish().await?, 3);
///
/// handle.close();
/// let report = running.await.unwrap()?;
/// assert_eq!(report.messages, 3);
/// assert_eq!(report.next_offsets[&TopicPartition::new("orders", 0)], Offset::new(2));
/// # Ok(())
/// # }
/// ```
pub struct Feeder {
    producer: ThreadedProducer<FirstFailure>,
    failure: Arc<OnceLock<String>>,
    topic: Arc<str>,
    partitions: Vec<FedPartition>,
    next: usize,
    reader: Handle,
}

/// Notes the first message that could not be delivered.
struct FirstFailure(Arc<OnceLock<String>>);

impl ClientContext for FirstFailure {}

impl ProducerContext for FirstFailure {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.get_or_init(|| error.to_string());
        }
    }
}

#[derive(Default)]
struct FedPartition {
    number: i32,
    sent: i64,
    /// Offset and size of each message that the reader has not finished.
    unread: VecDeque<(i64, usize)>,
    unread_bytes: usize,
}

impl FedPartition {
    fn is_full(&self) -> bool {
        self.unread.len() >= WINDOW_MESSAGES || self.unread_bytes >= WINDOW_BYTES
    }

    fn read_up_to(&mut self, next: Offset) {
        while let Some((_, size)) = self.unread.pop_front_if(|(offset, _)| *offset < next.get()) {
            self.unread_bytes -= size;
        }
    }
}

impl Feeder {
    /// A feeder of `topic`, which has this many partitions. The processor behind the handle `reader` reads the topic.
    ///
    /// # Errors
    /// The number of partitions is below 1, or the Kafka client can't be created.
    pub fn new(brokers: &str, topic: &str, partitions: i32, reader: Handle) -> Result<Self> {
        if partitions < 1 {
            let message = "a feeder needs at least one partition";
            return Err(Error::new(ErrorKind::InvalidInput, message).with("topic", topic));
        }
        let failure = Arc::new(OnceLock::new());
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .create_with_context(FirstFailure(failure.clone()))
            .map_err(|error| failed("feeder", error))?;
        let partitions =
            (0..partitions).map(|number| FedPartition { number, ..Default::default() });
        Ok(Self {
            producer,
            failure,
            topic: topic.into(),
            partitions: partitions.collect(),
            next: 0,
            reader,
        })
    }

    /// Writes one message, without a key, to the next partition.
    ///
    /// # Errors
    /// The client refuses the message, an earlier message could not be delivered, or the reader is closed.
    pub async fn send(&mut self, value: &[u8]) -> Result<()> {
        let topic = self.topic.clone();
        self.send_message(OutgoingMessage::new(&*topic).value(value)).await
    }

    /// Writes one message with all its parts, to its [partition](OutgoingMessage::partition) or, if it names none, to
    /// the next one. The key does not choose the partition.
    ///
    /// # Errors
    /// The message is for a topic or a partition that is not the feeder's, the client refuses it, an earlier message
    /// could not be delivered, or the reader is closed.
    #[allow(clippy::needless_pass_by_value, reason = "a message is built for one call")]
    pub async fn send_message(&mut self, message: OutgoingMessage<'_>) -> Result<()> {
        let index = self.place(&message)?;
        self.wait_until(|feeder| !feeder.partitions[index].is_full()).await?;
        let partition = &mut self.partitions[index];
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).partition(partition.number);
        record.key = message.key.as_slice();
        record.payload = message.value.as_slice();
        record.timestamp = message.timestamp;
        record.headers = headers(&message);
        let size = record.key.map_or(0, <[u8]>::len) + record.payload.map_or(0, <[u8]>::len);
        while let Err((error, refused)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(failed("feed", error).with("topic", &self.topic));
            }
            record = refused;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        partition.unread.push_back((partition.sent, size));
        partition.unread_bytes += size;
        partition.sent += 1;
        Ok(())
    }

    /// The index of the partition that the message goes to.
    fn place(&mut self, message: &OutgoingMessage<'_>) -> Result<usize> {
        let refused = |fault: &str| {
            Err(Error::new(ErrorKind::InvalidInput, fault).with("topic", message.topic()))
        };
        if message.topic() != &*self.topic {
            return refused("the message is for another topic than the feeder's");
        }
        match message.partition {
            None => {
                let index = self.next;
                self.next = (self.next + 1) % self.partitions.len();
                Ok(index)
            }
            Some(number) => match usize::try_from(number) {
                Ok(index) if index < self.partitions.len() => Ok(index),
                _ => refused("the message is for a partition that the feeder does not have"),
            },
        }
    }

    /// Waits until the reader has finished everything, and returns the number of messages.
    ///
    /// # Errors
    /// A message could not be delivered, or the reader closes before it has finished everything.
    pub async fn finish(mut self) -> Result<u64> {
        self.wait_until(|feeder| feeder.partitions.iter().all(|p| p.unread.is_empty())).await?;
        self.producer.flush(Duration::from_secs(10)).map_err(|error| failed("feed", error))?;
        Ok(self.partitions.iter().map(|partition| partition.sent.unsigned_abs()).sum())
    }

    async fn wait_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<()> {
        while !done(self) {
            self.look();
            if done(self) {
                break;
            }
            if let Some(reason) = self.failure.get() {
                return Err(Error::new(ErrorKind::Delivery, reason).with("topic", &self.topic));
            }
            tokio::select! {
                () = self.reader.closed() => {
                    let message = "the processor closed before it had read everything";
                    return Err(Error::new(ErrorKind::Backend, message).with("topic", &self.topic));
                }
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
        Ok(())
    }

    fn look(&mut self) {
        for status in self.reader.status().partitions {
            let fed = self.partitions.iter_mut();
            let fed = fed.filter(|_| *status.partition.topic == *self.topic);
            let mut fed = fed.filter(|fed| fed.number == status.partition.number);
            if let Some(fed) = fed.next() {
                fed.read_up_to(status.next_offset);
            }
        }
    }
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder").field("topic", &self.topic).finish_non_exhaustive()
    }
}

fn headers(message: &OutgoingMessage<'_>) -> Option<OwnedHeaders> {
    if message.headers.is_empty() {
        return None;
    }
    let empty = OwnedHeaders::new_with_capacity(message.headers.len());
    Some(message.headers.iter().fold(empty, |headers, (name, value)| {
        let value = value.as_slice();
        headers.insert(Header { key: name, value })
    }))
}

/// Creates a topic on a real cluster, with the brokers' default replication.
///
/// # Errors
/// No broker answers within 10 s, or the topic exists already.
pub async fn create_topic(brokers: &str, topic: &str, partitions: i32) -> Result<()> {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let client: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .map_err(|error| failed("create_topic", error))?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
    let results = client.create_topics([&new], &options).await;
    let results =
        results.map_err(|error| failed("create_topic", error).with("brokers", brokers))?;
    for result in results {
        result.map_err(|(topic, code)| {
            Error::new(ErrorKind::Backend, code.to_string()).with("topic", topic)
        })?;
    }
    Ok(())
}

fn gone(operation: &'static str) -> Error {
    Error::new(ErrorKind::Internal, "the embedded broker's thread is gone")
        .with("operation", operation)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(operation: &'static str, error: KafkaError) -> Error {
    Error::new(ErrorKind::Backend, error.to_string()).with("operation", operation)
}
