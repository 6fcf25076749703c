//! What handles may know: status, everything consumed, stalled.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::harness::{Making, Sim, Step, at, gate, millis, waits_at, waits_at_then};
use crate::Batch;
use crate::broker::sim::{CommitFate, Mode, Spread};

#[tokio::test(start_paused = true)]
async fn everything_is_consumed_only_when_nothing_is_in_flight() {
    let sim = Sim::new(Mode::Eager, &["a"], 2);
    let gate = gate();
    let plan = waits_at_then(&gate, vec![Step::Send("out")]);
    let member = sim.member().plan(plan).start();
    assert!(!member.handle.has_consumed_all(), "nothing is assigned yet");
    sleep(millis(2000)).await;
    assert!(member.handle.has_consumed_all(), "empty partitions are at their end");
    sim.world().hold("out");
    sim.produce(&at("a", 0), 5);
    sim.world().append_gap(&at("a", 0), 2);
    sleep(millis(2000)).await;
    assert!(!member.handle.has_consumed_all(), "in process");
    assert_eq!(member.handle.lag(), 7);
    gate.add_permits(1);
    sleep(millis(2000)).await;
    assert!(!member.handle.has_consumed_all(), "waiting for acks");
    sim.world().release("out");
    sleep(millis(2000)).await;
    assert!(member.handle.has_consumed_all());
    assert_eq!(member.handle.lag(), 0, "the offsets without a message do not count");
    let status = member.handle.status();
    assert_eq!((status.messages, status.batches, status.bytes), (5, 1, 50));
    assert_eq!(status.partitions[0].next_offset.get(), 5);
    assert_eq!(status.partitions[0].end_offset.get(), 7);
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fills_is_not_consumed() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let member = sim.member().set(|s| s.batch.max_wait = Duration::from_secs(5)).start();
    sleep(millis(2000)).await;
    sim.produce(&at("a", 0), 5);
    sleep(millis(3000)).await;
    assert!(!member.handle.has_consumed_all());
    assert_eq!(member.handle.lag(), 5);
    sleep(millis(3000)).await;
    assert!(member.handle.has_consumed_all());
    member.close().await.unwrap();
}

/// The report was made before the lane went back, and comes afterwards.
#[tokio::test(start_paused = true)]
async fn a_report_that_was_on_its_way_at_a_seek_does_not_count() {
    let sim = Sim::new(Mode::Incremental, &["a", "b"], 1);
    sim.world().hold("out");
    let set = |s: &mut crate::settings::Settings| s.drain_deadline = millis(10);
    let member = sim.member().set(set).plan(|_| vec![Step::Send("out")]).start();
    sim.give(&[(at("a", 0), member.id), (at("b", 0), member.id)]);
    sim.produce(&at("a", 0), 5);
    sleep(millis(2990)).await;
    sim.world().weather.report = 400..=400;
    sleep(millis(100)).await;
    sim.world().weather.fetch = 800..=800;
    sim.give(&[(at("a", 0), member.id)]);
    member.has_not_consumed_all_for(700).await;
    sim.world().release("out");
    sim.all_committed().await;
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_paused_member_has_not_consumed_what_waits() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let member = sim.member().start();
    sleep(millis(2000)).await;
    member.handle.pause();
    sim.produce(&at("a", 0), 5);
    sleep(millis(2000)).await;
    assert!(!member.handle.has_consumed_all());
    member.handle.resume();
    sleep(millis(2000)).await;
    assert!(member.handle.has_consumed_all());
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_member_without_partitions_has_consumed_all_and_catches_up() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), 100);
    let slow = |_: &Batch| vec![Step::Sleep(millis(500))];
    let first = sim.member().set(|s| s.batch.max_messages = 1).plan(slow).start();
    sim.give(&[(at("a", 0), first.id)]);
    sleep(millis(100)).await;
    let report = sim.member().until_caught_up().start().end().await.unwrap();
    assert_eq!(report.messages, 0);
    assert!(!sim.world().unfinished().is_empty());
    assert!(!first.handle.has_consumed_all());
    first.close().await.unwrap();
}

/// While the offsets of new partitions are looked up, they are not consumed.
#[tokio::test(start_paused = true)]
async fn partitions_on_their_way_are_not_consumed() {
    let sim = Sim::new(Mode::Incremental, &["a"], 2);
    let member = sim.member().start();
    sim.give(&[(at("a", 0), member.id)]);
    sleep(millis(2000)).await;
    assert!(member.handle.has_consumed_all());
    sim.world().weather.faults.lookup_failed = 100;
    sim.produce(&at("a", 1), 5);
    sim.give(&[(at("a", 0), member.id), (at("a", 1), member.id)]);
    sleep(millis(2000)).await;
    assert!(!member.handle.has_consumed_all());
    sim.world().weather.faults.lookup_failed = 0;
    sleep(millis(10_000)).await;
    assert!(member.handle.has_consumed_all());
    assert!(sim.world().unfinished().is_empty());
    member.close().await.unwrap();
}

