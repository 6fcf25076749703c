//! Error policies on a real Kafka: letters, retries, and what a kill or a rebalance does in the middle of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;
mod program;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{committed, eventually, group_of, read_all, send_numbers, topic, unique};
use kasper::testkit::TestMessage;
use kasper::{
    Backoff, Batch, BoxError, Circuit, Context, ErrorKind, ErrorPolicy, LetterHeaders, OnError,
    OutgoingMessage, ProcessError, Processor, TopicProcessor,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Sends each number on, unless it is divisible by `poison`, for which it fails.
#[derive(Clone)]
struct Relay {
    output: String,
    poison: u32,
    calls: Arc<AtomicUsize>,
}

impl Relay {
    fn new(output: &str, poison: u32) -> Self {
        Self { output: output.to_owned(), poison, calls: Arc::default() }
    }
}

impl Processor for Relay {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        for message in batch.iter() {
            let number: u32 = message.key_str()?.parse()?;
            if number.is_multiple_of(self.poison) {
                return Err(format!("{number} is divisible").into());
            }
            context.send(OutgoingMessage::like(&self.output, &message).value(message.value()));
        }
        Ok(())
    }
}

fn numbers(messages: &[TestMessage]) -> Vec<u32> {
    let mut numbers: Vec<u32> =
        messages.iter().map(|message| message.key_text().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn rejecting(topic: &str) -> ErrorPolicy {
    ErrorPolicy::new(OnError::dead_letter(topic))
}

/// `KASPER_TEST_MESSAGES`: so many in each partition, of which one in a thousand is bad.
fn messages_and_poison() -> (u32, u32) {
    let number = std::env::var("KASPER_TEST_MESSAGES");
    number.map_or((1000, 100), |number| (number.parse().unwrap(), 1000))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka: run it with `cargo xtask test`"]
async fn every_bad_message_becomes_a_letter_and_the_others_are_processed() {
    let (input, output, letters) =
        (topic("in", 3).await, topic("out", 3).await, topic("dead", 2).await);
    let (count, poison) = messages_and_poison();
    for partition in 0..3 {
        send_numbers(&input, partition, count).await;
    }
    let name = unique("relay");
    let relay = Relay::new(&output, poison);
    let own = relay.clone();
    let policy = rejecting(&letters).letter_headers(LetterHeaders::Spring);
    let processor = TopicProcessor::builder(&name, [&input])
        .brokers(common::brokers())
        .on_error(policy)
        .build(move |_| own.clone())
        .await
        .unwrap();
    let report = processor.run_until_caught_up().await.unwrap();
    let (good, bad): (Vec<u32>, Vec<u32>) = (0..count).partition(|number| number % poison != 0);
    let total = (3 * u64::from(count), 3 * bad.len() as u64);
    assert_eq!((report.messages, report.rejected), total);
    let three_times =
        |numbers: Vec<u32>| numbers.into_iter().flat_map(|n| [n; 3]).collect::<Vec<_>>();
    assert!(numbers(&read_all(&output).await) == three_times(good), "each good one, once");
    let found = read_all(&letters).await;
    assert_eq!(numbers(&found), three_times(bad));
    let mut places = BTreeMap::new();
    for letter in &found {
        let text = |name| letter.header_text(name).unwrap();
        let partition: i32 = text("__dlq.errors.partition").parse().unwrap();
        assert_eq!(letter.partition, Some(partition % 2));
        assert_eq!(text("__dlq.errors.topic"), input);
        assert_eq!(text("__dlq.errors.group"), group_of(&name));
        assert_eq!(
            text("__dlq.errors.message"),
            format!("{} is divisible", letter.key_text().unwrap())
        );
        assert_eq!(text("kasper.error.kind"), "process failed");
        assert_eq!(text("kasper.error.processor"), name);
        assert_eq!(text("kasper.error.replayed"), "0");
        assert!(text("kasper.error.time").ends_with('Z'));
        assert_eq!(
            letter.header_value("kafka_dlt-original-partition"),
            Some(&partition.to_be_bytes()[..])
        );
        let offset: i64 = text("__dlq.errors.offset").parse().unwrap();
        assert!(places.insert((partition, offset), ()).is_none(), "each has one letter");
    }
    for partition in 0..3 {
        assert_eq!(committed(&group_of(&name), &input, partition), Some(i64::from(count)));
    }
}

/// Key, value, headers and timestamp are those of the message, whatever they are.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka: run it with `cargo xtask test`"]
async fn a_letter_has_all_of_its_message() {
    struct Refuse;
    impl Processor for Refuse {
        async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
            batch.iter().try_for_each(|message| Ok(context.dead_letter(&message, "no")?))
        }
    }
    let (input, letters) = (topic("in", 1).await, topic("dead", 1).await);
    let message = || TestMessage::new(&input).partition(0);
    let messages = [
        message()
            .key(&[0, 255])
            .value(&[1, 0, 2])
            .header("a", "1")
            .null_header("b")
            .header("a", "2")
            .timestamp(77),
        message().timestamp(78),
        message().key("").value("").header("__dlq.errors.topic", "mine").timestamp(79),
        TestMessage::tombstone(&input, "gone").partition(0).timestamp(80),
    ];
    common::client().send_all(messages.clone()).await.unwrap();
    let processor = TopicProcessor::builder(unique("refuse"), [&input])
        .brokers(common::brokers())
        .partitions([0])
        .on_error(rejecting(&letters).circuit(Circuit::new().never()))
        .build(|_| Refuse)
        .await
        .unwrap();
    processor.run_until_caught_up().await.unwrap();
    let found = read_all(&letters).await;
    assert_eq!(found.len(), messages.len());
    for (letter, message) in found.iter().zip(&messages) {
        assert_eq!((&letter.key, &letter.value), (&message.key, &message.value));
        assert_eq!(letter.timestamp, message.timestamp);
        assert_eq!(&letter.headers[..message.headers.len()], &message.headers[..]);
        assert_eq!(letter.headers[message.headers.len()].0, "__dlq.errors.topic");
    }
}

/// The store is away for a while: nothing is lost, nothing is rejected, and the other processor goes on.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka: run it with `cargo xtask test`"]
async fn an_outage_makes_no_letter() {
    struct Gated {
        relay: Relay,
        is_open: Arc<AtomicBool>,
    }
    impl Processor for Gated {
        async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
            if !self.is_open.load(Ordering::SeqCst) {
                return Err(ProcessError::retryable("connection refused").into());
            }
            self.relay.process(batch, context).await
        }
    }
    let (input, output, letters) =
        (topic("in", 2).await, topic("out", 1).await, topic("dead", 1).await);
    for partition in 0..2 {
        send_numbers(&input, partition, 500).await;
    }
    let is_open = Arc::new(AtomicBool::new(false));
    let (gate, relay) = (is_open.clone(), Relay::new(&output, 1_000_000));
    let processor = TopicProcessor::builder(unique("gated"), [&input])
        .brokers(common::brokers())
        .on_error(rejecting(&letters))
        .build(move |_| Gated { relay: relay.clone(), is_open: gate.clone() })
        .await
        .unwrap();
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    eventually(LIMIT, || {
        let partitions = handle.status().partitions;
        partitions
            .iter()
            .filter(|partition| partition.retrying.as_ref().is_some_and(|r| r.attempt >= 4))
            .count()
            == 2
    })
    .await;
    is_open.store(true, Ordering::SeqCst);
    eventually(LIMIT, || handle.has_consumed_all()).await;
    assert!(handle.status().partitions.iter().all(|partition| partition.retrying.is_none()));
    handle.close();
    let report = running.await.unwrap().unwrap();
    // 0 is divisible by everything.
    assert_eq!((report.messages, report.rejected), (1000, 2));
    assert_eq!(read_all(&letters).await.len(), 2);
    assert_eq!(read_all(&output).await.len(), 998);
}

/// Another member joins while a batch is tried again: the backoff ends, and the partition goes to it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka: run it with `cargo xtask test`"]
async fn a_rebalance_ends_a_backoff() {
    struct Failing(Arc<Mutex<Vec<i32>>>);
    impl Processor for Failing {
        async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
            self.0.lock().unwrap().push(batch.partition());
            Err(ProcessError::retryable("not now").into())
        }
    }
    for is_consumer_protocol in [false, true] {
        let (input, output) = (topic("in", 2).await, topic("out", 1).await);
        for partition in 0..2 {
            send_numbers(&input, partition, 10).await;
        }
        let name = unique("backoff");
        let hour = Backoff::new()
            .first(Duration::from_secs(3600))
            .longest(Duration::from_secs(3600))
            .forever();
        let builder = || {
            let builder = TopicProcessor::builder(&name, [&input]).brokers(common::brokers());
            // A drain would take longer than the test waits.
            let builder = builder.kafka("max.poll.interval.ms", "600000");
            let builder = builder.drain_deadline(Duration::from_secs(300));
            let builder = builder.on_error(ErrorPolicy::default().retryable(hour));
            if is_consumer_protocol { builder.consumer_protocol() } else { builder }
        };
        let failed = Arc::new(Mutex::new(Vec::new()));
        let own = failed.clone();
        let first = builder().build(move |_| Failing(own.clone())).await.unwrap();
        let first_handle = first.handle();
        let first = tokio::spawn(first.run());
        eventually(LIMIT, || failed.lock().unwrap().len() == 2).await;
        let relay = Relay::new(&output, 1_000_000);
        let second =
            builder().on_error(OnError::skip()).build(move |_| relay.clone()).await.unwrap();
        let second_handle = second.handle();
        let second = tokio::spawn(second.run());
        eventually(LIMIT, || second_handle.status().messages == 10).await;
        first_handle.close();
        first.await.unwrap().unwrap();
        eventually(LIMIT, || second_handle.status().messages == 20).await;
        second_handle.close();
        second.await.unwrap().unwrap();
        assert_eq!(read_all(&output).await.len(), 18);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka: run it with `cargo xtask test`"]
async fn a_bad_deploy_sends_no_letter() {
    let (input, output, letters) =
        (topic("in", 1).await, topic("out", 1).await, topic("dead", 1).await);
    send_numbers(&input, 0, 2000).await;
    let name = unique("deploy");
    let relay = Relay::new(&output, 1);
    let processor = TopicProcessor::builder(&name, [&input])
        .brokers(common::brokers())
        .partitions([0])
        .on_error(rejecting(&letters))
        .build(move |_| relay.clone())
        .await
        .unwrap();
    let error = processor.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CircuitOpen, "{error:?}");
    assert!(error.get("rejected").unwrap().contains("0 is divisible"), "{error}");
    assert_eq!(read_all(&letters).await.len(), 0);
    assert_eq!(committed(&group_of(&name), &input, 0), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka: run it with `cargo xtask test`"]
async fn a_dead_letter_topic_that_does_not_exist_is_told_by_build() {
    let input = topic("in", 1).await;
    let missing = unique("missing");
    let relay = Relay::new("out", 1);
    let builder = TopicProcessor::builder("x", [&input]).brokers(common::brokers());
    let error =
        builder.on_error(rejecting(&missing)).build(move |_| relay.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.get("topic")), (ErrorKind::UnknownTopic, Some(&*missing)));
}

/// A letter is larger than its message: a topic that does not take it stops the processor, and the message stays.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka: run it with `cargo xtask test`"]
async fn a_letter_that_its_topic_refuses_is_tried_again_and_then_stops() {
    let (input, output) = (topic("in", 1).await, topic("out", 1).await);
    let letters = common::topic_with("dead", 1, &[("max.message.bytes", "200")]).await;
    send_numbers(&input, 0, 10).await;
    let name = unique("small");
    let relay = Relay::new(&output, 5);
    let backoff = Backoff::new().first(Duration::from_millis(50)).max_retries(2);
    let processor = TopicProcessor::builder(&name, [&input])
        .brokers(common::brokers())
        .partitions([0])
        .on_error(rejecting(&letters).retryable(backoff))
        .build(move |_| relay.clone())
        .await
        .unwrap();
    let error = processor.run().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.get("topic")),
        (ErrorKind::Delivery, Some(&*letters)),
        "{error:?}"
    );
    assert_eq!(committed(&group_of(&name), &input, 0), Some(0));
}

