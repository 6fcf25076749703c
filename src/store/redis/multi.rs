//! [`MultiRedisStore`]: keys `{tenant}/{prefix}/{key}` in Redis.

use bytes::Bytes;

use super::requests::{FullKey, Requests};
use super::{RedisClient, RedisConfig, RedisStore};
use crate::error::Result;
use crate::multitenant::tenants::{Tenants, check_fetch, check_push, check_tenant};
use crate::multitenant::{MultiStore, TenantKey, TenantMap};

/// A multitenant store in Redis 6 or later: one server, or a Redis Cluster.
///
/// Its keys are `{tenant}/{prefix}/{key}`, as Go Kasper's. All that is said of [`RedisStore`] holds
/// here, too: a `fetch` is one `MGET` for all tenants together, a `push` one `MSET` and one `DEL`.
/// Clones share one connection and the tenants that are known.
///
/// ```no_run
/// use kasper::multitenant::{MultiRedisStore, MultiStore, TenantMap};
/// use kasper::store::RedisConfig;
///
/// # async fn example() -> kasper::Result<()> {
/// let config = RedisConfig::new("localhost:6379", "orders");
/// let store = MultiRedisStore::connect(&config).await?;
/// let mut changes = TenantMap::new();
/// changes.put("acme", "7", "12.50"); // the key `acme/orders/7` in Redis
/// store.push(&changes).await?;
/// # Ok(())
/// # }
/// ```
#[doc(alias("MultiRedis", "NewMultiRedis"))]
#[derive(Debug, Clone)]
pub struct MultiRedisStore {
    requests: Requests,
    tenants: Tenants<RedisStore>,
}

impl MultiRedisStore {
    /// Connects.
    ///
    /// # Errors
    /// Those of [`RedisStore::connect`].
    pub async fn connect(config: &RedisConfig) -> Result<Self> {
        Ok(Self::new(Requests::connect(config).await?))
    }

    /// As [`connect`](MultiRedisStore::connect), with a client that is there already, as [`RedisStore::from_client`].
    ///
    /// # Errors
    /// Those of [`RedisStore::from_client`].
    pub fn from_client(client: impl Into<RedisClient>, config: &RedisConfig) -> Result<Self> {
        Ok(Self::new(Requests::from_client(client.into(), config)?))
    }

    fn new(requests: Requests) -> Self {
        Self { requests, tenants: Tenants::default() }
    }

    /// The driver's client, to open connections of one's own.
    pub fn client(&self) -> &RedisClient {
        self.requests.client()
    }

    fn known(&self, tenant: &str) -> Result<RedisStore> {
        self.tenants.get(tenant, || Ok(RedisStore::new(self.requests.clone(), Some(tenant))))
    }
}

impl MultiStore for MultiRedisStore {
    type Tenant = RedisStore;

    fn tenant(&self, tenant: &str) -> Result<RedisStore> {
        check_tenant("tenant", tenant)?;
        self.known(tenant)
    }

    fn tenants(&self) -> Vec<String> {
        self.tenants.names()
    }

    async fn fetch(&self, keys: &[TenantKey<'_>]) -> Result<TenantMap> {
        let longest = keys.iter().map(|key| key.tenant).max_by_key(|tenant| tenant.len());
        check_fetch(keys, self.requests.limits(longest))?;
        let mut full = Vec::with_capacity(keys.len());
        for key in keys {
            self.known(key.tenant)?;
            full.push(FullKey { tenant: Some(key.tenant), key: key.key });
        }
        let values = self.requests.read("fetch", &full).await?;
        let found = keys.iter().zip(values).filter(|(_, value)| value.is_some());
        Ok(found.map(|(key, value)| (key.tenant, key.key, value)).collect())
    }

    async fn push(&self, changes: &TenantMap) -> Result<()> {
        let longest = changes.tenants().max_by_key(|tenant| tenant.len());
        check_push(changes, self.requests.limits(longest))?;
        for tenant in changes.tenants() {
            self.known(tenant)?;
        }
        let changes = changes.iter();
        let changes: Vec<(FullKey<'_>, Option<&Bytes>)> = changes
            .map(|(key, value)| (FullKey { tenant: Some(key.tenant), key: key.key }, value))
            .collect();
        self.requests.write("push", &changes).await
    }
}
