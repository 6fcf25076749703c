//! Lag on a real Kafka, compared with what Kafka's own tools report.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Collect, Described, builder, described, eventually, group_of, topic};
use kasper::testkit::TestMessage;
use kasper::{
    Error, Handle, Offset, OutOfRange, PartitionState, PartitionStatus, Report, TopicPartition,
};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::task::JoinHandle;

const LIMIT: Duration = Duration::from_secs(60);

/// A processor of one topic with two partitions, which asks for ends every half second.
struct Job {
    topic: String,
    handle: Handle,
    running: JoinHandle<Result<Report, Error>>,
}

impl Job {
    async fn start() -> Self {
        common::log();
        let topic = topic("in", 2).await;
        let collect = Collect::default();
        let processor = builder("lag", &[&topic])
            .lag_interval(Duration::from_millis(500))
            // Some dozens of messages fill a queue.
            .max_buffered_bytes(64 << 10)
            .out_of_range(OutOfRange::Earliest)
            .build(move |_| collect.clone())
            .await
            .unwrap();
        let handle = processor.handle();
        let job = Self { topic, handle, running: tokio::spawn(processor.run()) };
        eventually(LIMIT, || job.handle.has_consumed_all()).await;
        // The tools can only tell of what is committed.
        let committed = |partition| job.status(partition).committed_offset.is_some();
        eventually(LIMIT, || committed(0) && committed(1)).await;
        job
    }

    /// Nothing that is sent from now on is processed.
    async fn pause(&self) {
        self.handle.pause();
        let paused = |partition| self.status(partition).state == PartitionState::Paused;
        eventually(LIMIT, || paused(0) && paused(1)).await;
    }

    async fn send(&self, partition: i32, messages: usize) {
        let message = TestMessage::new(&self.topic).partition(partition).value(&[7; 1000]);
        common::client().send_all(vec![message; messages]).await.unwrap();
    }

    fn status(&self, partition: i32) -> PartitionStatus {
        let partition = TopicPartition::new(self.topic.as_str(), partition);
        let partitions = self.handle.status().partitions;
        partitions.into_iter().find(|status| status.partition == partition).unwrap()
    }

    /// Waits until this is the lag from the committed and from the finished offset.
    async fn has_lag(&self, partition: i32, committed_lag: u64, lag: u64) {
        eventually(LIMIT, || {
            let status = self.status(partition);
            status.committed_lag == committed_lag && status.lag == lag
        })
        .await;
    }

    /// Says the same as Kafka's tools.
    fn agrees(&self, partition: i32) {
        let status = self.status(partition);
        let ours = Described {
            committed: status.committed_offset.map(Offset::get).unwrap(),
            end: status.end_offset.get(),
            lag: i64::try_from(status.committed_lag).unwrap(),
        };
        assert_eq!(ours, self.described(partition));
    }

    fn described(&self, partition: i32) -> Described {
        described(&group_of(self.handle.name()), &self.topic, partition)
    }

    async fn close(self) {
        self.handle.close();
        self.running.await.unwrap().unwrap();
    }
}

fn transactions() -> BaseProducer {
    let id = common::unique("transaction");
    let producer: BaseProducer = common::config_of(&[("transactional.id", &id)]).create().unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer
}

/// Begins a transaction with five messages.
fn begin(producer: &BaseProducer, topic: &str) {
    producer.begin_transaction().unwrap();
    for _ in 0..5 {
        producer.send(BaseRecord::to(topic).partition(0).key("key").payload("value")).unwrap();
    }
    producer.flush(LIMIT).unwrap();
}

#[tokio::test]
#[ignore = "needs a Kafka and its tools; run `cargo xtask test`"]
async fn what_flows_and_what_is_empty() {
    let job = Job::start().await;
    job.send(0, 100).await;
    job.has_lag(0, 0, 0).await;
    eventually(LIMIT, || job.status(0).end_offset.get() == 100).await;
    job.has_lag(0, 0, 0).await;
    job.agrees(0);
    job.has_lag(1, 0, 0).await;
    job.agrees(1);
    job.close().await;
}

