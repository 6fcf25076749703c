//! [`MapStore`]: a store in the memory of the process.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::Store;
use super::limits::Limits;
use crate::error::Result;
use crate::lock::RwLock;

/// A store in the memory of the process, for tests and for state that may be lost.
///
/// Clones share the same data: move one into each processor, and keep one to look inside. Beyond the
/// [rules](Store#rules), each call is atomic: a read sees all changes of a write, or none. A value is copied when it is
/// written, so that a small part of a large message does not keep the message in memory. It is shared when it is read.
///
/// The state does not follow a partition: when the partition goes to another process, what is in this map stays here.
/// So don't use it in a group of several processes if the state must be right.
///
/// ```
/// use kasper::store::{MapStore, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// let store = MapStore::new();
/// let other = store.clone();
/// other.put("a", "1").await?;
/// assert_eq!(store.get("a").await?, Some("1".into()));
/// assert_eq!(store.len(), 1);
/// # Ok(())
/// # }
/// ```
#[doc(alias("Map", "NewMap"))]
#[derive(Clone, Default)]
pub struct MapStore {
    map: Arc<RwLock<HashMap<String, Bytes>>>,
}

impl MapStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything in the store, in the order of the keys. Values are shared, not copied.
    ///
    /// ```
    /// # use kasper::store::MapStore;
    /// let store: MapStore = [("b", "2"), ("a", "1")].into_iter().collect();
    /// let keys: Vec<String> = store.snapshot().into_keys().collect();
    /// assert_eq!(keys, ["a", "b"]);
    /// ```
    #[doc(alias = "GetMap")]
    pub fn snapshot(&self) -> BTreeMap<String, Bytes> {
        self.read().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, Bytes>> {
        self.map.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<String, Bytes>> {
        self.map.write()
    }
}

impl Store for MapStore {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        Limits::NONE.check_keys("get_many", keys.iter().copied())?;
        let map = self.read();
        Ok(keys.iter().map(|key| map.get(*key).cloned()).collect())
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        Limits::NONE.check_changes(
            "write_many",
            changes.iter().map(|(key, value)| (*key, value.as_ref())),
        )?;
        let mut map = self.write();
        for (key, value) in changes {
            let value = value.as_ref().map(|value| Bytes::copy_from_slice(value));
            match (value, map.get_mut(*key)) {
                (Some(value), Some(slot)) => *slot = value,
                (Some(value), None) => {
                    map.insert((*key).to_owned(), value);
                }
                (None, _) => {
                    map.remove(*key);
                }
            }
        }
        Ok(())
    }
}

impl<K: Into<String>, V: Into<Bytes>> FromIterator<(K, V)> for MapStore {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter().map(|(key, value)| (key.into(), value.into()));
        Self { map: Arc::new(RwLock::new(pairs.collect())) }
    }
}

impl fmt::Debug for MapStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapStore").field("keys", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_small_part_of_a_message_does_not_keep_the_message() {
        let message = Bytes::from(vec![7; 1 << 20]);
        let store = MapStore::new();
        // New, and in place of another.
        for part in [message.slice(..5), message.slice(5..10)] {
            store.put("a", part).await.unwrap();
        }
        assert!(message.is_unique());
        assert_eq!(store.get("a").await.unwrap(), Some(message.slice(..5)));
    }

    #[tokio::test]
    async fn a_snapshot_stays_as_it_was() {
        let store: MapStore = [("a", "1")].into_iter().collect();
        let snapshot = store.snapshot();
        store.put("a", "2").await.unwrap();
        assert_eq!(snapshot["a"], "1");
    }
}
