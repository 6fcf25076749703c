//! Quarantine by key in the tester: the order of each key is kept, whatever fails, crashes and is replayed.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kasper::store::{MapStore, Store};
use kasper::testkit::{ProcessorTester, TestMessage};
use kasper::{
    Batch, BoxError, Bytes, Circuit, Context, Error, ErrorKind, ErrorPolicy, OnError,
    OutgoingMessage, ProcessError, Processor, Quarantine,
};
use proptest::prelude::*;

/// How the processor says that a message is bad.
#[derive(Debug, Clone, Copy)]
enum Way {
    Error,
    Poison,
    Reject,
}

#[derive(Default)]
struct World {
    /// Values that cannot be processed now.
    bad: HashSet<u64>,
    /// They are to be skipped.
    skips: bool,
    /// Values that were processed, of each key.
    done: BTreeMap<String, Vec<u64>>,
    calls: usize,
}

#[derive(Clone)]
struct Job {
    world: Arc<Mutex<World>>,
    way: Way,
}

impl Processor for Job {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let mut world = self.world.lock().unwrap();
        world.calls += 1;
        let mut done = Vec::new();
        for message in batch.iter() {
            if context.is_quarantined(&message) {
                continue;
            }
            let value = message.value().map(std::str::from_utf8).unwrap()?.parse()?;
            if !world.bad.contains(&value) {
                done.push((message.key_str()?.to_owned(), value));
                continue;
            }
            if world.skips {
                return Err("to be skipped".into());
            }
            match self.way {
                Way::Error => return Err("bad".into()),
                Way::Poison => return Err(ProcessError::poison(&message, "bad").into()),
                Way::Reject => context.dead_letter(&message, "bad")?,
            }
        }
        for (key, value) in done {
            context.send(OutgoingMessage::new("out").key(&key).value(value.to_string()));
            world.done.entry(key).or_default().push(value);
        }
        Ok(())
    }
}

/// Fails so many times.
#[derive(Clone, Default)]
struct Flaky {
    store: MapStore,
    failures: Arc<AtomicUsize>,
}

impl Flaky {
    fn call(&self) -> kasper::Result<()> {
        let less = |left: usize| left.checked_sub(1);
        match self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Err(Error::new(ErrorKind::Unavailable, "the store is away").retryable()),
            Err(_) => Ok(()),
        }
    }
}

impl Store for Flaky {
    async fn get_many(&self, keys: &[&str]) -> kasper::Result<Vec<Option<Bytes>>> {
        self.call()?;
        self.store.get_many(keys).await
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> kasper::Result<()> {
        self.call()?;
        self.store.write_many(changes).await
    }
}

/// A topic, what reads it, and its dead letter topic.
struct Bench {
    tester: ProcessorTester,
    world: Arc<Mutex<World>>,
    store: Flaky,
    sent: Vec<TestMessage>,
    letters: Vec<TestMessage>,
    /// So many letters were replayed.
    replayed: usize,
    next: u64,
}

impl Bench {
    fn new(way: Way, batch: usize, max_messages: usize) -> Self {
        let (world, store) = (Arc::new(Mutex::<World>::default()), Flaky::default());
        let job = Job { world: Arc::clone(&world), way };
        let quarantine = Quarantine::new(store.clone()).max_messages(max_messages);
        let is_skipped = |error: &Error| format!("{error:?}").contains("to be skipped");
        let policy = ErrorPolicy::new(OnError::dead_letter("dead"))
            .matching(is_skipped, OnError::skip())
            .circuit(Circuit::new().never())
            .quarantine_by_key(quarantine);
        let tester = ProcessorTester::new(["orders"], move |_| job.clone())
            .on_error(policy)
            .max_batch_messages(batch);
        Self { tester, world, store, sent: Vec::new(), letters: Vec::new(), replayed: 0, next: 0 }
    }

    /// A message with the next number.
    fn push(&mut self, key: &str, is_bad: bool) {
        if is_bad {
            self.world.lock().unwrap().bad.insert(self.next);
        }
        self.tester.push(TestMessage::new("orders").key(key).value(self.next.to_string()));
        self.next += 1;
    }

