//! Error policies in the tester.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kasper::testkit::{Attempt, ProcessorTester, TestMessage};
use kasper::{
    Backoff, Batch, BoxError, Circuit, Context, ErrorKind, ErrorPolicy, LetterHeaders, Offset,
    OnError, OutgoingMessage, ProcessError, Processor,
};
use tokio::time::Instant;

use super::{order, push_orders};

/// Sends numbers on; fails for everything else. `away` comes back at the third attempt.
struct Numbers {
    attempts: Arc<Mutex<Vec<u32>>>,
}

impl Processor for Numbers {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        self.attempts.lock().unwrap().push(context.attempt());
        for message in batch.iter() {
            match std::str::from_utf8(message.value().unwrap_or_default())? {
                "away" if context.attempt() < 3 => {
                    return Err(ProcessError::retryable("connection refused").into());
                }
                "away" => {}
                "fatal" => return Err(ProcessError::fatal("no").into()),
                "panic" => panic!("as planned"),
                "reject" => context.dead_letter(&message, "rejected by hand")?,
                text => {
                    text.parse::<u64>()?;
                    context.send(OutgoingMessage::like("out", &message).value(message.value()));
                }
            }
        }
        Ok(())
    }
}

fn tester(policy: impl Into<ErrorPolicy>) -> (ProcessorTester, Arc<Mutex<Vec<u32>>>) {
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let own = attempts.clone();
    let tester = ProcessorTester::new(["orders"], move |_| Numbers { attempts: own.clone() });
    (tester.on_error(policy), attempts)
}

