//! What topics are filled with.

use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::BoxError;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A header has a name of 8 bytes and a value of so many.
const HEADER_BYTES: usize = 12;

/// What compressible values are made of: lz4 makes about a fourth of many of them.
const TEXT: &[u8] = b",\"event\":\"viewed\",\"page\":\"/products/shoes\",\"referrer\":\"search\",\"country\":\"DE\"}";

/// The messages of a topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contents<'a> {
    pub(crate) value_bytes: usize,
    /// So many in each partition.
    pub(crate) counts: &'a [u64],
    /// Of each message.
    pub(crate) headers: usize,
    /// Values look like text, with a random number at their beginning. Otherwise they don't repeat.
    pub(crate) compressible: bool,
    /// Properties of the producer, besides those it always has.
    pub(crate) producer: &'a [(&'a str, &'a str)],
}

impl<'a> Contents<'a> {
    pub(crate) fn new(value_bytes: usize, counts: &'a [u64]) -> Self {
        Self { value_bytes, counts, headers: 0, compressible: false, producer: &[] }
    }

    /// Produces them, a message to each partition in turn.
    pub(super) fn fill<K: AsRef<[u8]>>(
        &self,
        brokers: &str,
        topic: &str,
        key: impl Fn(i32, u64) -> K,
    ) -> Result<(), BoxError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("linger.ms", "20")
            .set("queue.buffering.max.messages", "200000");
        for (name, value) in self.producer {
            config.set(*name, *value);
        }
        let producer: BaseProducer = config.create()?;
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let mut value: Vec<u8> = TEXT.iter().copied().cycle().take(self.value_bytes).collect();
        let mut left = self.counts.to_vec();
        while left.iter().any(|left| *left > 0) {
            for (partition, left) in (0..).zip(&mut left).filter(|(_, left)| **left > 0) {
                let key = key(partition, random.next());
                if self.compressible {
                    digits(&mut value, random.next());
                } else {
                    random.fill(&mut value);
                }
                let mut record = BaseRecord::to(topic)
                    .partition(partition)
                    .key(key.as_ref())
                    .payload(&value[..]);
                if self.headers > 0 {
                    record = record.headers(headers(self.headers, &mut random));
                }
                send(&producer, record)?;
                *left -= 1;
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(TIMEOUT)?;
        Ok(())
    }
}

/// Waits while the producer's queue is full.
fn send(producer: &BaseProducer, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), BoxError> {
    while let Err((error, refused)) = producer.send(record) {
        if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
            return Err(error.into());
        }
        record = refused;
        producer.poll(Duration::from_millis(10));
    }
    Ok(())
}

fn headers(count: usize, random: &mut Random) -> OwnedHeaders {
    let mut value = [0; HEADER_BYTES];
    (0..count).fold(OwnedHeaders::new_with_capacity(count), |headers, index| {
        random.fill(&mut value);
        headers.insert(Header { key: &format!("header-{index}"), value: Some(&value[..]) })
    })
}

/// Writes a number to the beginning of a text.
fn digits(text: &mut [u8], mut number: u64) {
    for digit in text.iter_mut().take(12) {
        *digit = b"0123456789"[usize::try_from(number % 10).unwrap_or(0)];
        number /= 10;
    }
}

/// Random bytes from a number, such as a key.
pub(crate) fn stretched(number: u64, bytes: usize) -> Vec<u8> {
    let mut stretched = vec![0; bytes];
    // Xorshift stays at zero.
    Random(number.max(1)).fill(&mut stretched);
    stretched
}

/// Xorshift: quick, and the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}
