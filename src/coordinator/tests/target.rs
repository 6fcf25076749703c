//! A latency target: what comes of it while the load and the store change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::harness::{Member, Sim, Step, at, millis};
use crate::broker::sim::Mode;
use crate::metrics::Metrics;
use crate::metrics::book::Book;

/// For so many seconds.
const STEP: u32 = 2;

/// A part of a run.
#[derive(Clone, Copy)]
struct Part {
    messages_per_second: u32,
    /// What a call of the store takes, whatever it is asked.
    call: u64,
}

/// What came of a part.
struct Outcome {
    /// From a message's arrival to the commit, in milliseconds: one in a hundred took longer.
    p99: u128,
    batches: u64,
    /// At the end of the part.
    target_missed: Option<Duration>,
}

struct Run {
    sim: Sim,
    member: Member,
    book: Book,
    call: Arc<AtomicU64>,
    produced: Vec<Instant>,
    committed: usize,
}

impl Run {
    /// With a target of 100 ms or without; commits are made as often in both cases.
    async fn begin(has_target: bool, backlog: usize) -> Self {
        let sim = Sim::new(Mode::Eager, &["a"], 1);
        {
            let weather = &mut sim.world().weather;
            weather.fetched = 20_000..=20_000;
            weather.queue_limit = 20_000;
            weather.fetch = 1..=3;
            weather.latency = 1..=3;
        }
        sim.produce(&at("a", 0), backlog);
        let (call, book) = (Arc::new(AtomicU64::new(2)), Book::default());
        let (time, metrics) = (call.clone(), Metrics::new("test", book.clone()));
        let member = sim.member().set(|settings| {
            settings.batch.max_messages = 10_000;
            settings.batch.max_bytes = 4 << 20;
            settings.metrics = metrics;
            settings.commit_interval = millis(25);
            settings.target_latency = has_target.then(|| millis(100));
        });
        // A store that takes some time for each call, and a little for each message.
        let member = member.plan(move |batch| {
            let each = Duration::from_micros(2) * u32::try_from(batch.len()).unwrap();
            vec![Step::Sleep(millis(time.load(Ordering::SeqCst)) + each)]
        });
        let member = member.start();
        sim.settled().await;
        sim.world().story = None;
        let produced = vec![Instant::now(); backlog];
        Self { sim, member, book, call, produced, committed: 0 }
    }

    async fn part(&mut self, part: Part) -> Outcome {
        self.call.store(part.call, Ordering::SeqCst);
        let (begin, batches) = (Instant::now(), self.batches());
        let mut latencies = Vec::new();
        for millisecond in 1..=STEP * 1000 {
            sleep_until(begin + millis(millisecond.into())).await;
            let before = part.messages_per_second * (millisecond - 1) / 1000;
            let messages = part.messages_per_second * millisecond / 1000 - before;
            self.sim.produce(&at("a", 0), messages as usize);
            self.produced.extend((0..messages).map(|_| Instant::now()));
            self.note_committed(&mut latencies);
        }
        while self.committed < self.produced.len() {
            sleep(millis(1)).await;
            self.note_committed(&mut latencies);
        }
        latencies.sort_unstable();
        Outcome {
            p99: latencies[latencies.len() * 99 / 100].as_millis(),
            batches: self.batches() - batches,
            target_missed: self.member.handle.status().target_missed,
        }
    }

    fn note_committed(&mut self, latencies: &mut Vec<Duration>) {
        let next = self.sim.committed(&at("a", 0));
        let next = next.map_or(0, |next| usize::try_from(next).unwrap());
        latencies.extend(self.produced[self.committed..next].iter().map(Instant::elapsed));
        self.committed = next;
    }

    fn batches(&self) -> u64 {
        self.book.counter("kasper_batches_total{partition=0}")
    }

    async fn end(self) {
        self.sim.all_committed().await;
        self.member.close().await.unwrap();
    }
}

