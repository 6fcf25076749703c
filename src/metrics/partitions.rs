//! The gauges of the partitions, set from what status says of them.
//!
//! Place in the data path: beside it. The coordinator sets them at intervals, and at once when partitions come
//! or go.
//!
//! Invariant: a gauge that is dropped is zero. So a partition that went, and a processor that ended in whichever
//! way, leave no number behind that nobody keeps up to date.

use std::collections::{HashMap, HashSet};

use ::metrics::Gauge;

use super::catalogue;
use super::lane::count;
use super::recorder::Metrics;
use crate::message::TopicPartition;
use crate::status::PartitionStatus;

pub(crate) struct PartitionGauges {
    metrics: Metrics,
    topics: HashMap<TopicPartition, TopicGauges>,
    numbers: HashMap<i32, NumberGauges>,
}

/// Zero when it is dropped.
pub(super) struct ZeroedGauge(pub(super) Gauge);

impl ZeroedGauge {
    pub(super) fn set(&self, value: f64) {
        self.0.set(value);
    }
}

impl Drop for ZeroedGauge {
    fn drop(&mut self) {
        self.0.set(0.0);
    }
}

/// Of a topic's partition.
struct TopicGauges {
    assigned: ZeroedGauge,
    lag: ZeroedGauge,
    committed_lag: ZeroedGauge,
    quarantined_keys: ZeroedGauge,
}

impl TopicGauges {
    fn new(metrics: &Metrics, partition: &TopicPartition) -> Self {
        let number = partition.number.to_string();
        let gauge = |metric| ZeroedGauge(metrics.gauge_of(metric, &[&partition.topic, &number]));
        Self {
            assigned: gauge(&catalogue::ASSIGNED),
            lag: gauge(&catalogue::LAG),
            committed_lag: gauge(&catalogue::COMMITTED_LAG),
            quarantined_keys: gauge(&catalogue::QUARANTINED_KEYS),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    fn set(&self, status: &PartitionStatus) {
        self.assigned.set(1.0);
        self.lag.set(status.lag as f64);
        self.committed_lag.set(status.committed_lag as f64);
        self.quarantined_keys.set(count(status.quarantined_keys));
    }
}

/// Of a partition number, across its topics.
struct NumberGauges {
    in_flight: ZeroedGauge,
    buffered_bytes: ZeroedGauge,
    stalled: ZeroedGauge,
    retrying: ZeroedGauge,
    progress_age: ZeroedGauge,
}

impl NumberGauges {
    fn new(metrics: &Metrics, number: i32) -> Self {
        let number = number.to_string();
        let gauge = |metric| ZeroedGauge(metrics.gauge_of(metric, &[&number]));
        Self {
            in_flight: gauge(&catalogue::IN_FLIGHT),
            buffered_bytes: gauge(&catalogue::BUFFERED_BYTES),
            stalled: gauge(&catalogue::STALLED),
            retrying: gauge(&catalogue::RETRYING),
            progress_age: gauge(&catalogue::PROGRESS_AGE),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    fn set(&self, status: &PartitionStatus) {
        self.buffered_bytes.set(status.buffered_bytes as f64);
        self.in_flight.set(count(status.in_flight));
        self.stalled.set(f64::from(u8::from(status.stalled)));
        self.retrying.set(f64::from(u8::from(status.retrying.is_some())));
        self.progress_age.set(status.last_progress.as_secs_f64());
    }
}

impl PartitionGauges {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), topics: HashMap::new(), numbers: HashMap::new() }
    }

    /// Sets the gauges of these partitions. All others are forgotten.
    pub(crate) fn set(&mut self, partitions: &[PartitionStatus]) {
        let assigned: HashSet<_> = partitions.iter().map(|status| &status.partition).collect();
        self.retain(|partition| assigned.contains(partition));
        let metrics = &self.metrics;
        for status in partitions {
            let (partition, number) = (&status.partition, status.partition.number);
            if let Some(gauges) = self.topics.get(partition) {
                gauges.set(status);
            } else {
                let gauges = TopicGauges::new(metrics, partition);
                gauges.set(status);
                self.topics.insert(partition.clone(), gauges);
            }
            let of_number = self.numbers.entry(number);
            of_number.or_insert_with(|| NumberGauges::new(metrics, number)).set(status);
        }
    }

    /// These partitions are given back or lost.
    pub(crate) fn forget(&mut self, partitions: &[TopicPartition]) {
        self.retain(|partition| !partitions.contains(partition));
    }

    fn retain(&mut self, stays: impl Fn(&TopicPartition) -> bool) {
        self.topics.retain(|partition, _| stays(partition));
        let left: HashSet<i32> = self.topics.keys().map(|topic| topic.number).collect();
        self.numbers.retain(|number, _| left.contains(number));
    }
}
