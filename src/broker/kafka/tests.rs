//! The librdkafka implementation against a broker: librdkafka's mock cluster, which speaks the real
//! protocol inside the process, or a real one whose address is in `KASPER_TEST_KAFKA`.

mod consuming;
mod errors;
mod groups;
mod leaderless;
mod lifetime;
mod offsets;
mod producing;
mod topics;
mod unanswered;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::consumer::KafkaConsumer;
use super::producer::KafkaProducer;
use super::{KafkaOptions, TopicPartition};
use crate::broker::{Consumer, Event, Handover, Producer, Queue, RebalanceId};
use crate::error::{Error, Result};
use crate::message::delivery::Delivery;
use crate::message::outbox::Outbox;
use crate::message::{Message, Offset, OutgoingMessage, OwnedMessage, Payload, Record};

/// Stands for the last rebalance that was reported.
pub(super) const LATEST: RebalanceId = RebalanceId::MAX;

/// Far more than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long leaders have to answer.
pub(super) const SOON: Duration = Duration::from_secs(3);

pub(super) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// A mock cluster, or the address of a real one.
pub(super) struct Broker {
    mock: Option<MockCluster<'static, DefaultProducerContext>>,
    address: String,
}

static NAMES: AtomicUsize = AtomicUsize::new(0);

/// A name that nobody else uses, on a broker that keeps what earlier runs left.
pub(super) fn unique(prefix: &str) -> Arc<str> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    format!("{prefix}-{now}-{}", NAMES.fetch_add(1, Ordering::Relaxed)).into()
}

impl Broker {
    pub(super) fn mock() -> Self {
        let mock = MockCluster::new(1).unwrap();
        Self { address: mock.bootstrap_servers(), mock: Some(mock) }
    }

    /// A real broker if there is one, else a mock cluster.
    pub(super) fn any() -> Self {
        match live() {
            Some(address) => Self { mock: None, address },
            None => Self::mock(),
        }
    }

    /// The real broker.
    pub(super) fn real() -> Self {
        let address = live().expect("KASPER_TEST_KAFKA holds no broker's address");
        Self { mock: None, address }
    }

    pub(super) fn cluster(&self) -> &MockCluster<'static, DefaultProducerContext> {
        self.mock.as_ref().unwrap()
    }

    pub(super) async fn topic(&self, prefix: &str, partitions: i32) -> Arc<str> {
        let name = unique(prefix);
        match &self.mock {
            Some(mock) => mock.create_topic(&name, partitions, 1).unwrap(),
            None => create_live_topic(&self.address, &name, partitions).await,
        }
        name
    }
}

/// The address of the real broker that the environment names.
pub(super) fn live() -> Option<String> {
    std::env::var("KASPER_TEST_KAFKA").ok().filter(|address| !address.is_empty())
}

async fn create_live_topic(address: &str, name: &str, partitions: i32) {
    let mut config = ClientConfig::new();
    let admin: AdminClient<DefaultClientContext> =
        config.set("bootstrap.servers", address).create().unwrap();
    // Some messages have times of 1970: the broker would soon find them too old to keep.
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let topic = topic.set("retention.ms", "-1");
    let results = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    assert!(results.iter().all(std::result::Result::is_ok), "{results:?}");
}

type Properties = Vec<(String, String)>;

pub(super) fn properties(broker: &Broker, more: &[(&str, &str)]) -> Properties {
    let mut all = vec![("bootstrap.servers".to_owned(), broker.address.clone())];
    all.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    all
}

/// A consumer and its events.
pub(super) struct Member {
    pub(super) consumer: Arc<KafkaConsumer>,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
}

/// What a test may ask of a member besides the defaults.
#[derive(Default)]
pub(super) struct MemberOptions<'a> {
    pub(super) group: &'a str,
    pub(super) properties: &'a [(&'a str, &'a str)],
    pub(super) partitions: Option<Vec<TopicPartition>>,
    pub(super) read_committed: bool,
}

impl Member {
    pub(super) fn new(broker: &Broker, topics: &[Arc<str>], options: MemberOptions<'_>) -> Self {
        let mut consumer_properties = properties(
            broker,
            &[
                ("group.id", options.group),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "error"),
                ("fetch.queue.backoff.ms", "5"),
                ("fetch.wait.max.ms", "20"),
                ("statistics.interval.ms", "100"),
            ],
        );
        let consumer_protocol =
            options.properties.iter().any(|(name, _)| *name == "group.protocol");
        if !consumer_protocol {
            consumer_properties.push(("heartbeat.interval.ms".into(), "300".into()));
            consumer_properties.push(("session.timeout.ms".into(), "6000".into()));
            consumer_properties.push(("partition.assignment.strategy".into(), "range".into()));
        }
        let more = options.properties.iter();
        consumer_properties.extend(more.map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        let (consumer, events) = KafkaConsumer::new(KafkaOptions {
            consumer_properties,
            producer_properties: Vec::new(),
            topics: topics.into(),
            partitions: options.partitions,
            isolation_read_committed: options.read_committed,
            token_provider: None,
        })
        .unwrap();
        Self { consumer: Arc::new(consumer), events }
    }

    /// A member of a group, which has begun to join.
    pub(super) fn join(broker: &Broker, topics: &[Arc<str>], group: &str) -> Self {
        Self::join_with(broker, topics, group, &[])
    }

    /// As [`join`](Member::join), with these properties.
    pub(super) fn join_with(
        broker: &Broker,
        topics: &[Arc<str>],
        group: &str,
        properties: &[(&str, &str)],
    ) -> Self {
        let options = MemberOptions { group, properties, ..MemberOptions::default() };
        let member = Self::new(broker, topics, options);
        member.consumer.start().unwrap();
        member
    }

