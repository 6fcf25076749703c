//! [`AnyStore`]: a store whose kind is chosen at run time.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::Store;
use crate::error::Result;

/// A store of any kind, chosen when the program runs.
///
/// Each call costs an allocation. Clones share the store.
///
/// ```
/// use kasper::store::{AnyStore, MapStore, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// let store = AnyStore::new(MapStore::new());
/// store.put("a", "1").await?;
/// assert_eq!(store.get("a").await?, Some("1".into()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AnyStore {
    store: Arc<dyn DynStore>,
}

impl AnyStore {
    /// Wraps a store, and hides its type.
    pub fn new(store: impl Store + 'static) -> Self {
        Self { store: Arc::new(store) }
    }
}

impl fmt::Debug for AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyStore").finish_non_exhaustive()
    }
}

impl Store for AnyStore {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.store.get_many_dyn(keys).await
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        self.store.write_many_dyn(changes).await
    }

    async fn flush(&self) -> Result<()> {
        self.store.flush_dyn().await
    }
}

/// [`Store`] as a trait object.
trait DynStore: Send + Sync {
    fn get_many_dyn<'a>(&'a self, keys: &'a [&'a str])
    -> BoxFuture<'a, Result<Vec<Option<Bytes>>>>;

    fn write_many_dyn<'a>(
        &'a self,
        changes: &'a [(&'a str, Option<Bytes>)],
    ) -> BoxFuture<'a, Result<()>>;

    fn flush_dyn(&self) -> BoxFuture<'_, Result<()>>;
}

impl<S: Store> DynStore for S {
    fn get_many_dyn<'a>(
        &'a self,
        keys: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<Option<Bytes>>>> {
        Box::pin(self.get_many(keys))
    }

    fn write_many_dyn<'a>(
        &'a self,
        changes: &'a [(&'a str, Option<Bytes>)],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.write_many(changes))
    }

    fn flush_dyn(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.flush())
    }
}
