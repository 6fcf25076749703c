//! [`ElasticsearchStore`]: the documents of one index.

use bytes::Bytes;

use super::client::ElasticsearchClient;
use super::config::ElasticsearchConfig;
use super::fault::{Failure, Refusal};
use super::index::ElasticsearchIndex;
use super::request::{self, Change, DocumentId};
use crate::error::Result;
use crate::store::Store;
use crate::store::changes::last_of_each_key;

/// A store in an index of Elasticsearch or OpenSearch: a key is a document's `_id`, a value its
/// `_source`. Clones share connections.
///
/// ```no_run
/// use kasper::store::{ElasticsearchConfig, ElasticsearchStore, Store};
///
/// # async fn example() -> kasper::Result<()> {
/// let config = ElasticsearchConfig::new("http://localhost:9200", "word-count");
/// let store = ElasticsearchStore::connect(&config).await?;
/// store.put("kasper", r#"{"count":1}"#).await?;
/// assert_eq!(store.get("kasper").await?, Some(r#"{"count":1}"#.into()));
/// # Ok(())
/// # }
/// ```
///
/// - **Servers**: tested with Elasticsearch 7 and OpenSearch 2. Requests (`_mget` and `_bulk`) contain nothing that newer
///   versions have changed, so Elasticsearch 8 and 9 and OpenSearch 3 should work; they are not tested, nor are servers
///   older than 7, which need a [`document_type`](ElasticsearchIndex::document_type).
/// - **Keys** have at most 512 bytes.
/// - **Values** are JSON objects, kept byte for byte, or any bytes with
///   [`ElasticsearchEncoding::Binary`](super::ElasticsearchEncoding::Binary); up to 32 MiB unless
///   [configured otherwise](ElasticsearchConfig::max_value_bytes). A value with line breaks costs a
///   request of its own: write JSON on one line. Servers refuse an object that has a field twice, or
///   one that the index's mapping does not fit; the error names the key.
/// - **The index** is made by the server when something is first written, unless its setting
///   `action.auto_create_index` forbids it: then writing is an error of kind
///   [`NotFound`](crate::ErrorKind::NotFound). *Reading* from a missing index finds nothing and is no
///   error, because a new job or a new tenant begins by reading: so mind the index's name. By default the
///   server indexes every field of every document; for mere state make the index with
///   [`create_index_if_missing`](Self::create_index_if_missing), which makes writes cheaper.
/// - **Fields.** An index that a write has created maps every field name that it meets, up to 1,000 of them
///   (`index.mapping.total_fields.limit`). A value with one more is refused. So keep what varies in values, not in names,
///   or create the index with `create_index_if_missing` or with `dynamic: false`.
/// - **Reads** find what was written at once, no refresh needed; searches see it as
///   [`ElasticsearchRefresh`](super::ElasticsearchRefresh) says.
/// - **Failures.** Keys that a busy server refuses (429, 503) are tried again alone, until the call's
///   [time](ElasticsearchConfig::timeout) is over. Where others fail, the error names the first `key` and lists
///   up to ten in `failed`. A request that a server, or a proxy before it, refuses for its size (413) is divided as long
///   as it has several keys, and those of later calls are made smaller for some time; with one key the error names it.
/// - **Writes that were given up.** After a *time-out* of a write, or when its future was dropped, its connection is reset
///   when the runtime next runs the connection's task. Until then, and with TLS while the connection is shut down, what
///   was not delivered may still be; after that it never is. But what the server has taken in it may make later, over a newer write of the
///   same key: Elasticsearch has no fence against that. So may a proxy that passes a write on although its client reset
///   the connection, and both when the connection broke on the way. With an
///   [HTTP client of your own](ElasticsearchConfig::http_client), connections are not reset.
#[doc(alias("Elasticsearch", "NewElasticsearch"))]
#[derive(Debug, Clone)]
pub struct ElasticsearchStore {
    client: ElasticsearchClient,
    index: std::sync::Arc<ElasticsearchIndex>,
}

impl ElasticsearchStore {
    /// Connects, and asks whether the servers answer. Whether there is such an index is not asked.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config): all faults of the configuration.
    /// [`Unauthorized`](crate::ErrorKind::Unauthorized): wrong credentials.
    /// [`Unavailable`](crate::ErrorKind::Unavailable) or [`Timeout`](crate::ErrorKind::Timeout): no server answers; these
    /// two are retryable.
    pub async fn connect(config: &ElasticsearchConfig) -> Result<Self> {
        let store = Self::new(ElasticsearchClient::new(config)?, config.index.clone());
        store.client.ping().await?;
        Ok(store)
    }

    /// A store in this index that shares a client with others. No I/O.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config): not the name of one index.
    pub fn from_client(
        client: ElasticsearchClient,
        index: impl Into<ElasticsearchIndex>,
    ) -> Result<Self> {
        let index = index.into().configured()?;
        Ok(Self::new(client, index))
    }

    /// The name of the index has to be valid.
    pub(super) fn new(client: ElasticsearchClient, index: ElasticsearchIndex) -> Self {
        Self { client, index: std::sync::Arc::new(index) }
    }

    /// The client, for other stores.
    #[doc(alias = "GetClient")]
    pub fn client(&self) -> &ElasticsearchClient {
        &self.client
    }

    pub(super) fn index(&self) -> &ElasticsearchIndex {
        &self.index
    }

    /// Makes the index, unless it is there, with a mapping that keeps documents and indexes none of their
    /// fields: any JSON fits, writes are cheap, and there is nothing to search by but the `_id`. An index
    /// that is there stays as it is.
    ///
    /// # Errors
    /// Whatever keeps the servers from it.
    ///
    /// # Cancel safety
    /// The index is made or not.
    pub async fn create_index_if_missing(&self) -> Result<()> {
        let call = self.client.call("create_index");
        match self.client.send(call, &request::create(&self.index)).await {
            Ok(_) | Err(Failure { refusal: Some(Refusal::AlreadyExists), .. }) => Ok(()),
            Err(failure) => Err(failure.error.with("index", &self.index.name)),
        }
    }
}

impl Store for ElasticsearchStore {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.client.config().limits().check_keys("get_many", keys.iter().copied())?;
        let index = &*self.index;
        let places: Vec<DocumentId<'_>> =
            keys.iter().map(|key| DocumentId { tenant: None, index, id: key }).collect();
        self.client.read("get_many", &places).await
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        let all = changes.iter().map(|(key, value)| (*key, value.as_ref()));
        self.client.config().limits().check_changes("write_many", all)?;
        let index = &*self.index;
        let changes: Vec<Change<'_>> = last_of_each_key(changes)
            .into_iter()
            .map(|(key, value)| Change {
                place: DocumentId { tenant: None, index, id: key },
                value,
            })
            .collect();
        self.client.write("write_many", &changes).await
    }

    /// Refreshes this store's index, so that searches see what was written; never all indexes, as Go's
    /// does. What was written is durable before, unless the index's `translog.durability` says otherwise.
    async fn flush(&self) -> Result<()> {
        let call = self.client.call("flush");
        self.client.send(call, &request::refresh([self.index.name.as_str()])).await?;
        Ok(())
    }
}
