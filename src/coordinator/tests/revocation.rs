//! Everything is revoked, in each state that a lane can be in.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::harness::{Making, Member, MemberSetup, Sim, Step, at, gate, millis, waits_at};
use crate::broker::sim::{CommitFate, Mode, Spread, World};

/// `a/0` with so many messages is the first member's; the second has nothing yet.
async fn two_members(messages: usize, first: impl FnOnce(MemberSetup) -> MemberSetup) -> Setup {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let first = first(sim.member().set(|s| s.batch.max_messages = 5)).start();
    let second = sim.member().start();
    sim.give(&[(at("a", 0), first.id)]);
    sleep(millis(50)).await;
    sim.settled().await;
    sim.produce(&at("a", 0), messages);
    Setup { sim, first, second }
}

struct Setup {
    sim: Sim,
    first: Member,
    second: Member,
}

impl Setup {
    /// Begins to move the partition to the second member.
    async fn revoke(&self) {
        self.sim.give(&[(at("a", 0), self.second.id)]);
        let first = self.first.id;
        let asked = |world: &mut World| {
            world.is_asked_to_give_back(first) || world.assigned(first).is_empty()
        };
        self.sim.until("it is asked", asked).await;
    }

    async fn moved(&self) {
        let second = self.second.id;
        self.sim.until("it has moved", |world| world.assigned(second) == [at("a", 0)]).await;
    }

    fn processed(&self) -> Vec<i64> {
        self.sim.processed(&at("a", 0))
    }

    fn committed(&self) -> Option<i64> {
        self.sim.committed(&at("a", 0))
    }

