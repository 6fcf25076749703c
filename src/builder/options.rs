//! What the user chose: the inside of a [`Builder`](super::Builder), handed down to all that comes of it.

use std::fmt;
use std::time::Duration;

use super::names;
use crate::broker::kafka::TokenProvider;
use crate::metrics::Metrics;
use crate::on_error::ErrorPolicy;
use crate::settings::{OutOfRange, RebalanceHook, StartFrom};

/// How the key of an outgoing message chooses its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Partitioner {
    /// Murmur2 of the key, and a random partition for messages without a key, as in Java's clients, Kafka Streams and
    /// Kafka Connect. The default: topics that such clients write can be joined with topics that Kasper writes.
    #[default]
    Murmur2Random,
    /// FNV-1a of the key, and a random partition for messages without a key: sarama's default, and so Go Kasper's.
    Fnv1aRandom,
    /// CRC32 of the key, and a random partition for messages without a key: librdkafka's own default.
    ConsistentRandom,
}

impl Partitioner {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Murmur2Random => "murmur2_random",
            Self::Fnv1aRandom => "fnv1a_random",
            Self::ConsistentRandom => "consistent_random",
        }
    }
}

/// Which rebalance protocol the group uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupProtocol {
    Classic,
    Consumer,
}

/// The settings as they were given, with the defaults of those that were not.
pub(crate) struct Options {
    /// What is already known to be wrong.
    pub(super) faults: Vec<String>,
    pub(super) name: String,
    pub(super) topics: Vec<String>,
    pub(super) brokers: String,
    pub(super) properties: Vec<(String, String)>,
    pub(super) group_id: Option<String>,
    pub(super) group_protocol: GroupProtocol,
    pub(super) partitions: Option<Vec<i32>>,
    pub(super) allow_unaligned_topics: bool,
    pub(super) max_batch_messages: usize,
    pub(super) max_batch_bytes: usize,
    pub(super) max_batch_wait: Duration,
    pub(super) max_in_flight: usize,
    /// By default it depends on the number of partitions, as does the next one.
    pub(super) max_in_flight_bytes: Option<usize>,
    pub(super) max_buffered_bytes: Option<usize>,
    pub(super) tick_interval: Option<Duration>,
    pub(super) commit_interval: Option<Duration>,
    pub(super) target_latency: Option<Duration>,
    pub(super) offset_refresh_interval: Duration,
    pub(super) drain_deadline: Option<Duration>,
    pub(super) commit_timeout: Option<Duration>,
    pub(super) delivery_timeout: Option<Duration>,
    pub(super) stall_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) wait_for_topics: Duration,
    pub(super) start_from: StartFrom,
    pub(super) out_of_range: OutOfRange,
    pub(super) partitioner: Partitioner,
    pub(super) on_rebalance: Option<RebalanceHook>,
    pub(super) on_error: ErrorPolicy,
    pub(super) token_provider: Option<TokenProvider>,
    pub(super) metrics: Metrics,
    pub(super) metrics_interval: Duration,
    pub(super) lag_interval: Duration,
    pub(super) topic_check_interval: Duration,
}

impl Options {
    pub(super) fn new(name: String, topics: Vec<String>) -> Self {
        Self {
            faults: Vec::new(),
            metrics: Metrics::global(name.as_str()),
            metrics_interval: Duration::from_secs(1),
            lag_interval: Duration::from_secs(10),
            topic_check_interval: Duration::from_secs(10),
            name,
            topics,
            brokers: String::new(),
            properties: Vec::new(),
            group_id: None,
            group_protocol: GroupProtocol::Classic,
            partitions: None,
            allow_unaligned_topics: false,
            max_batch_messages: 10_000,
            max_batch_bytes: 4 << 20,
            max_batch_wait: Duration::ZERO,
            max_in_flight: 16,
            max_in_flight_bytes: None,
            max_buffered_bytes: None,
            tick_interval: None,
            commit_interval: None,
            target_latency: None,
            offset_refresh_interval: Duration::from_secs(30),
            drain_deadline: None,
            commit_timeout: None,
            delivery_timeout: None,
            stall_timeout: Duration::from_mins(1),
            connect_timeout: Duration::from_secs(10),
            wait_for_topics: Duration::ZERO,
            start_from: StartFrom::default(),
            out_of_range: OutOfRange::default(),
            partitioner: Partitioner::default(),
            on_rebalance: None,
            on_error: ErrorPolicy::default(),
            token_provider: None,
        }
    }

    /// Whether partition numbers of several topics are to come to the same member.
    pub(super) fn is_joined(&self) -> bool {
        self.partitions.is_none() && !self.allow_unaligned_topics && self.topics.len() > 1
    }

    /// The value that the user set for a property, under whichever of its names; the last one counts.
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        let set = self.properties.iter().rev().find(|(set, _)| names::is_same(set, name));
        set.map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Options {
    /// Names of properties, never their values: they hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let properties: Vec<_> = self.properties.iter().map(|(name, _)| name).collect();
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("topics", &self.topics)
            // `build` refuses what may have a password in it.
            .field("brokers", if self.brokers.contains('@') { &"(hidden)" } else { &self.brokers })
            .field("properties", &properties)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}
