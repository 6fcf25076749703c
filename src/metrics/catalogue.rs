//! Every metric of the library: name, kind, unit, help, labels. What is recorded, its help text and its
//! documentation derive from here.

use metrics::Unit;

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Only grows, from zero when the process starts.
    Counter,
    /// A value of this moment.
    Gauge,
    /// How values are distributed, in [`Metric::buckets`].
    Histogram,
}

/// One metric of the [catalogue](CATALOGUE).
#[derive(Debug)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, which follows Prometheus' conventions.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What is counted or measured.
    pub unit: Unit,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// Its labels, besides `processor`, which all have: the name of the topic processor.
    pub labels: &'static [&'static str],
    /// The upper bounds of a histogram's buckets; empty for other kinds.
    pub buckets: &'static [f64],
    /// What Go Kasper calls it.
    pub go_name: Option<&'static str>,
}

/// From tenths of a millisecond, which a batch of one message takes, to the minutes of an outage.
const TIMES: &[f64] = &[
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// Up to ten times the default of the most messages in a batch.
const SIZES: &[f64] =
    &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0, 100_000.0];

/// Writes each metric as a constant, and all of them as [`CATALOGUE`].
macro_rules! catalogue {
    ($($metric:ident = $name:literal, $kind:ident, $unit:ident, [$($label:literal),*]
        $(, buckets: $buckets:expr)? $(, go: $go:literal)?; $help:literal)*) => {
        $(pub(crate) const $metric: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            help: $help,
            labels: &[$($label),*],
            buckets: first(&[$($buckets,)? &[]]),
            go_name: first_name(&[$(Some($go),)? None]),
        };)*

        /// All metrics of the library. Those of stores, retries and caches only have series if a
        /// [`Metered`](crate::store::Metered), [`Retry`](crate::store::Retry::metered) or
        /// [`Cached`](crate::store::Cached::metered) store reports them.
        ///
        /// ```
        /// use kasper::metrics::{CATALOGUE, Kind};
        ///
        /// let lag = CATALOGUE.iter().find(|metric| metric.name == "kasper_lag_messages").unwrap();
        /// assert_eq!((lag.kind, lag.labels), (Kind::Gauge, &["topic", "partition"][..]));
        /// assert_eq!(lag.go_name, Some("messages_behind_high_water_mark_count"));
        /// ```
        pub static CATALOGUE: &[Metric] = &[$($metric),*];
    };
}

