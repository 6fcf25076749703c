//! The test client on the embedded broker: where keys go, what is read, and what is an error.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Duration;

use kasper::testkit::{EmbeddedBroker, TestClient, TestMessage};
use kasper::{
    Batch, BoxError, Context, ErrorKind, Offset, OutgoingMessage, Partitioner, Processor,
    TopicProcessor,
};

const PARTITIONS: i32 = 5;

fn broker(topics: &[&str]) -> EmbeddedBroker {
    let broker = EmbeddedBroker::start().unwrap();
    topics.iter().for_each(|topic| broker.create_topic(topic, PARTITIONS).unwrap());
    broker
}

/// Sends each message on to `out`, by its key.
struct Copy;

impl Processor for Copy {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for message in batch.iter() {
            context.send(OutgoingMessage::new("out").key(message.key()).value(message.value()));
        }
        Ok(())
    }
}

/// Partitions by key.
async fn placed(broker: &EmbeddedBroker, topic: &str) -> BTreeMap<String, i32> {
    let messages = broker.read_all(topic).await.unwrap();
    let place = |m: &TestMessage| (m.key_text().unwrap().to_owned(), m.partition.unwrap());
    messages.iter().map(place).collect()
}

#[tokio::test]
async fn keys_go_where_the_producer_of_the_library_sends_them() {
    for (partitioner, name) in [
        (Partitioner::Murmur2Random, None),
        (Partitioner::Fnv1aRandom, Some("fnv1a_random")),
        (Partitioner::ConsistentRandom, Some("consistent_random")),
    ] {
        let broker = broker(&["in", "out"]);
        let properties: Vec<_> = name.map(|name| ("partitioner", name)).into_iter().collect();
        let client = TestClient::new(broker.brokers(), &properties).unwrap();
        let message = |n: i32| TestMessage::new("in").key(format!("key-{n}")).value("x");
        client.send_all((0..100).map(message)).await.unwrap();
        TopicProcessor::builder("copy", ["in"])
            .brokers(broker.brokers())
            .partitions(0..PARTITIONS)
            .partitioner(partitioner)
            .build(|_| Copy)
            .await
            .unwrap()
            .run_until_caught_up()
            .await
            .unwrap();
        let (by_client, by_processor) = (placed(&broker, "in").await, placed(&broker, "out").await);
        assert_eq!(by_client.len(), 100);
        assert_eq!(by_client, by_processor, "{partitioner:?}");
    }
}

#[tokio::test]
async fn all_parts_of_a_message_come_back_by_partition_and_offset() {
    let broker = broker(&["in"]);
    let client = broker.client().unwrap();
    let full = TestMessage::new("in").partition(3).key(b"\xff").value("").timestamp(7);
    let full = full.header("a", "1").null_header("b").header("a", b"\xfe");
    let deletion = TestMessage::tombstone("in", "k").partition(0);
    let late = TestMessage::new("in").partition(3).value("late");
    let sent = client.send_all([full.clone(), deletion.clone(), late.clone()]).await.unwrap();
    assert_eq!(sent, [(3, Offset::new(0)), (0, Offset::new(0)), (3, Offset::new(1))]);

    let read = client.read_all("in").await.unwrap();
    assert_eq!(read[1], full.offset(0), "with all it had, and its place");
    let contents: Vec<_> = read.iter().map(TestMessage::content).collect();
    assert_eq!(contents, [deletion.content(), read[1].content(), late.content()]);
    let places: Vec<_> = read.iter().map(|m| (m.partition.unwrap(), m.offset.unwrap())).collect();
    assert_eq!(places, [(0, Offset::new(0)), (3, Offset::new(0)), (3, Offset::new(1))]);
    assert!(read[0].timestamp.unwrap() > 1_700_000_000_000, "the time of sending");
    let shown = format!("{:?}", read[1]);
    assert!(shown.contains(r#"key: b"\xff", value: "", headers: {"a": "1", "b": null"#), "{shown}");
}

#[tokio::test]
async fn what_is_not_there_is_an_error_that_names_the_topic() {
    let broker = broker(&["in"]);
    let client = broker.client().unwrap();
    let beyond = TestMessage::new("in").partition(PARTITIONS).value("x");
    let error = client.send(beyond).await.unwrap_err();
    assert_eq!((error.kind(), error.get("topic")), (ErrorKind::Delivery, Some("in")), "{error:#}");
    let error = broker.read_all("missing").await.unwrap_err();
    let found = (error.kind(), error.get("topic"));
    assert_eq!(found, (ErrorKind::UnknownTopic, Some("missing")), "{error:#}");
    let huge = TestMessage::new("in").value(vec![0; 2 << 20]);
    let error = client.send(huge).await.unwrap_err();
    assert_eq!(error.get("topic"), Some("in"), "{error:#}");
    assert_eq!(client.read_all("in").await.unwrap(), [], "nothing of it was written");
}

/// A paused clock goes on where nothing is left to do, and would end this at once.
#[tokio::test(start_paused = true)]
async fn paused_time_stands_still_while_a_topic_is_read() {
    let broker = broker(&["in"]);
    let message = |n: i32| TestMessage::new("in").value(n.to_string());
    broker.client().unwrap().send_all((0..1000).map(message)).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(1), broker.read_all("in"));
    assert_eq!(read.await.unwrap().unwrap().len(), 1000);
}

#[test]
fn a_password_is_not_shown() {
    let client = TestClient::new("localhost:9092", &[("sasl.password", "hunter2")]).unwrap();
    let shown = format!("{client:?}");
    assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
}
