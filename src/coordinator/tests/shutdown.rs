//! Closing, and crashing, in each state.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::harness::{Making, Member, MemberSetup, Sim, Step, at, gate, millis, waits_at};
use crate::ErrorKind;
use crate::broker::sim::{CommitFate, Mode};

/// A member that owns `a/0`, where ten messages are.
async fn one_member(with: impl FnOnce(MemberSetup) -> MemberSetup) -> (Sim, Member) {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), 10);
    let member = with(sim.member().set(|s| s.batch.max_messages = 5)).start();
    sleep(millis(50)).await;
    (sim, member)
}

#[tokio::test(start_paused = true)]
async fn closing_when_idle_returns_at_once() {
    let (sim, member) = one_member(|member| member).await;
    sleep(millis(500)).await;
    let asked = Instant::now();
    let handle = member.handle.clone();
    let report = member.close().await.unwrap();
    assert!(asked.elapsed() < millis(20), "{:?}", asked.elapsed());
    assert_eq!((report.messages, report.batches, report.bytes), (10, 2, 100));
    assert_eq!(report.next_offsets[&at("a", 0)].get(), 10);
    assert!(sim.world().members().is_empty(), "the group is left");
    handle.closed().await;
    handle.close();
}

#[tokio::test(start_paused = true)]
async fn closing_while_a_batch_fills_drops_it() {
    let wait = Duration::from_secs(60);
    let (sim, member) = one_member(|m| {
        m.set(|s| {
            s.batch.max_wait = wait;
            s.batch.max_messages = 100;
        })
    })
    .await;
    member.close().await.unwrap();
    assert_eq!(sim.processed(&at("a", 0)), Vec::<i64>::new());
    assert_eq!(sim.committed(&at("a", 0)), Some(0));
}

