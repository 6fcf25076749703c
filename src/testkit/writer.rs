//! What [`TestClient`](super::TestClient) and [`Feeder`](super::Feeder) write with.

use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::failed;
use super::message::TestMessage;
use crate::builder::Partitioner;
use crate::error::Result;
use crate::message::Offset;

/// How long a message may take to be acknowledged.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// The partition and the offset that a message got; or why it was not delivered. Nothing comes if the writer is dropped.
pub(super) type Ack = oneshot::Receiver<Result<(i32, Offset), KafkaError>>;

#[derive(Clone)]
pub(super) struct Writer {
    producer: ThreadedProducer<Reports>,
}

/// Answers each message's [`Ack`], and keeps the reason of the first failure.
#[derive(Default)]
struct Reports {
    failure: OnceLock<String>,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(i32, Offset), KafkaError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, ack: Self::DeliveryOpaque) {
        let answer = match result {
            Ok(message) => Ok((message.partition(), Offset::new(message.offset()))),
            Err((error, _)) => {
                self.failure.get_or_init(|| error.to_string());
                Err(error.clone())
            }
        };
        let _nobody_waits = ack.send(answer);
    }
}

impl Writer {
    /// Partitions keys, orders messages and waits for acks as the library's producer does by default.
    pub(super) fn new(brokers: &str, properties: &[(String, String)]) -> Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("partitioner", Partitioner::default().name())
            .set("message.timeout.ms", DELIVERY_TIMEOUT.as_millis().to_string())
            .set("linger.ms", "1");
        for (name, value) in properties {
            config.set(name, value);
        }
        let producer = config.create_with_context(Reports::default());
        Ok(Self { producer: producer.map_err(|error| failed("new", &error))? })
    }

    /// Hands the message to the client; waits while the client's queue is full.
    pub(super) async fn write(&self, message: &TestMessage) -> Result<Ack> {
        let (answer, ack) = oneshot::channel();
        let topic = message.topic.as_str();
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, Box::new(answer));
        record.partition = message.partition;
        record.key = message.key.as_deref();
        record.payload = message.value.as_deref();
        record.timestamp = message.timestamp;
        record.headers = headers(message);
        while let Err((error, refused)) = self.producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(failed("send", &error).with("topic", topic));
            }
            record = refused;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(ack)
    }

    /// Why the first message that could not be delivered was not.
    pub(super) fn failure(&self) -> Option<&str> {
        self.producer.context().failure.get().map(String::as_str)
    }

    /// Waits for all acks, up to 10 s. Blocks the thread.
    pub(super) fn flush(&self) -> Result<()> {
        self.producer.flush(Duration::from_secs(10)).map_err(|error| failed("flush", &error))
    }
}

fn headers(message: &TestMessage) -> Option<OwnedHeaders> {
    if message.headers.is_empty() {
        return None;
    }
    let empty = OwnedHeaders::new_with_capacity(message.headers.len());
    Some(message.headers.iter().fold(empty, |headers, (name, value)| {
        headers.insert(Header { key: name, value: value.as_deref() })
    }))
}
