//! The brokers: topics, whole topics read to their end, and the script that kills a broker.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Brokers that start again take minutes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// A message of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// A client that asks and reads, without being a member of a group.
pub(crate) struct Cluster {
    brokers: String,
    consumer: BaseConsumer,
}

impl Cluster {
    pub(crate) fn connect(brokers: &str, group: &str) -> Result<Self> {
        let consumer = config(brokers)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "50")
            .create()?;
        Ok(Self { brokers: brokers.to_owned(), consumer })
    }

    /// With three replicas of each partition, where there are so many brokers.
    pub(crate) fn create_topics(&self, topics: &[(&str, i32)]) -> Result<()> {
        let brokers = self.broker_count()?;
        let replicas = i32::try_from(brokers.min(3))?;
        let in_sync = if replicas == 3 { "2" } else { "1" };
        let topics: Vec<NewTopic<'_>> = topics
            .iter()
            .map(|(name, partitions)| {
                NewTopic::new(name, *partitions, TopicReplication::Fixed(replicas))
                    .set("min.insync.replicas", in_sync)
                    .set("retention.ms", "-1")
            })
            .collect();
        let admin: AdminClient<DefaultClientContext> = config(&self.brokers).create()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        for created in runtime.block_on(admin.create_topics(&topics, &options))? {
            if let Err((name, code)) = created {
                bail!("topic {name} cannot be created: {code}");
            }
        }
        let names: Vec<&str> = topics.iter().map(|topic| topic.name).collect();
        self.wait_until_whole(brokers, &names)
    }

    pub(crate) fn broker_count(&self) -> Result<usize> {
        let metadata = self.consumer.fetch_metadata(None, 4 * TIMEOUT);
        Ok(metadata.context("the brokers do not answer")?.brokers().len())
    }

    /// Until all brokers are there, and every replica of these topics is in sync.
    pub(crate) fn wait_until_whole(&self, brokers: usize, topics: &[&str]) -> Result<()> {
        let began = Instant::now();
        while !topics.iter().all(|topic| self.is_whole(brokers, topic)) {
            if began.elapsed() > PATIENCE {
                bail!("the brokers are not in sync again after {PATIENCE:?}");
            }
            sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn is_whole(&self, brokers: usize, topic: &str) -> bool {
        let Ok(metadata) = self.consumer.fetch_metadata(Some(topic), TIMEOUT) else {
            return false;
        };
        let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        metadata.brokers().len() == brokers
            && metadata.topics().iter().all(|topic| !topic.partitions().is_empty())
            && partitions.all(|p| p.error().is_none() && p.isr().len() == p.replicas().len())
    }

    /// The next offsets that the group has committed; -1 where it has none.
    pub(crate) fn committed(&self, topic: &str, partitions: i32) -> Result<Vec<i64>> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let committed = self.consumer.committed_offsets(list, TIMEOUT)?;
        (0..partitions)
            .map(|partition| {
                let found = committed.find_partition(topic, partition);
                let found = found.context("the brokers have left a partition out")?;
                found.error()?;
                Ok(match found.offset() {
                    Offset::Offset(offset) => offset,
                    _ => -1,
                })
            })
            .collect()
    }

    /// Where the logs end.
    pub(crate) fn ends(&self, topic: &str, partitions: i32) -> Result<Vec<i64>> {
        let end = |partition| Ok(self.consumer.fetch_watermarks(topic, partition, 4 * TIMEOUT)?.1);
        (0..partitions).map(end).collect()
    }

    /// All that a topic holds, one partition after the other.
    pub(crate) fn read_all(&self, topic: &str, partitions: i32) -> Result<Vec<Read>> {
        let ends = self.ends(topic, partitions)?;
        let mut all = Vec::new();
        for (partition, end) in (0..partitions).zip(ends) {
            let read = self.read_partition(topic, partition, end);
            all.extend(read.with_context(|| format!("cannot read {topic}-{partition}"))?);
        }
        Ok(all)
    }

    fn read_partition(&self, topic: &str, partition: i32, end: i64) -> Result<Vec<Read>> {
        let mut read = Vec::new();
        if end == 0 {
            return Ok(read);
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
        self.consumer.assign(&list)?;
        let mut last = Instant::now();
        while read.last().is_none_or(|read: &Read| read.offset + 1 < end) {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    last = Instant::now();
                    read.push(Read {
                        partition,
                        offset: message.offset(),
                        key: message.key().unwrap_or_default().to_vec(),
                        value: message.payload().unwrap_or_default().to_vec(),
                    });
                }
                // Brokers that were away are found again.
                Some(Err(_)) | None if last.elapsed() < PATIENCE => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("nothing comes for {PATIENCE:?}, and it ends at {end}"),
            }
        }
        self.consumer.unassign()?;
        Ok(read)
    }
}

/// What all clients of a run have in common.
pub(crate) fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("reconnect.backoff.max.ms", "1000");
    // The library tells when it cannot go on; lines of brokers that are away would hide the progress.
    config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
    config
}

/// Kills a broker, which its supervisor starts again.
pub(crate) fn kill_broker(script: &Path, broker: usize) -> Result<()> {
    let status = Command::new("sh").arg(script).arg(broker.to_string()).status()?;
    if !status.success() {
        bail!("{} {broker} has failed: {status}", script.display());
    }
    Ok(())
}
