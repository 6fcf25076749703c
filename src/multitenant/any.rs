//! [`AnyMultiStore`]: a multitenant store whose kind is chosen at run time.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{MultiStore, TenantKey, TenantMap};
use crate::error::Result;
use crate::store::AnyStore;

/// A multitenant store of any kind, chosen when the program runs.
///
/// Each call costs an allocation. Clones share the store.
///
/// ```
/// use kasper::multitenant::{AnyMultiStore, MultiMapStore, MultiStore};
/// use kasper::store::Store;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// let map = MultiMapStore::new();
/// let store = AnyMultiStore::new(map.clone());
/// store.tenant("acme")?.put("a", "1").await?;
/// assert_eq!(map.snapshot().get("acme", "a"), Some(&"1".into()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AnyMultiStore {
    store: Arc<dyn DynMultiStore>,
}

impl AnyMultiStore {
    /// Wraps a store, and hides its type.
    pub fn new<M: MultiStore<Tenant: 'static> + 'static>(store: M) -> Self {
        Self { store: Arc::new(store) }
    }
}

impl fmt::Debug for AnyMultiStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyMultiStore").finish_non_exhaustive()
    }
}

impl MultiStore for AnyMultiStore {
    type Tenant = AnyStore;

    fn tenant(&self, tenant: &str) -> Result<AnyStore> {
        self.store.tenant_dyn(tenant)
    }

    fn tenants(&self) -> Vec<String> {
        self.store.tenants_dyn()
    }

    async fn fetch(&self, keys: &[TenantKey<'_>]) -> Result<TenantMap> {
        self.store.fetch_dyn(keys).await
    }

    async fn push(&self, changes: &TenantMap) -> Result<()> {
        self.store.push_dyn(changes).await
    }

    async fn flush(&self) -> Result<()> {
        self.store.flush_dyn().await
    }
}

/// [`MultiStore`] as a trait object.
trait DynMultiStore: Send + Sync {
    fn tenant_dyn(&self, tenant: &str) -> Result<AnyStore>;

    fn tenants_dyn(&self) -> Vec<String>;

    fn fetch_dyn<'a>(&'a self, keys: &'a [TenantKey<'a>]) -> BoxFuture<'a, Result<TenantMap>>;

    fn push_dyn<'a>(&'a self, changes: &'a TenantMap) -> BoxFuture<'a, Result<()>>;

    fn flush_dyn(&self) -> BoxFuture<'_, Result<()>>;
}

impl<M: MultiStore<Tenant: 'static>> DynMultiStore for M {
    fn tenant_dyn(&self, tenant: &str) -> Result<AnyStore> {
        self.tenant(tenant).map(AnyStore::new)
    }

    fn tenants_dyn(&self) -> Vec<String> {
        self.tenants()
    }

    fn fetch_dyn<'a>(&'a self, keys: &'a [TenantKey<'a>]) -> BoxFuture<'a, Result<TenantMap>> {
        Box::pin(self.fetch(keys))
    }

    fn push_dyn<'a>(&'a self, changes: &'a TenantMap) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.push(changes))
    }

    fn flush_dyn(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.flush())
    }
}
