//! [`MultiCassandraStore`]: many tenants in one table, or in a table each.

use std::fmt;
use std::sync::Arc;

use scylla::client::session::Session;

use super::config::{CassandraConfig, TENANT_BYTES, check_name};
use super::store::{CassandraStore, Item, SharedSession};
use super::table::{Layout, Table};
use crate::error::{Error, ErrorKind, Result};
use crate::multitenant::tenants::{Owners, Tenants, check_fetch, check_push, check_tenant};
use crate::multitenant::{MultiStore, TenantKey, TenantMap};
use crate::store::limits::Limits;

/// Which table is whose. Closures from a tenant's name to a table's are tenancies.
///
/// Tables of different tenants have to differ: a tenant whose table is another one's already is refused.
pub trait CassandraTenancy: Send + Sync {
    /// The table of this tenant, in the keyspace of the [`CassandraConfig`]: 1 to 48 letters (a to z),
    /// digits and underscores. Any other name makes calls for the tenant fail with
    /// [`InvalidInput`](ErrorKind::InvalidInput), and so does the name of another tenant's table.
    fn table(&self, tenant: &str) -> String;
}

impl<F: Fn(&str) -> String + Send + Sync> CassandraTenancy for F {
    fn table(&self, tenant: &str) -> String {
        self(tenant)
    }
}

/// The keys of many tenants in Cassandra or Scylla: in one table, a row for each tenant and key,
///
/// ```sql
/// CREATE TABLE shop.counts (tenant text, key text, value blob, PRIMARY KEY ((tenant, key)));
/// ```
///
/// or, with a [`CassandraTenancy`], in a table for each tenant, as those of [`CassandraStore`]. One table
/// does for any number of tenants, whose keys spread over all nodes; tables are for few tenants
/// that are to be kept or deleted apart, since each costs every node memory.
///
/// Clones share the session. What [`CassandraStore`] says about writes and deletions counts here, too.
///
/// # Limits
/// Names of tenants are 1,024 bytes long at most, and keys 64,000 bytes in the one table, as in
/// [`CassandraStore`] in tables of their own.
#[doc(alias("MultiCassandra", "NewMultiCassandra"))]
#[derive(Clone)]
pub struct MultiCassandraStore {
    shared: Arc<SharedSession>,
    tables: Tables,
    tenants: Tenants<CassandraStore>,
}

#[derive(Clone)]
enum Tables {
    One(Arc<Table>),
    Each(Arc<dyn CassandraTenancy>, Owners<String>),
}

