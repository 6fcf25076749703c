//! The load: a producer whose rate changes in steps.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::case::PARTITIONS;
use crate::common::BoxError;
use crate::job::now;

/// Messages a second. The first step is not counted: connections are made.
const RATES: [u64; 6] = [1000, 1000, 10_000, 100_000, 10_000, 1000];

const KEYS: u64 = 1000;

/// The producer sends what is due this often.
const TICK: Duration = Duration::from_millis(1);

/// Who is that late does not carry the load.
const LATE: Duration = Duration::from_secs(1);

/// What was sent.
#[derive(Default)]
pub(crate) struct Sent {
    /// By partition and offset, when the message was sent.
    pub(crate) times: [Vec<u64>; PARTITIONS],
    pub(crate) steps: Vec<Step>,
}

/// At a steady rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) rate: u64,
    pub(crate) begin: u64,
    pub(crate) end: u64,
}

pub(crate) fn send(brokers: &str, topic: &str, step: Duration) -> Result<Sent, BoxError> {
    // Idempotent: the offset of a message in a new topic is then its number.
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .create()?;
    let mut sent = Sent::default();
    let mut count = 0;
    for (index, rate) in RATES.into_iter().enumerate() {
        let begin = now();
        send_step(&producer, topic, rate, step, &mut sent, &mut count)?;
        if index > 0 {
            sent.steps.push(Step { rate, begin, end: now() });
        }
    }
    producer.flush(Duration::from_secs(10))?;
    Ok(sent)
}

fn send_step(
    producer: &BaseProducer,
    topic: &str,
    rate: u64,
    time: Duration,
    sent: &mut Sent,
    count: &mut u64,
) -> Result<(), BoxError> {
    let (begin, first) = (Instant::now(), *count);
    let value = [7; 100];
    let ticks = u32::try_from(time.as_millis() / TICK.as_millis())?;
    for tick in 1..=ticks {
        let due = begin + TICK * tick;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if due.elapsed() > LATE {
            return Err(format!("the producer cannot send {rate} messages a second").into());
        }
        let until = first + rate * u64::from(tick) / 1000;
        while *count < until {
            let partition = usize::try_from(*count % PARTITIONS as u64)?;
            let key = (*count / PARTITIONS as u64 % KEYS).to_le_bytes();
            let record = BaseRecord::to(topic).partition(i32::try_from(partition)?);
            match producer.send(record.key(&key[..]).payload(&value[..])) {
                Ok(()) => {
                    sent.times[partition].push(now());
                    *count += 1;
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(TICK);
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        producer.poll(Duration::ZERO);
    }
    Ok(())
}
