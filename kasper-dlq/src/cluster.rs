//! Kafka, for reading: which partitions a topic has, how far they go, what a group has committed, and messages. This
//! client joins no group and commits nothing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use kasper::{Offset, OwnedMessage};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset as Position, TopicPartitionList};

use crate::connection::{Connection, refused};

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A topic that was just created is not known to every broker at once.
const DOUBTED_FOR: Duration = Duration::from_secs(3);

/// How long reading may bring nothing.
const SILENCE: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    consumer: BaseConsumer<Listener>,
    brokers: String,
    /// Partition counts of topics that were asked for; `None` where there is no such topic.
    known: Mutex<BTreeMap<String, Option<i32>>>,
}

/// Part of a partition: from the offset `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) partition: i32,
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Extent {
    /// How many offsets it has: messages at most.
    pub(crate) fn len(&self) -> u64 {
        u64::try_from(self.end - self.start).unwrap_or(0)
    }
}

/// Keeps the client's last error: the reason, where a request only times out.
#[derive(Default)]
struct Listener {
    last: Mutex<Option<String>>,
}

impl ClientContext for Listener {
    // Errors come to the method below, too.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        // That all brokers are down is what comes of the reasons before.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *locked(&self.last) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Listener {}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    /// Connects when it is first asked. `group` is whose offsets can be asked for.
    pub(crate) fn new(connection: &Connection, group: Option<&str>) -> Result<Self> {
        let config = connection.config(&[
            // librdkafka wants a name; without a subscription or a commit, there is no group.
            ("group.id", group.unwrap_or("kasper-dlq")),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "earliest"),
            ("isolation.level", "read_committed"),
            ("allow.auto.create.topics", "false"),
            ("fetch.wait.max.ms", "50"),
        ]);
        let consumer = config.create_with_context(Listener::default());
        let consumer = consumer.map_err(|error| refused(&error))?;
        Ok(Self { consumer, brokers: connection.brokers.clone(), known: Mutex::default() })
    }

    /// What [`partitions`](Self::partitions) has found out, without asking.
    pub(crate) fn known(&self, topic: &str) -> Option<Option<i32>> {
        locked(&self.known).get(topic).copied()
    }

    /// How many partitions a topic has; `None` if there is no such topic. Asks once for each topic.
    pub(crate) fn partitions(&self, topic: &str) -> Result<Option<i32>> {
        if let Some(known) = self.known(topic) {
            return Ok(known);
        }
        let begun = Instant::now();
        let count = loop {
            let count = self.look_up(topic)?;
            if count.is_some() || begun.elapsed() > DOUBTED_FOR {
                break count;
            }
            thread::sleep(Duration::from_millis(100));
        };
        locked(&self.known).insert(topic.to_owned(), count);
        Ok(count)
    }

    fn look_up(&self, topic: &str) -> Result<Option<i32>> {
        use RDKafkaErrorCode as Code;
        let metadata = self.consumer.fetch_metadata(Some(topic), TIMEOUT);
        let metadata = metadata.map_err(|error| self.explained(&error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(Code::from) {
            Some(Code::UnknownTopicOrPartition | Code::LeaderNotAvailable) => Ok(None),
            Some(code) => bail!("topic `{topic}`: {code}"),
            None => Ok(Some(i32::try_from(found.partitions().len())?)),
        }
    }

    /// All that the topic has now, by partition.
    pub(crate) fn extents(&self, topic: &str) -> Result<Vec<Extent>> {
        let Some(count) = self.partitions(topic)? else {
            bail!("topic `{topic}` does not exist on {}", self.brokers);
        };
        let extent = |partition| {
            let watermarks = asked(|| self.consumer.fetch_watermarks(topic, partition, TIMEOUT));
            let (start, end) = watermarks.map_err(|error| self.explained(&error))?;
            Ok(Extent { partition, start, end })
        };
        (0..count).map(extent).collect()
    }

    /// The next offsets that the group has committed; partitions without one are left out.
    pub(crate) fn committed(
        &self,
        topic: &str,
        partitions: impl Iterator<Item = i32>,
    ) -> Result<BTreeMap<i32, i64>> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(topic, partition);
        }
        let committed = asked(|| self.consumer.committed_offsets(list.clone(), TIMEOUT));
        let committed =
            committed.map_err(|error| self.explained(&error).context("the group's offsets"))?;
        let offsets =
            committed.elements().into_iter().filter_map(|element| match element.offset() {
                Position::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            });
        Ok(offsets.collect())
    }

    /// Reads partition after partition, in the order of offsets, until all is read or `each` breaks.
    pub(crate) fn read(
        &self,
        topic: &str,
        extents: &[Extent],
        mut each: impl FnMut(OwnedMessage) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        for extent in extents.iter().filter(|extent| extent.len() > 0) {
            if self.read_extent(topic, extent, &mut each)?.is_break() {
                break;
            }
        }
        self.consumer.unassign().map_err(|error| self.explained(&error))
    }

    fn read_extent(
        &self,
        topic: &str,
        extent: &Extent,
        each: &mut impl FnMut(OwnedMessage) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let mut list = TopicPartitionList::new();
        let added =
            list.add_partition_offset(topic, extent.partition, Position::Offset(extent.start));
        added.and_then(|()| self.consumer.assign(&list)).map_err(|error| self.explained(&error))?;
        let mut heard = Instant::now();
        loop {
            match self.consumer.poll(Duration::from_millis(100)) {
                // What the partition before has left in the queue.
                Some(Ok(message)) if message.partition() != extent.partition => {}
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let next = message.offset() + 1;
                    if next > extent.end {
                        return Ok(ControlFlow::Continue(()));
                    }
                    if each(owned(&message))?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                    if next == extent.end {
                        return Ok(ControlFlow::Continue(()));
                    }
                }
                // The last offsets may be a transaction's markers, or be compacted away.
                Some(Err(KafkaError::PartitionEOF(partition))) if partition == extent.partition => {
                    return Ok(ControlFlow::Continue(()));
                }
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => {
                    let error = self.explained(&error);
                    return Err(error.context(format!("reading {topic}/{}", extent.partition)));
                }
            }
            if heard.elapsed() > SILENCE {
                let error = self.timed_out(SILENCE);
                return Err(error.context(format!("reading {topic}/{}", extent.partition)));
            }
        }
    }

    /// An error for people: what happened, the reason that the client knows, and what to do.
    fn explained(&self, error: &KafkaError) -> anyhow::Error {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::BrokerTransportFailure | Code::OperationTimedOut | Code::AllBrokersDown) => {
                self.timed_out(TIMEOUT)
            }
            _ => anyhow!("{error}"),
        }
    }

    fn timed_out(&self, limit: Duration) -> anyhow::Error {
        // Errors are handed out by polling alone.
        for _ in 0..100 {
            let _event = self.consumer.poll(Duration::ZERO);
        }
        let last = locked(&self.consumer.context().last).take();
        let reason = last.map_or_else(String::new, |reason| format!(": {reason}"));
        anyhow!(
            "no answer from {} within {} s{reason}; check --brokers, and the security properties that it wants",
            self.brokers,
            limit.as_secs()
        )
    }
}

/// Asks again while it is an answer that passes: of a broker that has just started, or to which a partition or a group has
/// just moved.
fn asked<T>(ask: impl Fn() -> KafkaResult<T>) -> KafkaResult<T> {
    let begun = Instant::now();
    loop {
        match ask() {
            Err(error) if is_passing(&error) && begun.elapsed() < TIMEOUT => {
                thread::sleep(Duration::from_millis(100));
            }
            answer => return answer,
        }
    }
}

/// What ends by itself.
fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::NotCoordinator
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
        )
    )
}

fn owned(message: &BorrowedMessage<'_>) -> OwnedMessage {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    OwnedMessage {
        topic: message.topic().into(),
        partition: message.partition(),
        offset: Offset::new(message.offset()),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect(),
        timestamp: message.timestamp().to_millis(),
    }
}
