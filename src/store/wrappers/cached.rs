//! [`Cached`]: remembers what was read from a store and written to it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, MutexGuard};

use bytes::Bytes;

use super::cache::Cache;
use crate::error::Result;
use crate::lock::Mutex;
use crate::metrics::Metrics;
use crate::metrics::store::CacheMetrics;
use crate::store::Store;

/// A store that remembers what was read from it and written to it, so that hot keys cost no round trip.
///
/// - **Make one cache for each partition, in the factory** (see the example). A cache is right as long as nobody else
///   writes the same keys. That is so if the keys come from the messages' keys, because a partition has one owner at
///   a time. A cache made in the factory ends with the assignment: the next owner of the partition begins with an
///   empty cache, and so does this process when it gets the partition back. A cache that outlives the assignment, or
///   that is shared by partitions that write the same keys, returns stale values.
/// - Writes go to the store first. The cache remembers a write when the store has it.
/// - Keys that were looked up and not found are remembered, too. Keys that the backend deletes at the end of their
///   time to live stay in the cache, and are found until they make room for others.
/// - A write that failed, or whose future was dropped, forgets its keys, because nobody knows what the store has.
/// - The cache holds at most as many bytes as it is given. Each entry counts as its key, its value and 120 bytes.
///   Entries that were not used for the longest time are removed first. An entry larger than half of the cache is not
///   remembered.
///
/// Otherwise it keeps the [rules](Store#rules) as the wrapped store does. Clones share the cache. To combine it with
/// [`Retry`](super::Retry), put that inside, `Cached::new(Retry::new(store), …)`: then only a write that has failed
/// for good forgets its keys.
///
/// # Cancel safety
/// As that of the wrapped store.
///
/// ```
/// use kasper::store::{Cached, MapStore, Store};
///
/// struct Count {
///     counts: Cached<MapStore>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// // Shared by all partitions; in earnest a store on a server.
/// let shared = MapStore::new();
/// // For `TopicProcessor::builder(…).build(move |_| make())`: each partition gets a cache of 64 MiB of its own.
/// let make = move || Count { counts: Cached::new(shared.clone(), 64 << 20) };
///
/// let processor = make();
/// processor.counts.get("a").await?;
/// processor.counts.put("a", "1").await?;
/// assert_eq!(processor.counts.get("a").await?, Some("1".into()));
/// let stats = processor.counts.stats();
/// assert_eq!((stats.hits, stats.misses), (1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cached<S> {
    store: S,
    state: Arc<Mutex<State>>,
}

/// The contents of a [`Cached`] store, and how often they were useful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Requested keys that were remembered, with a value or as having none.
    pub hits: u64,
    /// Requested keys that had to be read from the store.
    pub misses: u64,
    /// Keys that are remembered now.
    pub keys: usize,
    /// The bytes that these keys take.
    pub bytes: usize,
}

/// If a read or a write of a key overlaps with another write of it, nobody can know which of the two values the store
/// has in the end; nor is it cheap to tell whether the keys are the same. So nothing is remembered of calls that
/// overlap with a write. Processors make their calls one after the other.
struct State {
    cache: Cache,
    writes_begun: u64,
    writes_running: u64,
    hits: u64,
    misses: u64,
    metrics: CacheMetrics,
}

impl<S> Cached<S> {
    /// Wraps a store, with a cache of at most `max_bytes` bytes.
    pub fn new(store: S, max_bytes: usize) -> Self {
        let cache = Cache::new(max_bytes);
        let metrics = CacheMetrics::off();
        let state =
            State { cache, writes_begun: 0, writes_running: 0, hits: 0, misses: 0, metrics };
        Self { store, state: Arc::new(Mutex::new(state)) }
    }

    /// Also counts hits and misses in these [metrics](crate::metrics), with `name` as the label `store`. Default:
    /// only [`stats`](Cached::stats) reports them.
    #[must_use]
    pub fn metered(self, name: &str, metrics: &Metrics) -> Self {
        self.lock().metrics = CacheMetrics::new(metrics, name);
        self
    }

