//! What a server refuses, and what that becomes.

use std::time::Duration;

use kasper::store::{RedisConfig, RedisStore, Store};
use kasper::{Bytes, Error, ErrorKind};

use super::server::OwnServer;

#[track_caller]
fn assert_error(error: &Error, kind: ErrorKind, retryable: bool) {
    assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{error:?}");
    assert!(error.get("operation").is_some() && error.get("server").is_some(), "{error:?}");
}

async fn connect(config: &RedisConfig) -> RedisStore {
    RedisStore::connect(config).await.unwrap()
}

#[tokio::test]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn a_full_memory_is_no_space_until_there_is_more() {
    let server = OwnServer::start(&["--maxmemory", "3mb"]).await;
    let with_ttl = server.config().ttl(Duration::from_secs(600));
    for config in [server.config(), with_ttl] {
        let store = connect(&config).await;
        server.command("CONFIG SET maxmemory 3mb").await;
        let value = Bytes::from(vec![1; 10_000]);
        let keys: Vec<String> = (0..1000).map(|index| index.to_string()).collect();
        let changes: Vec<_> = keys.iter().map(|key| (&**key, Some(value.clone()))).collect();
        // Redis looks at its memory before a command, not within one.
        let mut written = store.write_many(&changes).await;
        if written.is_ok() {
            written = store.write_many(&changes).await;
        }
        assert_error(&written.unwrap_err(), ErrorKind::NoSpace, true);
        server.command("CONFIG SET maxmemory 1").await;
        let error = store.put("one", "1").await.unwrap_err();
        assert_error(&error, ErrorKind::NoSpace, true);
        assert_eq!(error.get("key"), Some("one"));
        // Reading and deleting go on.
        store.get_many(&["0", "1"]).await.unwrap();
        store.delete("0").await.unwrap();
        server.command("CONFIG SET maxmemory 0").await;
        store.write_many(&changes).await.unwrap();
        assert_eq!(store.get("999").await.unwrap(), Some(value));
    }
}

#[tokio::test]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn a_key_with_a_list_is_told_when_it_is_read_alone() {
    let server = OwnServer::start(&[]).await;
    server.command("RPUSH p/list 1").await;
    let store = connect(&server.config()).await;
    let error = store.get("list").await.unwrap_err();
    assert_error(&error, ErrorKind::Backend, false);
    assert_eq!(error.get("key"), Some("list"));
    assert_eq!(store.get_many(&["list", "other"]).await.unwrap(), [None, None]);
    store.put("list", "1").await.unwrap();
    assert_eq!(store.get("list").await.unwrap(), Some("1".into()));
}

#[tokio::test]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn a_replica_takes_no_writes_until_it_is_the_primary() {
    let server = OwnServer::start(&[]).await;
    let store = connect(&server.config()).await;
    server.command("REPLICAOF 127.0.0.1 1").await;
    let error = store.put("a", "1").await.unwrap_err();
    assert_error(&error, ErrorKind::Unavailable, true);
    server.command("CONFIG SET replica-serve-stale-data no").await;
    assert_error(&store.get("a").await.unwrap_err(), ErrorKind::Unavailable, true);
    server.command("REPLICAOF NO ONE").await;
    store.put("a", "1").await.unwrap();
}

#[tokio::test]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn a_value_over_the_servers_limit_is_named() {
    let server = OwnServer::start(&["--proto-max-bulk-len", "1mb"]).await;
    let store = connect(&server.config()).await;
    let changes = [
        ("small", Some(Bytes::from("1"))),
        ("large", Some(Bytes::from(vec![0; 2 << 20]))),
        ("other", Some("1".into())),
    ];
    let error = store.write_many(&changes).await.unwrap_err();
    assert_error(&error, ErrorKind::InvalidInput, false);
    assert_eq!(error.get("key"), Some("large"));
    assert!(error.to_string().contains("proto-max-bulk-len"), "{error}");
    store.put("small", "1").await.unwrap();
}

