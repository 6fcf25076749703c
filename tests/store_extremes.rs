//! Durations and sizes at their extremes: every setter of every store and wrapper works with them or is refused with an
//! error that names the setting. Nothing panics. Those that need a server find nobody there.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use kasper::metrics::Metrics;
use kasper::store::{Cached, MapStore, Metered, Retry, Store};
use kasper::{Error, ErrorKind, Result};

const DURATIONS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_millis(1),
    Duration::from_secs(u64::MAX / 1000),
    Duration::from_secs(u64::MAX),
    Duration::MAX,
];

const SIZES: [usize; 5] = [0, 1, usize::MAX / 2, usize::MAX - 1, usize::MAX];

/// What came of a setting: an error of the configuration names the setting, any other says that nobody is there or
/// that time was too short.
#[track_caller]
fn check<T>(setting: &str, value: impl std::fmt::Debug, outcome: Result<T>) {
    let Err(error) = outcome else { return };
    let is_named = error.to_string().contains(&format!("`{setting}`"));
    let is_zero = ["0", "0ns"].contains(&&*format!("{value:?}"));
    match error.kind() {
        ErrorKind::Config => assert!(is_named, "{setting} {value:?}: {error:?}"),
        // It is the setting's fault, so the error has to say so.
        ErrorKind::Timeout if is_zero => assert!(is_named, "{setting} {value:?}: {error:?}"),
        ErrorKind::Unavailable | ErrorKind::Timeout => {}
        _ => panic!("{setting} {value:?}: {error:?}"),
    }
}

/// A store that fails once, and then works.
#[derive(Default)]
struct Flaky(MapStore, std::sync::atomic::AtomicBool);

impl Store for Flaky {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<kasper::Bytes>>> {
        match self.1.fetch_not(std::sync::atomic::Ordering::SeqCst) {
            false => Err(Error::new(ErrorKind::Unavailable, "once").retryable()),
            true => self.0.get_many(keys).await,
        }
    }

    async fn write_many(&self, changes: &[(&str, Option<kasper::Bytes>)]) -> Result<()> {
        self.0.write_many(changes).await
    }
}

#[tokio::test(start_paused = true)]
async fn wrappers() {
    for time in DURATIONS {
        let store = Retry::new(Flaky::default()).deadline(time);
        check("deadline", time, store.get("a").await);
        for other in DURATIONS {
            let store = Retry::new(Flaky::default()).waits(time, other);
            check("waits", (time, other), store.get("a").await);
        }
    }
    for size in SIZES {
        let store = Metered::new(Cached::new(MapStore::new(), size), "s", &Metrics::global("p"));
        for _ in 0..2 {
            store.put("a", "1").await.unwrap();
            assert_eq!(store.get("a").await.unwrap(), Some("1".into()));
        }
    }
}

/// An address where nobody listens.
#[cfg(any(feature = "redis", feature = "elasticsearch", feature = "cassandra"))]
fn nobody() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn redis() {
    use kasper::store::{RedisConfig, RedisStore, connect};

    type Set = fn(RedisConfig, Duration) -> RedisConfig;
    let setters: [(&str, Set); 3] = [
        ("request_timeout", RedisConfig::request_timeout),
        ("connect_timeout", RedisConfig::connect_timeout),
        ("ttl", RedisConfig::ttl),
    ];
    for (name, set) in setters {
        for time in DURATIONS {
            let config = set(RedisConfig::new(nobody(), "p"), time);
            check(name, time, RedisStore::connect(&config).await);
            let cluster = set(RedisConfig::cluster(nobody(), "p"), time);
            check(name, time, RedisStore::connect(&cluster).await);
            let client = redis::Client::open(format!("redis://{}", nobody())).unwrap();
            match RedisStore::from_client(client, &config) {
                Ok(store) => check(name, time, store.put("a", "1").await),
                refused => check(name, time, refused),
            }
        }
        for value in [0, 1, u64::from(u32::MAX) + 1, u64::MAX] {
            let url = format!("redis://{}/p?{name}={value}ms", nobody());
            check(name, value, connect(&url).await);
        }
    }
    let url = format!("redis://{}/p?database={}", nobody(), u32::MAX);
    check("database", "", connect(&url).await);
}

