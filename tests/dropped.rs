//! A processor that is dropped, before it ran or in the middle, leaves nothing behind.
//!
//! The only test of this program: it counts the threads of its process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::time::{Duration, Instant};

use kasper::testkit::EmbeddedBroker;
use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor, TopicProcessor};

struct Forward;

impl Processor for Forward {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for message in batch.iter() {
            context.send(OutgoingMessage::new("out").value(message.value().unwrap_or_default()));
        }
        Ok(())
    }
}

async fn eventually(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", client_threads());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Threads of the library in this process that are still alive.
fn client_threads() -> Vec<String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names = threads.filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok());
    names
        .filter(|name| name.starts_with("kasper-cons") || name.starts_with("kasper-prod"))
        .collect()
}

#[tokio::test]
async fn a_processor_that_is_dropped_unrun_or_in_mid_run_does_not_hang() {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("in", 2).unwrap();
    broker.create_topic("out", 2).unwrap();
    let builder = || {
        let builder = TopicProcessor::builder("dropped", ["in"]);
        builder.brokers(broker.brokers()).partitions(0..2)
    };
    let unrun = builder().build(|_| Forward).await.unwrap();
    assert!(!client_threads().is_empty(), "what is counted here has other names now");
    let handle = unrun.handle();
    drop(unrun);
    handle.closed().await;
    for _ in 0..5 {
        let processor = builder().build(|_| Forward).await.unwrap();
        let handle = processor.handle();
        let running = tokio::spawn(processor.run());
        eventually(|| !handle.status().partitions.is_empty()).await;
        running.abort();
        let started = Instant::now();
        handle.closed().await;
        assert!(started.elapsed() < Duration::from_secs(1), "dropping blocked");
    }
    eventually(|| client_threads().is_empty()).await;
}
