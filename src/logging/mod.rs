//! What is logged, and how to see it.
//!
//! The library logs through [`tracing`](https://docs.rs/tracing): to the subscriber that the program has installed,
//! or nowhere if there is none. [`Logging`] (feature `logging`) installs a subscriber in one call.
//!
//! # Spans
//!
//! | span | level | of |
//! | --- | --- | --- |
//! | `processor` | info | building and running a [`TopicProcessor`](crate::TopicProcessor), with everything that happens in it, librdkafka's log included |
//! | `partition` | info | one partition number, as long as it is assigned |
//! | `batch` | debug | one call of [`process`](crate::Processor::process) |
//! | `tick`, `closing` | debug | one call of [`tick`](crate::Processor::tick) or [`closing`](crate::Processor::closing) |
//!
//! So the log lines of your `process` have the processor and the partition and, with `debug`, the batch's offsets.
//! There are no spans for single messages. [`FIELDS`] lists the fields of spans and events.
//!
//! # Levels
//!
//! | level | what |
//! | --- | --- |
//! | `error` | the processor stops, or cannot listen for signals. librdkafka (target `librdkafka`) logs errors of its own, and recovers from most of them |
//! | `warn` | a problem that is retried or waited for: a broker that is away, a commit that failed, no progress |
//! | `info` | the processor began or ended, partitions came or went. In steady state: nothing |
//! | `debug` | details for the library's developers, and librdkafka's own reports |
//! | `trace` | the output of librdkafka's `debug` property, if it is set |
//!
//! Targets are the module paths below `kasper`, and `librdkafka`. Values of messages, passwords and tokens are never
//! logged. Keys are logged only if a store's error names its key.

mod fields;
#[cfg(feature = "logging")]
mod output;

pub(crate) use fields::list;
pub use fields::{FIELDS, Field};
#[cfg(feature = "logging")]
pub use output::Logging;
