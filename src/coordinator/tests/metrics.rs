//! What is counted and measured, and that no gauge outlives what it tells of.

use std::time::Duration;

use tokio::time::sleep;

use super::harness::{MemberSetup, Sim, Step, at, gate, millis, waits_at};
use crate::ErrorKind;
use crate::broker::sim::{CommitFate, Mode};
use crate::metrics::book::Book;
use crate::metrics::{Metrics, Unit};

/// A member that reports to this book, and sets its gauges only when partitions come or go.
fn reporting_to(book: &Book, member: MemberSetup) -> MemberSetup {
    member.set(|settings| {
        settings.metrics = Metrics::new("test", book.clone());
        settings.metrics_interval = Duration::from_secs(3600);
    })
}

#[tokio::test(start_paused = true)]
async fn messages_and_bytes_are_counted_by_topic_and_partition() {
    let (sim, book) = (Sim::new(Mode::Eager, &["a", "b"], 2), Book::default());
    sim.produce(&at("a", 0), 7);
    sim.produce(&at("a", 1), 30);
    sim.produce(&at("b", 1), 3);
    // What is flushed within `process` counts, too. The values have 8 bytes.
    let plan = |_: &crate::Batch| vec![Step::Send("audit"), Step::Flush, Step::Send("out")];
    let member = reporting_to(&book, sim.member()).plan(plan).start();
    sim.all_committed().await;
    let report = member.close().await.unwrap();
    assert_eq!(book.counter("kasper_incoming_messages_total{topic=a,partition=0}"), 7);
    assert_eq!(book.counter("kasper_incoming_bytes_total{topic=a,partition=0}"), 70);
    assert_eq!(book.counter("kasper_incoming_messages_total{topic=a,partition=1}"), 30);
    assert_eq!(book.counter("kasper_incoming_messages_total{topic=b,partition=1}"), 3);
    assert_eq!(book.counter("kasper_incoming_bytes_total{topic=b,partition=1}"), 30);
    for topic in ["audit", "out"] {
        let series = |name, partition| format!("{name}{{topic={topic},partition={partition}}}");
        assert_eq!(book.counter(&series("kasper_outgoing_messages_total", 0)), 7);
        assert_eq!(book.counter(&series("kasper_outgoing_messages_total", 1)), 33);
        assert_eq!(book.counter(&series("kasper_outgoing_bytes_total", 1)), 33 * 8);
    }
    let batches = book.counter("kasper_batches_total{partition=0}")
        + book.counter("kasper_batches_total{partition=1}");
    assert_eq!(batches, report.batches);
    let sizes = book.samples("kasper_batch_messages");
    assert_eq!((sizes.len() as u64, sizes.iter().sum::<f64>()), (batches, 40.0));
    assert_eq!(book.samples("kasper_process_seconds").len() as u64, batches);
    assert_eq!(book.samples("kasper_produce_seconds").len() as u64, 2 * batches);
}

#[tokio::test(start_paused = true)]
async fn time_is_measured_where_it_goes() {
    let (sim, book) = (Sim::new(Mode::Eager, &["a"], 1), Book::default());
    sim.world().hold("slow");
    let plan = |_: &crate::Batch| vec![Step::Sleep(millis(300)), Step::Send("slow")];
    let member = reporting_to(&book, sim.member()).plan(plan);
    let member = member.set(|s| s.batch.max_wait = millis(200)).start();
    sim.until("it is assigned", |world| world.is_settled()).await;
    sim.produce(&at("a", 0), 1);
    sleep(millis(2500)).await;
    sim.world().release("slow");
    sim.all_committed().await;
    member.close().await.unwrap();
    assert_eq!(book.samples("kasper_batch_age_seconds"), [0.2]);
    assert_eq!(book.samples("kasper_process_seconds"), [0.3]);
    let produced = book.samples("kasper_produce_seconds");
    assert!((1.0..2.5).contains(&produced[0]), "from handing over to the ack: {produced:?}");
}

#[tokio::test(start_paused = true)]
async fn gauges_of_a_revoked_partition_are_zero_at_once() {
    let (sim, first_book, second_book) =
        (Sim::new(Mode::Eager, &["a"], 1), Book::default(), Book::default());
    sim.produce(&at("a", 0), 7);
    let gate = gate();
    let first = reporting_to(&first_book, sim.member()).plan(waits_at(&gate)).start();
    let second = reporting_to(&second_book, sim.member()).plan(waits_at(&gate)).start();
    sim.give(&[(at("a", 0), first.id)]);
    let first_id = first.id;
    sim.until("it is the first's", |world| world.assigned(first_id) == [at("a", 0)]).await;
    assert_eq!(first_book.gauge("kasper_lag_messages{topic=a,partition=0}"), 7.0);
    assert_eq!(first_book.gauge("kasper_assigned{topic=a,partition=0}"), 1.0);
    assert_eq!(first_book.counter("kasper_rebalances_total{event=revoked}"), 0);

    sim.give(&[(at("a", 0), second.id)]);
    let second_id = second.id;
    sim.until("it is the second's", |world| world.assigned(second_id) == [at("a", 0)]).await;
    assert_eq!(first_book.raised(), Vec::<String>::new());
    assert_eq!(second_book.gauge("kasper_lag_messages{topic=a,partition=0}"), 7.0);
    assert!(first_book.counter("kasper_rebalances_total{event=revoked}") > 0);
    assert_eq!(first_book.counter("kasper_rebalanced_partitions_total{event=assigned}"), 1);
    assert_eq!(first_book.counter("kasper_rebalanced_partitions_total{event=revoked}"), 1);
    // Two processors in one process report apart.
    assert_eq!(second_book.counter("kasper_rebalanced_partitions_total{event=revoked}"), 0);
    gate.add_permits(100);
    sim.all_committed().await;
    first.close().await.unwrap();
    second.close().await.unwrap();
    assert_eq!(second_book.counter("kasper_incoming_messages_total{topic=a,partition=0}"), 7);
}