fn sent(tester: &ProcessorTester, topic: &str) -> Vec<String> {
    let outgoing = tester.outgoing().into_iter().filter(|message| message.topic == topic);
    outgoing.map(|message| message.value_text().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_tester_waits_for_the_backoff() {
    let exact = Backoff::new().first(Duration::from_secs(10)).longest(Duration::from_secs(10));
    let (mut tester, attempts) = tester(OnError::retry(exact.jitter(0.0)));
    push_orders(&mut tester, &["1", "away", "2"]);
    let begun = Instant::now();
    assert_eq!(tester.run_batch().await.unwrap(), 9, "three messages, three times");
    assert_eq!(begun.elapsed().as_secs(), 20);
    assert_eq!(*attempts.lock().unwrap(), [1, 2, 3]);
    assert_eq!(sent(&tester, "out"), ["1", "2"]);
    assert_eq!(tester.committed("orders"), Some(Offset::new(3)));
    let failed = tester.attempts("orders", Offset::new(0));
    assert_eq!(failed, [Attempt::Failed, Attempt::Failed, Attempt::Succeeded]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_fails_becomes_a_letter() {
    for bad in ["x", "panic", "reject"] {
        let (mut tester, _) = tester(OnError::dead_letter("dead"));
        push_orders(&mut tester, &["1", "2", bad, "3", "4"]);
        tester.run_batch().await.unwrap();
        assert_eq!(sent(&tester, "out"), ["1", "2", "3", "4"], "{bad}");
        assert_eq!(sent(&tester, "dead"), [bad]);
        assert_eq!(tester.committed("orders"), Some(Offset::new(5)));
        assert_eq!(tester.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn letters_say_where_they_come_from_and_why() {
    let policy = ErrorPolicy::new(OnError::dead_letter("dead"))
        .letter_headers(LetterHeaders::Streams)
        .letter_headers(LetterHeaders::Connect);
    let (tester, _) = tester(policy);
    let mut tester = tester.partition(3);
    tester.push(order("1"));
    let message =
        order("x").key("k").header("own", "1").header("kasper.redriven", "2").timestamp(5);
    tester.push(message);
    tester.run_batch().await.unwrap();
    let letters = tester.outgoing().into_iter().filter(|message| message.topic == "dead");
    let letter = letters.last().unwrap();
    assert_eq!(
        (letter.key_text(), letter.timestamp, letter.partition),
        (Some("k"), Some(5), Some(3))
    );
    let mut headers = Vec::new();
    for (name, _) in &letter.headers {
        headers.push((name.as_str(), letter.header_text(name).unwrap()));
    }
    headers.retain(|(name, _)| *name != "kasper.error.time");
    let why = "invalid digit found in string";
    assert_eq!(
        headers[..13],
        [
            ("own", "1"),
            ("kasper.redriven", "2"),
            ("__dlq.errors.topic", "orders"),
            ("__dlq.errors.partition", "3"),
            ("__dlq.errors.offset", "1"),
            ("__dlq.errors.group", "kasper-topic-processor-tester"),
            ("__dlq.errors.delivery.count", "2"),
            ("__dlq.errors.message", why),
            ("kasper.error.kind", "process failed"),
            ("kasper.error.causes", why),
            ("kasper.error.processor", "tester"),
            ("kasper.error.replayed", "2"),
            ("__streams.errors.exception", "process failed"),
        ]
    );
    assert_eq!(letter.header_text("__connect.errors.exception.message"), Some(why));
}

#[tokio::test(start_paused = true)]
async fn what_is_skipped_is_gone() {
    let policy = ErrorPolicy::new(OnError::stop())
        .matching(|error| error.find::<std::num::ParseIntError>().is_some(), OnError::skip());
    let (mut tester, _) = tester(policy);
    push_orders(&mut tester, &["x", "1", "y"]);
    tester.run_batch().await.unwrap();
    assert_eq!(tester.outgoing().len(), 1);
    assert_eq!(tester.committed("orders"), Some(Offset::new(3)));
    push_orders(&mut tester, &["panic"]);
    let error = tester.run_batch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panic);
}

#[tokio::test(start_paused = true)]
async fn a_fatal_error_stops_whatever_the_policy_says() {
    let (mut tester, attempts) = tester(OnError::retry(Backoff::new()).then_skip());
    push_orders(&mut tester, &["fatal"]);
    let error = tester.run_batch().await.unwrap_err();
    assert_eq!((error.kind(), error.get("attempts")), (ErrorKind::Process, None));
    assert_eq!(attempts.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_circuit_opens_before_the_letters_are_sent() {
    let policy =
        ErrorPolicy::new(OnError::dead_letter("dead")).circuit(Circuit::new().consecutive(3));
    let (mut tester, _) = tester(policy);
    push_orders(&mut tester, &["1", "a", "b", "2", "c", "d", "e", "3"]);
    let error = tester.run_batch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CircuitOpen);
    assert!(
        error.get("rejected").unwrap().contains("orders/0 at offset 1: invalid digit"),
        "{error}"
    );
    assert_eq!(sent(&tester, "dead").len(), 0);
    assert_eq!(tester.committed("orders"), Some(Offset::new(1)), "what came before is finished");
}

/// Acks that come late hold back the letter's offset, and with it what follows.
#[tokio::test(start_paused = true)]
async fn a_letter_is_waited_for() {
    let (mut tester, _) = tester(OnError::dead_letter("dead"));
    tester.hold_acks();
    push_orders(&mut tester, &["reject", "1"]);
    tester.run_batch().await.unwrap();
    assert_eq!(tester.committed("orders"), None);
    tester.release_acks().await.unwrap();
    assert_eq!(tester.committed("orders"), Some(Offset::new(2)));
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_fails_is_sent_again() {
    let (mut tester, _) = tester(OnError::dead_letter("dead"));
    tester.fail_delivery("dead", "not now");
    push_orders(&mut tester, &["reject", "1"]);
    tester.run_batch().await.unwrap();
    assert_eq!(sent(&tester, "dead"), ["reject"]);
    assert_eq!(tester.committed("orders"), Some(Offset::new(2)));
}

#[tokio::test]
async fn a_tombstone_can_be_rejected() {
    struct All;
    impl Processor for All {
        async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
            for message in batch.iter() {
                context.dead_letter(&message, "no")?;
                context.dead_letter(&message, "once more")?;
            }
            Ok(())
        }
    }
    let policy = ErrorPolicy::default().dead_letter_topic("dead");
    let mut tester = ProcessorTester::new(["orders"], |_| All).on_error(policy);
    tester.push(TestMessage::tombstone("orders", "gone"));
    tester.push(TestMessage::new("orders"));
    tester.run_batch().await.unwrap();
    let letters = tester.outgoing();
    assert_eq!(letters.len(), 2, "a second letter for a message is ignored");
    assert_eq!((letters[0].value.as_deref(), letters[0].key_text()), (None, Some("gone")));
}
