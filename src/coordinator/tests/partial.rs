//! Part of a lane's topics comes or goes; the rest goes on.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::harness::{Member, Sim, Step, at, gate, millis, waits_at_then};
use crate::PartitionState;
use crate::broker::sim::{Mode, World};

/// `a/0` and `b/0` are the first member's, who takes up to five messages a batch and waits at the
/// gate with each; the second member has nothing yet.
struct Setup {
    sim: Sim,
    gate: Arc<Semaphore>,
    first: Member,
    second: Member,
}

impl Setup {
    async fn new() -> Self {
        let sim = Sim::new(Mode::Incremental, &["a", "b"], 1);
        let gate = gate();
        let first = sim
            .member()
            .set(|s| s.batch.max_messages = 5)
            .plan(waits_at_then(&gate, vec![Step::Send("out")]))
            .start();
        let second = sim.member().start();
        sleep(millis(50)).await;
        sim.give(&[(at("a", 0), first.id), (at("b", 0), first.id)]);
        sleep(millis(50)).await;
        sim.settled().await;
        Self { sim, gate, first, second }
    }

    /// Twelve messages each, mixed, of which the first five are in process.
    async fn fill(&self) {
        for _ in 0..12 {
            self.sim.produce(&at("a", 0), 1);
            self.sim.produce(&at("b", 0), 1);
        }
        self.sim.until("a batch is in process", |world| world.monitor.running() == 1).await;
        sleep(millis(20)).await;
    }

    /// `b/0` begins to move to the second member.
    async fn move_b(&self) {
        self.sim.give(&[(at("a", 0), self.first.id), (at("b", 0), self.second.id)]);
        let first = self.first.id;
        self.sim.until("it is asked", |world| world.is_asked_to_give_back(first)).await;
    }

    async fn b_has_moved(&self) {
        let second = self.second.id;
        let moved = |world: &mut World| world.assigned(second) == [at("b", 0)];
        self.sim.until("it has moved", moved).await;
    }

    /// From now on `b/0` is nobody's.
    async fn take_b(&self) {
        self.sim.give(&[(at("a", 0), self.first.id)]);
        sleep(millis(50)).await;
        self.sim.settled().await;
    }

    async fn processes_the_rest_once(&self) {
        self.gate.add_permits(1000);
        self.sim.all_committed().await;
        let all: Vec<i64> = (0..12).collect();
        assert_eq!(self.sim.processed(&at("a", 0)), all);
        assert_eq!(self.sim.processed(&at("b", 0)), all);
    }

    async fn finish(self) {
        self.gate.add_permits(1000);
        self.sim.all_committed().await;
        self.first.close().await.unwrap();
        self.second.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_clean_drain_nothing_of_the_other_topic_is_lost_or_doubled() {
    let setup = Setup::new().await;
    setup.fill().await;
    setup.move_b().await;
    setup.gate.add_permits(1);
    setup.b_has_moved().await;
    setup.processes_the_rest_once().await;
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn after_the_deadline_the_other_topic_goes_back_to_what_is_finished() {
    let setup = Setup::new().await;
    setup.gate.add_permits(1);
    setup.sim.produce(&at("a", 0), 3);
    setup.sim.until("a batch is finished", |world| world.unfinished().is_empty()).await;
    setup.fill().await;
    setup.move_b().await;
    setup.b_has_moved().await;
    assert_eq!(setup.sim.committed(&at("b", 0)), Some(0));
    sleep(millis(50)).await;
    let processed = setup.sim.processed(&at("a", 0));
    let again = processed.iter().filter(|offset| **offset == 3).count();
    assert_eq!(again, 2, "given up, and begun again: {processed:?}");
    assert_eq!(processed.iter().filter(|offset| **offset < 3).count(), 3, "not the finished ones");
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_comes_joins_the_lane_and_nothing_is_lost_or_doubled() {
    let setup = Setup::new().await;
    setup.take_b().await;
    setup.fill().await;
    let values = setup.sim.world().monitor.incarnations();
    setup.sim.give(&[(at("a", 0), setup.first.id), (at("b", 0), setup.first.id)]);
    sleep(millis(50)).await;
    assert_eq!(setup.first.handle.status().partitions[0].state, PartitionState::Draining);
    let of_b = setup.sim.processed(&at("b", 0));
    assert!(of_b.is_empty(), "the lane finishes what it has: {of_b:?}");
    setup.processes_the_rest_once().await;
    assert_eq!(setup.sim.world().monitor.incarnations(), values + 1, "a fresh processor");
    setup.finish().await;
}

/// The lane is still finishing because of the topic that came when that is taken again.
#[tokio::test(start_paused = true)]
async fn a_topic_that_comes_and_goes_while_the_lane_is_busy() {
    let setup = Setup::new().await;
    setup.take_b().await;
    setup.fill().await;
    setup.sim.give(&[(at("a", 0), setup.first.id), (at("b", 0), setup.first.id)]);
    sleep(millis(50)).await;
    setup.move_b().await;
    setup.gate.add_permits(1);
    setup.b_has_moved().await;
    setup.gate.add_permits(1000);
    setup.sim.all_committed().await;
    let all: Vec<i64> = (0..12).collect();
    assert_eq!(setup.sim.processed(&at("a", 0)), all);
    setup.finish().await;
}

/// Its messages that are still in the queue or the buffer are outdated then.
#[tokio::test(start_paused = true)]
async fn a_topic_that_goes_and_comes_back_begins_where_it_is_committed() {
    let setup = Setup::new().await;
    setup.fill().await;
    setup.move_b().await;
    setup.sim.give(&[(at("a", 0), setup.first.id), (at("b", 0), setup.first.id)]);
    setup.gate.add_permits(1);
    sleep(millis(100)).await;
    setup.sim.settled().await;
    setup.gate.add_permits(1000);
    setup.sim.all_committed().await;
    assert_eq!(setup.sim.processed(&at("b", 0)), (0..12).collect::<Vec<_>>());
    setup.finish().await;
}

#[tokio::test(start_paused = true)]
async fn other_lanes_are_not_disturbed() {
    let sim = Sim::new(Mode::Incremental, &["a"], 2);
    let first = sim.member().start();
    sim.give(&[(at("a", 0), first.id), (at("a", 1), first.id)]);
    sleep(millis(50)).await;
    sim.produce(&at("a", 0), 1);
    sim.produce(&at("a", 1), 1);
    sleep(millis(50)).await;
    assert_eq!(sim.world().monitor.incarnations(), 2);
    sim.give(&[(at("a", 0), first.id)]);
    sleep(millis(50)).await;
    sim.settled().await;
    sim.produce(&at("a", 0), 1);
    sleep(millis(200)).await;
    assert_eq!(sim.world().monitor.incarnations(), 2, "it is still the same processor");
    let left: Vec<_> = first.handle.status().partitions;
    assert_eq!(left.len(), 1);
    first.close().await.unwrap();
}
