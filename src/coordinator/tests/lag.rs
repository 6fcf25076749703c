//! Lag: from the finished and from the committed offset, also where nothing is fetched.

use std::time::Duration;

use tokio::time::sleep;

use super::harness::{Member, Sim, at, gate, millis, waits_at};
use crate::PartitionStatus;
use crate::broker::sim::{CommitFate, Mode};
use crate::message::TopicPartition;

const SECOND: Duration = Duration::from_secs(1);

fn status(member: &Member, partition: &TopicPartition) -> PartitionStatus {
    let partitions = member.handle.status().partitions;
    partitions.into_iter().find(|status| status.partition == *partition).unwrap()
}

/// Ends as status has them, of `a` and `b`.
fn ends(member: &Member) -> [i64; 2] {
    [at("a", 0), at("b", 0)].map(|partition| status(member, &partition).end_offset.get())
}

/// Paused, with a full queue: nothing is fetched.
async fn paused(sim: &Sim) -> Member {
    sim.world().weather.queue_limit = 10;
    let member = sim.member().start();
    sim.settled().await;
    member.handle.pause();
    for topic in ["a", "b"] {
        sim.produce(&at(topic, 0), 100);
    }
    sleep(3 * SECOND).await;
    member
}

#[tokio::test(start_paused = true)]
async fn the_lag_of_a_paused_partition_goes_on() {
    let sim = Sim::new(Mode::Eager, &["a", "b"], 1);
    let member = paused(&sim).await;
    assert_eq!(ends(&member), [100, 100]);
    sim.produce(&at("a", 0), 50);
    sleep(3 * SECOND).await;
    assert_eq!(ends(&member), [150, 100]);
    assert_eq!((member.handle.lag(), status(&member, &at("a", 0)).committed_lag), (250, 150));
    member.handle.resume();
    sim.all_committed().await;
    sleep(SECOND).await;
    assert_eq!((ends(&member), member.handle.lag()), ([150, 100], 0));
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_lag_of_a_slow_partition_goes_on() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.world().weather.queue_limit = 10;
    let gate = gate();
    let member = sim.member().plan(waits_at(&gate)).start();
    sim.produce(&at("a", 0), 100);
    sleep(3 * SECOND).await;
    sim.produce(&at("a", 0), 50);
    sleep(3 * SECOND).await;
    assert_eq!(status(&member, &at("a", 0)).end_offset.get(), 150);
    gate.add_permits(1000);
    sim.all_committed().await;
    member.close().await.unwrap();
}

/// It is not to hold up the others' answers, nor anything else.
#[tokio::test(start_paused = true)]
async fn a_partition_without_a_leader_holds_up_nobody() {
    let sim = Sim::new(Mode::Eager, &["a", "b"], 1);
    let member = paused(&sim).await;
    sim.world().leaderless.insert(at("b", 0));
    sim.produce(&at("a", 0), 50);
    sim.produce(&at("b", 0), 50);
    sleep(5 * SECOND).await;
    assert_eq!(ends(&member), [150, 100]);
    sim.world().leaderless.clear();
    sleep(5 * SECOND).await;
    assert_eq!(ends(&member), [150, 150]);
    member.handle.resume();
    sim.all_committed().await;
    member.close().await.unwrap();
}

/// The partition is given back while the question is on its way, and comes again.
#[tokio::test(start_paused = true)]
async fn an_answer_for_an_earlier_assignment_is_thrown_away() {
    let sim = Sim::new(Mode::Eager, &["a", "b"], 1);
    let member = paused(&sim).await;
    let epoch = status(&member, &at("a", 0)).epoch;
    for _ in 0..20 {
        sim.produce(&at("a", 0), 1);
        sim.world().rebalance();
        sleep(millis(770)).await;
    }
    sim.settled().await;
    sleep(3 * SECOND).await;
    assert!(status(&member, &at("a", 0)).epoch > epoch);
    assert_eq!(ends(&member), [120, 100]);
    member.handle.resume();
    sim.all_committed().await;
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_empty_partition_has_no_lag() {
    let sim = Sim::new(Mode::Eager, &["a", "b"], 1);
    let member = sim.member().start();
    sleep(5 * SECOND).await;
    for topic in ["a", "b"] {
        let status = status(&member, &at(topic, 0));
        assert_eq!((status.end_offset.get(), status.lag, status.committed_lag), (0, 0, 0));
    }
    member.close().await.unwrap();
}

/// Behind the last message there is a control record, say.
#[tokio::test(start_paused = true)]
async fn what_yields_no_message_is_lag_of_the_committed_offset_only() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), 5);
    sim.world().append_gap(&at("a", 0), 1);
    let member = sim.member().start();
    sleep(5 * SECOND).await;
    let status = status(&member, &at("a", 0));
    assert_eq!((status.lag, status.committed_lag), (0, 1));
    assert_eq!(status.committed_offset.map(crate::Offset::get), Some(5));
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_committed_is_lag_of_the_committed_offset() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let member = sim.member().start();
    sim.settled().await;
    sim.produce(&at("a", 0), 5);
    sim.all_committed().await;
    sleep(SECOND).await;
    sim.world().commit_fates.push_back(CommitFate::Held);
    sim.produce(&at("a", 0), 5);
    sleep(3 * SECOND).await;
    let held = status(&member, &at("a", 0));
    assert_eq!((held.lag, held.committed_lag), (0, 5));
    assert_eq!(held.committed_offset.map(crate::Offset::get), Some(5));
    sim.world().release_commits();
    sim.all_committed().await;
    sleep(SECOND).await;
    assert_eq!(status(&member, &at("a", 0)).committed_lag, 0);
    member.close().await.unwrap();
}
