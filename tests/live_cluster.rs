//! Three brokers, each of which is killed once while messages flow: nothing is lost, and it goes on.
//!
//! The brokers are run by `xtask/src/servers/kafka/cluster.rs`, which starts again what was killed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

mod common;

/// The name of this module lets `cargo xtask test` run these tests, and no others, with a cluster.
mod cluster {
    use std::collections::BTreeSet;
    use std::process::Command;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use kasper::{Batch, Builder, Context, Handle, Report};
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use tokio::task::JoinHandle;

    use super::common::{
        self, Each, Sender, builder, committed, eventually, group_of, read_all, topic,
    };

    const PARTITIONS: i32 = 6;
    const BROKERS: usize = 3;

    fn kill(broker: usize) {
        let script = std::env::var("KASPER_TEST_KAFKA_CLUSTER_KILL").expect(
            "this test needs a cluster of Kafka: run it with `cargo xtask test --only cluster`",
        );
        assert!(
            Command::new("sh").args([&script, &broker.to_string()]).status().unwrap().success()
        );
    }

    /// Every replica of the topic is in sync: the next broker may go.
    fn is_whole(consumer: &BaseConsumer, topic: &str) -> bool {
        let Ok(metadata) = consumer.fetch_metadata(Some(topic), Duration::from_secs(2)) else {
            return false;
        };
        let partitions = metadata.topics()[0].partitions();
        metadata.brokers().len() == BROKERS && partitions.iter().all(|p| p.isr().len() == BROKERS)
    }

    /// A message for each partition every few milliseconds.
    struct Feeder {
        stop: Arc<AtomicBool>,
        sent: Arc<AtomicU32>,
        thread: thread::JoinHandle<()>,
    }

    impl Feeder {
        fn start(input: &str) -> Self {
            let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
            let (input, over, count) = (input.to_owned(), stop.clone(), sent.clone());
            let thread = thread::spawn(move || {
                let sender = Sender::new();
                while !over.load(Ordering::Relaxed) {
                    let number = count.load(Ordering::Relaxed);
                    for partition in 0..PARTITIONS {
                        let value = format!("{partition}/{number}");
                        sender.send(&input, partition, &value, value.as_bytes());
                    }
                    count.store(number + 1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
                sender.flush();
            });
            Self { stop, sent, thread }
        }

        /// How many messages each partition has got.
        fn stop(self) -> u32 {
            self.stop.store(true, Ordering::Relaxed);
            self.thread.join().unwrap();
            self.sent.load(Ordering::Relaxed)
        }
    }

    /// A processor that sends everything on, and where each partition is.
    struct Job {
        output: String,
        group: String,
        handle: Handle,
        running: JoinHandle<kasper::Result<Report>>,
        positions: Arc<Vec<AtomicU32>>,
    }

    impl Job {
        async fn start(builder: Builder) -> Self {
            let output = topic("out", PARTITIONS).await;
            let positions: Arc<Vec<AtomicU32>> =
                Arc::new((0..PARTITIONS).map(|_| AtomicU32::new(0)).collect());
            let (target, notes) = (output.clone(), positions.clone());
            let forward = move |batch: &Batch, context: &mut Context| {
                for message in batch.iter() {
                    context.forward(&target, &message);
                    let next = u32::try_from(message.offset().get() + 1).unwrap();
                    let index = usize::try_from(message.partition()).unwrap();
                    notes[index].fetch_max(next, Ordering::Relaxed);
                }
                Ok(())
            };
            let processor = builder.build(move |_| Each(forward.clone())).await.unwrap();
            let handle = processor.handle();
            let group = group_of(handle.name());
            let running = tokio::spawn(processor.run());
            Self { output, group, handle, running, positions }
        }

        /// All partitions are past this message.
        fn is_past(&self, number: u32) -> bool {
            assert!(!self.running.is_finished(), "it ended: {:?}", self.handle.status());
            self.positions.iter().all(|position| position.load(Ordering::Relaxed) > number)
        }

        async fn finish(self, input: &str, sent: u32, consumer: &BaseConsumer) {
            eventually(Duration::from_secs(60), || self.is_past(sent - 1)).await;
            self.handle.close();
            self.running.await.unwrap().unwrap();
            // What asks from here on is a plain client, to which a broker that is away is an error.
            eventually(Duration::from_secs(60), || is_whole(consumer, &self.output)).await;
            for partition in 0..PARTITIONS {
                assert_eq!(committed(&self.group, input, partition), Some(i64::from(sent)));
            }
            let output = read_all(&self.output, PARTITIONS);
            let total = output.len();
            let seen: BTreeSet<_> = output.into_iter().map(|m| m.value.unwrap()).collect();
            println!("{}: {} sent, {} twice", self.group, seen.len(), total - seen.len());
            let all = (0..PARTITIONS).flat_map(|p| (0..sent).map(move |n| format!("{p}/{n}")));
            let lost: Vec<_> = all.filter(|value| !seen.contains(value.as_bytes())).collect();
            assert!(lost.is_empty(), "{} lost, such as {:?}", lost.len(), lost.first());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs a cluster of Kafka; run `cargo xtask test --only cluster`"]
    async fn each_broker_is_killed_once_and_nothing_is_lost() {
        common::log();
        let input = topic("in", PARTITIONS).await;
        let jobs = [
            Job::start(builder("classic", &[&input])).await,
            Job::start(builder("kip-848", &[&input]).consumer_protocol()).await,
        ];
        let feeder = Feeder::start(&input);
        let consumer: BaseConsumer = common::config_of(&[]).create().unwrap();
        eventually(Duration::from_secs(30), || jobs.iter().all(|job| job.is_past(100))).await;
        for broker in 1..=BROKERS {
            for topic in jobs.iter().map(|job| &job.output).chain([&input]) {
                eventually(Duration::from_secs(60), || is_whole(&consumer, topic)).await;
            }
            let (killed, number) = (Instant::now(), feeder.sent.load(Ordering::Relaxed));
            kill(broker);
            // Sent after the kill: of the partitions that it led too.
            let on = || jobs.iter().all(|job| job.is_past(number + 50));
            eventually(Duration::from_secs(60), on).await;
            println!(
                "broker {broker} was killed; all partitions go on after {:?}",
                killed.elapsed()
            );
        }
        let sent = feeder.stop();
        for job in jobs {
            job.finish(&input, sent, &consumer).await;
        }
    }
}
