//! The user's code fails and a policy says what then: retries, rejected messages, the circuit.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::case::Cry;
use super::harness::{Making, Member, MemberSetup, Plan, Sim, Step, at, letters, millis};
use crate::broker::sim::{LETTERS, Mode, Poison, REFUSED, UNDELIVERABLE};
use crate::metrics::Metrics;
use crate::metrics::book::Book;
use crate::status::PartitionState;
use crate::{Backoff, Batch, Circuit, ErrorKind, ErrorPolicy, OnError};

/// Waits of 100 ms.
fn backoff() -> Backoff {
    Backoff::new().first(millis(100)).factor(1.0).jitter(0.0)
}

fn rejecting() -> ErrorPolicy {
    ErrorPolicy::new(OnError::dead_letter(LETTERS)).retryable(backoff().forever())
}

/// A cluster with this many messages in `a/0`, of which these cannot be processed.
fn sim(messages: usize, poison: Poison) -> Sim {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), messages);
    sim.world().monitor.retries = true;
    sim.world().monitor.poison = poison;
    sim
}

/// One in `every`.
fn one_in(every: i64) -> Poison {
    Poison { every, run: 1, skips: false, is_named: false }
}

fn member(sim: &Sim, policy: ErrorPolicy) -> MemberSetup {
    sim.member().set(|s| {
        s.letters = letters(policy);
        s.batch.max_messages = 5;
    })
}

/// Fails so many times at first, then sends to `out`.
fn fails(times: usize, step: Step) -> impl FnMut(&Batch) -> Plan + Send {
    let mut calls = 0;
    move |_| {
        calls += 1;
        let end = if calls <= times { step.clone() } else { Step::Sleep(millis(0)) };
        vec![Step::Send("out"), end]
    }
}

fn cries(cry: Cry) -> impl FnMut(&Batch) -> Plan + Send {
    move |_| vec![Step::Poison(cry), Step::Send("out")]
}

fn letters_of(sim: &Sim) -> usize {
    sim.world().counts.get("letter").copied().unwrap_or(0)
}

