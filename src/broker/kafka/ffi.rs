//! librdkafka's handles as owners that cannot be misused: the only `unsafe` code of the crate.
//!
//! Place in the data path: below everything else in this folder. Nothing here decides anything; it
//! only makes three rules of librdkafka impossible to break from outside.
//!
//! - `rd_kafka_destroy` waits for good while a message, a queue or a topic handle lives. Each of
//!   these holds an `Arc<Client>` (or is held together with one, see
//!   [`Keepalive`](crate::message::Keepalive)) and is released before it.
//! - A message is produced without a copy, so its bytes must stay where they are until its report.
//!   [`hand_over`] keeps the [`Delivery`] alive until the last of its messages is counted down.
//! - Error codes come from brokers too, and may be newer than the bindings' enum; reading such a
//!   value as that enum would be undefined. So they are read as integers: see [`Code`].
//!
//! `unsafe` is allowed here and in the files of this folder, and nowhere else in the crate.
#![allow(unsafe_code, reason = "librdkafka is a C library; each block says why it is sound")]

mod client;
mod code;
mod configuration;
mod event;
mod list;
mod message;
mod offsets;
mod produce;
mod queue;
mod reports;
mod topics;

pub(crate) use self::client::{Client, Counted};
pub(crate) use self::code::{Code, Known, version};
#[cfg(test)]
pub(crate) use self::configuration::table_of_properties;
pub(crate) use self::configuration::{CreateError, Role, has_feature, try_property};
pub(crate) use self::event::{ClientEvent, EventKind};
pub(crate) use self::list::{ListEntry, PartitionList};
pub(crate) use self::message::{Headers, KafkaMessage};
pub(crate) use self::produce::{HandedOver, TopicHandle, hand_over, refuse};
pub(crate) use self::queue::{ArrivalQueue, QueueHandle};

use self::code::{c_string, milliseconds, raw, string, take_error};
