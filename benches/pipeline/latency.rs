//! End-to-end latency: a producer at a steady rate, the case between, a reader of the output.
//!
//! Producer and reader are threads of the parent process: each message carries the time at which
//! the producer's `send` was called, and one clock serves both.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::case::PARTITIONS;
use crate::common::BoxError;

pub(crate) const PER_SECOND: u64 = 10_000;

/// The producer sends what is due this often.
const TICK: Duration = Duration::from_millis(1);

/// Not counted: connections are made, groups joined.
const WARM_UP: Duration = Duration::from_secs(1);

/// How long to wait for the first message to come through, and for the last.
const PATIENCE: Duration = Duration::from_secs(30);

/// In milliseconds, from `send` of the input's producer to the output's reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Latency {
    fn of(mut nanos: Vec<u64>) -> Result<Self, BoxError> {
        nanos.sort_unstable();
        let last = nanos.len().checked_sub(1).ok_or("no message came through")?;
        #[allow(clippy::cast_precision_loss, reason = "nanoseconds of less than days")]
        let at = |percent: usize| nanos[last * percent / 100] as f64 / 1e6;
        Ok(Self { p50: at(50), p99: at(99), max: at(100) })
    }
}

/// Sends for so long from when the first message came through and the warm-up is over, and measures
/// those.
pub(crate) fn measure(
    brokers: &str,
    input: &str,
    output: &str,
    time: Duration,
) -> Result<Latency, BoxError> {
    let clock = Instant::now();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| send(brokers, input, clock, &stop));
        let nanos = read(brokers, output, clock, time);
        stop.store(true, Ordering::Relaxed);
        sender.join().map_err(|_| "the producer's thread panicked")??;
        Latency::of(nanos?)
    })
}

fn nanos_since(clock: Instant) -> u64 {
    u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn send(brokers: &str, topic: &str, clock: Instant, stop: &AtomicBool) -> Result<(), BoxError> {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "0").create()?;
    let mut value = [0; 100];
    let mut sent = 0;
    let begin = Instant::now();
    let per_tick = PER_SECOND * u64::try_from(TICK.as_nanos())? / 1_000_000_000;
    for tick in 0_u32.. {
        thread::sleep((begin + TICK * tick).saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        for _ in 0..per_tick {
            value[..8].copy_from_slice(&nanos_since(clock).to_le_bytes());
            let key = u64::to_le_bytes(sent);
            let partition = i32::try_from(sent % PARTITIONS as u64)?;
            let record = BaseRecord::to(topic).partition(partition).key(&key[..]);
            producer.send(record.payload(&value[..])).map_err(|(error, _)| error)?;
            sent += 1;
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE)?;
    Ok(())
}

/// The latencies of the messages that were sent in the time that counts.
fn read(brokers: &str, topic: &str, clock: Instant, time: Duration) -> Result<Vec<u64>, BoxError> {
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
    let deadline = Instant::now() + PATIENCE + WARM_UP + time;
    while Instant::now() < deadline {
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
            // Others may still come from other partitions, but none that waited for long.
            return Ok(latencies);
        }
    }
    Err("not everything came through in time".into())
}
