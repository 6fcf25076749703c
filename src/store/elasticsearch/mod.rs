//! Elasticsearch 7 and OpenSearch 2, on one code path: documents in an index, a key being the `_id`.
//!
//! Place in the data path: a [`Store`](super::Store) and a
//! [`MultiStore`](crate::multitenant::MultiStore). A call becomes `_mget` and `_bulk` requests that name
//! `_index` and `_id` and nothing newer or older; so Elasticsearch 8 and 9 and OpenSearch 3 are expected
//! to work, and are untested, as are servers older than 7, for which there is
//! [`document_type`](ElasticsearchIndex::document_type).
//!
//! An index that a first write creates maps every name of a field that it meets, up to 1,000 of them
//! (`index.mapping.total_fields.limit`); a value with one more is refused. So keep what varies in values, not in
//! names, or create the index with `dynamic: false`, which also saves indexing what nobody searches.
//!
//! ```no_run
//! use kasper::store::Store;
//! use kasper::store::elasticsearch::{ElasticsearchConfig, ElasticsearchStore};
//!
//! # async fn example() -> kasper::Result<()> {
//! let config = ElasticsearchConfig::new("http://localhost:9200");
//! let store = ElasticsearchStore::connect(config, "word-count").await?;
//! store.put("kasper", r#"{"count":1}"#).await?;
//! assert_eq!(store.get("kasper").await?, Some(r#"{"count":1}"#.into()));
//! # Ok(())
//! # }
//! ```

mod client;
mod config;
mod documents;
mod error;
mod index;
mod multi;
mod node;
mod request;
mod store;
#[cfg(feature = "elasticsearch-tls")]
mod tls;
mod transport;
mod url;

pub use client::ElasticsearchClient;
pub use config::{ElasticsearchConfig, Encoding, Refresh};
pub use index::ElasticsearchIndex;
pub use multi::{ElasticsearchTenancy, MultiElasticsearchStore};
pub use store::ElasticsearchStore;

#[cfg(test)]
pub(super) use url::{URL_SETTINGS, check_url};
pub(super) use url::{connect, connect_multi};
