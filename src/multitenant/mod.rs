//! Multitenancy: many tenants' keys in one store, read and written in one call.
//!
//! Place in the data path: beside it, like [`store`](crate::store). The messages of a batch may belong to many
//! tenants. [`MultiStore::fetch`] reads what the batch needs of all tenants at once, and [`MultiStore::push`] writes
//! what has changed.

mod any;
mod map;
mod tenant_map;
pub(crate) mod tenants;

use std::future::Future;
use std::sync::Arc;

use crate::error::Result;
use crate::store::Store;

#[cfg(feature = "cassandra")]
pub use crate::store::cassandra::{CassandraTenancy, MultiCassandraStore};
#[cfg(feature = "elasticsearch")]
pub use crate::store::elasticsearch::{ElasticsearchTenancy, MultiElasticsearchStore};
#[cfg(feature = "local")]
pub use crate::store::local::MultiLocalStore;
#[cfg(feature = "redis")]
pub use crate::store::redis::MultiRedisStore;
pub use any::AnyMultiStore;
pub use map::MultiMapStore;
pub use tenant_map::{TenantKey, TenantMap};
pub use tenants::check_tenant_name;

/// A key-value store of many tenants. `Arc<M>` and `&M` are multitenant stores if `M` is one.
///
/// # Rules
/// 1. [`tenant`](MultiStore::tenant) returns a [`Store`] of that tenant's keys only, which keeps the [rules of
///    `Store`](Store#rules). The same key of two tenants is two keys.
/// 2. [`fetch`](MultiStore::fetch) returns the values that exist, under the tenants and keys that were requested. A
///    missing key is absent from the map. That is not an error. A key may be requested more than once.
/// 3. [`push`](MultiStore::push) makes all changes of the map: values are set, deletions delete. `fetch` and the
///    tenants' stores find what `push` has written, and `fetch` finds what the tenants' stores have written.
/// 4. A call without keys or changes returns `Ok` and does no I/O.
/// 5. The name of a tenant is any text that is not empty and has no `/` ([`check_tenant_name`]). A backend may refuse more names, and says so
///    in its documentation. A refused name is an error of kind [`InvalidInput`](crate::ErrorKind::InvalidInput) that
///    names the `tenant`, found before anything is read or written. The rules 7 and 8 of [`Store`] apply to keys and
///    values.
/// 6. [`tenants`](MultiStore::tenants) returns the tenants that this value and its clones have met in one of the
///    other calls, sorted. It asks no server: tenants that only other processes have written are not known.
/// 7. A failed or dropped `push` may have made any part of its changes. Repeating the call leads to the same result
///    as if the first attempt had succeeded.
/// 8. Calls may be made at the same time, from many tasks. An error says whether the same call may succeed again, and
///    names the `operation`. If one key is at fault, the error also names that key's `tenant`.
/// 9. A call may be as large as memory allows, with any number of tenants.
pub trait MultiStore: Send + Sync {
    /// The type of one tenant's store.
    type Tenant: Store;

    /// The store of this tenant. It is made at the first call and kept. No I/O.
    ///
    /// # Errors
    /// The name is refused (rule 5).
    ///
    /// ```
    /// # use kasper::multitenant::{MultiMapStore, MultiStore};
    /// let error = MultiMapStore::new().tenant("acme/eu").unwrap_err();
    /// assert_eq!(error.kind(), kasper::ErrorKind::InvalidInput);
    /// assert_eq!(error.get("tenant"), Some("acme/eu"));
    /// ```
    #[doc(alias = "Tenant")]
    fn tenant(&self, tenant: &str) -> Result<Self::Tenant>;

    /// The tenants that this instance knows (rule 6), sorted.
    #[doc(alias = "AllTenants")]
    fn tenants(&self) -> Vec<String>;

    /// Reads the values of these keys, of any tenants, in one round trip if the backend can do that.
    ///
    /// # Errors
    /// A name or a key that rule 5 refuses, or any reason why the backend can't answer. There are no partial answers.
    ///
    /// # Cancel safety
    /// The call only reads, so its future may be dropped at any time.
    ///
    /// ```
    /// # use kasper::multitenant::{MultiMapStore, MultiStore, TenantKey};
    /// # use kasper::store::Store;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let store = MultiMapStore::new();
    /// store.tenant("acme")?.put("a", "1").await?;
    /// let found = store.fetch(&[TenantKey::new("acme", "a"), TenantKey::new("other", "a")]).await?;
    /// // A key without a value has no entry. A tenant is known from then on.
    /// assert_eq!((found.len(), found.get("acme", "a")), (1, Some(&"1".into())));
    /// assert_eq!(store.tenants(), ["acme", "other"]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "Fetch")]
    fn fetch(&self, keys: &[TenantKey<'_>]) -> impl Future<Output = Result<TenantMap>> + Send;

    /// Makes the changes of the map, of any tenants, in one round trip if the backend can do that.
    ///
    /// # Errors
    /// A name, a key or a value that rule 5 refuses, before anything is written. Or a failure of the backend: then
    /// any part of the changes may be made.
    ///
    /// # Cancel safety
    /// Dropping the future is like an error: any part of the changes may be made. Make the same call again.
    ///
    /// ```
    /// # use kasper::multitenant::{MultiMapStore, MultiStore, TenantMap};
    /// # use kasper::store::Store;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let store = MultiMapStore::new();
    /// store.tenant("acme")?.put("a", "1").await?;
    /// let mut changes = TenantMap::new();
    /// changes.delete("acme", "a");
    /// changes.put("other", "a", "2");
    /// store.push(&changes).await?;
    /// assert_eq!(store.tenant("acme")?.get("a").await?, None);
    /// assert_eq!(store.tenant("other")?.get("a").await?, Some("2".into()));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "Push")]
    fn push(&self, changes: &TenantMap) -> impl Future<Output = Result<()>> + Send;

    /// Like [`Store::flush`], for all tenants that this instance knows. Does nothing by default.
    ///
    /// # Errors
    /// Any reason why the backend can't flush.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

macro_rules! multi_store_behind {
    ($($pointer:ty),*) => {$(
        impl<M: MultiStore + ?Sized> MultiStore for $pointer {
            type Tenant = M::Tenant;

            fn tenant(&self, tenant: &str) -> Result<Self::Tenant> {
                (**self).tenant(tenant)
            }

            fn tenants(&self) -> Vec<String> {
                (**self).tenants()
            }

            fn fetch(
                &self,
                keys: &[TenantKey<'_>],
            ) -> impl Future<Output = Result<TenantMap>> + Send {
                (**self).fetch(keys)
            }

            fn push(&self, changes: &TenantMap) -> impl Future<Output = Result<()>> + Send {
                (**self).push(changes)
            }

            fn flush(&self) -> impl Future<Output = Result<()>> + Send {
                (**self).flush()
            }
        }
    )*};
}

multi_store_behind!(&M, Arc<M>);
