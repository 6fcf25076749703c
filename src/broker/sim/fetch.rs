//! Fetching: from the logs into the queues of the partition numbers, and from there to the reader.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::World;
use crate::broker::{QueueError, Taken};
use crate::error::{Error, ErrorKind};
use crate::message::{Payload, Record, TopicPartition};

/// An assigned partition.
#[derive(Debug)]
pub(super) struct Fetching {
    pub(super) grant: u64,
    /// What was fetched under an earlier version is outdated.
    pub(super) version: u64,
    pub(super) position: i64,
    /// The end of the log as the last fetch had it.
    pub(super) end: Option<i64>,
    /// A fetch is under way.
    busy: bool,
    /// The position is not in the log; nothing is fetched until a seek.
    failed: bool,
    /// Lost before it was assigned: nothing is fetched.
    pub(super) dead: bool,
    /// Nothing is fetched before a seek.
    pub(super) unstarted: bool,
    /// The reader has got everything below.
    taken_to: i64,
    /// Nothing is fetched while the application is asked about other partitions.
    purged: bool,
    /// The position before a purge, which is still reported for a while after the answer.
    stale: Option<(i64, Instant)>,
}

impl Fetching {
    pub(super) fn new(grant: u64, version: u64, start: Option<i64>, dead: bool) -> Self {
        let (position, unstarted) = (start.unwrap_or(0), start.is_none());
        Self {
            grant,
            version,
            position,
            end: None,
            busy: false,
            failed: false,
            dead,
            unstarted,
            taken_to: position,
            purged: false,
            stale: None,
        }
    }

    /// The position as reports have it.
    pub(super) fn reported(&self) -> i64 {
        let stale = self.stale.filter(|(_, until)| self.purged || *until > Instant::now());
        stale.map_or(self.position, |(position, _)| position)
    }
}

impl Fetching {
    /// What was fetched is outdated; fetching goes on at the same position.
    pub(super) fn restart(&mut self, version: u64) {
        self.version = version;
        self.busy = false;
    }
}

/// The queue of a partition number.
#[derive(Debug, Default)]
pub(super) struct QueueState {
    entries: VecDeque<Entry>,
    pub(super) arrived: Arc<Notify>,
    /// The one who may read.
    pub(super) reader: u64,
}

#[derive(Debug)]
struct Entry {
    partition: TopicPartition,
    version: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    /// The message at this offset.
    Message(i64),
    /// The offset to read is not in the log.
    OutOfRange(i64),
}

impl Entry {
    /// librdkafka gives its errors no version: one that was queued before a seek is still handed out after it.
    fn is_outdated(&self, fetching: &Fetching) -> bool {
        matches!(self.what, What::Message(_)) && fetching.version != self.version
    }
}

impl QueueState {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// As in librdkafka, only the first entry of an empty queue wakes the reader.
    fn push(&mut self, entries: impl IntoIterator<Item = Entry>) {
        let was_empty = self.entries.is_empty();
        self.entries.extend(entries);
        if was_empty && !self.entries.is_empty() {
            self.arrived.notify_one();
        }
    }
}

impl World {
    /// Sees to it that a partition is fetched if there is something.
    pub(super) fn arm(&mut self, id: u32, partition: &TopicPartition) {
        let delay = self.rng.millis(self.weather.fetch.clone());
        let exists = self.exists(partition);
        let end = self.log(partition).end;
        let start = self.log(partition).start;
        let limit = self.weather.queue_limit;
        let queued = self.queued(id, partition.number);
        let client = self.client(id);
        let Some(fetching) = client.assigned.get_mut(partition) else { return };
        let in_log = (start..end).contains(&fetching.position);
        let wanted = fetching.position != end && (!in_log || queued < limit);
        let is_read = !fetching.failed && !fetching.dead && !fetching.unstarted && !fetching.purged;
        if fetching.busy || !is_read || !wanted || !exists {
            return;
        }
        fetching.busy = true;
        let (partition, version) = (partition.clone(), fetching.version);
        self.after(delay, move |world| world.fetch(id, &partition, version));
    }

    /// Messages that wait in the queue of a partition number.
    pub(super) fn queued(&mut self, id: u32, partition: i32) -> usize {
        self.client(id).queues.get(&partition).map_or(0, QueueState::len)
    }

    /// There is more in a log.
    pub(super) fn arm_readers(&mut self, partition: &TopicPartition) {
        let readers: Vec<u32> = self.clients.keys().copied().collect();
        for client in readers {
            self.arm(client, partition);
        }
    }

    fn fetch(&mut self, id: u32, partition: &TopicPartition, version: u64) {
        let most = self.rng.size(self.weather.fetched.clone());
        let log = &self.logs[partition];
        let Some(client) = self.clients.get_mut(&id) else { return };
        let fetching = client.assigned.get_mut(partition).filter(|f| f.version == version);
        let Some(fetching) = fetching else { return };
        fetching.busy = false;
        fetching.end = Some(log.end);
        let entry = |what| Entry { partition: partition.clone(), version, what };
        let position = fetching.position;
        let entries: Vec<Entry> = if (log.start..=log.end).contains(&position) {
            let offsets: Vec<i64> = log.offsets(position, log.end).take(most).collect();
            let last = offsets.last().copied();
            // Behind the last message there may be offsets without one: they are fetched too.
            let ended = last.is_none_or(|last| log.at(last + 1).is_none());
            fetching.position = if ended { log.end } else { last.unwrap_or(position) + 1 };
            offsets.into_iter().map(|offset| entry(What::Message(offset))).collect()
        } else {
            fetching.failed = true;
            vec![entry(What::OutOfRange(position))]
        };
        if let Some(queue) = client.queues.get_mut(&partition.number) {
            queue.push(entries);
        }
        self.arm(id, partition);
    }

