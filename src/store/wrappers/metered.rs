//! [`Metered`]: counts and measures the calls of a store.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::error::Result;
use crate::metrics::Metrics;
use crate::metrics::store::{CallMetrics, Operation};
use crate::multitenant::{MultiStore, TenantKey, TenantMap};
use crate::store::Store;

/// Counts and measures the calls of a store, or of a multitenant store: calls, keys, bytes of values, errors by kind,
/// and how long the calls took.
///
/// The [metrics](crate::metrics) have the labels `store`, with the name that is given here, and `operation`. A
/// tenant's store counts as part of the multitenant store: no tenant becomes a label. A call whose future is dropped
/// is not counted.
///
/// It measures what it wraps. `Metered::new(Retry::new(store), …)` counts one call for each call of the processor,
/// with all its attempts; `Retry::new(Metered::new(store, …))` counts each attempt. Around a
/// [`Cached`](super::Cached) store, it counts what the processor asked for; inside, what the cache did not have.
///
/// # Cancel safety
/// As that of the wrapped store.
///
/// ```
/// # #[cfg(feature = "prometheus")]
/// # async fn example() -> kasper::Result<()> {
/// use kasper::metrics::{Metrics, prometheus};
/// use kasper::store::{MapStore, Metered, Store};
///
/// // In a factory, `start.metrics()` has the recorder and the name of the topic processor:
/// // `.build(move |start| Count { counts: Metered::new(store.clone(), "counts", start.metrics()) })`.
/// let recorder = prometheus()?;
/// let metrics = Metrics::new("count-orders", recorder.clone());
/// let counts = Metered::new(MapStore::new(), "counts", &metrics);
/// counts.get_many(&["a", "b"]).await?;
/// let keys = r#"kasper_store_keys_total{processor="count-orders",store="counts",operation="get_many"} 2"#;
/// assert!(recorder.render().contains(keys));
/// # Ok(())
/// # }
/// # #[cfg(feature = "prometheus")]
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Clone)]
pub struct Metered<S> {
    store: S,
    metrics: Arc<CallMetrics>,
}

impl<S> Metered<S> {
    /// Wraps a store, with `name` as the label `store` of its metrics.
    pub fn new(store: S, name: &str, metrics: &Metrics) -> Self {
        Self { store, metrics: Arc::new(CallMetrics::new(metrics, name)) }
    }

    /// The wrapped store. Calls that are made on it directly are not counted.
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// Makes the call, for this many keys; `bytes` returns the size of their values.
    async fn measure<T>(
        &self,
        operation: Operation,
        keys: usize,
        call: impl Future<Output = Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Result<T> {
        let begun = Instant::now();
        let result = call.await;
        self.metrics.ended(operation, keys, &result.as_ref().map(bytes), begun.elapsed());
        result
    }
}

fn total<'a>(values: impl Iterator<Item = Option<&'a Bytes>>) -> usize {
    values.flatten().map(Bytes::len).sum()
}

impl<S: Store> Store for Metered<S> {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let bytes = |values: &Vec<Option<Bytes>>| total(values.iter().map(Option::as_ref));
        self.measure(Operation::GetMany, keys.len(), self.store.get_many(keys), bytes).await
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        let bytes = |(): &()| total(changes.iter().map(|(_, value)| value.as_ref()));
        let call = self.store.write_many(changes);
        self.measure(Operation::WriteMany, changes.len(), call, bytes).await
    }

    async fn flush(&self) -> Result<()> {
        self.measure(Operation::Flush, 0, self.store.flush(), |()| 0).await
    }
}

/// The calls of the tenants' stores are counted, too.
impl<M: MultiStore> MultiStore for Metered<M> {
    type Tenant = Metered<M::Tenant>;

    fn tenant(&self, tenant: &str) -> Result<Self::Tenant> {
        Ok(Metered { store: self.store.tenant(tenant)?, metrics: Arc::clone(&self.metrics) })
    }

    fn tenants(&self) -> Vec<String> {
        self.store.tenants()
    }

