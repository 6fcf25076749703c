//! What a lane counts: incoming and outgoing messages, and how long its batches take.
//!
//! Place in the data path: beside it, once a batch. The handles are made when the lane begins or, for outgoing
//! topics, when it first sends to one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::Counter;
use tokio::time::Instant;

use super::catalogue::{self, Metric};
use super::processor::ProcessorMetrics;
use super::recorder::Metrics;
use crate::lock::Mutex;
use crate::message::delivery::Delivery;
use crate::message::rejected::Rejection;
use crate::message::{Batch, Tally};
use crate::pipeline::call::Call;

pub(crate) struct LaneMetrics {
    processor: Arc<ProcessorMetrics>,
    partition: String,
    topics: Vec<Arc<str>>,
    batches: Counter,
    /// By index of the input topic.
    incoming: Vec<Traffic>,
    outgoing: Mutex<HashMap<Arc<str>, Traffic>>,
}

/// Messages and their bytes.
#[derive(Clone)]
struct Traffic {
    messages: Counter,
    bytes: Counter,
}

impl Traffic {
    fn count(&self, tally: Tally) {
        self.messages.increment(tally.messages);
        self.bytes.increment(tally.bytes);
    }
}

impl LaneMetrics {
    pub(crate) fn new(
        processor: Arc<ProcessorMetrics>,
        topics: &[Arc<str>],
        partition: i32,
    ) -> Arc<Self> {
        let partition = partition.to_string();
        let metrics = &processor.metrics;
        let (messages, bytes) = (&catalogue::INCOMING_MESSAGES, &catalogue::INCOMING_BYTES);
        let incoming =
            topics.iter().map(|topic| traffic(metrics, messages, bytes, topic, &partition));
        Arc::new(Self {
            incoming: incoming.collect(),
            topics: topics.to_vec(),
            batches: metrics.counter_of(&catalogue::BATCHES, &[&partition]),
            outgoing: Mutex::default(),
            partition,
            processor,
        })
    }

    /// For the user's own metrics.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.processor.metrics
    }

    /// A batch is about to be processed; its first message was taken so long ago.
    pub(crate) fn begins(&self, batch: &Batch, age: Duration) {
        self.batches.increment(1);
        self.processor.batch_messages.record(count(batch.len()));
        self.processor.batch_age.record(age);
        batch.tally(|topic, tally| self.incoming[topic].count(tally));
    }

    /// The call has returned, or panicked.
    pub(crate) fn called(&self, call: &Call, since: Instant) {
        let time = match call {
            Call::Process(_) => &self.processor.process_time,
            Call::Tick => &self.processor.tick_time,
            Call::Closing => &self.processor.closing_time,
        };
        time.record(since.elapsed());
    }

    /// A call that failed is about to be made again.
    pub(crate) fn tries_again(&self) {
        self.processor.metrics.counter_of(&catalogue::RETRIES, &[&self.partition]).increment(1);
    }

    /// These messages are rejected for good.
    pub(crate) fn rejected(&self, rejections: &[Rejection]) {
        let mut counts: HashMap<(u16, &str), u64> = HashMap::new();
        for rejection in rejections {
            let outcome = match &rejection.letters {
                Some(_) if rejection.reason.is_held() => "quarantine",
                Some(_) => "dead_letter",
                None => "skip",
            };
            *counts.entry((rejection.topic, outcome)).or_default() += 1;
        }
        for ((topic, outcome), count) in counts {
            let labels = [&*self.topics[usize::from(topic)], &*self.partition, outcome];
            self.processor.metrics.counter_of(&catalogue::REJECTED, &labels).increment(count);
        }
    }

    /// All messages of the delivery are acknowledged. Counts them once, however often it is told.
    pub(crate) fn acknowledged(&self, delivery: &Delivery) {
        let Some(since) = delivery.first_notice() else { return };
        self.processor.produce_time.record(since.elapsed());
        let mut outgoing = self.outgoing.lock();
        for (topic, tally) in delivery.tallies() {
            if let Some(traffic) = outgoing.get(topic) {
                traffic.count(tally);
                continue;
            }
            let label = self.processor.topic_label(topic);
            let traffic = self.outgoing_to(label);
            traffic.count(tally);
            // Those that share a label are not kept, however many there are.
            if label == &**topic {
                outgoing.insert(Arc::clone(topic), traffic);
            }
        }
    }

    fn outgoing_to(&self, label: &str) -> Traffic {
        let (messages, bytes) = (&catalogue::OUTGOING_MESSAGES, &catalogue::OUTGOING_BYTES);
        traffic(&self.processor.metrics, messages, bytes, label, &self.partition)
    }
}

fn traffic(
    metrics: &Metrics,
    messages: &'static Metric,
    bytes: &'static Metric,
    topic: &str,
    partition: &str,
) -> Traffic {
    let labels = [topic, partition];
    Traffic {
        messages: metrics.counter_of(messages, &labels),
        bytes: metrics.counter_of(bytes, &labels),
    }
}

#[allow(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub(super) fn count(value: usize) -> f64 {
    value as f64
}
