//! What needs a broker, but no real one: outages, time-outs at `build`, closing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kasper::testkit::{EmbeddedBroker, Feeder};
use kasper::{
    Batch, BoxError, Builder, Context, ErrorKind, OutgoingMessage, Processor, ProcessorState,
    TopicProcessor,
};

/// Counts messages, and sends each on.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU64>);

impl Processor for Count {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for message in batch.iter() {
            context.send(OutgoingMessage::new("out").value(message.value().unwrap_or_default()));
        }
        self.0.fetch_add(batch.len() as u64, Ordering::SeqCst);
        Ok(())
    }
}

fn broker() -> EmbeddedBroker {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("in", 2).unwrap();
    broker.create_topic("out", 2).unwrap();
    broker
}

fn builder(broker: &EmbeddedBroker) -> Builder {
    TopicProcessor::builder("embedded", ["in"]).brokers(broker.brokers()).partitions(0..2)
}

async fn eventually(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(30), "not within 30 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn brokers_that_go_away_and_return_are_waited_for() {
    let broker = broker();
    let count = Count::default();
    let counter = count.clone();
    let processor = builder(&broker).build(move |_| counter.clone()).await.unwrap();
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    let mut feeder = Feeder::new(&broker.brokers(), "in", 2, handle.clone()).unwrap();
    for _ in 0..100 {
        feeder.send(b"before").await.unwrap();
    }
    eventually(|| count.0.load(Ordering::SeqCst) == 100 && handle.has_consumed_all()).await;
    handle.pause();
    for _ in 0..10 {
        feeder.send(b"fetched").await.unwrap();
    }
    eventually(|| handle.lag() == 10).await;
    broker.suspend().unwrap();
    handle.resume();
    // What was fetched is processed, but what that sends is not acknowledged: it is not consumed.
    eventually(|| count.0.load(Ordering::SeqCst) == 110).await;
    for _ in 0..90 {
        feeder.send(b"during").await.unwrap();
    }
    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(2) {
        assert!(!running.is_finished(), "an outage is not an error");
        assert!(!handle.has_consumed_all(), "messages in flight count as consumed");
        assert_eq!(handle.lag(), 10);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(count.0.load(Ordering::SeqCst), 110, "nothing new can come");
    broker.resume().unwrap();
    feeder.finish().await.unwrap();
    handle.close();
    let report = running.await.unwrap().unwrap();
    assert_eq!(report.messages, 200);
}

#[tokio::test]
async fn no_broker_is_an_error_after_a_bounded_time_that_names_the_addresses() {
    let started = Instant::now();
    // A port that nobody listens on, and an address that does not answer.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = TopicProcessor::builder("nobody", ["in"])
        .brokers(free.to_string())
        .connect_timeout(Duration::from_secs(2))
        .build(|_| Count::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(&free.to_string()), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn close_before_run_and_twice_ends_at_once() {
    let broker = broker();
    let processor = builder(&broker).build(|_| Count::default()).await.unwrap();
    let handle = processor.handle();
    assert_eq!(handle.status().state, ProcessorState::Starting);
    assert!(!handle.has_consumed_all(), "nothing is known yet");
    handle.close();
    handle.close();
    let report = processor.run().await.unwrap();
    assert_eq!(report.messages, 0);
    assert_eq!(handle.status().state, ProcessorState::Closed);
    handle.closed().await;
}

/// Suspends the broker before it sends what it got.
struct Outage(Arc<EmbeddedBroker>);

impl Processor for Outage {
    async fn process(&mut self, _: &Batch, context: &mut Context) -> Result<(), BoxError> {
        self.0.suspend()?;
        context.send(OutgoingMessage::new("out").value("x"));
        Ok(())
    }
}

#[tokio::test]
async fn a_finite_delivery_timeout_turns_an_outage_into_an_error() {
    let broker = Arc::new(broker());
    let outage = Arc::clone(&broker);
    let processor = builder(&broker).delivery_timeout(Duration::from_secs(1));
    let processor = processor.build(move |_| Outage(Arc::clone(&outage))).await.unwrap();
    let mut feeder = Feeder::new(&broker.brokers(), "in", 2, processor.handle()).unwrap();
    feeder.send(b"x").await.unwrap();
    let error = processor.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Delivery, "{error}");
    assert_eq!(error.get("topic"), Some("out"), "{error}");
    assert!(error.to_string().to_lowercase().contains("timed out"), "{error}");
}

#[tokio::test]
async fn a_pause_holds_back_batches_and_resume_lets_them_go() {
    let broker = broker();
    let count = Count::default();
    let counter = count.clone();
    let processor = builder(&broker).build(move |_| counter.clone()).await.unwrap();
    let handle = processor.handle();
    handle.pause_partition(1);
    let running = tokio::spawn(processor.run());
    let mut feeder = Feeder::new(&broker.brokers(), "in", 2, handle.clone()).unwrap();
    for _ in 0..100 {
        feeder.send(b"x").await.unwrap();
    }
    eventually(|| count.0.load(Ordering::SeqCst) == 50).await;
    eventually(|| handle.lag() == 50).await;
    assert!(!handle.has_consumed_all());
    handle.resume_partition(1);
    eventually(|| count.0.load(Ordering::SeqCst) == 100).await;
    eventually(|| handle.has_consumed_all()).await;
    assert_eq!(handle.lag(), 0);
    handle.close();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_feeder_without_partitions_is_refused() {
    let broker = broker();
    let processor = builder(&broker).build(|_| Count::default()).await.unwrap();
    for partitions in [0, -1] {
        let feeder = Feeder::new(&broker.brokers(), "in", partitions, processor.handle());
        assert_eq!(feeder.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn passwords_appear_in_no_debug_output_or_error() {
    let broker = broker();
    let with = |builder: Builder| builder.kafka("sasl.password", "hunter2");
    let text = format!("{:?}", with(builder(&broker)));
    assert!(!text.contains("hunter2"), "{text}");
    let error = with(builder(&broker)).kafka("no.such.property", "x").build(|_| Count::default());
    let text = format!("{:?}", error.await.unwrap_err());
    assert!(text.contains("no.such.property") && !text.contains("hunter2"), "{text}");
}

/// Added to the time of day, they are beyond what clocks can tell.
#[tokio::test]
async fn durations_without_end_are_as_good_as_for_ever() {
    let broker = broker();
    let count = Count::default();
    let counter = count.clone();
    let processor = builder(&broker)
        .connect_timeout(Duration::MAX)
        .wait_for_topics(Duration::MAX)
        .max_batch_wait(Duration::MAX)
        .max_batch_messages(10)
        .commit_interval(Duration::MAX)
        .metrics_interval(Duration::MAX)
        .lag_interval(Duration::MAX)
        .stall_timeout(Duration::MAX)
        .build(move |_| counter.clone())
        .await
        .unwrap();
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    let mut feeder = Feeder::new(&broker.brokers(), "in", 1, handle.clone()).unwrap();
    for _ in 0..15 {
        feeder.send(b"message").await.unwrap();
    }
    // The other five wait for the rest of their batch.
    eventually(|| count.0.load(Ordering::SeqCst) == 10).await;
    handle.close();
    assert_eq!(running.await.unwrap().unwrap().messages, 10);
}
