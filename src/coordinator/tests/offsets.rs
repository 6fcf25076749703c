//! Where a partition begins, and what happens when that is not in the log.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::harness::{Member, MemberSetup, Sim, Step, at, gate, millis, waits_at};
use crate::broker::sim::{Mode, Spread, UNDELIVERABLE};
use crate::{Batch, ErrorKind, OutOfRange, StartFrom};

fn policy(policy: OutOfRange) -> impl FnOnce(MemberSetup) -> MemberSetup {
    move |member| member.set(|s| s.out_of_range = policy)
}

/// Of `a/0`, offset 3 is committed, and everything below 10 of 20 was deleted.
fn expired(mode: Mode) -> Sim {
    let sim = Sim::new(mode, &["a", "b"], 1);
    sim.world().monitor.offsets_jump = true;
    sim.produce(&at("a", 0), 20);
    sim.world().set_committed(&at("a", 0), 3);
    sim.world().delete_before(&at("a", 0), 10);
    sim
}

#[tokio::test(start_paused = true)]
async fn out_of_range_fails() {
    let sim = expired(Mode::Eager);
    let error = sim.member().start().error().await;
    assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange);
    let context = ["topic", "partition", "offset", "log"].map(|name| error.get(name));
    assert_eq!(context, [Some("a"), Some("0"), Some("3"), Some("10..20")]);
    assert_eq!(sim.committed(&at("a", 0)), Some(3), "nothing is committed");
}

#[tokio::test(start_paused = true)]
async fn out_of_range_goes_on_at_the_earliest() {
    let sim = expired(Mode::Eager);
    let member = policy(OutOfRange::Earliest)(sim.member()).start();
    sim.all_committed().await;
    assert_eq!(sim.processed(&at("a", 0)), (10..20).collect::<Vec<_>>());
    assert_eq!(sim.world().monitor.closings(), 1, "another processor goes on");
    member.close().await.unwrap();
    assert_eq!(sim.world().monitor.closings(), 2);
}

#[tokio::test(start_paused = true)]
async fn out_of_range_goes_on_at_the_latest() {
    let sim = expired(Mode::Eager);
    let member = policy(OutOfRange::Latest)(sim.member()).start();
    sleep(millis(500)).await;
    assert_eq!(sim.committed(&at("a", 0)), Some(20));
    sim.produce(&at("a", 0), 1);
    sleep(millis(500)).await;
    assert_eq!(sim.processed(&at("a", 0)), [20]);
    member.close().await.unwrap();
}

/// The topic was made anew: what is committed lies beyond its end. What goes on is committed, though it
/// goes back.
#[tokio::test(start_paused = true)]
async fn beyond_the_end() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.world().monitor.offsets_jump = true;
    sim.produce(&at("a", 0), 5);
    sim.world().set_committed(&at("a", 0), 1000);
    let member = policy(OutOfRange::Earliest)(sim.member()).start();
    sleep(millis(500)).await;
    assert_eq!(sim.processed(&at("a", 0)), [0, 1, 2, 3, 4]);
    assert_eq!(sim.committed(&at("a", 0)), Some(5));
    member.close().await.unwrap();
}

/// The error is about an offset that was read from before. The next message is in the log: nothing is
/// skipped, whatever the policy, and nothing fails.
#[tokio::test(start_paused = true)]
async fn out_of_range_that_is_out_of_date() {
    for choice in [OutOfRange::Fail, OutOfRange::Earliest, OutOfRange::Latest] {
        let sim = Sim::new(Mode::Eager, &["a", "b"], 1);
        sim.produce(&at("a", 0), 20);
        sim.world().set_committed(&at("a", 0), 15);
        sim.world().delete_before(&at("a", 0), 10);
        sim.world().monitor.offsets_jump = true;
        let gate = gate();
        let member = policy(choice)(sim.member()).plan(waits_at(&gate)).start();
        sim.until("it processes", |world| world.monitor.running() == 1).await;
        sim.world().report_out_of_range(member.id, &at("a", 0), 3);
        sim.produce(&at("a", 0), 5);
        gate.add_permits(1000);
        sim.all_committed().await;
        sleep(millis(2000)).await;
        let mut processed = sim.processed(&at("a", 0));
        processed.dedup();
        assert_eq!(processed, (15..25).collect::<Vec<_>>(), "{choice:?}");
        member.close().await.unwrap();
    }
}

