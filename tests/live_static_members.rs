//! Members with a `group.instance.id`, as docs/operations.md recommends them for many replicas.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Collect, brokers, eventually, send_numbers, topic, unique};
use kasper::{Error, Handle, RebalanceEvent, Report, TopicPartition, TopicProcessor};
use tokio::task::JoinHandle;

const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 4;

type Events = Arc<Mutex<Vec<RebalanceEvent>>>;

struct Member {
    handle: Handle,
    events: Events,
    running: JoinHandle<Result<Report, Error>>,
}

impl Member {
    async fn start(name: &str, topic: &str, instance: &str, collect: &Collect) -> Self {
        let events = Events::default();
        let collect = collect.clone();
        let processor = TopicProcessor::builder(name, [topic])
            .brokers(brokers())
            .kafka("group.instance.id", instance)
            .kafka("session.timeout.ms", "30000")
            .on_rebalance({
                let events = events.clone();
                move |event| events.lock().unwrap().push(event.clone())
            })
            .build(move |_| collect.clone())
            .await
            .unwrap();
        Self { handle: processor.handle(), events, running: tokio::spawn(processor.run()) }
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        self.handle.status().partitions.iter().map(|status| status.partition.clone()).collect()
    }

    /// Waits until it has a half of the partitions, which are returned.
    async fn half(&self) -> Vec<TopicPartition> {
        eventually(LIMIT, || {
            let settled = self.handle.status().settled;
            settled && self.partitions().len() == PARTITIONS as usize / 2
        })
        .await;
        self.partitions()
    }

    async fn close(self) {
        self.handle.close();
        self.running.await.unwrap().unwrap();
    }
}

async fn send(topic: &str) {
    for partition in 0..PARTITIONS {
        send_numbers(topic, partition, 10).await;
    }
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_static_member_that_comes_back_finds_its_partitions_and_disturbs_nobody() {
    common::log();
    let (name, topic, collect) =
        (unique("static"), topic("in", PARTITIONS).await, Collect::default());
    let first = Member::start(&name, &topic, "replica-0", &collect).await;
    let second = Member::start(&name, &topic, "replica-1", &collect).await;
    let (of_first, of_second) = (first.half().await, second.half().await);
    let events = second.events.lock().unwrap().clone();

    first.close().await;
    send(&topic).await;
    // Those of the one that stayed are processed, the others wait for the one that is away.
    eventually(LIMIT, || collect.len() == 20).await;
    let again = Member::start(&name, &topic, "replica-0", &collect).await;
    assert_eq!(again.half().await, of_first);
    eventually(LIMIT, || collect.len() == 40).await;
    assert_eq!(second.partitions(), of_second);
    assert_eq!(*second.events.lock().unwrap(), events);

    second.close().await;
    again.close().await;
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn of_two_static_members_with_one_name_the_first_fails() {
    common::log();
    let (name, topic, collect) =
        (unique("fenced"), topic("in", PARTITIONS).await, Collect::default());
    let first = Member::start(&name, &topic, "replica-0", &collect).await;
    eventually(LIMIT, || first.partitions().len() == PARTITIONS as usize).await;
    let second = Member::start(&name, &topic, "replica-0", &collect).await;
    let error = tokio::time::timeout(LIMIT, first.running).await.unwrap().unwrap().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("group.instance.id"), "{text}");

    eventually(LIMIT, || second.partitions().len() == PARTITIONS as usize).await;
    send(&topic).await;
    eventually(LIMIT, || collect.len() == 40).await;
    second.close().await;
}
