//! A call of `process` that sends far more than it reads, and flushes in between, needs no more memory than a
//! few flushes.
//!
//! The only test of this program: it measures the memory of its process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kasper::testkit::{EmbeddedBroker, TestMessage};
use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor, TopicProcessor};

const MIB: usize = 1 << 20;

/// Sends a GiB for its message, and flushes after each MiB.
struct FanOut {
    /// The most that was resident on top of what was resident at the beginning.
    most: Arc<AtomicU64>,
}

impl Processor for FanOut {
    async fn process(&mut self, _: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let value = vec![7; 64 << 10];
        let before = resident();
        for _ in 0..1024 {
            for _ in 0..MIB / value.len() {
                context.send(OutgoingMessage::new("out").partition(0).value(&value[..]));
            }
            context.flush().await?;
            self.most.fetch_max(resident().saturating_sub(before), Ordering::Relaxed);
        }
        Ok(())
    }
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn a_gib_from_one_call_that_flushes_takes_no_more_than_64_mib() {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("in", 1).unwrap();
    broker.create_topic("out", 1).unwrap();
    broker.client().unwrap().send(TestMessage::new("in").value("go")).await.unwrap();
    let most = Arc::new(AtomicU64::new(0));
    let counted = most.clone();
    let processor = TopicProcessor::builder("fan-out", ["in"])
        .brokers(broker.brokers())
        .partitions([0])
        .build(move |_| FanOut { most: counted.clone() })
        .await
        .unwrap();
    let report = processor.run_until_caught_up().await.unwrap();
    assert_eq!(report.messages, 1);
    let most = most.load(Ordering::Relaxed) / MIB as u64;
    assert!(most > 0, "nothing was measured");
    // 5 MiB are the embedded broker's: what it keeps of a partition.
    assert!(most < 64, "{most} MiB more");
}
