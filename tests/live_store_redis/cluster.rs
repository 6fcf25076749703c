//! A Redis Cluster.

use std::time::{Duration, Instant};

use kasper::multitenant::{MultiRedisStore, MultiStore, TenantKey, TenantMap};
use kasper::store::{RedisConfig, RedisStore, Retry, Store, connect};
use kasper::testkit::conformance::{Profile, check_multi_store, check_store};
use kasper::{Bytes, Error, ErrorKind};

use super::server::own_cluster_to_kill;
use super::{from_env, prefix};

/// `host:port` of some of its servers, separated by commas.
fn cluster() -> String {
    from_env("KASPER_TEST_REDIS_CLUSTER")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis Cluster; run with cargo xtask test"]
async fn a_store_keeps_the_rules() {
    let config = RedisConfig::cluster(cluster(), prefix("cluster-rules"));
    let store = RedisStore::connect(&config).await.unwrap();
    check_store(&store, &Profile::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis Cluster; run with cargo xtask test"]
async fn a_store_with_a_ttl_keeps_the_rules() {
    let url = format!("redis+cluster://{}/{}?ttl=10m", cluster(), prefix("cluster-ttl"));
    check_store(&connect(&url).await.unwrap(), &Profile::default().many_keys(10_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis Cluster; run with cargo xtask test"]
async fn a_multitenant_store_keeps_the_rules() {
    let config = RedisConfig::cluster(cluster(), prefix("cluster-multi"));
    let store = MultiRedisStore::connect(&config).await.unwrap();
    check_multi_store(&store, ["acme", "globex"], &Profile::default()).await;
}

#[tokio::test]
#[ignore = "needs a Redis Cluster; run with cargo xtask test"]
async fn a_member_is_no_single_server() {
    let cluster = cluster();
    let (server, _) = cluster.split_once(',').unwrap();
    let store = RedisStore::connect(&RedisConfig::new(server, "p")).await.unwrap();
    let keys: Vec<String> = (0..10).map(|index| index.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let error = store.get_many(&keys).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false), "{error:?}");
}

#[tokio::test]
#[ignore = "needs a Redis Cluster; run with cargo xtask test"]
async fn a_wrong_password_is_told_at_once() {
    let config = RedisConfig::cluster(cluster(), "p").user("nobody").password("close-sesame");
    let began = Instant::now();
    let error = RedisStore::connect(&config).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unauthorized, false), "{error:?}");
    assert!(!format!("{error:?}").contains("close-sesame"), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
#[ignore = "needs a Redis Cluster; run with cargo xtask test"]
async fn nobody_there() {
    let config = RedisConfig::cluster("127.0.0.1:1,127.0.0.1:2", "p");
    let error = RedisStore::connect(&config).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error:?}");
    assert_eq!(error.get("server"), Some("127.0.0.1:1,127.0.0.1:2"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn a_server_that_is_killed_in_the_middle_of_a_write() {
    let mut servers = own_cluster_to_kill().await;
    let some = format!("{},{}", servers[0].address(), servers[2].address());
    let config = RedisConfig::cluster(some, "p").request_timeout(Duration::from_secs(2));
    let store = RedisStore::connect(&config).await.unwrap();
    let keys: Vec<String> = (0..20_000).map(|index| index.to_string()).collect();
    let value = Some(Bytes::from(vec![7; 100]));
    let changes: Vec<_> = keys.iter().map(|key| (&**key, value.clone())).collect();
    // On a busy machine it may not be written within so short a time.
    let patient = Retry::new(store.clone()).deadline(Duration::from_secs(60));
    patient.write_many(&changes).await.unwrap();
    let writing = tokio::spawn({
        let (store, keys, value) = (store.clone(), keys.clone(), value.clone());
        async move {
            let changes: Vec<_> = keys.iter().map(|key| (&**key, value.clone())).collect();
            // Again and again, so that it is in the middle of one whenever the server goes.
            loop {
                if let Err(error) = store.write_many(&changes).await {
                    return error;
                }
            }
        }
    });
    servers[1].kill();
    assert_away(&writing.await.unwrap());

    // Now and again while it is away: nothing is reported as done that is not.
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    for _ in 0..3 {
        assert_away(&store.write_many(&changes).await.unwrap_err());
        assert_away(&store.get_many(&names).await.unwrap_err());
    }
    servers[1].start_again(&[]).await;
    patient.write_many(&changes).await.unwrap();
    assert!(patient.get_many(&names).await.unwrap().iter().all(|found| *found == value));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn a_server_that_hangs_ends_calls_by_the_deadline() {
    let servers = own_cluster_to_kill().await;
    let timeout = Duration::from_secs(2);
    let config = RedisConfig::cluster(servers[0].address(), "p").request_timeout(timeout);
    let store = RedisStore::connect(&config).await.unwrap();
    let tenants = MultiRedisStore::connect(&config).await.unwrap();
    // Of every server some.
    let keys: Vec<String> = (0..100).map(|index| index.to_string()).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let changes: Vec<_> = names.iter().map(|&key| (key, Some(Bytes::from("1")))).collect();
    let of_tenants: Vec<_> = names.iter().map(|&key| TenantKey::new("acme", key)).collect();
    let for_tenants: TenantMap = names.iter().map(|&key| ("acme", key, Some("1"))).collect();
    // On a busy machine it may not be written within so short a time.
    let patient = Retry::new(store.clone()).deadline(Duration::from_secs(60));
    patient.write_many(&changes).await.unwrap();
    tenants.push(&for_tenants).await.unwrap();
    servers[1].hang(true);
    let began = Instant::now();
    for error in [
        store.get_many(&names).await.unwrap_err(),
        store.write_many(&changes).await.unwrap_err(),
        tenants.fetch(&of_tenants).await.unwrap_err(),
        tenants.push(&for_tenants).await.unwrap_err(),
    ] {
        assert_away(&error);
    }
    let took = began.elapsed();
    servers[1].hang(false);
    assert!(took < 6 * timeout, "{took:?}");
    patient.write_many(&changes).await.unwrap();
    assert!(patient.get_many(&names).await.unwrap().iter().all(|found| *found == Some("1".into())));
}

#[track_caller]
fn assert_away(error: &Error) {
    let is_away = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
    assert!(is_away && error.is_retryable(), "{error:?}");
}
