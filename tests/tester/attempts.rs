//! Which calls of `process` a message was given to, and how each ended.

use std::time::Duration;

use kasper::testkit::{Attempt, ProcessorTester};
use kasper::{Offset, TopicPartition};
use tokio::time::timeout;

use super::{Obedient, order, push_orders};

/// Of the first three orders.
fn attempts(tester: &ProcessorTester) -> [Vec<Attempt>; 3] {
    [0, 1, 2].map(|offset| tester.attempts("orders", Offset::new(offset)))
}

#[tokio::test]
async fn each_message_knows_its_own_attempts() {
    let mut tester = Obedient::default().tester().max_batch_messages(2);
    push_orders(&mut tester, &["1", "2", "3"]);
    tester.run_batch().await.unwrap();
    assert_eq!(attempts(&tester), [vec![Attempt::Succeeded], vec![Attempt::Succeeded], vec![]]);
    tester.run_all().await.unwrap();
    tester.replay().await.unwrap();
    // Only the last run comes again.
    let expected = [
        vec![Attempt::Succeeded],
        vec![Attempt::Succeeded],
        vec![Attempt::Succeeded, Attempt::Succeeded],
    ];
    assert_eq!(attempts(&tester), expected);
    assert_eq!(tester.attempts("profiles", Offset::new(0)), [], "another topic's offset");
}

#[tokio::test]
async fn errors_and_panics_are_told_apart() {
    for (value, ended) in [("fail", Attempt::Failed), ("panic", Attempt::Panicked)] {
        let mut tester = Obedient::default().tester();
        let offset = tester.push(order(value));
        tester.run_batch().await.unwrap_err();
        tester.assign();
        tester.run_batch().await.unwrap_err();
        assert_eq!(tester.attempts("orders", offset), [ended, ended]);
        assert_eq!(tester.committed_offsets().len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_dropped_is_not_the_one_that_succeeds() {
    let mut tester = Obedient::default().tester().partition(2);
    let offset = tester.push(order("sleep"));
    assert!(timeout(Duration::from_secs(10), tester.run_batch()).await.is_err());
    assert_eq!(tester.attempts("orders", offset), [Attempt::Running]);
    tester.lose().await;
    assert_eq!(tester.attempts("orders", offset), [Attempt::Dropped]);
    tester.assign();
    tester.run_batch().await.unwrap();
    assert_eq!(tester.attempts("orders", offset), [Attempt::Dropped, Attempt::Succeeded]);
    let committed = tester.committed_offsets();
    assert_eq!(committed[&TopicPartition::new("orders", 2)], Offset::new(1));
}

#[tokio::test]
async fn a_failed_delivery_is_not_a_failed_attempt() {
    let mut tester = Obedient::default().tester();
    let offset = tester.push(order("1"));
    tester.fail_delivery("out", "too large");
    tester.run_batch().await.unwrap_err();
    assert_eq!(tester.attempts("orders", offset), [Attempt::Succeeded]);
    assert_eq!((tester.outgoing().len(), tester.committed("orders")), (0, None));
}

#[tokio::test]
async fn a_process_that_waits_for_held_acks_is_running() {
    let mut tester = Obedient::default().tester();
    tester.hold_acks();
    push_orders(&mut tester, &["1", "flush"]);
    tester.run_batch().await.unwrap();
    assert_eq!(tester.attempts("orders", Offset::new(0)), [Attempt::Running]);
    tester.release_acks().await.unwrap();
    assert_eq!(tester.attempts("orders", Offset::new(0)), [Attempt::Succeeded]);
}
