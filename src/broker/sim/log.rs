//! The logs of the input topics: messages with offsets, and gaps where compaction and control
//! records leave none.

use super::World;
use crate::broker::TopicState;
use crate::message::{Offset, OwnedMessage, TopicPartition};

#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Offsets below were deleted by retention.
    pub(super) start: i64,
    /// Where the next message goes.
    pub(super) end: i64,
    messages: Vec<OwnedMessage>,
}

impl Log {
    /// The first message at or behind an offset.
    pub(super) fn at(&self, offset: i64) -> Option<&OwnedMessage> {
        let from = offset.max(self.start);
        let index = self.messages.partition_point(|message| message.offset.get() < from);
        self.messages.get(index)
    }

    /// The message at this offset, also where retention has deleted it since it was fetched.
    pub(super) fn message(&self, offset: i64) -> &OwnedMessage {
        let index = self.messages.partition_point(|message| message.offset.get() < offset);
        &self.messages[index]
    }

    /// The offset of the first message with this timestamp or a later one.
    pub(super) fn since(&self, time: i64) -> i64 {
        let first = self.messages.iter().find(|message| message.timestamp >= Some(time));
        first.map_or(self.end, |message| message.offset.get())
    }

    /// The offsets of the messages in a range.
    pub(super) fn offsets(&self, from: i64, to: i64) -> impl Iterator<Item = i64> {
        let first = self.messages.partition_point(|message| message.offset.get() < from);
        let offsets = self.messages[first..].iter().map(|message| message.offset.get());
        offsets.take_while(move |offset| *offset < to)
    }
}

impl World {
    pub(crate) fn create_topic(&mut self, topic: &str, partitions: i32) {
        let id = self.fresh();
        self.topics.insert(topic.into(), id);
        (0..partitions).for_each(|partition| self.create_topic_partition(topic, partition));
    }

    pub(crate) fn create_topic_partition(&mut self, topic: &str, partition: i32) {
        self.logs.insert(TopicPartition::new(topic, partition), Log::default());
    }

    /// Gives the topic so many partitions.
    pub(crate) fn grow_topic(&mut self, topic: &str, partitions: i32) {
        for partition in 0..partitions {
            self.logs.entry(TopicPartition::new(topic, partition)).or_default();
        }
    }

    /// Brokers say that there is no such topic; its id.
    pub(crate) fn forget_topic(&mut self, topic: &str) -> u64 {
        self.topics.remove(topic).unwrap()
    }

    pub(crate) fn remember_topic(&mut self, topic: &str, id: u64) {
        self.topics.insert(topic.into(), id);
        self.partitions().iter().for_each(|partition| self.arm_readers(partition));
    }

    /// As with Kafka, what the group has committed for it goes, too.
    pub(crate) fn delete_topic(&mut self, topic: &str) {
        self.topics.remove(topic);
        self.group.committed.retain(|partition, _| *partition.topic != *topic);
        for client in self.clients.values_mut() {
            let reading = client.assigned.iter_mut().filter(|(p, _)| *p.topic == *topic);
            reading.for_each(|(_, fetching)| fetching.restart(self.counter));
            self.counter += 1;
        }
    }

    /// Another topic with the name of one that was deleted. Who reads it goes on at his old offset.
    pub(crate) fn recreate_topic(&mut self, topic: &str, partitions: i32) {
        self.delete_topic(topic);
        self.create_topic(topic, partitions);
        self.monitor.forget(topic);
    }

    pub(super) fn exists(&self, partition: &TopicPartition) -> bool {
        self.topics.contains_key(&partition.topic) && self.logs.contains_key(partition)
    }

    pub(super) fn topic_state(&self, topic: &str) -> TopicState {
        if self.untold.contains(topic) {
            return TopicState::Unknown;
        }
        let Some(id) = self.topics.get(topic) else { return TopicState::Missing };
        let partitions = self.logs.keys().filter(|partition| *partition.topic == *topic).count();
        let partitions = i32::try_from(partitions).unwrap();
        let partitions = self.told_partitions.get(topic).copied().unwrap_or(partitions);
        TopicState::Exists { id: Some(id.to_string()), partitions }
    }

    /// Those that exist.
    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        self.logs.keys().filter(|partition| self.exists(partition)).cloned().collect()
    }

    pub(super) fn log(&self, partition: &TopicPartition) -> &Log {
        &self.logs[partition]
    }

    fn log_mut(&mut self, partition: &TopicPartition) -> &mut Log {
        self.logs.get_mut(partition).unwrap()
    }

    /// Appends a message of so many bytes; consumers hear of it with their next fetch.
    pub(crate) fn append(&mut self, partition: &TopicPartition, size: usize) -> Offset {
        let log = self.log_mut(partition);
        let offset = Offset::new(log.end);
        log.end += 1;
        log.messages.push(OwnedMessage {
            topic: partition.topic.clone(),
            partition: partition.number,
            offset,
            key: None,
            value: Some(vec![b'.'; size]),
            headers: Vec::new(),
            timestamp: Some(offset.get() * 1000),
        });
        self.arm_readers(partition);
        offset
    }

    /// Offsets without a message.
    pub(crate) fn append_gap(&mut self, partition: &TopicPartition, offsets: i64) {
        self.log_mut(partition).end += offsets;
        self.arm_readers(partition);
    }

    /// What retention does.
    pub(crate) fn delete_before(&mut self, partition: &TopicPartition, offset: i64) {
        let log = self.log_mut(partition);
        log.start = log.start.max(offset.min(log.end));
    }

    /// What retention does to this many offsets at the beginning.
    pub(crate) fn cut(&mut self, partition: &TopicPartition, offsets: i64) {
        let start = self.log(partition).start;
        self.delete_before(partition, start + offsets);
    }

    /// Messages that nobody has processed and delivered yet.
    pub(crate) fn unfinished(&self) -> Vec<(TopicPartition, i64)> {
        let all = self.logs.iter().filter(|(partition, _)| self.exists(partition));
        let all = all.flat_map(|(partition, log)| {
            log.offsets(log.start, log.end).map(move |offset| (partition, offset))
        });
        let unfinished =
            all.filter(|(partition, offset)| !self.monitor.is_done(partition, *offset));
        unfinished.map(|(partition, offset)| (partition.clone(), offset)).collect()
    }

    /// Partitions of which not everything is committed.
    pub(crate) fn uncommitted(&self) -> Vec<TopicPartition> {
        let left = self.logs.iter().filter(|(partition, _)| self.exists(partition));
        let left = left.filter(|(partition, log)| {
            let committed = self.committed(partition).map_or(log.start, Offset::get);
            log.at(committed).is_some()
        });
        left.map(|(partition, _)| partition.clone()).collect()
    }
}
