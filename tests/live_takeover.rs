//! Taking over a deployment of Go Kasper in place, as docs/operations.md tells it: the same group, the same
//! keys in Redis, first stop Go, then start. Go's part is played by raw clients, which read, write and commit as
//! it does: partitions assigned by hand, `{prefix}/{key}`, the offset behind the last message, no membership.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{brokers, commit, committed, eventually, group_of, topic, unique};
use kasper::store::{RedisConfig, RedisStore, Store};
use kasper::testkit::TestMessage;
use kasper::{Batch, BoxError, Bytes, Context, Offset, Processor, TopicProcessor};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;
use redis::AsyncCommands as _;

const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 2;

/// Messages of a partition of one topic; Go has processed so many of them.
const SENT: u32 = 500;
const OF_GO: i64 = 200;

type Counts = BTreeMap<String, u64>;

/// A deployment: what both libraries know of it.
struct Deployment {
    name: String,
    topics: [String; 2],
    prefix: String,
}

impl Deployment {
    async fn new() -> Self {
        common::log();
        let topics = [topic("orders", PARTITIONS).await, topic("returns", PARTITIONS).await];
        let deployment = Self { name: unique("takeover"), topics, prefix: unique("counts") };
        deployment.send().await;
        deployment
    }

    /// Of ten keys, which both topics and all partitions have.
    async fn send(&self) {
        let client = common::client();
        for topic in &self.topics {
            for partition in 0..PARTITIONS {
                let key = |number| format!("{partition}-{}", number % 10);
                let message = |number| {
                    TestMessage::new(topic).partition(partition).key(key(number)).value("1")
                };
                client.send_all((0..SENT).map(message)).await.unwrap();
            }
        }
    }

    fn group(&self) -> String {
        group_of(&self.name)
    }

    fn partitions(&self) -> impl Iterator<Item = (&str, i32)> {
        self.topics.iter().flat_map(|topic| (0..PARTITIONS).map(move |p| (topic.as_str(), p)))
    }

    fn committed(&self) -> Vec<Option<i64>> {
        self.partitions()
            .map(|(topic, partition)| committed(&self.group(), topic, partition))
            .collect()
    }

    /// What Redis has, seen from outside.
    async fn counts(&self) -> Counts {
        let mut redis = redis().await;
        let mut counts = Counts::new();
        for partition in 0..PARTITIONS {
            for number in 0..10 {
                let key = format!("{partition}-{number}");
                let count: Option<u64> = redis.get(format!("{}/{key}", self.prefix)).await.unwrap();
                counts.extend(count.map(|count| (key, count)));
            }
        }
        counts
    }

    /// Each key this often.
    fn each(count: u64) -> Counts {
        let keys = (0..PARTITIONS).flat_map(|p| (0..10).map(move |number| format!("{p}-{number}")));
        keys.map(|key| (key, count)).collect()
    }

    /// Go Kasper processes so many messages of each partition, from what is committed.
    async fn run_go(&self, messages: i64) {
        for (topic, partition) in self.partitions() {
            let first = committed(&self.group(), topic, partition).unwrap_or(0);
            for (key, count) in read(topic, partition, first, messages) {
                let key = format!("{}/{key}", self.prefix);
                let mut redis = redis().await;
                let before: Option<u64> = redis.get(&key).await.unwrap();
                let _: () = redis.set(&key, before.unwrap_or(0) + count).await.unwrap();
            }
            commit(&self.group(), topic, partition, first + messages);
        }
    }

    async fn counter(&self) -> Counter {
        let config = RedisConfig::new(redis_address(), self.prefix.as_str());
        Counter { store: RedisStore::connect(&config).await.unwrap(), first: OF_GO }
    }

    fn builder(&self) -> kasper::Builder {
        let topics = self.topics.iter().map(String::as_str);
        TopicProcessor::builder(self.name.as_str(), topics).brokers(brokers())
    }
}

/// Counts messages by key, in the keys that Go uses; nothing below `first` may come.
#[derive(Clone)]
struct Counter {
    store: RedisStore,
    first: i64,
}

