//! The processor tester, used as a user of the library does.
#![allow(clippy::unwrap_used, reason = "tests")]

mod attempts;
mod concurrent;
mod forwarding;
mod in_flight;
mod on_error;
mod quarantine;
mod rebalance;
mod ticks;

use std::error::Error as _;
use std::num::ParseIntError;
use std::str;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kasper::testkit::{ProcessorTester, TestMessage};
use kasper::{
    Batch, BoxError, Context, ErrorKind, Offset, OutgoingMessage, Processor, ProcessorFactory,
    StartContext,
};
use tokio::time::{Instant, sleep, timeout};

fn text(bytes: Option<&[u8]>) -> &str {
    str::from_utf8(bytes.unwrap_or_default()).unwrap()
}

fn values(outgoing: &[TestMessage]) -> Vec<&str> {
    outgoing.iter().map(|message| message.value_text().unwrap()).collect()
}

fn order(value: &str) -> TestMessage {
    TestMessage::new("orders").value(value)
}

fn push_orders(tester: &mut ProcessorTester, values: &[&str]) {
    for value in values {
        tester.push(order(value));
    }
}

/// Does what the values of the messages say:
/// a number: sends it on; `-`: nothing; `flush`; `fail`: returns an error; `panic`; `sleep`: for a
/// minute; `budget`: takes one step of tokio's cooperative budget; `close`.
#[derive(Clone, Default)]
struct Obedient {
    /// Values per call, all calls of all processors.
    seen: Arc<Mutex<Vec<Vec<String>>>>,
    made: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

impl Obedient {
    fn tester(&self) -> ProcessorTester {
        let shared = self.clone();
        ProcessorTester::new(["orders", "profiles"], move |_| {
            shared.made.fetch_add(1, Ordering::Relaxed);
            DropCounted(shared.clone())
        })
    }

