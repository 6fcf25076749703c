//! End-to-end latency: a producer at a steady rate, the case between, a reader of the output.
//!
//! Producer and reader are threads of the parent process: each message carries the time at which
//! the producer's `send` was called, and one clock serves both. The producer has librdkafka's own settings, so it sends
//! as most producers do: with `linger.ms=5`. How long its brokers took is measured, too.
//!
//! A load that is more than the machine can carry is no failure, and has no latency: it would be that of a queue that grows.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::case::PARTITIONS;
use crate::common::BoxError;

/// The producer sends what is due this often.
const TICK: Duration = Duration::from_millis(1);

/// Not counted: connections are made, groups joined.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long to wait for the first message to come through, and for the last.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is that late does not carry the load.
const LATE: Duration = Duration::from_secs(1);

/// In milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    fn of(mut nanos: Vec<u64>) -> Option<Self> {
        nanos.sort_unstable();
        let last = nanos.len().checked_sub(1)?;
        #[allow(clippy::cast_precision_loss, reason = "nanoseconds of less than days")]
        let at = |percent: usize| nanos[last * percent / 100] as f64 / 1e6;
        Some(Self { p50: at(50), p99: at(99), max: at(100) })
    }
}

/// Of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    /// From `send` of the input's producer to the output's reader.
    pub(crate) through: Percentiles,
    /// From `send` of the input's producer to its ack.
    pub(crate) acks: Percentiles,
}

/// How a run went.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Carried(Latency),
    /// By whom the load was not carried.
    TooMuch(&'static str),
}

impl Outcome {
    pub(crate) fn latency(self) -> Option<Latency> {
        match self {
            Self::Carried(latency) => Some(latency),
            Self::TooMuch(_) => None,
        }
    }
}

/// What to send, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) per_second: u32,
    pub(crate) time: Duration,
}

/// Sends for so long from when the first message came through and the warm-up is over, and measures
/// those.
pub(crate) fn measure(
    brokers: &str,
    input: &str,
    output: &str,
    load: Load,
) -> Result<Outcome, BoxError> {
    let clock = Instant::now();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let acks = send(brokers, input, load.per_second, clock, &stop);
            // Nothing more comes.
            stop.store(true, Ordering::Relaxed);
            acks
        });
        let nanos = read(brokers, output, clock, load.time, &stop);
        stop.store(true, Ordering::Relaxed);
        let acks = sender.join().map_err(|_| "the producer's thread panicked")??;
        // Before what was read, which is nothing if the producer gave up early.
        let Some(acks) = acks else { return Ok(Outcome::TooMuch("the producer")) };
        let Some(nanos) = nanos? else { return Ok(Outcome::TooMuch("what is measured")) };
        let latency = Percentiles::of(acks).zip(Percentiles::of(nanos));
        let latency = latency.ok_or("no message came through")?;
        let latency = Latency { acks: latency.0, through: latency.1 };
        let is_late = |it: Percentiles| it.p50 > LATE.as_secs_f64() * 1e3;
        Ok(match () {
            () if is_late(latency.acks) => Outcome::TooMuch("the broker"),
            () if is_late(latency.through) => Outcome::TooMuch("what is measured"),
            () => Outcome::Carried(latency),
        })
    })
}

fn nanos_since(clock: Instant) -> u64 {
    u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Collects how long acks take, once connections are made.
struct Acks {
    clock: Instant,
    begin: Instant,
    nanos: Mutex<Vec<u64>>,
}

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    /// When the message was sent.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: usize) {
        let is_warm = self.begin.elapsed() > WARM_UP;
        if let (true, Ok(_), Ok(mut nanos)) = (is_warm, result, self.nanos.lock()) {
            nanos.push(nanos_since(self.clock).saturating_sub(sent as u64));
        }
    }
}

/// How long the acks took; `None` if the load could not be sent.
fn send(
    brokers: &str,
    topic: &str,
    per_second: u32,
    clock: Instant,
    stop: &AtomicBool,
) -> Result<Option<Vec<u64>>, BoxError> {
    let begin = Instant::now();
    let acks = Acks { clock, begin, nanos: Mutex::default() };
    let producer: BaseProducer<Acks> =
        ClientConfig::new().set("bootstrap.servers", brokers).create_with_context(acks)?;
    let mut value = [0; 100];
    let mut sent = 0_u64;
    for tick in 1_u32.. {
        let due = begin + TICK * tick;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if due.elapsed() > LATE {
            return Ok(None);
        }
        let until =
            u64::from(per_second) * u64::from(tick) * u64::from(TICK.subsec_micros()) / 1_000_000;
        while sent < until {
            let now = nanos_since(clock);
            value[..8].copy_from_slice(&now.to_le_bytes());
            let key = u64::to_le_bytes(sent);
            let partition = i32::try_from(sent % PARTITIONS as u64)?;
            let record = BaseRecord::with_opaque_to(topic, usize::try_from(now)?);
            let record = record.partition(partition).key(&key[..]).payload(&value[..]);
            match producer.send(record) {
                Ok(()) => sent += 1,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    return Ok(None);
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE)?;
    let nanos = producer.context().nanos.lock();
    Ok(Some(std::mem::take(&mut *nanos.map_err(|_| "a delivery report panicked")?)))
}

/// The latencies of the messages that were sent in the time that counts; `None` if they did not come through.
fn read(
    brokers: &str,
    topic: &str,
    clock: Instant,
    time: Duration,
    stop: &AtomicBool,
) -> Result<Option<Vec<u64>>, BoxError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", topic)
        .set("enable.auto.commit", "false")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..i32::try_from(PARTITIONS)? {
        partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;

    let mut latencies = Vec::new();
    let mut counts_from = None;
    // By partition, whether a message came that was sent after the time that counts.
    let mut is_over = [false; PARTITIONS];
    let deadline = Instant::now() + PATIENCE + WARM_UP + time;
    while Instant::now() < deadline && !stop.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        let received = nanos_since(clock);
        let stamp = message.payload().and_then(|value| value.first_chunk());
        let sent = u64::from_le_bytes(*stamp.ok_or("a message without the time it was sent at")?);
        // What was sent before anybody read waited for the reader.
        let from = *counts_from.get_or_insert(received + u64::try_from(WARM_UP.as_nanos())?);
        let until = from + u64::try_from(time.as_nanos())?;
        if (from..until).contains(&sent) {
            latencies.push(received.saturating_sub(sent));
        } else if sent >= until {
            is_over[usize::try_from(message.partition())?] = true;
            if is_over.iter().all(|is_over| *is_over) {
                return Ok(Some(latencies));
            }
        }
    }
    match counts_from {
        None => Err("nothing came through".into()),
        Some(_) => Ok(None),
    }
}
