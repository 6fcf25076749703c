//! What the live tests share: a real Kafka, topics of their own, raw clients to look from outside.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kasper::testkit::{TestClient, TestMessage};
use kasper::{Batch, BoxError, Builder, Context, OwnedMessage, Processor, TopicProcessor};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

/// The brokers to test against. There is no test without them: it fails, and says why.
pub fn brokers() -> String {
    std::env::var("KASPER_TEST_KAFKA")
        .expect("this test needs a Kafka: run it with `cargo xtask test`, or set KASPER_TEST_KAFKA")
}

/// A name that no other test run has used.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    format!("{name}-{now}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Creates a topic with a name of its own.
pub async fn topic(name: &str, partitions: i32) -> String {
    topic_with(name, partitions, &[]).await
}

pub async fn topic_with(name: &str, partitions: i32, config: &[(&str, &str)]) -> String {
    let topic = unique(name);
    create(&topic, partitions, config).await;
    topic
}

pub async fn create(topic: &str, partitions: i32, config: &[(&str, &str)]) {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let admin: AdminClient<_> = config_of(&[]).create().unwrap();
    // -1 is the broker's default: 1 alone, 3 in a cluster.
    // Some messages have times of 1970: the broker would soon find them too old to keep.
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    new = new.set("retention.ms", "-1");
    for (property, value) in config {
        new = new.set(property, value);
    }
    let created = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
    created.into_iter().for_each(|result| assert!(result.is_ok(), "{result:?}"));
    // The broker answers before every request handler knows the topic.
    let consumer: BaseConsumer = config_of(&[]).create().unwrap();
    wait_until(Duration::from_secs(10), || {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(5)).unwrap();
        let known = metadata.topics().iter().map(|t| t.partitions().len()).sum::<usize>();
        known == usize::try_from(partitions).unwrap()
    });
}

pub fn config_of(properties: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers());
    for (property, value) in properties {
        config.set(*property, *value);
    }
    config
}

/// Polls a condition of the outside world; fails when it does not come true in time.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Like [`wait_until`], leaving the runtime to others between two looks.
pub async fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A client of the brokers, to write and to read beside the processors.
pub fn client() -> TestClient {
    TestClient::new(brokers(), &[]).unwrap()
}

/// Sends messages `0..count`, each with its number as key and value, and waits for the acks.
pub async fn send_numbers(topic: &str, partition: i32, count: u32) {
    let numbers = (0..count).map(|number| number.to_string());
    let message = |n: String| TestMessage::new(topic).partition(partition).key(&n).value(&n);
    client().send_all(numbers.map(message)).await.unwrap();
}

/// Everything that a topic holds.
pub async fn read_all(topic: &str) -> Vec<TestMessage> {
    client().read_all(topic).await.unwrap()
}

/// A producer for threads: it does not wait for acks, and goes on while brokers are away.
pub struct Sender {
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Sender {
    pub fn new() -> Self {
        Self { producer: config_of(&[("enable.idempotence", "true")]).create().unwrap() }
    }

    /// Sends without waiting.
    pub fn send(&self, topic: &str, partition: i32, value: &str) {
        loop {
            let record = BaseRecord::to(topic).partition(partition).key(value).payload(value);
            match self.producer.send(record) {
                Ok(()) => return,
                Err((error, _)) if error.rdkafka_error_code().is_some() => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
    }

    pub fn flush(&self) {
        self.producer.flush(Duration::from_secs(30)).unwrap();
    }
}

/// The next offset that a group has committed.
pub fn committed(group: &str, topic: &str, partition: i32) -> Option<i64> {
    let mut offsets = committed_of(group, [(topic, partition)]);
    offsets.remove(&(topic.to_owned(), partition))
}

/// The next offsets that a group has committed, all as of one moment; partitions without one are left out.
pub fn committed_of<'a>(
    group: &str,
    partitions: impl IntoIterator<Item = (&'a str, i32)>,
) -> BTreeMap<(String, i32), i64> {
    let consumer: BaseConsumer = config_of(&[("group.id", group)]).create().unwrap();
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        list.add_partition(topic, partition);
    }
    let committed =
        once_coordinated(|| consumer.committed_offsets(list.clone(), Duration::from_secs(10)));
    let elements = committed.elements();
    let offsets = elements.iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some(((element.topic().to_owned(), element.partition()), offset)),
        _ => None,
    });
    offsets.collect()
}

