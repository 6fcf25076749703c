//! The client goes on without an answer: an eager member that learns of new topics or partitions joins the group again,
//! whatever it has asked. What was its own is then lost, though no revocation says so.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::harness::{Member, Sim, Step, at, gate, millis, waits_at};
use crate::RebalanceEvent;
use crate::broker::sim::Mode;

/// Two partitions of the first member, which is asked to give them back while it is in `process`.
async fn asked_while_busy() -> (Sim, Member, Member, std::sync::Arc<tokio::sync::Semaphore>) {
    let sim = Sim::new(Mode::Eager, &["a"], 2);
    let blocked = gate();
    let first = sim.member().plan(waits_at(&blocked)).start();
    let second = sim.member().start();
    sim.give(&[(at("a", 0), first.id), (at("a", 1), first.id)]);
    sim.settled().await;
    sim.produce(&at("a", 0), 5);
    sim.produce(&at("a", 1), 5);
    sim.until("both are busy", |world| world.monitor.running() == 2).await;
    sim.give(&[(at("a", 0), second.id), (at("a", 1), first.id)]);
    let id = first.id;
    sim.until("it is asked", |world| world.is_asked_to_give_back(id)).await;
    (sim, first, second, blocked)
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_when_the_group_goes_on() {
    let (sim, first, second, blocked) = asked_while_busy().await;
    let asked = Instant::now();
    sim.world().rejoin_unanswered(first.id);
    let (one, two) = (first.id, second.id);
    let moved = |world: &mut crate::broker::sim::World| {
        world.assigned(one) == [at("a", 1)] && world.assigned(two) == [at("a", 0)]
    };
    sim.until("the partitions have moved", moved).await;
    assert!(asked.elapsed() < Duration::from_secs(1), "not after the drain deadline");
    assert_eq!(sim.committed(&at("a", 0)).max(Some(0)), Some(0), "lost: nothing is committed");
    blocked.add_permits(100);
    sim.all_committed().await;
    first.close().await.unwrap();
    second.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_is_told_and_what_is_assigned_again_is_committed() {
    let sim = Sim::new(Mode::Eager, &["a"], 2);
    sim.produce(&at("a", 0), 5);
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = told.clone();
    let hook = move |event: &RebalanceEvent| heard.lock().unwrap().push(event.clone());
    let member = sim.member().set(|s| s.on_rebalance = Some(std::sync::Arc::new(hook))).start();
    sim.settled().await;
    sim.all_committed().await;
    // The question where the partitions begin has no answer for a while, and the group goes on.
    sim.world().weather.faults.lookup_failed = 100;
    sim.world().rebalance();
    let id = member.id;
    sim.until("it is between assignments", |world| world.is_between_assignments(id)).await;
    sim.until("it is asked", |world| world.is_asked(id)).await;
    sim.world().rejoin_unanswered(id);
    sim.world().weather.faults.lookup_failed = 0;
    sim.settled().await;
    sim.produce(&at("a", 0), 5);
    sim.produce(&at("a", 1), 5);
    sim.all_committed().await;
    assert_eq!(member.handle.status().partitions.len(), 2, "each partition once");
    let assigned =
        told.lock().unwrap().iter().filter(|e| matches!(e, RebalanceEvent::Assigned(_))).count();
    assert_eq!(assigned, 2, "the one that was not answered is not told");
    member.close().await.unwrap();
}

/// An assignment that is answered, and the next one with no revocation between them.
#[tokio::test(start_paused = true)]
async fn two_assignments_in_a_row() {
    let sim = Sim::new(Mode::Eager, &["a"], 2);
    let member = sim.member().start();
    sim.settled().await;
    sim.produce(&at("a", 0), 5);
    sim.all_committed().await;
    sim.world().assign_again(member.id);
    sim.until("it is assigned anew", |world| world.is_settled()).await;
    sim.produce(&at("a", 0), 5);
    sim.produce(&at("a", 1), 5);
    sim.all_committed().await;
    sleep(millis(1000)).await;
    assert!(member.handle.has_consumed_all());
    assert_eq!(member.handle.status().partitions.len(), 2, "each partition once");
    member.close().await.unwrap();
}

/// A member that is thrown out in the middle of a drain learns of it before the deadline.
#[tokio::test(start_paused = true)]
async fn a_client_that_cannot_go_on_ends_a_drain() {
    let (sim, first, second, blocked) = asked_while_busy().await;
    let begun = Instant::now();
    let fatal = crate::Error::new(crate::ErrorKind::Backend, "fenced");
    sim.world().send_event(first.id, crate::broker::Event::Fatal(fatal));
    first.error().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    sim.give(&[(at("a", 0), second.id), (at("a", 1), second.id)]);
    sim.all_committed().await;
    drop(blocked);
    second.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_cannot_go_on_is_not_drained() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), 5);
    let member = sim.member().plan(|_| vec![Step::Sleep(millis(1900))]).start();
    sim.until("it processes", |world| world.monitor.running() == 1).await;
    let begun = Instant::now();
    let fatal = crate::Error::new(crate::ErrorKind::Backend, "fenced");
    sim.world().send_event(member.id, crate::broker::Event::Fatal(fatal));
    member.error().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(sim.committed(&at("a", 0)), Some(0), "another member may have it already");
}
