//! Topics whose log the broker compacts: what is gone yields no message, and nobody waits for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

mod common;

use std::time::{Duration, Instant};

use common::{Collect, builder, committed, eventually, group_of, topic_with};
use kasper::testkit::{TestClient, TestMessage};
use kasper::{Builder, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const LIMIT: Duration = Duration::from_secs(60);

/// How many messages were sent before the tail; each of ten keys has the last value among the last ten.
const SENT: i64 = 200;

/// How many messages were sent after them, and are gone.
const TAIL: i64 = 100;

/// The offsets of the messages that a log still holds, those of aborted transactions included.
async fn offsets(topic: &str) -> Vec<i64> {
    let all = [("isolation.level", "read_uncommitted")];
    let messages = TestClient::new(common::brokers(), &all).unwrap().read_all(topic).await;
    messages.unwrap().into_iter().map(|message| message.offset.unwrap().get()).collect()
}

/// A topic that ends with a hundred offsets without a message.
///
/// Compaction keeps what is newest, so the last messages of a log usually stay. But those of an aborted
/// transaction go: only the mark of the abort is left, at the very end, and in a segment of its own,
/// since the broker never compacts the newest one.
async fn compacted() -> String {
    common::log();
    let config = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "10"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    let topic = topic_with("compacted", 1, &config).await;
    let message = |number: i64| {
        let key = format!("key-{}", number % 10);
        TestMessage::new(&topic).key(key).value(number.to_string())
    };
    common::client().send_all((0..SENT).map(message)).await.unwrap();
    let id = common::unique("transaction");
    let producer: BaseProducer = common::config_of(&[("transactional.id", &id)]).create().unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer.begin_transaction().unwrap();
    for number in 0..TAIL {
        let (key, value) = (format!("aborted-{number}"), number.to_string());
        producer.send(BaseRecord::to(&topic).key(&key).payload(&value)).unwrap();
    }
    producer.flush(LIMIT).unwrap();
    // The segment ends with the first message that comes later than this.
    tokio::time::sleep(Duration::from_millis(50)).await;
    producer.abort_transaction(LIMIT).unwrap();
    let kept: Vec<i64> = (SENT - 10..SENT).collect();
    let started = Instant::now();
    while offsets(&topic).await != kept {
        assert!(started.elapsed() < LIMIT, "not compacted within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let consumer: BaseConsumer = common::config_of(&[]).create().unwrap();
    let (_, end) = consumer.fetch_watermarks(&topic, 0, LIMIT).unwrap();
    assert_eq!(end, SENT + TAIL + 1, "with the mark of the abort");
    topic
}

/// Runs to the end, and returns what was processed and the group.
async fn run_to_the_end(builder: Builder, begin: Option<(&str, i64)>) -> (Vec<String>, String) {
    let all = Collect::default();
    let collect = all.clone();
    let processor = builder.build(move |_| collect.clone()).await.unwrap();
    let group = group_of(processor.handle().name());
    if let Some((topic, offset)) = begin {
        common::commit(&group, topic, 0, offset);
    }
    let run = tokio::time::timeout(LIMIT, processor.run_until_caught_up());
    let report = run.await.expect("offsets without a message must not hang it").unwrap();
    println!("{report:?}");
    (all.values(), group)
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_run_to_the_end_ends_where_the_last_messages_are_gone() {
    let topic = compacted().await;
    let newest: Vec<String> = (SENT - 10..SENT).map(|number| number.to_string()).collect();
    for isolation in ["read_committed", "read_uncommitted"] {
        let build = || builder("compacted", &[&topic]).kafka("isolation.level", isolation);
        let (values, group) = run_to_the_end(build(), None).await;
        assert_eq!(values, newest, "{isolation}, in a group");
        assert_eq!(committed(&group, &topic, 0), Some(SENT));
        // Beginning before a gap, inside the last one, and at the very end.
        for (begin, expected) in
            [(50, 10), (SENT - 5, 5), (SENT, 0), (SENT + 50, 0), (SENT + TAIL + 1, 0)]
        {
            let builder = build().partitions([0]);
            let (values, _) = run_to_the_end(builder, Some((&topic, begin))).await;
            assert_eq!(values.len(), expected, "{isolation}, from {begin}");
        }
    }
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn everything_is_known_to_be_consumed_where_the_last_messages_are_gone() {
    let topic = compacted().await;
    let all = Collect::default();
    let collect = all.clone();
    let processor = builder("compacted", &[&topic]).build(move |_| collect.clone()).await.unwrap();
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    eventually(LIMIT, || handle.has_consumed_all()).await;
    assert_eq!(all.len(), 10);
    // Kafka's tools count the offsets that yield no message, as our committed lag does.
    let lag = || handle.status().partitions[0].committed_lag;
    let gap = u64::try_from(TAIL).unwrap() + 1;
    eventually(LIMIT, || lag() == gap).await;
    assert_eq!(handle.lag(), 0);
    let described = common::described(&group_of(handle.name()), &topic, 0);
    assert_eq!((described.committed, described.lag), (SENT, TAIL + 1));
    // And again, when there is more.
    let late = TestMessage::new(&topic).key("key-0").value("late");
    common::client().send(late).await.unwrap();
    eventually(LIMIT, || all.len() == 11).await;
    eventually(LIMIT, || handle.has_consumed_all()).await;
    handle.close();
    let report = running.await.unwrap().unwrap();
    let next = report.next_offsets[&TopicPartition::new(topic.as_str(), 0)];
    assert_eq!(next.get(), SENT + TAIL + 2);
}