    fn seen(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn made_and_dropped(&self) -> (usize, usize) {
        (self.made.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }
}

struct DropCounted(Obedient);

impl Drop for DropCounted {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Processor for DropCounted {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let values: Vec<&str> = batch.iter().map(|message| text(message.value())).collect();
        self.0.seen.lock().unwrap().push(values.iter().map(ToString::to_string).collect());
        for value in values {
            match value {
                "-" => {}
                "flush" => context.flush().await?,
                "fail" => drop("12x".parse::<u32>()?),
                "panic" => panic!("told to"),
                "sleep" => sleep(Duration::from_secs(60)).await,
                "budget" => tokio::task::consume_budget().await,
                "close" => context.close(),
                number => context.send(OutgoingMessage::new("out").value(number)),
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_batch_is_what_was_pushed() {
    let obedient = Obedient::default();
    let mut tester = obedient.tester();
    push_orders(&mut tester, &["1", "2"]);
    tester.push(TestMessage::new("profiles").value("3"));
    assert_eq!(tester.run_batch().await.unwrap(), 3);
    push_orders(&mut tester, &["4"]);
    assert_eq!(tester.run_batch().await.unwrap(), 1);
    assert_eq!(tester.run_batch().await.unwrap(), 0, "nothing was pushed");
    assert_eq!(obedient.seen(), [vec!["1", "2", "3"], vec!["4"]]);
    assert_eq!(values(&tester.take_outgoing()), ["1", "2", "3", "4"]);
    assert!(tester.outgoing().is_empty());
    assert_eq!(tester.committed("orders"), Some(Offset::new(3)));
    assert_eq!(tester.committed("profiles"), Some(Offset::new(1)));
    assert_eq!((tester.pending(), tester.in_flight(), tester.batches()), (0, 0, 2));
}

#[tokio::test]
async fn batches_are_cut_at_the_limit() {
    let obedient = Obedient::default();
    let mut tester = obedient.tester().max_batch_messages(2);
    push_orders(&mut tester, &["1", "2", "3", "4", "5"]);
    assert_eq!(tester.run_batch().await.unwrap(), 2);
    assert_eq!(tester.committed("orders"), Some(Offset::new(2)));
    assert_eq!(tester.pending(), 3);
    assert_eq!(tester.run_all().await.unwrap(), 3);
    assert_eq!(obedient.seen(), [vec!["1", "2"], vec!["3", "4"], vec!["5"]]);
}

#[tokio::test]
async fn offsets_may_leave_gaps() {
    let mut tester = Obedient::default().tester();
    tester.push(order("1").offset(10));
    tester.push(order("2"));
    tester.push(order("3").offset(100));
    tester.run_all().await.unwrap();
    assert_eq!(tester.committed("orders"), Some(Offset::new(101)));
    assert_eq!(tester.committed("profiles"), None);
}

#[tokio::test]
#[should_panic(expected = "offset 3 in `orders`, where the next is 6")]
async fn an_offset_that_goes_back_is_refused() {
    let mut tester = Obedient::default().tester();
    tester.push(order("1").offset(5));
    tester.push(order("2").offset(3));
}

#[tokio::test]
#[should_panic(expected = "`order` is none of the input topics [\"orders\", \"profiles\"]")]
async fn an_unknown_topic_is_refused() {
    Obedient::default().tester().push(TestMessage::new("order"));
}

/// Enriches and routes: everything that can be said in an outgoing message.
struct Router;

impl Processor for Router {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for message in batch.topic("orders") {
            context.forward("audit", &message);
        }
        for message in batch.topic("profiles") {
            let key = message.key().ok_or("a profile has no key")?;
            match message.value() {
                None => context.send(OutgoingMessage::tombstone("names", key)),
                Some(name) => {
                    let name = OutgoingMessage::new("names").key(key).value(name);
                    context.send(name.partition(context.partition()).null_header("checked"));
                }
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn outgoing_messages_are_seen_in_full() {
    let mut tester = ProcessorTester::new(["orders", "profiles"], |_| Router).partition(3);
    let headers = |message: TestMessage| {
        message.header("lang", "en").null_header("trace").header("lang", b"\xff")
    };
    tester.push(headers(order("7").key("42").timestamp(5)));
    tester.push(TestMessage::new("profiles").key("42").value("Ada"));
    tester.push(TestMessage::tombstone("profiles", "42"));
    tester.run_batch().await.unwrap();
    let outgoing = tester.take_outgoing();
    let expected = [
        headers(TestMessage::new("audit").key("42").value("7").timestamp(5)),
        TestMessage::new("names").key("42").value("Ada").partition(3).null_header("checked"),
        TestMessage::tombstone("names", "42"),
    ];
    assert_eq!(outgoing, expected);
    assert_eq!(outgoing[0].header_value("lang"), Some(&b"\xff"[..]), "the last one counts");
    assert_eq!(outgoing[0].header_value("trace"), None);
    assert_eq!(outgoing[2].value, None);
    assert_ne!(outgoing[0], expected[1]);
}

#[tokio::test]
async fn one_processors_outgoing_messages_feed_the_next() {
    let mut first = ProcessorTester::new(["orders", "profiles"], |_| Router);
    first.push(order("7").key("42").header("lang", "en"));
    first.run_batch().await.unwrap();
    let obedient = Obedient::default();
    let shared = obedient.clone();
    let mut second = ProcessorTester::new(["audit"], move |_| DropCounted(shared.clone()));
    for message in first.take_outgoing() {
        second.push(message);
    }
    second.run_batch().await.unwrap();
    assert_eq!(obedient.seen(), [["7"]]);
}

#[tokio::test]
async fn what_was_flushed_stays_sent_when_the_batch_fails() {
    let obedient = Obedient::default();
    let mut tester = obedient.tester();
    push_orders(&mut tester, &["1", "flush", "2", "fail"]);
    tester.run_batch().await.unwrap_err();
    assert_eq!(values(&tester.take_outgoing()), ["1"]);
    assert_eq!(tester.committed("orders"), None);
}

#[tokio::test]
async fn an_error_says_where_and_keeps_its_cause() {
    let obedient = Obedient::default();
    let mut tester = obedient.tester().partition(3).max_batch_messages(2);
    push_orders(&mut tester, &["1", "2", "3", "fail", "5"]);
    let error = tester.run_all().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process);
    assert_eq!(error.get("topic"), Some("orders"));
    assert_eq!(error.get("partition"), Some("3"));
    assert_eq!(error.get("offsets"), Some("2..=3"));
    assert!(error.source().unwrap().downcast_ref::<ParseIntError>().is_some());

    assert_eq!(values(&tester.take_outgoing()), ["1", "2"], "nothing of the failed batch is sent");
    assert_eq!(tester.committed("orders"), Some(Offset::new(2)), "what finished is committed");
    assert_eq!(obedient.made_and_dropped(), (1, 1));
    let error = tester.run_all().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");

    obedient.seen();
    tester.assign();
    tester.run_all().await.unwrap_err();
    assert_eq!(obedient.seen(), [["3", "fail"]], "it goes on behind what is committed");
}

#[tokio::test]
async fn a_panic_is_an_error() {
    let mut tester = Obedient::default().tester();
    push_orders(&mut tester, &["1", "panic"]);
    let error = tester.run_batch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panic);
    assert!(error.to_string().contains("told to"), "{error}");
    assert_eq!(error.get("offsets"), Some("0..=1"));
    assert_eq!((tester.outgoing().len(), tester.committed("orders")), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_slow_process_takes_its_time() {
    let mut tester = Obedient::default().tester();
    push_orders(&mut tester, &["1", "sleep", "2"]);
    let started = Instant::now();
    tester.run_batch().await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 60, "and not a second more");
    assert_eq!(tester.committed("orders"), Some(Offset::new(3)));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_run_leaves_the_batch_in_process() {
    let obedient = Obedient::default();
    let mut tester = obedient.tester();
    push_orders(&mut tester, &["1", "sleep"]);
    let run = timeout(Duration::from_secs(10), tester.run_batch()).await;
    assert!(run.is_err());
    assert_eq!((tester.in_flight(), tester.committed("orders")), (1, None));
    push_orders(&mut tester, &["2"]);
    assert_eq!(tester.run_batch().await.unwrap(), 0, "it only finishes the first");
    assert_eq!(tester.committed("orders"), Some(Offset::new(2)));
    tester.run_batch().await.unwrap();
    assert_eq!(obedient.seen(), [vec!["1", "sleep"], vec!["2"]]);
}

/// Makes a processor for even partition numbers only.
struct EvenOnly;

impl ProcessorFactory for EvenOnly {
    type Processor = Router;

    async fn create(&mut self, start: &StartContext) -> Result<Router, BoxError> {
        tokio::task::yield_now().await;
        match start.partition() {
            5 => panic!("not five"),
            odd if odd % 2 == 1 => Err("odd".into()),
            _ => Ok(Router),
        }
    }
}

#[tokio::test]
async fn a_factory_may_be_async_and_fail() {
    let tester =
        |partition| ProcessorTester::with_factory(["orders"], EvenOnly).partition(partition);
    assert_eq!(tester(2).run_batch().await.unwrap(), 0);
    let error = tester(3).run_batch().await.unwrap_err();
    assert_eq!((error.kind(), error.get("partition")), (ErrorKind::Process, Some("3")));
    assert_eq!(error.source().unwrap().to_string(), "odd");
    let error = tester(5).run_batch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panic);
    assert!(error.to_string().contains("not five"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_can_be_moved_between_threads() {
    let mut tester = Obedient::default().tester();
    push_orders(&mut tester, &["1"]);
    let tester = tokio::spawn(async move {
        tester.run_all().await.unwrap();
        tester.revoke().await.unwrap();
        tester.assign();
        tester.replay().await.unwrap();
        tester
    });
    assert_eq!(tester.await.unwrap().committed("orders"), Some(Offset::new(1)));
}
