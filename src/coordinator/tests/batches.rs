//! How large batches become.

use std::sync::{Arc, Mutex};

use super::harness::{MemberSetup, Plan, Sim, Step, at, millis};
use crate::broker::sim::Mode;

/// The largest batch of 20,000 messages, and the first one.
async fn sizes(plan: Plan, set: impl FnOnce(MemberSetup) -> MemberSetup) -> (usize, usize) {
    let sim = Sim::new(Mode::Eager, &["a"], 1);
    {
        let weather = &mut sim.world().weather;
        weather.fetched = 20_000..=20_000;
        weather.queue_limit = 20_000;
        weather.producer_queue = 100_000;
    }
    sim.produce(&at("a", 0), 20_000);
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let noted = sizes.clone();
    let member = sim.member().set(|s| s.batch.max_messages = 10_000).plan(move |batch| {
        noted.lock().unwrap().push(batch.len());
        plan.clone()
    });
    let member = set(member).start();
    sim.all_committed().await;
    member.close().await.unwrap();
    let sizes = sizes.lock().unwrap();
    (sizes.iter().max().copied().unwrap(), sizes[0])
}

#[tokio::test(start_paused = true)]
async fn a_process_that_never_waits_gets_small_batches() {
    assert_eq!(sizes(Plan::new(), |member| member).await, (2000, 2000));
}

#[tokio::test(start_paused = true)]
async fn batches_grow_while_process_waits() {
    let (largest, first) = sizes(vec![Step::Sleep(millis(10))], |member| member).await;
    assert_eq!(first, 2000);
    assert!(largest > 4000, "{largest}");
}

#[tokio::test(start_paused = true)]
async fn batches_grow_where_one_has_to_be_finished_before_the_next_begins() {
    let one = |member: MemberSetup| member.set(|s| s.in_flight.max_batches = 1);
    let (largest, first) = sizes(vec![Step::Send("out")], one).await;
    assert_eq!(first, 2000);
    assert!(largest > 4000, "{largest}");
}

#[tokio::test(start_paused = true)]
async fn fixed_limits_hold_from_the_beginning() {
    let fixed = |member: MemberSetup| member.set(|s| s.batch.is_fixed = true);
    assert_eq!(sizes(Plan::new(), fixed).await, (10_000, 10_000));
}
