//! The assigned partitions and their queues.
//!
//! Place in the data path: beside it. Every partition has a queue of librdkafka's; all those of one
//! partition number are forwarded into one [`PartitionQueue`], so that a batch gets the messages of
//! all topics without anybody touching them one by one.
//!
//! Invariant: stopping a partition ends its forwarding, and starting it again does not restore it.
//! A partition that is assigned anew and not forwarded anew is fetched and read by nobody. So the
//! forwarding is set at each assignment, and where librdkafka stops and starts a partition in one
//! go, after it has been stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::errors::{self, no_handle};
use super::ffi::{Client, Code, Known, PartitionList, QueueHandle};
use super::queue::{PartitionQueue, ReadingPaused};
use crate::broker::Sought;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, TopicPartition};

const SEEK_TIMEOUT: Duration = Duration::from_secs(10);

/// The queues by partition number. Ordered, so that whoever locks several does it in one order.
#[derive(Default)]
pub(super) struct Slots {
    by_number: BTreeMap<i32, Slot>,
    /// Nothing may be asked of the group any more: see [`Slots::close`].
    closed: bool,
}

/// One partition number.
struct Slot {
    queue: Arc<PartitionQueue>,
    /// Per index of an input topic.
    parts: BTreeMap<usize, Part>,
}

/// One topic's partition.
struct Part {
    /// Its own queue, which holds the forwarding.
    queue: QueueHandle,
    /// librdkafka reads it. One that was assigned without an offset is kept from librdkafka until the
    /// first seek. (To have it read from a logical offset, and then to seek, would not do: an answer
    /// about the logical offset that comes after the seek makes librdkafka ask again and go there.)
    begun: bool,
}

/// What came of an answer to an assignment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Assigns {
    /// The partitions are read now; not if they are lost already.
    pub(super) is_read: bool,
    /// Others are not.
    pub(super) replaces: bool,
}

/// What assigning needs to know about the consumer.
#[derive(Clone)]
pub(super) struct AssignmentContext {
    pub(super) client: Arc<Client>,
    pub(super) topics: Arc<[Arc<str>]>,
}

impl AssignmentContext {
    fn topic_index(&self, topic: &str) -> Result<usize> {
        self.topics.iter().position(|known| **known == *topic).ok_or_else(|| {
            let message = "a partition belongs to a topic that is not an input topic";
            Error::new(ErrorKind::Internal, message).with("topic", topic)
        })
    }

    fn list(&self) -> Result<PartitionList<'_>> {
        PartitionList::new(&self.client).ok_or_else(|| no_handle("partition list"))
    }

    fn failed(what: &str, (code, text): (Code, String)) -> Error {
        errors::error(code, text).with("operation", what)
    }
}

impl Slots {
    pub(super) fn queue(&self, number: i32) -> Option<&Arc<PartitionQueue>> {
        self.by_number.get(&number).map(|slot| &slot.queue)
    }

    /// Before the group is left. From then on the consumer's thread answers, and nobody else: a call
    /// that meets the group's end gets no reply from librdkafka, and would wait for good.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.by_number.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Answers an assignment, unless closed. Where assignments change as a whole, those that were there before
    /// are gone afterwards.
    pub(super) fn assign(
        &mut self,
        context: &AssignmentContext,
        starts: &[(TopicPartition, Option<Offset>)],
    ) -> Result<Assigns> {
        let cooperative = context.client.is_cooperative();
        let replaces_others = !cooperative && !self.by_number.is_empty();
        if replaces_others {
            self.remove_all();
        }
        // Lost while the answer was prepared. "Unassign" would not be the answer that librdkafka
        // waits for; an empty assignment is, and the revocation follows.
        // Asked in any case: `assign` makes librdkafka forget it.
        let lost = context.client.assignment_lost() && !cooperative;
        let mut list = context.list()?;
        for (partition, offset) in starts {
            self.forward(context, partition, *offset)?;
            if let Some(offset) = offset.filter(|_| !lost) {
                list.add(&partition.topic, partition.number, offset.get());
            }
        }
        let result = if cooperative {
            context.client.incremental_assign(&list)
        } else {
            context.client.assign(&list).map_err(|code| (code, code.text()))
        };
        result.map_err(|error| AssignmentContext::failed("assign", error))?;
        if replaces_others {
            self.forward_again(context);
        }
        Ok(Assigns { is_read: !lost, replaces: !cooperative })
    }

