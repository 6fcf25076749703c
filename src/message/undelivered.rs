//! Why an outgoing message could not be delivered, which one it was, and which batch it was made from.
//!
//! Place in the data path: beside [`Delivery`], which keeps its first failure until the batch is finished.

use std::fmt;
use std::sync::Arc;

use super::{Batch, OffsetRange};
use crate::error::{Error, ErrorKind};

/// The batch that messages are sent from: its offsets, without its memory.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    partition: i32,
    topics: Arc<[Arc<str>]>,
    ranges: Box<[Option<OffsetRange>]>,
}

impl Origin {
    pub(crate) fn of(batch: &Batch) -> Self {
        let (topics, ranges) = (batch.topic_names().clone(), batch.ranges().into());
        Self { partition: batch.partition(), topics, ranges }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.topics.iter().zip(&self.ranges);
        let ranges = ranges.filter_map(|(topic, range)| range.map(|range| (topic, range)));
        for (index, (topic, range)) in ranges.enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{topic}/{} {range}", self.partition)?;
        }
        Ok(())
    }
}

/// Why a delivery failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeliveryFailure {
    reason: String,
    /// What the error tells of the message.
    about: Vec<(&'static str, String)>,
    /// The broker named this very message; others of its request failed with it.
    named_by_broker: bool,
    fault: Fault,
}

/// Whether it would be of use to send the batch's other messages without the one that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No message is at fault: brokers are away, a topic is missing, a right.
    None,
    /// The message with this index of the delivery cannot be produced.
    Message(usize),
    /// A request with messages of this delivery was refused; which of them it is, is not sure.
    Request,
    /// A message of another delivery, in the same request.
    Beside,
}

impl DeliveryFailure {
    /// Of a delivery that failed before any message of it was looked at.
    pub(crate) fn new(topic: &str, reason: &str) -> Self {
        let about = vec![("topic", topic.to_owned())];
        Self { reason: reason.into(), about, named_by_broker: false, fault: Fault::None }
    }

    /// Of one message, with what is known of it.
    pub(crate) fn of_message(reason: String, about: Vec<(&'static str, String)>) -> Self {
        Self { reason, about, named_by_broker: false, fault: Fault::None }
    }

    /// Says that the broker named this message among those of its request.
    pub(crate) fn named_by_broker(mut self) -> Self {
        self.named_by_broker = true;
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.about.push((name, value.into()));
        self
    }

    /// Whether the broker named a message to this partition of this topic.
    pub(crate) fn was_named(&self, topic: &str, partition: i32) -> bool {
        let is = |name, value: &str| self.about.iter().any(|(n, v)| *n == name && v == value);
        self.named_by_broker && is("topic", topic) && is("output_partition", &partition.to_string())
    }

    /// Of a delivery that failed because it had messages in the same request as this one, which is part of
    /// `origin`.
    pub(crate) fn in_same_request(&self, origin: Option<&Origin>) -> Self {
        let reason = format!(
            "messages of this batch were in the same produce request as a message that the broker refused, \
             so they were refused with it: {}",
            self.reason
        );
        let mut about = self.about.clone();
        about.extend(origin.map(|origin| ("refused_batch", origin.to_string())));
        let fault = match self.fault {
            Fault::None => Fault::None,
            Fault::Message(_) | Fault::Request | Fault::Beside => Fault::Beside,
        };
        Self { reason, about, named_by_broker: false, fault }
    }

    pub(crate) fn at_fault(self, fault: Fault) -> Self {
        Self { fault, ..self }
    }

    pub(crate) fn fault(&self) -> Fault {
        self.fault
    }

    pub(crate) fn error(&self) -> Error {
        let error = Error::new(ErrorKind::Delivery, self.reason.clone()).at_fault(self.fault);
        self.about.iter().fold(error, |error, (name, value)| error.with(name, value))
    }
}
