//! The producer: a steady load of numbered messages, until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::ClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message as _;
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer,
};

use crate::cluster;
use crate::id::Id;
use crate::log::Log;

/// A running producer.
pub(crate) struct Feed {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

/// What is sent, and how fast.
pub(crate) struct Plan {
    pub(crate) brokers: String,
    pub(crate) topic: String,
    pub(crate) partitions: i32,
    pub(crate) keys: u32,
    pub(crate) rate: u32,
}

impl Feed {
    pub(crate) fn start(plan: Plan, log: &Arc<Log>) -> Result<Self> {
        let failed = Arc::<AtomicU64>::default();
        let acks = Acks { log: Arc::clone(log), failed: Arc::clone(&failed) };
        let producer: ThreadedProducer<Acks> = cluster::config(&plan.brokers)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "5")
            // Longer than any fault.
            .set("message.timeout.ms", "900000")
            .create_with_context(acks)?;
        let stop = Arc::<AtomicBool>::default();
        let over = Arc::clone(&stop);
        let thread = thread::Builder::new().name("feed".to_owned()).spawn(move || {
            feed(&plan, &producer, &over)?;
            producer
                .flush(Duration::from_secs(300))
                .context("not all messages were acknowledged")?;
            match failed.load(Ordering::Relaxed) {
                0 => Ok(()),
                failed => bail!("{failed} messages of the producer were refused"),
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// When all that was sent is acknowledged.
    pub(crate) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the producer's thread has panicked"))?
    }
}

/// Round after round, one message of each key; the last round comes after the stop, and has no poison: then every
/// aggregate is written once more when all faults are over.
fn feed(plan: &Plan, producer: &ThreadedProducer<Acks>, stop: &AtomicBool) -> Result<()> {
    let began = Instant::now();
    let mut sent = 0_u64;
    let mut number = 0_u64;
    loop {
        let is_last = stop.load(Ordering::Relaxed)
            && (0..plan.keys).all(|key| !Id { key, number }.is_poison());
        for key in 0..plan.keys {
            let due = Duration::from_secs_f64(sent as f64 / f64::from(plan.rate));
            sleep(due.saturating_sub(began.elapsed()));
            send(plan, producer, Id { key, number })?;
            sent += 1;
        }
        number += 1;
        if is_last {
            return Ok(());
        }
    }
}

fn send(plan: &Plan, producer: &ThreadedProducer<Acks>, id: Id) -> Result<()> {
    let (key, value) = (id.key_text(), id.value());
    loop {
        let record = BaseRecord::with_opaque_to(&plan.topic, Box::new(id));
        let record = record.partition(id.partition(plan.partitions)).key(&key).payload(&value);
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                sleep(Duration::from_millis(20));
            }
            Err((error, _)) => return Err(error).context("the producer refuses a message"),
        }
    }
}

/// Notes what was acknowledged.
struct Acks {
    log: Arc<Log>,
    failed: Arc<AtomicU64>,
}

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = Box<Id>;

    fn delivery(&self, result: &DeliveryResult<'_>, id: Box<Id>) {
        match result {
            Ok(message) => self.log.acknowledge(message.partition(), message.offset(), *id),
            Err(_) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
