//! [`connect`]: from a URL to a store.

use super::{AnyStore, MapStore};
#[cfg(feature = "cassandra")]
use super::{CassandraConfig, CassandraStore};
#[cfg(feature = "elasticsearch")]
use super::{ElasticsearchConfig, ElasticsearchStore};
#[cfg(feature = "local")]
use super::{LocalConfig, LocalStore};
#[cfg(feature = "redis")]
use super::{RedisConfig, RedisStore};
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "cassandra")]
use crate::multitenant::MultiCassandraStore;
#[cfg(feature = "elasticsearch")]
use crate::multitenant::MultiElasticsearchStore;
#[cfg(feature = "local")]
use crate::multitenant::MultiLocalStore;
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
/// | `cassandra://user:password@host:9042,host/keyspace/table` | a table of Cassandra or Scylla | `cassandra` |
/// | `elasticsearch+http://user:password@host:9200,host:9200/index?encoding=binary` | Elasticsearch or OpenSearch | `elasticsearch` |
/// | `elasticsearch+https://…`, the same | | `elasticsearch-tls` |
///
/// The page `docs/stores.md` of the repository has every setting of every kind. All are read alike: `%40` is `@` in every part,
/// and a duration has its unit (`connect_timeout=5s`, `ttl=24h`).
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
/// assert!(connect("map:?prefix=a").await.is_err());
/// # Ok(())
/// # }
/// ```
pub async fn connect(url: &str) -> Result<AnyStore> {
    match scheme(url)? {
        "map" => only_scheme(url).map(|()| AnyStore::new(MapStore::new())),
        #[cfg(feature = "local")]
        "local" => Ok(AnyStore::new(LocalStore::open(&LocalConfig::from_url(url)?).await?)),
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+cluster" | "rediss+cluster" => {
            Ok(AnyStore::new(RedisStore::connect(&RedisConfig::from_url(url)?).await?))
        }
        #[cfg(feature = "cassandra")]
        "cassandra" => {
            let config = CassandraConfig::from_url(url)?;
            Ok(AnyStore::new(CassandraStore::connect(&config).await?))
        }
        #[cfg(feature = "elasticsearch")]
        "elasticsearch" | "elasticsearch+http" | "elasticsearch+https" => {
            let config = ElasticsearchConfig::from_url(url)?;
            Ok(AnyStore::new(ElasticsearchStore::connect(&config).await?))
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
        "map" => only_scheme(url).map(|()| AnyMultiStore::new(MultiMapStore::new())),
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
            Ok(AnyMultiStore::new(MultiCassandraStore::connect(&config).await?))
        }
        #[cfg(feature = "elasticsearch")]
        "elasticsearch" | "elasticsearch+http" | "elasticsearch+https" => {
            let config = ElasticsearchConfig::from_url(url)?;
            Ok(AnyMultiStore::new(MultiElasticsearchStore::connect(&config).await?))
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

fn only_scheme(url: &str) -> Result<()> {
    match url.split_once(':') {
        Some((_, "")) => Ok(()),
        _ => {
            let message = "a store in memory has no place and no settings: its URL is `map:`";
            Err(Error::new(ErrorKind::Config, message))
        }
    }
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

#[cfg(all(
    test,
    any(feature = "redis", feature = "cassandra", feature = "elasticsearch", feature = "local")
))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The page has every setting of a kind and no other, and its URLs are taken.
    fn check_page(kind: &str, settings: &[&str], take: impl Fn(&str) -> Result<()>) {
        let page = include_str!("../../docs/stores.md");
        let section =
            page.split("\n## ").find(|section| section.starts_with(&format!("`{kind}:`")));
        let lines = section.unwrap().lines();
        let rows = lines.clone().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        assert_eq!(rows.collect::<BTreeSet<_>>(), settings.iter().copied().collect(), "{kind}");
        let urls: Vec<&str> = lines.filter_map(|line| line.strip_prefix("    ")).collect();
        assert!(!urls.is_empty());
        for url in urls {
            assert!(take(url).is_ok(), "{url}: {:?}", take(url));
        }
    }

    #[cfg(feature = "local")]
    #[test]
    fn the_page_has_the_settings_of_a_local_store() {
        let take = |url: &str| LocalConfig::from_url(url).map(drop);
        check_page("local", crate::store::local::URL_SETTINGS, take);
    }

    #[cfg(feature = "redis")]
    #[test]
    fn the_page_has_the_settings_of_redis() {
        let take = |url: &str| RedisConfig::from_url(url).map(drop);
        check_page("redis", crate::store::redis::URL_SETTINGS, take);
    }

    #[cfg(feature = "cassandra")]
    #[test]
    fn the_page_has_the_settings_of_cassandra() {
        let take = |url: &str| CassandraConfig::from_url(url).map(drop);
        check_page("cassandra", crate::store::cassandra::URL_SETTINGS, take);
    }

    #[cfg(feature = "elasticsearch")]
    #[test]
    fn the_page_has_the_settings_of_elasticsearch() {
        let take = |url: &str| ElasticsearchConfig::from_url(url).map(drop);
        check_page("elasticsearch", crate::store::elasticsearch::URL_SETTINGS, take);
    }
}
