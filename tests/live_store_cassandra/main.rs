//! Cassandra stores on a real server: the rules, and what happens when the server or the way to it fails.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../attempts/mod.rs"]
mod attempts;
mod faults;

use std::env;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use kasper::multitenant::{MultiCassandraStore, MultiStore, TenantKey};
use kasper::store::{
    AnyStore, CassandraConfig, CassandraConsistency, CassandraStore, Store, connect, connect_multi,
};
use kasper::testkit::conformance::{Profile, check_multi_store, check_store};
use kasper::{Bytes, Error, ErrorKind};
use tokio::sync::{OnceCell, RwLock};

const TENANTS: [&str; 2] = ["acme", "globex"];
const KEYSPACE: &str = "kasper_test";

/// What a server has that asks for passwords and was not told others. One that does not, takes these.
const USER: &str = "cassandra";
const PASSWORD: &str = "cassandra";

/// Held for writing by the test that kills the server, for reading by the others.
static SERVER: RwLock<()> = RwLock::const_new(());

fn address() -> String {
    env::var("KASPER_TEST_CASSANDRA")
        .expect("KASPER_TEST_CASSANDRA is not set; `cargo xtask test --only stores` sets it")
}

fn config_at(address: impl Into<String>, table: &str) -> CassandraConfig {
    CassandraConfig::new([address], KEYSPACE, table)
        .user(USER)
        .password(PASSWORD)
        .create_table_if_missing(true)
}

