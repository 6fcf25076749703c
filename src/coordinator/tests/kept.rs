//! Partitions that stay when others go, where assignments change by parts: the client drops what it has fetched of them
//! and fetches it again.

use tokio::time::sleep;

use super::harness::{Member, Sim, Step, at, gate, millis};
use crate::Batch;
use crate::broker::sim::Mode;

/// The first member has both partitions and a backlog of `a/0`; it is about to give `a/1` away, and its lane of `a/1`
/// holds it up.
async fn about_to_give_away(until_caught_up: bool) -> (Sim, Member, Member) {
    let sim = Sim::new(Mode::Incremental, &["a"], 2);
    sim.produce(&at("a", 0), 100);
    sim.produce(&at("a", 1), 1);
    let plan = |batch: &Batch| match batch.partition() {
        0 => vec![Step::Sleep(millis(10))],
        _ => vec![Step::Sleep(millis(1500))],
    };
    let first = sim.member().set(|s| s.batch.max_messages = 1).plan(plan);
    let first = if until_caught_up { first.until_caught_up() } else { first }.start();
    let second = sim.member().start();
    sim.give(&[(at("a", 0), first.id), (at("a", 1), first.id)]);
    // The whole backlog is fetched, and a report says so.
    sleep(millis(700)).await;
    sim.give(&[(at("a", 0), first.id), (at("a", 1), second.id)]);
    (sim, first, second)
}

#[tokio::test(start_paused = true)]
async fn what_is_fetched_again_is_not_caught_up_with() {
    let (sim, first, second) = about_to_give_away(true).await;
    first.end().await.unwrap();
    assert_eq!(sim.processed(&at("a", 0)).len(), 100);
    second.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_fetched_again_is_neither_consumed_nor_without_lag() {
    let (sim, first, second) = about_to_give_away(false).await;
    while sim.processed(&at("a", 0)).len() < 100 {
        assert!(!first.handle.has_consumed_all());
        let status = first.handle.status().partitions;
        let kept = status.iter().find(|status| status.partition == at("a", 0)).unwrap();
        assert!(kept.lag > 0, "{kept:?}");
        sleep(millis(1)).await;
    }
    sim.all_committed().await;
    sleep(millis(5000)).await;
    assert!(first.handle.has_consumed_all() && second.handle.has_consumed_all());
    first.close().await.unwrap();
    second.close().await.unwrap();
}

/// Behind the last message there is only a gap, of which no message tells: the position does, once it can be trusted.
#[tokio::test(start_paused = true)]
async fn a_gap_is_consumed_once_positions_are_those_of_after_the_rebalance() {
    let sim = Sim::new(Mode::Incremental, &["a"], 2);
    sim.produce(&at("a", 0), 20);
    sim.world().append_gap(&at("a", 0), 3);
    let blocked = gate();
    let waits = blocked.clone();
    let plan = move |batch: &Batch| match batch.partition() {
        0 => vec![Step::Gate(waits.clone())],
        _ => vec![],
    };
    let first = sim.member().set(|s| s.batch.max_messages = 1).plan(plan).until_caught_up().start();
    let second = sim.member().start();
    sim.give(&[(at("a", 0), first.id), (at("a", 1), first.id)]);
    sleep(millis(700)).await;
    sim.give(&[(at("a", 0), first.id), (at("a", 1), second.id)]);
    blocked.add_permits(100);
    first.end().await.unwrap();
    assert_eq!(sim.processed(&at("a", 0)).len(), 20);
    second.close().await.unwrap();
}