/// The other topic of the lane neither loses nor repeats anything.
#[tokio::test(start_paused = true)]
async fn the_other_topic_goes_on() {
    let sim = expired(Mode::Eager);
    sim.produce(&at("b", 0), 200);
    let member = policy(OutOfRange::Earliest)(sim.member()).set(|s| s.batch.max_messages = 7);
    let member = member.plan(|_| vec![Step::Send("out")]).start();
    sim.all_committed().await;
    let mut of_b = sim.processed(&at("b", 0));
    assert_eq!(of_b.len(), 200);
    of_b.dedup();
    assert_eq!(of_b, (0..200).collect::<Vec<_>>());
    member.close().await.unwrap();
}

/// The offset of `a/0` is out of range; before the lane that found out has ended, `a/0` is revoked.
/// It was then given a new epoch here, and its offset committed, while another member had it.
#[tokio::test(start_paused = true)]
async fn out_of_range_and_then_revoked() {
    let sim = Sim::new(Mode::Incremental, &["a", "b"], 1);
    sim.world().hold("out");
    let plan = |_: &Batch| vec![Step::Send("out")];
    let first = policy(OutOfRange::Latest)(sim.member()).plan(plan).start();
    let second = policy(OutOfRange::Earliest)(sim.member()).start();
    sim.give(&[(at("a", 0), first.id), (at("b", 0), first.id)]);
    sim.settled().await;
    sim.produce(&at("b", 0), 5);
    sim.until("it waits for acks", |world| world.unreported() == 5).await;
    sim.produce(&at("a", 0), 20);
    sim.world().delete_before(&at("a", 0), 10);
    sim.world().monitor.offsets_jump = true;
    sleep(millis(50)).await;
    sim.give(&[(at("a", 0), second.id), (at("b", 0), first.id)]);
    sim.until("it is asked", |world| world.is_asked_to_give_back(first.id)).await;
    sim.world().release("out");
    sleep(millis(2000)).await;
    sim.settled().await;
    assert_eq!(sim.committed(&at("a", 0)), Some(20));
    assert_eq!(sim.processed(&at("a", 0)), (10..20).collect::<Vec<_>>());
    assert_eq!(sim.processed(&at("b", 0)).len(), 5);
    first.close().await.unwrap();
    second.close().await.unwrap();
}

/// As above, and the error is still behind messages that were not processed yet.
#[tokio::test(start_paused = true)]
async fn out_of_range_behind_messages_and_then_revoked() {
    let sim = expired(Mode::Incremental);
    sim.world().weather.fetch = 1..=1;
    let gate = gate();
    let first = policy(OutOfRange::Latest)(sim.member())
        .set(|s| s.batch.max_messages = 5)
        .plan(waits_at(&gate))
        .start();
    let second = policy(OutOfRange::Earliest)(sim.member()).start();
    sim.give(&[(at("a", 0), first.id), (at("b", 0), first.id)]);
    sim.produce(&at("b", 0), 12);
    sleep(millis(100)).await;
    sim.give(&[(at("a", 0), second.id), (at("b", 0), first.id)]);
    sleep(millis(50)).await;
    gate.add_permits(1000);
    sleep(millis(2000)).await;
    sim.settled().await;
    assert_eq!(sim.committed(&at("a", 0)), Some(20));
    assert_eq!(sim.committed(&at("b", 0)), Some(12));
    first.close().await.unwrap();
    second.close().await.unwrap();
}

/// A batch waits for its acks when what follows is deleted. Going on elsewhere would pass over its failure.
#[tokio::test(start_paused = true)]
async fn out_of_range_hides_no_failed_delivery() {
    for choice in [OutOfRange::Earliest, OutOfRange::Latest] {
        let sim = Sim::new(Mode::Eager, &["a"], 1);
        sim.world().monitor.offsets_jump = true;
        sim.world().hold(UNDELIVERABLE);
        sim.produce(&at("a", 0), 10);
        let member = policy(choice)(sim.member()).plan(|_| vec![Step::Send(UNDELIVERABLE)]).start();
        sim.until("it is sent", |world| world.unreported() == 10).await;
        sim.produce(&at("a", 0), 20);
        sim.world().delete_before(&at("a", 0), 25);
        sleep(millis(500)).await;
        sim.world().release(UNDELIVERABLE);
        let error = member.error().await;
        assert_eq!(error.get("batch"), Some("a/0 0..=9"), "{error}");
        assert_eq!(sim.committed(&at("a", 0)), Some(0));
    }
}

