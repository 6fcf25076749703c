//! Ticks, and `closing`: when they come, and what they send.

use std::time::Duration;

use tokio::time::sleep;

use super::harness::{Member, MemberSetup, Plan, Sim, Step, at, gate, millis, waits_at};
use crate::ErrorKind;
use crate::broker::sim::{Mode, Spread, UNDELIVERABLE};

/// A member that owns `a/0`, where this many messages are, and ticks every 100 ms.
async fn ticking(
    messages: usize,
    tick: impl FnMut() -> Plan + Send + 'static,
    with: impl FnOnce(MemberSetup) -> MemberSetup,
) -> (Sim, Member) {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), messages);
    let member = sim.member().set(|s| s.batch.max_messages = 5).ticks(millis(100), tick);
    let member = with(member).start();
    sim.settled().await;
    (sim, member)
}

fn ticks(sim: &Sim) -> usize {
    sim.world().monitor.ticks()
}

fn closings(sim: &Sim) -> usize {
    sim.world().monitor.closings()
}

#[tokio::test(start_paused = true)]
async fn ticks_come_without_messages() {
    let (sim, member) = ticking(0, Plan::new, |m| m).await;
    sleep(millis(1050)).await;
    assert!((9..=11).contains(&ticks(&sim)), "{}", ticks(&sim));
    assert!(member.handle.has_consumed_all());
    let report = member.close().await.unwrap();
    assert_eq!((report.messages, report.batches), (0, 0), "a tick is not a batch");
}

#[tokio::test(start_paused = true)]
async fn ticks_come_under_load_and_between_batches() {
    let plan = |_: &crate::Batch| vec![Step::Sleep(millis(50))];
    let (sim, member) = ticking(500, Plan::new, |m| m.plan(plan)).await;
    sleep(millis(2000)).await;
    assert!((8..=20).contains(&ticks(&sim)), "{}", ticks(&sim));
    assert!(sim.processed(&at("a", 0)).len() < 500, "there was always a batch");
    member.close().await.unwrap();
}

/// With the interval counted from the beginning of a tick, no batch would ever be processed.
#[tokio::test(start_paused = true)]
async fn ticks_that_take_longer_than_their_interval_leave_room_for_batches() {
    let tick = || vec![Step::Sleep(millis(150))];
    let (sim, member) = ticking(10, tick, |m| m).await;
    sim.all_committed().await;
    member.close().await.unwrap();
}