impl MultiCassandraStore {
    /// Connects, and finds the table of all tenants or makes it.
    ///
    /// # Errors
    /// Those of [`CassandraStore::connect`].
    ///
    /// ```no_run
    /// # async fn example() -> kasper::Result<()> {
    /// use kasper::multitenant::{MultiCassandraStore, MultiStore};
    /// use kasper::store::{CassandraConfig, Store};
    ///
    /// let config = CassandraConfig::new(["10.0.0.7"], "shop", "counts");
    /// let store = MultiCassandraStore::connect(&config).await?;
    /// store.tenant("acme")?.put("a", "1").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(config: &CassandraConfig) -> Result<Self> {
        let session = Box::pin(config.connect()).await?;
        Self::from_client(Arc::new(session), config).await
    }

    /// As [`connect`](MultiCassandraStore::connect), with a session that is there already.
    ///
    /// # Errors
    /// Those of [`CassandraStore::connect`].
    pub async fn from_client(session: Arc<Session>, config: &CassandraConfig) -> Result<Self> {
        config.check()?;
        let table = Table::new(&config.keyspace, &config.table, Layout::ByTenantAndKey);
        let shared = SharedSession::new(session, config).await?;
        table.statements(shared.session(), &shared.config).await.map_err(|error| {
            error.with("operation", "connect").with("server", shared.config.server())
        })?;
        Ok(Self { shared, tables: Tables::One(Arc::new(table)), tenants: Tenants::default() })
    }

    /// Connects; each tenant has the table that the tenancy names, which is looked for (and made, if the
    /// configuration says so) when it is first used. The table of `config` is not used.
    ///
    /// # Errors
    /// Those of [`CassandraStore::connect`], but for what is about the table: calls for its tenant have
    /// that.
    ///
    /// ```no_run
    /// # async fn example() -> kasper::Result<()> {
    /// use kasper::multitenant::MultiCassandraStore;
    /// use kasper::store::CassandraConfig;
    ///
    /// let config = CassandraConfig::new(["10.0.0.7"], "shop", "counts");
    /// let by_tenant = |tenant: &str| format!("counts_{tenant}");
    /// let store = MultiCassandraStore::connect_with(&config, by_tenant).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect_with(
        config: &CassandraConfig,
        tenancy: impl CassandraTenancy + 'static,
    ) -> Result<Self> {
        let session = Box::pin(config.connect()).await?;
        Self::from_client_with(Arc::new(session), config, tenancy).await
    }

    /// As [`connect_with`](MultiCassandraStore::connect_with), with a session that is there already.
    ///
    /// # Errors
    /// Those of [`connect_with`](MultiCassandraStore::connect_with).
    pub async fn from_client_with(
        session: Arc<Session>,
        config: &CassandraConfig,
        tenancy: impl CassandraTenancy + 'static,
    ) -> Result<Self> {
        config.check()?;
        let shared = SharedSession::new(session, config).await?;
        let tables = Tables::Each(Arc::new(tenancy), Owners::default());
        Ok(Self { shared, tables, tenants: Tenants::default() })
    }

    /// The session, for whatever else is to be done with it.
    pub fn client(&self) -> &Arc<Session> {
        self.shared.session()
    }

    fn known(&self, operation: &'static str, tenant: &str) -> Result<CassandraStore> {
        self.tenants.get(tenant, || match &self.tables {
            _ if tenant.len() > TENANT_BYTES => {
                let message = format!("the tenant's name is longer than {TENANT_BYTES} bytes");
                let error = Error::new(ErrorKind::InvalidInput, message);
                let error = error.with("tenant", tenant).with("limit", TENANT_BYTES);
                Err(error.with("operation", operation))
            }
            Tables::One(table) => Ok(CassandraStore::new(&self.shared, table, Some(tenant))),
            Tables::Each(tenancy, owners) => {
                let name = tenancy.table(tenant);
                check_name("table", &name).map_err(|fault| {
                    let message = format!("the tenant's table cannot have that name: {fault}");
                    Error::new(ErrorKind::InvalidInput, message)
                        .with("tenant", tenant)
                        .with("operation", operation)
                })?;
                let table = Table::new(&self.shared.config.keyspace, &name, Layout::ByKey);
                owners
                    .claim("table", name, tenant)
                    .map_err(|error| error.with("tenant", tenant).with("operation", operation))?;
                Ok(CassandraStore::new(&self.shared, &Arc::new(table), None))
            }
        })
    }

    fn limits(&self) -> Limits {
        match self.tables {
            Tables::One(_) => self.shared.config.limits_beside_tenant(),
            Tables::Each(..) => self.shared.config.limits(),
        }
    }
}

impl MultiStore for MultiCassandraStore {
    type Tenant = CassandraStore;

    fn tenant(&self, tenant: &str) -> Result<CassandraStore> {
        check_tenant("tenant", tenant)?;
        self.known("tenant", tenant)
    }

    fn tenants(&self) -> Vec<String> {
        self.tenants.names()
    }

    async fn fetch(&self, keys: &[TenantKey<'_>]) -> Result<TenantMap> {
        check_fetch(keys, self.limits())?;
        let stores: Vec<CassandraStore> =
            keys.iter().map(|key| self.known("fetch", key.tenant)).collect::<Result<_>>()?;
        let items: Vec<Item<'_>> = (stores.iter().zip(keys))
            .map(|(store, key)| Item { store, key: key.key, value: None })
            .collect();
        let values = self.shared.read("fetch", &items).await?;
        let found = keys.iter().zip(values).filter(|(_, value)| value.is_some());
        Ok(found.map(|(key, value)| (key.tenant, key.key, value)).collect())
    }

    async fn push(&self, changes: &TenantMap) -> Result<()> {
        check_push(changes, self.limits())?;
        let stores: Vec<(&str, CassandraStore)> = (changes.tenants())
            .map(|tenant| Ok((tenant, self.known("push", tenant)?)))
            .collect::<Result<_>>()?;
        let items: Vec<Item<'_>> = (stores.iter())
            .flat_map(|(tenant, store)| {
                let of_tenant = changes.tenant(tenant);
                of_tenant.map(move |(key, value)| Item { store, key, value })
            })
            .collect();
        self.shared.write("push", &items).await
    }
}

impl fmt::Debug for MultiCassandraStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = match &self.tables {
            Tables::One(table) => table.to_string(),
            Tables::Each(..) => "a table for each tenant".to_owned(),
        };
        f.debug_struct("MultiCassandraStore")
            .field("config", &self.shared.config)
            .field("table", &table)
            .field("tenants", &self.tenants)
            .finish_non_exhaustive()
    }
}
