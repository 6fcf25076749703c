//! A message that owns its bytes.

use std::sync::Arc;

use super::Offset;

/// A message that owns its parts. [`Message::to_owned`](crate::Message::to_owned) returns one, and tests can be fed
/// with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedMessage {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition number.
    pub partition: i32,
    /// The message's own offset.
    pub offset: Offset,
    /// The key, if there is one.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values of the headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp: Option<i64>,
}
