//! Reads a topic to its end: [`TestClient::read_all`](super::TestClient::read_all).

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::Offset as Position;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::failed;
use super::message::TestMessage;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Offset;

const TIMEOUT: Duration = Duration::from_secs(30);
/// A topic that was just created is not known to every broker at once.
const DOUBTED_FOR: Duration = Duration::from_secs(5);

pub(super) async fn read_all(
    brokers: &str,
    properties: &[(String, String)],
    topic: &str,
) -> Result<Vec<TestMessage>> {
    read_within(TIMEOUT, brokers, properties, topic).await
}

async fn read_within(
    limit: Duration,
    brokers: &str,
    properties: &[(String, String)],
    topic: &str,
) -> Result<Vec<TestMessage>> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        // librdkafka wants a name; without a subscription or a commit, there is no group.
        .set("group.id", "kasper-testkit")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        // A broker answers one fetch at a time: one that waits for a dry partition holds up the others.
        .set("fetch.wait.max.ms", "50");
    for (name, value) in properties {
        config.set(name, value);
    }
    let name = topic.to_owned();
    // The client's calls block. Paused time stands still meanwhile.
    let reading = tokio::task::spawn_blocking(move || {
        let consumer = config.create().map_err(|error| failed("read_all", &error))?;
        Reading { consumer, topic: &name, begun: Instant::now(), limit }.read()
    });
    let read = reading.await.map_err(|error| {
        Error::new(ErrorKind::Internal, "reading a topic ended early").with_source(error)
    });
    read.flatten().map_err(|error| error.with("topic", topic))
}

struct Reading<'a> {
    consumer: BaseConsumer,
    topic: &'a str,
    begun: Instant,
    limit: Duration,
}

impl Reading<'_> {
    fn read(&self) -> Result<Vec<TestMessage>> {
        let mut ends = self.ends()?;
        let mut messages = Vec::new();
        let mut last_error = None;
        while !ends.is_empty() {
            if self.left().is_zero() {
                let message = format!("the end was not reached within {:?}", self.limit);
                let error = Error::new(ErrorKind::Timeout, message);
                return Err(match last_error {
                    Some(cause) => error.with_source(cause),
                    None => error,
                });
            }
            match self.consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => {
                    let (partition, next) = (message.partition(), message.offset() + 1);
                    let Some(end) = ends.get(&partition).copied() else { continue };
                    if next <= end {
                        messages.push(copied(&message));
                    }
                    if next >= end {
                        ends.remove(&partition);
                    }
                }
                // The last offsets may be a transaction's markers, or be compacted away.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ends.remove(&partition);
                }
                Some(Err(error)) => last_error = Some(self.passing(&error)?),
            }
        }
        messages.sort_by_key(|message| (message.partition, message.offset));
        Ok(messages)
    }

    /// Assigns the partitions that hold anything, and returns their high watermarks.
    fn ends(&self) -> Result<BTreeMap<i32, i64>> {
        let mut assignment = TopicPartitionList::new();
        let mut ends = BTreeMap::new();
        for partition in self.partitions()? {
            let watermarks = self.consumer.fetch_watermarks(self.topic, partition, self.left());
            let (low, high) = watermarks.map_err(|error| failed("read_all", &error))?;
            if high > low {
                let added =
                    assignment.add_partition_offset(self.topic, partition, Position::Offset(low));
                added.map_err(|error| failed("read_all", &error))?;
                ends.insert(partition, high);
            }
        }
        self.consumer.assign(&assignment).map_err(|error| failed("read_all", &error))?;
        Ok(ends)
    }

    fn partitions(&self) -> Result<Vec<i32>> {
        loop {
            let metadata = self.consumer.fetch_metadata(Some(self.topic), self.left());
            let metadata = metadata.map_err(|error| failed("read_all", &error))?;
            let found = metadata.topics().first();
            let partitions: Vec<i32> = found
                .iter()
                .flat_map(|topic| topic.partitions())
                .map(rdkafka::metadata::MetadataPartition::id)
                .collect();
            match found.and_then(rdkafka::metadata::MetadataTopic::error) {
                None if !partitions.is_empty() => return Ok(partitions),
                code if self.begun.elapsed() >= DOUBTED_FOR => {
                    let error = code.map(|code| KafkaError::MetadataFetch(code.into()));
                    let unknown =
                        || Error::new(ErrorKind::UnknownTopic, "the topic has no partitions");
                    return Err(error.map_or_else(unknown, |error| failed("read_all", &error)));
                }
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begun.elapsed())
    }

    /// The error, if the client goes on by itself after it.
    fn passing(&self, error: &KafkaError) -> Result<Error> {
        let error = failed("read_all", error);
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Timeout => Ok(error),
            _ => Err(error),
        }
    }
}

fn copied(message: &BorrowedMessage<'_>) -> TestMessage {
    let bytes = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    TestMessage {
        topic: message.topic().to_owned(),
        partition: Some(message.partition()),
        offset: Some(Offset::new(message.offset())),
        key: bytes(message.key()),
        value: bytes(message.payload()),
        headers: headers.map(|header| (header.key.to_owned(), bytes(header.value))).collect(),
        timestamp: message.timestamp().to_millis(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::testkit::{EmbeddedBroker, TestClient};

    /// A broker with a topic of one message, and what reading it in two seconds comes to.
    async fn read_after(act: impl FnOnce(&EmbeddedBroker)) -> Error {
        let broker = EmbeddedBroker::start().unwrap();
        broker.create_topic("in", 1).unwrap();
        let client = TestClient::new(broker.brokers(), &[]).unwrap();
        client.send(TestMessage::new("in").value("x")).await.unwrap();
        act(&broker);
        let begun = Instant::now();
        let read = read_within(Duration::from_secs(2), &broker.brokers(), &[], "in").await;
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        read.unwrap_err()
    }

    #[tokio::test]
    async fn brokers_that_are_away_are_an_error_that_names_the_topic() {
        let error = read_after(|broker| broker.suspend().unwrap()).await;
        let expected = [ErrorKind::Unavailable, ErrorKind::Timeout];
        assert!(expected.contains(&error.kind()), "{error:#}");
        assert_eq!(error.get("topic"), Some("in"), "{error:#}");
    }
}
