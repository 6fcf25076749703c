//! The library's main job, on the embedded broker: right when it is cut off, and when there is more to
//! read than the broker keeps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

#[path = "../examples/common/mod.rs"]
mod common;
#[path = "../examples/word_count/count.rs"]
mod count;
#[path = "../examples/word_count/text.rs"]
#[allow(dead_code, reason = "not all of it is used here")]
mod text;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use count::{Counts, WordCount, totals};
use kasper::codec::Json;
use kasper::store::{AnyStore, MapStore, TypedStore};
use kasper::testkit::{EmbeddedBroker, Feeder};
use kasper::{Handle, Report, Result, TopicProcessor};
use tokio::task::JoinHandle;

const PARTITIONS: i32 = 3;

/// A broker with one topic, and a store; both survive the runs.
struct Job {
    broker: EmbeddedBroker,
    store: MapStore,
}

impl Job {
    fn new() -> Self {
        let broker = EmbeddedBroker::start().unwrap();
        broker.create_topic("text", PARTITIONS).unwrap();
        Self { broker, store: MapStore::new() }
    }

    fn counts(&self) -> Counts {
        TypedStore::new(AnyStore::new(self.store.clone()), Json)
    }

    /// The counts of these words. There are no others in the store.
    async fn totals(&self, words: &[String]) -> HashMap<String, u64> {
        let totals = totals(&self.counts(), "run", PARTITIONS, words.iter()).await.unwrap();
        let words: HashSet<&str> = words.iter().map(String::as_str).collect();
        let of_key = |key: &str| key.rsplit('/').next().is_some_and(|word| words.contains(word));
        assert!(self.store.snapshot().keys().all(|key| of_key(key)));
        totals
    }

    async fn start(&self, batch: usize) -> (Handle, JoinHandle<Result<Report>>) {
        let counts = self.counts();
        let processor = TopicProcessor::builder("words", ["text"])
            .brokers(self.broker.brokers())
            .partitions(0..PARTITIONS)
            .max_batch_messages(batch)
            // Nothing is committed before the end: all that was counted comes again.
            .commit_interval(Duration::from_hours(1))
            .build(move |_| WordCount::new("run", &counts))
            .await
            .unwrap();
        (processor.handle(), tokio::spawn(processor.run()))
    }

    fn feeder(&self, reader: Handle) -> Feeder {
        Feeder::new(&self.broker.brokers(), "text", PARTITIONS, reader).unwrap()
    }
}

/// The run's future is dropped in the middle, twice; what was counted and not committed comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_the_same_when_the_run_is_aborted_half_way() {
    let job = Job::new();
    let lines: Vec<String> = (0..6000u32).map(|n| format!("a b{} c{}", n % 7, n % 101)).collect();
    let expected = text::count_words(lines.clone());
    // Everything fits into what the broker keeps, so feeding needs no reader: pause this one.
    let (handle, running) = job.start(10).await;
    handle.pause();
    let mut feeder = job.feeder(handle.clone());
    for line in &lines {
        feeder.send(line.as_bytes()).await.unwrap();
    }
    let mut replayed = 0;
    let mut run = (handle, running);
    for part in [2000, 4000] {
        let (handle, running) = run;
        handle.resume();
        while handle.status().messages + replayed < part {
            tokio::task::yield_now().await;
        }
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        handle.closed().await;
        replayed += handle.status().messages;
        run = job.start(10).await;
    }
    let (handle, running) = run;
    while !handle.has_consumed_all() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    handle.close();
    let report = running.await.unwrap().unwrap();
    assert!(report.messages + replayed > 6000 + 2000, "the runs replayed nothing");
    let words: Vec<String> = expected.keys().cloned().collect();
    assert_eq!(job.totals(&words).await, expected);
}

/// The broker keeps 5 MiB a partition and drops the oldest: the feeder waits for the reader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_word_is_lost_of_more_text_than_the_broker_keeps() {
    let job = Job::new();
    let (handle, running) = job.start(10_000).await;
    let mut feeder = job.feeder(handle.clone());
    let padding = "x".repeat(990);
    let lines = 55_000u64;
    let mut bytes = 0;
    for number in 0..lines {
        let line = format!("{padding} word n{}", number % 1000);
        bytes += line.len();
        feeder.send(line.as_bytes()).await.unwrap();
    }
    assert_eq!(feeder.finish().await.unwrap(), lines);
    assert!(bytes > 50 << 20, "{bytes}");
    handle.close();
    running.await.unwrap().unwrap();
    // The first one is longer than words can be.
    let mut words = vec![padding[..text::LONGEST].to_owned(), "word".to_owned()];
    words.extend((0..1000).map(|number| format!("n{number}")));
    let counts = job.totals(&words).await;
    assert!(words[..2].iter().all(|word| counts[word] == lines));
    assert!(words[2..].iter().all(|word| counts[word] == lines / 1000));
}
