//! Process Kafka topics in micro-batches, with state in a central key-value store.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "kafka"),
    allow(dead_code, reason = "without a broker, only what users write and test with is in use")
)]

mod batch;
mod broker;
#[cfg(feature = "kafka")]
mod builder;
mod config;
mod context;
mod coordinator;
mod error;
mod handle;
mod message;
mod pipeline;
mod processor;
#[cfg(feature = "kafka")]
mod properties;
#[cfg(feature = "kafka")]
mod signal;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
#[cfg(feature = "kafka")]
mod topic_processor;
#[cfg(feature = "kafka")]
mod topics;

pub use batch::{Batch, OffsetRange};
#[cfg(feature = "kafka")]
pub use broker::kafka::OauthToken;
#[cfg(feature = "kafka")]
pub use builder::{Builder, Partitioner};
pub use context::Context;
pub use error::{BoxError, Error, ErrorKind, Result};
pub use handle::{
    Handle, PartitionState, PartitionStatus, ProcessorState, RebalanceEvent, Report, Status,
};
pub use message::{
    Header, Message, Offset, OutgoingBytes, OutgoingMessage, OwnedMessage, TopicPartition,
};
pub use pipeline::start::{OutOfRange, StartFrom};
pub use processor::{Processor, ProcessorFactory};
#[cfg(feature = "kafka")]
pub use signal::shutdown_signal;
#[cfg(feature = "kafka")]
pub use topic_processor::TopicProcessor;

pub use bytes::Bytes;
