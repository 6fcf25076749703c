//! [`MultiElasticsearchStore`]: many tenants, each with an index of its own.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::client::ElasticsearchClient;
use super::config::ElasticsearchConfig;
use super::index::ElasticsearchIndex;
use super::request::{self, Change, DocumentId};
use super::store::ElasticsearchStore;
use crate::error::Result;
use crate::multitenant::tenants::{Owners, Tenants, check_fetch, check_push, check_tenant};
use crate::multitenant::{MultiStore, TenantKey, TenantMap};

/// Which index a tenant's documents are in. Closures are tenancies:
///
/// ```
/// use kasper::multitenant::ElasticsearchTenancy;
/// use kasper::store::ElasticsearchIndex;
///
/// let tenancy = |tenant: &str| format!("sales-service~{tenant}");
/// assert_eq!(tenancy.index("acme"), ElasticsearchIndex::new("sales-service~acme"));
/// // With a document type, for servers older than version 7.
/// let old = |tenant: &str| (format!("sales-service~{tenant}"), "customer");
/// assert_eq!(old.index("acme"), ElasticsearchIndex::new("sales-service~acme").document_type("customer"));
/// ```
#[doc(alias = "TenantIndexAndType")]
pub trait ElasticsearchTenancy: Send + Sync {
    /// The index of this tenant: for the same tenant always the same, for different ones different ones.
    /// Names of indexes have no capital letters, and a tenant with one is refused unless they are taken
    /// out here, in a way that keeps tenants apart.
    fn index(&self, tenant: &str) -> ElasticsearchIndex;
}

impl<F, I> ElasticsearchTenancy for F
where
    F: Fn(&str) -> I + Send + Sync,
    I: Into<ElasticsearchIndex>,
{
    fn index(&self, tenant: &str) -> ElasticsearchIndex {
        self(tenant).into()
    }
}

/// A multitenant store: an [`ElasticsearchStore`] for each tenant, all in one cluster. Clones share
/// everything.
///
/// One `fetch` is one `_mget` and one `push` one `_bulk` across the tenants' indexes, as long as they
/// [fit one request](ElasticsearchConfig::max_request_items). Beyond the names that
/// [rule 5](MultiStore#rules) refuses, a tenant is refused whose index could not have that name, or has
/// another tenant already.
///
/// ```no_run
/// use kasper::multitenant::{MultiElasticsearchStore, MultiStore, TenantKey};
/// use kasper::store::ElasticsearchConfig;
///
/// # async fn example() -> kasper::Result<()> {
/// let config = ElasticsearchConfig::new("http://localhost:9200", "sales");
/// let store = MultiElasticsearchStore::connect(&config).await?;
/// // From the indexes `sales-acme` and `sales-other`.
/// let found = store.fetch(&[TenantKey::new("acme", "a"), TenantKey::new("other", "a")]).await?;
/// assert!(found.get("acme", "a").is_none());
/// # Ok(())
/// # }
/// ```
#[doc(alias("MultiElasticsearch", "NewMultiElasticsearch"))]
#[derive(Clone)]
pub struct MultiElasticsearchStore {
    client: ElasticsearchClient,
    tenancy: Arc<dyn ElasticsearchTenancy>,
    tenants: Tenants<ElasticsearchStore>,
    owners: Owners<ElasticsearchIndex>,
}

impl MultiElasticsearchStore {
    /// Connects, and asks whether the servers answer. Each tenant has the index `{index}-{tenant}`.
    ///
    /// # Errors
    /// Those of [`ElasticsearchStore::connect`].
    pub async fn connect(config: &ElasticsearchConfig) -> Result<Self> {
        Self::connect_with(config, by_name(config.index.clone())).await
    }

    /// As [`connect`](MultiElasticsearchStore::connect), with a client that is there already. No I/O.
    ///
    /// # Errors
    /// Those of [`ElasticsearchStore::from_client`].
    pub fn from_client(
        client: ElasticsearchClient,
        index: impl Into<ElasticsearchIndex>,
    ) -> Result<Self> {
        let index = index.into().configured()?;
        Ok(Self::from_client_with(client, by_name(index)))
    }

