//! What is logged, and how to see it.
//!
//! The library logs through [`tracing`](https://docs.rs/tracing): into whatever subscriber the program has installed,
//! or nowhere. [`Logging`] (feature `logging`) installs one in one call, for programs that have none.
//!
//! # Spans
//!
//! | span | level | of |
//! | --- | --- | --- |
//! | `processor` | info | building and running a [`TopicProcessor`](crate::TopicProcessor), with all that happens in it, librdkafka's log included |
//! | `partition` | info | one partition number, as long as it is assigned |
//! | `batch` | debug | one call of [`process`](crate::Processor::process) |
//!
//! So what your `process` logs says which processor and partition it was, and with `debug` which messages. There is no
//! span for a message. [`FIELDS`] has the fields of spans and events.
//!
//! # Levels
//!
//! | level | what |
//! | --- | --- |
//! | `error` | the processor stops, or cannot listen for signals. librdkafka (target `librdkafka`) has errors of its own, most of which it gets over |
//! | `warn` | something is wrong, and is tried again or waited for: a broker that is away, a commit that failed, no progress |
//! | `info` | began, partitions came or went, ended. In steady state: nothing |
//! | `debug` | what the library's developers ask for, and librdkafka's own reports |
//! | `trace` | librdkafka's `debug` property, if it is set |
//!
//! Targets are the module paths below `kasper`, and `librdkafka`. Values of messages,
//! passwords and tokens are never logged. Keys are only where a store's error names its key.

mod fields;
#[cfg(feature = "logging")]
mod output;

pub use fields::{FIELDS, Field};
#[cfg(feature = "logging")]
pub use output::Logging;
