//! Every setter of the builder at its extremes: it works, or `build` refuses it and names it. Nothing panics.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kasper::testkit::{EmbeddedBroker, TestMessage};
use kasper::{
    Batch, BoxError, Builder, Context, ErrorKind, OutOfRange, OutgoingMessage, Processor,
    StartFrom, TopicProcessor,
};
use proptest::prelude::*;
use tokio::runtime::Runtime;
use tokio::time::timeout;

const TIMES: [Duration; 4] =
    [Duration::MAX, Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(u64::MAX)];
const SIZES: [usize; 4] = [usize::MAX, 0, 1, usize::MAX / 2 + 1];
const STARTS: [i64; 5] = [i64::MAX, i64::MIN, 0, -1, -2];

/// Sends each message on.
struct PassOn(Arc<AtomicU64>);

impl Processor for PassOn {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for message in batch {
            context.send(OutgoingMessage::new("out").value(message.value().unwrap_or_default()));
        }
        self.0.fetch_add(batch.len() as u64, Ordering::SeqCst);
        Ok(())
    }
}

/// A setter, given one of its extremes by an index.
type Setter = (&'static str, fn(Builder, usize) -> Builder);

const SETTERS: &[Setter] = &[
    ("max_batch_messages", |builder, i| builder.max_batch_messages(SIZES[i % 4])),
    ("max_batch_bytes", |builder, i| builder.max_batch_bytes(SIZES[i % 4])),
    ("max_batch_wait", |builder, i| builder.max_batch_wait(TIMES[i % 4])),
    ("target_latency", |builder, i| builder.target_latency(TIMES[i % 4])),
    ("max_in_flight", |builder, i| builder.max_in_flight(SIZES[i % 4])),
    ("max_in_flight_bytes", |builder, i| builder.max_in_flight_bytes(SIZES[i % 4])),
    ("max_buffered_bytes", |builder, i| builder.max_buffered_bytes(SIZES[i % 4])),
    ("commit_interval", |builder, i| builder.commit_interval(TIMES[i % 4])),
    ("drain_deadline", |builder, i| builder.drain_deadline(TIMES[i % 4])),
    ("commit_timeout", |builder, i| builder.commit_timeout(TIMES[i % 4])),
    ("delivery_timeout", |builder, i| builder.delivery_timeout(TIMES[i % 4])),
    ("stall_timeout", |builder, i| builder.stall_timeout(TIMES[i % 4])),
    ("connect_timeout", |builder, i| builder.connect_timeout(TIMES[i % 4])),
    ("wait_for_topics", |builder, i| builder.wait_for_topics(TIMES[i % 4])),
    ("metrics_interval", |builder, i| builder.metrics_interval(TIMES[i % 4])),
    ("lag_interval", |builder, i| builder.lag_interval(TIMES[i % 4])),
    ("start_from", |builder, i| builder.start_from(StartFrom::Timestamp(STARTS[i % 5]))),
    ("out_of_range", |builder, i| {
        builder.out_of_range([OutOfRange::Fail, OutOfRange::Earliest, OutOfRange::Latest][i % 3])
    }),
    ("partition", |builder, i| builder.partitions([[i32::MAX, i32::MIN, 0, -1][i % 4]])),
    ("group_id", |builder, i| builder.group_id(["", "x", "é ü", "\u{1F600}"][i % 4])),
];

async fn broker() -> EmbeddedBroker {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("in", 2).unwrap();
    broker.create_topic("out", 2).unwrap();
    let message = |n: u8| TestMessage::new("in").partition(i32::from(n % 2)).value(&[n]);
    broker.client().unwrap().send_all((0..20).map(message)).await.unwrap();
    broker
}

/// Builds and runs it for a moment. The messages that it had, or what it said at `build`.
fn tried(broker: &EmbeddedBroker, settings: &[(Setter, usize)]) -> Result<u64, kasper::Error> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().worker_threads(2).build().unwrap();
    let first = TopicProcessor::builder("extreme", ["in"]).brokers(broker.brokers());
    let first = first.partitions(0..2);
    let builder = settings.iter().fold(first, |builder, ((_, set), index)| set(builder, *index));
    let count = Arc::new(AtomicU64::new(0));
    let counter = count.clone();
    runtime.block_on(async {
        let limit = Duration::from_secs(30);
        let processor = timeout(limit, builder.build(move |_| PassOn(counter.clone())));
        let processor = processor.await.expect("`build` does not end")?;
        let handle = processor.handle();
        let running = tokio::spawn(processor.run());
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if handle.has_consumed_all() || running.is_finished() {
                break;
            }
        }
        handle.close();
        let report = timeout(limit, running).await.expect("`run` does not end").unwrap();
        report.unwrap_or_else(|error| panic!("{error}"));
        Ok(count.load(Ordering::SeqCst))
    })
}

fn check(broker: &EmbeddedBroker, settings: &[(Setter, usize)]) -> bool {
    let names: Vec<_> = settings.iter().map(|((name, _), index)| (*name, *index)).collect();
    match tried(broker, settings) {
        Ok(_) => true,
        Err(error) => {
            let kind = error.kind();
            assert!(
                matches!(kind, ErrorKind::Config | ErrorKind::UnknownPartition),
                "{names:?}: {error}"
            );
            let text = error.to_string();
            assert!(names.iter().any(|(name, _)| text.contains(name)), "{names:?}: {error}");
            false
        }
    }
}

#[test]
fn each_setter_at_each_extreme_works_or_is_refused_by_name() {
    let broker = Runtime::new().unwrap().block_on(broker());
    for setter in SETTERS {
        let works: Vec<_> = (0..5).map(|index| check(&broker, &[(*setter, index)])).collect();
        println!("{}: {works:?}", setter.0);
    }
    // These are unlimited, so they must work.
    for name in [
        "max_batch_messages",
        "max_batch_bytes",
        "max_batch_wait",
        "target_latency",
        "max_in_flight",
        "max_in_flight_bytes",
        "max_buffered_bytes",
        "commit_interval",
        "stall_timeout",
        "connect_timeout",
        "wait_for_topics",
        "metrics_interval",
        "lag_interval",
    ] {
        let setter = SETTERS.iter().find(|(setter, _)| *setter == name).unwrap();
        assert!(check(&broker, &[(*setter, 0)]), "{name}");
    }
}

#[test]
fn any_extremes_together_work_or_are_refused_by_name() {
    let broker = Runtime::new().unwrap().block_on(broker());
    let setting = (0..SETTERS.len(), 0..5_usize);
    let settings = prop::collection::vec(setting, 2..6);
    let mut config = ProptestConfig::with_cases(40);
    config.failure_persistence = None;
    proptest!(config, |(settings in settings)| {
        let settings: Vec<_> =
            settings.into_iter().map(|(setter, index)| (SETTERS[setter], index)).collect();
        check(&broker, &settings);
    });
}
