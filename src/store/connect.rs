//! [`connect`]: from a URL to a store.

#[cfg(feature = "elasticsearch")]
use super::elasticsearch;
use super::{AnyStore, MapStore};
#[cfg(feature = "cassandra")]
use super::{CassandraConfig, CassandraStore};
#[cfg(feature = "local")]
use super::{LocalConfig, LocalStore, MultiLocalStore};
#[cfg(feature = "redis")]
use super::{RedisConfig, RedisStore};
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "cassandra")]
use crate::multitenant::MultiCassandraStore;
#[cfg(feature = "redis")]
use crate::multitenant::MultiRedisStore;
use crate::multitenant::{AnyMultiStore, MultiMapStore};

/// Connects to the store that a URL names.
///
/// | URL | store | feature |
/// | --- | --- | --- |
/// | `map:` | a new [`MapStore`] | |
/// | `local:PATH`, `local:PATH?prefix=NAME&sync=true` | a `LocalStore` in a directory | `local` |
/// | `redis://…/PREFIX`, `redis+cluster://…/PREFIX` | `RedisStore`, see `RedisConfig` | `redis` |
/// | `rediss://…/PREFIX`, `rediss+cluster://…/PREFIX` | the same, with TLS | `redis-tls` |
/// | `cassandra://[user:password@]host1[:port],host2/keyspace/table` | a table of Cassandra or Scylla; settings may follow (`CassandraConfig::from_url`) | `cassandra` |
/// | `elasticsearch+http://user:password@host:9200,host:9200/index?encoding=binary` | Elasticsearch or OpenSearch | `elasticsearch` |
/// | `elasticsearch+https://…`, the same | | `elasticsearch-tls` |
///
/// Options for Elasticsearch: `encoding` (`json`, `binary`), `refresh` (`later`, `wait_for`,
/// `immediate`), `api_key`, `type` (the document type, for servers older than version 7).
///
/// # Errors
/// [`Config`](ErrorKind::Config): no such kind of store, or its feature is not switched on, or the
/// kind's own complaint about the URL; and whatever keeps the server from answering. Passwords that
/// stand in a URL are in no error.
///
/// ```
/// use kasper::store::{Store, connect};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// let store = connect("map:").await?;
/// store.put("a", "1").await?;
/// assert!(connect("carrier-pigeon://coop").await.is_err());
/// # Ok(())
/// # }
/// ```
pub async fn connect(url: &str) -> Result<AnyStore> {
    match scheme(url)? {
        "map" => Ok(AnyStore::new(MapStore::new())),
        #[cfg(feature = "local")]
        "local" => Ok(AnyStore::new(LocalStore::open(&LocalConfig::from_url(url)?).await?)),
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+cluster" | "rediss+cluster" => {
            Ok(AnyStore::new(RedisStore::connect(&RedisConfig::from_url(url)?).await?))
        }
        #[cfg(feature = "cassandra")]
        "cassandra" => {
            let config = CassandraConfig::from_url(url)?;
            Ok(AnyStore::new(CassandraStore::connect(config).await?))
        }
        #[cfg(feature = "elasticsearch")]
        "elasticsearch" | "elasticsearch+http" | "elasticsearch+https" => {
            elasticsearch::connect(url).await.map(AnyStore::new)
        }
        other => Err(unknown(other)),
    }
}

/// As [`connect`], to a multitenant store of that kind.
///
/// Elasticsearch: a tenant's index is called `{index}-{tenant}`.
///
/// # Errors
/// Those of [`connect`].
pub async fn connect_multi(url: &str) -> Result<AnyMultiStore> {
    match scheme(url)? {
        "map" => Ok(AnyMultiStore::new(MultiMapStore::new())),
        #[cfg(feature = "local")]
        "local" => {
            Ok(AnyMultiStore::new(MultiLocalStore::open(&LocalConfig::from_url(url)?).await?))
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+cluster" | "rediss+cluster" => {
            Ok(AnyMultiStore::new(MultiRedisStore::connect(&RedisConfig::from_url(url)?).await?))
        }
        #[cfg(feature = "cassandra")]
        "cassandra" => {
            let config = CassandraConfig::from_url(url)?;
            Ok(AnyMultiStore::new(MultiCassandraStore::connect(config).await?))
        }
        #[cfg(feature = "elasticsearch")]
        "elasticsearch" | "elasticsearch+http" | "elasticsearch+https" => {
            elasticsearch::connect_multi(url).await.map(AnyMultiStore::new)
        }
        other => Err(unknown(other)),
    }
}

fn scheme(url: &str) -> Result<&str> {
    let no_scheme = || {
        let message = "a store's URL begins with its kind, such as `map:` or `redis://`";
        Error::new(ErrorKind::Config, message)
    };
    url.split_once(':').map(|(scheme, _)| scheme).filter(|s| !s.is_empty()).ok_or_else(no_scheme)
}

fn unknown(scheme: &str) -> Error {
    /// Each kind of store and the feature that it needs.
    const KINDS: &[(&str, &str, bool)] = &[
        ("redis", "redis", cfg!(feature = "redis")),
        ("redis+cluster", "redis", cfg!(feature = "redis")),
        ("rediss", "redis-tls", cfg!(feature = "redis-tls")),
        ("rediss+cluster", "redis-tls", cfg!(feature = "redis-tls")),
        ("elasticsearch", "elasticsearch", cfg!(feature = "elasticsearch")),
        ("elasticsearch+http", "elasticsearch", cfg!(feature = "elasticsearch")),
        ("elasticsearch+https", "elasticsearch-tls", cfg!(feature = "elasticsearch-tls")),
        ("cassandra", "cassandra", cfg!(feature = "cassandra")),
        ("local", "local", cfg!(feature = "local")),
    ];
    let message = match KINDS.iter().find(|(kind, ..)| *kind == scheme) {
        Some((_, feature, false)) => {
            format!(
                "stores of the kind `{scheme}` need the feature `{feature}` of the crate kasper"
            )
        }
        _ => format!("there is no kind of store `{scheme}`"),
    };
    Error::new(ErrorKind::Config, message)
}
