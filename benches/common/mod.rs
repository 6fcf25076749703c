//! What the benchmarks share: running cases in turn, measuring, Kafka's topics, jobs of the library and the raw
//! loops beside them, the counting job, tables.

pub(crate) mod child;
pub(crate) mod contents;
pub(crate) mod counting;
pub(crate) mod job;
pub(crate) mod measure;
pub(crate) mod options;
pub(crate) mod ours;
pub(crate) mod progress;
pub(crate) mod raw;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod runs;
pub(crate) mod table;
pub(crate) mod topics;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
