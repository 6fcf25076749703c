//! [`TenantMap`]: values and deletions of many tenants' keys; [`TenantKey`].

use std::collections::BTreeMap;
use std::collections::btree_map;

use bytes::Bytes;

/// A tenant and one of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantKey<'a> {
    /// The tenant's name.
    pub tenant: &'a str,
    /// The key.
    pub key: &'a str,
}

impl<'a> TenantKey<'a> {
    /// The key `key` of `tenant`.
    pub const fn new(tenant: &'a str, key: &'a str) -> Self {
        Self { tenant, key }
    }
}

/// A map from tenant and key to a value or a deletion. [`fetch`](super::MultiStore::fetch) returns one, and
/// [`push`](super::MultiStore::push) takes one.
///
/// For a batch, fetch into one map, change it, and push it. Entries that were not changed are then written again with
/// the value that was read. If these are many, collect the changes in a map of their own.
///
/// ```
/// use kasper::multitenant::TenantMap;
///
/// let mut map = TenantMap::new();
/// map.put("acme", "a", "1");
/// map.delete("acme", "b");
/// assert_eq!(map.get("acme", "a"), Some(&"1".into()));
/// assert_eq!(map.get("acme", "b"), None);
/// assert_eq!(map.get("other", "a"), None);
/// assert_eq!(map.len(), 2);
/// ```
#[doc(alias("MultiMap", "NewMultiMap"))]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantMap {
    // Sorted, so that iterating, and with it each request made from a map, is the same every time.
    tenants: BTreeMap<String, BTreeMap<String, Option<Bytes>>>,
}

impl TenantMap {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key's value.
    pub fn put(&mut self, tenant: &str, key: impl Into<String>, value: impl Into<Bytes>) {
        self.change(tenant, key.into(), Some(value.into()));
    }

    /// Adds an entry that deletes the key when the map is pushed.
    pub fn delete(&mut self, tenant: &str, key: impl Into<String>) {
        self.change(tenant, key.into(), None);
    }

    /// Sets the value (`Some`) or the deletion (`None`) of a key.
    fn change(&mut self, tenant: &str, key: String, value: Option<Bytes>) {
        match self.tenants.get_mut(tenant) {
            Some(keys) => {
                keys.insert(key, value);
            }
            None => {
                self.tenants.insert(tenant.to_owned(), BTreeMap::from([(key, value)]));
            }
        }
    }

    /// The value of a key; `None` if there is no entry, or if the entry is a deletion.
    pub fn get(&self, tenant: &str, key: &str) -> Option<&Bytes> {
        self.tenants.get(tenant)?.get(key)?.as_ref()
    }

    /// Whether the map has an entry that deletes this key.
    ///
    /// ```
    /// # use kasper::multitenant::TenantMap;
    /// let mut map = TenantMap::new();
    /// map.put("acme", "a", "1");
    /// map.delete("acme", "a");
    /// // `get` does not tell a deletion from a missing entry.
    /// assert_eq!((map.get("acme", "a"), map.get("acme", "b")), (None, None));
    /// assert!(map.is_deleted("acme", "a") && !map.is_deleted("acme", "b"));
    /// ```
    pub fn is_deleted(&self, tenant: &str, key: &str) -> bool {
        let keys = self.tenants.get(tenant);
        matches!(keys.and_then(|keys| keys.get(key)), Some(None))
    }

    /// The tenants that have an entry, sorted.
    pub fn tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.keys().map(String::as_str)
    }

    /// The entries of one tenant, sorted by key: values, or `None` for deletions.
    pub fn tenant(&self, tenant: &str) -> impl Iterator<Item = (&str, Option<&Bytes>)> {
        let keys = self.tenants.get(tenant).into_iter().flatten();
        keys.map(|(key, value)| (key.as_str(), value.as_ref()))
    }

    /// All entries, sorted by tenant and key: values, or `None` for deletions.
    ///
    /// ```
    /// # use kasper::multitenant::{TenantKey, TenantMap};
    /// let map: TenantMap =
    ///     [("b", "x", Some("1")), ("a", "y", None), ("b", "x", Some("2"))].into_iter().collect();
    /// let entries: Vec<_> = map.iter().collect();
    /// assert_eq!(
    ///     entries,
    ///     [(TenantKey::new("a", "y"), None), (TenantKey::new("b", "x"), Some(&"2".into()))]
    /// );
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (TenantKey<'_>, Option<&Bytes>)> {
        self.tenants.iter().flat_map(|(tenant, keys)| {
            keys.iter().map(|(key, value)| (TenantKey::new(tenant, key), value.as_ref()))
        })
    }

    /// The number of entries, deletions included.
    pub fn len(&self) -> usize {
        self.tenants.values().map(BTreeMap::len).sum()
    }

    /// Whether the map has no entries.
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }
}

/// Later entries replace earlier ones of the same key.
impl<T: AsRef<str>, K: Into<String>, V: Into<Bytes>> Extend<(T, K, Option<V>)> for TenantMap {
    fn extend<I: IntoIterator<Item = (T, K, Option<V>)>>(&mut self, entries: I) {
        for (tenant, key, value) in entries {
            self.change(tenant.as_ref(), key.into(), value.map(Into::into));
        }
    }
}

/// `Some` is a value, `None` a deletion. Later entries replace earlier ones of the same key.
impl<T: AsRef<str>, K: Into<String>, V: Into<Bytes>> FromIterator<(T, K, Option<V>)> for TenantMap {
    fn from_iter<I: IntoIterator<Item = (T, K, Option<V>)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl IntoIterator for TenantMap {
    type Item = (String, BTreeMap<String, Option<Bytes>>);
    type IntoIter = btree_map::IntoIter<String, BTreeMap<String, Option<Bytes>>>;

    /// The tenants with their entries, sorted.
    fn into_iter(self) -> Self::IntoIter {
        self.tenants.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_sorted_and_the_last_one_of_a_key_counts() {
        let map: TenantMap = [
            ("b", "y", Some("1")),
            ("a", "z", None),
            ("b", "x", Some("2")),
            ("b", "y", None),
            ("a", "z", Some("3")),
        ]
        .into_iter()
        .collect();
        let value = |text: &'static str| Bytes::from(text);
        assert_eq!(
            map.iter().collect::<Vec<_>>(),
            [
                (TenantKey::new("a", "z"), Some(&value("3"))),
                (TenantKey::new("b", "x"), Some(&value("2"))),
                (TenantKey::new("b", "y"), None),
            ]
        );
        assert_eq!(map.tenants().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(map.tenant("b").collect::<Vec<_>>(), [("x", Some(&value("2"))), ("y", None)]);
        assert!(map.tenant("c").next().is_none());
        assert!(map.is_deleted("b", "y") && !map.is_deleted("b", "x") && !map.is_deleted("c", "y"));
        assert_eq!((map.len(), map.is_empty()), (3, false));
    }
}
