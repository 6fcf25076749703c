//! Topics: created for the benchmark, filled before it, deleted behind it.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::util::Timeout;

use super::BoxError;

/// Who produces waits so long before it reads: connecting and getting a producer id takes up to half a
/// second, depends on chance, and would be a large part of a short run.
pub(crate) const WARM_UP: Duration = Duration::from_millis(700);

const TIMEOUT: Duration = Duration::from_secs(30);

/// Creates topics under a prefix of its own, and deletes them when dropped.
pub(crate) struct Topics {
    admin: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
    brokers: String,
    prefix: String,
    created: Vec<String>,
    count: usize,
}

impl Topics {
    pub(crate) fn new(brokers: &str) -> Result<Self, BoxError> {
        let since_1970 = std::time::UNIX_EPOCH.elapsed()?.as_millis();
        Ok(Self {
            admin: ClientConfig::new().set("bootstrap.servers", brokers).create()?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            brokers: brokers.to_owned(),
            prefix: format!("bench-{}-{since_1970}", std::process::id()),
            created: Vec::new(),
            count: 0,
        })
    }

    pub(crate) fn create(&mut self, label: &str, partitions: usize) -> Result<String, BoxError> {
        self.count += 1;
        let name = format!("{}-{label}-{}", self.prefix, self.count);
        let partitions = i32::try_from(partitions)?;
        // Each run of a pass-through leaves a topic behind: its disk space is wanted back soon.
        let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(-1))
            .set("file.delete.delay.ms", "1000");
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        let results = self.runtime.block_on(self.admin.create_topics([&topic], &options))?;
        for result in results {
            result.map_err(|(topic, code)| format!("cannot create topic {topic}: {code}"))?;
        }
        self.created.push(name.clone());
        Ok(name)
    }

    /// A topic with `counts[p]` messages in partition `p`, whose keys are made from a partition and a random
    /// number.
    pub(crate) fn create_filled<K: AsRef<[u8]>>(
        &mut self,
        label: &str,
        value_bytes: usize,
        counts: &[u64],
        key: impl Fn(i32, u64) -> K,
    ) -> Result<String, BoxError> {
        let topic = self.create(label, counts.len())?;
        fill(&self.brokers, &topic, value_bytes, counts, key)?;
        Ok(topic)
    }

    /// How many messages have been produced to a topic.
    pub(crate) fn count_messages(&self, name: &str, partitions: usize) -> Result<u64, BoxError> {
        let mut count = 0;
        for partition in 0..i32::try_from(partitions)? {
            let (low, high) =
                self.admin.inner().fetch_watermarks(name, partition, Timeout::After(TIMEOUT))?;
            count += u64::try_from(high - low)?;
        }
        Ok(count)
    }

    pub(crate) fn delete(&mut self, name: &str) -> Result<(), BoxError> {
        self.created.retain(|created| created != name);
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        self.runtime.block_on(self.admin.delete_topics(&[name], &options))?;
        Ok(())
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        let names: Vec<&str> = self.created.iter().map(String::as_str).collect();
        if !names.is_empty() {
            let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
            // The broker is a benchmark's: what stays there does no harm.
            let _left_behind = self.runtime.block_on(self.admin.delete_topics(&names, &options));
        }
    }
}

/// Messages with values that don't repeat.
fn fill<K: AsRef<[u8]>>(
    brokers: &str,
    topic: &str,
    value_bytes: usize,
    counts: &[u64],
    key: impl Fn(i32, u64) -> K,
) -> Result<(), BoxError> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "200000")
        .create()?;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut value = vec![0; value_bytes];
    let mut left = counts.to_vec();
    while left.iter().any(|left| *left > 0) {
        for (partition, left) in (0..).zip(&mut left).filter(|(_, left)| **left > 0) {
            let key = key(partition, random.next());
            random.fill(&mut value);
            let mut record =
                BaseRecord::to(topic).partition(partition).key(key.as_ref()).payload(&value[..]);
            while let Err((error, refused)) = producer.send(record) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                record = refused;
                producer.poll(Duration::from_millis(10));
            }
            *left -= 1;
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(TIMEOUT)?;
    Ok(())
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
