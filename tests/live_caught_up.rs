//! `run_until_caught_up` and `has_consumed_all` while members come, on a real Kafka: nothing counts as
//! consumed that `process` has not had.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{eventually, send_numbers, topic};
use kasper::{
    Batch, BoxError, Builder, Context, Handle, Processor, RebalanceEvent, Report, TopicProcessor,
};
use tokio::task::JoinHandle;

const PARTITIONS: i32 = 4;
const MESSAGES: i64 = 300;

/// Of each partition, how often each offset was processed, by any member.
#[derive(Clone, Default)]
struct Done(Arc<Mutex<BTreeMap<(i32, i64), usize>>>);

impl Done {
    fn is_complete(&self, partition: i32) -> bool {
        let done = self.0.lock().unwrap();
        (0..MESSAGES).all(|offset| done.contains_key(&(partition, offset)))
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Takes 10 ms a message: most of the backlog is fetched and waits when the second member comes.
struct Slow(Done);

impl Processor for Slow {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        for message in batch.iter() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let key = (batch.partition(), message.offset().get());
            *self.0.0.lock().unwrap().entry(key).or_default() += 1;
        }
        Ok(())
    }
}

/// One process of the group.
struct Member {
    handle: Handle,
    run: JoinHandle<kasper::Result<Report>>,
    /// What it has at the moment, or had when it ended.
    own: Arc<Mutex<BTreeSet<i32>>>,
}

impl Member {
    async fn start(builder: Builder, done: &Done) -> Self {
        let own = Arc::new(Mutex::new(BTreeSet::new()));
        let (kept, done) = (own.clone(), done.clone());
        let note = move |event: &RebalanceEvent| {
            let mut own = kept.lock().unwrap();
            match event {
                RebalanceEvent::Assigned(new) => own.extend(new.iter().map(|p| p.number)),
                RebalanceEvent::Revoked(old) | RebalanceEvent::Lost(old) => {
                    old.iter().for_each(|p| assert!(own.remove(&p.number), "{p}"));
                }
                _ => {}
            }
        };
        let processor = builder.on_rebalance(note).build(move |_| Slow(done.clone()));
        let processor = processor.await.unwrap();
        let handle = processor.handle();
        Self { handle, run: tokio::spawn(processor.run_until_caught_up()), own }
    }

    fn partitions(&self) -> BTreeSet<i32> {
        self.handle.status().partitions.iter().map(|status| status.partition.number).collect()
    }

    /// What it says while it runs, and at its end, is true.
    async fn watch(self, done: Done) -> Report {
        while !self.run.is_finished() {
            let before = self.partitions();
            let (all, lag) = (self.handle.has_consumed_all(), self.handle.lag());
            let kept: Vec<_> = before.intersection(&self.partitions()).copied().collect();
            for partition in &kept {
                assert!(!all || done.is_complete(*partition), "{partition} counts as consumed");
            }
            let unprocessed = kept.iter().any(|partition| !done.is_complete(*partition));
            let settled = kept.len() == before.len() && self.handle.status().settled;
            assert!(!(settled && lag == 0 && unprocessed), "no lag, though messages are left");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let own = self.own.lock().unwrap().clone();
        let report = self.run.await.unwrap().unwrap();
        let unfinished: Vec<_> = own.iter().filter(|p| !done.is_complete(**p)).collect();
        assert!(
            unfinished.is_empty(),
            "ended with {unfinished:?} of {own:?} unprocessed: {report:?}"
        );
        report
    }
}

async fn two_members_catch_up(configure: impl Fn(Builder) -> Builder) {
    common::log();
    let input = topic("caught-up", PARTITIONS).await;
    for partition in 0..PARTITIONS {
        send_numbers(&input, partition, u32::try_from(MESSAGES).unwrap()).await;
    }
    let (name, done) = (common::unique("caught-up"), Done::default());
    let builder = || {
        let builder = TopicProcessor::builder(&name, [&input]).brokers(common::brokers());
        configure(builder.max_batch_messages(1))
    };
    let first = Member::start(builder(), &done).await;
    eventually(Duration::from_secs(30), || done.len() >= 100).await;
    let second = Member::start(builder(), &done).await;
    let (first, second) =
        (tokio::spawn(first.watch(done.clone())), tokio::spawn(second.watch(done.clone())));
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    let all = u64::try_from(MESSAGES * i64::from(PARTITIONS)).unwrap();
    assert_eq!(done.len() as u64, all);
    println!("{} and {} messages", first.messages, second.messages);
    assert!(second.messages > 0, "the second member had nothing to do");
    // Each revocation is drained and committed, so nothing comes again.
    assert_eq!(first.messages + second.messages, all);
    let repeated: Vec<_> =
        done.0.lock().unwrap().iter().filter(|(_, n)| **n > 1).map(|(at, _)| *at).collect();
    assert!(repeated.is_empty(), "processed twice: {repeated:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn two_members_of_a_classic_group_catch_up() {
    two_members_catch_up(|builder| builder).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn two_members_of_a_cooperative_group_catch_up() {
    let assignor = "partition.assignment.strategy";
    two_members_catch_up(|builder| builder.kafka(assignor, "cooperative-sticky")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn two_members_of_a_kip_848_group_catch_up() {
    two_members_catch_up(Builder::consumer_protocol).await;
}
