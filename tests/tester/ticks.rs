//! Ticks and `closing`.

use std::time::Duration;

use kasper::testkit::ProcessorTester;
use kasper::{Batch, BoxError, Context, ErrorKind, Offset, OutgoingMessage, Processor};
use tokio::time::{sleep, timeout};

use super::{push_orders, values};

/// Sends how many messages it got, and sleeps as long as it is told.
#[derive(Clone, Default)]
struct Summary {
    messages: usize,
    sleeps: Duration,
    fails: bool,
}

impl Summary {
    async fn send(&mut self, context: &mut Context) -> Result<(), BoxError> {
        sleep(self.sleeps).await;
        context.send(OutgoingMessage::new("out").value(self.messages.to_string()));
        if self.fails { Err("as told".into()) } else { Ok(()) }
    }

    fn tester(&self) -> ProcessorTester {
        let processor = self.clone();
        ProcessorTester::new(["orders"], move |_| processor.clone())
    }
}

impl Processor for Summary {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        self.messages += batch.len();
        Ok(())
    }

    async fn tick(&mut self, context: &mut Context) -> Result<(), BoxError> {
        self.send(context).await
    }

    async fn closing(&mut self, context: &mut Context) -> Result<(), BoxError> {
        self.send(context).await
    }
}

#[tokio::test]
async fn a_tick_comes_when_it_is_asked_for_and_not_otherwise() {
    let mut tester = Summary::default().tester();
    push_orders(&mut tester, &["1", "2"]);
    tester.run_all().await.unwrap();
    assert!(tester.outgoing().is_empty());
    tester.tick().await.unwrap();
    tester.tick().await.unwrap();
    assert_eq!(values(&tester.take_outgoing()), ["2", "2"]);
    assert_eq!((tester.batches(), tester.in_flight()), (1, 0));
    assert_eq!(tester.committed("orders"), Some(Offset::new(2)));
}

#[tokio::test(start_paused = true)]
async fn a_tick_may_take_its_time() {
    let mut tester = Summary { sleeps: Duration::from_secs(60), ..Summary::default() }.tester();
    tester.tick().await.unwrap();
    assert_eq!(values(&tester.outgoing()), ["0"]);
    let cut_short = timeout(Duration::from_secs(1), tester.tick()).await;
    assert!(cut_short.is_err());
    push_orders(&mut tester, &["1"]);
    tester.run_batch().await.unwrap();
    assert_eq!(values(&tester.outgoing()), ["0", "0"], "the next run goes on with it");
}

#[tokio::test]
async fn a_tick_that_fails_ends_the_processor() {
    let mut tester = Summary { fails: true, ..Summary::default() }.tester();
    let error = tester.tick().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process);
    assert_eq!(
        format!("{error:#}"),
        "process failed: tick returned an error (partition=0): as told"
    );
    assert!(tester.outgoing().is_empty(), "of a call that fails, nothing is sent");
    assert_eq!(tester.tick().await.unwrap_err().kind(), ErrorKind::InvalidInput, "not assigned");
}

#[tokio::test]
async fn a_tick_whose_message_is_not_delivered_ends_the_processor() {
    let mut tester = Summary::default().tester();
    tester.fail_delivery("out", "too large");
    let error = tester.tick().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Delivery);
    assert_eq!(error.get("sent_by"), Some("tick"));
}

#[tokio::test]
async fn what_is_processed_after_a_tick_is_committed_after_its_acks() {
    let mut tester = Summary::default().tester();
    tester.hold_acks();
    tester.tick().await.unwrap();
    push_orders(&mut tester, &["1"]);
    tester.run_batch().await.unwrap();
    assert_eq!((tester.committed("orders"), tester.in_flight()), (None, 1));
    tester.release_acks().await.unwrap();
    assert_eq!((tester.committed("orders"), tester.in_flight()), (Some(Offset::new(1)), 0));
}

#[tokio::test]
async fn ticks_that_wait_are_not_lost_and_go_with_their_processor() {
    let mut tester = Summary::default().tester();
    tester.hold_acks();
    for _ in 0..3 {
        tester.tick().await.unwrap();
    }
    tester.release_acks().await.unwrap();
    assert_eq!(tester.take_outgoing().len(), 3);
    tester.hold_acks();
    tester.tick().await.unwrap();
    tester.tick().await.unwrap();
    tester.crash();
    tester.assign();
    push_orders(&mut tester, &["1"]);
    tester.take_outgoing();
    tester.release_acks().await.unwrap();
    tester.run_batch().await.unwrap();
    assert!(
        tester.outgoing().is_empty(),
        "the second tick was asked of the processor that crashed"
    );
}

#[tokio::test]
async fn a_replay_after_a_tick_begins_where_the_last_run_did() {
    let mut tester = Summary::default().tester();
    push_orders(&mut tester, &["1", "2"]);
    tester.run_all().await.unwrap();
    tester.tick().await.unwrap();
    assert_eq!(tester.replay().await.unwrap(), 2);
}

#[tokio::test]
async fn closing_comes_at_a_revocation_and_not_at_a_loss_or_crash() {
    let mut tester = Summary::default().tester();
    push_orders(&mut tester, &["1"]);
    tester.run_batch().await.unwrap();
    tester.revoke().await.unwrap();
    assert_eq!(values(&tester.take_outgoing()), ["1"]);
    tester.assign();
    push_orders(&mut tester, &["2"]);
    tester.run_batch().await.unwrap();
    tester.lose().await;
    tester.assign();
    tester.run_batch().await.unwrap();
    tester.crash();
    assert!(tester.outgoing().is_empty());
}

#[tokio::test]
async fn closing_that_fails_is_an_error_of_the_revocation() {
    let mut tester = Summary { fails: true, ..Summary::default() }.tester();
    push_orders(&mut tester, &["1"]);
    tester.run_batch().await.unwrap();
    let error = tester.revoke().await.unwrap_err();
    assert!(error.to_string().contains("closing returned an error"), "{error}");
    assert_eq!(tester.committed("orders"), Some(Offset::new(1)));
}

#[tokio::test(start_paused = true)]
async fn closing_past_the_drain_deadline_is_dropped() {
    let slow = Summary { sleeps: Duration::from_secs(60), ..Summary::default() };
    let mut tester = slow.tester().drain_deadline(Duration::from_secs(5));
    push_orders(&mut tester, &["1"]);
    tester.run_batch().await.unwrap();
    tester.revoke().await.unwrap();
    assert!(tester.outgoing().is_empty());
    assert_eq!(tester.committed("orders"), Some(Offset::new(1)), "it was finished before");
}
