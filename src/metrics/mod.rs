//! Metrics: what a topic processor counts and measures, and the recorder that gets it.
//!
//! Place in the data path: beside it. The pipeline counts per batch, never per message, with counters and histograms
//! that each lane registers once. The coordinator sets the gauges, at intervals and when partitions come or go.
//!
//! # Where they go
//! To the recorder that is passed to [`Builder::metrics`](crate::Builder::metrics), which may come from any crate
//! that records for the [`metrics`](https://docs.rs/metrics) facade. Without one, to the facade's global recorder. If
//! none is installed, nowhere, and that costs nothing worth measuring. Two processors in one process can report to
//! two recorders, or to the same one: all metrics have the label `processor`, whose value is the name of
//! the topic processor. With the feature `prometheus`,
//! `kasper::metrics::prometheus()` is a recorder whose metrics can be scraped.
//!
//! # What there is
//! [`CATALOGUE`] has all metrics, with help texts, units and labels. In short, by question:
//!
//! | to know | look at |
//! | --- | --- |
//! | how much is processed and sent | `kasper_incoming_messages_total`, `kasper_incoming_bytes_total`, `kasper_outgoing_messages_total`, `kasper_outgoing_bytes_total` |
//! | whether it keeps up | `kasper_lag_messages`, `kasper_committed_lag_messages`, `kasper_stalled`, `kasper_progress_age_seconds`, `kasper_assigned` |
//! | how batches are cut | `kasper_batches_total`, `kasper_batch_messages`, `kasper_batch_age_seconds` |
//! | where the time goes | `kasper_process_seconds`, `kasper_tick_seconds`, `kasper_closing_seconds`, `kasper_store_seconds`, `kasper_produce_seconds`, `kasper_commit_seconds` |
//! | what is waiting | `kasper_in_flight_batches`, `kasper_buffered_bytes` |
//! | what goes wrong | `kasper_failures_total`, `kasper_commit_failures_total` of `kasper_commits_total`, `kasper_store_errors_total`, `kasper_store_retries_total` |
//! | what the group does | `kasper_rebalances_total`, `kasper_rebalanced_partitions_total` |
//! | what stores do | `kasper_store_calls_total`, `kasper_store_keys_total`, `kasper_store_bytes_total`, `kasper_cache_hits_total`, `kasper_cache_misses_total` |
//!
//! The series of stores exist only for [metered](crate::store::Metered) stores, those of retries for
//! [`Retry::metered`](crate::store::Retry::metered), and those of caches for
//! [`Cached::metered`](crate::store::Cached::metered). Histograms cover the whole processor: one for each partition
//! would be thousands of series.
//!
//! Gauges are set every [`metrics_interval`](crate::Builder::metrics_interval). The gauges of a partition are zero
//! from the moment when it is revoked or lost, and all gauges are zero when the topic processor ends. So a process that no
//! longer has a partition raises no alarm about the partition's lag.
//!
//! # Your own
//! [`StartContext::metrics`](crate::StartContext::metrics) in a factory, and
//! [`Context::metrics`](crate::Context::metrics) in `process`, register counters, gauges and histograms of yours
//! with the same recorder and the same label.
//!
//! # From Go Kasper
//! | Go | here |
//! | --- | --- |
//! | `incoming_message_count` | `kasper_incoming_messages_total` |
//! | `outgoing_message_count` | `kasper_outgoing_messages_total` |
//! | `messages_behind_high_water_mark_count` | `kasper_lag_messages` |
//! | `Config.MetricsProvider` | [`Builder::metrics`](crate::Builder::metrics) |
//! | `Config.MetricsUpdateInterval` | [`Builder::metrics_interval`](crate::Builder::metrics_interval) |
//! | `NewPrometheus(label)`, `Prometheus.Registry` | `kasper::metrics::prometheus()`, and its `handle()` |
//! | `MetricsProvider.NewCounter`, `NewGauge`, `NewSummary` | [`Metrics::counter`], [`Metrics::gauge`], [`Metrics::histogram`] |
//! | `NoopMetricsProvider` | [`NoopRecorder`], or no recorder at all |
//!
//! In Go Kasper, tenants were labels. Here no metric has a tenant or a key as a label, because each would be a series
//! of its own.

#[cfg(test)]
pub(crate) mod book;
mod catalogue;
pub(crate) mod lane;
pub(crate) mod partitions;
pub(crate) mod processor;
#[cfg(feature = "prometheus")]
mod prometheus;
mod recorder;
pub(crate) mod store;
pub(crate) mod topics;

#[cfg(feature = "prometheus")]
#[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
pub use self::prometheus::{Prometheus, prometheus, prometheus_from};
pub use catalogue::{CATALOGUE, Kind, Metric};
pub use recorder::Metrics;

pub use ::metrics::{Counter, Gauge, Histogram, NoopRecorder, Recorder, Unit};
#[cfg(feature = "prometheus")]
#[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
pub use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
