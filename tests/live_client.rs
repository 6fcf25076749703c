//! The test client on a real Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

mod common;

use std::time::Duration;

use common::{builder, client, config_of, unique};
use kasper::testkit::TestMessage;
use kasper::{Batch, Context, ErrorKind, OutgoingMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const PARTITIONS: i32 = 7;

fn keyed(topic: &str) -> Vec<TestMessage> {
    let message = |n: u32| TestMessage::new(topic).key(format!("key-{n}")).value(n.to_string());
    (0..200).map(message).collect()
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn what_is_written_is_read_and_keys_go_where_a_processor_sends_them() {
    let (input, output) = (unique("client-in"), unique("client-out"));
    let client = client();
    for topic in [&input, &output] {
        client.create_topic(topic, PARTITIONS).await.unwrap();
        assert_eq!(client.read_all(topic).await.unwrap(), []);
    }
    let error = client.create_topic(&input, 1).await.unwrap_err();
    assert_eq!(error.get("topic"), Some(&*input), "{error}");

    let placed = client.send_all(keyed(&input)).await.unwrap();
    let target = output.clone();
    let copy = move |batch: &Batch, context: &mut Context| {
        for message in batch.iter() {
            let copy = OutgoingMessage::new(&target).key(message.key()).value(message.value());
            context.send(copy.header("from", message.topic()).null_header("none"));
        }
        Ok(())
    };
    let processor = builder("client", &[&input]).partitions(0..PARTITIONS);
    let processor = processor.build(move |_| common::Each(copy.clone())).await.unwrap();
    processor.run_until_caught_up().await.unwrap();

    let read = client.read_all(&output).await.unwrap();
    assert_eq!(read.len(), 200);
    assert!(read.is_sorted_by_key(|message| (message.partition, message.offset)));
    let expected = keyed(&output);
    for message in read {
        let number: usize = message.value_text().unwrap().parse().unwrap();
        assert_eq!(message.partition, Some(placed[number].0), "{message:?}");
        let sent = expected[number].clone().header("from", &input).null_header("none");
        assert_eq!(message.content(), sent);
        assert!(message.timestamp.is_some(), "{message:?}");
    }
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn an_aborted_transaction_is_left_out_and_does_not_hide_the_end() {
    let (topic, id) = (common::topic("client", 1).await, unique("transaction"));
    let first = TestMessage::new(&topic).value("kept");
    client().send(first).await.unwrap();
    let producer: BaseProducer = config_of(&[("transactional.id", &id)]).create().unwrap();
    let limit = Duration::from_secs(20);
    producer.init_transactions(limit).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<(), _>::to(&topic).payload("aborted")).unwrap();
    producer.flush(limit).unwrap();
    producer.abort_transaction(limit).unwrap();
    let read = client().read_all(&topic).await.unwrap();
    assert_eq!(read.iter().map(TestMessage::value_text).collect::<Vec<_>>(), [Some("kept")]);
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_topic_that_is_not_there_is_an_error_that_names_it() {
    let missing = unique("missing");
    let error = client().read_all(&missing).await.unwrap_err();
    let found = (error.kind(), error.get("topic"));
    assert_eq!(found, (ErrorKind::UnknownTopic, Some(&*missing)), "{error:#}");
}