#[tokio::test(start_paused = true)]
async fn gauges_of_a_lost_partition_are_zero() {
    let (sim, book) = (Sim::new(Mode::Eager, &["a"], 1), Book::default());
    sim.produce(&at("a", 0), 7);
    let gate = gate();
    let member = reporting_to(&book, sim.member()).plan(waits_at(&gate)).start();
    sim.until("it processes", |world| world.monitor.calls() == 1).await;
    assert_eq!(book.raised().len(), 3, "{:?}", book.raised());
    sim.world().throw_out(member.id);
    let lost = || book.counter("kasper_rebalances_total{event=lost}") == 1;
    sim.until("it is lost", |_| lost()).await;
    assert_eq!(book.raised(), Vec::<String>::new());
    gate.add_permits(100);
    sim.all_committed().await;
    member.close().await.unwrap();
}

/// Closed, crashed, failed: however it ends.
#[tokio::test(start_paused = true)]
async fn all_gauges_are_zero_when_the_processor_ends() {
    for crashes in [false, true] {
        let (sim, book) = (Sim::new(Mode::Eager, &["a"], 2), Book::default());
        sim.produce(&at("a", 0), 7);
        let member = reporting_to(&book, sim.member()).plan(waits_at(&gate()));
        // At its intervals, too.
        let member = member.set(|settings| settings.metrics_interval = millis(100)).start();
        sim.until("it processes", |world| world.monitor.calls() == 1).await;
        sleep(millis(200)).await;
        assert_eq!(book.gauge("kasper_in_flight_batches{partition=0}"), 1.0);
        assert_eq!(book.gauge("kasper_in_flight_batches{partition=1}"), 0.0);
        assert!(book.gauge("kasper_progress_age_seconds{partition=1}") >= 0.1);
        assert_eq!(book.gauge("kasper_stalled{partition=0}"), 0.0);
        sleep(millis(11_000)).await;
        assert_eq!(book.gauge("kasper_stalled{partition=0}"), 1.0);
        match crashes {
            true => member.crash().await,
            false => drop(member.close().await.unwrap()),
        }
        assert_eq!(book.raised(), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn failures_and_failed_commits_are_counted() {
    let (sim, book) = (Sim::new(Mode::Eager, &["a"], 1), Book::default());
    sim.world().commit_fates.push_back(CommitFate::Refused("COORDINATOR_NOT_AVAILABLE"));
    sim.produce(&at("a", 0), 1);
    let plan = |batch: &crate::Batch| match batch.iter().next().unwrap().offset().get() {
        0 => vec![],
        _ => vec![Step::Fail],
    };
    let member = reporting_to(&book, sim.member()).plan(plan).start();
    sim.all_committed().await;
    sim.produce(&at("a", 0), 1);
    assert_eq!(member.error().await.kind(), ErrorKind::Process);
    assert_eq!(book.counter("kasper_failures_total{kind=process failed}"), 1);
    assert_eq!(book.counter("kasper_commit_failures_total"), 1);
    let commits = book.counter("kasper_commits_total");
    assert!(commits >= 2);
    assert_eq!(book.samples("kasper_commit_seconds").len() as u64, commits);
}

#[tokio::test(start_paused = true)]
async fn help_and_unit_are_the_catalogues() {
    let (sim, book) = (Sim::new(Mode::Eager, &["a"], 1), Book::default());
    let member = reporting_to(&book, sim.member()).start();
    sim.settled().await;
    member.close().await.unwrap();
    let lag = crate::metrics::CATALOGUE.iter().find(|m| m.name == "kasper_lag_messages").unwrap();
    assert_eq!(book.help("kasper_lag_messages"), (Some(Unit::Count), lag.help.to_owned()));
    assert_eq!(book.help("kasper_process_seconds").0, Some(Unit::Seconds));
}

#[tokio::test(start_paused = true)]
async fn a_changed_topic_is_one_while_it_is_so() {
    let (sim, book) = (Sim::new(Mode::Eager, &["a"], 1), Book::default());
    let member = reporting_to(&book, sim.member()).start();
    sim.settled().await;
    let series = "kasper_topic_change{topic=a,change=deleted}";
    let id = sim.world().forget_topic("a");
    sleep(Duration::from_secs(15)).await;
    assert_eq!(book.gauge(series), 1.0);
    sim.world().remember_topic("a", id);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(book.gauge(series), 0.0);
    sim.world().delete_topic("a");
    assert_eq!(member.error().await.kind(), ErrorKind::UnknownTopic);
    assert_eq!(book.gauge(series), 0.0, "it is no longer kept up to date");
}

#[tokio::test(start_paused = true)]
async fn a_failed_last_commit_is_a_failure() {
    let (sim, book) = (Sim::new(Mode::Eager, &["a"], 1), Book::default());
    sim.produce(&at("a", 0), 1);
    let late = sim.member().set(|settings| settings.commit_interval = Duration::from_secs(60));
    let member = reporting_to(&book, late).start();
    sleep(millis(50)).await;
    sim.world().commit_fates.push_back(CommitFate::Held);
    assert_eq!(member.close().await.unwrap_err().kind(), ErrorKind::Commit);
    assert_eq!(book.counter("kasper_failures_total{kind=commit failed}"), 1);
}