#[tokio::test]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn no_time_is_too_long() {
    let server = OwnServer::start(&[]).await;
    let most = Duration::MAX;
    let forever = server.config().request_timeout(most).connect_timeout(most);
    // The longest that is taken.
    let with_ttl = forever.clone().ttl(Duration::from_secs(100_000_000 * 365 * 86_400));
    for config in [forever, with_ttl] {
        let store = connect(&config).await;
        store.put("a", "1").await.unwrap();
        assert_eq!(store.get("a").await.unwrap(), Some("1".into()));
    }
}

#[tokio::test]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn too_few_replicas_take_no_writes() {
    let server = OwnServer::start(&["--min-replicas-to-write", "1"]).await;
    let store = connect(&server.config()).await;
    assert_error(&store.put("a", "1").await.unwrap_err(), ErrorKind::Unavailable, true);
    assert_eq!(store.get("a").await.unwrap(), None);
}

#[tokio::test]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn a_server_that_loads_its_data_is_worth_waiting_for() {
    let mut server = OwnServer::start(&[]).await;
    let store = connect(&server.config()).await;
    let keys: Vec<String> = (0..200).map(|index| index.to_string()).collect();
    let value = Some(Bytes::from(vec![1; 2000]));
    let changes: Vec<_> = keys.iter().map(|key| (&**key, value.clone())).collect();
    store.write_many(&changes).await.unwrap();
    server.command("SAVE").await;
    server.kill();
    // Microseconds for each key; and how often it looks for commands meanwhile.
    let slowly = ["--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024"];
    server.start_again(&slowly).await;
    let error = store.get("199").await.unwrap_err();
    assert_error(&error, ErrorKind::Unavailable, true);
    assert!(format!("{error:?}").contains("loading"), "{error:?}");
    while let Err(error) = store.get("199").await {
        assert_error(&error, ErrorKind::Unavailable, true);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(store.get("199").await.unwrap(), value);
}

#[tokio::test]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn passwords_and_permissions() {
    let server = OwnServer::start(&[]).await;
    server.command("ACL SETUSER reader on >swordfish ~* +@read +ping").await;
    server.command("CONFIG SET requirepass open-sesame").await;
    let config = server.config();
    connect(&config.clone().password("open-sesame")).await.put("a", "1").await.unwrap();
    for wrong in [
        config.clone(),
        config.clone().password("close-sesame"),
        config.clone().user("reader").password("close-sesame"),
        config.clone().user("nobody").password("close-sesame"),
    ] {
        let error = RedisStore::connect(&wrong).await.unwrap_err();
        assert_error(&error, ErrorKind::Unauthorized, false);
        assert!(!format!("{error:?}").contains("close-sesame"), "{error:?}");
    }
    let reader = connect(&config.user("reader").password("swordfish")).await;
    assert_eq!(reader.get("a").await.unwrap(), Some("1".into()));
    assert_error(&reader.put("a", "2").await.unwrap_err(), ErrorKind::Unauthorized, false);
}

#[tokio::test]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn a_server_with_too_many_clients_is_worth_another_try() {
    let server = OwnServer::start(&["--maxclients", "1"]).await;
    // The connection by which the test saw that it is there may not have ended yet.
    let first = loop {
        match RedisStore::connect(&server.config()).await {
            Ok(first) => break first,
            Err(error) => assert_error(&error, ErrorKind::Unavailable, true),
        }
    };
    let error = RedisStore::connect(&server.config()).await.unwrap_err();
    assert_error(&error, ErrorKind::Unavailable, true);
    drop(first);
    while RedisStore::connect(&server.config()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server; run with cargo xtask test"]
async fn what_is_over_redis_limit_is_refused_before_it_is_sent() {
    let server = OwnServer::start(&[]).await;
    let store = connect(&server.config()).await;
    let long = Bytes::from(vec![0; (512 << 20) + 1]);
    let changes = [("good", Some("1".into())), ("bad", Some(long))];
    let error = store.write_many(&changes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!((error.get("key"), error.get("limit")), (Some("bad"), Some("536870912")));
    assert_eq!(store.get("good").await.unwrap(), None);
}
