//! What the library's own code allocates does not grow with the number of messages: a batch may cost
//! something, a message may not. librdkafka's memory is C's and is not counted.
#![allow(unsafe_code, reason = "a counting allocator")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kasper::codec::{Json, Raw, Text};
use kasper::testkit::{EmbeddedBroker, TestMessage};
use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor, Report, TopicProcessor};
use tokio::runtime::Runtime;

/// Counts what is allocated, of all threads; growing counts too.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The count is the whole process's, so one at a time.
static ALONE: Mutex<()> = Mutex::new(());

const PARTITIONS: i32 = 4;
const FEW: u64 = 20_000;
/// Less than the embedded broker keeps.
const MANY: u64 = 220_000;

/// Does with each message what a case says.
struct Each<F>(F);

impl<F> Processor for Each<F>
where
    F: for<'a> Fn(kasper::Message<'a>, &mut Context) + Send + 'static,
{
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        batch.iter().for_each(|message| (self.0)(message, context));
        Ok(())
    }
}

async fn fill(broker: &EmbeddedBroker, messages: u64) {
    let message = |number: u64| {
        let partition = i32::try_from(number % 4).unwrap();
        TestMessage::new("in").partition(partition).key(&number.to_le_bytes()).value(&[0; 16])
    };
    broker.client().unwrap().send_all((0..messages).map(message)).await.unwrap();
}

/// Allocations from the call of `run` to its return.
fn allocations(
    messages: u64,
    each: impl for<'a> Fn(kasper::Message<'a>, &mut Context) + Copy + Send + 'static,
) -> (u64, Report) {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("in", PARTITIONS).unwrap();
    broker.create_topic("out", PARTITIONS).unwrap();
    Runtime::new().unwrap().block_on(async {
        fill(&broker, messages).await;
        let processor = TopicProcessor::builder("allocations", ["in"])
            .brokers(broker.brokers())
            .partitions(0..PARTITIONS)
            // Batches of the same size whatever the machine's speed.
            .max_batch_messages(1000)
            .max_batch_wait(Duration::from_millis(100))
            .build(move |_| Each(each))
            .await
            .unwrap();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let report = processor.run_until_caught_up().await.unwrap();
        let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(report.messages, messages);
        println!("{messages} messages, {} batches: {count} allocations", report.batches);
        (count, report)
    })
}

/// Allocations for each message beyond the first few, which pay for what is there once.
fn per_message(
    each: impl for<'a> Fn(kasper::Message<'a>, &mut Context) + Copy + Send + 'static,
) -> f64 {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (few, _) = allocations(FEW, each);
    let (many, report) = allocations(MANY, each);
    assert!(report.batches < MANY / 500, "{} batches are too many to tell", report.batches);
    #[allow(clippy::cast_precision_loss, reason = "millions")]
    let per_message = many.saturating_sub(few) as f64 / (MANY - FEW) as f64;
    println!("{per_message:.4} allocations a message");
    per_message
}

#[test]
fn consuming_allocates_nothing_for_a_message() {
    let count = per_message(|message, _| {
        std::hint::black_box((message.key(), message.value(), message.timestamp()));
    });
    assert!(count < 0.05, "{count} allocations a message");
}

#[test]
fn passing_on_allocates_nothing_for_a_message_but_the_growth_of_buffers() {
    let count = per_message(|message, context| context.forward("out", &message));
    assert!(count < 0.05, "{count} allocations a message");
}

#[test]
fn sending_allocates_nothing_for_a_message_but_the_growth_of_buffers() {
    let count = per_message(|message, context| {
        let value = message.value().unwrap_or_default();
        context
            .send(OutgoingMessage::new("out").key(message.key().unwrap_or_default()).value(value));
    });
    assert!(count < 0.05, "{count} allocations a message");
}

#[test]
fn sending_what_is_owned_allocates_nothing_besides() {
    let count = per_message(|message, context| {
        let value = message.value().unwrap_or_default().to_vec();
        context.send(OutgoingMessage::new("out").value(value));
    });
    assert!(count < 1.05, "{count} allocations a message, of which one is the processor's");
}

#[test]
fn sending_what_a_codec_encodes_allocates_nothing_for_a_message() {
    let count = per_message(|message, context| {
        let value = message.value().unwrap_or_default();
        let outgoing = || OutgoingMessage::new("out");
        context.send_encoded(outgoing(), &(1, "two", [3.0; 3]), Json).unwrap();
        context.send_encoded(outgoing(), value, Raw).unwrap();
        context.send_encoded(outgoing(), "text", Text).unwrap();
    });
    assert!(count < 0.05, "{count} allocations a message");
}