/// The load rises and falls tenfold: in each part the target is met, with fewer batches than without one.
async fn assert_fewer_batches(call: u64, at_most: &[(u32, f64)]) {
    let (mut with, mut without) = (Run::begin(true, 0).await, Run::begin(false, 0).await);
    let first = Part { messages_per_second: at_most[0].0, call };
    with.part(first).await;
    without.part(first).await;
    for (messages_per_second, ratio) in at_most {
        let part = Part { messages_per_second: *messages_per_second, call };
        let (aimed, taken) = (with.part(part).await, without.part(part).await);
        println!(
            "{call} ms, {messages_per_second}/s: p99 {} and {} ms, {} and {} batches",
            aimed.p99, taken.p99, aimed.batches, taken.batches
        );
        assert!(aimed.p99 < 100, "{} ms with {messages_per_second} a second", aimed.p99);
        assert!(aimed.target_missed.is_none(), "{messages_per_second} a second");
        let most = taken.batches as f64 * ratio;
        assert!((aimed.batches as f64) < most, "{} batches, not {most}", aimed.batches);
    }
    with.end().await;
    without.end().await;
}

#[tokio::test(start_paused = true)]
async fn with_a_fast_store_batches_become_fewer_at_any_load() {
    let ratios = [(100, 0.3), (1000, 0.2), (10_000, 0.2), (1000, 0.2), (100, 0.3)];
    assert_fewer_batches(2, &ratios).await;
}

#[tokio::test(start_paused = true)]
async fn with_a_slow_store_batches_become_fewer_at_any_load() {
    let ratios = [(100, 0.7), (1000, 0.7), (10_000, 0.7), (1000, 0.7), (100, 0.7)];
    assert_fewer_batches(20, &ratios).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_becomes_slow_costs_batches_and_not_the_target() {
    let mut run = Run::begin(true, 0).await;
    run.part(Part { messages_per_second: 1000, call: 2 }).await;
    let fast = run.part(Part { messages_per_second: 1000, call: 2 }).await;
    let slow = run.part(Part { messages_per_second: 1000, call: 20 }).await;
    let still = run.part(Part { messages_per_second: 1000, call: 2 }).await;
    for _ in 0..3 {
        run.part(Part { messages_per_second: 1000, call: 2 }).await;
    }
    let again = run.part(Part { messages_per_second: 1000, call: 2 }).await;
    for outcome in [&fast, &slow, &still, &again] {
        println!("p99 {} ms, {} batches", outcome.p99, outcome.batches);
        assert!(outcome.p99 < 100, "{} ms", outcome.p99);
    }
    assert!(slow.batches > fast.batches, "it leaves less time");
    assert!(still.batches > fast.batches, "what was slow lately is expected again");
    assert!(again.batches <= fast.batches + 2, "until it is forgotten");
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_worked_off_in_large_batches_and_told() {
    let mut run = Run::begin(true, 30_000).await;
    let load = Part { messages_per_second: 500, call: 20 };
    let backlog = run.part(load).await;
    println!("p99 {} ms, {} batches", backlog.p99, backlog.batches);
    assert!(backlog.target_missed.is_some_and(|missed| missed > millis(500)));
    assert!(backlog.batches < 100, "{} batches", backlog.batches);
    let latencies = run.book.samples("kasper_latency_seconds");
    assert!(latencies.iter().any(|latency| *latency > 0.1), "{latencies:?}");
    for _ in 0..5 {
        run.part(load).await;
    }
    let after = run.part(load).await;
    assert!(after.p99 < 100, "{} ms", after.p99);
    assert_eq!(after.target_missed, None);
    run.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_rare_message_waits_no_longer_than_the_target_allows() {
    let mut run = Run::begin(true, 0).await;
    let rare = run.part(Part { messages_per_second: 10, call: 2 }).await;
    assert!(rare.p99 < 100, "{} ms", rare.p99);
    sleep(Duration::from_secs(60)).await;
    let rare = run.part(Part { messages_per_second: 10, call: 2 }).await;
    assert!(rare.p99 < 100, "{} ms after a minute of nothing", rare.p99);
    run.end().await;
}