    /// Connects, and asks whether the servers answer. Each tenant has the index that the tenancy names. The index of
    /// `config` is not used, but must be valid.
    ///
    /// # Errors
    /// Those of [`ElasticsearchStore::connect`].
    ///
    /// ```no_run
    /// # async fn example() -> kasper::Result<()> {
    /// use kasper::multitenant::MultiElasticsearchStore;
    /// use kasper::store::ElasticsearchConfig;
    ///
    /// let config = ElasticsearchConfig::new("http://localhost:9200", "sales");
    /// let by_tenant = |tenant: &str| format!("sales~{tenant}");
    /// let store = MultiElasticsearchStore::connect_with(&config, by_tenant).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect_with(
        config: &ElasticsearchConfig,
        tenancy: impl ElasticsearchTenancy + 'static,
    ) -> Result<Self> {
        let store = Self::from_client_with(ElasticsearchClient::new(config)?, tenancy);
        store.client.ping().await?;
        Ok(store)
    }

    /// As [`connect_with`](MultiElasticsearchStore::connect_with), with a client that is there already. No I/O.
    pub fn from_client_with(
        client: ElasticsearchClient,
        tenancy: impl ElasticsearchTenancy + 'static,
    ) -> Self {
        let (tenants, owners) = (Tenants::default(), Owners::default());
        Self { client, tenancy: Arc::new(tenancy), tenants, owners }
    }

    /// The client, for other stores.
    pub fn client(&self) -> &ElasticsearchClient {
        &self.client
    }

    fn known(&self, operation: &'static str, tenant: &str) -> Result<ElasticsearchStore> {
        self.tenants.get(tenant, || {
            let index = self.tenancy.index(tenant);
            let claimed =
                index.check().and_then(|()| self.owners.claim("index", index.clone(), tenant));
            claimed.map_err(|error| error.with("tenant", tenant).with("operation", operation))?;
            Ok(ElasticsearchStore::new(self.client.clone(), index))
        })
    }
}

/// The tenancy of who names one index: `{index}-{tenant}`.
fn by_name(index: ElasticsearchIndex) -> impl ElasticsearchTenancy {
    move |tenant: &str| ElasticsearchIndex {
        name: format!("{}-{tenant}", index.name),
        document_type: index.document_type.clone(),
    }
}

impl fmt::Debug for MultiElasticsearchStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiElasticsearchStore")
            .field("client", &self.client)
            .field("tenants", &self.tenants)
            .finish_non_exhaustive()
    }
}

impl MultiStore for MultiElasticsearchStore {
    type Tenant = ElasticsearchStore;

    fn tenant(&self, tenant: &str) -> Result<ElasticsearchStore> {
        check_tenant("tenant", tenant)?;
        self.known("tenant", tenant)
    }

    fn tenants(&self) -> Vec<String> {
        self.tenants.names()
    }

    async fn fetch(&self, keys: &[TenantKey<'_>]) -> Result<TenantMap> {
        check_fetch(keys, self.client.config().limits())?;
        let mut stores: HashMap<&str, ElasticsearchStore> = HashMap::new();
        for key in keys {
            if !stores.contains_key(key.tenant) {
                stores.insert(key.tenant, self.known("fetch", key.tenant)?);
            }
        }
        let places: Vec<DocumentId<'_>> = keys
            .iter()
            .map(|key| DocumentId {
                tenant: Some(key.tenant),
                index: stores[key.tenant].index(),
                id: key.key,
            })
            .collect();
        let values = self.client.read("fetch", &places).await?;
        // Under the tenant that was asked for, whatever the index is called.
        let found = keys.iter().zip(values);
        Ok(found.filter_map(|(key, value)| Some((key.tenant, key.key, Some(value?)))).collect())
    }

    async fn push(&self, changes: &TenantMap) -> Result<()> {
        check_push(changes, self.client.config().limits())?;
        let mut stores: HashMap<&str, ElasticsearchStore> = HashMap::new();
        for tenant in changes.tenants() {
            stores.insert(tenant, self.known("push", tenant)?);
        }
        let changes: Vec<Change<'_>> = changes
            .iter()
            .map(|(key, value)| {
                let index = stores[key.tenant].index();
                Change { place: DocumentId { tenant: Some(key.tenant), index, id: key.key }, value }
            })
            .collect();
        self.client.write("push", &changes).await
    }

    /// Refreshes the indexes of the known tenants, and no other.
    async fn flush(&self) -> Result<()> {
        // The servers take URLs of up to 4096 bytes, and an index may have 3 × 255 of them.
        const NAMES: usize = 4;
        let call = self.client.call("flush");
        let stores = self.tenants.all();
        for stores in stores.chunks(NAMES) {
            let names = stores.iter().map(|(_, store)| store.index().name.as_str());
            self.client.send(call, &request::refresh(names)).await?;
        }
        Ok(())
    }
}