#[tokio::test]
#[ignore = "needs a Kafka and its tools; run `cargo xtask test`"]
async fn what_is_paused_while_others_produce() {
    let job = Job::start().await;
    job.pause().await;
    job.send(0, 300).await;
    job.has_lag(0, 300, 300).await;
    job.agrees(0);
    // The queue is full, and nothing is fetched any more.
    job.send(0, 50).await;
    job.has_lag(0, 350, 350).await;
    job.agrees(0);
    // Of the first 300, with what the client keeps for each; none of the last 50.
    let buffered = job.status(0).buffered_bytes;
    assert!((10_000..=300 * 1360).contains(&buffered), "{buffered} bytes");
    job.handle.resume();
    job.has_lag(0, 0, 0).await;
    eventually(LIMIT, || job.status(0).buffered_bytes == 0).await;
    job.agrees(0);
    job.close().await;
}

/// The mark of a commit or an abort is an offset that yields no message. Nothing behind the last message is committed,
/// so it is lag there and here; from the finished offset there is none.
#[tokio::test]
#[ignore = "needs a Kafka and its tools; run `cargo xtask test`"]
async fn behind_a_transaction_one_is_left_for_its_mark() {
    let job = Job::start().await;
    let producer = transactions();
    begin(&producer, &job.topic);
    producer.commit_transaction(LIMIT).unwrap();
    job.has_lag(0, 1, 0).await;
    job.agrees(0);
    assert_eq!(job.described(0), Described { committed: 5, end: 6, lag: 1 });
    begin(&producer, &job.topic);
    producer.abort_transaction(LIMIT).unwrap();
    job.has_lag(0, 7, 0).await;
    job.agrees(0);
    job.close().await;
}

/// To a consumer that reads what is committed, an open transaction is not there yet. The tools count it.
#[tokio::test]
#[ignore = "needs a Kafka and its tools; run `cargo xtask test`"]
async fn a_transaction_counts_here_when_it_has_ended() {
    let job = Job::start().await;
    let producer = transactions();
    begin(&producer, &job.topic);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status = job.status(0);
    assert_eq!((status.end_offset.get(), status.committed_lag, status.lag), (0, 0, 0));
    assert_eq!(job.described(0), Described { committed: 0, end: 5, lag: 5 });
    producer.commit_transaction(LIMIT).unwrap();
    job.has_lag(0, 1, 0).await;
    job.agrees(0);
    job.close().await;
}

#[tokio::test]
#[ignore = "needs a Kafka and its tools; run `cargo xtask test`"]
async fn what_was_deleted_before_it_was_read() {
    let job = Job::start().await;
    job.pause().await;
    job.send(0, 300).await;
    job.has_lag(0, 300, 300).await;
    let admin: AdminClient<DefaultClientContext> = common::config_of(&[]).create().unwrap();
    let mut below = TopicPartitionList::new();
    let end = rdkafka::Offset::Offset(300);
    below.add_partition_offset(&job.topic, 0, end).unwrap();
    let deleted = admin.delete_records(&below, &AdminOptions::new()).await.unwrap();
    deleted.elements()[0].error().unwrap();
    // Both count from the committed offset, though it is not in the log any more.
    tokio::time::sleep(Duration::from_secs(2)).await;
    job.has_lag(0, 300, 300).await;
    job.agrees(0);
    job.send(0, 10).await;
    job.has_lag(0, 310, 310).await;
    job.agrees(0);
    // What is in the queue is processed; then it goes on at the new beginning.
    job.handle.resume();
    job.has_lag(0, 0, 0).await;
    job.agrees(0);
    assert_eq!(job.described(0), Described { committed: 310, end: 310, lag: 0 });
    job.close().await;
}