/// A member whose offset is out of range, and the brokers do not say where to go on.
async fn out_of_range_without_an_answer() -> (Sim, Member) {
    let sim = expired(Mode::Eager);
    let member = policy(OutOfRange::Earliest)(sim.member()).start();
    sim.until("it reads", |world| !world.assigned(member.id).is_empty()).await;
    sim.world().weather.faults.lookup_failed = 100;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(sim.processed(&at("a", 0)), Vec::<i64>::new());
    (sim, member)
}

/// Brokers that do not answer then keep nobody from closing, nor from giving partitions back.
#[tokio::test(start_paused = true)]
async fn out_of_range_and_no_answer() {
    let (_sim, member) = out_of_range_without_an_answer().await;
    let asked = Instant::now();
    member.close().await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn out_of_range_no_answer_and_a_revocation() {
    let (sim, member) = out_of_range_without_an_answer().await;
    sim.world().group.spread = Spread::Pinned([].into());
    sim.world().rebalance();
    sleep(Duration::from_secs(5)).await;
    assert!(sim.world().assigned(member.id).is_empty());
    sim.world().weather.faults.lookup_failed = 0;
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn beginning_at_the_end_or_at_a_time() {
    for (start_from, first) in [(StartFrom::Latest, 10), (StartFrom::Timestamp(6500), 7)] {
        let sim = Sim::new(Mode::Eager, &["a"], 1);
        sim.produce(&at("a", 0), 10);
        let member = sim.member().set(|s| s.start_from = start_from).start();
        sim.until("it reads", |world| !world.assigned(member.id).is_empty()).await;
        sleep(millis(200)).await;
        sim.produce(&at("a", 0), 5);
        sleep(millis(500)).await;
        assert_eq!(sim.processed(&at("a", 0)), (first..15).collect::<Vec<_>>());
        member.close().await.unwrap();
    }
}

/// Where nothing is committed yet, the start is: messages that come while nobody is there are not
/// skipped by the next `latest`.
#[tokio::test(start_paused = true)]
async fn a_latest_start_is_committed() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), 10);
    let latest = |member: MemberSetup| member.set(|s| s.start_from = StartFrom::Latest);
    let member = latest(sim.member()).start();
    sim.until("it is committed", |world| world.uncommitted().is_empty()).await;
    member.crash().await;
    sim.produce(&at("a", 0), 3);
    let member = latest(sim.member()).start();
    sim.all_committed().await;
    assert_eq!(sim.processed(&at("a", 0)), [10, 11, 12]);
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn brokers_that_answer_late() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), 3);
    sim.world().weather.faults.lookup_failed = 100;
    let member = sim.member().start();
    sleep(Duration::from_secs(30)).await;
    sim.world().weather.faults.lookup_failed = 0;
    sim.all_committed().await;
    member.close().await.unwrap();
}

/// The lanes that run are looked after while the brokers do not say where another partition begins.
#[tokio::test(start_paused = true)]
async fn other_lanes_go_on_while_brokers_do_not_answer() {
    let sim = Sim::new(Mode::Incremental, &["a"], 2);
    let plan = |batch: &Batch| match batch.len() {
        7 => vec![Step::Fail],
        _ => vec![Step::Send("out")],
    };
    let member = sim.member().plan(plan).start();
    sim.give(&[(at("a", 0), member.id)]);
    sim.settled().await;
    sim.world().weather.faults.lookup_failed = 100;
    sim.world().weather.fetched = 100..=100;
    sim.give(&[(at("a", 0), member.id), (at("a", 1), member.id)]);
    sleep(millis(1000)).await;
    sim.produce(&at("a", 0), 5);
    sleep(millis(1000)).await;
    assert_eq!(sim.committed(&at("a", 0)), Some(5), "committed meanwhile");
    sim.produce(&at("a", 0), 7);
    assert_eq!(member.error().await.kind(), ErrorKind::Process, "and what fails, fails");
}

