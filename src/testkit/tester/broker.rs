//! The outside world of a processor under test: a log that the test writes, a producer that keeps
//! what it gets.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::broker::{Handover, Producer, Queue, Taken};
use crate::lock::Mutex;
use crate::message::delivery::Delivery;
use crate::message::undelivered::DeliveryFailure;
use crate::message::{Keepalive, Offset, OwnedMessage, Payload, Record, TopicPartition};
use crate::testkit::TestMessage;

/// The input topics' messages, how far they are delivered, and what is committed.
pub(super) struct TestLog {
    topics: Arc<[Arc<str>]>,
    state: Mutex<LogState>,
    arrived: Arc<Notify>,
}

struct LogState {
    /// Of all topics, in the order in which they were pushed.
    messages: Vec<(u16, OwnedMessage)>,
    /// Indexes of the messages that are still to be delivered.
    queue: VecDeque<usize>,
    /// How many messages of the queue may be taken: where the batch ends.
    open: usize,
    committed: Vec<Option<Offset>>,
}

impl TestLog {
    pub(super) fn new(topics: Arc<[Arc<str>]>) -> Arc<Self> {
        let state = LogState {
            messages: Vec::new(),
            queue: VecDeque::new(),
            open: 0,
            committed: vec![None; topics.len()],
        };
        Arc::new(Self { topics, state: Mutex::new(state), arrived: Arc::default() })
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock()
    }

    /// The offset of the topic's next message.
    pub(super) fn end(&self, topic: u16) -> Offset {
        let state = self.state();
        let last = state.messages.iter().rev().find(|(of, _)| *of == topic);
        last.map_or(Offset::new(0), |(_, message)| message.offset.next())
    }

    pub(super) fn push(&self, topic: u16, offset: Offset, message: TestMessage) {
        let vec = |bytes: Option<Bytes>| bytes.map(Vec::from);
        let headers = message.headers.into_iter();
        let message = OwnedMessage {
            topic: self.topics[usize::from(topic)].clone(),
            partition: 0,
            offset,
            key: vec(message.key),
            value: vec(message.value),
            headers: headers.map(|(name, value)| (name, vec(value))).collect(),
            timestamp: message.timestamp,
        };
        let mut state = self.state();
        let index = state.messages.len();
        state.queue.push_back(index);
        state.messages.push((topic, message));
    }

    /// Lets this many messages be taken, and no more.
    pub(super) fn open(&self, limit: usize) {
        let mut state = self.state();
        state.open = limit.min(state.queue.len());
        self.arrived.notify_one();
    }

    /// Delivers again everything that is not committed.
    pub(super) fn rewind(&self) {
        let mut state = self.state();
        let state = &mut *state;
        let indexed = state.messages.iter().enumerate();
        let left = indexed.filter(|(_, (topic, message))| {
            state.committed[usize::from(*topic)].is_none_or(|next| message.offset >= next)
        });
        state.queue = left.map(|(index, _)| index).collect();
        state.open = 0;
    }

    pub(super) fn pending(&self) -> usize {
        self.state().queue.len()
    }

    /// Per topic, the next offset that is committed.
    pub(super) fn committed(&self) -> Vec<Option<Offset>> {
        self.state().committed.clone()
    }

    pub(super) fn set_committed(&self, committed: &[Option<Offset>]) {
        self.state().committed.copy_from_slice(committed);
    }

    pub(super) fn commit(&self, offsets: &[(TopicPartition, Offset)]) {
        let mut state = self.state();
        for (partition, next) in offsets {
            if let Some(topic) = self.topics.iter().position(|topic| *topic == partition.topic) {
                state.committed[topic] = Some(*next);
            }
        }
    }
}

/// The reading side of the log.
pub(super) struct TestQueue {
    pub(super) log: Arc<TestLog>,
    pub(super) partition: i32,
}

impl Queue for TestQueue {
    fn take(&mut self, max: usize, into: &mut Vec<Record>) -> Taken {
        let mut state = self.log.state();
        let count = max.min(state.open).min(state.queue.len());
        state.open -= count;
        let indexes: Vec<usize> = state.queue.drain(..count).collect();
        into.extend(indexes.into_iter().map(|index| {
            let (topic, message) = &state.messages[index];
            let message = OwnedMessage { partition: self.partition, ..message.clone() };
            Record { payload: Payload::Owned(Box::new(message)), topic: *topic }
        }));
        Taken { messages: count, error: None }
    }

    fn arrived(&self) -> Arc<Notify> {
        self.log.arrived.clone()
    }

    fn keepalive(&self) -> Keepalive {
        None
    }
}

/// Keeps what is sent, and acknowledges it at once unless acks are held.
#[derive(Default)]
pub(super) struct TestProducer {
    state: Mutex<ProducerState>,
}

#[derive(Default)]
struct ProducerState {
    outgoing: Vec<TestMessage>,
    /// Topics, and why their next message can't be delivered.
    failing: VecDeque<(String, String)>,
    holding: bool,
    held: Vec<Held>,
    deliveries: usize,
}

/// A delivery whose acks are held.
struct Held {
    number: usize,
    delivery: Arc<Delivery>,
    messages: usize,
}

impl TestProducer {
    fn state(&self) -> MutexGuard<'_, ProducerState> {
        self.state.lock()
    }

    pub(super) fn outgoing(&self) -> Vec<TestMessage> {
        self.state().outgoing.clone()
    }

    pub(super) fn take_outgoing(&self) -> Vec<TestMessage> {
        std::mem::take(&mut self.state().outgoing)
    }

    pub(super) fn fail_next(&self, topic: String, reason: String) {
        self.state().failing.push_back((topic, reason));
    }

    pub(super) fn hold_acks(&self) {
        self.state().holding = true;
    }

    pub(super) fn release_acks(&self) {
        let held = {
            let mut state = self.state();
            state.holding = false;
            std::mem::take(&mut state.held)
        };
        for held in held {
            held.delivery.count_down(held.messages);
        }
    }

    /// Deliveries so far.
    pub(super) fn deliveries(&self) -> usize {
        self.state().deliveries
    }

    /// Whether acks of a delivery after the first `deliveries` are held.
    pub(super) fn holds_after(&self, deliveries: usize) -> bool {
        self.state().held.iter().any(|held| held.number > deliveries)
    }
}

impl ProducerState {
    /// What is not delivered fails its delivery; the rest of it goes out.
    fn deliver(&mut self, delivery: &Delivery, index: usize) {
        let message = delivery.message(index);
        let topic = &*delivery.topics()[message.topic];
        match self.failing.iter().position(|(failing, _)| failing == topic) {
            Some(position) => {
                let failing = self.failing.remove(position);
                let reason = failing.map(|(_, reason)| reason).unwrap_or_default();
                delivery.fail(DeliveryFailure::new(topic, &reason));
            }
            None => self.outgoing.push(TestMessage::sent(topic, message)),
        }
    }
}

impl Producer for TestProducer {
    fn produce(&self, delivery: &Arc<Delivery>) -> Handover {
        let (from, to) = (delivery.next(), delivery.len());
        if from == to {
            return Handover::Complete;
        }
        let mut state = self.state();
        for index in from..to {
            state.deliver(delivery, index);
        }
        delivery.handed_over(to);
        state.deliveries += 1;
        if state.holding {
            let number = state.deliveries;
            state.held.push(Held { number, delivery: delivery.clone(), messages: to - from });
        } else {
            delivery.count_down(to - from);
        }
        Handover::Complete
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
