//! A network and servers that fail in the middle.

use std::time::{Duration, Instant};

use kasper::multitenant::{MultiRedisStore, MultiStore, TenantKey, TenantMap};
use kasper::store::{RedisConfig, RedisStore, Retry, Store};
use kasper::testkit::{Fault, FaultProxy};
use kasper::{Bytes, Error, ErrorKind};

use super::attempts::Attempts;
use super::server::OwnServer;
use super::{address, prefix};

const TIMEOUT: Duration = Duration::from_millis(700);

/// A store behind a proxy.
async fn behind_a_proxy(test: &str) -> (FaultProxy, RedisStore) {
    let proxy = FaultProxy::start(address()).await.unwrap();
    let config =
        RedisConfig::new(proxy.address().to_string(), prefix(test)).request_timeout(TIMEOUT);
    let store = RedisStore::connect(&config).await.unwrap();
    store.put("a", "1").await.unwrap();
    (proxy, store)
}

#[track_caller]
fn assert_retryable(error: &Error, kind: ErrorKind) {
    assert_eq!((error.kind(), error.is_retryable()), (kind, true), "{error:?}");
}

fn many(count: usize, bytes: usize) -> (Vec<String>, Option<Bytes>) {
    let keys = (0..count).map(|index| index.to_string()).collect();
    (keys, Some(Bytes::from(vec![7; bytes])))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn a_server_that_is_killed_in_the_middle_of_a_write() {
    let mut server = OwnServer::start(&[]).await;
    let store = RedisStore::connect(&server.config()).await.unwrap();
    let (keys, value) = many(100_000, 1000);
    let writing = tokio::spawn({
        let (store, keys, value) = (store.clone(), keys.clone(), value.clone());
        async move {
            let changes: Vec<_> = keys.iter().map(|key| (&**key, value.clone())).collect();
            store.write_many(&changes).await
        }
    });
    let other = RedisConfig::new(server.address(), "other");
    let other = RedisStore::connect(&other).await.unwrap();
    let retried = Attempts::new(other.clone());
    let with_retry = tokio::spawn({
        let (keys, value) = (keys.clone(), value.clone());
        let patient = Retry::new(retried.clone()).deadline(Duration::from_secs(60));
        async move {
            let changes: Vec<_> = keys.iter().map(|key| (&**key, value.clone())).collect();
            patient.write_many(&changes).await
        }
    });
    // Something of both is there, not all.
    let reader = RedisStore::connect(&server.config()).await.unwrap();
    while reader.get("2000").await.unwrap().is_none() {
        assert!(!writing.is_finished(), "the write ended before the server was killed");
    }
    while other.get("2000").await.unwrap().is_none() {
        assert!(!with_retry.is_finished(), "the write ended before the server was killed");
    }
    server.kill();
    assert_retryable(&writing.await.unwrap().unwrap_err(), ErrorKind::Unavailable);
    let error = store.get("0").await.unwrap_err();
    assert_retryable(&error, ErrorKind::Unavailable);

    server.start_again(&[]).await;
    with_retry.await.unwrap().unwrap();
    assert!(retried.writes() > 1, "the server was killed too late");
    assert_eq!(other.get("99999").await.unwrap(), value);
    assert_eq!(other.get("0").await.unwrap(), value);
    let changes: Vec<_> = keys.iter().map(|key| (&**key, value.clone())).collect();
    store.write_many(&changes).await.unwrap();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert!(store.get_many(&keys).await.unwrap().iter().all(|found| *found == value));
}

#[tokio::test]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn a_restart_between_two_calls_goes_unnoticed() {
    let mut server = OwnServer::start(&[]).await;
    let store = RedisStore::connect(&server.config()).await.unwrap();
    store.put("a", "1").await.unwrap();
    server.kill();
    server.start_again(&[]).await;
    store.put("a", "2").await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), Some("2".into()));
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn a_connection_that_is_cut_in_the_middle_of_an_answer() {
    let (proxy, store) = behind_a_proxy("cut").await;
    let (keys, value) = many(2000, 1000);
    let changes: Vec<_> = keys.iter().map(|key| (&**key, value.clone())).collect();
    store.write_many(&changes).await.unwrap();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    proxy.set(Fault::CutAfter(500_000));
    let error = store.get_many(&keys).await.unwrap_err();
    assert_retryable(&error, ErrorKind::Unavailable);
    assert_eq!(error.get("operation"), Some("get_many"));
    proxy.set(Fault::None);
    assert!(store.get_many(&keys).await.unwrap().iter().all(|found| *found == value));
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn one_cut_is_got_over_within_the_call() {
    let (proxy, store) = behind_a_proxy("once").await;
    proxy.cut();
    assert_eq!(store.get("a").await.unwrap(), Some("1".into()));
    proxy.set(Fault::Refuse);
    assert_retryable(&store.get("a").await.unwrap_err(), ErrorKind::Unavailable);
    proxy.set(Fault::None);
    assert_eq!(store.get("a").await.unwrap(), Some("1".into()));
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn a_half_open_connection_ends_by_the_deadline_and_is_given_up() {
    let (proxy, store) = behind_a_proxy("half-open").await;
    for _ in 0..2 {
        proxy.set(Fault::HalfOpen);
        let began = Instant::now();
        let writes = [store.put("a", "2"), store.put("b", "2")];
        for written in futures_util::future::join_all(writes).await {
            assert_retryable(&written.unwrap_err(), ErrorKind::Timeout);
        }
        // The second time the connection can't even be made.
        assert_retryable(&store.get("a").await.unwrap_err(), ErrorKind::Timeout);
        assert!(began.elapsed() < 4 * TIMEOUT, "{:?}", began.elapsed());
        proxy.set(Fault::None);
        assert_eq!(store.get("a").await.unwrap(), Some("1".into()));
    }
}

/// A call that began later has time left on the connection of one whose time is over.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn a_write_that_was_given_up_is_not_made_later_though_others_use_its_connection() {
    let (proxy, store) = behind_a_proxy("late").await;
    proxy.set(Fault::Hold);
    let writes = async {
        assert_retryable(&store.put("a", "2").await.unwrap_err(), ErrorKind::Timeout);
        store.put("a", "3").await.unwrap();
        proxy.set(Fault::None);
    };
    let other = async {
        tokio::time::sleep(TIMEOUT / 2).await;
        let began = Instant::now();
        assert_eq!(store.get("b").await.unwrap(), None);
        began.elapsed()
    };
    let ((), waited) = tokio::join!(writes, other);
    assert_eq!(store.get("a").await.unwrap(), Some("3".into()));
    assert_eq!(proxy.connections(), 2);
    // Half of its time until the other gave up, and no longer.
    assert!(waited < TIMEOUT, "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn a_write_that_was_dropped_is_not_made_later() {
    let (proxy, store) = behind_a_proxy("dropped-write").await;
    proxy.set(Fault::Hold);
    // As a `Retry` does whose deadline is shorter than the time-out.
    tokio::time::timeout(TIMEOUT / 5, store.put("a", "2")).await.unwrap_err();
    store.put("a", "3").await.unwrap();
    proxy.set(Fault::None);
    assert_eq!(store.get("a").await.unwrap(), Some("3".into()));
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn a_hung_connection_is_found_by_calls_that_are_dropped_before_their_time() {
    let (proxy, store) = behind_a_proxy("impatient").await;
    proxy.set(Fault::Hold);
    let began = Instant::now();
    let patience = TIMEOUT / 5;
    while tokio::time::timeout(patience, store.get("a")).await.is_err() {
        assert!(began.elapsed() < 4 * TIMEOUT, "the connection is not given up");
    }
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn many_tenants_have_the_same_deadline() {
    let proxy = FaultProxy::start(address()).await.unwrap();
    let config =
        RedisConfig::new(proxy.address().to_string(), prefix("tenants")).request_timeout(TIMEOUT);
    let store = MultiRedisStore::connect(&config).await.unwrap();
    let changes: TenantMap =
        [("acme", "a", Some("1")), ("globex", "a", Some("2"))].into_iter().collect();
    store.push(&changes).await.unwrap();
    let keys = [TenantKey::new("acme", "a"), TenantKey::new("globex", "a")];
    for fault in [Fault::HalfOpen, Fault::Refuse] {
        proxy.set(fault);
        let kind = if fault == Fault::Refuse { ErrorKind::Unavailable } else { ErrorKind::Timeout };
        let began = Instant::now();
        assert_retryable(&store.fetch(&keys).await.unwrap_err(), kind);
        assert_retryable(&store.push(&changes).await.unwrap_err(), kind);
        store.flush().await.unwrap();
        assert!(began.elapsed() < 4 * TIMEOUT, "{:?}", began.elapsed());
        proxy.set(Fault::None);
        assert_eq!(store.fetch(&keys).await.unwrap(), changes);
    }
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn a_slow_network_is_slow_and_a_slower_one_too_late() {
    let (proxy, store) = behind_a_proxy("slow").await;
    proxy.set(Fault::Delay(TIMEOUT / 10));
    assert_eq!(store.get("a").await.unwrap(), Some("1".into()));
    proxy.set(Fault::Delay(2 * TIMEOUT));
    assert_retryable(&store.get("a").await.unwrap_err(), ErrorKind::Timeout);
    proxy.set(Fault::None);
    assert_eq!(store.get("a").await.unwrap(), Some("1".into()));
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn answers_find_their_calls_when_others_were_dropped() {
    let (proxy, store) = behind_a_proxy("dropped").await;
    let keys: Vec<String> = (0..20).map(|index| index.to_string()).collect();
    for key in &keys {
        store.put(key, key.clone()).await.unwrap();
    }
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    for key in &keys {
        let dropped = tokio::time::timeout(Duration::from_millis(5), store.get("a")).await;
        assert!(dropped.is_err());
        assert_eq!(store.get(key).await.unwrap(), Some(key.clone().into()));
    }
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn empty_calls_do_no_io() {
    let proxy = FaultProxy::start(address()).await.unwrap();
    let client = redis::Client::open(format!("redis://{}", proxy.address())).unwrap();
    let store = RedisStore::from_client(client, &RedisConfig::new(address(), "p")).unwrap();
    store.get_many(&[]).await.unwrap();
    store.write_many(&[]).await.unwrap();
    assert_eq!(proxy.connections(), 0);
    store.get("a").await.unwrap();
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
#[ignore = "needs a Redis server; run with cargo xtask test"]
async fn callers_share_one_connection_also_when_it_is_made_anew() {
    let (proxy, store) = behind_a_proxy("share").await;
    for connections in [2, 3] {
        proxy.cut();
        let reads = (0..50).map(|_| store.get("a"));
        for found in futures_util::future::join_all(reads).await {
            assert_eq!(found.unwrap(), Some("1".into()));
        }
        assert_eq!(proxy.connections(), connections);
    }
}

#[tokio::test]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn nobody_there() {
    let mut server = OwnServer::start(&[]).await;
    server.kill();
    let began = Instant::now();
    let error = RedisStore::connect(&server.config()).await.unwrap_err();
    assert_retryable(&error, ErrorKind::Unavailable);
    assert_eq!(error.get("server"), Some(&*server.address()));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
