//! Process Kafka topics in micro-batches, with state in a central key-value store.

mod batch;
mod config;
mod coordinator;
mod handle;
mod broker;
mod context;
mod error;
mod message;
mod pipeline;
mod processor;

pub use batch::{Batch, OffsetRange};
pub use context::Context;
pub use error::{BoxError, Error, ErrorKind, Result};
pub use handle::{Handle, PartitionState, PartitionStatus, ProcessorState, RebalanceEvent, Report, Status};
pub use pipeline::start::{OutOfRange, StartFrom};
pub use message::{Bytes, Header, Message, Offset, OutgoingMessage, OwnedMessage, TopicPartition};
pub use processor::{Processor, ProcessorFactory};
