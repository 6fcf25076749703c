//! A processor that blocks its thread past the drain deadline. It cannot be interrupted; nobody
//! waits for it, and nothing is taken from it.
//!
//! These tests need threads and so real time, a fraction of a second each.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::harness::{Member, MemberSetup, Plan, Sim, Step, at, millis};
use crate::Batch;
use crate::broker::sim::{Mode, World};

type Unblock = std::sync::mpsc::Sender<()>;

/// A cluster that is driven from a thread of its own: tokio may leave a task that was woken by a
/// thread to that thread, which is then blocked.
struct Driven {
    sim: Sim,
    driver: Option<tokio::runtime::Runtime>,
}

impl Driven {
    fn new(mode: Mode, topics: &[&str]) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let driver = builder.worker_threads(1).enable_time().build().unwrap();
        let inside = driver.enter();
        let sim = Sim::new(mode, topics, 1);
        drop(inside);
        Self { sim, driver: Some(driver) }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.shutdown_background();
        }
    }
}

impl std::ops::Deref for Driven {
    type Target = Sim;

    fn deref(&self) -> &Sim {
        &self.sim
    }
}

/// What a call does when it is no longer blocked.
fn ways_to_send() -> [Plan; 2] {
    [vec![Step::Send("out")], vec![Step::Send("out"), Step::Flush]]
}

/// The first call of `process` blocks until the sender is dropped, and then does this.
fn blocking(member: MemberSetup, then: Plan) -> (Member, Unblock) {
    let (unblock, blockade) = std::sync::mpsc::channel();
    let blockade = Arc::new(Mutex::new(blockade));
    let mut calls = 0;
    let plan = move |_: &Batch| {
        calls += 1;
        let first = [vec![Step::Block(blockade.clone())], then.clone()].concat();
        if calls == 1 { first } else { vec![Step::Send("out")] }
    };
    let member = member.plan(plan).set(|s| {
        s.batch.max_messages = 5;
        s.drain_deadline = millis(50);
    });
    (member.start(), unblock)
}

async fn blocked(sim: &Sim) {
    sim.until("it blocks", |world| world.monitor.running() == 1).await;
}

/// Lets the call go on, and gives the lane time to do what it must not do.
async fn unblock(sim: &Sim, unblock: Unblock) {
    drop(unblock);
    sim.until("the call is over", |world| world.monitor.running() == 0).await;
    sleep(millis(100)).await;
}

async fn all_committed(sim: &Sim) {
    sim.all_committed().await;
}

fn owns(id: u32, topic: &'static str) -> impl Fn(&mut World) -> bool {
    move |world| world.assigned(id) == [at(topic, 0)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_partition_is_given_back_all_the_same() {
    for then in ways_to_send() {
        the_partition_is_given_back(then).await;
    }
}

async fn the_partition_is_given_back(then: Plan) {
    let sim = Driven::new(Mode::Eager, &["a"]);
    let (first, blockade) = blocking(sim.member(), then);
    let second = sim.member().start();
    sim.give(&[(at("a", 0), first.id)]);
    sim.until("it owns it", owns(first.id, "a")).await;
    sim.produce(&at("a", 0), 10);
    blocked(&sim).await;
    sim.give(&[(at("a", 0), second.id)]);
    sim.until("it has moved", owns(second.id, "a")).await;
    all_committed(&sim).await;
    assert_eq!(sim.processed(&at("a", 0)).len(), 15, "the blocked batch comes again");
    unblock(&sim, blockade).await;
    assert_eq!(sim.world().taken(), 0, "nothing was sent");
    assert_eq!(first.close().await.unwrap().messages, 0);
    second.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_lanes_other_topic_goes_on_with_another_reader() {
    let sim = Driven::new(Mode::Incremental, &["a", "b"]);
    let (member, blockade) = blocking(sim.member(), vec![Step::Send("out")]);
    sim.world().monitor.calls_overlap = true;
    sim.give(&[(at("a", 0), member.id), (at("b", 0), member.id)]);
    sim.until("it owns both", |world| world.assigned(member.id).len() == 2).await;
    sim.produce(&at("a", 0), 20);
    blocked(&sim).await;
    sim.give(&[(at("a", 0), member.id)]);
    sim.until("b is given back", owns(member.id, "a")).await;
    all_committed(&sim).await;
    unblock(&sim, blockade).await;
    assert_eq!(sim.committed(&at("a", 0)), Some(20));
    member.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_shutdown_does_not_wait() {
    for then in ways_to_send() {
        let (sim, blockade, member) = one_blocked(then).await;
        let asked = Instant::now();
        member.close().await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        unblock(&sim, blockade).await;
        assert!(sim.committed(&at("a", 0)).unwrap_or(0) == 0, "nothing is committed");
        assert_eq!(sim.world().taken(), 0, "nothing was sent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_crash_does_not_wait() {
    for then in ways_to_send() {
        let (sim, blockade, member) = one_blocked(then).await;
        let handle = member.handle.clone();
        member.crash().await;
        handle.closed().await;
        unblock(&sim, blockade).await;
        assert!(sim.committed(&at("a", 0)).unwrap_or(0) == 0, "nothing is committed");
        assert_eq!(sim.world().taken(), 0, "nothing was sent");
    }
}

async fn one_blocked(then: Plan) -> (Driven, Unblock, Member) {
    let sim = Driven::new(Mode::Eager, &["a"]);
    let (member, blockade) = blocking(sim.member(), then);
    sim.produce(&at("a", 0), 10);
    blocked(&sim).await;
    (sim, blockade, member)
}
