//! What was sent and acknowledged, by partition and offset, as the producer was told.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::Id;

/// Shared by the producer, which writes it, and the watcher.
#[derive(Debug)]
pub(crate) struct Log(Mutex<Vec<BTreeMap<i64, Id>>>);

impl Log {
    pub(crate) fn new(partitions: i32) -> Self {
        Self(Mutex::new((0..partitions).map(|_| BTreeMap::new()).collect()))
    }

    pub(crate) fn acknowledge(&self, partition: i32, offset: i64, id: Id) {
        let Ok(index) = usize::try_from(partition) else { return };
        if let Some(offsets) = self.lock().get_mut(index) {
            offsets.insert(offset, id);
        }
    }

    /// Where each partition ends, as far as is known.
    pub(crate) fn ends(&self) -> Vec<i64> {
        let end =
            |offsets: &BTreeMap<i64, Id>| offsets.last_key_value().map_or(0, |(last, _)| last + 1);
        self.lock().iter().map(end).collect()
    }

    /// The ids from an offset up to another, as far as they are known without a gap.
    pub(crate) fn range(&self, partition: usize, from: i64, to: i64) -> Vec<(i64, Id)> {
        let log = self.lock();
        let Some(offsets) = log.get(partition) else { return Vec::new() };
        let known = offsets.range(from..to.max(from)).zip(from..);
        known
            .take_while(|((offset, _), expected)| *offset == expected)
            .map(|((offset, id), _)| (*offset, *id))
            .collect()
    }

    pub(crate) fn all(&self) -> Vec<Id> {
        self.lock().iter().flat_map(|offsets| offsets.values().copied()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BTreeMap<i64, Id>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_at_the_first_gap() {
        let log = Log::new(1);
        for offset in [0, 1, 3] {
            log.acknowledge(0, offset, Id { key: 0, number: offset.unsigned_abs() });
        }
        let offsets = |from, to| {
            log.range(0, from, to).into_iter().map(|(offset, _)| offset).collect::<Vec<_>>()
        };
        assert_eq!(offsets(0, 4), [0, 1]);
        assert_eq!(offsets(2, 4), [0_i64; 0]);
        assert_eq!(offsets(3, 4), [3]);
        assert_eq!(log.ends(), [4]);
    }
}