    async fn run(&mut self) {
        self.tester.run_all().await.unwrap();
        let outgoing = self.tester.take_outgoing().into_iter();
        let (letters, sent): (Vec<_>, Vec<_>) =
            outgoing.partition(|message| message.topic == "dead");
        self.letters.extend(letters);
        self.sent.extend(sent);
    }

    /// As `kasper-dlq replay --limit` does.
    fn replay_letters(&mut self, limit: usize) {
        for letter in self.letters.iter().skip(self.replayed).take(limit) {
            let place = ["topic", "partition", "offset"]
                .map(|name| letter.header_text(&format!("__dlq.errors.{name}")).unwrap());
            let key = letter.key.clone().unwrap();
            // Of the first time.
            let place = match letter.header_text("kasper.redriven.from") {
                Some(first) => first.to_owned(),
                None => place.join("/"),
            };
            let message =
                TestMessage::new("orders").key(&key[..]).value(letter.value_text().unwrap());
            self.tester.push(message.header("kasper.redriven.from", place.as_str()));
        }
        self.replayed = self.letters.len().min(self.replayed.saturating_add(limit));
    }

    fn repair(&self) {
        self.world.lock().unwrap().bad.clear();
    }

    async fn entry(&self) -> Option<String> {
        let entry = "kasper.quarantine/kasper-topic-processor-tester/orders/0";
        let found = self.store.get(entry).await.unwrap();
        found.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn kinds(&self) -> Vec<&str> {
        self.letters.iter().map(|letter| letter.header_text("kasper.error.kind").unwrap()).collect()
    }

    fn done(&self, key: &str) -> Vec<u64> {
        self.world.lock().unwrap().done.get(key).cloned().unwrap_or_default()
    }

    /// Two letters of a key are replayed too early, and once more.
    async fn fails_again_and_is_repaired(&mut self) {
        self.replay_letters(9);
        self.run().await;
        assert_eq!((self.done("a"), self.letters.len()), (vec![], 4));
        self.repair();
        self.replay_letters(9);
        self.run().await;
        assert_eq!(self.done("a"), [0, 1]);
    }

    /// The first time that each number was processed, the numbers before it of its key had been. What was sent says
    /// the same. Those that may have been skipped have no place in the order.
    fn check_order(&self, skipped: &HashSet<u64>) {
        let mut sent: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for message in &self.sent {
            let value = message.value_text().unwrap().parse().unwrap();
            sent.entry(message.key_text().unwrap().to_owned()).or_default().push(value);
        }
        for (key, done) in self.world.lock().unwrap().done.iter().chain(&sent) {
            let mut seen = skipped.clone();
            let first: Vec<u64> =
                done.iter().copied().filter(|value| seen.insert(*value)).collect();
            assert!(first.is_sorted(), "{key}: {done:?}");
        }
    }
}

#[tokio::test]
async fn later_messages_follow_until_they_are_replayed() {
    for way in [Way::Error, Way::Poison, Way::Reject] {
        let mut bench = Bench::new(way, 100, 100);
        bench.push("a", false);
        bench.push("a", true);
        bench.push("b", false);
        bench.push("a", false);
        bench.run().await;
        assert_eq!((bench.done("a"), bench.done("b")), (vec![0], vec![2]), "{way:?}");
        let kind = match way {
            Way::Reject => "rejected",
            Way::Error | Way::Poison => "process failed",
        };
        assert_eq!(bench.kinds(), [kind, "quarantined"], "{way:?}");
        let why = bench.letters[1].header_text("__dlq.errors.message").unwrap();
        assert_eq!(why, "an earlier message of its key was rejected, at offset 1: bad");
        let entry = bench.entry().await.unwrap();
        assert!(entry.ends_with("a\tdead\t1\t1\t-\t1,3\tbad"), "{entry}");
        // In a later batch, too, and by another process.
        bench.push("a", false);
        bench.push("b", false);
        bench.run().await;
        bench.tester.revoke().await.unwrap();
        bench.tester.assign();
        bench.push("a", false);
        bench.run().await;
        assert_eq!((bench.done("a"), bench.done("b")), (vec![0], vec![2, 5]), "{way:?}");
        bench.repair();
        bench.replay_letters(9);
        bench.push("a", false);
        bench.run().await;
        assert_eq!(bench.done("a"), [0, 1, 3, 4, 6, 7], "{way:?}");
        assert_eq!(bench.letters.len(), 4);
        // What was released is forgotten when it is committed.
        bench.tester.revoke().await.unwrap();
        bench.tester.assign();
        bench.push("a", true);
        bench.run().await;
        assert_eq!(bench.entry().await.unwrap().lines().count(), 2);
    }
}

#[tokio::test]
async fn what_fails_again_holds_what_was_behind_it() {
    let mut bench = Bench::new(Way::Error, 100, 10);
    bench.push("a", true);
    bench.push("a", false);
    bench.run().await;
    bench.fails_again_and_is_repaired().await;
}

#[tokio::test]
async fn a_message_without_a_key_holds_nothing() {
    let mut bench = Bench::new(Way::Reject, 100, 10);
    bench.world.lock().unwrap().bad.insert(7);
    bench.tester.push(TestMessage::new("orders").value("7"));
    bench.push("a", false);
    bench.run().await;
    assert_eq!((bench.done("a"), bench.letters.len()), (vec![0], 1));
    assert_eq!(bench.entry().await, None);
}

#[tokio::test]
async fn one_message_too_many_stops_before_its_letter() {
    let mut bench = Bench::new(Way::Error, 1, 2);
    for key in ["a", "b", "c"] {
        bench.push(key, true);
    }
    let error = bench.tester.run_all().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CircuitOpen, "{error}");
    assert!(error.to_string().contains("3 messages are in a quarantine"), "{error}");
    assert_eq!(bench.tester.outgoing().len(), 2);
    assert_eq!(bench.entry().await.unwrap().lines().count(), 3);
}

#[tokio::test]
async fn messages_that_are_held_cost_no_call_and_do_not_open_the_circuit() {
    let mut bench = Bench::new(Way::Poison, 1000, 1000);
    bench.push("a", true);
    bench.run().await;
    let calls = bench.world.lock().unwrap().calls;
    for _ in 0..500 {
        bench.push("a", false);
    }
    bench.run().await;
    assert_eq!((bench.world.lock().unwrap().calls, bench.letters.len()), (calls, 501));
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_stops_the_partition_and_names_it() {
    let mut bench = Bench::new(Way::Error, 10, 10);
    bench
        .store
        .put("kasper.quarantine/kasper-topic-processor-tester/orders/0", "{}")
        .await
        .unwrap();
    bench.push("a", false);
    let error = bench.tester.run_all().await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("kasper.quarantine/kasper-topic-processor-tester/orders/0"), "{text}");
    assert!(bench.done("a").is_empty());
}

/// A replayed message that is skipped is not waited for.
#[tokio::test]
async fn what_is_skipped_when_it_is_replayed_frees_its_key() {
    let mut bench = Bench::new(Way::Error, 100, 10);
    bench.push("a", true);
    bench.push("a", false);
    bench.run().await;
    bench.world.lock().unwrap().skips = true;
    bench.replay_letters(9);
    bench.push("a", false);
    bench.run().await;
    assert_eq!((bench.done("a"), bench.letters.len()), (vec![1, 2], 2));
}

/// Letters of a time without a quarantine: the first one fails again, so the second waits for it.
#[tokio::test]
async fn what_was_not_held_before_follows_too() {
    let mut bench = Bench::new(Way::Error, 100, 10);
    bench.push("a", true);
    bench.push("a", false);
    bench.run().await;
    bench.tester.revoke().await.unwrap();
    bench.store.delete("kasper.quarantine/kasper-topic-processor-tester/orders/0").await.unwrap();
    bench.tester.assign();
    bench.fails_again_and_is_repaired().await;
}

/// Followers that a processor has not looked for leave at their places.
#[tokio::test]
async fn letters_of_a_call_are_in_the_order_of_its_messages() {
    struct Careless;
    impl Processor for Careless {
        async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
            let all: Vec<_> = batch.iter().collect();
            context.dead_letter(&all[0], "bad")?;
            context.dead_letter(&all[2], "bad")?;
            Ok(())
        }
    }
    let policy = ErrorPolicy::new(OnError::dead_letter("dead"));
    let policy = policy.quarantine_by_key(Quarantine::new(MapStore::new()));
    let mut tester = ProcessorTester::new(["orders"], |_| Careless).on_error(policy);
    for value in ["0", "1", "2"] {
        tester.push(TestMessage::new("orders").key("a").value(value));
    }
    tester.run_all().await.unwrap();
    let letters = tester.outgoing();
    let values: Vec<_> = letters.iter().map(|letter| letter.value_text().unwrap()).collect();
    assert_eq!(values, ["0", "1", "2"]);
}

