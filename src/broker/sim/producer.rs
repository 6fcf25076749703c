//! The producer: outgoing messages stand in one line per producer and outgoing partition, are
//! appended, and reported, each line at its own pace.
//!
//! Messages to the topic [`UNDELIVERABLE`] fail, in the end; those to [`REFUSED`] are not taken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::poison::LETTERS;
use super::{Cluster, World};
use crate::broker::{Handover, Producer};
use crate::message::delivery::Delivery;
use crate::message::undelivered::{DeliveryFailure, Fault};

pub(crate) const UNDELIVERABLE: &str = "undeliverable";
pub(crate) const REFUSED: &str = "refused";

pub(crate) struct SimProducer {
    cluster: Cluster,
    id: u64,
}

/// What was sent and is not yet reported.
#[derive(Default)]
pub(super) struct Outgoing {
    lines: BTreeMap<LineKey, Line>,
    /// Per producer.
    queued: BTreeMap<u64, usize>,
    /// Messages that producers have taken, delivered or not.
    taken: usize,
    /// Topics that take nothing at the moment.
    held: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineKey {
    producer: u64,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<(Arc<Delivery>, usize)>,
    busy: bool,
}

impl Cluster {
    pub(crate) fn producer(&self) -> SimProducer {
        let id = self.world().fresh();
        SimProducer { cluster: self.clone(), id }
    }
}

impl Drop for SimProducer {
    /// By chance what it has not sent yet is lost, or goes out late.
    fn drop(&mut self) {
        let mut world = self.cluster.world();
        if world.rng.chance(50) {
            let id = self.id;
            world.outgoing.lines.retain(|key, _| key.producer != id);
        }
    }
}

impl Producer for SimProducer {
    fn produce(&self, delivery: &Arc<Delivery>) -> Handover {
        let world = &mut *self.cluster.world();
        for index in delivery.next()..delivery.len() {
            let queued = world.outgoing.queued.entry(self.id).or_default();
            let is_full = *queued >= world.weather.producer_queue;
            if is_full || world.rng.chance(world.weather.faults.queue_full) {
                return Handover::QueueFull;
            }
            let message = delivery.message(index);
            let topic = delivery.topics()[message.topic].clone();
            if *topic == *REFUSED || world.rng.chance(world.weather.faults.message_refused) {
                world.message_fails(&topic, message.value);
                let reason = "the client does not take it".to_owned();
                let failure = delivery.failure_of(index, message.partition, reason);
                let is_refused = *topic == *REFUSED;
                let fault = if is_refused { Fault::Message(index) } else { Fault::None };
                delivery.fail(failure.at_fault(fault));
                delivery.handed_over(delivery.len());
                delivery.count_down(delivery.len() - index);
                return Handover::Complete;
            }
            let partition = message.partition.unwrap_or(0);
            let key = LineKey { producer: self.id, topic, partition };
            world.enqueue(key, delivery.clone(), index);
            delivery.handed_over(index + 1);
        }
        Handover::Complete
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        let wait = self.cluster.world().rng.millis(1..=5);
        Box::pin(tokio::time::sleep(wait))
    }
}

impl World {
    /// Lets no outgoing message of this topic get through.
    pub(crate) fn hold(&mut self, topic: &str) {
        self.outgoing.held.insert(topic.into());
    }

    pub(crate) fn release(&mut self, topic: &str) {
        self.outgoing.held.remove(topic);
        let keys: Vec<_> = self.outgoing.lines.keys().cloned().collect();
        for key in keys {
            self.move_up(key);
        }
    }

    /// Outgoing messages that have no report yet.
    pub(crate) fn unreported(&self) -> usize {
        self.outgoing.queued.values().sum()
    }

    /// Outgoing messages that producers have taken so far, delivered or not.
    pub(crate) fn taken(&self) -> usize {
        self.outgoing.taken
    }

    fn enqueue(&mut self, key: LineKey, delivery: Arc<Delivery>, index: usize) {
        *self.outgoing.queued.entry(key.producer).or_default() += 1;
        self.outgoing.taken += 1;
        self.outgoing.lines.entry(key.clone()).or_default().waiting.push_back((delivery, index));
        self.move_up(key);
    }

    fn move_up(&mut self, key: LineKey) {
        let held = self.outgoing.held.contains(&*key.topic);
        let Some(line) = self.outgoing.lines.get_mut(&key) else { return };
        if held || line.busy || line.waiting.is_empty() {
            return;
        }
        line.busy = true;
        let delay = self.rng.millis(self.weather.append.clone());
        self.after(delay, move |world| world.append_line(key));
    }

    /// Everything in the line gets its place in the log, or fails.
    fn append_line(&mut self, key: LineKey) {
        let Some(line) = self.outgoing.lines.get_mut(&key) else { return };
        let mut reports = Vec::new();
        for (delivery, index) in std::mem::take(&mut line.waiting) {
            let failed = *key.topic == *UNDELIVERABLE
                || self.rng.chance(self.weather.faults.delivery_failed);
            if !failed && *key.topic != *LETTERS {
                self.delivered(&key, delivery.message(index).value);
            }
            reports.push((delivery, index, failed));
        }
        let delay = self.rng.millis(self.weather.ack.clone());
        self.after(delay.max(Duration::from_millis(1)), move |world| {
            world.report_line(key, reports);
        });
    }

    /// A letter that is not delivered is sent again.
    fn message_fails(&mut self, topic: &str, value: Option<&[u8]>) {
        if topic == LETTERS {
            self.count("letter not delivered");
        } else {
            self.not_delivered(value);
        }
    }

    fn report_line(&mut self, key: LineKey, reports: Vec<(Arc<Delivery>, usize, bool)>) {
        for (delivery, index, failed) in reports {
            *self.outgoing.queued.entry(key.producer).or_default() -= 1;
            let message = delivery.message(index);
            if failed {
                self.message_fails(&key.topic, message.value);
                delivery.fail(DeliveryFailure::new(&key.topic, "message timed out"));
            } else if *key.topic == *LETTERS {
                self.letter_acked(&message);
            } else {
                self.acked(message.value);
            }
            delivery.count_down(1);
        }
        if let Some(line) = self.outgoing.lines.get_mut(&key) {
            line.busy = false;
        }
        self.move_up(key);
    }
}
