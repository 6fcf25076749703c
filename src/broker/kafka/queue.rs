//! The queue of one partition number: where librdkafka puts the messages of all its topics, and
//! the reader that turns them into records.
//!
//! Place in the data path: its beginning. The batcher takes from [`KafkaQueue`].
//!
//! Invariants:
//! - Nothing changes where a partition is read from while a reader is inside librdkafka's batch
//!   call. The sequence that breaks it otherwise: the call has taken messages 10 to 20 out of the
//!   queue; the partition is sought to 5; the call ends by noting 21 as what the application has
//!   seen; the next rebalance pauses the partition and resumes it at 21, and 5 to 20 are lost. So
//!   [`PartitionQueue::pause_reading`] comes before a seek and an unassignment.
//! - Of one assignment of one partition, offsets only rise, until a seek. librdkafka repeats
//!   messages when a cooperative rebalance pauses a partition between the end of a batch call and
//!   the note of what was seen. The repetition is dropped here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use tokio::sync::Notify;

use super::errors;
use super::ffi::{ArrivalQueue, Client, Code, KafkaMessage, Known};
use super::refusals;
use crate::broker::{Queue, QueueError, QueueLength, Taken};
use crate::lock::Mutex;
use crate::message::{Keepalive, Offset, Payload, Record, TopicPartition};

/// The most entries that are taken out of librdkafka's queue in one call.
const MOST: usize = 8192;

/// Of so many messages, the size of one is looked at: parsing its headers takes time.
const SAMPLED: usize = 256;

/// What a message takes besides its key, its value and its headers: librdkafka's entry in the queue, and
/// the fields around them as they came over the network (measured).
const ENTRY_BYTES: u64 = 350;

/// How large the keys and headers of a partition number's messages are: an average, in which each
/// message that was looked at counts an eighth. librdkafka tells only of the values in a queue.
#[derive(Debug, Default)]
pub(super) struct BesideValues {
    /// Eight times the average.
    eightfold: AtomicU64,
}

impl BesideValues {
    /// Called by the reader of the queue only.
    fn note(&self, bytes: usize) {
        let bytes = bytes as u64;
        let next = match self.eightfold.load(Ordering::Relaxed) {
            0 => bytes * 8,
            eightfold => eightfold - eightfold / 8 + bytes,
        };
        self.eightfold.store(next, Ordering::Relaxed);
    }

    /// About the memory of so many messages with values of so many bytes.
    pub(super) fn memory(&self, messages: u64, value_bytes: u64) -> u64 {
        let average = self.eightfold.load(Ordering::Relaxed) / 8;
        value_bytes + messages * (ENTRY_BYTES + average)
    }
}

/// One partition number's messages, shared by its topics, its reader, and whoever assigns.
pub(super) struct PartitionQueue {
    arrivals: ArrivalQueue,
    /// Per index of an input topic, the lowest offset that may come next.
    floors: Mutex<Vec<i64>>,
}

impl PartitionQueue {
    pub(super) fn new(client: &Arc<Client>, topics: usize) -> Option<Arc<Self>> {
        let arrivals = ArrivalQueue::new(client)?;
        Some(Arc::new(Self { arrivals, floors: Mutex::new(vec![i64::MIN; topics]) }))
    }

    pub(super) fn arrivals(&self) -> &ArrivalQueue {
        &self.arrivals
    }

    /// Keeps the reader out until the guard is dropped; waits for a batch call that is under way,
    /// which takes microseconds. The reader gets nothing meanwhile and is woken afterwards.
    pub(super) fn pause_reading(&self) -> ReadingPaused<'_> {
        let floors = self.floors.lock();
        ReadingPaused { floors: Some(floors), arrived: self.arrivals.arrived() }
    }
}

/// While it lives, nothing is read from the queue.
pub(super) struct ReadingPaused<'q> {
    floors: Option<MutexGuard<'q, Vec<i64>>>,
    arrived: &'q Notify,
}

impl ReadingPaused<'_> {
    /// Reading of the topic with this index goes on at `offset`.
    pub(super) fn set_position(&mut self, topic: usize, offset: Offset) {
        if let Some(floor) = self.floors.as_mut().and_then(|floors| floors.get_mut(topic)) {
            *floor = offset.get();
        }
    }

    /// Where reading of the topic with this index has come to.
    pub(super) fn position(&self, topic: usize) -> Option<Offset> {
        let floor = self.floors.as_ref()?.get(topic)?;
        (*floor >= 0).then_some(Offset::new(*floor))
    }
}

impl Drop for ReadingPaused<'_> {
    fn drop(&mut self) {
        // The lock goes first: a reader woken under it would find it closed, and sleep.
        self.floors = None;
        self.arrived.notify_one();
    }
}

/// The reader of a partition number's queue.
pub(super) struct KafkaQueue {
    queue: Arc<PartitionQueue>,
    topics: Arc<[Arc<str>]>,
    partition: i32,
    beside_values: Arc<BesideValues>,
    /// Messages until the next one is looked at.
    until_sample: usize,
    /// Empty between calls; kept for its memory.
    buffer: Vec<KafkaMessage>,
    /// The topics seen in the current call, by librdkafka's pointer. Not kept between calls: the
    /// pointer of a topic that is gone may come again as another topic's.
    seen: Vec<(usize, u16)>,
}

