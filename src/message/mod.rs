//! Incoming and outgoing messages, and the collections that hold them.

mod batch;
mod concurrent;
pub(crate) mod delivery;
mod grouping;
mod incoming;
pub(crate) mod need;
pub(crate) mod outbox;
mod outgoing;
mod owned;
mod position;
mod record;
pub(crate) mod rejected;
mod trace_context;
pub(crate) mod undelivered;

pub use batch::{Batch, OffsetRange};
pub use incoming::{Header, Message};
pub use outgoing::{OutgoingBytes, OutgoingMessage};
pub use owned::OwnedMessage;
pub use position::{Offset, TopicPartition};
pub use trace_context::TraceContext;

pub(crate) use record::{Keepalive, Payload, Record, Tally};