/// Counted from the call, a tick whose acks take longer than the interval would take each place that becomes free.
#[tokio::test(start_paused = true)]
async fn ticks_whose_acks_take_longer_than_the_interval_leave_room_for_batches() {
    for (batches, bytes) in [(1, 1 << 20), (16, 1)] {
        let (sim, member) = ticking(
            10,
            || vec![Step::Send("out")],
            |m| {
                m.cluster.world().weather.ack = 150..=150;
                m.set(|s| (s.in_flight.max_batches, s.in_flight.max_bytes) = (batches, bytes))
            },
        )
        .await;
        sim.all_committed().await;
        sim.produce(&at("a", 0), 40);
        sim.all_committed().await;
        member.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_tick_is_in_flight_at_most_and_it_is_no_batch() {
    let (sim, member) = ticking(
        0,
        || vec![Step::Send("out")],
        |m| {
            m.cluster.world().weather.ack = 250..=250;
            m.set(|s| s.stall_timeout = Duration::from_secs(5))
        },
    )
    .await;
    sleep(Duration::from_secs(2)).await;
    for _ in 0..1000 {
        sleep(millis(10)).await;
        assert!(sim.world().unreported() <= 1);
        assert!(member.handle.has_consumed_all());
        let status = member.handle.status().partitions[0].clone();
        assert_eq!((status.stalled, status.in_flight), (false, 0));
    }
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_paused_partition_does_not_tick() {
    let (sim, member) = ticking(0, Plan::new, |m| m).await;
    member.handle.pause();
    sleep(millis(50)).await;
    let before = ticks(&sim);
    sleep(millis(1000)).await;
    assert_eq!(ticks(&sim), before);
    member.handle.resume();
    sleep(millis(250)).await;
    assert!((1..=3).contains(&(ticks(&sim) - before)), "those that were due meanwhile are one");
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_drains_does_not_tick() {
    let gate = gate();
    let (sim, member) = ticking(5, Plan::new, |m| m.plan(waits_at(&gate))).await;
    sim.until("a batch is in process", |world| world.monitor.running() == 1).await;
    member.handle.close();
    sleep(millis(500)).await;
    let before = ticks(&sim);
    gate.add_permits(1);
    member.end().await.unwrap();
    assert_eq!((ticks(&sim), closings(&sim)), (before, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_tick_sends_is_acked_before_what_is_processed_later_is_committed() {
    let (sim, member) =
        ticking(5, || vec![Step::Send("held")], |m| m.set(|s| s.in_flight.max_batches = 3)).await;
    sim.all_committed().await;
    sim.world().hold("held");
    sim.until("a tick waits", |world| world.unreported() > 0).await;
    sim.produce(&at("a", 0), 5);
    sleep(millis(1000)).await;
    assert_eq!(sim.processed(&at("a", 0)).len(), 10);
    assert_eq!(sim.committed(&at("a", 0)), Some(5));
    assert!(!member.handle.has_consumed_all());
    sim.world().release("held");
    sim.all_committed().await;
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_fails_stops_the_processor() {
    for (step, text) in [(Step::Fail, "tick returned an error"), (Step::Panic, "tick panicked")] {
        let (sim, member) = ticking(5, move || vec![step.clone()], |m| m).await;
        let error = member.error().await;
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.get("partition"), Some("0"));
        assert_eq!(sim.committed(&at("a", 0)), Some(5), "what was finished before");
        assert_eq!(closings(&sim), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_tick_sends_and_is_not_delivered_stops_the_processor() {
    let (_sim, member) = ticking(0, || vec![Step::Send(UNDELIVERABLE)], |m| m).await;
    let error = member.error().await;
    assert_eq!(error.kind(), ErrorKind::Delivery);
    assert_eq!((error.get("sent_by"), error.get("partition")), (Some("tick"), Some("0")));
}

#[tokio::test(start_paused = true)]
async fn ticks_are_not_progress() {
    let (sim, member) = ticking(0, Plan::new, |m| {
        m.set(|s| {
            s.stall_timeout = Duration::from_secs(5);
            s.batch.max_wait = Duration::from_secs(60);
        })
    })
    .await;
    sleep(Duration::from_secs(20)).await;
    assert!(!member.handle.status().partitions[0].stalled, "there is nothing to do");
    sim.produce(&at("a", 0), 1);
    let before = ticks(&sim);
    sleep(Duration::from_secs(20)).await;
    assert!(ticks(&sim) > before + 10);
    assert!(member.handle.status().partitions[0].stalled);
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_closing_sends_at_a_shutdown_is_acked_before_the_end() {
    let (sim, member) = ticking(10, Plan::new, |m| m.closes(|| vec![Step::Send("held")])).await;
    sim.world().hold("held");
    sleep(millis(500)).await;
    member.handle.close();
    sim.until("closing has sent", |world| world.unreported() == 1).await;
    sleep(millis(500)).await;
    assert!(!member.task.is_finished());
    sim.world().release("held");
    member.end().await.unwrap();
    assert_eq!((sim.committed(&at("a", 0)), closings(&sim)), (Some(10), 1));
}

#[tokio::test(start_paused = true)]
async fn closing_comes_when_all_batches_are_finished() {
    let plan = |_: &crate::Batch| vec![Step::Send("held")];
    let (sim, member) = ticking(5, Plan::new, |m| m.plan(plan)).await;
    sim.world().hold("held");
    sim.until("a batch waits", |world| world.unreported() > 0).await;
    member.handle.close();
    sleep(millis(500)).await;
    assert_eq!(closings(&sim), 0);
    sim.world().release("held");
    member.end().await.unwrap();
    assert_eq!(closings(&sim), 1);
}

#[tokio::test(start_paused = true)]
async fn closing_that_takes_too_long_is_dropped_at_the_drain_deadline() {
    let (sim, member) = ticking(5, Plan::new, |m| m.closes(|| vec![Step::Gate(gate())])).await;
    sim.all_committed().await;
    let asked = tokio::time::Instant::now();
    member.close().await.unwrap();
    assert!((2000..2050).contains(&asked.elapsed().as_millis()), "{:?}", asked.elapsed());
    assert_eq!(closings(&sim), 1);
}

#[tokio::test(start_paused = true)]
async fn closing_that_fails_is_the_error_of_run_and_what_is_finished_is_committed() {
    let (sim, member) = ticking(0, Plan::new, |m| {
        m.closes(|| vec![Step::Fail]).set(|s| s.commit_interval = Duration::from_secs(60))
    })
    .await;
    sim.produce(&at("a", 0), 5);
    sleep(millis(500)).await;
    let error = member.close().await.unwrap_err();
    assert!(error.to_string().contains("closing returned an error"), "{error}");
    assert_eq!(sim.committed(&at("a", 0)), Some(5));
}

#[tokio::test(start_paused = true)]
async fn closing_comes_at_a_revocation_before_the_partition_is_given_back() {
    let sim = Sim::new(Mode::Incremental, &["a"], 1);
    let first = sim.member().closes(|| vec![Step::Send("held")]).start();
    let second = sim.member().start();
    sim.world().hold("held");
    sim.give(&[(at("a", 0), first.id)]);
    sim.until("the first has it", |world| world.assigned(first.id) == [at("a", 0)]).await;
    sleep(millis(100)).await;
    sim.give(&[(at("a", 0), second.id)]);
    sim.until("closing has sent", |world| world.unreported() == 1).await;
    sleep(millis(500)).await;
    assert_eq!(sim.world().assigned(second.id), []);
    sim.world().release("held");
    sim.until("the second has it", |world| world.assigned(second.id) == [at("a", 0)]).await;
    assert_eq!(closings(&sim), 1);
    first.close().await.unwrap();
    second.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_partition_is_not_closed() {
    let sim = Sim::new(Mode::Incremental, &["a"], 1);
    let member = sim.member().ticks(millis(100), Plan::new).start();
    sim.settled().await;
    sim.until("it ticks", |world| world.monitor.ticks() > 0).await;
    sim.world().group.spread = Spread::Pinned([].into());
    sim.world().throw_out(member.id);
    sleep(millis(5000)).await;
    assert_eq!(closings(&sim), 0);
    member.close().await.unwrap();
    assert_eq!(closings(&sim), 0);
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_failed_is_not_closed() {
    let (sim, member) = ticking(5, Plan::new, |m| m.plan(|_| vec![Step::Fail])).await;
    member.error().await;
    assert_eq!(closings(&sim), 0);
}

/// The processor is made anew whenever the topics of its partition number change.
#[tokio::test(start_paused = true)]
async fn a_processor_that_makes_way_for_another_is_closed() {
    let sim = Sim::new(Mode::Incremental, &["a", "b"], 1);
    let member = sim.member().start();
    sim.give(&[(at("a", 0), member.id)]);
    sim.until("it has one", |world| world.assigned(member.id).len() == 1).await;
    sleep(millis(100)).await;
    sim.give(&[(at("a", 0), member.id), (at("b", 0), member.id)]);
    sim.until("it has both", |world| world.assigned(member.id).len() == 2).await;
    sim.until("the first processor is closed", |world| world.monitor.closings() == 1).await;
    member.close().await.unwrap();
    assert_eq!(closings(&sim), 2);
}

/// Nothing else limits it there: the group waits for nobody.
#[tokio::test(start_paused = true)]
async fn closing_without_a_revocation_is_limited_too() {
    let sim = Sim::new(Mode::Incremental, &["a", "b"], 1);
    let member = sim.member().closes(|| vec![Step::Gate(gate())]).start();
    sim.give(&[(at("a", 0), member.id)]);
    sim.until("it has one", |world| world.assigned(member.id).len() == 1).await;
    sleep(millis(100)).await;
    sim.give(&[(at("a", 0), member.id), (at("b", 0), member.id)]);
    sim.produce(&at("a", 0), 5);
    sim.produce(&at("b", 0), 5);
    sim.all_committed().await;
    assert_eq!(closings(&sim), 1);
    member.close().await.unwrap();
}
