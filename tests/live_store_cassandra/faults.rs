//! Servers, and ways to them, that fail.

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use kasper::multitenant::{MultiCassandraStore, MultiStore, TenantKey, TenantMap};
use kasper::store::{CassandraConfig, CassandraStore, Retry, Store};
#[cfg(feature = "cassandra-tls")]
use kasper::testkit::conformance::{Profile, check_store};
use kasper::testkit::{Fault, FaultProxy};
use kasper::{Bytes, Error, ErrorKind, Result};

use super::attempts::Attempts;
#[cfg(feature = "cassandra-tls")]
use super::refused;
use super::{SERVER, TENANTS, address, config, config_at, store, unique};

/// Makes the call until it goes well. All errors before are retryable, and of one of the kinds.
async fn until_ok<T>(what: &str, mut call: impl AsyncFnMut() -> Result<T>) -> T {
    let began = Instant::now();
    loop {
        match call().await {
            Ok(result) => return result,
            Err(error) => {
                let kinds = [ErrorKind::Unavailable, ErrorKind::Timeout];
                assert!(error.is_retryable() && kinds.contains(&error.kind()), "{what}: {error:?}");
                assert!(began.elapsed() < Duration::from_secs(90), "{what}: {error:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn cut_and_silent_connections_end_and_are_made_again() {
    let _up = SERVER.read().await;
    config("conformance").await;
    let proxy = FaultProxy::start(address()).await.unwrap();
    let config = config_at(proxy.address().to_string(), "conformance")
        .request_timeout(Duration::from_secs(2));
    let store = CassandraStore::connect(&config).await.unwrap();
    let keys: Vec<String> = (0..2000).map(|index| unique(&index.to_string())).collect();
    let changes: Vec<_> = keys.iter().map(|key| (&**key, Some(Bytes::from("1")))).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();

    // Some of the answers come, then none.
    proxy.set(Fault::CutAfter(2000));
    let error = store.write_many(&changes).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(error.get("operation"), Some("write_many"), "{error:?}");
    assert!(error.get("key").is_some() && error.get("server").is_some(), "{error:?}");
    proxy.set(Fault::None);
    until_ok("after the cut", async || store.write_many(&changes).await).await;
    let found = store.get_many(&keys).await.unwrap();
    assert!(found.iter().all(|value| *value == Some("1".into())));

    proxy.set(Fault::HalfOpen);
    let began = Instant::now();
    for silent in [store.get_many(&keys).await.map(drop), store.write_many(&changes).await] {
        let error = silent.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert!([ErrorKind::Timeout, ErrorKind::Unavailable].contains(&error.kind()), "{error:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    proxy.set(Fault::None);
    until_ok("after the silence", async || store.get_many(&keys).await).await;

    // So little comes through that no answer comes in time: as from a server with too much to do.
    proxy.set(Fault::Throttle(500));
    let error = store.get_many(&keys).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert!([ErrorKind::Timeout, ErrorKind::Unavailable].contains(&error.kind()), "{error:?}");
    proxy.set(Fault::None);
    let patient = Retry::new(store.clone()).deadline(Duration::from_secs(60));
    assert_eq!(patient.get(keys[0]).await.unwrap(), Some("1".into()));

    proxy.set(Fault::Delay(Duration::from_millis(100)));
    assert_eq!(store.get(keys[0]).await.unwrap(), Some("1".into()));
}

/// The driver keeps a connection on which a write timed out, and the network delivers it in the end.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn a_write_that_was_given_up_and_comes_late_loses() {
    let _up = SERVER.read().await;
    let direct = store("conformance").await;
    let proxy = FaultProxy::start(address()).await.unwrap();
    let behind = config_at(proxy.address().to_string(), "conformance");
    let held = CassandraStore::connect(&behind.request_timeout(Duration::from_secs(2))).await;
    let held = held.unwrap();
    let [overwritten, deleted, alone] = ["overwritten", "deleted", "alone"].map(unique);
    until_ok("before", async || held.put(&alone, "1").await).await;
    proxy.set(Fault::Hold);
    for key in [&overwritten, &deleted, &alone] {
        let error = held.put(key, "2").await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Timeout, true), "{error:?}");
    }
    // From another process: the next owner of the partition.
    direct.put(&overwritten, "3").await.unwrap();
    direct.delete(&deleted).await.unwrap();
    proxy.set(Fault::None);
    // That they come late is seen by the one that nobody has overwritten; it was sent last.
    let began = Instant::now();
    while direct.get(&alone).await.unwrap() != Some("2".into()) {
        assert!(began.elapsed() < Duration::from_secs(60), "the write was never delivered");
    }
    assert_eq!(direct.get(&overwritten).await.unwrap(), Some("3".into()));
    assert_eq!(direct.get(&deleted).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn no_setting_is_too_large() {
    let _up = SERVER.read().await;
    let (time, size) = (Duration::MAX, usize::MAX);
    let config = config("conformance").await.request_timeout(time).connect_timeout(time);
    let config = config.concurrency(size).max_value_bytes(size);
    let store = CassandraStore::connect(&config).await.unwrap();
    let key = unique("large");
    store.put(&key, "1").await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), Some("1".into()));
    // The longest that is taken without asking the server, whose dates may end sooner.
    let config = config.ttl(Duration::from_secs(20 * 365 * 24 * 60 * 60));
    let store = CassandraStore::connect(&config).await.unwrap();
    if let Err(error) = store.put(&key, "2").await {
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false), "{error:?}");
        assert!(error.to_string().contains("`ttl`"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn many_tenants_have_the_same_deadline() {
    let _up = SERVER.read().await;
    // Making the table may take longer.
    MultiCassandraStore::connect(&config("multi").await).await.unwrap();
    let proxy = FaultProxy::start(address()).await.unwrap();
    let config =
        config_at(proxy.address().to_string(), "multi").request_timeout(Duration::from_secs(2));
    let store = MultiCassandraStore::connect(&config).await.unwrap();
    let key = unique("late");
    let changes: TenantMap = TENANTS.into_iter().map(|tenant| (tenant, &*key, Some("1"))).collect();
    let keys = TENANTS.map(|tenant| TenantKey::new(tenant, &key));
    until_ok("the first push", async || store.push(&changes).await).await;
    for fault in [Fault::HalfOpen, Fault::Refuse] {
        proxy.set(fault);
        let began = Instant::now();
        for failed in [store.fetch(&keys).await.map(drop), store.push(&changes).await] {
            let error = failed.unwrap_err();
            assert!(error.is_retryable(), "{error:?}");
            let kinds = [ErrorKind::Timeout, ErrorKind::Unavailable];
            assert!(kinds.contains(&error.kind()), "{error:?}");
        }
        MultiStore::flush(&store).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        proxy.set(Fault::None);
        let found = until_ok("after the fault", async || store.fetch(&keys).await).await;
        assert_eq!(found, changes);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn connecting_ends_where_nobody_answers() {
    let proxy = FaultProxy::start(address()).await.unwrap();
    for (fault, kinds) in [
        (Fault::HalfOpen, [ErrorKind::Timeout, ErrorKind::Unavailable]),
        (Fault::Refuse, [ErrorKind::Unavailable; 2]),
    ] {
        proxy.set(fault);
        let config = config_at(proxy.address().to_string(), "conformance")
            .connect_timeout(Duration::from_secs(2));
        let began = Instant::now();
        let error = CassandraStore::connect(&config).await.unwrap_err();
        assert!(kinds.contains(&error.kind()) && error.is_retryable(), "{fault:?}: {error:?}");
        assert_eq!(error.get("operation"), Some("connect"), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(15), "{fault:?}: {:?}", began.elapsed());
    }
    let nowhere = CassandraConfig::new(["no-such-host.invalid"], "k", "t");
    let error = CassandraStore::connect(&nowhere).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn a_restart_in_mid_write_is_survived() {
    let kill = env::var("KASPER_TEST_CASSANDRA_KILL").expect(
        "KASPER_TEST_CASSANDRA_KILL is not set: the script that kills the server, which then has to come \
         back; `--skip restart` for a server of your own",
    );
    config("conformance").await;
    let _alone = SERVER.write().await;
    let store = store("conformance").await;
    let keys: Vec<String> = (0..20_000).map(|index| unique(&index.to_string())).collect();
    let changes: Vec<_> = keys.iter().map(|key| (&**key, Some(Bytes::from("1")))).collect();
    let others: Vec<String> = keys.iter().map(|key| format!("{key}-retried")).collect();
    let retried = Attempts::new(store.clone());
    let patient = Retry::new(retried.clone()).deadline(Duration::from_secs(90));
    let more: Vec<_> = others.iter().map(|key| (&**key, Some(Bytes::from("2")))).collect();
    let writing = store.write_many(&changes);
    let killing = async {
        // Some of both are written already, not yet all.
        until_ok("the first keys", async || {
            match store.get_many(&[&keys[0], &others[0]]).await?.contains(&None) {
                false => Ok(()),
                true => Err(Error::new(ErrorKind::Unavailable, "not yet").retryable()),
            }
        })
        .await;
        assert!(Command::new("sh").arg(&kill).status().unwrap().success());
    };
    let (written, with_retry, ()) = tokio::join!(writing, patient.write_many(&more), killing);
    with_retry.unwrap();
    assert!(retried.writes() > 1, "the server was killed too late");
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let found = patient.get_many(&others).await.unwrap();
    assert!(found.iter().all(|value| *value == Some("2".into())));
    let error = written.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    until_ok("after the restart", async || store.write_many(&changes).await).await;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = until_ok("after the restart", async || store.get_many(&keys).await).await;
    assert!(found.iter().all(|value| *value == Some("1".into())));
}

#[cfg(feature = "cassandra-tls")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn tls_is_for_servers_that_are_trusted() {
    let _up = SERVER.read().await;
    let ca = env::var("KASPER_TEST_CASSANDRA_CA").expect("the file with the server's certificate");
    let ca = std::fs::read(ca).unwrap();
    let config = config("conformance").await;
    let store = CassandraStore::connect(&config.clone().tls_authority(ca.clone())).await.unwrap();
    check_store(&store, &Profile::default().many_keys(1000)).await;

    let other = include_str!("../data/other_authority.pem");
    refused(config.tls_authority(other), ErrorKind::Unauthorized).await;

    // What answers speaks no TLS.
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap().to_string();
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad\r\n\r\n").await;
        }
    });
    let config = config_at(address, "conformance").tls_authority(ca);
    let error = CassandraStore::connect(&config).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false), "{error:?}");
    answering.abort();
}
