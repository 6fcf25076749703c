//! The rules, and the layout of the keys.

use std::time::Duration;

use kasper::Bytes;
use kasper::ErrorKind;
use kasper::multitenant::{MultiRedisStore, MultiStore, TenantKey, TenantMap};
use kasper::store::{RedisClient, RedisConfig, RedisStore, Store, connect, connect_multi};
use kasper::testkit::conformance::{Profile, check_multi_store, check_store};

use super::server::raw;
use super::{address, prefix};

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn a_store_keeps_the_rules() {
    let store = RedisStore::connect(&RedisConfig::new(address(), prefix("rules"))).await.unwrap();
    check_store(&store, &Profile::default()).await;
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn a_store_with_a_ttl_keeps_the_rules() {
    let config = RedisConfig::new(address(), prefix("ttl-rules")).ttl(Duration::from_secs(600));
    let store = RedisStore::connect(&config).await.unwrap();
    check_store(&store, &Profile::default()).await;
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn a_multitenant_store_keeps_the_rules() {
    let config = RedisConfig::new(address(), prefix("multi-rules"));
    let store = MultiRedisStore::connect(&config).await.unwrap();
    check_multi_store(&store, ["acme", "globex"], &Profile::default()).await;
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn stores_by_url_and_from_a_client_keep_the_rules() {
    let profile = Profile::default().many_keys(2000);
    let url = format!("redis://{}/{}?database=3&request_timeout=60s", address(), prefix("url"));
    check_store(&connect(&url).await.unwrap(), &profile).await;
    check_multi_store(&connect_multi(&url).await.unwrap(), ["a", "b"], &profile).await;
    let client = redis::Client::open(format!("redis://{}", address())).unwrap();
    let config = RedisConfig::new(address(), prefix("client"));
    let store = RedisStore::from_client(client.clone(), &config).unwrap();
    check_store(&store, &profile).await;
    let RedisClient::Standalone(_) = store.client() else { panic!("the client that it was given") };
    let store = MultiRedisStore::from_client(client, &config).unwrap();
    check_multi_store(&store, ["a", "b"], &profile).await;
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn keys_are_where_go_kasper_has_them() {
    let (address, prefix) = (address(), prefix("layout"));
    let config = RedisConfig::new(&address, &prefix);
    let store = RedisStore::connect(&config).await.unwrap();
    store.write_many(&[("a/b", Some("1".into())), ("c", Some("2".into()))]).await.unwrap();
    let multi = MultiRedisStore::connect(&config).await.unwrap();
    multi.push(&[("acme", "a/b", Some("3"))].into_iter().collect()).await.unwrap();
    multi.tenant("globex").unwrap().put("c", "4").await.unwrap();

    let mut raw = raw(&address).await;
    for (key, value) in [
        (format!("{prefix}/a/b"), "1"),
        (format!("{prefix}/c"), "2"),
        (format!("acme/{prefix}/a/b"), "3"),
        (format!("globex/{prefix}/c"), "4"),
    ] {
        let found: String = redis::cmd("GET").arg(&key).query_async(&mut raw).await.unwrap();
        assert_eq!(found, value, "{key}");
        let ttl: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut raw).await.unwrap();
        assert_eq!(ttl, -1, "{key} stays");
    }
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn the_database_is_the_one_that_is_asked_for() {
    let (address, prefix) = (address(), prefix("db"));
    let config = RedisConfig::new(&address, &*prefix);
    let of_three = RedisStore::connect(&config.clone().database(3)).await.unwrap();
    of_three.put("a", "1").await.unwrap();
    let of_zero = RedisStore::connect(&config).await.unwrap();
    assert_eq!(of_zero.get("a").await.unwrap(), None);
    let error = RedisStore::connect(&config.database(5000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn a_ttl_counts_from_each_write() {
    let (address, prefix) = (address(), prefix("ttl"));
    let config = RedisConfig::new(&address, &*prefix).ttl(Duration::from_secs(100));
    let store = RedisStore::connect(&config).await.unwrap();
    store.write_many(&[("a", Some("1".into())), ("b", Some("2".into()))]).await.unwrap();
    let mut raw = raw(&address).await;
    let key = format!("{prefix}/b");
    let _: i64 = redis::cmd("PEXPIRE").arg(&key).arg(5000).query_async(&mut raw).await.unwrap();
    store.put("b", "3").await.unwrap();
    for key in [format!("{prefix}/a"), key] {
        let ttl: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut raw).await.unwrap();
        assert!((50_000..=100_000).contains(&ttl), "{key}: {ttl} ms");
    }
}

/// Go's `MultiRedis.Fetch` fails when one key is missing.
#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn a_fetch_with_missing_keys_gives_the_others() {
    let config = RedisConfig::new(address(), prefix("missing"));
    let store = MultiRedisStore::connect(&config).await.unwrap();
    store.tenant("acme").unwrap().put("a", "1").await.unwrap();
    let keys = ["acme", "globex"].map(|tenant| TenantKey::new(tenant, "a"));
    let found = store.fetch(&keys).await.unwrap();
    assert_eq!(found, TenantMap::from_iter([("acme", "a", Some("1"))]));
    assert_eq!(store.tenants(), ["acme", "globex"]);
}

/// Go's `Flush` sends `SAVE`, which stops the server for everybody while it writes all databases.
#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn a_flush_does_not_save_the_whole_server() {
    let address = address();
    let mut raw = raw(&address).await;
    let last_save = async |raw: &mut redis::aio::MultiplexedConnection| -> (i64, String) {
        let saved = redis::cmd("LASTSAVE").query_async(raw).await.unwrap();
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(raw).await.unwrap();
        (
            saved,
            stats
                .lines()
                .filter(|line| line.contains("_save:") || line.contains("_bgsave:"))
                .collect(),
        )
    };
    let before = last_save(&mut raw).await;
    let config = RedisConfig::new(&address, prefix("flush"));
    let store = RedisStore::connect(&config).await.unwrap();
    store.put("a", "1").await.unwrap();
    store.flush().await.unwrap();
    MultiRedisStore::connect(&config).await.unwrap().flush().await.unwrap();
    assert_eq!(last_save(&mut raw).await, before);
}

/// In Go, `{tenant}/{prefix}/{key}` of one tenant can be another's key.
#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn what_would_make_keys_collide_is_refused() {
    let address = address();
    for prefix in ["a/b", "/", ""] {
        let config = RedisConfig::new(&address, prefix);
        let error = RedisStore::connect(&config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{prefix:?}");
        let error = MultiRedisStore::connect(&config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{prefix:?}");
        let client = redis::Client::open(format!("redis://{address}")).unwrap();
        assert!(RedisStore::from_client(client, &config).is_err(), "{prefix:?}");
    }
    let config = RedisConfig::new(&address, prefix("collide"));
    let store = MultiRedisStore::connect(&config).await.unwrap();
    let error = store.tenant("a/b").unwrap_err();
    assert_eq!((error.kind(), error.get("tenant")), (ErrorKind::InvalidInput, Some("a/b")));
    let error = store.fetch(&[TenantKey::new("a/b", "c")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn a_value_that_is_kept_does_not_keep_the_answer_that_it_came_in() {
    let config = RedisConfig::new(address(), prefix("kept"));
    let store = RedisStore::connect(&config).await.unwrap();
    let changes = [("large", Some(Bytes::from(vec![7; 4 << 20]))), ("small", Some("12345".into()))];
    store.write_many(&changes).await.unwrap();
    let kept = store.get_many(&["large", "small", "large"]).await.unwrap().swap_remove(1).unwrap();
    // Nobody else has it now, so what it takes can be seen.
    assert_eq!(kept.try_into_mut().unwrap().capacity(), 5);
}