/// In the keyspace for tests, which is made first.
async fn config(table: &str) -> CassandraConfig {
    static MADE: OnceCell<()> = OnceCell::const_new();
    MADE.get_or_init(async || {
        // With a table for each tenant, none is looked for when connecting.
        let by_tenant = |tenant: &str| tenant.to_owned();
        let config = config_at(address(), "unused");
        let store = MultiCassandraStore::connect_with(&config, by_tenant).await.unwrap();
        let text = format!(
            "CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = \
             {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        );
        store.client().query_unpaged(text, ()).await.unwrap();
    })
    .await;
    config_at(address(), table)
}

async fn store(table: &str) -> CassandraStore {
    CassandraStore::connect(&config(table).await).await.unwrap()
}

fn unique(name: &str) -> String {
    format!("{name}-{:x}", UNIX_EPOCH.elapsed().unwrap().as_nanos())
}

async fn run(store: &CassandraStore, cql: impl Into<String>) {
    store.client().query_unpaged(cql.into(), ()).await.unwrap();
}

fn url(table: &str) -> String {
    format!(
        "cassandra://{USER}:{PASSWORD}@{}/{KEYSPACE}/{table}?create_table_if_missing=true",
        address()
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn a_table_keeps_the_rules() {
    let _up = SERVER.read().await;
    let profile = Profile::default().max_key_bytes(65_535).max_value_bytes(8 << 20);
    check_store(&store("conformance").await, &profile).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn a_url_connects_and_clients_are_shared() {
    let _up = SERVER.read().await;
    let profile = Profile::default().many_keys(100);
    config("by_url").await;
    let any: AnyStore = connect(&url("by_url")).await.unwrap();
    check_store(&any, &profile).await;
    let multi = connect_multi(&url("multi_by_url")).await.unwrap();
    check_multi_store(&multi, TENANTS, &profile).await;
    let first = store("by_url").await;
    let second = Arc::clone(first.client());
    let second = CassandraStore::from_client(second, &config("by_url").await).await.unwrap();
    let key = unique("shared");
    first.put(&key, "1").await.unwrap();
    assert_eq!(second.get(&key).await.unwrap(), Some("1".into()));
    assert!(Arc::ptr_eq(first.client(), second.client()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn a_table_is_not_found_until_it_is_made() {
    // A server that is asked for a table while it makes it answers with an error of its own.
    let _up = SERVER.read().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Arc::clone(store("conformance").await.client()));
    }
    for _ in 0..10 {
        let table = unique("made").replace('-', "_");
        let config = Arc::new(config(&table).await);
        let waiting = clients.iter().cloned().map(|client| {
            let config = config.as_ref().clone().create_table_if_missing(false);
            tokio::spawn(async move {
                while let Err(error) = CassandraStore::from_client(client.clone(), &config).await {
                    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
                }
            })
        });
        let waiting: Vec<_> = waiting.collect();
        let making = clients.iter().cloned().map(|client| {
            let config = Arc::clone(&config);
            tokio::spawn(async move { CassandraStore::from_client(client, &config).await })
        });
        let making: Vec<_> = making.collect();
        for store in making {
            store.await.unwrap().unwrap().put("key", "value").await.unwrap();
        }
        for found in waiting {
            found.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn tenants_in_one_table_keep_the_rules() {
    let _up = SERVER.read().await;
    let store = MultiCassandraStore::connect(&config("multi").await).await.unwrap();
    let profile = Profile::default().max_key_bytes(64_000).max_value_bytes(8 << 20);
    check_multi_store(&store, TENANTS, &profile).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn tenants_in_tables_of_their_own_keep_the_rules() {
    let _up = SERVER.read().await;
    let by_tenant = |tenant: &str| format!("of_{tenant}");
    let store =
        MultiCassandraStore::connect_with(&config("unused").await, by_tenant).await.unwrap();
    check_multi_store(&store, TENANTS, &Profile::default().max_key_bytes(65_535)).await;
}

/// The store is refused with such an error, which names the server, is not retryable and keeps the secret.
async fn refused(config: CassandraConfig, kind: ErrorKind) -> Error {
    let error = match CassandraStore::connect(&config).await {
        Ok(store) => store.get("a").await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(!error.is_retryable(), "{error:?}");
    assert_eq!(error.get("server"), Some(&*address()), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("open-sesame"), "{error:?}");
    error
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn who_may_not_is_unauthorized() {
    let _up = SERVER.read().await;
    let owner = store("private").await;
    refused(config("private").await.user(USER).password("open-sesame"), ErrorKind::Unauthorized)
        .await;
    refused(
        config("private").await.user("nobody").password("open-sesame"),
        ErrorKind::Unauthorized,
    )
    .await;
    let nameless = CassandraConfig::new([address()], KEYSPACE, "private");
    refused(nameless, ErrorKind::Unauthorized).await;
    let role = "CREATE ROLE IF NOT EXISTS stranger WITH PASSWORD = 'open-sesame' AND LOGIN = true";
    run(&owner, role).await;
    refused(
        config("private").await.user("stranger").password("open-sesame"),
        ErrorKind::Unauthorized,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn what_is_not_there_is_not_found() {
    let _up = SERVER.read().await;
    let error =
        refused(config("nowhere").await.create_table_if_missing(false), ErrorKind::NotFound).await;
    assert_eq!((error.get("keyspace"), error.get("table")), (Some(KEYSPACE), Some("nowhere")));
    let no_keyspace =
        CassandraConfig::new([address()], "no_such_keyspace", "t").user(USER).password(PASSWORD);
    refused(no_keyspace.clone(), ErrorKind::NotFound).await;
    refused(no_keyspace.create_table_if_missing(true), ErrorKind::NotFound).await;

    let store = store("dropped").await;
    store.put("a", "1").await.unwrap();
    run(&store, format!("DROP TABLE {KEYSPACE}.dropped")).await;
    let error = store.put("a", "2").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::NotFound, false), "{error:?}");
    assert_eq!(error.get("operation"), Some("write_many"), "{error:?}");
    let error = store.get("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn a_table_that_is_not_the_stores_is_refused() {
    let _up = SERVER.read().await;
    let any = store("conformance").await;
    for (name, columns) in [
        ("other_columns", "key text PRIMARY KEY, count int"),
        ("other_types", "key text PRIMARY KEY, value text"),
        ("other_key", "key int PRIMARY KEY, value blob"),
        ("of_tenants", "tenant text, key text, value blob, PRIMARY KEY ((tenant, key))"),
        ("clustered", "key text, at int, value blob, PRIMARY KEY (key, at)"),
    ] {
        run(&any, format!("CREATE TABLE IF NOT EXISTS {KEYSPACE}.{name} ({columns})")).await;
        refused(config(name).await, ErrorKind::Config).await;
    }
    let odd = CassandraStore::connect(&config("x\"; DROP TABLE y").await.concurrency(0)).await;
    let error = odd.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(text.contains("table") && text.contains("`concurrency`"), "every fault: {text}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn a_tenants_table_is_named_when_it_cannot_be() {
    let _up = SERVER.read().await;
    let by_tenant = |tenant: &str| format!("of_{tenant}");
    let config = config("unused").await;
    let odd = MultiCassandraStore::connect_with(&config, by_tenant).await.unwrap();
    let error = odd.tenant("a\"; DROP TABLE x; --").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert_eq!(error.get("tenant"), Some("a\"; DROP TABLE x; --"), "{error:?}");
    assert!(odd.tenants().is_empty());
    let one_for_all = |_: &str| "shared".to_owned();
    let shared = MultiCassandraStore::connect_with(&config, one_for_all).await.unwrap();
    shared.tenant("acme").unwrap();
    let error = shared.fetch(&[TenantKey::new("other", "a")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert_eq!(error.get("tenant"), Some("other"), "{error:?}");
    assert_eq!(shared.tenants(), ["acme"]);
    let config = config.create_table_if_missing(false);
    let none = MultiCassandraStore::connect_with(&config, by_tenant).await.unwrap();
    let error = none.fetch(&[TenantKey::new("unknown", "a")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!((error.get("table"), error.get("key")), (Some("of_unknown"), Some("a")));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn a_missing_key_of_one_tenant_hides_no_other() {
    // Pins a fault of Go Kasper, whose Fetch failed then.
    let _up = SERVER.read().await;
    let store = MultiCassandraStore::connect(&config("multi").await).await.unwrap();
    let (key, missing) = (unique("there"), unique("missing"));
    store.tenant("acme").unwrap().put(&key, "1").await.unwrap();
    let keys = [TenantKey::new("globex", &missing), TenantKey::new("acme", &key)];
    let found = store.fetch(&keys).await.unwrap();
    assert_eq!(found.get("acme", &key), Some(&"1".into()));
    assert_eq!(found.len(), 1);
    let long = "t".repeat(1025);
    let error = store.tenant(&long).unwrap_err();
    assert_eq!((error.kind(), error.get("limit")), (ErrorKind::InvalidInput, Some("1024")));
    assert_eq!(error.get("tenant"), Some(long.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn too_few_replicas_are_unavailable() {
    let _up = SERVER.read().await;
    run(
        &store("conformance").await,
        "CREATE KEYSPACE IF NOT EXISTS kasper_test_three WITH replication = \
         {'class': 'SimpleStrategy', 'replication_factor': 3}",
    )
    .await;
    let config = CassandraConfig::new([address()], "kasper_test_three", "t")
        .user(USER)
        .password(PASSWORD)
        .create_table_if_missing(true);
    let store = CassandraStore::connect(&config).await.unwrap();
    for error in [store.put("a", "1").await.unwrap_err(), store.get("a").await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.is_retryable() && error.get("key") == Some("a"), "{error:?}");
    }
    let one =
        CassandraStore::connect(&config.consistency(CassandraConsistency::One)).await.unwrap();
    one.put("a", "1").await.unwrap();
    assert_eq!(one.get("a").await.unwrap(), Some("1".into()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn values_end_with_their_time_to_live() {
    let _up = SERVER.read().await;
    let config = config("ttl").await.ttl(Duration::from_secs(2));
    let store = CassandraStore::connect(&config).await.unwrap();
    let key = unique("mortal");
    store.put(&key, "1").await.unwrap();
    let began = Instant::now();
    while store.get(&key).await.unwrap().is_some() {
        assert!(began.elapsed() < Duration::from_secs(30), "it lives on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A request is 16 MiB at most by default, with the key and all: so much stands in the documentation.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn what_the_server_finds_too_long_is_invalid() {
    let _up = SERVER.read().await;
    let config = config("conformance").await.max_value_bytes(64 << 20);
    let store = CassandraStore::connect(&config).await.unwrap();
    let key = unique("long");
    let longest = Bytes::from(vec![7; (16 << 20) - 1024]);
    store.put(&key, longest.clone()).await.unwrap();
    assert!(store.get(&key).await.unwrap() == Some(longest));
    for size in [16 << 20, 40 << 20] {
        let error = store.put(&key, vec![7; size]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert_eq!((error.is_retryable(), error.get("key")), (false, Some(&*key)), "{error:?}");
    }
    store.put(&key, "short").await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), Some("short".into()));
}

fn micros_from_now(seconds: i64) -> i64 {
    i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap() + seconds * 1_000_000
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn an_old_owner_whose_clock_was_ahead_is_overwritten() {
    let _up = SERVER.read().await;
    let store = store("conformance").await;
    let key = unique("skewed");
    let table = format!("{KEYSPACE}.conformance");
    let old = async |seconds: i64| {
        let at = micros_from_now(seconds);
        let text = format!(
            "INSERT INTO {table} (key, value) VALUES ('{key}', 0x6f6c64) USING TIMESTAMP {at}"
        );
        run(&store, text).await;
    };
    old(60).await;
    assert_eq!(store.get(&key).await.unwrap(), Some("old".into()));
    store.put(&key, "new").await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), Some("new".into()));
    old(120).await;
    assert_eq!(store.get(&key).await.unwrap(), Some("old".into()));
    store.delete(&key).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), None);

    old(3600).await;
    let error = store.get(&key).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Backend, false), "{error:?}");
    assert_eq!(error.get("key"), Some(&*key), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn the_last_of_two_calls_wins_however_soon_it_comes() {
    let _up = SERVER.read().await;
    let store = store("conformance").await;
    let (one, other) = (unique("soon"), unique("sooner"));
    for turn in 0..200 {
        let value = Bytes::from(turn.to_string());
        store.write_many(&[(&one, None), (&other, Some(value.clone()))]).await.unwrap();
        store.write_many(&[(&one, Some(value.clone())), (&other, None)]).await.unwrap();
        let found = store.get_many(&[&one, &other]).await.unwrap();
        assert_eq!(found, [Some(value), None], "turn {turn}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra; run with cargo xtask test"]
async fn a_small_value_that_is_kept_does_not_keep_the_frame_that_it_came_in() {
    let _up = SERVER.read().await;
    let (store, key) = (store("conformance").await, unique("kept"));
    for (size, more) in [(5, 0), (100_000, 1000)] {
        store.put(&key, vec![7; size]).await.unwrap();
        let kept = store.get(&key).await.unwrap().unwrap();
        // Nobody else has it now, so what it takes can be seen.
        let takes = kept.try_into_mut().unwrap().capacity();
        assert!((size..=size + more).contains(&takes), "{takes} bytes for a value of {size}");
    }
}