    /// Sets the forwarding anew: stopping partitions has ended it for those that go on.
    fn forward_again(&self, context: &AssignmentContext) {
        // Any question will do: the answer comes after the partitions have been stopped, and with that their
        // forwarding. What arrived unforwarded in between follows.
        context.client.is_cooperative();
        for slot in self.by_number.values() {
            slot.parts.values().for_each(|part| part.queue.forward(slot.queue.arrivals()));
        }
    }

    fn remove_all(&mut self) {
        let slots = std::mem::take(&mut self.by_number);
        for part in slots.values().flat_map(|slot| slot.parts.values()) {
            part.queue.stop_forwarding();
        }
    }

    /// Answers a revocation, unless closed.
    pub(super) fn unassign(
        &mut self,
        context: &AssignmentContext,
        partitions: &[TopicPartition],
    ) -> Result<()> {
        let result = if context.client.is_cooperative() {
            let mut list = context.list()?;
            for partition in partitions.iter().filter(|partition| self.is_begun(context, partition))
            {
                list.add(&partition.topic, partition.number, 0);
            }
            let _paused = self.pause_reading();
            context.client.incremental_unassign(&list)
        } else {
            let _paused = self.pause_reading();
            context.client.unassign().map_err(|code| (code, code.text()))
        };
        context.client.given_back();
        for partition in partitions {
            self.remove(context, partition);
        }
        result.map_err(|error| AssignmentContext::failed("unassign", error))
    }

    /// Moves partitions to other offsets. Blocks for a few round trips to librdkafka's main thread,
    /// which waits for no broker.
    ///
    /// Partitions that librdkafka does not read now are not started while a rebalance waits for its
    /// answer: librdkafka would take that for the answer, and tell the group that partitions are free
    /// which are still being worked on.
    pub(super) fn seek(
        &mut self,
        context: &AssignmentContext,
        positions: &[(TopicPartition, Offset)],
        is_answer_due: impl Fn() -> bool,
    ) -> Result<Sought> {
        // Of what is lost nothing is read any more, and the revocation is on its way.
        if self.closed || positions.is_empty() || context.client.assignment_lost() {
            return Ok(Sought::Done);
        }
        let mut paused = self.pause_reading();
        let mut list = context.list()?;
        let (mut begun, mut stopped) = (Vec::new(), Vec::new());
        for (partition, offset) in positions {
            let Some(part) = self.part(context, partition) else {
                let message = "the position of a partition that is not assigned cannot be changed";
                return Err(Error::new(ErrorKind::UnknownPartition, message)
                    .with("topic", &partition.topic)
                    .with("partition", partition.number));
            };
            if let Some(paused) = paused.get_mut(&partition.number) {
                paused.set_position(context.topic_index(&partition.topic)?, *offset);
            }
            if part.begun {
                list.add(&partition.topic, partition.number, offset.get());
                begun.push(partition);
            } else {
                stopped.push(partition.clone());
            }
        }
        if !begun.is_empty() {
            let sought = context.client.seek(&mut list, SEEK_TIMEOUT);
            sought.map_err(|error| AssignmentContext::failed("seek", error))?;
        }
        for (entry, partition) in list.entries().iter().zip(begun) {
            match entry.error {
                None => {}
                Some(code) if code.is(Known::RD_KAFKA_RESP_ERR__STATE) => {
                    stopped.push(partition.clone());
                }
                Some(code) => {
                    return Err(AssignmentContext::failed("seek", (code, code.text()))
                        .with("topic", &partition.topic)
                        .with("partition", partition.number));
                }
            }
        }
        // Also where everything was lost meanwhile, of which the restart would leave no trace.
        if stopped.is_empty() || context.client.assignment_lost() {
            return Ok(Sought::Done);
        }
        if is_answer_due() {
            return Ok(Sought::AfterAnswer);
        }
        let sought = self.restart(context, &stopped, &paused, is_answer_due)?;
        drop(paused);
        for partition in &stopped {
            let index = context.topic_index(&partition.topic)?;
            let slot = self.by_number.get_mut(&partition.number);
            if let Some(part) = slot.and_then(|slot| slot.parts.get_mut(&index)) {
                part.begun = sought == Sought::Done;
            }
        }
        Ok(sought)
    }

