//! A processor that is dropped, before it ran or in the middle, leaves nothing behind.
//!
//! The only test of this program: it counts the threads of its process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::time::{Duration, Instant};

use common::{Each, eventually};
use kasper::testkit::EmbeddedBroker;
use kasper::{Batch, Context, StartContext, TopicProcessor};

const LIMIT: Duration = Duration::from_secs(30);

/// Threads of the library in this process that are still alive.
fn client_threads() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let names = threads.filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("kasper-cons") || name.starts_with("kasper-prod")).count()
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
    let forward = |_: &StartContext| {
        Each(|batch: &Batch, context: &mut Context| {
            batch.iter().for_each(|message| context.forward("out", &message));
            Ok(())
        })
    };
    let unrun = builder().build(forward).await.unwrap();
    assert!(client_threads() > 0, "what is counted here has other names now");
    let handle = unrun.handle();
    drop(unrun);
    handle.closed().await;
    for _ in 0..5 {
        let processor = builder().build(forward).await.unwrap();
        let handle = processor.handle();
        let running = tokio::spawn(processor.run());
        eventually(LIMIT, || !handle.status().partitions.is_empty()).await;
        running.abort();
        let started = Instant::now();
        handle.closed().await;
        assert!(started.elapsed() < Duration::from_secs(1), "dropping blocked");
    }
    eventually(LIMIT, || client_threads() == 0).await;
}