/// Records an offset for a group from outside.
pub fn commit(group: &str, topic: &str, partition: i32, offset: i64) {
    let consumer: BaseConsumer = config_of(&[("group.id", group)]).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    once_coordinated(|| consumer.commit(&list, rdkafka::consumer::CommitMode::Sync));
}

/// What a group's coordinator answers. A server that has just started, or been moved to, refuses until it has
/// loaded the group's part of `__consumer_offsets`, and librdkafka hands that to the caller.
fn once_coordinated<T>(mut ask: impl FnMut() -> KafkaResult<T>) -> T {
    let started = Instant::now();
    loop {
        match ask().map_err(|error| (error.rdkafka_error_code(), error)) {
            Ok(answer) => return answer,
            Err((
                Some(
                    RDKafkaErrorCode::NotCoordinator
                    | RDKafkaErrorCode::CoordinatorNotAvailable
                    | RDKafkaErrorCode::CoordinatorLoadInProgress,
                ),
                error,
            )) => assert!(started.elapsed() < Duration::from_secs(30), "{error}"),
            Err((_, error)) => panic!("{error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A partition of a group, as Kafka's own tools see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    pub committed: i64,
    pub end: i64,
    pub lag: i64,
}

/// What `kafka-consumer-groups.sh --describe` says of a partition.
pub fn described(group: &str, topic: &str, partition: i32) -> Described {
    let mut tool = match std::env::var("KASPER_TEST_KAFKA_TOOLS") {
        Ok(jars) => {
            let mut java = Command::new("java");
            java.args(["-cp", &jars, "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]);
            java.arg("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand");
            java
        }
        Err(_) => Command::new("kafka-consumer-groups.sh"),
    };
    tool.args(["--bootstrap-server", &brokers(), "--describe", "--group", group]);
    let output = tool.output().expect(
        "this test needs Kafka's tools: put kafka-consumer-groups.sh on the PATH, or set KASPER_TEST_KAFKA_TOOLS \
         to its jars (…/libs/*)",
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let number = partition.to_string();
    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG …
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|line| line.len() > 5 && line[1] == topic && line[2] == number);
    let line = line.unwrap_or_else(|| panic!("{topic}/{partition} is missing: {text}"));
    let [committed, end, lag] = [3, 4, 5].map(|column| line[column].parse().unwrap());
    Described { committed, end, lag }
}

/// A builder with a name of its own, for these topics.
pub fn builder(name: &str, topics: &[&str]) -> Builder {
    TopicProcessor::builder(unique(name), topics.iter().copied()).brokers(brokers())
}

pub fn group_of(name: &str) -> String {
    format!("kasper-topic-processor-{name}")
}

/// Collects copies of all messages; the collection is shared between partitions.
#[derive(Clone, Default)]
pub struct Collect(pub Arc<Mutex<Vec<OwnedMessage>>>);

impl Collect {
    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn values(&self) -> Vec<String> {
        let messages = self.0.lock().unwrap();
        let text =
            |m: &OwnedMessage| String::from_utf8(m.value.clone().unwrap_or_default()).unwrap();
        messages.iter().map(text).collect()
    }
}

impl Processor for Collect {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        self.0.lock().unwrap().extend(batch.iter().map(|message| message.to_owned()));
        Ok(())
    }
}

/// Runs the closure on each batch.
pub struct Each<F>(pub F);

impl<F> Processor for Each<F>
where
    F: FnMut(&Batch, &mut Context) -> Result<(), BoxError> + Send + 'static,
{
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        (self.0)(batch, context)
    }
}

pub fn log() {
    let filter = tracing_subscriber::EnvFilter::builder();
    let filter = filter
        .with_default_directive(tracing_subscriber::filter::LevelFilter::WARN.into())
        .from_env_lossy();
    let _already = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
