//! [`MultiLocalStore`]: a multitenant store on the disk of this machine.

use super::LIMITS;
use super::config::{LocalConfig, MAX_PREFIX_BYTES, check_prefix};
use super::database::{LocalDatabase, LocalStats};
use super::keys::{Keys, change};
use super::store::LocalStore;
use crate::error::{Error, ErrorKind, Result};
use crate::multitenant::tenants::{Tenants, check_fetch, check_push, check_tenant};
use crate::multitenant::{MultiStore, TenantKey, TenantMap};

/// A multitenant store on the disk of this machine; a [`LocalStore`] for each tenant, in one database.
///
/// What [`LocalStore`] says about machines, processes and disks counts here, too. A `push` is atomic
/// over all its tenants. A tenant's name has at most 500 bytes.
///
/// ```
/// use kasper::multitenant::{MultiLocalStore, MultiStore, TenantKey, TenantMap};
/// use kasper::store::LocalConfig;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// # let directory = std::env::temp_dir().join(format!("kasper-doc-m-{}", std::process::id()));
/// let store = MultiLocalStore::open(&LocalConfig::new(&directory).prefix("counts")).await?;
/// let changes: TenantMap = [("acme", "a", Some("1")), ("other", "a", Some("2"))].into_iter().collect();
/// store.push(&changes).await?;
/// let found = store.fetch(&[TenantKey::new("other", "a"), TenantKey::new("other", "b")]).await?;
/// assert_eq!(found.get("other", "a"), Some(&"2".into()));
/// assert_eq!(found.len(), 1);
/// # drop(store);
/// # std::fs::remove_dir_all(directory).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct MultiLocalStore {
    database: LocalDatabase,
    prefix: String,
    tenants: Tenants<LocalStore>,
}

impl MultiLocalStore {
    /// Opens the directory's database and, in it, the multitenant store of the configuration's prefix. Its
    /// keys are apart from those of a [`LocalStore`] of the same prefix.
    ///
    /// # Errors
    /// Those of [`LocalStore::open`].
    ///
    /// # Cancel safety
    /// As [`LocalDatabase::open`].
    pub async fn open(config: &LocalConfig) -> Result<Self> {
        config.check()?;
        Self::from_client(&LocalDatabase::open(config).await?, &config.prefix)
    }

    /// The multitenant store of this prefix in a database that is open. No I/O.
    ///
    /// # Errors
    /// Those of [`LocalStore::from_client`].
    pub fn from_client(database: &LocalDatabase, prefix: &str) -> Result<Self> {
        check_prefix(prefix)?;
        let (database, prefix) = (database.clone(), prefix.to_owned());
        Ok(Self { database, prefix, tenants: Tenants::default() })
    }

    /// The database.
    #[doc(alias = "GetClient")]
    pub fn client(&self) -> &LocalDatabase {
        &self.database
    }

    /// As [`LocalDatabase::stats`]: those of the whole database.
    ///
    /// # Errors
    /// The disk's.
    pub async fn stats(&self) -> Result<LocalStats> {
        self.database.stats().await
    }

    /// As [`LocalDatabase::close`]. Stores of tenants are handles, too.
    ///
    /// # Errors
    /// The disk's.
    pub async fn close(self) -> Result<()> {
        let Self { database, tenants, .. } = self;
        drop(tenants);
        database.close().await
    }

    fn known(&self, operation: &'static str, tenant: &str) -> Result<LocalStore> {
        self.tenants.get(tenant, || {
            check_length(operation, tenant)?;
            Ok(LocalStore::at(&self.database, format!("t/{tenant}/{}/", self.prefix)))
        })
    }
}

fn check_length(operation: &'static str, tenant: &str) -> Result<()> {
    if tenant.len() <= MAX_PREFIX_BYTES {
        return Ok(());
    }
    let message = format!("the tenant's name is longer than the limit of {MAX_PREFIX_BYTES} bytes");
    Err(Error::new(ErrorKind::InvalidInput, message)
        .with("tenant", tenant)
        .with("limit", MAX_PREFIX_BYTES)
        .with("operation", operation))
}

impl MultiStore for MultiLocalStore {
    type Tenant = LocalStore;

    fn tenant(&self, tenant: &str) -> Result<LocalStore> {
        check_tenant("tenant", tenant)?;
        self.known("tenant", tenant)
    }

    fn tenants(&self) -> Vec<String> {
        self.tenants.names()
    }

    async fn fetch(&self, keys: &[TenantKey<'_>]) -> Result<TenantMap> {
        check_fetch(keys, LIMITS)?;
        if keys.is_empty() {
            return Ok(TenantMap::new());
        }
        let mut full_keys = Keys::with_capacity(keys.len());
        for key in keys {
            full_keys.push(self.known("fetch", key.tenant)?.prefix(), key.key);
        }
        let found = keys.iter().zip(self.database.read("fetch", full_keys).await?);
        let found = found.filter(|(_, value)| value.is_some());
        Ok(found.map(|(key, value)| (key.tenant, key.key, value)).collect())
    }

    async fn push(&self, changes: &TenantMap) -> Result<()> {
        check_push(changes, LIMITS)?;
        if changes.is_empty() {
            return Ok(());
        }
        let mut all = Vec::with_capacity(changes.len());
        for tenant in changes.tenants() {
            let store = self.known("push", tenant)?;
            let of_tenant = changes.tenant(tenant);
            all.extend(of_tenant.map(|(key, value)| change(store.prefix(), key, value)));
        }
        self.database.write("push", all).await
    }

    async fn flush(&self) -> Result<()> {
        self.database.sync().await
    }
}