    async fn finish(self) {
        self.sim.all_committed().await;
        self.first.close().await.unwrap();
        self.second.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn empty() {
    let setup = two_members(0, |first| first).await;
    setup.revoke().await;
    setup.moved().await;
    assert_eq!(setup.committed(), Some(0), "the start is committed");
    setup.sim.produce(&at("a", 0), 3);
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn filling_a_batch() {
    let wait = Duration::from_secs(60);
    let setup = two_members(3, |first| first.set(|s| s.batch.max_wait = wait)).await;
    sleep(millis(200)).await;
    setup.revoke().await;
    setup.moved().await;
    assert_eq!(setup.committed(), Some(0));
    sleep(millis(100)).await;
    assert_eq!(setup.processed(), [0, 1, 2], "by the second member only");
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn processing() {
    let gate = gate();
    let setup = two_members(10, |first| first.plan(waits_at(&gate))).await;
    sleep(millis(50)).await;
    setup.revoke().await;
    sleep(millis(500)).await;
    assert!(setup.sim.world().is_asked_to_give_back(setup.first.id), "it waits for the batch");
    gate.add_permits(1);
    setup.moved().await;
    assert_eq!(setup.committed(), Some(5), "the batch in process is committed");
    sleep(millis(50)).await;
    assert_eq!(setup.processed(), (0..10).collect::<Vec<_>>(), "nothing twice");
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn waiting_for_acks() {
    let setup = two_members(10, |first| first.plan(|_| vec![Step::Send("out")])).await;
    setup.sim.world().hold("out");
    setup.sim.until("all is sent", |world| world.unreported() == 10).await;
    setup.revoke().await;
    sleep(millis(500)).await;
    assert!(setup.sim.world().is_asked_to_give_back(setup.first.id), "it waits for the acks");
    setup.sim.world().release("out");
    setup.moved().await;
    assert_eq!(setup.committed(), Some(10));
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn committing() {
    let setup = two_members(0, |first| first).await;
    sleep(millis(500)).await;
    setup.sim.world().commit_fates.push_back(CommitFate::Held);
    setup.sim.produce(&at("a", 0), 5);
    setup.sim.until("a commit is under way", |world| world.held_commits() == 1).await;
    setup.sim.produce(&at("a", 0), 5);
    sleep(millis(50)).await;
    setup.revoke().await;
    sleep(millis(1000)).await;
    assert!(setup.sim.world().is_asked_to_give_back(setup.first.id), "it waits for the commit");
    setup.sim.world().release_commits();
    setup.moved().await;
    assert_eq!(setup.committed(), Some(10), "the rest is committed after it");
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_in_process_past_the_deadline_is_given_up() {
    let setup = two_members(10, |first| first.plan(|_| vec![Step::Gate(gate())])).await;
    sleep(millis(50)).await;
    let asked = Instant::now();
    setup.revoke().await;
    setup.moved().await;
    assert!((1990..2200).contains(&asked.elapsed().as_millis()), "{:?}", asked.elapsed());
    assert_eq!(setup.committed(), Some(0));
    sleep(millis(50)).await;
    let by_both: Vec<i64> = (0..5).chain(0..10).collect();
    assert_eq!(setup.processed(), by_both);
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_finished_before_the_batch_that_is_given_up_is_committed() {
    let mut calls = 0;
    let plan = move |_: &crate::Batch| {
        calls += 1;
        vec![Step::Send(if calls == 2 { "held" } else { "out" })]
    };
    let setup = two_members(0, |first| first.plan(plan)).await;
    setup.sim.world().hold("held");
    setup.sim.produce(&at("a", 0), 15);
    setup.sim.until("all is sent", |world| world.unreported() == 5).await;
    setup.revoke().await;
    setup.moved().await;
    assert_eq!(setup.committed(), Some(5), "the third batch has its acks, the second has not");
    sleep(millis(50)).await;
    assert_eq!(setup.processed()[15..], (5..15).collect::<Vec<_>>());
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn lost_in_process() {
    let setup = two_members(10, |first| first.plan(|_| vec![Step::Gate(gate())])).await;
    sleep(millis(150)).await;
    setup.sim.world().group.spread = Spread::Pinned([(at("a", 0), setup.second.id)].into());
    let thrown_out = Instant::now();
    setup.sim.world().throw_out(setup.first.id);
    setup.sim.until("the call is dropped", |world| world.monitor.running() == 0).await;
    assert!(thrown_out.elapsed() < millis(100), "it is not drained: {:?}", thrown_out.elapsed());
    setup.moved().await;
    assert_eq!(setup.committed(), Some(0), "nothing is committed");
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn lost_with_something_finished_that_is_not_committed_yet() {
    let setup = two_members(0, |first| first.set(|s| s.commit_interval = millis(60_000))).await;
    setup.sim.produce(&at("a", 0), 5);
    sleep(millis(500)).await;
    assert_eq!(setup.processed().len(), 5);
    let commits = setup.sim.world().counts["commit"];
    setup.sim.world().group.spread = Spread::Pinned([].into());
    setup.sim.world().throw_out(setup.first.id);
    sleep(millis(1000)).await;
    assert_eq!(setup.sim.world().counts["commit"], commits, "it is not even tried");
    setup.sim.give(&[(at("a", 0), setup.second.id)]);
    setup.finish().await;
}

/// While it does not yet know that it was thrown out, a member goes on; the group takes nothing of it.
#[tokio::test(start_paused = true)]
async fn lost_and_not_yet_told() {
    let setup = two_members(0, |first| first).await;
    setup.sim.world().weather.notice = 3000..=3000;
    setup.sim.world().throw_out(setup.first.id);
    setup.sim.produce(&at("a", 0), 10);
    sleep(millis(1500)).await;
    assert_eq!(setup.processed().len(), 10);
    assert_eq!(setup.committed(), Some(0), "refused");
    setup.sim.until("it is back", |world| world.assigned(0) == [at("a", 0)]).await;
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn lost_while_a_commit_is_outstanding() {
    let setup = two_members(0, |first| first).await;
    sleep(millis(500)).await;
    setup.sim.world().commit_fates.push_back(CommitFate::Held);
    setup.sim.produce(&at("a", 0), 5);
    setup.sim.until("a commit is under way", |world| world.held_commits() == 1).await;
    setup.sim.world().throw_out(setup.first.id);
    sleep(millis(100)).await;
    assert!(
        setup.sim.world().assigned(setup.first.id).is_empty(),
        "it does not wait for the commit"
    );
    assert!(!setup.sim.world().members().contains(&setup.first.id), "but the client does");
    setup.sim.world().release_commits();
    setup.sim.settled().await;
    assert_eq!(setup.committed(), Some(0), "refused");
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_deferred_commit_does_not_outlive_the_ownership() {
    let setup = two_members(0, |first| first).await;
    sleep(millis(500)).await;
    setup.sim.world().commit_fates.push_back(CommitFate::Deferred(millis(1500)));
    setup.sim.produce(&at("a", 0), 5);
    sleep(millis(200)).await;
    setup.sim.produce(&at("a", 0), 5);
    setup.revoke().await;
    setup.moved().await;
    assert_eq!(setup.committed(), Some(10));
    setup.finish().await;
}

/// The group's coordinator is away, so that the client puts the last commit off. The revocation is
/// answered in time; the client makes the commit before it joins again.
#[tokio::test(start_paused = true)]
async fn a_commit_without_an_answer_is_not_waited_for_without_end() {
    let setup = two_members(0, |first| first.set(|s| s.commit_interval = millis(60_000))).await;
    setup.sim.produce(&at("a", 0), 5);
    sleep(millis(50)).await;
    setup.sim.world().commit_fates.push_back(CommitFate::Held);
    setup.revoke().await;
    let asked = Instant::now();
    setup.sim.until("it is given back", |world| world.assigned(0).is_empty()).await;
    assert!((2990..3020).contains(&asked.elapsed().as_millis()), "{:?}", asked.elapsed());
    sleep(millis(1000)).await;
    assert!(setup.sim.world().assigned(setup.second.id).is_empty(), "the client waits");
    setup.sim.world().release_commits();
    setup.moved().await;
    assert_eq!(setup.committed(), Some(5), "in the old generation");
    setup.finish().await;
}

/// As above, and the group goes on without the member: the commit comes too late, and is refused.
#[tokio::test(start_paused = true)]
async fn a_commit_that_is_too_late_does_not_rewind_the_new_owner() {
    let setup = two_members(0, |first| first.set(|s| s.commit_interval = millis(60_000))).await;
    setup.sim.produce(&at("a", 0), 5);
    sleep(millis(50)).await;
    setup.sim.world().commit_fates.push_back(CommitFate::Held);
    setup.revoke().await;
    setup.moved().await;
    setup.sim.produce(&at("a", 0), 5);
    setup.sim.all_committed().await;
    setup.sim.world().release_commits();
    sleep(millis(1000)).await;
    assert_eq!(setup.committed(), Some(10));
    assert_eq!(setup.processed().len(), 15, "the first five twice");
    setup.finish().await;
}

/// The other lanes are looked after again, but nothing is committed beside a commit that is under way.
#[tokio::test(start_paused = true)]
async fn other_lanes_go_on_behind_a_commit_without_an_answer() {
    let sim = Sim::new(Mode::Incremental, &["a"], 2);
    let minute = millis(60_000);
    let member = sim.member().set(|s| s.commit_interval = minute).start();
    sim.give(&[(at("a", 0), member.id), (at("a", 1), member.id)]);
    sim.settled().await;
    sim.produce(&at("a", 0), 5);
    sleep(millis(50)).await;
    sim.world().commit_fates.push_back(CommitFate::Held);
    sim.give(&[(at("a", 1), member.id)]);
    sim.until("it is given back", |world| world.assigned(member.id) == [at("a", 1)]).await;
    sim.produce(&at("a", 1), 5);
    let commits = sim.world().counts["commit"];
    sleep(minute).await;
    assert_eq!(sim.processed(&at("a", 1)).len(), 5);
    assert_eq!(sim.world().counts["commit"], commits, "one at a time");
    sim.world().release_commits();
    sleep(minute).await;
    assert_eq!(sim.committed(&at("a", 1)), Some(5));
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_commit_is_no_failure() {
    let setup = two_members(0, |first| first.set(|s| s.commit_interval = millis(10_000))).await;
    let refused = CommitFate::Refused("REBALANCE_IN_PROGRESS");
    setup.sim.produce(&at("a", 0), 10);
    sleep(millis(50)).await;
    setup.sim.world().commit_fates.push_back(refused);
    setup.revoke().await;
    setup.moved().await;
    assert_eq!(setup.committed(), Some(0), "the start");
    sleep(millis(50)).await;
    assert_eq!(setup.processed().len(), 20, "it comes again");
    setup.finish().await;
}

/// The buffer of an earlier epoch is not delivered into a later one, nor is its processor used.
#[tokio::test(start_paused = true)]
async fn assigned_again_to_the_same_member() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let setup = |s: &mut crate::settings::Settings| {
        s.batch.max_messages = 5;
        s.batch.max_wait = millis(1000);
    };
    let member = sim.member().set(setup).start();
    sim.produce(&at("a", 0), 7);
    sim.until("one batch", |world| world.monitor.calls() == 1).await;
    sleep(millis(50)).await;
    sim.world().rebalance();
    sleep(millis(50)).await;
    sim.settled().await;
    sim.all_committed().await;
    assert_eq!(sim.processed(&at("a", 0)), (0..7).collect::<Vec<_>>());
    assert_eq!(sim.world().monitor.incarnations(), 2);
    assert_eq!(member.handle.status().partitions[0].next_offset.get(), 7);
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pause_outlives_the_assignment() {
    let sim = Sim::new(Mode::Eager, &["a"], 2);
    let member = sim.member().start();
    sim.settled().await;
    member.handle.pause_partition(0);
    sim.world().rebalance();
    sleep(millis(50)).await;
    sim.settled().await;
    sim.produce(&at("a", 0), 3);
    sim.produce(&at("a", 1), 3);
    sleep(millis(2000)).await;
    assert_eq!(sim.processed(&at("a", 0)), Vec::<i64>::new());
    assert_eq!(sim.processed(&at("a", 1)), [0, 1, 2]);
    let states: Vec<_> = member.handle.status().partitions.iter().map(|p| p.state).collect();
    assert_eq!(states, [crate::PartitionState::Paused, crate::PartitionState::Running]);
    member.handle.resume();
    sim.all_committed().await;
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_the_factory_works() {
    let slow = |_| Making::Slow(Duration::from_secs(60));
    let setup = two_members(5, |first| first.make(slow)).await;
    let asked = Instant::now();
    setup.revoke().await;
    setup.moved().await;
    assert!(asked.elapsed() < millis(100), "nobody waits for the factory");
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn two_revocations_in_a_row_while_processing() {
    let gate = gate();
    let setup = two_members(10, |first| first.plan(waits_at(&gate))).await;
    sleep(millis(50)).await;
    setup.revoke().await;
    setup.sim.give(&[(at("a", 0), setup.first.id)]);
    sleep(millis(100)).await;
    gate.add_permits(100);
    setup.sim.settled().await;
    setup.finish().await;
}