#[cfg(feature = "elasticsearch")]
#[tokio::test]
async fn elasticsearch() {
    use kasper::store::{ElasticsearchClient, ElasticsearchConfig, ElasticsearchStore};

    type Config = ElasticsearchConfig;
    type SetTime = fn(Config, Duration) -> Config;
    type SetSize = fn(Config, usize) -> Config;
    let times: [(&str, SetTime); 3] = [
        ("timeout", Config::timeout),
        ("request_timeout", Config::request_timeout),
        ("connect_timeout", Config::connect_timeout),
    ];
    let sizes: [(&str, SetSize); 4] = [
        ("max_request_items", Config::max_request_items),
        ("max_request_bytes", Config::max_request_bytes),
        ("max_value_bytes", Config::max_value_bytes),
        ("concurrency", Config::concurrency),
    ];
    let config = || Config::new(format!("http://{}", nobody()), "i");
    for (name, set) in times {
        for time in DURATIONS {
            match ElasticsearchClient::new(&set(config(), time)) {
                Ok(client) => {
                    let store = ElasticsearchStore::from_client(client, "i").unwrap();
                    check(name, time, store.put("a", "{}").await);
                    check(name, time, store.get("a").await);
                }
                refused => check(name, time, refused),
            }
        }
    }
    for (name, set) in sizes {
        for size in SIZES {
            let client = match ElasticsearchClient::new(&set(config(), size)) {
                Ok(client) => client,
                refused => {
                    assert_eq!(size, 0);
                    check(name, size, refused);
                    continue;
                }
            };
            let store = ElasticsearchStore::from_client(client, "i").unwrap();
            match (name, store.put("a", "{}").await) {
                // The value is longer than it may be.
                ("max_value_bytes", Err(error)) if size < 2 => {
                    assert_eq!(error.get("limit"), Some(&*size.to_string()), "{error}");
                }
                (_, outcome) => check(name, size, outcome),
            }
            check(name, size, store.get_many(&["a", "b"]).await);
        }
    }
}

#[cfg(feature = "cassandra")]
#[tokio::test]
async fn cassandra() {
    use kasper::store::{CassandraConfig, CassandraStore, connect};

    type SetTime = fn(CassandraConfig, Duration) -> CassandraConfig;
    type SetSize = fn(CassandraConfig, usize) -> CassandraConfig;
    let times: [(&str, SetTime); 3] = [
        ("request_timeout", CassandraConfig::request_timeout),
        ("connect_timeout", CassandraConfig::connect_timeout),
        ("ttl", CassandraConfig::ttl),
    ];
    let sizes: [(&str, SetSize); 2] = [
        ("concurrency", CassandraConfig::concurrency),
        ("max_value_bytes", CassandraConfig::max_value_bytes),
    ];
    let config = || CassandraConfig::new([nobody()], "k", "t");
    for (name, set) in times {
        for time in DURATIONS {
            check(name, time, CassandraStore::connect(&set(config(), time)).await);
        }
    }
    for (name, set) in sizes {
        for size in SIZES {
            check(name, size, CassandraStore::connect(&set(config(), size)).await);
        }
    }
    for setting in ["ttl", "request_timeout", "connect_timeout"] {
        for value in [0, 1, u64::MAX] {
            let url = format!("cassandra://{}/k/t?{setting}={value}s", nobody());
            check(setting, value, connect(&url).await);
        }
    }
}

#[cfg(feature = "local")]
#[tokio::test]
async fn local() {
    use kasper::store::{LocalConfig, LocalDatabase, LocalStore};

    type Set = fn(LocalConfig, u64) -> LocalConfig;
    let sizes: [(&str, Set); 2] = [
        ("cache_bytes", LocalConfig::cache_bytes),
        ("memtable_bytes", LocalConfig::memtable_bytes),
    ];
    let root = std::env::temp_dir().join(format!("kasper-extremes-{}", std::process::id()));
    let mut number = 0;
    let mut configs = Vec::new();
    let mut fresh = || {
        number += 1;
        LocalConfig::new(root.join(number.to_string()))
    };
    for time in DURATIONS {
        configs.push(("timeout", fresh().timeout(time)));
    }
    for (name, set) in sizes {
        for size in [0, 1, u64::MAX / 2, u64::MAX] {
            configs.push((name, set(fresh(), size)));
        }
    }
    for (name, config) in configs {
        let database = match LocalDatabase::open(&config).await {
            Ok(database) => database,
            refused => {
                check(name, &config, refused);
                continue;
            }
        };
        let store = LocalStore::from_client(&database, "p").unwrap();
        for index in 0..20 {
            check(name, &config, store.put(&index.to_string(), "1").await);
        }
        check(name, &config, store.get("0").await);
    }
    std::fs::remove_dir_all(root).unwrap();
}
