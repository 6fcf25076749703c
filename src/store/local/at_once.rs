//! What is done on the caller's thread, because it takes no longer than waking another one: the beginning of a read, and
//! a small write.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::{Keyspace, OwnedWriteBatch, PersistMode, Readable, Snapshot};

use super::database::Inner;
use super::keys::{Change, Keys};

/// How long a read may take of the caller's thread, other tasks' too: a few times what waking a thread takes, there
/// and back, so that waking one adds little to what takes longer.
pub(super) const READING: Duration = Duration::from_micros(500);

/// Keys read between two looks at the clock, and from the disk, at worst, on the caller's thread.
const KEYS_AT_ONCE: usize = 4;

/// The most changes of a small write, and their most bytes: the engine takes them in some tenths of a millisecond.
const SMALL: usize = 200;
const SMALL_BYTES: usize = 200 << 10;

/// A small write that took longer was held up.
const SLOW: Duration = Duration::from_millis(2);

/// From so many unmerged tables on, the engine slows writes down, and then makes them wait.
const MANY_TABLES: usize = 20;

/// A read, as far as it is.
pub(super) struct Reading {
    snapshot: Snapshot,
    keys: Keys,
    values: Vec<Option<Bytes>>,
}

impl Reading {
    pub(super) fn new(snapshot: Snapshot, keys: Keys) -> Self {
        let values = Vec::with_capacity(keys.iter().len());
        Self { snapshot, keys, values }
    }

    /// True when all keys are read; false if it was time to stop before.
    pub(super) fn go_on(
        &mut self,
        keyspace: &Keyspace,
        until: Option<Instant>,
    ) -> fjall::Result<bool> {
        for key in self.keys.iter().skip(self.values.len()) {
            let look = self.values.len() % KEYS_AT_ONCE == KEYS_AT_ONCE - 1;
            if look && until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
            // Copied: the engine's values share the memory of the block that they were read in.
            let value = self.snapshot.get(keyspace, key)?;
            self.values.push(value.map(|value| Bytes::copy_from_slice(&value)));
        }
        Ok(true)
    }

    pub(super) fn into_values(self) -> Vec<Option<Bytes>> {
        self.values
    }
}

impl Inner {
    pub(super) fn write(&self, changes: Vec<Change>) -> fjall::Result<()> {
        let is_small = is_small(&changes);
        let sync = if self.config.sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let batch = OwnedWriteBatch::with_capacity(self.database.clone(), changes.len());
        let mut batch = batch.durability(Some(sync));
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.keyspace, key, value),
                None => batch.remove(&self.keyspace, key),
            }
        }
        let began = Instant::now();
        let written = batch.commit();
        if is_small {
            self.is_slow.store(began.elapsed() > SLOW, Ordering::Relaxed);
        }
        written
    }

    /// Whether writing these changes on the caller's thread holds up other tasks no longer than a read does.
    ///
    /// Not while the engine empties its memory into a table: it begins with an fsync of the journal, and writers wait
    /// for that. Nor during another sync, or where it is behind with merging tables.
    ///
    /// If the operating system makes one write wait all the same, the next ones go to another thread, until one of them
    /// was quick.
    pub(super) fn is_quick(&self, changes: &[Change]) -> bool {
        !self.config.sync
            && !self.is_slow.load(Ordering::Relaxed)
            && self.syncs.load(Ordering::Relaxed) == 0
            && is_small(changes)
            && self.database.write_buffer_size() < self.config.memtable_bytes
            && self.keyspace.l0_table_count() < MANY_TABLES
    }
}

fn is_small(changes: &[Change]) -> bool {
    let bytes = |(key, value): &Change| key.len() + value.as_ref().map_or(0, |value| value.len());
    changes.len() <= SMALL && changes.iter().map(bytes).sum::<usize>() <= SMALL_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local::keys::change;

    #[test]
    fn few_changes_are_small_unless_they_are_long() {
        let changes = |count: usize, bytes: usize| {
            let value = Bytes::from(vec![0; bytes]);
            vec![change("s//", "key", Some(&value)); count]
        };
        assert!(is_small(&changes(200, 100)));
        assert!(!is_small(&changes(201, 0)));
        assert!(is_small(&changes(1, 200 << 10)) != is_small(&changes(1, (200 << 10) - 6)));
        assert!(!is_small(&changes(2, 100 << 10)));
    }
}
