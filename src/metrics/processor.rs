//! What is counted for a topic processor as a whole: histograms of its batches, commits, rebalances, failures.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Histogram, NoopRecorder};

use super::catalogue;
use super::recorder::Metrics;
use crate::error::Error;
use crate::lock::Mutex;
use crate::status::RebalanceEvent;

/// So many outgoing topics are told apart. A processor that sends to a topic for each of its customers would
/// have a label for each, too.
const NAMED_TOPICS: usize = 64;

/// The label of all further outgoing topics. No topic has such a name.
const OTHER_TOPICS: &str = "(other)";

pub(crate) struct ProcessorMetrics {
    pub(crate) metrics: Metrics,
    pub(super) batch_messages: Histogram,
    pub(super) batch_age: Histogram,
    pub(super) process_time: Histogram,
    pub(super) tick_time: Histogram,
    pub(super) closing_time: Histogram,
    pub(super) produce_time: Histogram,
    outgoing_topics: Mutex<HashSet<Arc<str>>>,
    assigned: Rebalances,
    revoked: Rebalances,
    lost: Rebalances,
}

struct Rebalances {
    events: Counter,
    partitions: Counter,
}

impl ProcessorMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Arc<Self> {
        let rebalances = |event| Rebalances {
            events: metrics.counter_of(&catalogue::REBALANCES, &[event]),
            partitions: metrics.counter_of(&catalogue::REBALANCED_PARTITIONS, &[event]),
        };
        Arc::new(Self {
            batch_messages: metrics.histogram_of(&catalogue::BATCH_MESSAGES, &[]),
            batch_age: metrics.histogram_of(&catalogue::BATCH_AGE, &[]),
            process_time: metrics.histogram_of(&catalogue::PROCESS_TIME, &[]),
            tick_time: metrics.histogram_of(&catalogue::TICK_TIME, &[]),
            closing_time: metrics.histogram_of(&catalogue::CLOSING_TIME, &[]),
            produce_time: metrics.histogram_of(&catalogue::PRODUCE_TIME, &[]),
            outgoing_topics: Mutex::default(),
            assigned: rebalances("assigned"),
            revoked: rebalances("revoked"),
            lost: rebalances("lost"),
            metrics: metrics.clone(),
        })
    }

    /// Counts nothing: for what has not begun.
    pub(crate) fn off() -> Arc<Self> {
        Self::new(&Metrics::new("", NoopRecorder))
    }

    pub(crate) fn commits(&self) -> CommitMetrics {
        CommitMetrics {
            commits: self.metrics.counter_of(&catalogue::COMMITS, &[]),
            failures: self.metrics.counter_of(&catalogue::COMMIT_FAILURES, &[]),
            time: self.metrics.histogram_of(&catalogue::COMMIT_TIME, &[]),
            latency: self.metrics.histogram_of(&catalogue::LATENCY, &[]),
        }
    }

    pub(crate) fn rebalanced(&self, event: &RebalanceEvent) {
        let (rebalances, partitions) = match event {
            RebalanceEvent::Assigned(partitions) => (&self.assigned, partitions),
            RebalanceEvent::Revoked(partitions) => (&self.revoked, partitions),
            RebalanceEvent::Lost(partitions) => (&self.lost, partitions),
        };
        rebalances.events.increment(1);
        rebalances.partitions.increment(partitions.len() as u64);
    }

    pub(crate) fn failed(&self, error: &Error) {
        let kind = error.kind().to_string();
        self.metrics.counter_of(&catalogue::FAILURES, &[&kind]).increment(1);
    }

    /// What an outgoing topic is called in labels.
    pub(super) fn topic_label<'a>(&self, topic: &'a Arc<str>) -> &'a str {
        let mut named = self.outgoing_topics.lock();
        if named.len() < NAMED_TOPICS {
            named.insert(Arc::clone(topic));
        }
        if named.contains(topic) { topic } else { OTHER_TOPICS }
    }
}

/// What the committer counts.
pub(crate) struct CommitMetrics {
    commits: Counter,
    failures: Counter,
    time: Histogram,
    latency: Histogram,
}

impl CommitMetrics {
    /// Counts nothing.
    pub(crate) fn off() -> Self {
        Self {
            commits: Counter::noop(),
            failures: Counter::noop(),
            time: Histogram::noop(),
            latency: Histogram::noop(),
        }
    }

    pub(crate) fn settled(&self, succeeded: bool, time: Duration) {
        self.commits.increment(1);
        self.failures.increment(u64::from(!succeeded));
        self.time.record(time);
    }

    /// The oldest message that a partition's committed offset covers took so long.
    pub(crate) fn committed(&self, latency: Duration) {
        self.latency.record(latency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_beyond_the_first_share_a_label() {
        let metrics = ProcessorMetrics::off();
        let topics: Vec<Arc<str>> = (0..70).map(|number| format!("t{number}").into()).collect();
        let labels: Vec<&str> = topics.iter().map(|topic| metrics.topic_label(topic)).collect();
        assert_eq!((labels[0], labels[63], labels[64]), ("t0", "t63", "(other)"));
        assert_eq!(metrics.topic_label(&topics[1]), "t1");
    }
}
