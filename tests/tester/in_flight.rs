//! Acks and failed deliveries.

use std::time::Duration;

use kasper::{ErrorKind, Offset};
use tokio::time::{Instant, timeout};

use super::{Obedient, push_orders, values};

#[tokio::test]
async fn a_failed_delivery_fails_its_batch() {
    let obedient = Obedient::default();
    let mut tester = obedient.tester().max_batch_messages(2);
    push_orders(&mut tester, &["1", "2", "3", "4"]);
    tester.run_batch().await.unwrap();
    tester.fail_delivery("elsewhere", "never sent to");
    tester.fail_delivery("out", "too large");
    let error = tester.run_batch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Delivery);
    assert!(error.to_string().contains("too large"), "{error}");
    assert_eq!(error.get("topic"), Some("out"));
    assert_eq!(error.get("batch"), Some("orders/0 2..=3"));
    assert_eq!(tester.committed("orders"), Some(Offset::new(2)));
    assert_eq!(values(&tester.take_outgoing()), ["1", "2", "4"], "the others went out");

    assert_eq!(tester.replay().await.unwrap(), 2, "the failure was for one message only");
    assert_eq!(values(&tester.take_outgoing()), ["3", "4"]);
}

#[tokio::test]
async fn a_failed_flush_fails_the_batch() {
    let mut tester = Obedient::default().tester();
    tester.fail_delivery("out", "too large");
    push_orders(&mut tester, &["1", "flush", "2"]);
    let error = tester.run_batch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process, "`process` passed it on");
    assert!(error.find::<kasper::Error>().is_some_and(|e| e.kind() == ErrorKind::Delivery));
    assert!(tester.outgoing().is_empty());
}

#[tokio::test]
async fn an_earlier_batch_that_fails_stops_the_later_ones() {
    let mut tester = Obedient::default().tester().max_batch_messages(1);
    tester.hold_acks();
    push_orders(&mut tester, &["1", "2", "3"]);
    tester.run_batch().await.unwrap();
    tester.fail_delivery("out", "too large");
    tester.run_all().await.unwrap();
    assert_eq!(tester.in_flight(), 3);
    let error = tester.release_acks().await.unwrap_err();
    assert_eq!(error.get("batch"), Some("orders/0 1..=1"));
    assert_eq!(tester.committed("orders"), Some(Offset::new(1)));
    assert_eq!(values(&tester.outgoing()), ["1", "3"], "3 was on its way already");
}

#[tokio::test]
async fn an_error_waits_for_the_acks_of_earlier_batches() {
    let mut tester = Obedient::default().tester().max_batch_messages(1);
    tester.hold_acks();
    push_orders(&mut tester, &["1", "fail", "2"]);
    assert_eq!(tester.run_all().await.unwrap(), 2);
    assert_eq!(tester.run_all().await.unwrap(), 0, "no batch is begun after the failed one");
    let error = tester.release_acks().await.unwrap_err();
    assert_eq!((error.kind(), error.get("offsets")), (ErrorKind::Process, Some("1..=1")));
    assert_eq!(tester.committed("orders"), Some(Offset::new(1)), "the earlier one is committed");
}

#[tokio::test(start_paused = true)]
async fn a_process_is_dropped_when_an_earlier_delivery_fails() {
    let mut tester = Obedient::default().tester().max_batch_messages(1);
    tester.hold_acks();
    tester.fail_delivery("out", "too large");
    push_orders(&mut tester, &["1", "sleep"]);
    let run = timeout(Duration::from_secs(10), tester.run_all()).await;
    assert!(run.is_err());
    let released = Instant::now();
    let error = tester.release_acks().await.unwrap_err();
    assert_eq!((error.kind(), released.elapsed()), (ErrorKind::Delivery, Duration::ZERO));
}

#[tokio::test]
async fn only_so_many_batches_are_in_flight() {
    let obedient = Obedient::default();
    let mut tester = obedient.tester().max_batch_messages(1).max_in_flight(2);
    tester.hold_acks();
    push_orders(&mut tester, &["1", "2", "3"]);
    assert_eq!(tester.run_all().await.unwrap(), 2);
    assert_eq!((tester.in_flight(), tester.pending()), (2, 1));
    assert_eq!(tester.run_all().await.unwrap(), 0);
    assert_eq!(tester.committed("orders"), None);
    tester.release_acks().await.unwrap();
    assert_eq!((tester.in_flight(), tester.pending()), (0, 1));
    assert_eq!(tester.committed("orders"), Some(Offset::new(2)));
    assert_eq!(tester.run_all().await.unwrap(), 1);
    assert_eq!(obedient.seen(), [["1"], ["2"], ["3"]]);
}

#[tokio::test]
async fn a_flush_waits_for_held_acks() {
    let mut tester = Obedient::default().tester();
    tester.hold_acks();
    push_orders(&mut tester, &["1", "flush", "2"]);
    assert_eq!(tester.run_batch().await.unwrap(), 3);
    assert_eq!(values(&tester.outgoing()), ["1"], "it waits in `flush`");
    assert_eq!(tester.run_all().await.unwrap(), 0);
    assert_eq!((tester.in_flight(), tester.committed("orders")), (1, None));
    tester.release_acks().await.unwrap();
    assert_eq!(values(&tester.outgoing()), ["1", "2"]);
    assert_eq!((tester.in_flight(), tester.committed("orders")), (0, Some(Offset::new(3))));
}

#[tokio::test]
async fn many_small_batches_in_one_run() {
    // Tokio lets a future that has used up its budget wait without a reason; the tester must not
    // take that for a lane that waits for the test.
    let mut tester = Obedient::default().tester().max_batch_messages(2);
    for _ in 0..1_000 {
        push_orders(&mut tester, &["1", "budget"]);
    }
    assert_eq!(tester.run_all().await.unwrap(), 2_000);
    assert_eq!(tester.outgoing().len(), 1_000);
    assert_eq!(tester.committed("orders"), Some(Offset::new(2_000)));
}
