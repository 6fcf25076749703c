//! Partitions that were added to a topic when the group had already begun to read it.
//!
//! Place in the data path: before it. A processor that starts at the end of the logs must not do so in an
//! added partition: what was produced there before it noticed would be skipped.
//!
//! A partition without a committed offset may also be one of a group that begins just now, in which
//! another member was faster and has committed. To tell these apart, each commit carries as metadata how
//! many partitions the topic had when the group began with *this* partition; later commits of the
//! partition repeat it. So partition 4 was added if any partition of the topic was begun when there were
//! four. Commits without this metadata come from another library, a tool, or a processor that did not
//! start at the end; the group they are of has existed before, and all else counts as added.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};

use super::errors;
use super::ffi::{Client, ListEntry};
use super::offsets::{committed_entries, partition_count};
use crate::error::Result;
use crate::lock::Mutex;
use crate::message::TopicPartition;

const PREFIX: &str = "kasper partitions=";

/// How many partitions topics had when partitions of them were begun.
#[derive(Default)]
pub(super) struct Growth(Mutex<HashMap<TopicPartition, usize>>);

impl Growth {
    fn counts(&self) -> MutexGuard<'_, HashMap<TopicPartition, usize>> {
        self.0.lock()
    }

    /// What is to be committed beside the offset of a partition.
    pub(super) fn metadata(&self, partition: &TopicPartition) -> String {
        let count = self.counts().get(partition).copied();
        count.map_or_else(String::new, |count| format!("{PREFIX}{count}"))
    }

    /// Remembers what was committed beside the offsets of these partitions, which are ours now.
    pub(super) fn remember(&self, partitions: &[TopicPartition], entries: &[ListEntry]) {
        let said = entries
            .iter()
            .filter_map(|entry| Some(((&*entry.topic, entry.partition), begun_with(entry)?)));
        let said: HashMap<_, _> = said.collect();
        let mut counts = self.counts();
        for partition in partitions {
            match said.get(&(&*partition.topic, partition.number)) {
                Some(count) => counts.insert(partition.clone(), *count),
                None => counts.remove(partition),
            };
        }
    }

    /// See [`Consumer::added`](crate::broker::Consumer::added). Blocks.
    pub(super) fn added(
        &self,
        client: &Arc<Client>,
        asked: &[TopicPartition],
    ) -> Result<Vec<bool>> {
        let mut topics: HashMap<&Arc<str>, Topic> = HashMap::new();
        for TopicPartition { topic, .. } in asked {
            if !topics.contains_key(topic) {
                topics.insert(topic, Topic::look_at(client, topic)?);
            }
        }
        let mut counts = self.counts();
        let added = asked.iter().map(|partition| {
            let topic = &topics[&partition.topic];
            counts.insert(partition.clone(), topic.count);
            topic.is_added(partition.number)
        });
        Ok(added.collect())
    }
}

struct Topic {
    count: usize,
    /// The smallest number of partitions that one of them was begun with; 0 where a commit does not
    /// say. `None`: nothing is committed.
    begun_with: Option<usize>,
}

impl Topic {
    fn look_at(client: &Arc<Client>, topic: &Arc<str>) -> Result<Self> {
        let failed = |code| errors::plain(code).with("operation", "committed").with("topic", topic);
        let count = partition_count(client, topic).map_err(failed)?;
        let numbers = 0..i32::try_from(count).unwrap_or(i32::MAX);
        let all: Vec<_> = numbers.map(|n| TopicPartition::new(topic.clone(), n)).collect();
        let entries = committed_entries(client, &all)?;
        let committed = entries.iter().filter(|entry| entry.offset >= 0);
        let begun_with = committed.map(|entry| begun_with(entry).unwrap_or(0)).min();
        Ok(Self { count, begun_with })
    }

    fn is_added(&self, partition: i32) -> bool {
        let number = usize::try_from(partition).unwrap_or(0);
        self.begun_with.is_some_and(|begun_with| begun_with <= number)
    }
}

fn begun_with(entry: &ListEntry) -> Option<usize> {
    entry.metadata.strip_prefix(PREFIX)?.parse().ok()
}