#[tokio::test(start_paused = true)]
async fn closing_finishes_the_batch_in_process_and_begins_no_other() {
    let gate = gate();
    let (sim, member) = one_member(|m| m.plan(waits_at(&gate))).await;
    member.handle.close();
    member.handle.close();
    sleep(millis(500)).await;
    gate.add_permits(10);
    let report = member.end().await.unwrap();
    assert_eq!(report.messages, 5);
    assert_eq!(sim.committed(&at("a", 0)), Some(5));
    assert_eq!(sim.processed(&at("a", 0)), [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_acks() {
    let (sim, member) = one_member(|m| {
        m.cluster.world().hold("out");
        m.plan(|_| vec![Step::Send("out")])
    })
    .await;
    member.handle.close();
    sleep(millis(500)).await;
    assert_eq!(sim.committed(&at("a", 0)), None);
    sim.world().release("out");
    member.end().await.unwrap();
    assert_eq!(sim.committed(&at("a", 0)), Some(10));
}

#[tokio::test(start_paused = true)]
async fn closing_gives_up_at_the_deadline() {
    let (sim, member) = one_member(|m| m.plan(|_| vec![Step::Gate(gate())])).await;
    let asked = Instant::now();
    let report = member.close().await.unwrap();
    assert!((2000..2050).contains(&asked.elapsed().as_millis()), "{:?}", asked.elapsed());
    assert_eq!(report.messages, 0);
    assert_eq!(sim.committed(&at("a", 0)), Some(0));
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_the_outstanding_commit() {
    let (sim, member) = one_member(|m| m).await;
    sleep(millis(500)).await;
    sim.world().commit_fates.push_back(CommitFate::Held);
    sim.produce(&at("a", 0), 5);
    sim.until("a commit is under way", |world| world.held_commits() == 1).await;
    sim.produce(&at("a", 0), 5);
    sleep(millis(50)).await;
    member.handle.close();
    sleep(millis(500)).await;
    sim.world().release_commits();
    member.end().await.unwrap();
    assert_eq!(sim.committed(&at("a", 0)), Some(20));
}

#[tokio::test(start_paused = true)]
async fn a_last_commit_without_an_answer_is_an_error() {
    let (sim, member) =
        one_member(|m| m.set(|s| s.commit_interval = Duration::from_secs(60))).await;
    sim.world().commit_fates.push_back(CommitFate::Held);
    let asked = Instant::now();
    let handle = member.handle.clone();
    let error = member.close().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Commit);
    assert!(error.is_retryable());
    assert_eq!(handle.status().failure, Some(format!("{error:#}")));
    assert!(asked.elapsed() < Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn a_last_commit_that_a_rebalance_refuses_is_none() {
    let (sim, member) =
        one_member(|m| m.set(|s| s.commit_interval = Duration::from_secs(60))).await;
    sim.world().commit_fates.push_back(CommitFate::Refused("ILLEGAL_GENERATION"));
    member.close().await.unwrap();
    assert_eq!(sim.committed(&at("a", 0)), None);
}

#[tokio::test(start_paused = true)]
async fn closing_before_anything_is_assigned() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let member = sim.member().start();
    let report = member.close().await.unwrap();
    assert_eq!(report.messages, 0);
    assert!(report.next_offsets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn closing_while_brokers_do_not_say_where_to_begin() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.world().weather.faults.lookup_failed = 100;
    let member = sim.member().start();
    sleep(Duration::from_secs(20)).await;
    let asked = Instant::now();
    member.close().await.unwrap();
    assert!(asked.elapsed() < millis(100));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let member = sim.member().start_until(async { drop(stopped.await) });
    sleep(Duration::from_secs(20)).await;
    drop(stop);
    member.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_while_the_factory_works() {
    let slow = |_| Making::Slow(Duration::from_secs(60));
    let (sim, member) = one_member(|m| m.make(slow)).await;
    let asked = Instant::now();
    member.close().await.unwrap();
    assert!(asked.elapsed() < millis(20));
    assert_eq!(sim.committed(&at("a", 0)), Some(0));
}

#[tokio::test(start_paused = true)]
async fn closing_while_paused() {
    let (sim, member) = one_member(|m| m).await;
    member.handle.pause();
    sim.produce(&at("a", 0), 5);
    sleep(millis(500)).await;
    let report = member.close().await.unwrap();
    assert_eq!(report.messages, 10);
}

#[tokio::test(start_paused = true)]
async fn closing_while_a_revocation_is_being_answered() {
    let gate = gate();
    let (sim, member) = one_member(|m| m.plan(waits_at(&gate))).await;
    sim.world().rebalance();
    sim.until("it is asked", |world| world.is_asked_to_give_back(member.id)).await;
    member.handle.close();
    sleep(millis(100)).await;
    gate.add_permits(1);
    let report = member.end().await.unwrap();
    assert_eq!(sim.committed(&at("a", 0)), Some(5));
    assert_eq!(report.next_offsets[&at("a", 0)].get(), 5, "given back, and committed");
}

/// ... and the group's coordinator is away: the revocation waits for its commit, and then the client
/// with leaving the group, but neither without end.
#[tokio::test(start_paused = true)]
async fn closing_while_a_revocation_waits_for_its_commit() {
    let minute = Duration::from_secs(60);
    let (sim, member) = one_member(|m| m.set(|s| s.commit_interval = minute)).await;
    sim.world().commit_fates.push_back(CommitFate::Held);
    sim.world().rebalance();
    sim.until("the commit is under way", |world| world.held_commits() == 1).await;
    let asked = Instant::now();
    let report = member.close().await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(3 + 10 + 1), "{:?}", asked.elapsed());
    assert!(report.next_offsets.is_empty(), "nothing is known to be committed");
    sim.world().release_commits();
    sleep(minute).await;
    assert_eq!(sim.committed(&at("a", 0)), None, "the group has gone on");
}

/// The group asks for the partitions while the member is already on its way out.
#[tokio::test(start_paused = true)]
async fn a_rebalance_while_closing() {
    let gate = gate();
    let (sim, member) = one_member(|m| m.plan(waits_at(&gate))).await;
    let other = sim.member().start();
    member.handle.close();
    sleep(millis(100)).await;
    gate.add_permits(1);
    member.end().await.unwrap();
    assert_eq!(sim.committed(&at("a", 0)), Some(5));
    sim.all_committed().await;
    other.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lost_while_closing() {
    let gate = gate();
    let (sim, member) = one_member(|m| m.plan(waits_at(&gate))).await;
    member.handle.close();
    sleep(millis(100)).await;
    sim.world().throw_out(member.id);
    sleep(millis(100)).await;
    gate.add_permits(1);
    member.end().await.unwrap();
    assert_eq!(sim.committed(&at("a", 0)), None, "nothing is committed");
}

#[tokio::test(start_paused = true)]
async fn closing_from_within_process() {
    let (sim, member) =
        one_member(|m| m.plan(|_| vec![Step::Close, Step::Close, Step::Send("out")])).await;
    let report = member.end().await.unwrap();
    // The second batch may have begun before the first one's wish was heard.
    assert!(report.messages >= 5, "the batch that asked for it is finished");
    assert_eq!(sim.committed(&at("a", 0)), i64::try_from(report.messages).ok());
}

#[tokio::test(start_paused = true)]
async fn closing_before_run() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let stopped = std::future::ready(());
    let report = sim.member().start_until(stopped).end().await.unwrap();
    assert_eq!(report.messages, 0);
}

/// Crashes this member in this state; nothing that happens afterwards is committed.
async fn crash(sim: Sim, member: Member) {
    let handle = member.handle.clone();
    let before = sim.committed(&at("a", 0));
    member.crash().await;
    timeout(millis(1), handle.closed()).await.expect("closed");
    sim.world().release("out");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(sim.committed(&at("a", 0)), before);
    let next = sim.member().start();
    sim.all_committed().await;
    next.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_crash_when_idle() {
    let (sim, member) = one_member(|m| m).await;
    sleep(millis(500)).await;
    crash(sim, member).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_processing() {
    let (sim, member) = one_member(|m| m.plan(|_| vec![Step::Gate(gate())])).await;
    crash(sim, member).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_waiting_for_acks() {
    let (sim, member) = one_member(|m| {
        m.cluster.world().hold("out");
        m.plan(|_| vec![Step::Send("out")])
    })
    .await;
    sleep(millis(500)).await;
    crash(sim, member).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_anything_is_assigned() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let member = sim.member().start();
    crash(sim, member).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_draining() {
    let (sim, member) = one_member(|m| m.plan(|_| vec![Step::Gate(gate())])).await;
    sim.world().rebalance();
    sim.until("it is asked", |world| world.is_asked_to_give_back(member.id)).await;
    crash(sim, member).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_closing() {
    let (sim, member) = one_member(|m| m.plan(|_| vec![Step::Gate(gate())])).await;
    member.handle.close();
    sleep(millis(100)).await;
    crash(sim, member).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_a_commit_is_outstanding() {
    let (sim, member) = one_member(|m| m).await;
    sleep(millis(500)).await;
    sim.world().commit_fates.push_back(CommitFate::Held);
    sim.produce(&at("a", 0), 5);
    sim.until("a commit is under way", |world| world.held_commits() == 1).await;
    crash(sim, member).await;
}

/// The brokers keep the offset for some time after its last commit, and that should begin now.
#[tokio::test(start_paused = true)]
async fn closing_commits_offsets_again_that_have_not_changed() {
    for statics in [false, true] {
        let (sim, member) = one_member(|member| match statics {
            true => member.statics(vec![at("a", 0)]),
            false => member,
        })
        .await;
        sleep(Duration::from_secs(1800)).await;
        let commits = sim.world().counts["commit applied"];
        member.close().await.unwrap();
        assert_eq!(sim.world().counts["commit applied"], commits + 1);
        assert_eq!(sim.committed(&at("a", 0)), Some(10));
    }
}

/// Nothing is lost by it.
#[tokio::test(start_paused = true)]
async fn closing_without_a_coordinator_ends_well_where_all_is_committed() {
    let (sim, member) = one_member(|member| member).await;
    sleep(Duration::from_secs(1)).await;
    sim.world().commit_fates.push_back(CommitFate::Refused("COORDINATOR_NOT_AVAILABLE"));
    member.close().await.unwrap();
    assert_eq!(sim.committed(&at("a", 0)), Some(10));
}

#[tokio::test(start_paused = true)]
async fn offsets_of_idle_partitions_are_committed_again_while_it_runs() {
    for statics in [false, true] {
        let (sim, member) = one_member(|member| match statics {
            true => member.statics(vec![at("a", 0)]),
            false => member,
        })
        .await;
        sleep(Duration::from_secs(1)).await;
        let commits = sim.world().counts["commit applied"];
        sleep(Duration::from_secs(3590)).await;
        assert_eq!(sim.world().counts["commit applied"], commits);
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(sim.world().counts["commit applied"], commits + 1);
        member.close().await.unwrap();
    }
}
