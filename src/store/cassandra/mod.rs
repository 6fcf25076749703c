//! Apache Cassandra and ScyllaDB: [`CassandraStore`], [`MultiCassandraStore`].
//!
//! Place in the data path: as any [store](crate::store). A call becomes one prepared statement per key,
//! many under way at a time, each sent to a node that has the key.

mod clock;
mod config;
mod error;
mod multi;
mod store;
mod table;
#[cfg(feature = "cassandra-tls")]
mod tls;
mod url;

pub use config::{CassandraConfig, CassandraConsistency};
pub use multi::{CassandraTenancy, MultiCassandraStore};
pub use store::CassandraStore;
#[cfg(test)]
pub(super) use url::URL_SETTINGS;