impl KafkaQueue {
    pub(super) fn new(
        queue: Arc<PartitionQueue>,
        topics: Arc<[Arc<str>]>,
        partition: i32,
        beside_values: Arc<BesideValues>,
    ) -> Self {
        Self {
            queue,
            topics,
            partition,
            beside_values,
            until_sample: 0,
            buffer: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Looks at the size of some of the messages in the buffer.
    fn sample(&mut self) {
        let mut index = self.until_sample;
        while let Some(message) = self.buffer.get_mut(index) {
            if message.error().is_none() {
                self.beside_values.note(message.size_beside_value());
            }
            index += SAMPLED;
        }
        self.until_sample = index - self.buffer.len();
    }

    /// Turns what is in the buffer into records. Of a topic whose error came, nothing behind the
    /// error is handed out: it would be processed and recorded as if there were no gap.
    fn sort(&mut self, floors: &mut [i64], into: &mut Vec<Record>) -> Option<QueueError> {
        let (mut failed, mut first_error) = (Vec::new(), None);
        self.seen.clear();
        let mut last = (0, 0);
        let mut buffer = std::mem::take(&mut self.buffer);
        for message in buffer.drain(..) {
            let id = message.topic_id();
            if let Some(code) = message.error() {
                if let Some(error) = self.judge(&message, code) {
                    failed.push(id);
                    first_error.get_or_insert(error);
                }
                continue;
            }
            if failed.contains(&id) {
                continue;
            }
            if id != last.0 {
                match self.topic_index(&message, id) {
                    Some(index) => last = (id, index),
                    None => continue,
                }
            }
            let floor = &mut floors[usize::from(last.1)];
            let offset = message.offset();
            if offset.get() >= *floor {
                *floor = offset.next().get();
                into.push(Record { payload: Payload::Kafka(message), topic: last.1 });
            }
        }
        self.buffer = buffer;
        first_error
    }

    fn topic_index(&mut self, message: &KafkaMessage, id: usize) -> Option<u16> {
        if let Some((_, index)) = self.seen.iter().find(|(seen, _)| *seen == id) {
            return Some(*index);
        }
        let name = message.topic();
        let index = self.topics.iter().position(|topic| **topic == *name)?;
        let index = u16::try_from(index).ok()?;
        self.seen.push((id, index));
        Some(index)
    }

    /// The error that an entry stands for, unless librdkafka deals with it.
    fn judge(&self, message: &KafkaMessage, code: Code) -> Option<QueueError> {
        if code.is(Known::RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            return None;
        }
        let (topic, text) = (message.topic(), message.error_text());
        let offset = message.offset();
        if errors::fetch_goes_on(code) {
            tracing::warn!(topic, partition = self.partition, code = code.name(), "{text}");
            return None;
        }
        let error = match refusals::codec(code, &text) {
            Some((text, codec)) => errors::error(code, text).with("codec", codec),
            None => errors::error(code, text),
        };
        let error = error.with("topic", &topic).with("partition", message.partition());
        // Errors that belong to no offset carry a negative number.
        let known = offset.get() >= 0;
        let error = if known { error.with("offset", offset) } else { error };
        Some(QueueError { partition: TopicPartition::new(&*topic, message.partition()), error })
    }
}

impl Queue for KafkaQueue {
    fn take(&mut self, max: usize, into: &mut Vec<Record>) -> Taken {
        let queue = Arc::clone(&self.queue);
        // Else paused; woken when that ends.
        let Some(mut floors) = queue.floors.try_lock() else { return Taken::default() };
        let before = into.len();
        // The queue is empty only when librdkafka says so: what it gave may have been entries that
        // are no messages, and no wake-up comes for those that are still behind them.
        while queue.arrivals.take(max.min(MOST), &mut self.buffer) > 0 {
            self.sample();
            let error = self.sort(&mut floors, into);
            let messages = into.len() - before;
            if messages > 0 || error.is_some() {
                return Taken { messages, error };
            }
        }
        Taken::default()
    }

    fn arrived(&self) -> Arc<Notify> {
        Arc::clone(self.queue.arrivals.arrived())
    }

    fn length(&self) -> QueueLength {
        let queue = Arc::clone(&self.queue);
        Arc::new(move || queue.arrivals.len())
    }

    fn keepalive(&self) -> Keepalive {
        Some(Arc::clone(self.queue.arrivals.client()) as Arc<dyn std::any::Any + Send + Sync>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_estimated_from_the_keys_and_headers_seen_lately() {
        let beside = BesideValues::default();
        assert_eq!(beside.memory(10, 1000), 1000 + 10 * ENTRY_BYTES, "nothing was seen");
        beside.note(400);
        assert_eq!(beside.memory(10, 1000), 1000 + 10 * (ENTRY_BYTES + 400));
        (0..100).for_each(|_| beside.note(20));
        let lately = beside.memory(10, 0) / 10 - ENTRY_BYTES;
        assert!((18..=28).contains(&lately), "{lately}");
    }
}
