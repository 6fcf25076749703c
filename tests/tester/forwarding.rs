//! What is forwarded arrives as it came, whether it was copied or stayed where it was.

use kasper::testkit::{ProcessorTester, TestMessage};
use kasper::{Batch, BoxError, Context, Processor};

/// Forwards what has the header `on`; flushes behind what has the header `flush`.
struct Forward;

impl Processor for Forward {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for message in batch.iter() {
            if message.headers().any(|header| header.name == "on") {
                context.forward("out", &message);
            }
            if message.headers().any(|header| header.name == "flush") {
                context.flush().await?;
            }
        }
        Ok(())
    }
}

fn on(value: &str) -> TestMessage {
    TestMessage::new("in").key("k").value(value).header("on", "1").timestamp(7)
}

fn forwarded(value: &str) -> TestMessage {
    TestMessage::new("out").key("k").value(value).header("on", "1").timestamp(7)
}

#[tokio::test]
async fn a_whole_batch_arrives_after_its_processing() {
    let mut tester = ProcessorTester::new(["in"], |_| Forward);
    tester.hold_acks();
    tester.push(on("first"));
    tester.push(TestMessage::new("in").header("on", "1").timestamp(1));
    tester.push(TestMessage::new("in").key("").value("").header("on", "1").timestamp(2));
    tester.push(on("last"));
    tester.run_batch().await.unwrap();
    // Another batch, which takes what memory is free.
    tester.push(on("other"));
    tester.run_batch().await.unwrap();
    tester.release_acks().await.unwrap();
    let bare = TestMessage::new("out").header("on", "1");
    let expected = [
        forwarded("first"),
        bare.clone().timestamp(1),
        bare.key("").value("").timestamp(2),
        forwarded("last"),
        forwarded("other"),
    ];
    assert_eq!(tester.outgoing(), expected);
}

#[tokio::test]
async fn a_few_of_many_arrive_too() {
    let mut tester = ProcessorTester::new(["in"], |_| Forward);
    tester.hold_acks();
    for _ in 0..10 {
        tester.push(TestMessage::new("in").value("stays here"));
    }
    tester.push(on("few"));
    tester.run_batch().await.unwrap();
    tester.release_acks().await.unwrap();
    assert_eq!(tester.outgoing(), [forwarded("few")]);
}

#[tokio::test]
async fn a_message_of_nothing_arrives() {
    let mut tester = ProcessorTester::new(["in"], |_| Forward);
    tester.push(TestMessage::new("in").header("on", "1").timestamp(1));
    tester.run_batch().await.unwrap();
    assert_eq!(tester.outgoing(), [TestMessage::new("out").header("on", "1").timestamp(1)]);
}

#[tokio::test]
async fn flushes_in_between_send_each_message_once() {
    let mut tester = ProcessorTester::new(["in"], |_| Forward);
    let values = ["1", "2", "3", "4"];
    for value in values {
        tester.push(on(value));
        tester.push(TestMessage::new("in").header("flush", "1"));
    }
    tester.run_batch().await.unwrap();
    assert_eq!(tester.outgoing(), values.map(forwarded));
}

#[tokio::test]
async fn batches_that_are_mostly_forwarded_can_be_many() {
    let mut tester = ProcessorTester::new(["in"], |_| Forward).max_batch_messages(3);
    let values: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    for value in &values {
        tester.push(on(value));
    }
    tester.run_all().await.unwrap();
    let expected: Vec<_> = values.iter().map(|value| forwarded(value)).collect();
    assert_eq!(tester.outgoing(), expected);
}