    fn part(&self, context: &AssignmentContext, partition: &TopicPartition) -> Option<&Part> {
        let index = context.topic_index(&partition.topic).ok()?;
        self.by_number.get(&partition.number)?.parts.get(&index)
    }

    fn is_begun(&self, context: &AssignmentContext, partition: &TopicPartition) -> bool {
        self.part(context, partition).is_some_and(|part| part.begun)
    }

    /// Starts partitions that have not begun, and again those that librdkafka has given up, such as
    /// those with an offset that is not in the log: it refuses to seek in them.
    ///
    /// Where assignments change as a whole, all partitions begin again at the positions that their
    /// reader has reached. What was fetched ahead is fetched once more; that is rare enough.
    ///
    /// A rebalance that comes when they are stopped and not yet started is answered first.
    fn restart(
        &self,
        context: &AssignmentContext,
        stopped: &[TopicPartition],
        paused: &BTreeMap<i32, ReadingPaused<'_>>,
        is_answer_due: impl Fn() -> bool,
    ) -> Result<Sought> {
        let cooperative = context.client.is_cooperative();
        let (mut list, mut given_up) = (context.list()?, context.list()?);
        let mut gives_up = false;
        for (number, slot) in &self.by_number {
            for (index, part) in &slot.parts {
                let topic = &context.topics[*index];
                let is_stopped = stopped.iter().any(|s| s.number == *number && *s.topic == **topic);
                if is_stopped || (!cooperative && part.begun) {
                    let position = paused.get(number).and_then(|paused| paused.position(*index));
                    list.add(topic, *number, position.map_or(0, Offset::get));
                }
                if is_stopped && part.begun {
                    given_up.add(topic, *number, 0);
                    gives_up = true;
                }
            }
        }
        let result = match (cooperative, gives_up) {
            (true, true) => context.client.incremental_unassign(&given_up),
            // Not even with an empty list: it could be taken for the answer to a revocation.
            (true, false) => Ok(()),
            (false, _) => context.client.assign(&list).map_err(|code| (code, code.text())),
        };
        result.map_err(|error| AssignmentContext::failed("seek", error))?;
        self.forward_again(context);
        if cooperative {
            if gives_up && is_answer_due() {
                return Ok(Sought::AfterAnswer);
            }
            let result = context.client.incremental_assign(&list);
            result.map_err(|error| AssignmentContext::failed("seek", error))?;
        }
        Ok(Sought::Done)
    }

    fn pause_reading(&self) -> BTreeMap<i32, ReadingPaused<'_>> {
        let slots = self.by_number.iter();
        slots.map(|(number, slot)| (*number, slot.queue.pause_reading())).collect()
    }

    /// Sends the messages of a partition into its number's queue.
    fn forward(
        &mut self,
        context: &AssignmentContext,
        partition: &TopicPartition,
        offset: Option<Offset>,
    ) -> Result<()> {
        let TopicPartition { topic, number } = partition;
        let index = context.topic_index(topic)?;
        if !self.by_number.contains_key(number) {
            let queue = PartitionQueue::new(&context.client, context.topics.len())
                .ok_or_else(|| no_handle("queue"))?;
            self.by_number.insert(*number, Slot { queue, parts: BTreeMap::new() });
        }
        let part = QueueHandle::of_partition(&context.client, topic, *number)
            .ok_or_else(|| no_handle("partition queue").with("topic", topic))?;
        if let Some(slot) = self.by_number.get_mut(number) {
            if let Some(offset) = offset {
                slot.queue.pause_reading().set_position(index, offset);
            }
            part.forward(slot.queue.arrivals());
            slot.parts.insert(index, Part { queue: part, begun: offset.is_some() });
        }
        Ok(())
    }

    fn remove(&mut self, context: &AssignmentContext, partition: &TopicPartition) {
        let Ok(index) = context.topic_index(&partition.topic) else { return };
        let Some(slot) = self.by_number.get_mut(&partition.number) else { return };
        if let Some(part) = slot.parts.remove(&index) {
            part.queue.stop_forwarding();
        }
        if slot.parts.is_empty() {
            // A reader may still hold the queue; nothing comes into it any more.
            self.by_number.remove(&partition.number);
        }
    }
}
