//! `enrich`: each message goes to one of two topics, with all that it has.

use kasper::testkit::{ProcessorTester, TestMessage};

use crate::enrich::Enrich;
use crate::enrich_data::{Line, check, generate};

fn tester() -> ProcessorTester {
    ProcessorTester::new(["lines"], |_| Enrich {
        enriched: "enriched".to_owned(),
        rejected: "rejected".to_owned(),
    })
}

/// What came out of these lines, cut into batches of 40: enriched and rejected.
async fn outputs(lines: &[Line], replays: usize) -> (Vec<TestMessage>, Vec<TestMessage>) {
    let mut tester = tester().max_batch_messages(40);
    for (number, line) in lines.iter().enumerate() {
        let message = TestMessage::new("lines").key(&line.server).value(&line.text);
        tester.push(message.header("line", number.to_string()));
    }
    tester.run_all().await.unwrap();
    for _ in 0..replays {
        tester.replay_cut(7).await.unwrap();
    }
    tester.take_outgoing().into_iter().partition(|message| message.topic == "enriched")
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
    let rejected = || TestMessage::new("rejected").partition(0);
    let expected = [
        rejected().value("GET /").header("a", "1").null_header("b").timestamp(7),
        rejected().key("web-1").timestamp(8),
        rejected().value(b"\xff").timestamp(9),
    ];
    let reasons = ["2 fields instead of 4", "no value", "not UTF-8"];
    let expected =
        expected.into_iter().zip(reasons).enumerate().map(|(offset, (message, reason))| {
            message.header("source", format!("lines/0@{offset}")).header("reason", reason)
        });
    assert_eq!(tester.outgoing(), expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn the_example_sees_what_is_wrong() {
    let lines = generate(2, 100);
    let (mut enriched, rejected) = outputs(&lines, 0).await;
    assert!(check(&lines, &enriched[1..], &rejected).is_err(), "one is missing");
    assert!(check(&lines, &enriched, &rejected[1..]).is_err(), "one is missing");
    let right = enriched[0].clone();
    enriched[0] = right.clone().key("other");
    assert!(check(&lines, &enriched, &rejected).is_err(), "a key is wrong");
    enriched[0] = right.clone().value("{}");
    assert!(check(&lines, &enriched, &rejected).is_err(), "a value is wrong");
    enriched[0] = right;
    enriched[0].topic = "rejected".to_owned();
    assert!(check(&lines, &enriched, &rejected).is_err(), "one is in the wrong topic");
}
