//! [`MultiMapStore`]: a multitenant store in the memory of the process.

use bytes::Bytes;

use super::tenants::{Tenants, check_fetch, check_push, check_tenant};
use super::{MultiStore, TenantKey, TenantMap};
use crate::error::Result;
use crate::store::limits::Limits;
use crate::store::{MapStore, Store};

/// A multitenant store in the memory of the process, for tests and for state that may be lost. It has a [`MapStore`]
/// for each tenant.
///
/// Clones share the same data. As with [`MapStore`], the state does not follow a partition to another process.
///
/// ```
/// use kasper::multitenant::{MultiMapStore, MultiStore, TenantKey};
/// use kasper::store::Store;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// let store = MultiMapStore::new();
/// store.tenant("acme")?.put("a", "1").await?;
/// // One call reads the keys of many tenants, and one writes them.
/// let mut state = store.fetch(&[TenantKey::new("acme", "a"), TenantKey::new("other", "a")]).await?;
/// state.put("acme", "a", "2");
/// state.put("other", "a", "1");
/// store.push(&state).await?;
/// assert_eq!(store.snapshot(), state);
/// # Ok(())
/// # }
/// ```
#[doc(alias("MultiMap", "NewMultiMap"))]
#[derive(Debug, Clone, Default)]
pub struct MultiMapStore {
    tenants: Tenants<MapStore>,
}

impl MultiMapStore {
    /// An empty store, without tenants.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything in the store. Values are shared, not copied. A tenant without keys has no entry.
    pub fn snapshot(&self) -> TenantMap {
        let mut map = TenantMap::new();
        for (tenant, store) in self.tenants.all() {
            map.extend(
                store.snapshot().into_iter().map(|(key, value)| (&tenant, key, Some(value))),
            );
        }
        map
    }

    fn known(&self, tenant: &str) -> Result<MapStore> {
        self.tenants.get(tenant, || Ok(MapStore::new()))
    }
}

impl MultiStore for MultiMapStore {
    type Tenant = MapStore;

    fn tenant(&self, tenant: &str) -> Result<MapStore> {
        check_tenant("tenant", tenant)?;
        self.known(tenant)
    }

    fn tenants(&self) -> Vec<String> {
        self.tenants.names()
    }

    async fn fetch(&self, keys: &[TenantKey<'_>]) -> Result<TenantMap> {
        check_fetch(keys, Limits::NONE)?;
        let mut found = TenantMap::new();
        for key in keys {
            let value = self.known(key.tenant)?.get(key.key).await?;
            found.extend(value.map(|value| (key.tenant, key.key, Some(value))));
        }
        Ok(found)
    }

    async fn push(&self, changes: &TenantMap) -> Result<()> {
        check_push(changes, Limits::NONE)?;
        for tenant in changes.tenants() {
            let of_tenant = changes.tenant(tenant);
            let of_tenant: Vec<(&str, Option<Bytes>)> =
                of_tenant.map(|(key, value)| (key, value.cloned())).collect();
            self.known(tenant)?.write_many(&of_tenant).await?;
        }
        Ok(())
    }
}