    /// The wrapped store, without the cache. The cache does not see what is written there.
    ///
    /// ```
    /// # use kasper::store::{Cached, MapStore, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let cached = Cached::new(MapStore::new(), 1 << 20);
    /// assert_eq!(cached.get("a").await?, None);
    /// cached.inner().put("a", "1").await?;
    /// // The cache remembers that the key had no value.
    /// assert_eq!(cached.get("a").await?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// Hits and misses so far, and the current size of the cache.
    ///
    /// ```
    /// # use kasper::store::{Cached, MapStore, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let cached = Cached::new(MapStore::new(), 1000);
    /// cached.put("a", vec![0; 100]).await?;
    /// cached.put("large", vec![0; 500]).await?; // more than half of the cache: not remembered
    /// cached.get_many(&["a", "large", "a"]).await?;
    /// let stats = cached.stats();
    /// assert_eq!((stats.hits, stats.misses, stats.keys, stats.bytes), (2, 1, 1, 1 + 100 + 120));
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> CacheStats {
        let state = self.lock();
        let (keys, bytes) = (state.cache.keys(), state.cache.bytes());
        CacheStats { hits: state.hits, misses: state.misses, keys, bytes }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Forgets the keys that are about to be written.
    fn begin_write<'a>(&'a self, keys: impl Iterator<Item = &'a str>) -> Writing<'a, S> {
        let mut state = self.lock();
        keys.for_each(|key| state.cache.remove(key));
        let alone = state.writes_running == 0;
        state.writes_begun += 1;
        state.writes_running += 1;
        Writing { cached: self, number: state.writes_begun, alone }
    }

    fn look_up<'a>(&self, keys: &[&'a str]) -> LookUp<'a> {
        let mut state = self.lock();
        let mut found = LookUp {
            values: Vec::with_capacity(keys.len()),
            missing: Vec::new(),
            quiet_since: (state.writes_running == 0).then_some(state.writes_begun),
        };
        let mut asked: HashMap<&str, usize> = HashMap::new();
        for key in keys {
            let value = state.cache.get(key).ok_or_else(|| {
                *asked.entry(key).or_insert_with(|| {
                    found.missing.push(key);
                    found.missing.len() - 1
                })
            });
            found.values.push(value);
        }
        let hits = found.values.iter().filter(|value| value.is_ok()).count() as u64;
        state.hits += hits;
        let misses = keys.len() as u64 - hits;
        state.misses += misses;
        state.metrics.looked_up(hits, misses);
        found
    }

    fn remember_read(&self, found: &LookUp<'_>, read: &[Option<Bytes>]) {
        let mut state = self.lock();
        if found.quiet_since == Some(state.writes_begun) {
            let read = found.missing.iter().zip(read);
            read.for_each(|(key, value)| state.cache.insert(key, value.as_ref()));
        }
    }
}

/// What the cache knows of some keys.
struct LookUp<'a> {
    /// For each key its value, or its place among the missing.
    values: Vec<Result<Option<Bytes>, usize>>,
    missing: Vec<&'a str>,
    /// The number of writes that had begun, if all were over.
    quiet_since: Option<u64>,
}

/// A write under way. Dropped without [`done`](Writing::done), its keys stay forgotten.
struct Writing<'a, S> {
    cached: &'a Cached<S>,
    number: u64,
    alone: bool,
}

impl<S> Writing<'_, S> {
    fn done(self, changes: &[(&str, Option<Bytes>)]) {
        let mut state = self.cached.lock();
        if self.alone && state.writes_begun == self.number {
            changes.iter().for_each(|(key, value)| state.cache.insert(key, value.as_ref()));
        }
    }
}

impl<S> Drop for Writing<'_, S> {
    fn drop(&mut self) {
        self.cached.lock().writes_running -= 1;
    }
}

impl<S: Store> Store for Cached<S> {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let found = self.look_up(keys);
        let mut read = Vec::new();
        if !found.missing.is_empty() {
            read = self.store.get_many(&found.missing).await?;
            self.remember_read(&found, &read);
        }
        let of_missing = |place: usize| read.get(place).cloned().flatten();
        Ok(found.values.into_iter().map(|value| value.unwrap_or_else(of_missing)).collect())
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        let writing = self.begin_write(changes.iter().map(|(key, _)| *key));
        self.store.write_many(changes).await?;
        writing.done(changes);
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        self.store.flush().await
    }
}

impl<S> fmt::Debug for Cached<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