async fn is_retrying(sim: &Sim, member: &Member) {
    sim.until("it is tried again", |_| {
        let partitions = member.handle.status().partitions;
        partitions.first().is_some_and(|partition| partition.retrying.is_some())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_processed_again_until_it_succeeds() {
    let sim = sim(12, Poison::default());
    let member = member(&sim, rejecting()).plan(fails(7, Step::FailForNow)).start();
    is_retrying(&sim, &member).await;
    sleep(millis(350)).await;
    let status = member.handle.status().partitions[0].clone();
    let retrying = status.retrying.unwrap();
    assert_eq!(
        (status.state, retrying.attempt, status.in_flight),
        (PartitionState::Retrying, 4, 1)
    );
    assert!((300..400).contains(&retrying.since.as_millis()), "{:?}", retrying.since);
    assert!(retrying.error.contains("as planned"), "{}", retrying.error);
    assert!(!member.handle.has_consumed_all());
    sim.all_committed().await;
    let status = member.handle.status().partitions[0].clone();
    assert!(status.retrying.is_none() && status.state == PartitionState::Running);
    assert_eq!(sim.world().taken(), 12, "what failed calls sent is not produced");
    assert_eq!(letters_of(&sim), 0);
    let report = member.close().await.unwrap();
    assert_eq!((report.messages, report.batches, report.rejected), (12, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn other_partitions_continue_meanwhile() {
    let sim = Sim::new(Mode::Eager, &["a"], 2);
    sim.world().monitor.retries = true;
    sim.produce(&at("a", 0), 5);
    sim.produce(&at("a", 1), 500);
    let plan = |batch: &Batch| match batch.partition() {
        0 => vec![Step::FailForNow],
        _ => vec![Step::Send("out")],
    };
    let member = member(&sim, rejecting()).plan(plan).start();
    sim.until("the other is committed", |world| {
        world.committed(&at("a", 1)).is_some_and(|next| next.get() == 500)
    })
    .await;
    assert!(sim.committed(&at("a", 0)).is_none_or(|next| next == 0));
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_used_up_budget_stops_with_the_error() {
    let sim = sim(12, Poison::default());
    let policy =
        ErrorPolicy::new(OnError::dead_letter(LETTERS)).retryable(backoff().max_retries(3));
    let book = Book::default();
    let metrics = Metrics::new("test", book.clone());
    let member = member(&sim, policy).set(|s| s.metrics = metrics);
    let begun = Instant::now();
    let error = member.plan(fails(100, Step::FailForNow)).start().error().await;
    assert_eq!((error.kind(), error.get("attempts")), (ErrorKind::Process, Some("4")));
    assert!(begun.elapsed() >= millis(300));
    assert_eq!(letters_of(&sim), 0, "an outage does not empty the topic into the letters");
    assert_eq!(book.counter("kasper_retries_total{partition=0}"), 3);
}

#[tokio::test(start_paused = true)]
async fn every_budget_is_used_by_itself() {
    let sim = sim(5, Poison::default());
    let policy = ErrorPolicy::new(OnError::retry(backoff().max_retries(3)))
        .retryable(backoff().max_retries(3));
    let mut calls = 0;
    let plan = move |_: &Batch| {
        calls += 1;
        match calls {
            1..=3 => vec![Step::Fail],
            4..=6 => vec![Step::FailForNow],
            _ => Plan::new(),
        }
    };
    let member = member(&sim, policy).plan(plan).start();
    sim.all_committed().await;
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_a_backoff_at_once() {
    let sim = sim(12, Poison::default());
    let hour =
        backoff().first(Duration::from_secs(3600)).longest(Duration::from_secs(3600)).forever();
    let member = member(&sim, rejecting().retryable(hour));
    let member = member.set(|s| s.drain_deadline = Duration::from_secs(100));
    let member = member.plan(fails(100, Step::FailForNow)).closes(Plan::new).start();
    is_retrying(&sim, &member).await;
    let begun = Instant::now();
    member.close().await.unwrap();
    assert!(begun.elapsed() < millis(1000), "{:?}", begun.elapsed());
    assert_eq!(sim.world().monitor.closings(), 0, "the batch is not finished");
    assert!(sim.committed(&at("a", 0)).is_none_or(|next| next == 0));
}

#[tokio::test(start_paused = true)]
async fn a_revocation_ends_a_backoff_and_the_next_owner_gets_the_batch() {
    for mode in [Mode::Eager, Mode::Incremental] {
        let sim = Sim::new(mode, &["a"], 1);
        sim.world().monitor.retries = true;
        sim.produce(&at("a", 0), 12);
        // The first batch is finished, and committed at the revocation.
        let mut calls = 0;
        let plan = move |_: &Batch| {
            calls += 1;
            if calls == 1 { vec![Step::Send("out")] } else { vec![Step::FailForNow] }
        };
        let hour = backoff().first(Duration::from_secs(3600)).longest(Duration::from_secs(3600));
        let setup = member(&sim, rejecting().retryable(hour.forever()));
        let first = setup.set(|s| {
            s.commit_interval = Duration::from_secs(1000);
            s.drain_deadline = Duration::from_secs(100);
        });
        let first = first.plan(plan).start();
        is_retrying(&sim, &first).await;
        let second = member(&sim, rejecting()).start();
        sim.until("both are members", |world| world.members().len() == 2).await;
        let begun = Instant::now();
        sim.give(&[(at("a", 0), second.id)]);
        sim.all_committed().await;
        assert!(begun.elapsed() < millis(20_000), "{:?}", begun.elapsed());
        assert_eq!(sim.processed(&at("a", 0)).iter().filter(|offset| **offset < 5).count(), 5);
        first.close().await.unwrap();
        second.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_while_the_partition_is_paused() {
    let sim = sim(5, Poison::default());
    let member = member(&sim, rejecting()).plan(fails(100, Step::FailForNow)).start();
    is_retrying(&sim, &member).await;
    member.handle.pause();
    sleep(millis(500)).await;
    let calls = sim.world().monitor.calls();
    sleep(millis(5000)).await;
    assert_eq!(sim.world().monitor.calls(), calls);
    assert_eq!(member.handle.status().partitions[0].state, PartitionState::Paused);
    member.handle.resume();
    sleep(millis(500)).await;
    assert!(sim.world().monitor.calls() > calls);
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_makes_a_fresh_processor_and_an_error_does_not() {
    for (step, processors) in [(Step::Panic, 3), (Step::Fail, 1)] {
        let sim = sim(5, Poison::default());
        let policy = ErrorPolicy::new(OnError::retry(backoff().max_retries(5)));
        let member = member(&sim, policy).plan(fails(2, step)).start();
        sim.all_committed().await;
        assert_eq!(sim.world().monitor.incarnations(), processors);
        member.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_factory_is_called_again() {
    for making in [Making::Fails, Making::Panics] {
        let sim = sim(5, Poison::default());
        let policy = ErrorPolicy::new(OnError::retry(backoff().max_retries(5)));
        let mut made = 0;
        let make = move |_| {
            made += 1;
            if made < 4 { making } else { Making::Good }
        };
        let member = member(&sim, policy).make(make).start();
        sim.all_committed().await;
        member.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_tick_is_called_again() {
    let sim = sim(5, Poison::default());
    let policy = ErrorPolicy::new(OnError::retry(backoff().max_retries(5)));
    let mut ticks = 0;
    let tick = move || {
        ticks += 1;
        match ticks {
            1 => vec![Step::Send("summary"), Step::Fail],
            2 => vec![Step::Panic],
            _ => vec![Step::Send("summary")],
        }
    };
    let member = member(&sim, policy).ticks(millis(1000), tick).start();
    sim.until("a tick has succeeded", |world| world.monitor.ticks() >= 3).await;
    sim.all_committed().await;
    assert_eq!(sim.world().taken(), 1);
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_processed_becomes_a_letter() {
    for cry in [Cry::Error, Cry::Name, Cry::Panic, Cry::Letter] {
        let sim = sim(100, one_in(10));
        let book = Book::default();
        let metrics = Metrics::new("test", book.clone());
        let setup = member(&sim, rejecting()).set(|s| {
            s.batch.max_messages = 50;
            s.metrics = metrics;
        });
        let member = setup.plan(cries(cry)).start();
        sim.all_committed().await;
        assert_eq!(letters_of(&sim), 10, "{cry:?}");
        // A letter that the processor writes itself leaves the message in the batch.
        let sent = if cry == Cry::Letter { 100 } else { 90 };
        assert_eq!(sim.world().taken(), sent + 10);
        let series = "kasper_rejected_messages_total{topic=a,partition=0,outcome=dead_letter}";
        assert_eq!(book.counter(series), 10);
        let report = member.close().await.unwrap();
        assert_eq!((report.messages, report.rejected), (100, 10));
    }
}

#[tokio::test(start_paused = true)]
async fn finding_one_message_takes_few_calls() {
    let calls = async |cry| {
        let sim = sim(64, Poison { every: 1000, run: 1, skips: false, is_named: false });
        let member = member(&sim, rejecting()).set(|s| s.batch.max_messages = 64);
        let member = member.plan(cries(cry)).start();
        sim.all_committed().await;
        let calls = sim.world().monitor.calls();
        member.close().await.unwrap();
        calls
    };
    assert!(calls(Cry::Error).await <= 1 + 2 * 6 + 2);
    assert!(calls(Cry::Name).await <= 3);
    assert_eq!(calls(Cry::Letter).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_skipped_has_no_letter() {
    let sim = sim(20, Poison { skips: true, is_named: true, ..one_in(10) });
    let policy = ErrorPolicy::new(OnError::skip());
    let member = member(&sim, policy).plan(cries(Cry::Name)).start();
    sim.all_committed().await;
    assert_eq!(letters_of(&sim), 0);
    assert_eq!(member.handle.status().rejected, 2);
    member.close().await.unwrap();
}

/// The rest of a batch is not finished before the letter is.
#[tokio::test(start_paused = true)]
async fn nothing_behind_a_letter_is_committed_before_it_is_acknowledged() {
    let sim = sim(5, Poison { every: 5, run: 1, skips: false, is_named: false });
    sim.world().hold(LETTERS);
    let member = member(&sim, rejecting()).plan(cries(Cry::Error)).start();
    sleep(millis(3000)).await;
    assert_eq!(sim.committed(&at("a", 0)), Some(0));
    assert_eq!(member.handle.status().rejected, 0);
    sim.world().release(LETTERS);
    sim.all_committed().await;
    assert_eq!(letters_of(&sim), 1);
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_not_delivered_is_sent_again() {
    let sim = sim(20, one_in(4));
    sim.world().weather.faults.delivery_failed = 60;
    let member = member(&sim, rejecting()).plan(|_| vec![Step::Poison(Cry::Letter)]).start();
    sim.all_committed().await;
    assert!(sim.world().counts["letter not delivered"] > 0);
    assert!(letters_of(&sim) >= 5);
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_never_delivered_stops_the_processor_and_drops_nothing() {
    let sim = sim(20, Poison { every: 1000, run: 1, skips: false, is_named: false });
    sim.world().weather.faults.delivery_failed = 100;
    let policy = rejecting().retryable(backoff().max_retries(3));
    let begun = Instant::now();
    let setup = member(&sim, policy).plan(|_| vec![Step::Poison(Cry::Name)]);
    let error = setup.start().error().await;
    assert_eq!((error.kind(), error.get("topic")), (ErrorKind::Delivery, Some(LETTERS)));
    assert!(begun.elapsed() >= millis(300));
    sleep(millis(5000)).await;
    assert_eq!(sim.committed(&at("a", 0)), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_fails_for_everything_sends_no_letter() {
    for cry in [Cry::Error, Cry::Name, Cry::Letter] {
        let sim = sim(200, Poison { every: 1, run: 1, skips: false, is_named: false });
        let policy = rejecting().circuit(Circuit::new().consecutive(20));
        let member = member(&sim, policy).set(|s| s.batch.max_messages = 100);
        let error = member.plan(cries(cry)).start().error().await;
        assert_eq!(error.kind(), ErrorKind::CircuitOpen, "{error:?}");
        assert!(
            error.to_string().contains("20 messages in a row") || cry == Cry::Letter,
            "{error}"
        );
        assert!(error.get("rejected").is_some_and(|first| first.contains("as planned")), "{error}");
        sleep(millis(1000)).await;
        assert_eq!((letters_of(&sim), sim.world().taken()), (0, 0));
        assert_eq!(sim.committed(&at("a", 0)), Some(0));
    }
}

/// Where the batches are small, the letters before the limit are sent.
#[tokio::test(start_paused = true)]
async fn small_batches_send_fewer_letters_than_the_limit() {
    let sim = sim(200, Poison { every: 1, run: 1, skips: false, is_named: false });
    let policy = rejecting().circuit(Circuit::new().consecutive(20));
    let member = member(&sim, policy).set(|s| s.batch.max_messages = 3);
    let error = member.plan(cries(Cry::Error)).start().error().await;
    assert_eq!(error.kind(), ErrorKind::CircuitOpen, "{error:?}");
    sleep(millis(1000)).await;
    assert!(letters_of(&sim) < 20, "{}", letters_of(&sim));
}

/// The output of some messages is refused: these are rejected, whether or not the output says what it was made from.
#[tokio::test(start_paused = true)]
async fn what_makes_an_output_that_cannot_be_produced_becomes_a_letter() {
    for cry in [Cry::Refused, Cry::RefusedUnnamed] {
        let sim = sim(100, one_in(10));
        let policy = rejecting().undeliverable(OnError::dead_letter(LETTERS));
        let member = member(&sim, policy).set(|s| s.batch.max_messages = 50);
        let member = member.plan(cries(cry)).start();
        sim.all_committed().await;
        assert!(letters_of(&sim) >= 10, "{cry:?}");
        let report = member.close().await.unwrap();
        assert!(report.rejected >= 10 && report.messages >= 100, "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flushed_output_that_cannot_be_produced_is_looked_for_like_an_error() {
    let sim = sim(20, one_in(10));
    let policy = rejecting().undeliverable(OnError::dead_letter(LETTERS));
    let plan = |_: &Batch| vec![Step::Poison(Cry::RefusedUnnamed), Step::Flush];
    let member = member(&sim, policy).plan(plan).start();
    sim.all_committed().await;
    assert_eq!(letters_of(&sim), 2);
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_output_that_cannot_be_produced_stops_without_a_policy_for_it() {
    let sim = sim(20, one_in(10));
    let error = member(&sim, rejecting()).plan(cries(Cry::Refused)).start().error().await;
    assert_eq!((error.kind(), letters_of(&sim)), (ErrorKind::Delivery, 0));
}

#[tokio::test(start_paused = true)]
async fn a_tick_whose_message_cannot_be_produced_stops() {
    let sim = sim(5, Poison::default());
    let policy = rejecting().undeliverable(OnError::dead_letter(LETTERS));
    let setup = member(&sim, policy).ticks(millis(100), || vec![Step::Send(REFUSED)]);
    let error = setup.start().error().await;
    assert_eq!((error.kind(), error.get("sent_by")), (ErrorKind::Delivery, Some("tick")));
}

/// The processor hides that its flush failed.
#[tokio::test(start_paused = true)]
async fn a_flush_that_failed_stops_whatever_the_processor_makes_of_it() {
    let sim = sim(5, Poison::default());
    let plan = |_: &Batch| vec![Step::Send(UNDELIVERABLE), Step::FlushBlindly, Step::Fail];
    let error = member(&sim, rejecting()).plan(plan).start().error().await;
    assert_eq!((error.kind(), letters_of(&sim)), (ErrorKind::Delivery, 0), "{error}");
}

/// Sixty letters that all fail once are sent again together, not one after the other.
#[tokio::test(start_paused = true)]
async fn letters_that_fail_together_are_sent_again_together() {
    let sim = sim(60, Poison { every: 1, run: 1, skips: false, is_named: false });
    sim.world().weather.faults.delivery_failed = 100;
    let policy = rejecting().retryable(backoff().max_retries(3)).circuit(Circuit::new().never());
    let setup = member(&sim, policy).set(|s| s.batch.max_messages = 60);
    let member = setup.plan(|_| vec![Step::Poison(Cry::Letter)]).start();
    sim.until("all have failed", |world| {
        world.counts.get("letter not delivered").is_some_and(|count| *count >= 60)
    })
    .await;
    sim.world().weather.faults.delivery_failed = 0;
    sim.all_committed().await;
    assert_eq!(letters_of(&sim), 60);
    member.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_letters_that_are_sent_again() {
    let sim = sim(5, one_in(5));
    sim.world().weather.faults.delivery_failed = 100;
    let policy = rejecting().retryable(backoff().first(Duration::from_secs(3600)).forever());
    let setup = member(&sim, policy.clone()).set(|s| s.drain_deadline = Duration::from_secs(600));
    let member = setup.plan(|_| vec![Step::Poison(Cry::Letter)]).start();
    is_retrying(&sim, &member).await;
    let begun = Instant::now();
    member.close().await.unwrap();
    assert!(begun.elapsed() < millis(2000), "{:?}", begun.elapsed());
    assert!(sim.committed(&at("a", 0)).is_none_or(|next| next == 0));
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_fails_rejects_no_message() {
    let sim = sim(5, Poison::default());
    let plan = |_: &Batch| vec![Step::Send(UNDELIVERABLE), Step::Flush];
    let error = member(&sim, rejecting()).plan(plan).start().error().await;
    assert_eq!((error.kind(), letters_of(&sim)), (ErrorKind::Process, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_dead_letter_topic_a_letter_is_an_error() {
    let sim = sim(5, one_in(5));
    let setup = member(&sim, ErrorPolicy::default());
    let error = setup.plan(cries(Cry::Letter)).start().error().await;
    let cause = error.find::<crate::Error>().map(crate::Error::kind);
    assert_eq!(cause, Some(ErrorKind::Config), "{error:?}");
}