    async fn fetch(&self, keys: &[TenantKey<'_>]) -> Result<TenantMap> {
        let bytes = |found: &TenantMap| total(found.iter().map(|(_, value)| value));
        self.measure(Operation::Fetch, keys.len(), self.store.fetch(keys), bytes).await
    }

    async fn push(&self, changes: &TenantMap) -> Result<()> {
        let bytes = |(): &()| total(changes.iter().map(|(_, value)| value));
        self.measure(Operation::Push, changes.len(), self.store.push(changes), bytes).await
    }

    async fn flush(&self) -> Result<()> {
        self.measure(Operation::Flush, 0, self.store.flush(), |()| 0).await
    }
}

impl<S: fmt::Debug> fmt::Debug for Metered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metered").field(&self.store).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::metrics::book::Book;
    use crate::multitenant::MultiMapStore;
    use crate::store::{Cached, MapStore, Retry};

    fn book() -> (Book, Metrics) {
        let book = Book::default();
        (book.clone(), Metrics::new("test", book))
    }

    #[tokio::test]
    async fn calls_keys_bytes_and_errors_are_counted() {
        let (book, metrics) = book();
        let store = Metered::new(MapStore::new(), "counts", &metrics);
        let changes = [("a", Some("123".into())), ("b", Some("45".into())), ("c", None)];
        store.write_many(&changes).await.unwrap();
        store.get_many(&["a", "c"]).await.unwrap();
        store.get("b").await.unwrap();
        let error = store.get("").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let count = |name: &str, operation: &str| {
            book.counter(&format!(
                "kasper_store_{name}_total{{store=counts,operation={operation}}}"
            ))
        };
        assert_eq!(["calls", "keys", "bytes"].map(|name| count(name, "write_many")), [1, 3, 5]);
        assert_eq!(["calls", "keys", "bytes"].map(|name| count(name, "get_many")), [3, 4, 5]);
        let errors =
            "kasper_store_errors_total{store=counts,operation=get_many,kind=invalid input}";
        assert_eq!(book.counter(errors), 1);
        let times = book.samples("kasper_store_seconds{store=counts,operation=get_many}");
        assert_eq!(times.len(), 3);
    }

    #[tokio::test]
    async fn tenants_count_as_one_store() {
        let (book, metrics) = book();
        let store = Metered::new(MultiMapStore::new(), "carts", &metrics);
        let mut changes = TenantMap::new();
        changes.put("ann", "a", "1");
        changes.put("bob", "b", "22");
        store.push(&changes).await.unwrap();
        let keys = [TenantKey::new("ann", "a"), TenantKey::new("bob", "c")];
        store.fetch(&keys).await.unwrap();
        store.tenant("bob").unwrap().get("b").await.unwrap();
        let count = |name: &str, operation: &str| {
            book.counter(&format!("kasper_store_{name}_total{{store=carts,operation={operation}}}"))
        };
        assert_eq!(["calls", "keys", "bytes"].map(|name| count(name, "push")), [1, 2, 3]);
        assert_eq!(["calls", "keys", "bytes"].map(|name| count(name, "fetch")), [1, 2, 1]);
        assert_eq!(["calls", "keys", "bytes"].map(|name| count(name, "get_many")), [1, 1, 2]);
    }

    #[tokio::test]
    async fn hits_and_misses_of_a_cache_are_counted() {
        let (book, metrics) = book();
        let store = Cached::new(MapStore::new(), 1 << 20).metered("counts", &metrics);
        store.put("a", "1").await.unwrap();
        store.get_many(&["a", "b", "a"]).await.unwrap();
        assert_eq!(book.counter("kasper_cache_hits_total{store=counts}"), 2);
        assert_eq!(book.counter("kasper_cache_misses_total{store=counts}"), 1);
    }

    /// Fails so many times.
    struct Failing(AtomicUsize);

    impl Store for Failing {
        async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
            match self.0.fetch_sub(1, Ordering::SeqCst) {
                0 => Ok(vec![None; keys.len()]),
                _ => Err(Error::new(ErrorKind::Unavailable, "gone").retryable()),
            }
        }

        async fn write_many(&self, _: &[(&str, Option<Bytes>)]) -> Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_counted() {
        let (book, metrics) = book();
        let inside = Metered::new(Failing(AtomicUsize::new(2)), "inside", &metrics);
        let wait = Duration::from_millis(1);
        let retry = Retry::new(inside).waits(wait, wait).metered("counts", &metrics);
        let store = Metered::new(retry, "outside", &metrics);
        store.get("a").await.unwrap();
        let calls = |store| format!("kasper_store_calls_total{{store={store},operation=get_many}}");
        assert_eq!(book.counter("kasper_store_retries_total{store=counts,operation=get_many}"), 2);
        assert_eq!(book.counter(&calls("inside")), 3);
        assert_eq!(book.counter(&calls("outside")), 1);
    }
}