/// The lane waits for messages and for acks when the drain deadline passes. Between its end and the
/// answer to the revocation nothing was in flight any more, and that looked like "all is done".
#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_not_consumed() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let plan = |_: &Batch| vec![Step::Send("out")];
    let minute = Duration::from_secs(60);
    let member = sim.member().set(|s| s.commit_interval = minute).plan(plan).start();
    sim.settled().await;
    sim.produce(&at("a", 0), 5);
    sleep(millis(1000)).await;
    sim.world().hold("out");
    sim.produce(&at("a", 0), 5);
    sleep(millis(2000)).await;
    sim.world().commit_fates.push_back(CommitFate::Held);
    sim.world().rebalance();
    member.has_not_consumed_all_for(5000).await;
    sim.world().release("out");
    sim.world().release_commits();
    sim.until("all is processed", |world| world.unfinished().is_empty()).await;
    member.close().await.unwrap();
}

/// A lane goes back to what is finished. The reports of the fetch position that came while the
/// revocation was being answered are from before, and say that everything was fetched.
#[tokio::test(start_paused = true)]
async fn reports_from_before_a_seek_do_not_count() {
    let sim = Sim::new(Mode::Incremental, &["a", "b"], 1);
    sim.world().hold("out");
    let member = sim.member().plan(|_| vec![Step::Send("out")]).start();
    sim.give(&[(at("a", 0), member.id), (at("b", 0), member.id)]);
    sim.produce(&at("a", 0), 5);
    sleep(millis(3000)).await;
    sim.world().weather.fetch = 3000..=3000;
    sim.give(&[(at("a", 0), member.id)]);
    let begun = Instant::now();
    sim.until("b is given back", |world| world.assigned(member.id) == [at("a", 0)]).await;
    assert!(begun.elapsed() > millis(1900), "past the deadline");
    member.has_not_consumed_all_for(2500).await;
    sim.world().release("out");
    sim.all_committed().await;
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_stands_still_is_stalled() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let gate = gate();
    let member = sim.member().plan(waits_at(&gate)).start();
    sim.produce(&at("a", 0), 5);
    sleep(Duration::from_secs(9)).await;
    assert!(!member.handle.status().partitions[0].stalled);
    sleep(Duration::from_secs(2)).await;
    assert!(member.handle.status().partitions[0].stalled);
    gate.add_permits(10);
    sleep(millis(500)).await;
    assert!(!member.handle.status().partitions[0].stalled);
    member.close().await.unwrap();
}

/// Nothing has finished for an hour, because there was nothing: that is no reason to worry when the
/// first message comes.
#[tokio::test(start_paused = true)]
async fn a_partition_that_was_idle_is_not_stalled() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let member = sim.member().plan(|_| vec![Step::Sleep(millis(1000))]).start();
    sleep(Duration::from_secs(3600)).await;
    sim.produce(&at("a", 0), 5);
    let limit = Instant::now() + millis(3000);
    while Instant::now() < limit {
        assert!(!member.handle.status().partitions[0].stalled);
        sleep(millis(10)).await;
    }
    member.handle.pause();
    sim.produce(&at("a", 0), 5);
    sleep(Duration::from_secs(3600)).await;
    member.handle.resume();
    sleep(millis(500)).await;
    assert!(!member.handle.status().partitions[0].stalled, "nor after a pause");
    member.close().await.unwrap();
}

/// The log ends with a control record, which is never processed.
#[tokio::test(start_paused = true)]
async fn a_partition_behind_which_only_a_gap_is_left_is_not_stalled() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), 5);
    sim.world().append_gap(&at("a", 0), 1);
    let member = sim.member().start();
    sleep(Duration::from_secs(60)).await;
    assert!(!member.handle.status().partitions[0].stalled);
    member.close().await.unwrap();
}

/// A message that arrives while the lane is idle is processed at once: nobody waits for a timer.
#[tokio::test(start_paused = true)]
async fn a_message_wakes_an_idle_lane() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let member = sim.member().start();
    sleep(millis(1234)).await;
    for count in 1..100 {
        sim.produce(&at("a", 0), 1);
        sleep(millis(3)).await;
        assert_eq!(sim.world().monitor.calls(), count, "after the millisecond that a fetch takes");
        sleep(millis(count as u64 % 7)).await;
    }
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_is_not_reported() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), 5);
    let member = sim.member().start();
    sim.all_committed().await;
    sim.world().rebalance();
    sleep(millis(100)).await;
    sim.settled().await;
    sim.world().group.spread = Spread::Pinned([].into());
    sim.world().throw_out(member.id);
    sleep(millis(100)).await;
    let report = member.close().await.unwrap();
    assert!(report.next_offsets.is_empty(), "it was given back once, and lost later");
}

#[tokio::test(start_paused = true)]
async fn the_hook_hears_of_each_rebalance() {
    use crate::RebalanceEvent::{Assigned, Lost, Revoked};
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let (sender, events) = std::sync::mpsc::channel();
    let hook = move |event: &crate::RebalanceEvent| sender.send(event.clone()).unwrap();
    let hook = std::sync::Arc::new(hook);
    let member = sim.member().set(|s| s.on_rebalance = Some(hook)).make(|_| Making::Good).start();
    sleep(millis(100)).await;
    sim.world().rebalance();
    sleep(millis(100)).await;
    sim.world().throw_out(member.id);
    sleep(millis(100)).await;
    let all = || vec![at("a", 0)];
    let heard: Vec<_> = events.try_iter().collect();
    let expected = [Assigned(all()), Revoked(all()), Assigned(all()), Lost(all()), Assigned(all())];
    assert_eq!(heard, expected);
    member.close().await.unwrap();
}
