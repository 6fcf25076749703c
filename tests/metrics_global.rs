//! The recorder of the whole process: there is one, so this is a program of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use kasper::metrics::prometheus;
use kasper::testkit::{EmbeddedBroker, Feeder};
use kasper::{Batch, BoxError, Context, Processor, TopicProcessor};

/// Counts for itself, too.
struct Count;

impl Processor for Count {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let seen = context.metrics().counter("seen_total", "Messages seen.", &[]);
        seen.increment(batch.len() as u64);
        Ok(())
    }
}

#[tokio::test]
async fn a_recorder_that_is_installed_after_the_build_gets_all_of_it() {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("in", 1).unwrap();
    let builder = TopicProcessor::builder("count", ["in"]).brokers(broker.brokers());
    let processor = builder.partitions([0]).build(|_| Count).await.unwrap();
    let prometheus = prometheus().unwrap();
    metrics::set_global_recorder(prometheus.clone()).unwrap();

    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    let mut feeder = Feeder::new(&broker.brokers(), "in", 1, handle.clone()).unwrap();
    for _ in 0..10 {
        feeder.send(b"value").await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(30), feeder.finish()).await.unwrap().unwrap();
    handle.close();
    running.await.unwrap().unwrap();

    let text = prometheus.render();
    let incoming =
        "kasper_incoming_messages_total{processor=\"count\",topic=\"in\",partition=\"0\"} 10";
    for line in [incoming, "seen_total{processor=\"count\"} 10"] {
        assert!(text.lines().any(|other| other == line), "{line} is missing:\n{text}");
    }
}
