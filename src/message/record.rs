//! A message in a buffer or a batch, whoever owns its bytes.

use std::any::Any;
use std::sync::Arc;

use super::{Offset, OwnedMessage};

/// One message in a buffer or a batch, and the index of its topic among the input topics.
pub(crate) struct Record {
    pub(crate) payload: Payload,
    pub(crate) topic: u16,
}

/// Where a record's bytes live: in the Kafka client's memory, or in our own (simulations, tests).
pub(crate) enum Payload {
    #[cfg(feature = "kafka")]
    Kafka(crate::broker::kafka::KafkaMessage),
    #[cfg_attr(
        not(any(test, feature = "testkit")),
        allow(dead_code, reason = "made by simulations and the test kit")
    )]
    Owned(Box<OwnedMessage>),
}

impl Record {
    pub(crate) fn offset(&self) -> Offset {
        match &self.payload {
            #[cfg(feature = "kafka")]
            Payload::Kafka(message) => message.offset(),
            Payload::Owned(message) => message.offset,
        }
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        match &self.payload {
            #[cfg(feature = "kafka")]
            Payload::Kafka(message) => message.key(),
            Payload::Owned(message) => message.key.as_deref(),
        }
    }

    pub(crate) fn value(&self) -> Option<&[u8]> {
        match &self.payload {
            #[cfg(feature = "kafka")]
            Payload::Kafka(message) => message.value(),
            Payload::Owned(message) => message.value.as_deref(),
        }
    }

    /// Bytes of key and value.
    pub(crate) fn size(&self) -> usize {
        match &self.payload {
            #[cfg(feature = "kafka")]
            Payload::Kafka(message) => message.size(),
            Payload::Owned(message) => {
                message.key.as_ref().map_or(0, Vec::len)
                    + message.value.as_ref().map_or(0, Vec::len)
            }
        }
    }
}

/// Keeps alive what the records of a buffer or batch point into. Declared after the records in
/// every struct that holds both, so that it is dropped after them.
pub(crate) type Keepalive = Option<Arc<dyn Any + Send + Sync>>;

/// Messages and bytes of keys and values, of one topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}
