//! `enrich`: each message goes to one of two topics, with all that it has.

use kasper::testkit::{OutgoingRecord, ProcessorTester, TestMessage};
use kasper::{Offset, OutgoingMessage, OwnedMessage};

use crate::enrich::Enrich;
use crate::enrich_data::{Line, check, generate};

fn tester() -> ProcessorTester {
    ProcessorTester::new(["lines"], |_| Enrich {
        enriched: "enriched".to_owned(),
        rejected: "rejected".to_owned(),
    })
}

/// As if it was read from its topic.
fn read(record: &OutgoingRecord) -> OwnedMessage {
    OwnedMessage {
        topic: record.topic.as_str().into(),
        partition: 0,
        offset: Offset::new(0),
        key: record.key.as_ref().map(|key| key.to_vec()),
        value: record.value.as_ref().map(|value| value.to_vec()),
        headers: record
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.as_ref().map(|value| value.to_vec())))
            .collect(),
        timestamp: record.timestamp,
    }
}

/// What came out of these lines, cut into batches of 40: enriched and rejected.
async fn outputs(lines: &[Line], replays: usize) -> (Vec<OwnedMessage>, Vec<OwnedMessage>) {
    let mut tester = tester().max_batch_messages(40);
    for (number, line) in lines.iter().enumerate() {
        let message = TestMessage::new("lines").key(&line.server).value(&line.text);
        tester.push(message.header("line", number.to_string()));
    }
    tester.run_all().await.unwrap();
    for _ in 0..replays {
        tester.replay_cut(7).await.unwrap();
    }
    tester.outgoing().iter().map(read).partition(|message| &*message.topic == "enriched")
}

#[tokio::test]
async fn every_line_comes_out_as_it_should_and_the_same_when_it_comes_again() {
    let lines = generate(1, 500);
    let (enriched, rejected) = outputs(&lines, 0).await;
    assert!(rejected.len() > 10);
    assert_eq!(check(&lines, &enriched, &rejected).unwrap(), 0);
    let (enriched, rejected) = outputs(&lines, 1).await;
    assert_eq!(check(&lines, &enriched, &rejected).unwrap(), 500, "all were sent twice");
}

#[tokio::test]
async fn what_is_rejected_arrives_as_it_came_with_the_reason() {
    let mut tester = tester();
    tester.push(
        TestMessage::new("lines").value("GET /").header("a", "1").null_header("b").timestamp(7),
    );
    tester.push(TestMessage::tombstone("lines", "web-1").timestamp(8));
    tester.push(TestMessage::new("lines").value(b"\xff").timestamp(9));
    tester.run_all().await.unwrap();
    let rejected = || OutgoingMessage::new("rejected").partition(0);
    let expected = [
        rejected().value("GET /").header("a", "1").null_header("b").timestamp(7),
        rejected().key("web-1").timestamp(8),
        rejected().value(b"\xff").timestamp(9),
    ];
    let reasons = ["2 fields instead of 4", "no value", "not UTF-8"];
    let expected =
        expected.into_iter().zip(reasons).enumerate().map(|(offset, (message, reason))| {
            message.header("source", format!("lines/0@{offset}")).header("reason", reason).into()
        });
    assert_eq!(tester.outgoing(), expected.collect::<Vec<OutgoingRecord>>());
}

#[tokio::test]
async fn the_example_sees_what_is_wrong() {
    let lines = generate(2, 100);
    let (mut enriched, rejected) = outputs(&lines, 0).await;
    assert!(check(&lines, &enriched[1..], &rejected).is_err(), "one is missing");
    assert!(check(&lines, &enriched, &rejected[1..]).is_err(), "one is missing");
    let right = enriched[0].clone();
    enriched[0].key = Some(b"other".to_vec());
    assert!(check(&lines, &enriched, &rejected).is_err(), "a key is wrong");
    enriched[0] = right.clone();
    enriched[0].value = Some(b"{}".to_vec());
    assert!(check(&lines, &enriched, &rejected).is_err(), "a value is wrong");
    enriched[0] = OwnedMessage { topic: "rejected".into(), ..right };
    assert!(check(&lines, &enriched, &rejected).is_err(), "one is in the wrong topic");
}
