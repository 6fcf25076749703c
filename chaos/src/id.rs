//! What messages are: an id of a key and a number, and the bytes that carry it.

use std::fmt;

use serde::{Serialize, Serializer};

/// Numbers of a key increase by one, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) key: u32,
    pub(crate) number: u64,
}

impl Id {
    /// Whether it is sent malformed: about one in two hundred is.
    pub(crate) fn is_poison(self) -> bool {
        (self.number * 37 + u64::from(self.key) * 11) % 199 == 5
    }

    /// The message's key.
    pub(crate) fn key_text(self) -> String {
        format!("k{}", self.key)
    }

    /// The message's value: not to be parsed if it is poison.
    pub(crate) fn value(self) -> String {
        if self.is_poison() { format!("malformed {self}") } else { self.to_string() }
    }

    /// Where its entry in the ledger is.
    pub(crate) fn ledger_key(self) -> String {
        format!("id/{self}")
    }

    pub(crate) fn partition(self, partitions: i32) -> i32 {
        i32::try_from(self.key).map_or(0, |key| key % partitions)
    }

    /// A good value's id.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let (key, number) = std::str::from_utf8(value).ok()?.strip_prefix('k')?.split_once('/')?;
        Some(Self { key: key.parse().ok()?, number: number.parse().ok()? })
    }

    /// Any value's id.
    pub(crate) fn parse_any(value: &[u8]) -> Option<Self> {
        Self::parse(value.strip_prefix(b"malformed ").unwrap_or(value))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k{}/{}", self.key, self.number)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What the workers keep for each key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Aggregate {
    /// The highest number so far, plus one: a message that comes again does not change it.
    pub(crate) next: u64,
    /// How many messages were counted: one that comes again is counted again.
    pub(crate) count: u64,
}

impl Aggregate {
    /// Where it is in the store.
    pub(crate) fn store_key(key: u32) -> String {
        format!("aggregate/k{key}")
    }

    pub(crate) fn add(&mut self, number: u64) {
        self.next = self.next.max(number + 1);
        self.count += 1;
    }

    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let (next, count) = std::str::from_utf8(value).ok()?.split_once(' ')?;
        Some(Self { next: next.parse().ok()?, count: count.parse().ok()? })
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.next, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_again() {
        let ids = (0..400).map(|number| Id { key: 3, number });
        let (poison, good): (Vec<Id>, Vec<Id>) = ids.partition(|id| id.is_poison());
        assert_eq!(poison.len(), 2);
        for id in good {
            assert_eq!(Id::parse(id.value().as_bytes()), Some(id));
        }
        for id in poison {
            assert_eq!(Id::parse(id.value().as_bytes()), None);
            assert_eq!(Id::parse_any(id.value().as_bytes()), Some(id));
        }
    }

    #[test]
    fn a_repeated_message_changes_the_count_only() {
        let mut aggregate = Aggregate::default();
        for number in [0, 1, 1, 2, 1] {
            aggregate.add(number);
        }
        assert_eq!(aggregate, Aggregate { next: 3, count: 5 });
        assert_eq!(Aggregate::parse(aggregate.to_string().as_bytes()), Some(aggregate));
    }
}