    /// A consumer of these partitions, assigned at their beginnings.
    pub(super) async fn fixed(
        broker: &Broker,
        topics: &[Arc<str>],
        partitions: Vec<TopicPartition>,
    ) -> Self {
        let group = unique("group");
        let partitions = Some(partitions);
        let options = MemberOptions { group: &group, partitions, ..MemberOptions::default() };
        let mut member = Self::new(broker, topics, options);
        member.consumer.start().unwrap();
        member.assign_from_zero().await;
        member
    }

    /// The next event that `pick` takes; others are passed over.
    pub(super) async fn event<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(Event) -> Option<T>,
    ) -> T {
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the events have ended");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        patiently(what, wait).await
    }

    pub(super) async fn assigned(&mut self) -> Vec<TopicPartition> {
        self.event("an assignment", |event| match event {
            Event::Assigned { partitions, .. } => Some(partitions),
            Event::Revoked { .. } => panic!("revoked: {event:?}"),
            _ => None,
        })
        .await
    }

    pub(super) async fn revoked(&mut self) -> (Vec<TopicPartition>, bool) {
        self.event("a revocation", |event| match event {
            Event::Revoked { partitions, lost, .. } => Some((partitions, lost)),
            Event::Assigned { .. } => panic!("assigned: {event:?}"),
            _ => None,
        })
        .await
    }

    pub(super) async fn assign_from_zero(&mut self) -> Vec<TopicPartition> {
        let partitions = self.assigned().await;
        let starts: Vec<_> = partitions.iter().map(|p| (p.clone(), Some(Offset::new(0)))).collect();
        self.consumer.assign(LATEST, &starts).unwrap();
        partitions
    }

    pub(super) fn reader(&self, topics: &[Arc<str>], partition: i32) -> Reader {
        let queue = self.consumer.queue(partition).unwrap();
        Reader { queue, topics: topics.into(), partition, error: None }
    }
}

/// Reads a partition number's queue as the batcher does.
pub(super) struct Reader {
    pub(super) queue: Box<dyn Queue>,
    topics: Arc<[Arc<str>]>,
    partition: i32,
    /// Came behind messages.
    error: Option<Error>,
}

impl Reader {
    /// The next records, as they are; at least one.
    pub(super) async fn some(&mut self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let arrived = self.queue.arrived();
        loop {
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            let taken = self.queue.take(1000, &mut records);
            self.error = taken.error.map(|error| error.error);
            if taken.messages > 0 {
                return Ok(records);
            }
            if self.error.is_none() {
                patiently("a message", arrived.notified()).await;
            }
        }
    }

    /// The next `count` messages; the queue must hold no more than these then.
    pub(super) async fn read(&mut self, count: usize) -> Vec<OwnedMessage> {
        let mut messages = Vec::new();
        while messages.len() < count {
            let records = self.some().await.unwrap();
            messages.extend(records.iter().map(|record| self.own(record)));
        }
        assert_eq!(messages.len(), count);
        messages
    }

    pub(super) fn own(&self, record: &Record) -> OwnedMessage {
        assert!(matches!(record.payload, Payload::Kafka(_)));
        let (lock, topic) = (crate::lock::Mutex::new(()), &self.topics[usize::from(record.topic)]);
        Message::new(record, topic, self.partition, &lock).to_owned()
    }
}

pub(super) fn producer(broker: &Broker, more: &[(&str, &str)]) -> KafkaProducer {
    let mut all =
        properties(broker, &[("acks", "all"), ("enable.idempotence", "true"), ("linger.ms", "1")]);
    all.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    KafkaProducer::new(all, None).unwrap()
}

pub(super) fn delivery<'a>(
    messages: impl IntoIterator<Item = OutgoingMessage<'a>>,
) -> Arc<Delivery> {
    let mut outbox = Outbox::default();
    messages.into_iter().for_each(|message| outbox.push(message));
    outbox.take(None)
}

/// Hands all messages over, waiting for room.
pub(super) async fn hand_over(producer: &KafkaProducer, delivery: &Arc<Delivery>) {
    let wait = async {
        while producer.produce(delivery) == Handover::QueueFull {
            producer.room().await;
        }
    };
    patiently("room", wait).await;
}

/// Produces and waits for the acknowledgements.
pub(super) async fn produce<'a>(
    broker: &Broker,
    messages: impl IntoIterator<Item = OutgoingMessage<'a>>,
) {
    let producer = producer(broker, &[]);
    let delivery = delivery(messages);
    hand_over(&producer, &delivery).await;
    reports(&delivery).await.unwrap();
}

/// Waits for all reports.
pub(super) async fn reports(delivery: &Delivery) -> Result<()> {
    patiently("delivery reports", delivery.finished()).await;
    delivery.result()
}

/// `count` messages to a partition, numbered from `first` in their values.
pub(super) async fn number(
    broker: &Broker,
    topic: &str,
    partition: i32,
    first: usize,
    count: usize,
) {
    let values = first..first + count;
    let messages =
        values.map(|n| OutgoingMessage::new(topic).partition(partition).value(n.to_string()));
    produce(broker, messages).await;
}

pub(super) fn partition(topic: &Arc<str>, partition: i32) -> TopicPartition {
    TopicPartition::new(Arc::clone(topic), partition)
}

pub(super) fn values(messages: &[OwnedMessage]) -> Vec<String> {
    let values = messages.iter().map(|m| m.value.clone().unwrap_or_default());
    values.map(|value| String::from_utf8(value).unwrap()).collect()
}