#[tokio::test(start_paused = true)]
async fn a_partition_without_a_leader_holds_up_no_other() {
    for mode in [Mode::Eager, Mode::Incremental] {
        let sim = Sim::new(mode, &["a"], 3);
        (0..3).for_each(|number| sim.produce(&at("a", number), 5));
        sim.world().leaderless.insert(at("a", 1));
        let member = sim.member().start();
        sleep(millis(3000)).await;
        let committed = [0, 1, 2].map(|number| sim.committed(&at("a", number)));
        assert_eq!(committed, [Some(5), None, Some(5)]);
        assert!(!member.handle.has_consumed_all(), "not of what is to come");
        sim.world().leaderless.clear();
        sleep(millis(8000)).await;
        assert_eq!(sim.committed(&at("a", 1)), Some(5));
        assert!(member.handle.has_consumed_all());
        assert_eq!(sim.world().monitor.incarnations(), 3, "the others went on");
        member.close().await.unwrap();
    }
}

/// It joins the lane of its number, of which nothing is lost or doubled.
#[tokio::test(start_paused = true)]
async fn a_topic_without_a_leader_joins_its_lane_later() {
    let sim = Sim::new(Mode::Eager, &["a", "b"], 1);
    sim.produce(&at("a", 0), 5);
    sim.produce(&at("b", 0), 5);
    sim.world().leaderless.insert(at("b", 0));
    let plan = |_: &Batch| vec![Step::Send("out")];
    let member = sim.member().plan(plan).until_caught_up().start();
    sleep(millis(3000)).await;
    assert_eq!((sim.processed(&at("a", 0)).len(), sim.processed(&at("b", 0)).len()), (5, 0));
    assert!(!member.task.is_finished(), "it is not caught up");
    sim.world().leaderless.clear();
    let report = member.end().await.unwrap();
    assert_eq!(report.messages, 10);
    assert_eq!(sim.committed(&at("b", 0)), Some(5));
}

/// The answer comes when the partition is another member's, who has no answer yet.
#[tokio::test(start_paused = true)]
async fn a_partition_without_a_leader_that_is_revoked() {
    let sim = Sim::new(Mode::Incremental, &["a"], 2);
    let (first, second) = (sim.member().start(), sim.member().start());
    (0..2).for_each(|number| sim.produce(&at("a", number), 5));
    sim.world().leaderless.insert(at("a", 1));
    sim.give(&[(at("a", 0), first.id), (at("a", 1), first.id)]);
    sleep(millis(1000)).await;
    sim.give(&[(at("a", 0), first.id), (at("a", 1), second.id)]);
    sim.until("it has moved", |world| world.assigned(second.id) == [at("a", 1)]).await;
    sim.give(&[(at("a", 0), first.id), (at("a", 1), first.id)]);
    sim.world().leaderless.clear();
    sim.all_committed().await;
    assert_eq!(sim.processed(&at("a", 1)), [0, 1, 2, 3, 4]);
    first.close().await.unwrap();
    second.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn static_partitions() {
    let sim = Sim::new(Mode::Eager, &["a"], 3);
    for number in 0..3 {
        sim.produce(&at("a", number), 5);
    }
    let member = sim.member().statics(vec![at("a", 0), at("a", 2)]).until_caught_up().start();
    let report = member.end().await.unwrap();
    assert_eq!(report.messages, 10);
    assert_eq!(sim.committed(&at("a", 0)), Some(5));
    assert_eq!(sim.committed(&at("a", 1)), None);
}

#[tokio::test(start_paused = true)]
async fn static_partitions_of_a_group_that_has_members() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    let subscriber = sim.member().start();
    sim.settled().await;
    sim.produce(&at("a", 0), 5);
    let error = sim.member().statics(vec![at("a", 0)]).start().error().await;
    assert_eq!(error.kind(), ErrorKind::Commit);
    assert!(error.to_string().contains("the group has members"), "{error}");
    subscriber.close().await.unwrap();
}
