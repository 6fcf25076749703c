//! The contents of a [`Cached`](super::Cached) store, bounded by bytes.

use std::collections::HashMap;

use bytes::Bytes;

/// The bytes that an entry takes besides its key and value: places in the table, of which up to half are free, and
/// the overhead of each allocation.
pub(super) const ENTRY_BYTES: usize = 120;

/// Keys with their values, or with the knowledge that they have none.
///
/// There are two generations of at most half the bytes each. Entries that are read or written go into the young
/// generation. When it is full, it becomes the old one, and the entries of the previous old generation that were not
/// read in the meantime are forgotten. So entries in use stay, at the price of one move per generation, without a
/// list to reorder at each read.
pub(super) struct Cache {
    young: Generation,
    old: Generation,
    max_bytes: usize,
}

#[derive(Default)]
struct Generation {
    entries: HashMap<Box<str>, Option<Bytes>>,
    bytes: usize,
}

impl Cache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { young: Generation::default(), old: Generation::default(), max_bytes }
    }

    /// The key's value, or the knowledge that it has none; `None` if nothing is known of the key.
    pub(super) fn get(&mut self, key: &str) -> Option<Option<Bytes>> {
        if let Some(value) = self.young.entries.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert_young(key, value.clone());
        Some(value)
    }

    /// Remembers the key's value, or that it has none, and forgets what was known before.
    pub(super) fn insert(&mut self, key: &str, value: Option<&Bytes>) {
        self.remove(key);
        // Copied: a value may be a small part of a large answer, which it would hold in memory.
        self.insert_young(key, value.map(|value| Bytes::copy_from_slice(value)));
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.young.remove(key);
        self.old.remove(key);
    }

    pub(super) fn keys(&self) -> usize {
        self.young.entries.len() + self.old.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.young.bytes + self.old.bytes
    }

    fn insert_young(&mut self, key: &str, value: Option<Bytes>) {
        let (size, most) = (size(key, value.as_ref()), self.max_bytes / 2);
        if size > most {
            return;
        }
        if self.young.bytes + size > most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += size;
        self.young.entries.insert(key.into(), value);
    }
}

impl Generation {
    fn remove(&mut self, key: &str) -> Option<Option<Bytes>> {
        let value = self.entries.remove(key)?;
        self.bytes -= size(key, value.as_ref());
        Some(value)
    }
}

fn size(key: &str, value: Option<&Bytes>) -> usize {
    ENTRY_BYTES + key.len() + value.map_or(0, Bytes::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(size: usize) -> Bytes {
        vec![b'x'; size].into()
    }

    #[test]
    fn never_holds_more_than_its_bytes() {
        let most = 10 * (ENTRY_BYTES + 100);
        let mut cache = Cache::new(most);
        for number in 0..1000 {
            cache.insert(&number.to_string(), Some(&value((number * 7) % 300)));
            assert!(cache.bytes() <= most, "{} after {number}", cache.bytes());
        }
        assert!(cache.keys() > 2);
        for number in 0..1000 {
            cache.remove(&number.to_string());
        }
        assert_eq!((cache.keys(), cache.bytes()), (0, 0));
    }

    #[test]
    fn a_small_part_of_an_answer_does_not_keep_the_answer() {
        let answer = value(1 << 20);
        let mut cache = Cache::new(1000);
        cache.insert("a", Some(&answer.slice(..5)));
        assert!(answer.is_unique());
    }

    #[test]
    fn what_is_in_use_stays_and_the_rest_goes() {
        let mut cache = Cache::new(20 * (ENTRY_BYTES + 10));
        cache.insert("used", Some(&value(1)));
        cache.insert("unused", Some(&value(1)));
        for number in 0..1000 {
            cache.insert(&number.to_string(), None);
            assert_eq!(cache.get("used"), Some(Some(value(1))), "after {number}");
        }
        assert_eq!(cache.get("unused"), None);
    }

    #[test]
    fn what_is_too_large_is_forgotten_and_not_kept_as_it_was() {
        let mut cache = Cache::new(1000);
        cache.insert("a", Some(&value(1)));
        cache.insert("a", Some(&value(1000)));
        assert_eq!(cache.get("a"), None);
        let mut none = Cache::new(0);
        none.insert("a", None);
        assert_eq!(none.get("a"), None);
    }
}
