//! The place of a message: its topic, partition and offset.

use std::fmt;
use std::sync::Arc;

/// A position in a partition's log.
///
/// A message's own offset is the position of that message. A consumer group instead commits the *next* offset: the
/// first one to read. [`Offset::next`] is the only conversion from one to the other.
///
/// ```
/// use kasper::Offset;
///
/// assert_eq!(Offset::new(41).next(), Offset::new(42));
/// assert_eq!(Offset::new(41).to_string(), "41");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(i64);

impl Offset {
    /// The offset with this number.
    pub const fn new(offset: i64) -> Self {
        Self(offset)
    }

    /// The offset as a number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The offset after this one: the offset to commit once the message at `self` is finished.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic.
///
/// Sorts by topic, then by number.
///
/// ```
/// use kasper::TopicPartition;
///
/// assert_eq!(TopicPartition::new("orders", 3).to_string(), "orders/3");
/// assert!(TopicPartition::new("orders", 9) < TopicPartition::new("orders", 10));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition number.
    pub number: i32,
}

impl TopicPartition {
    /// The partition of `topic` with this number.
    pub fn new(topic: impl Into<Arc<str>>, number: i32) -> Self {
        Self { topic: topic.into(), number }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}
