//! Input topics that change while a processor runs: on a real Kafka, in groups of both protocols and with static
//! partitions.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Collect, committed, create, eventually, group_of, send_numbers, topic, unique};
use kasper::{Builder, Error, ErrorKind, Handle, Report, TopicChange, TopicProcessor};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

/// How often the cluster is asked.
const INTERVAL: Duration = Duration::from_secs(1);

type How = fn(Builder) -> Builder;

fn classic(builder: Builder) -> Builder {
    builder
}

fn statics(builder: Builder) -> Builder {
    builder.partitions([0, 1])
}

struct Running {
    handle: Handle,
    collect: Collect,
    task: JoinHandle<Result<Report, Error>>,
}

impl Running {
    async fn start(name: &str, topics: &[&str], how: How) -> Self {
        let collect = Collect::default();
        let builder = TopicProcessor::builder(name, topics.iter().copied());
        let builder = how(builder.brokers(common::brokers()).topic_check_interval(INTERVAL));
        let own = collect.clone();
        let processor = builder.build(move |_| own.clone()).await.unwrap();
        let handle = processor.handle();
        Self { handle, collect, task: tokio::spawn(processor.run()) }
    }

    async fn has_processed(&self, messages: usize) {
        eventually(LIMIT, || self.collect.len() >= messages || self.task.is_finished()).await;
        assert!(self.collect.len() >= messages, "{:?}", self.handle.status().failure);
    }

    fn changes(&self) -> Vec<(String, TopicChange)> {
        let topics = self.handle.status().topics;
        topics.iter().map(|warning| (warning.topic.to_string(), warning.change)).collect()
    }

    async fn error(self) -> Error {
        timeout(LIMIT, self.task).await.expect("an error within a minute").unwrap().unwrap_err()
    }

    async fn close(self) {
        self.handle.close();
        timeout(LIMIT, self.task).await.expect("an end within a minute").unwrap().unwrap();
    }
}

fn admin() -> AdminClient<DefaultClientContext> {
    common::config_of(&[]).create().unwrap()
}

async fn delete(topic: &str) {
    let deleted = admin().delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
    deleted.into_iter().for_each(|result| assert!(result.is_ok(), "{result:?}"));
}

async fn grow(topic: &str, partitions: usize) {
    let new = NewPartitions::new(topic, partitions);
    let grown = admin().create_partitions([&new], &AdminOptions::new()).await.unwrap();
    grown.into_iter().for_each(|result| assert!(result.is_ok(), "{result:?}"));
}

/// Sends ten messages to each partition.
async fn send(topics: &[&str], partitions: i32) {
    for topic in topics {
        for partition in 0..partitions {
            send_numbers(topic, partition, 10).await;
        }
    }
}

async fn a_deleted_topic(how: How) {
    let (a, b) = (topic("a", 2).await, topic("b", 2).await);
    let running = Running::start(&unique("deleted"), &[&a, &b], how).await;
    send(&[&a, &b], 2).await;
    running.has_processed(40).await;
    assert!(running.changes().is_empty());
    delete(&b).await;
    let change = (b.clone(), TopicChange::Deleted);
    eventually(LIMIT, || running.changes().contains(&change) || running.task.is_finished()).await;
    let error = running.error().await;
    let context = (error.kind(), error.get("topic"));
    assert_eq!(context, (ErrorKind::UnknownTopic, Some(&*b)), "{error}");
}

/// The new topic soon has more messages than the old one had.
async fn a_recreated_topic(how: How) {
    let a = topic("a", 2).await;
    let name = unique("recreated");
    let running = Running::start(&name, &[&a], how).await;
    send(&[&a], 2).await;
    running.has_processed(20).await;
    eventually(LIMIT, || committed(&group_of(&name), &a, 1) == Some(10)).await;
    delete(&a).await;
    // While the old topic is taken down, its name is not free.
    tokio::time::sleep(Duration::from_millis(500)).await;
    create(&a, 2, &[]).await;
    for _ in 0..3 {
        send(&[&a], 2).await;
    }
    let error = running.error().await;
    assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error}");
    assert!(error.to_string().contains("created again") || error.to_string().contains("recreated"));
    // As an orchestrator does.
    let again = Running::start(&name, &[&a], how).await;
    again.has_processed(60).await;
    for number in [0, 1] {
        let messages = again.collect.0.lock().unwrap();
        let offsets = messages.iter().filter(|m| m.partition == number).map(|m| m.offset.get());
        assert_eq!(offsets.collect::<Vec<_>>(), (0..30).collect::<Vec<_>>());
    }
    again.close().await;
}

async fn one_topic_that_grows(how: How) {
    let (a, b) = (topic("a", 2).await, topic("b", 2).await);
    let running = Running::start(&unique("one-grows"), &[&a, &b], how).await;
    send(&[&a, &b], 2).await;
    running.has_processed(40).await;
    grow(&b, 3).await;
    let error = running.error().await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains(&format!("{a}: 2, {b}: 3")), "{error}");
}

async fn all_topics_that_grow(how: How) {
    let (a, b) = (topic("a", 2).await, topic("b", 2).await);
    let running = Running::start(&unique("all-grow"), &[&a, &b], how).await;
    send(&[&a, &b], 2).await;
    running.has_processed(40).await;
    grow(&a, 3).await;
    grow(&b, 3).await;
    send(&[&a, &b], 3).await;
    running.has_processed(100).await;
    eventually(LIMIT, || running.changes().is_empty()).await;
    assert_eq!(running.handle.status().partitions.len(), 6);
    running.close().await;
}

/// A rolling deploy adds a topic.
async fn members_with_different_topics(how: How) {
    let (a, b) = (topic("a", 4).await, topic("b", 4).await);
    let name = unique("different");
    let old = Running::start(&name, &[&a], how).await;
    send(&[&a], 4).await;
    old.has_processed(40).await;
    let new = Running::start(&name, &[&a, &b], how).await;
    let change = (a.clone(), TopicChange::Incomplete);
    eventually(LIMIT, || new.changes().contains(&change) || new.task.is_finished()).await;
    let error = new.error().await;
    assert_eq!((error.kind(), error.get("topic")), (ErrorKind::Config, Some(&*a)), "{error}");
    send(&[&a], 4).await;
    old.has_processed(80).await;
    old.close().await;
}

/// All at the same time: the raw clients block their threads.
async fn in_a_group(how: How) {
    let mut all = JoinSet::new();
    all.spawn(a_deleted_topic(how));
    all.spawn(a_recreated_topic(how));
    all.spawn(one_topic_that_grows(how));
    all.spawn(all_topics_that_grow(how));
    all.spawn(members_with_different_topics(how));
    all.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn topics_that_change_under_a_classic_group() {
    in_a_group(classic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn topics_that_change_under_a_kip_848_group() {
    in_a_group(Builder::consumer_protocol).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn topics_that_change_under_static_partitions() {
    let grown = async {
        let a = topic("a", 2).await;
        let running = Running::start(&unique("static-grows"), &[&a], statics).await;
        send(&[&a], 2).await;
        running.has_processed(20).await;
        grow(&a, 3).await;
        let change = (a.clone(), TopicChange::PartitionsAdded);
        eventually(LIMIT, || running.changes() == [change.clone()]).await;
        send(&[&a], 2).await;
        running.has_processed(40).await;
        running.close().await;
    };
    let mut all = JoinSet::new();
    all.spawn(a_deleted_topic(statics));
    all.spawn(a_recreated_topic(statics));
    all.spawn(grown);
    all.join_all().await;
}
