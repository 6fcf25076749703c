//! Nothing goes wrong.

use super::harness::{Sim, Step, at, millis};
use crate::broker::sim::Mode;

#[tokio::test(start_paused = true)]
async fn everything_is_processed_delivered_and_committed() {
    let sim = Sim::new(Mode::Eager, &["a", "b"], 2);
    for partition in [at("a", 0), at("a", 1), at("b", 0), at("b", 1)] {
        sim.produce(&partition, 50);
    }
    let member = sim.member().plan(|_| vec![Step::Send("out")]).start();
    sim.all_committed().await;
    let report = member.close().await.unwrap();
    assert_eq!(report.messages, 200);
    assert_eq!(sim.committed(&at("a", 0)), Some(50));
    assert!(sim.world().unfinished().is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_members_share_the_partitions() {
    for mode in [Mode::Eager, Mode::Incremental] {
        let sim = Sim::new(mode, &["a", "b"], 2);
        let partitions = sim.world().partitions();
        partitions.iter().for_each(|partition| sim.produce(partition, 50));
        let plan = |_: &crate::Batch| vec![Step::Sleep(millis(5)), Step::Send("out")];
        let first = sim.member().set(|s| s.batch.max_messages = 3).plan(plan).start();
        tokio::time::sleep(millis(30)).await;
        let second = sim.member().set(|s| s.batch.max_messages = 3).plan(plan).start();
        sim.all_committed().await;
        let messages = [first.close().await.unwrap(), second.close().await.unwrap()];
        assert!(messages.iter().all(|report| report.messages > 0));
        assert_eq!(messages.iter().map(|report| report.messages).sum::<u64>(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn caught_up_ends_at_the_end_of_the_log_and_behind_gaps() {
    let sim = Sim::new(Mode::Eager, &["a"], 3);
    sim.produce(&at("a", 0), 10);
    sim.world().append_gap(&at("a", 0), 3);
    sim.world().append_gap(&at("a", 1), 2);
    let report = sim.member().until_caught_up().start().end().await.unwrap();
    assert_eq!(report.messages, 10);
    assert!(sim.world().unfinished().is_empty());
}

/// An eager rebalance takes all partitions and brings them back; a member that looked in between saw
/// nothing left to consume, and `run_until_caught_up` returned.
#[tokio::test(start_paused = true)]
async fn caught_up_is_not_true_between_revocation_and_assignment() {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    sim.produce(&at("a", 0), 50);
    let member = sim
        .member()
        .set(|s| s.batch.max_messages = 1)
        .plan(|_| vec![Step::Sleep(millis(10))])
        .until_caught_up()
        .start();
    sim.until("it is at work", |world| world.monitor.calls() == 5).await;
    sim.world().rebalance();
    sim.until("all is given back", |world| world.is_between_assignments(member.id)).await;
    assert!(!member.handle.has_consumed_all());
    member.end().await.unwrap();
    assert!(sim.world().unfinished().is_empty());
}
