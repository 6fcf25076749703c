//! Elasticsearch 7 and OpenSearch 2: [`ElasticsearchStore`], [`MultiElasticsearchStore`].
//!
//! Place in the data path: as any [store](crate::store). A call becomes `_mget` and `_bulk` requests (`request`,
//! `documents`), which the client sends to one of the servers (`send`, `transport`); what fails becomes an error of
//! the library in `error`.

mod call;
mod client;
mod config;
mod documents;
mod error;
mod fault;
mod index;
mod multi;
mod node;
mod request;
mod send;
mod store;
#[cfg(feature = "elasticsearch-tls")]
mod tls;
mod transport;
mod url;

pub use client::ElasticsearchClient;
pub use config::{ElasticsearchConfig, ElasticsearchEncoding, ElasticsearchRefresh};
pub use index::ElasticsearchIndex;
pub use multi::{ElasticsearchTenancy, MultiElasticsearchStore};
pub use store::ElasticsearchStore;

#[cfg(test)]
pub(super) use url::URL_SETTINGS;
