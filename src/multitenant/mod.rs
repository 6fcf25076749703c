//! Multitenancy: many tenants' keys in one store, read and written in one call.
//!
//! Place in the data path: as [`store`](crate::store), beside it. A batch's messages may belong to many
//! tenants; [`MultiStore::fetch`] reads what the batch needs of all of them at once, and
//! [`MultiStore::push`] writes what changed.

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
#[cfg(feature = "redis")]
pub use crate::store::redis::MultiRedisStore;
pub use any::AnyMultiStore;
pub use map::MultiMapStore;
pub use tenant_map::{TenantKey, TenantMap};

/// A key-value store of many tenants. `Arc<M>` and `&M` are multitenant stores where `M` is one.
///
/// # Rules
/// 1. [`tenant`](MultiStore::tenant) gives a [`Store`] of that tenant's keys alone; it keeps the
///    [rules of `Store`](Store#rules). The same key of two tenants is two keys.
/// 2. [`fetch`](MultiStore::fetch) gives the values that are there, under the tenant and the key that
///    were asked for. A key that is missing is absent from the map. That is not an error. A key may be
///    asked for more than once.
/// 3. [`push`](MultiStore::push) makes all changes of the map: values are set, deletions delete. What
///    was written by one of `push` and a tenant's store is found by the other and by `fetch`.
/// 4. A call without keys or changes returns `Ok` and does no I/O.
/// 5. The name of a tenant is any text that is not empty and has no `/`; a backend may refuse more and
///    tells so in its documentation. Such a name is an error of kind
///    [`InvalidInput`](crate::ErrorKind::InvalidInput) that names the `tenant`, found before anything
///    is read or written. Keys and values are as in the rules 7 and 8 of [`Store`].
/// 6. [`tenants`](MultiStore::tenants) are those that this value and its clones have met in one of the
///    other calls, sorted. It asks no server: tenants that other processes have written are unknown.
/// 7. A failed or dropped `push` may have made any part of its changes. Making the same call again
///    leads to the same result as if it had gone well at once.
/// 8. Calls may be made at the same time, from many tasks. An error says whether the same call may
///    succeed again, and names the `operation`; where one key is at fault, its `tenant`, too.
/// 9. A call may be as large as memory allows, of any number of tenants.
pub trait MultiStore: Send + Sync {
    /// The store of one tenant.
    type Tenant: Store;

    /// The store of this tenant, made at the first call and kept. No I/O.
    ///
    /// # Errors
    /// A name that can't be a tenant's (rule 5).
    #[doc(alias = "Tenant")]
    fn tenant(&self, tenant: &str) -> Result<Self::Tenant>;

    /// The tenants that this instance knows (rule 6), sorted.
    #[doc(alias = "AllTenants")]
    fn tenants(&self) -> Vec<String>;

    /// Reads the values of these keys, of any tenants, in one round trip where the backend has one.
    ///
    /// # Errors
    /// What rule 5 refuses, or whatever keeps the backend from answering. There are no partial answers.
    ///
    /// # Cancel safety
    /// Reads only; the future may be dropped at any time.
    #[doc(alias = "Fetch")]
    fn fetch(&self, keys: &[TenantKey<'_>]) -> impl Future<Output = Result<TenantMap>> + Send;

    /// Makes the changes of the map, of any tenants, in one round trip where the backend has one.
    ///
    /// # Errors
    /// What rule 5 refuses, before anything is written; or whatever the backend fails by, and then any
    /// part of the changes may be made.
    ///
    /// # Cancel safety
    /// A dropped future is like an error: any part may be written. Make the same call again.
    #[doc(alias = "Push")]
    fn push(&self, changes: &TenantMap) -> impl Future<Output = Result<()>> + Send;

    /// As [`Store::flush`], for all tenants that this instance knows. Does nothing by default.
    ///
    /// # Errors
    /// Whatever keeps the backend from it.
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