#[derive(Debug, Clone)]
enum Step {
    Push {
        key: usize,
        is_bad: bool,
    },
    Run,
    Crash,
    Revoke,
    Replay(usize),
    Repair,
    /// The store fails the next calls.
    Fail(usize),
    /// What is bad is skipped, or becomes letters.
    Skip(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..3usize, proptest::bool::weighted(0.2)).prop_map(|(key, is_bad)| Step::Push { key, is_bad }),
        4 => Just(Step::Run),
        1 => Just(Step::Crash),
        1 => Just(Step::Revoke),
        2 => (1..5usize).prop_map(Step::Replay),
        1 => Just(Step::Repair),
        1 => (1..4usize).prop_map(Step::Fail),
        1 => any::<bool>().prop_map(Step::Skip),
    ];
    proptest::collection::vec(step, 1..60)
}

async fn keeps_the_order(way: Way, batch: usize, steps: Vec<Step>) {
    let mut bench = Bench::new(way, batch, 1000);
    let (mut has_skipped, mut bad) = (false, HashSet::new());
    for step in steps {
        match step {
            Step::Push { key, is_bad } => {
                if is_bad {
                    bad.insert(bench.next);
                }
                bench.push(["a", "b", "c"][key], is_bad);
            }
            Step::Run => bench.run().await,
            Step::Crash => {
                bench.tester.crash();
                bench.tester.assign();
            }
            Step::Revoke => {
                bench.tester.revoke().await.unwrap();
                bench.tester.assign();
            }
            Step::Replay(limit) => bench.replay_letters(limit),
            Step::Repair => bench.repair(),
            Step::Fail(times) => bench.store.failures.store(times, Ordering::Relaxed),
            Step::Skip(skips) => {
                has_skipped |= skips;
                bench.world.lock().unwrap().skips = skips;
            }
        }
    }
    bench.repair();
    bench.run().await;
    while bench.replayed < bench.letters.len() {
        bench.replay_letters(usize::MAX);
        bench.run().await;
    }
    if !has_skipped {
        bad.clear();
    }
    bench.check_order(&bad);
    let done: HashSet<u64> = bench.world.lock().unwrap().done.values().flatten().copied().collect();
    let missing: Vec<u64> = (0..bench.next).filter(|value| !done.contains(value)).collect();
    assert!(missing.iter().all(|value| bad.contains(value)), "not processed: {missing:?}");
    let letters = bench.letters.len();
    for key in ["a", "b", "c"] {
        bench.push(key, false);
    }
    bench.run().await;
    assert_eq!(bench.letters.len(), letters, "no key is held any more");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn the_order_of_each_key_is_kept(
        way in prop_oneof![Just(Way::Error), Just(Way::Poison), Just(Way::Reject)],
        batch in 1..8usize,
        steps in steps(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(keeps_the_order(way, batch, steps));
    }
}