/// The process is killed while it looks for the messages that fail, again and again; in the end everything is there.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka: run it with `cargo xtask test`"]
async fn kills_in_the_middle_of_dividing_lose_nothing() {
    let (input, output, letters) =
        (topic("in", 2).await, topic("out", 1).await, topic("dead", 1).await);
    for partition in 0..2 {
        send_numbers(&input, partition, 3000).await;
    }
    let name = unique("killed");
    let start = || {
        let mut command = Command::new(program::example("pass_through"));
        command.args(["--brokers", &common::brokers(), "--name", &name, "--input", &input]);
        command.args(["--output", &output, "--dead-letters", &letters, "--fail-for", "50"]);
        command.args(["--partitions", "0,1", "--max-batch-messages", "500", "--once"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for wait in [600, 900, 1200] {
        let mut running = start();
        tokio::time::sleep(Duration::from_millis(wait)).await;
        // SIGKILL.
        running.kill().unwrap();
        running.wait().unwrap();
    }
    let mut last = start();
    let ended = tokio::task::spawn_blocking(move || last.wait().unwrap()).await.unwrap();
    assert!(ended.success());
    let once = |messages: &[TestMessage]| {
        let mut numbers = numbers(messages);
        numbers.dedup();
        numbers
    };
    let (good, bad): (Vec<u32>, Vec<u32>) = (0..3000).partition(|number| number % 50 != 0);
    assert_eq!(once(&read_all(&output).await), good);
    let found = read_all(&letters).await;
    assert_eq!(once(&found), bad);
    let places: std::collections::BTreeSet<_> = found
        .iter()
        .map(|letter| {
            (
                letter.header_text("__dlq.errors.partition"),
                letter.header_text("__dlq.errors.offset"),
            )
        })
        .collect();
    assert_eq!(places.len(), 2 * bad.len());
}

/// What some messages are made into is larger than the client or the topic takes: they become letters, and the others
/// go out.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka: run it with `cargo xtask test`"]
async fn an_output_that_is_too_large_rejects_what_it_was_made_from() {
    struct Inflate {
        output: String,
        names: bool,
    }
    impl Processor for Inflate {
        async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
            for message in batch.iter() {
                let number: u32 = message.key_str()?.parse()?;
                let size = if number.is_multiple_of(50) { 40_000 } else { 10 };
                let outgoing = OutgoingMessage::new(&self.output).key(message.key());
                let outgoing = outgoing.value(vec![0; size]);
                context.send(if self.names { outgoing.caused_by(&message) } else { outgoing });
            }
            Ok(())
        }
    }
    for (names, by_client) in [(true, true), (false, true), (false, false)] {
        let limit = if by_client { "1000000" } else { "20000" };
        let output = common::topic_with("out", 1, &[("max.message.bytes", limit)]).await;
        let (input, letters) = (topic("in", 1).await, topic("dead", 1).await);
        send_numbers(&input, 0, 200).await;
        let own = output.clone();
        let policy = ErrorPolicy::default().undeliverable(OnError::dead_letter(&letters));
        let mut builder = TopicProcessor::builder(unique("inflate"), [&input])
            .brokers(common::brokers())
            .partitions([0])
            .on_error(policy);
        if by_client {
            builder = builder.kafka("message.max.bytes", "20000");
        }
        let build = builder.build(move |_| Inflate { output: own.clone(), names });
        let report = build.await.unwrap().run_until_caught_up().await.unwrap();
        assert!(report.rejected >= 4, "{report:?}");
        let mut found = numbers(&read_all(&letters).await);
        found.dedup();
        assert_eq!(found, [0, 50, 100, 150], "{names} {by_client}");
        let mut sent = numbers(&read_all(&output).await);
        sent.dedup();
        assert_eq!(sent, (0..200).filter(|number| number % 50 != 0).collect::<Vec<_>>());
    }
}
