//! The local store: the rules, prefixes, one database for many stores, and what can go wrong with it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod directory;

use std::time::Duration;

use directory::Directory;
use futures_util::FutureExt;
use kasper::multitenant::{MultiLocalStore, MultiStore, TenantKey, TenantMap};
use kasper::store::{LocalConfig, LocalDatabase, LocalStore, Store, connect, connect_multi};
use kasper::testkit::conformance::{Profile, check_multi_store, check_store};
use kasper::{Bytes, ErrorKind};

fn profile() -> Profile {
    let profile = Profile::default().max_key_bytes(LocalStore::MAX_KEY_BYTES);
    profile.max_value_bytes(LocalStore::MAX_VALUE_BYTES)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_rules() {
    let directory = Directory::new();
    let store = LocalStore::open(&directory.config().prefix("p")).await.unwrap();
    check_store(&store, &profile()).await;
}

#[tokio::test]
async fn keeps_the_rules_on_one_thread_with_small_tables_and_synced() {
    let directory = Directory::new();
    let config = directory.config().sync(true).memtable_bytes(100_000).cache_bytes(0);
    let store = LocalStore::open(&config).await.unwrap();
    check_store(&store, &profile().many_keys(10_000)).await;
}

#[tokio::test]
async fn keeps_the_rules_of_multitenant_stores() {
    let directory = Directory::new();
    let store = MultiLocalStore::open(&directory.config()).await.unwrap();
    check_multi_store(&store, ["acme", "globex"], &profile()).await;
    let long = "t".repeat(501);
    let error = store.tenant(&long).unwrap_err();
    assert_eq!((error.kind(), error.get("limit")), (ErrorKind::InvalidInput, Some("500")));
    let error = store.fetch(&[TenantKey::new(&long, "a")]).await.unwrap_err();
    assert_eq!((error.get("operation"), error.get("tenant")), (Some("fetch"), Some(&*long)));
}

#[tokio::test]
async fn connect_gives_stores_of_one_database() {
    let directory = Directory::new();
    let url = directory.url();
    let a = connect(&format!("{url}?prefix=a")).await.unwrap();
    let b = connect(&format!("{url}?prefix=b")).await.unwrap();
    let multi = connect_multi(&format!("{url}?prefix=a")).await.unwrap();
    a.put("k", "1").await.unwrap();
    b.put("k", "2").await.unwrap();
    multi.tenant("s").unwrap().put("k", "3").await.unwrap();
    assert_eq!(a.get("k").await.unwrap(), Some("1".into()));
    assert_eq!(b.get("k").await.unwrap(), Some("2".into()));
    assert_eq!(a.get("a/k").await.unwrap(), None);
    assert_eq!(connect("local:").await.unwrap_err().kind(), ErrorKind::Config);
    let error = connect(&format!("{url}?prefix=a/b")).await.unwrap_err();
    assert_eq!((error.kind(), error.get("prefix")), (ErrorKind::Config, Some("a/b")));
}

#[tokio::test]
async fn keys_of_stores_and_tenants_never_meet() {
    let directory = Directory::new();
    let database = LocalDatabase::open(&directory.config()).await.unwrap();
    let store = |prefix| LocalStore::from_client(&database, prefix).unwrap();
    let multi = |prefix| MultiLocalStore::from_client(&database, prefix).unwrap();
    // All would be `a/b/c` if the parts were only joined.
    store("a").put("b/c", "1").await.unwrap();
    multi("b").tenant("a").unwrap().put("c", "2").await.unwrap();
    multi("").tenant("a").unwrap().put("b/c", "3").await.unwrap();
    store("").put("a/b/c", "4").await.unwrap();
    assert_eq!(store("a").get("b/c").await.unwrap(), Some("1".into()));
    assert_eq!(multi("b").tenant("a").unwrap().get("c").await.unwrap(), Some("2".into()));
    assert_eq!(multi("").tenant("a").unwrap().get("b/c").await.unwrap(), Some("3".into()));
    assert_eq!(store("").get("a/b/c").await.unwrap(), Some("4".into()));
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let directory = Directory::new();
    for round in 0..5 {
        let store = LocalStore::open(&directory.config()).await.unwrap();
        let found = store.get("round").await.unwrap();
        assert_eq!(found, (round > 0).then(|| Bytes::from((round - 1).to_string())));
        store.put("round", round.to_string()).await.unwrap();
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_directory_that_is_open_with_other_options_is_refused() {
    let directory = Directory::new();
    let store = LocalStore::open(&directory.config()).await.unwrap();
    let error = LocalStore::open(&directory.config().sync(true)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false));
    assert_eq!(error.get("directory"), directory.path().to_str());
    drop(store);
    LocalStore::open(&directory.config().sync(true)).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_cannot_be_one_is_an_error_that_names_it() {
    let directory = Directory::new();
    std::fs::create_dir_all(directory.path()).unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = LocalStore::open(&LocalConfig::new(&file)).await.unwrap_err();
    assert_eq!(error.get("directory"), file.to_str(), "{error:?}");
    assert_eq!(error.get("operation"), Some("open"));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_damaged_database_is_an_error() {
    let directory = Directory::new();
    std::fs::create_dir_all(directory.path()).unwrap();
    std::fs::write(directory.path().join("version"), "another program's").unwrap();
    let error = LocalStore::open(&directory.config()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false), "{error:?}");
}

#[tokio::test]
async fn a_push_of_many_tenants_is_one_change() {
    let directory = Directory::new();
    let store = MultiLocalStore::open(&directory.config()).await.unwrap();
    let at = |value: &str| {
        let value = Some(value.to_owned());
        [("a", "k", value.clone()), ("b", "k", value)].into_iter().collect::<TenantMap>()
    };
    store.push(&at("0")).await.unwrap();
    let keys = [TenantKey::new("a", "k"), TenantKey::new("b", "k")];
    let write = async {
        for number in 0..200 {
            store.push(&at(&number.to_string())).await.unwrap();
        }
    };
    let read = async {
        for _ in 0..200 {
            let found = store.fetch(&keys).await.unwrap();
            assert_eq!(found.get("a", "k"), found.get("b", "k"), "half a push was seen");
        }
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn a_dropped_write_is_never_done_after_a_later_one() {
    let directory = Directory::new();
    let store = LocalStore::open(&directory.config()).await.unwrap();
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    for round in 0..100 {
        // Polled once, so that it waits for its thread or runs there, then dropped.
        let _ = store.put("k", large.clone()).now_or_never();
        store.put("k", round.to_string()).await.unwrap();
        assert_eq!(store.get("k").await.unwrap(), Some(round.to_string().into()), "{round}");
    }
}

#[tokio::test]
async fn a_call_ends_when_its_time_is_over() {
    let directory = Directory::new();
    let patient = LocalStore::open(&directory.config()).await.unwrap();
    patient.put("a", "1").await.unwrap();
    drop(patient);
    let config = directory.config().timeout(Duration::from_nanos(1));
    let error = LocalStore::open(&config).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Timeout, true));
    assert_eq!(error.get("operation"), Some("open"));
}

#[tokio::test]
async fn values_as_long_as_the_limit_are_kept() {
    let directory = Directory::new();
    let store = LocalStore::open(&directory.config()).await.unwrap();
    let value: Bytes = (0..=255).cycle().take(LocalStore::MAX_VALUE_BYTES).collect();
    store.put("a", value.clone()).await.unwrap();
    assert!(store.get("a").await.unwrap() == Some(value));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stats_show_the_size_and_the_compactions() {
    let directory = Directory::new();
    let config = directory.config().memtable_bytes(50_000);
    let store = LocalStore::open(&config).await.unwrap();
    let empty = store.stats().await.unwrap();
    let mut stats = empty.clone();
    let mut number = 0u32;
    // Until the engine has compacted: how much that takes is its own affair.
    while stats.compactions == 0 {
        let keys: Vec<String> = (0..100).map(|key| format!("{number}-{key}")).collect();
        let value = Some(Bytes::from(number.to_string().repeat(100)));
        let changes: Vec<_> = keys.iter().map(|key| (&**key, value.clone())).collect();
        store.write_many(&changes).await.unwrap();
        number += 1;
        assert!(number < 10_000, "no compaction: {stats:?}");
        stats = store.stats().await.unwrap();
    }
    assert!(stats.disk_bytes > empty.disk_bytes, "{stats:?}");
    assert!(stats.disk_bytes >= stats.journal_bytes, "{stats:?}");
    assert!(stats.tables > 0 && stats.compacting > Duration::ZERO, "{stats:?}");
}

/// One thread drives all: it would stand still for as long as the disk works if that were not elsewhere.
#[tokio::test]
async fn the_runtime_goes_on_while_the_disk_works() {
    let directory = Directory::new();
    let store = LocalStore::open(&directory.config().sync(true)).await.unwrap();
    let value = Bytes::from(vec![b'x'; 8 << 20]);
    let changes = [("a", Some(value.clone())), ("b", Some(value))];
    let mut write = std::pin::pin!(store.write_many(&changes));
    let mut others = 0;
    loop {
        tokio::select! {
            biased;
            written = &mut write => break written.unwrap(),
            () = tokio::task::yield_now() => others += 1,
        }
    }
    assert!(others > 10, "other tasks ran {others} times meanwhile");
}

#[test]
fn without_a_runtime_it_is_an_error_and_no_panic() {
    let directory = Directory::new();
    let opened = LocalStore::open(&directory.config()).now_or_never();
    assert_eq!(opened.unwrap().unwrap_err().kind(), ErrorKind::Config);
}
