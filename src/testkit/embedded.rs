//! A broker inside the process.

use std::fmt;
use std::sync::mpsc;
use std::thread;

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::client::TestClient;
use super::message::TestMessage;
use super::{failed, reading};
use crate::error::{Error, ErrorKind, Result};

/// A Kafka broker inside the process. It speaks the real protocol on a loopback port, and keeps its data in memory.
///
/// It is librdkafka's mock cluster. Groups, rebalances and commits work as with a real broker. It does not have the
/// admin API, and you can't rely on transactions. It keeps at most 5 MiB or 100,000 messages per partition, and drops
/// the oldest silently: a test that writes more must wait for the reader, as [`Feeder`](super::Feeder) does. A group's first join takes
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
                let _nobody_waits = started.send(Err(failed("start", &error)));
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

    /// A client that writes to this broker's topics and reads them.
    ///
    /// # Errors
    /// Those of [`TestClient::new`].
    ///
    /// ```
    /// use kasper::testkit::{EmbeddedBroker, TestMessage};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let broker = EmbeddedBroker::start()?;
    /// broker.create_topic("orders", 4)?;
    /// broker.client()?.send(TestMessage::new("orders").key("42").value("3 pens")).await?;
    /// assert_eq!(broker.read_all("orders").await?[0].value_text(), Some("3 pens"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn client(&self) -> Result<TestClient> {
        TestClient::new(self.brokers(), &[])
    }

    /// Everything that the topic holds; see [`TestClient::read_all`], which this is short for.
    ///
    /// # Errors
    /// Those of [`TestClient::read_all`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let broker = kasper::testkit::EmbeddedBroker::start()?;
    /// broker.create_topic("orders", 4)?;
    /// assert_eq!(broker.read_all("orders").await?, []);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_all(&self, topic: &str) -> Result<Vec<TestMessage>> {
        reading::read_all(&self.brokers, &[], topic).await
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
        result.map_err(|error| failed(operation, &error))
    }
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker").field("brokers", &self.brokers).finish()
    }
}

fn gone(operation: &'static str) -> Error {
    Error::new(ErrorKind::Internal, "the embedded broker's thread is gone")
        .with("operation", operation)
}
