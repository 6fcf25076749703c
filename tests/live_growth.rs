//! Partitions that are added to a topic, with a processor that begins at the end of the logs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::time::Duration;

use kasper::{StartFrom, TopicProcessor};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::consumer::{BaseConsumer, Consumer};

use common::{Collect, committed, config_of, eventually, group_of, send_numbers, topic, unique};

async fn start(name: &str, topic: &str, collect: &Collect) -> TopicProcessor {
    let collect = collect.clone();
    let builder = TopicProcessor::builder(name, [topic]).brokers(common::brokers());
    builder.start_from(StartFrom::Latest).build(move |_| collect.clone()).await.unwrap()
}

async fn add_partitions(topic: &str, count: usize) {
    let admin: AdminClient<_> = config_of(&[]).create().unwrap();
    let new = NewPartitions::new(topic, count);
    let results = admin.create_partitions([&new], &AdminOptions::new()).await.unwrap();
    results.into_iter().for_each(|result| assert!(result.is_ok(), "{result:?}"));
    let consumer: BaseConsumer = config_of(&[]).create().unwrap();
    eventually(Duration::from_secs(20), || {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(5)).unwrap();
        let partitions = metadata.topics()[0].partitions();
        partitions.len() == count && partitions.iter().all(|p| p.leader() >= 0)
    })
    .await;
}

/// Somebody adds partitions and produces to them while the processor is stopped.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka broker; run with cargo xtask test"]
async fn what_was_produced_to_added_partitions_is_not_skipped() {
    common::log();
    let (name, input, collect) = (unique("growth"), topic("growth", 2).await, Collect::default());
    for partition in 0..2 {
        send_numbers(&input, partition, 10).await;
    }
    start(&name, &input, &collect).await.run_until_caught_up().await.unwrap();
    assert_eq!(collect.len(), 0, "it begins at the end");
    assert_eq!(committed(&group_of(&name), &input, 1), Some(10));
    add_partitions(&input, 4).await;
    // The first one's client knows two partitions for some minutes.
    for partition in 2..4 {
        send_numbers(&input, partition, 10).await;
    }
    start(&name, &input, &collect).await.run_until_caught_up().await.unwrap();
    assert_eq!(collect.len(), 20);
    // The next time, all of them have offsets.
    start(&name, &input, &collect).await.run_until_caught_up().await.unwrap();
    assert_eq!(collect.len(), 20);
}

/// A member of a group that begins commits before another one looks where to begin: what the group has
/// committed then does not make the other's partitions new.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka broker; run with cargo xtask test"]
async fn partitions_of_a_group_that_begins_are_not_taken_for_added() {
    common::log();
    let (name, input, collect) = (unique("growth"), topic("growth", 4).await, Collect::default());
    for partition in 0..4 {
        send_numbers(&input, partition, 10).await;
    }
    for partitions in [0..2, 2..4] {
        let collect = collect.clone();
        let builder = TopicProcessor::builder(&name, [&*input]).brokers(common::brokers());
        let builder = builder.start_from(StartFrom::Latest).partitions(partitions);
        let processor = builder.build(move |_| collect.clone()).await.unwrap();
        processor.run_until_caught_up().await.unwrap();
    }
    assert_eq!(collect.len(), 0);
    assert_eq!(committed(&group_of(&name), &input, 3), Some(10));
}
