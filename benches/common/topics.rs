//! Topics: created for the benchmark, filled before it, deleted behind it.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::util::Timeout;

use super::BoxError;
use super::contents::Contents;

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

    /// A topic with messages whose keys are made from a partition and a random number.
    pub(crate) fn create_filled<K: AsRef<[u8]>>(
        &mut self,
        label: &str,
        contents: &Contents<'_>,
        key: impl Fn(i32, u64) -> K,
    ) -> Result<String, BoxError> {
        let topic = self.create(label, contents.counts.len())?;
        contents.fill(&self.brokers, &topic, key)?;
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
