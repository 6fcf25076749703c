//! The tenants that an instance knows, each with its store.

use std::collections::BTreeMap;
#[cfg(any(feature = "cassandra", feature = "elasticsearch"))]
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::{TenantKey, TenantMap};
use crate::error::{Error, ErrorKind, Result};
#[cfg(any(feature = "cassandra", feature = "elasticsearch"))]
use crate::lock::Mutex;
use crate::lock::RwLock;
use crate::store::limits::Limits;

/// Shared by the clones of a multitenant store.
pub(crate) struct Tenants<S> {
    stores: Arc<RwLock<BTreeMap<String, S>>>,
}

impl<S> Clone for Tenants<S> {
    fn clone(&self) -> Self {
        Self { stores: Arc::clone(&self.stores) }
    }
}

impl<S> Default for Tenants<S> {
    fn default() -> Self {
        Self { stores: Arc::default() }
    }
}

impl<S> fmt::Debug for Tenants<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.stores.read().len();
        f.debug_struct("Tenants").field("count", &count).finish()
    }
}

impl<S: Clone> Tenants<S> {
    /// The tenant's store: the known one, or else the one that `create` makes.
    ///
    /// # Errors
    /// Those of `create`.
    pub(crate) fn get(&self, tenant: &str, create: impl FnOnce() -> Result<S>) -> Result<S> {
        let known = self.stores.read().get(tenant).cloned();
        if let Some(store) = known {
            return Ok(store);
        }
        let store = create()?;
        let mut stores = self.stores.write();
        // Another task may have been quicker; all get the same.
        Ok(stores.entry(tenant.to_owned()).or_insert(store).clone())
    }

    /// The names of the tenants, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.stores.read().keys().cloned().collect()
    }

    /// All stores, sorted by tenant.
    pub(crate) fn all(&self) -> Vec<(String, S)> {
        let stores = self.stores.read();
        stores.iter().map(|(name, store)| (name.clone(), store.clone())).collect()
    }
}

/// The owners of tables or indexes, if each tenant has its own. A tenancy that gives two tenants the same one would
/// mix their keys.
#[cfg(any(feature = "cassandra", feature = "elasticsearch"))]
pub(crate) struct Owners<P> {
    owners: Arc<Mutex<HashMap<P, String>>>,
}

#[cfg(any(feature = "cassandra", feature = "elasticsearch"))]
impl<P> Clone for Owners<P> {
    fn clone(&self) -> Self {
        Self { owners: Arc::clone(&self.owners) }
    }
}

#[cfg(any(feature = "cassandra", feature = "elasticsearch"))]
impl<P> Default for Owners<P> {
    fn default() -> Self {
        Self { owners: Arc::default() }
    }
}

#[cfg(any(feature = "cassandra", feature = "elasticsearch"))]
impl<P: Eq + std::hash::Hash> Owners<P> {
    /// Makes the tenant the owner of this place, which is a `what`.
    ///
    /// # Errors
    /// The place belongs to another tenant.
    pub(crate) fn claim(&self, what: &str, place: P, tenant: &str) -> Result<()> {
        let mut owners = self.owners.lock();
        let owner = owners.entry(place).or_insert_with(|| tenant.to_owned());
        if owner == tenant {
            return Ok(());
        }
        let message = format!("the tenancy maps this tenant to the {what} of the tenant `{owner}`");
        Err(Error::new(ErrorKind::InvalidInput, message))
    }
}

/// Checks the name of a tenant, as every [`MultiStore`](super::MultiStore) does: it is any text that is not empty and
/// has no `/`. Call it where names come in, such as when a customer is created, or to skip a message whose tenant no
/// store would accept. Otherwise the first batch with such a name fails.
///
/// A backend may refuse more names: with a table or an index for each tenant, names that the
/// tenancy cannot map to one. [`MultiStore::tenant`](super::MultiStore::tenant) of that store checks those too,
/// without I/O.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput), with the name as `tenant`.
///
/// ```
/// use kasper::multitenant::check_tenant_name;
///
/// assert!(check_tenant_name("acme").is_ok());
/// assert!(check_tenant_name("Müller & Co: 7").is_ok());
/// for name in ["", "acme/eu"] {
///     let error = check_tenant_name(name).unwrap_err();
///     assert_eq!((error.kind(), error.get("tenant")), (kasper::ErrorKind::InvalidInput, Some(name)));
/// }
/// ```
pub fn check_tenant_name(name: &str) -> Result<()> {
    let message = match name {
        "" => "the tenant's name is empty",
        _ if name.contains('/') => {
            "the tenant's name has a `/`, which would make it collide with other keys"
        }
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::InvalidInput, message).with("tenant", name))
}

/// Rule 5 of [`MultiStore`](super::MultiStore), in an operation.
///
/// # Errors
/// Those of [`check_tenant_name`], with the operation.
pub(crate) fn check_tenant(operation: &'static str, tenant: &str) -> Result<()> {
    check_tenant_name(tenant).map_err(|error| error.with("operation", operation))
}

/// Rule 5 for a whole `fetch`.
///
/// # Errors
/// A refused tenant or key, which the error names.
pub(crate) fn check_fetch(keys: &[TenantKey<'_>], limits: Limits) -> Result<()> {
    keys.iter().try_for_each(|TenantKey { tenant, key }| {
        check_tenant("fetch", tenant)?;
        let checked = limits.check_keys("fetch", [*key]);
        checked.map_err(|error| error.with("tenant", tenant))
    })
}

/// Rule 5 for a whole `push`.
///
/// # Errors
/// A refused tenant, key or value, which the error names.
pub(crate) fn check_push(changes: &TenantMap, limits: Limits) -> Result<()> {
    changes.tenants().try_for_each(|tenant| {
        check_tenant("push", tenant)?;
        let checked = limits.check_changes("push", changes.tenant(tenant));
        checked.map_err(|error| error.with("tenant", tenant))
    })
}

#[cfg(all(test, any(feature = "cassandra", feature = "elasticsearch")))]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_tenants() {
        let owners = Owners::default();
        owners.claim("table", "t", "acme").unwrap();
        owners.clone().claim("table", "t", "acme").unwrap();
        let error = owners.claim("table", "t", "other").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("the table of the tenant `acme`"), "{error}");
        owners.claim("table", "u", "other").unwrap();
    }
}