impl Processor for Counter {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let mut counts = Counts::new();
        for message in batch.iter() {
            assert!(message.offset() >= Offset::new(self.first), "{message:?} was processed by Go");
            let key = String::from_utf8(message.key().unwrap().to_vec())?;
            *counts.entry(key).or_default() += 1;
        }
        let keys: Vec<&str> = counts.keys().map(String::as_str).collect();
        let found = self.store.get_many(&keys).await?;
        let mut changes = Vec::new();
        for ((key, count), before) in counts.iter().zip(found) {
            let before = before.map_or(Ok(0), |before| {
                std::str::from_utf8(&before)?.parse::<u64>().map_err(BoxError::from)
            })?;
            changes.push((key.as_str(), Some(Bytes::from((before + count).to_string()))));
        }
        Ok(self.store.write_many(&changes).await?)
    }
}

fn redis_address() -> String {
    std::env::var("KASPER_TEST_REDIS").expect(
        "this test needs a Redis besides Kafka: run it with `cargo xtask test --only takeover`",
    )
}

async fn redis() -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{}", redis_address())).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// How often each key is in these messages.
fn read(topic: &str, partition: i32, first: i64, messages: i64) -> Counts {
    let consumer: BaseConsumer =
        common::config_of(&[("group.id", &unique("go"))]).create().unwrap();
    let mut assignment = TopicPartitionList::new();
    let first = rdkafka::Offset::Offset(first);
    assignment.add_partition_offset(topic, partition, first).unwrap();
    consumer.assign(&assignment).unwrap();
    let mut counts = Counts::new();
    for _ in 0..messages {
        let message = consumer.poll(LIMIT).expect("a message in time").unwrap();
        *counts.entry(String::from_utf8(message.key().unwrap().to_vec()).unwrap()).or_default() +=
            1;
    }
    counts
}

/// Commits as Go Kasper does, which is no member.
fn try_to_commit(group: &str, topic: &str, offset: i64) -> Result<(), rdkafka::error::KafkaError> {
    let consumer: BaseConsumer = common::config_of(&[("group.id", group)]).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, rdkafka::Offset::Offset(offset)).unwrap();
    consumer.commit(&list, CommitMode::Sync)
}

/// Each key is once in ten messages, in two topics.
fn in_both_topics(messages: i64) -> Counts {
    Deployment::each(u64::try_from(messages).unwrap() / 10 * 2)
}

#[tokio::test]
#[ignore = "needs a Kafka and a Redis; run `cargo xtask test --only takeover`"]
async fn static_partitions_go_on_where_go_stopped_and_back() {
    let deployment = Deployment::new().await;
    deployment.run_go(OF_GO).await;
    assert_eq!(deployment.counts().await, in_both_topics(OF_GO));

    let counter = deployment.counter().await;
    let builder = deployment.builder().partitions(0..PARTITIONS);
    let processor = builder.build(move |_| counter.clone()).await.unwrap();
    let report =
        tokio::time::timeout(LIMIT, processor.run_until_caught_up()).await.unwrap().unwrap();
    let rest = u64::try_from(i64::from(SENT) - OF_GO).unwrap() * 2 * PARTITIONS as u64;
    assert_eq!(report.messages, rest);
    assert_eq!(deployment.counts().await, in_both_topics(SENT.into()));
    assert_eq!(deployment.committed(), vec![Some(SENT.into()); 4]);

    // And back: Go finds what was committed, and may commit.
    deployment.send().await;
    deployment.run_go(SENT.into()).await;
    assert_eq!(deployment.counts().await, in_both_topics(i64::from(SENT) * 2));
    assert_eq!(deployment.committed(), vec![Some(i64::from(SENT) * 2); 4]);
}

#[tokio::test]
#[ignore = "needs a Kafka and a Redis; run `cargo xtask test --only takeover`"]
async fn a_group_goes_on_where_go_stopped_and_keeps_go_from_committing() {
    let deployment = Deployment::new().await;
    deployment.run_go(OF_GO).await;

    let counter = deployment.counter().await;
    let processor = deployment.builder().build(move |_| counter.clone()).await.unwrap();
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    eventually(LIMIT, || handle.has_consumed_all()).await;
    assert_eq!(deployment.counts().await, in_both_topics(SENT.into()));

    // A Go process that was forgotten cannot set the group back.
    let refused = try_to_commit(&deployment.group(), &deployment.topics[0], OF_GO).unwrap_err();
    let code = refused.rdkafka_error_code();
    assert_eq!(code, Some(RDKafkaErrorCode::UnknownMemberId), "{refused}");

    handle.close();
    running.await.unwrap().unwrap();
    assert_eq!(deployment.committed(), vec![Some(SENT.into()); 4]);
    assert_eq!(deployment.counts().await, in_both_topics(SENT.into()));
}
