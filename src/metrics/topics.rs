//! The gauges of the input topics, set when one is no longer as it should be.
//!
//! Place in the data path: beside it.
//!
//! Invariant: as with the partitions, a gauge that is dropped is zero.

use std::collections::HashMap;
use std::sync::Arc;

use super::catalogue;
use super::partitions::ZeroedGauge;
use super::recorder::Metrics;
use crate::status::TopicChange;

pub(crate) struct TopicGauges {
    metrics: Metrics,
    shown: HashMap<(Arc<str>, TopicChange), ZeroedGauge>,
}

impl TopicGauges {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), shown: HashMap::new() }
    }

    /// Registers the gauges of these topics, which are 0.
    pub(crate) fn register(&self, topics: &[Arc<str>]) {
        for topic in topics {
            for change in TopicChange::ALL {
                let labels = [&**topic, change.as_str()];
                self.metrics.gauge_of(&catalogue::TOPIC_CHANGE, &labels).set(0.0);
            }
        }
    }

    /// These are 1 from now on, and all others 0.
    pub(crate) fn set(&mut self, changes: &[(Arc<str>, TopicChange)]) {
        self.shown.retain(|shown, _| changes.contains(shown));
        for (topic, change) in changes {
            let gauge = self.shown.entry((topic.clone(), *change)).or_insert_with(|| {
                let labels = [&**topic, change.as_str()];
                ZeroedGauge(self.metrics.gauge_of(&catalogue::TOPIC_CHANGE, &labels))
            });
            gauge.set(1.0);
        }
    }
}