    /// Hands messages to the reader; outdated ones are dropped on the way.
    /// The client says that this offset is out of range, whether or not it still reads from there:
    /// librdkafka's errors are not dropped by a seek.
    pub(crate) fn report_out_of_range(&mut self, id: u32, partition: &TopicPartition, offset: i64) {
        let client = self.client(id);
        let Some(version) = client.assigned.get(partition).map(|fetching| fetching.version) else {
            return;
        };
        let what = What::OutOfRange(offset);
        if let Some(queue) = client.queues.get_mut(&partition.number) {
            queue.push([Entry { partition: partition.clone(), version, what }]);
        }
    }

    pub(super) fn take(
        &mut self,
        id: u32,
        number: i32,
        max: usize,
        into: &mut Vec<Record>,
    ) -> Taken {
        let mut taken = Taken::default();
        let Some(client) = self.clients.get_mut(&id) else { return taken };
        let Some(queue) = client.queues.get_mut(&number) else { return taken };
        while taken.messages < max && taken.error.is_none() {
            let Some(entry) = queue.entries.pop_front() else { break };
            let fetching = client.assigned.get(&entry.partition);
            if fetching.is_none_or(|fetching| entry.is_outdated(fetching)) {
                continue;
            }
            match entry.what {
                What::Message(offset) => {
                    if let Some(fetching) = client.assigned.get_mut(&entry.partition) {
                        fetching.taken_to = offset + 1;
                    }
                    let topic = client.topics.iter().position(|t| *t == entry.partition.topic);
                    let topic = u16::try_from(topic.unwrap()).unwrap();
                    let message = self.logs[&entry.partition].message(offset).clone();
                    let payload = Payload::Owned(Box::new(message));
                    into.push(Record { payload, topic });
                    taken.messages += 1;
                }
                What::OutOfRange(offset) => {
                    taken.error = Some(out_of_range(entry.partition, offset));
                }
            }
        }
        let assigned = client.assigned.keys().filter(|partition| partition.number == number);
        for partition in assigned.cloned().collect::<Vec<_>>() {
            self.arm(id, &partition);
        }
        taken
    }

    /// What was fetched and not taken is dropped, of all partitions, and fetched again after the answer.
    pub(super) fn purge(&mut self, id: u32) {
        let partitions: Vec<_> = self.client(id).assigned.keys().cloned().collect();
        for partition in partitions {
            let version = self.fresh();
            let client = self.client(id);
            let Some(fetching) = client.assigned.get_mut(&partition) else { continue };
            if fetching.failed || fetching.dead || fetching.unstarted {
                continue;
            }
            fetching.stale = Some((fetching.reported(), Instant::now()));
            fetching.version = version;
            fetching.position = fetching.taken_to;
            fetching.busy = false;
            fetching.purged = true;
            if let Some(queue) = client.queues.get_mut(&partition.number) {
                queue.entries.retain(|entry| entry.partition != partition);
            }
            self.count("purged");
        }
    }

    /// The application has answered: fetching goes on. Old positions are reported for up to a second.
    pub(super) fn end_purge(&mut self, id: u32) {
        let partitions: Vec<_> = self.client(id).assigned.keys().cloned().collect();
        for partition in partitions {
            let until = Instant::now() + self.rng.millis(0..=1000);
            let client = self.client(id);
            let Some(fetching) = client.assigned.get_mut(&partition) else { continue };
            if std::mem::take(&mut fetching.purged) {
                if let Some((_, stale_until)) = &mut fetching.stale {
                    *stale_until = until;
                }
                self.arm(id, &partition);
            }
        }
    }

    /// Whether a seek would start the partition, which would be taken for the answer to a rebalance.
    pub(super) fn must_answer_first(&mut self, id: u32, partition: &TopicPartition) -> bool {
        let client = self.client(id);
        let fetching = client.assigned.get(partition);
        let is_stopped = fetching.is_some_and(|fetching| fetching.failed || fetching.unstarted);
        let must = is_stopped && client.pending.is_some();
        if must {
            self.count("sought after the answer");
        }
        must
    }

    /// Goes to another offset; what was fetched before is outdated.
    pub(super) fn seek(&mut self, id: u32, partition: &TopicPartition, offset: i64) {
        let version = self.fresh();
        let client = self.client(id);
        let Some(fetching) = client.assigned.get_mut(partition) else { return };
        fetching.version = version;
        fetching.position = offset;
        fetching.taken_to = offset;
        fetching.stale = None;
        fetching.busy = false;
        fetching.failed = false;
        let grant = fetching.grant;
        if std::mem::take(&mut fetching.unstarted) {
            self.begins(id, partition, grant, offset);
        }
        self.tell_story(|| format!("client {id}: {partition} goes to {offset}"));
        self.count("sought");
        self.sought(id, partition, offset);
        self.arm(id, partition);
    }
}

fn out_of_range(partition: TopicPartition, offset: i64) -> QueueError {
    let error = Error::new(ErrorKind::OffsetOutOfRange, "fetch failed: offset out of range")
        .with("topic", &partition.topic)
        .with("partition", partition.number)
        .with("offset", offset);
    QueueError { partition, error }
}
