//! The user's code fails, or what it sent is not delivered.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::harness::{Making, Member, Plan, Planned, Sim, Step, at, gate, millis, waits_at_then};
use crate::broker::Event;
use crate::broker::sim::{Mode, REFUSED, UNDELIVERABLE};
use crate::status::{ProcessorState, RebalanceEvent};
use crate::{Batch, Error, ErrorKind};

/// Does this in the call with this number, counted from 1, and sends to `out` in the others.
fn in_call(number: usize, plan: Plan) -> impl FnMut(&Batch) -> Plan + Send {
    let mut calls = 0;
    move |_| {
        calls += 1;
        if calls == number { plan.clone() } else { vec![Step::Send("out")] }
    }
}

/// One member with `a/0`, twenty messages, five a batch; what its run ends with.
async fn run_into(plan: Plan) -> (Sim, Error) {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), 20);
    let member = sim.member().set(|s| s.batch.max_messages = 5).plan(in_call(3, plan)).start();
    let handle = member.handle.clone();
    let error = member.error().await;
    assert_eq!(handle.status().state, ProcessorState::Closed);
    sleep(millis(5000)).await;
    assert_eq!(sim.committed(&at("a", 0)), Some(10), "the batches before, and nothing behind");
    (sim, error)
}

#[tokio::test(start_paused = true)]
async fn an_error_of_process() {
    let (_sim, error) = run_into(vec![Step::Send("out"), Step::Fail]).await;
    assert_eq!(error.kind(), ErrorKind::Process);
    let context = ["topic", "offsets", "partition"].map(|name| error.get(name));
    assert_eq!(context, [Some("a"), Some("10..=14"), Some("0")]);
    assert!(error.find::<Planned>().is_some());
    assert!(!error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_process() {
    let (_sim, error) = run_into(vec![Step::Sleep(millis(5)), Step::Panic]).await;
    assert_eq!(error.kind(), ErrorKind::Panic);
    assert!(error.to_string().contains("a planned panic"), "{error}");
    assert_eq!(error.get("offsets"), Some("10..=14"));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_delivered() {
    let (_sim, error) = run_into(vec![Step::Send(UNDELIVERABLE)]).await;
    assert_eq!(error.kind(), ErrorKind::Delivery);
    assert_eq!(error.get("topic"), Some(UNDELIVERABLE));
    assert_eq!(error.get("batch"), Some("a/0 10..=14"));
    assert!(error.to_string().contains("message timed out"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_client_refuses() {
    let (_sim, error) = run_into(vec![Step::Send(REFUSED)]).await;
    assert_eq!(error.kind(), ErrorKind::Delivery);
    assert_eq!(error.get("topic"), Some(REFUSED));
    assert!(error.to_string().contains("does not take it"), "{error}");
}

/// `process` returned `Ok`, but a message of the batch is lost.
#[tokio::test(start_paused = true)]
async fn a_failed_flush_fails_the_batch_also_where_process_ignores_it() {
    let plan = vec![Step::Send(UNDELIVERABLE), Step::FlushBlindly, Step::Send("out")];
    let (_sim, error) = run_into(plan).await;
    assert_eq!(error.kind(), ErrorKind::Delivery);
}

#[tokio::test(start_paused = true)]
async fn a_failed_flush_is_the_source_of_what_process_returns() {
    let (_sim, error) = run_into(vec![Step::Send(UNDELIVERABLE), Step::Flush]).await;
    assert_eq!(error.kind(), ErrorKind::Process);
    assert_eq!(error.find::<Error>().map(Error::kind), Some(ErrorKind::Delivery));
}

/// What a flush that was dropped had handed over is still part of the batch.
#[tokio::test(start_paused = true)]
async fn a_dropped_flush_still_counts() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.world().hold("slow");
    sim.produce(&at("a", 0), 5);
    let plan = vec![Step::Send("slow"), Step::FlushFor(millis(10))];
    let member = sim.member().plan(in_call(1, plan)).start();
    sleep(millis(1000)).await;
    assert_eq!(sim.committed(&at("a", 0)), Some(0), "not committed before it is acknowledged");
    assert_eq!(member.handle.status().partitions[0].in_flight, 1);
    sim.world().release("slow");
    sim.all_committed().await;
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_flush_that_fails_later_fails_the_batch() {
    let plan = vec![Step::Send(UNDELIVERABLE), Step::FlushFor(millis(1)), Step::Send("out")];
    let (_sim, error) = run_into(plan).await;
    assert_eq!(error.kind(), ErrorKind::Delivery);
}

/// Batches 3 and 4 are acknowledged before it turns out that batch 2 is not delivered.
#[tokio::test(start_paused = true)]
async fn nothing_behind_a_failed_batch_is_committed() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.world().hold(UNDELIVERABLE);
    sim.produce(&at("a", 0), 20);
    let plan = in_call(2, vec![Step::Send(UNDELIVERABLE)]);
    let member = sim.member().set(|s| s.batch.max_messages = 5).plan(plan).start();
    sim.until("all others are acked", |world| {
        world.monitor.calls() == 4 && world.unreported() == 5
    })
    .await;
    sleep(millis(500)).await;
    assert_eq!(sim.committed(&at("a", 0)), Some(5));
    sim.world().release(UNDELIVERABLE);
    let error = member.error().await;
    assert_eq!(error.get("batch"), Some("a/0 5..=9"));
    assert_eq!(sim.committed(&at("a", 0)), Some(5));
}

fn ten_messages_and_slow_acks() -> Sim {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.world().hold("slow");
    sim.produce(&at("a", 0), 10);
    sim
}

/// What is in flight behind the failed batch is waited for: its replay must not overtake it.
#[tokio::test(start_paused = true)]
async fn a_failure_waits_for_what_is_in_flight() {
    let sim = ten_messages_and_slow_acks();
    let mut calls = 0;
    let plan = move |_: &Batch| {
        calls += 1;
        vec![Step::Sleep(millis(10)), Step::Send(if calls == 1 { UNDELIVERABLE } else { "slow" })]
    };
    sim.world().hold(UNDELIVERABLE);
    let member = sim.member().set(|s| s.batch.max_messages = 5).plan(plan).start();
    sim.until("all is sent", |world| world.unreported() == 10).await;
    sim.world().release(UNDELIVERABLE);
    sleep(millis(1000)).await;
    assert!(!member.task.is_finished());
    let released = Instant::now();
    sim.world().release("slow");
    assert_eq!(member.error().await.kind(), ErrorKind::Delivery);
    assert!(released.elapsed() < millis(100));
}

/// ... but no longer than the drain deadline.
#[tokio::test(start_paused = true)]
async fn a_failure_does_not_wait_for_acks_for_ever() {
    let sim = ten_messages_and_slow_acks();
    let mut calls = 0;
    let plan = move |_: &Batch| {
        calls += 1;
        if calls == 1 { vec![Step::Send("slow")] } else { vec![Step::Fail] }
    };
    let member = sim.member().set(|s| s.batch.max_messages = 5).plan(plan).start();
    let begun = Instant::now();
    assert_eq!(member.error().await.kind(), ErrorKind::Process);
    assert!(begun.elapsed() < millis(2500), "{:?}", begun.elapsed());
    assert_eq!(sim.committed(&at("a", 0)), Some(0));
}

#[tokio::test(start_paused = true)]
async fn other_lanes_finish_what_they_have() {
    let sim = Sim::new(Mode::Eager, &["a"], 2);
    sim.produce(&at("a", 0), 5);
    sim.produce(&at("a", 1), 5);
    let gate = gate();
    let shut = gate.clone();
    let plan = move |batch: &Batch| match batch.partition() {
        0 => vec![Step::Sleep(millis(100)), Step::Fail],
        _ => vec![Step::Gate(shut.clone()), Step::Send("out")],
    };
    let member = sim.member().plan(plan).start();
    sleep(millis(500)).await;
    gate.add_permits(1);
    let error = member.error().await;
    assert_eq!((error.kind(), error.get("partition")), (ErrorKind::Process, Some("0")));
    assert_eq!(sim.committed(&at("a", 0)), Some(0));
    assert_eq!(sim.committed(&at("a", 1)), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_failure_while_being_revoked_is_still_an_error() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), 5);
    let gate = gate();
    let member = sim.member().plan(waits_at_then(&gate, vec![Step::Fail])).start();
    sim.until("it processes", |world| world.monitor.running() == 1).await;
    sim.world().rebalance();
    sim.until("it is asked", |world| world.is_asked_to_give_back(member.id)).await;
    gate.add_permits(1);
    assert_eq!(member.error().await.kind(), ErrorKind::Process);
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_fails_or_panics() {
    for (making, kind) in [(Making::Fails, ErrorKind::Process), (Making::Panics, ErrorKind::Panic)]
    {
        let sim = Sim::new(Mode::Eager, &["a"], 2);
        let make = move |partition| if partition == 1 { making } else { Making::Good };
        let error = sim.member().make(make).start().error().await;
        assert_eq!((error.kind(), error.get("partition")), (kind, Some("1")));
        assert_eq!(error.find::<Planned>().is_some(), kind == ErrorKind::Process);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fatal_error_of_the_client_ends_the_run_and_a_warning_does_not() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), 5);
    let member = sim.member().start();
    sleep(millis(500)).await;
    let warning = Error::new(ErrorKind::Unavailable, "all brokers are down");
    sim.world().send_event(member.id, Event::Warning(warning));
    sleep(millis(500)).await;
    assert!(!member.task.is_finished());
    let fatal = Error::new(ErrorKind::Backend, "fenced");
    sim.world().send_event(member.id, Event::Fatal(fatal));
    assert_eq!(member.error().await.kind(), ErrorKind::Backend);
    assert_eq!(sim.committed(&at("a", 0)), Some(5));
}

/// A full producer queue delays; nothing is lost or reordered.
#[tokio::test(start_paused = true)]
async fn a_full_producer_queue() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.world().weather.producer_queue = 3;
    sim.world().weather.faults.queue_full = 30;
    sim.produce(&at("a", 0), 100);
    let plan = |_: &Batch| vec![Step::Send("out"), Step::FlushFor(millis(3)), Step::Send("out")];
    let member = sim.member().set(|s| s.batch.max_messages = 20).plan(plan).start();
    sim.all_committed().await;
    member.close().await.unwrap();
}

/// What was finished is committed, the group is left, and the error says what it was.
async fn run_into_a_hook_that_panics(panics: fn(&RebalanceEvent) -> bool, mode: Mode) {
    let sim = Sim::new(mode, &["a"], 2);
    sim.produce(&at("a", 0), 10);
    let hook = move |event: &RebalanceEvent| {
        if panics(event) {
            // Without the noise of the panic hook.
            std::panic::resume_unwind(Box::new("a planned panic"));
        }
    };
    let member = sim.member().set(|s| s.on_rebalance = Some(Arc::new(hook))).start();
    let handle = member.handle.clone();
    sleep(millis(500)).await;
    sim.give(&[(at("a", 0), member.id)]);
    let error = member.error().await;
    assert_eq!(error.kind(), ErrorKind::Panic);
    assert!(error.to_string().contains("`on_rebalance` hook panicked: a planned panic"), "{error}");
    assert!(handle.status().failure.is_some());
    assert!(sim.world().members().is_empty(), "the group is left");
    let next = sim.member().start();
    sim.world().group.spread = crate::broker::sim::Spread::Range;
    sim.world().rebalance();
    sim.all_committed().await;
    next.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_hook_at_an_assignment() {
    for mode in [Mode::Eager, Mode::Incremental] {
        run_into_a_hook_that_panics(|event| matches!(event, RebalanceEvent::Assigned(_)), mode)
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_hook_at_a_revocation() {
    for mode in [Mode::Eager, Mode::Incremental] {
        run_into_a_hook_that_panics(|event| matches!(event, RebalanceEvent::Revoked(_)), mode)
            .await;
    }
}

/// The partition that was there before has finished messages that are not committed.
#[tokio::test(start_paused = true)]
async fn what_was_finished_when_the_hook_panicked_is_committed() {
    let sim = Sim::new(Mode::Incremental, &["a"], 2);
    let hook = |event: &RebalanceEvent| {
        if matches!(event, RebalanceEvent::Assigned(partitions) if partitions.contains(&at("a", 1)))
        {
            std::panic::resume_unwind(Box::new("a planned panic"));
        }
    };
    let member = sim.member().set(|s| {
        s.commit_interval = std::time::Duration::from_secs(3600);
        s.on_rebalance = Some(Arc::new(hook));
    });
    let member = member.start();
    sim.give(&[(at("a", 0), member.id)]);
    sim.settled().await;
    sim.produce(&at("a", 0), 10);
    sleep(millis(500)).await;
    assert_ne!(sim.committed(&at("a", 0)), Some(10));
    sim.give(&[(at("a", 0), member.id), (at("a", 1), member.id)]);
    assert_eq!(member.error().await.kind(), ErrorKind::Panic);
    assert_eq!(sim.committed(&at("a", 0)), Some(10));
}

/// Of two batches in flight the first is to fail, once that is released, and the second has no acks.
async fn two_batches_in_flight() -> (Sim, Member) {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.world().hold("slow");
    sim.world().hold(UNDELIVERABLE);
    sim.produce(&at("a", 0), 10);
    let plan = |batch: &Batch| match batch.iter().next().unwrap().offset().get() {
        0 => vec![Step::Send(UNDELIVERABLE)],
        _ => vec![Step::Send("slow")],
    };
    let member = sim.member().set(|s| s.batch.max_messages = 5).plan(plan).start();
    sim.until("both are sent", |world| world.unreported() == 10).await;
    (sim, member)
}

/// The batch behind the failed one has no acks until the drain deadline.
#[tokio::test(start_paused = true)]
async fn a_failure_is_told_at_the_drain_deadline_too() {
    let (sim, member) = two_batches_in_flight().await;
    member.handle.close();
    sleep(millis(100)).await;
    sim.world().release(UNDELIVERABLE);
    let error = member.error().await;
    assert_eq!((error.kind(), error.get("batch")), (ErrorKind::Delivery, Some("a/0 0..=4")));
    assert_eq!(sim.committed(&at("a", 0)), Some(0));
}

/// The lane has reported a failure, and waits for other acks, when its partition is lost.
#[tokio::test(start_paused = true)]
async fn a_reported_failure_is_told_though_the_partition_is_lost() {
    let (sim, member) = two_batches_in_flight().await;
    sim.world().rebalance();
    sleep(millis(500)).await;
    sim.world().release(UNDELIVERABLE);
    sleep(millis(50)).await;
    sim.world().rejoin_unanswered(member.id);
    let error = member.error().await;
    assert_eq!((error.kind(), error.get("batch")), (ErrorKind::Delivery, Some("a/0 0..=4")));
}
