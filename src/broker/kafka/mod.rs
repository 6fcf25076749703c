//! Kafka itself, through librdkafka: the implementation of [`Consumer`], [`Queue`](super::Queue) and
//! [`Producer`].
//!
//! Place in the data path: both ends of it. Messages come out of [`queue`], outgoing ones go into
//! [`producer`]; all the rest is about who owns which partition.
//!
//! librdkafka is used without the `rdkafka` crate's consumers and producers, in *event mode*: it
//! calls nothing back but a wake-up, and puts what happens into queues. Two threads empty these,
//! `kasper-consumer` and `kasper-producer`, and do nothing that could take long, so the group sees a
//! live member however long a batch or a drain takes. A rebalance is only *reported* by the thread;
//! librdkafka waits for the answer, which the topic processor gives when it is ready.
//!
//! | file | what |
//! | --- | --- |
//! | `ffi` | librdkafka's handles as safe owners; all `unsafe` code |
//! | `consumer`, `assignment`, `control` | the consumer, its partitions' queues, its thread |
//! | `denial` | whether the group refuses this client |
//! | `queue` | messages of one partition number |
//! | `offsets`, `metadata`, `growth` | questions to the brokers |
//! | `producer` | outgoing messages and their delivery reports |
//! | `statistics`, `report`, `log`, `errors`, `refusals`, `token` | translations |

mod assignment;
mod consumer;
mod control;
mod denial;
mod errors;
mod ffi;
mod growth;
mod log;
mod metadata;
mod offsets;
mod producer;
mod queue;
pub(crate) mod refusals;
mod report;
mod statistics;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;
use tracing::Span;

use self::consumer::KafkaConsumer;
use self::ffi::{Client, CreateError, QueueHandle, Role};
use self::producer::KafkaProducer;
use crate::broker::{Consumer, Event, Producer};
use crate::error::{Error, ErrorKind, Result};
use crate::message::TopicPartition;

#[cfg(feature = "testkit")]
pub(crate) use self::errors::of_crate as error_of_crate;
#[cfg(test)]
pub(crate) use self::ffi::table_of_properties;
pub(crate) use self::ffi::{Headers, KafkaMessage};
pub(crate) use self::metadata::{MetadataClient, TopicMetadata};
pub use self::token::OauthToken;
pub(crate) use self::token::TokenProvider;

/// What the two clients are made of. Its `Debug` output holds no values: they may be passwords.
pub(crate) struct KafkaOptions {
    pub(crate) consumer_properties: Vec<(String, String)>,
    pub(crate) producer_properties: Vec<(String, String)>,
    /// The input topics; their order gives [`Record::topic`](crate::message::Record::topic) its
    /// meaning.
    pub(crate) topics: Arc<[Arc<str>]>,
    /// `Some`: these and no others, without a group membership. `None`: what the group assigns.
    pub(crate) partitions: Option<Vec<TopicPartition>>,
    pub(crate) isolation_read_committed: bool,
    pub(crate) token_provider: Option<TokenProvider>,
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("topics", &self.topics)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

/// A consumer, its events, and a producer.
pub(crate) type Connection = (Arc<dyn Consumer>, mpsc::UnboundedReceiver<Event>, Arc<dyn Producer>);

/// Makes both clients. No broker is asked yet.
///
/// # Errors
/// A property is refused, or there are no more threads.
pub(crate) fn connect(options: KafkaOptions) -> Result<Connection> {
    let provider = options.token_provider.clone();
    let producer = KafkaProducer::new(options.producer_properties.clone(), provider)?;
    let (consumer, events) = KafkaConsumer::new(options)?;
    Ok((Arc::new(consumer), events, Arc::new(producer)))
}

/// The version of librdkafka that is linked in.
#[allow(dead_code, reason = "for the log and for reports of faults")]
pub(crate) fn version_string() -> String {
    ffi::version()
}

/// A client from properties. Its log comes on its queue.
fn create_client(role: Role, mut properties: Vec<(String, String)>) -> Result<Arc<Client>> {
    properties.push(("log.queue".into(), "true".into()));
    Client::create(role, &properties).map_err(|error| match error {
        CreateError::Property { name, reason } => {
            Error::new(ErrorKind::Config, refusals::property(&name, &reason)).with("property", name)
        }
        CreateError::Client(reason) => Error::new(ErrorKind::Config, refusals::client(&reason)),
    })
}

/// Where a client's events and its log come, unless it is a consumer.
fn main_queue(client: &Arc<Client>) -> Result<Arc<QueueHandle>> {
    let queue = QueueHandle::main(client).ok_or_else(|| errors::no_handle("queue"))?;
    queue.take_log();
    Ok(Arc::new(queue))
}

/// Runs this on a thread of its own; what it logs is the current processor's.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let span = Span::current();
    let thread = thread::Builder::new().name(name.into());
    let spawned = thread.spawn(move || span.in_scope(run));
    spawned.map(drop).map_err(|error| {
        let message = "the operating system gave no thread for the Kafka client";
        Error::new(ErrorKind::Internal, message).with_source(error)
    })
}
