//! What becomes of what `process` sends, with a producer that does as it is told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};

use super::*;
use crate::broker::tests::record;
use crate::message::undelivered::DeliveryFailure;
use crate::metrics::Metrics;
use crate::metrics::book::Book;
use crate::metrics::processor::ProcessorMetrics;

/// Acknowledges at once, but for the deliveries that are to fail.
#[derive(Default)]
struct Acknowledging {
    calls: AtomicUsize,
    /// Numbers of calls of `produce`, from 1.
    failing: Vec<usize>,
    /// For so many calls the queue is full.
    full: Mutex<usize>,
}

impl Producer for Acknowledging {
    fn produce(&self, delivery: &Arc<Delivery>) -> Handover {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let mut full = self.full.lock().unwrap();
        if *full > 0 {
            *full -= 1;
            return Handover::QueueFull;
        }
        if self.failing.contains(&call) {
            delivery.fail(DeliveryFailure::new("out", "refused"));
        }
        let left = delivery.len() - delivery.next();
        delivery.handed_over(delivery.len());
        delivery.count_down(left);
        Handover::Complete
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(1)))
    }
}

struct Fixture {
    context: Context,
    producer: Arc<Acknowledging>,
    book: Book,
    commands: watch::Sender<Command>,
}

impl Fixture {
    fn new(producer: Acknowledging) -> Self {
        let (producer, book) = (Arc::new(producer), Book::default());
        let metrics = ProcessorMetrics::new(&Metrics::new("test", book.clone()));
        let topics: Arc<[Arc<str>]> = ["in".into()].into();
        let metrics = LaneMetrics::new(metrics, &topics, 0);
        let (commands, received) = watch::channel(Command::Run);
        let close = Arc::new(|| {});
        let mut context =
            Context::new(0, producer.clone(), LetterWriter::off(), close, metrics, received);
        let batch = Batch::new(0, topics, vec![record(0, 0, 1)], 1, None);
        context.begin(Some(Arc::new(batch)), None, 1);
        Self { context, producer, book, commands }
    }

    fn send(&mut self, bytes: usize) {
        self.context.send(OutgoingMessage::new("out").value(vec![0; bytes]));
    }

    fn acknowledged(&self) -> u64 {
        self.book.counter("kasper_outgoing_messages_total{topic=out,partition=0}")
    }

    fn produced(&self) -> usize {
        self.producer.calls.load(Ordering::SeqCst)
    }
}

/// Deliveries stayed until `process` returned, and each flush went through all of them again.
#[tokio::test]
async fn a_flush_gives_its_memory_back_and_hands_over_only_what_is_new() {
    let mut fixture = Fixture::new(Acknowledging::default());
    for _ in 0..200 {
        fixture.send(1 << 20);
        fixture.context.flush().await.unwrap();
        assert_eq!(fixture.context.deliveries.len(), 0);
    }
    assert_eq!(fixture.produced(), 200);
    fixture.context.hand_over().await.unwrap();
    assert_eq!(fixture.context.end().len(), 0);
    assert_eq!(fixture.acknowledged(), 200, "each message is counted, and once");
}

#[tokio::test]
async fn a_failed_flush_fails_every_later_one_and_the_batch() {
    for failing in [1, 2, 3] {
        let producer = Acknowledging { failing: vec![failing], ..Acknowledging::default() };
        let mut fixture = Fixture::new(producer);
        for flush in 1..=3 {
            fixture.send(10);
            assert_eq!(fixture.context.flush().await.is_err(), flush >= failing, "{flush}");
        }
        fixture.send(10);
        fixture.context.hand_over().await.unwrap();
        let deliveries = fixture.context.end();
        assert_eq!(deliveries.len(), 2, "the failed one, and what was not flushed");
        assert!(deliveries[0].result().is_err());
        assert_eq!(fixture.acknowledged(), 2);
    }
}

#[tokio::test]
async fn a_failure_is_of_its_batch_alone() {
    let producer = Acknowledging { failing: vec![1], ..Acknowledging::default() };
    let mut fixture = Fixture::new(producer);
    fixture.send(10);
    fixture.context.flush().await.unwrap_err();
    let batch = Batch::new(0, ["in".into()].into(), vec![record(0, 1, 1)], 1, None);
    fixture.context.begin(Some(Arc::new(batch)), None, 1);
    fixture.send(10);
    fixture.context.flush().await.unwrap();
    assert_eq!(fixture.context.end().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_is_dropped_while_the_queue_is_full_goes_on_where_it_was() {
    let mut fixture = Fixture::new(Acknowledging { full: Mutex::new(5), ..Default::default() });
    fixture.send(10);
    let dropped = timeout(Duration::from_millis(2), fixture.context.flush()).await;
    assert!(dropped.is_err());
    fixture.send(10);
    fixture.context.flush().await.unwrap();
    assert_eq!(fixture.acknowledged(), 2);
    assert_eq!(fixture.produced(), 7, "five refused, two taken");
}

/// A `process` that blocked its thread has seen nothing of the command that it meets here.
#[tokio::test(start_paused = true)]
async fn nothing_is_produced_once_the_partition_may_be_given_away() {
    for command in [Command::Stop, Command::Drain(Some(Instant::now()))] {
        let mut fixture = Fixture::new(Acknowledging::default());
        fixture.send(10);
        fixture.commands.send_replace(command);
        // It ends: the call may block its thread on it.
        let flushed = timeout(Duration::from_secs(3600), fixture.context.flush()).await;
        assert!(flushed.unwrap().is_err(), "{command:?}");
        assert_eq!(fixture.produced(), 0, "{command:?}");
    }
    let mut fixture = Fixture::new(Acknowledging::default());
    fixture.send(10);
    fixture.commands = watch::Sender::new(Command::Run);
    assert!(fixture.context.flush().await.is_err());
    assert_eq!(fixture.produced(), 0, "the topic processor is gone");
    let mut fixture = Fixture::new(Acknowledging::default());
    fixture.send(10);
    let deadline = Instant::now() + Duration::from_secs(1);
    fixture.commands.send_replace(Command::Drain(Some(deadline)));
    fixture.context.flush().await.unwrap();
    assert_eq!(fixture.produced(), 1, "draining, before the deadline");
}