const fn first(buckets: &[&'static [f64]]) -> &'static [f64] {
    buckets[0]
}

const fn first_name(names: &[Option<&'static str>]) -> Option<&'static str> {
    names[0]
}

catalogue! {
    INCOMING_MESSAGES = "kasper_incoming_messages_total", Counter, Count, ["topic", "partition"],
        go: "incoming_message_count";
        "Messages passed to `process`; a batch that is processed again counts again."
    INCOMING_BYTES = "kasper_incoming_bytes_total", Counter, Bytes, ["topic", "partition"];
        "Bytes of keys and values passed to `process`."
    OUTGOING_MESSAGES = "kasper_outgoing_messages_total", Counter, Count, ["topic", "partition"],
        go: "outgoing_message_count";
        "Acknowledged outgoing messages, by output topic and the input partition number that they were sent for."
    OUTGOING_BYTES = "kasper_outgoing_bytes_total", Counter, Bytes, ["topic", "partition"];
        "Bytes of keys and values of acknowledged outgoing messages."
    BATCHES = "kasper_batches_total", Counter, Count, ["partition"];
        "Batches passed to `process`."
    BATCH_MESSAGES = "kasper_batch_messages", Histogram, Count, [], buckets: SIZES;
        "Messages in a batch."
    BATCH_AGE = "kasper_batch_age_seconds", Histogram, Seconds, [], buckets: TIMES;
        "The time from taking the first message out of its queue to `process`; under load it includes the call before."
    PROCESS_TIME = "kasper_process_seconds", Histogram, Seconds, [], buckets: TIMES;
        "The duration of calls of `process`, including its store calls and flushes."
    TICK_TIME = "kasper_tick_seconds", Histogram, Seconds, [], buckets: TIMES;
        "The duration of calls of `tick`, which hold up `process`."
    CLOSING_TIME = "kasper_closing_seconds", Histogram, Seconds, [], buckets: TIMES;
        "The duration of calls of `closing`, at revocations and shutdowns."
    PRODUCE_TIME = "kasper_produce_seconds", Histogram, Seconds, [], buckets: TIMES;
        "The time from handing the messages of a batch or flush to the producer until all are acknowledged."
    COMMIT_TIME = "kasper_commit_seconds", Histogram, Seconds, [], buckets: TIMES;
        "The duration of offset commits, including failed ones."
    LATENCY = "kasper_latency_seconds", Histogram, Seconds, [], buckets: TIMES;
        "With `target_latency`: how long the oldest message of each partition in an offset commit took, from its arrival to the commit."
    COMMITS = "kasper_commits_total", Counter, Count, [];
        "Offset commits, successful and failed."
    COMMIT_FAILURES = "kasper_commit_failures_total", Counter, Count, [];
        "Offset commits that failed; the next commit includes their offsets."
    REBALANCES = "kasper_rebalances_total", Counter, Count, ["event"];
        "Rebalance events: `assigned`, `revoked` or `lost`."
    REBALANCED_PARTITIONS = "kasper_rebalanced_partitions_total", Counter, Count, ["event"];
        "Topic partitions that were `assigned`, `revoked` or `lost`."
    RETRIES = "kasper_retries_total", Counter, Count, ["partition"];
        "Calls of `process`, `tick` or the factory that failed and are made again after a wait."
    REJECTED = "kasper_rejected_messages_total", Counter, Count, ["topic", "partition", "outcome"];
        "Messages that could not be processed, by outcome: `dead_letter`, `quarantine` (behind one of its key) or `skip`."
    RETRYING = "kasper_retrying", Gauge, Count, ["partition"];
        "1 while the processor of the partition fails and is called again."
    QUARANTINED_KEYS = "kasper_quarantined_keys", Gauge, Count, ["topic", "partition"];
        "Keys that are held in the quarantine: their messages become letters until they are replayed."
    FAILURES = "kasper_failures_total", Counter, Count, ["kind"];
        "Failures that stopped the processor, by kind of error."
    ASSIGNED = "kasper_assigned", Gauge, Count, ["topic", "partition"];
        "1 while the partition is assigned to this process, 0 afterwards."
    LAG = "kasper_lag_messages", Gauge, Count, ["topic", "partition"],
        go: "messages_behind_high_water_mark_count";
        "Messages between the last finished one and the end of the partition."
    COMMITTED_LAG = "kasper_committed_lag_messages", Gauge, Count, ["topic", "partition"];
        "Offsets between the committed one and the end of the partition, as Kafka's own tools count them."
    IN_FLIGHT = "kasper_in_flight_batches", Gauge, Count, ["partition"];
        "Batches in `process` or waiting for acknowledgements."
    BUFFERED_BYTES = "kasper_buffered_bytes", Gauge, Bytes, ["partition"];
        "Approximate memory of messages that are fetched and wait for `process`, including the client's overhead for each."
    STALLED = "kasper_stalled", Gauge, Count, ["partition"];
        "1 while there is lag and no batch has finished for longer than `stall_timeout`."
    PROGRESS_AGE = "kasper_progress_age_seconds", Gauge, Seconds, ["partition"];
        "The time since the last batch finished, or since the assignment; also grows when there are no messages."
    TOPIC_CHANGE = "kasper_topic_change", Gauge, Count, ["topic", "change"];
        "1 while an input topic is deleted, recreated, unaligned, incomplete, or has partitions added that no process has."
    STORE_CALLS = "kasper_store_calls_total", Counter, Count, ["store", "operation"];
        "Calls of a store."
    STORE_KEYS = "kasper_store_keys_total", Counter, Count, ["store", "operation"];
        "Keys in calls of a store."
    STORE_BYTES = "kasper_store_bytes_total", Counter, Bytes, ["store", "operation"];
        "Bytes of values that a store found or was given."
    STORE_ERRORS = "kasper_store_errors_total", Counter, Count, ["store", "operation", "kind"];
        "Calls of a store that failed, by kind of error."
    STORE_TIME = "kasper_store_seconds", Histogram, Seconds, ["store", "operation"], buckets: TIMES;
        "The duration of store calls, including failed ones."
    STORE_RETRIES = "kasper_store_retries_total", Counter, Count, ["store", "operation"];
        "Store calls that were repeated because the previous attempt failed."
    CACHE_HITS = "kasper_cache_hits_total", Counter, Count, ["store"];
        "Keys that were read and found in the cache."
    CACHE_MISSES = "kasper_cache_misses_total", Counter, Count, ["store"];
        "Keys that were read and not in the cache, so the store was asked."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_kind_and_unit() {
        for metric in CATALOGUE {
            let name = metric.name;
            assert!(name.starts_with("kasper_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            let named = name.trim_end_matches("_total");
            assert_eq!(named.ends_with("_seconds"), metric.unit == Unit::Seconds, "{name}");
            assert_eq!(named.ends_with("_bytes"), metric.unit == Unit::Bytes, "{name}");
            assert_eq!(metric.buckets.is_empty(), metric.kind != Kind::Histogram, "{name}");
            assert!(metric.buckets.is_sorted(), "{name}");
            assert!(metric.help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn no_name_stands_twice() {
        for (index, metric) in CATALOGUE.iter().enumerate() {
            assert!(CATALOGUE[..index].iter().all(|other| other.name != metric.name));
        }
    }
}
