//! Stores around stores: they keep the rules, and do what they are for when the store inside fails.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use kasper::metrics::{Metrics, NoopRecorder};
use kasper::multitenant::{MultiMapStore, MultiStore, TenantKey, TenantMap};
use kasper::store::{Cached, MapStore, Metered, Retry, Store};
use kasper::testkit::conformance::{Profile, check_multi_store, check_store};
use kasper::{Bytes, Error, ErrorKind, Result};
use tokio::time::Instant;

/// What a call of a [`Fragile`] store is to do instead of answering.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// None: it answers.
    Answers,
    Passes,
    Stays,
    /// The write is made, and then fails all the same.
    WritesAndFails,
    /// Never answers.
    Hangs,
    /// The write is made and never answered.
    WritesAndHangs,
}

/// A map whose next calls fail as they are told to.
#[derive(Debug, Clone, Default)]
struct Fragile {
    map: MapStore,
    multi: MultiMapStore,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Fragile {
    fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    async fn call<T>(&self, name: String, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.calls.lock().unwrap().push(name);
        let fault = self.faults.lock().unwrap().pop_front();
        let gone = || Error::new(ErrorKind::Unavailable, "gone").with("operation", "x");
        match fault {
            None | Some(Fault::Answers) => return work.await,
            Some(Fault::Passes) => return Err(gone().retryable()),
            Some(Fault::Stays) => return Err(gone()),
            Some(Fault::WritesAndFails) => {
                work.await?;
                return Err(gone().retryable());
            }
            Some(Fault::WritesAndHangs) => drop(work.await?),
            Some(Fault::Hangs) => {}
        }
        std::future::pending().await
    }
}

impl Store for Fragile {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.call(format!("get {}", keys.join(" ")), self.map.get_many(keys)).await
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        self.call("write".to_owned(), self.map.write_many(changes)).await
    }

    async fn flush(&self) -> Result<()> {
        self.call("flush".to_owned(), async { Ok(()) }).await
    }
}

impl MultiStore for Fragile {
    type Tenant = Fragile;

    fn tenant(&self, tenant: &str) -> Result<Fragile> {
        Ok(Fragile { map: self.multi.tenant(tenant)?, ..self.clone() })
    }

    fn tenants(&self) -> Vec<String> {
        self.multi.tenants()
    }

    async fn fetch(&self, keys: &[TenantKey<'_>]) -> Result<TenantMap> {
        self.call("fetch".to_owned(), self.multi.fetch(keys)).await
    }

    async fn push(&self, changes: &TenantMap) -> Result<()> {
        self.call("push".to_owned(), self.multi.push(changes)).await
    }
}

#[tokio::test]
async fn wrappers_keep_the_rules() {
    let profile = Profile::default().many_keys(10_000);
    check_store(&Retry::new(MapStore::new()), &profile).await;
    check_multi_store(&Retry::new(MultiMapStore::new()), ["a", "b"], &profile).await;
    for max_bytes in [0, 1000, 100_000, usize::MAX] {
        check_store(&Cached::new(MapStore::new(), max_bytes), &profile).await;
    }
    check_store(&Cached::new(Retry::new(MapStore::new()), 10_000), &profile).await;
    let metrics = Metrics::new("wrappers", NoopRecorder);
    check_store(&Metered::new(MapStore::new(), "map", &metrics), &profile).await;
    let metered = Metered::new(MultiMapStore::new(), "map", &metrics);
    check_multi_store(&metered, ["a", "b"], &profile).await;
}

/// Every other call fails, and the rules are kept.
#[tokio::test(start_paused = true)]
async fn the_rules_are_kept_while_calls_fail_and_pass() {
    let store = Fragile::default();
    let faults = [Fault::Passes, Fault::Answers, Fault::WritesAndFails, Fault::Answers];
    store.fail(std::iter::repeat_n(faults, 50).flatten());
    check_store(&Retry::new(store), &Profile::default().many_keys(100)).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_is_made_again_until_it_succeeds() {
    let inner = Fragile::default();
    let store = Retry::new(inner.clone());
    inner.fail([Fault::Passes, Fault::WritesAndFails]);
    store.put("a", "1").await.unwrap();
    inner.fail([Fault::Passes]);
    assert_eq!(store.get("a").await.unwrap(), Some("1".into()));
    inner.fail([Fault::Passes]);
    Store::flush(&store).await.unwrap();
    assert_eq!(inner.calls(), ["write", "write", "write", "get a", "get a", "flush", "flush"]);
}

#[tokio::test(start_paused = true)]
async fn multitenant_calls_are_made_again_too() {
    let inner = Fragile::default();
    let store = Retry::new(inner.clone());
    let changes: TenantMap = [("t", "a", Some("1"))].into_iter().collect();
    inner.fail([Fault::Passes]);
    store.push(&changes).await.unwrap();
    inner.fail([Fault::Passes]);
    assert_eq!(store.fetch(&[TenantKey::new("t", "a")]).await.unwrap(), changes);
    inner.fail([Fault::Passes]);
    assert_eq!(store.tenant("t").unwrap().get("a").await.unwrap(), Some("1".into()));
    assert_eq!(inner.calls(), ["push", "push", "fetch", "fetch", "get a", "get a"]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_not_tried_again() {
    let inner = Fragile::default();
    inner.fail([Fault::Passes, Fault::Stays]);
    let error = Retry::new(inner.clone()).get("a").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, false));
    assert_eq!(error.get("attempts"), Some("2"));
    assert_eq!(inner.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_deadline_and_no_wait_is_too_long() {
    let inner = Fragile::default();
    inner.fail([Fault::Passes]);
    let store =
        Retry::new(inner.clone()).deadline(Duration::MAX).waits(Duration::MAX, Duration::MAX);
    let error = store.get("a").await.unwrap_err();
    assert_eq!((error.kind(), error.get("attempts")), (ErrorKind::Unavailable, Some("1")));
    store.put("a", "1").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waits_double_and_end_with_the_deadline() {
    let (inner, begun) = (Fragile::default(), Instant::now());
    inner.fail([Fault::Passes; 1000]);
    let (first, longest) = (Duration::from_millis(100), Duration::from_millis(800));
    let store = Retry::new(inner.clone()).deadline(Duration::from_secs(5)).waits(first, longest);
    let error = store.put("a", "1").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
    let calls = inner.calls().len();
    assert_eq!(error.get("attempts"), Some(&*calls.to_string()));
    // 100 + 200 + 400 + 800 × n in full, half of each at least.
    assert!((8..=16).contains(&calls), "{calls} attempts");
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(5) && took > Duration::from_millis(4200), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn waits_differ() {
    let mut waits = Vec::new();
    for _ in 0..20 {
        let (inner, begun) = (Fragile::default(), Instant::now());
        inner.fail([Fault::Passes]);
        Retry::new(inner)
            .waits(Duration::from_secs(2), Duration::from_secs(2))
            .get("a")
            .await
            .unwrap();
        waits.push(begun.elapsed());
    }
    waits.sort();
    assert!(waits[0] >= Duration::from_secs(1) && waits[19] <= Duration::from_millis(2001));
    waits.dedup();
    assert!(waits.len() > 10, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_ends_at_the_deadline() {
    let (inner, begun) = (Fragile::default(), Instant::now());
    let store = Retry::new(inner.clone()).deadline(Duration::from_secs(3));
    inner.fail([Fault::Hangs]);
    let error = store.get("a").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Timeout, true));
    assert_eq!((error.get("attempts"), error.get("operation")), (Some("1"), Some("get_many")));
    assert!(begun.elapsed() < Duration::from_millis(3010));
    // What the store said itself says more than that time was over.
    inner.fail([Fault::Passes, Fault::Hangs]);
    let error = store.get("a").await.unwrap_err();
    assert_eq!((error.kind(), error.get("attempts")), (ErrorKind::Unavailable, Some("2")));
}

#[tokio::test]
async fn a_cache_saves_reads_of_values_and_of_misses() {
    let inner = Fragile::default();
    inner.map.put("a", "1").await.unwrap();
    let store = Cached::new(inner.clone(), 10_000);
    for _ in 0..2 {
        let found = store.get_many(&["x", "a", "x"]).await.unwrap();
        assert_eq!(found, [None, Some("1".into()), None]);
    }
    assert_eq!(store.get_many(&["a", "b"]).await.unwrap(), [Some("1".into()), None]);
    assert_eq!(inner.calls(), ["get x a", "get b"], "each key is asked for once");
    let stats = store.stats();
    assert_eq!((stats.hits, stats.misses, stats.keys), (4, 4, 3));
    assert!(stats.bytes > 3 * 100 && stats.bytes < 10_000);
}

#[tokio::test]
async fn a_cache_writes_through_and_remembers_what_it_wrote() {
    let inner = Fragile::default();
    let store = Cached::new(inner.clone(), 10_000);
    let changes = [("a", Some("1".into())), ("b", None), ("a", Some("2".into()))];
    store.write_many(&changes).await.unwrap();
    assert_eq!(inner.map.snapshot(), [("a".to_owned(), "2".into())].into());
    assert_eq!(store.get_many(&["a", "b"]).await.unwrap(), [Some("2".into()), None]);
    assert_eq!(inner.calls(), ["write"]);
}

#[tokio::test]
async fn a_failed_write_forgets_its_keys() {
    for fault in [Fault::Stays, Fault::WritesAndFails] {
        let inner = Fragile::default();
        let store = Cached::new(inner.clone(), 10_000);
        store.write_many(&[("a", Some("1".into())), ("b", Some("1".into()))]).await.unwrap();
        inner.fail([fault]);
        store.put("a", "2").await.unwrap_err();
        let (truth, found) = (inner.map.get("a").await, store.get("a").await);
        assert_eq!(found.unwrap(), truth.unwrap(), "{fault:?}");
        assert_eq!(store.get("b").await.unwrap(), Some("1".into()));
        assert_eq!(inner.calls(), ["write", "write", "get a"], "{fault:?}: b is remembered");
    }
}

#[tokio::test]
async fn a_dropped_write_forgets_its_keys() {
    for fault in [Fault::Hangs, Fault::WritesAndHangs] {
        let inner = Fragile::default();
        let store = Cached::new(inner.clone(), 10_000);
        store.put("a", "1").await.unwrap();
        inner.fail([fault]);
        assert!(store.put("a", "2").now_or_never().is_none());
        let (truth, found) = (inner.map.get("a").await, store.get("a").await);
        assert_eq!(found.unwrap(), truth.unwrap(), "{fault:?}");
        // And later writes are remembered again.
        store.put("a", "3").await.unwrap();
        inner.calls();
        assert_eq!(store.get("a").await.unwrap(), Some("3".into()));
        assert!(inner.calls().is_empty());
    }
}

/// The read has its answer, the old value, and is told of it after the write is done.
#[tokio::test]
async fn a_read_beside_a_write_does_not_bring_the_old_value_back() {
    let inner = Slow::default();
    let store = Cached::new(inner.clone(), 10_000);
    inner.map.put("a", "old").await.unwrap();
    let mut read = Box::pin(store.get("a"));
    assert!((&mut read).now_or_never().is_none());
    store.put("a", "new").await.unwrap();
    inner.go.notify_one();
    assert_eq!(read.await.unwrap(), Some("old".into()));
    inner.go.notify_one();
    assert_eq!(store.get("a").await.unwrap(), Some("new".into()));
}

/// A map that tells what it has read when it may.
#[derive(Debug, Clone, Default)]
struct Slow {
    map: MapStore,
    go: Arc<tokio::sync::Notify>,
}

impl Store for Slow {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let found = self.map.get_many(keys).await;
        self.go.notified().await;
        found
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        self.map.write_many(changes).await
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    /// Whatever fails, hangs or is forgotten for room: what the cache says is what the store has.
    #[test]
    fn a_cache_never_says_what_is_not_so(
        max_bytes in 0usize..2000,
        calls in proptest::collection::vec((0usize..6, 0usize..8, 0usize..5, 0usize..300), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let inner = Fragile::default();
        let store = Cached::new(inner.clone(), max_bytes);
        for (action, key, fault, size) in calls {
            let (key, other) = (format!("k{key}"), format!("k{}", key + 1));
            let value = (size % 4 != 0).then(|| Bytes::from(vec![b'x'; size]));
            if action < 3 {
                let faults = [Fault::Stays, Fault::WritesAndFails, Fault::Hangs, Fault::WritesAndHangs];
                inner.fail(faults.get(fault).copied());
                let changes = [(&*key, value.clone()), (&*other, None), (&*other, value)];
                // Failed or dropped, as the fault has it.
                let _ = store.write_many(&changes[..=action]).now_or_never();
            }
            let keys = [&*key, &*other, &*key];
            let found = runtime.block_on(store.get_many(&keys)).unwrap();
            let truth = runtime.block_on(inner.map.get_many(&keys)).unwrap();
            proptest::prop_assert_eq!(found, truth);
            proptest::prop_assert!(store.stats().bytes <= max_bytes);
        }
    }
}

#[tokio::test]
async fn writes_at_the_same_time_are_not_remembered() {
    let inner = Fragile::default();
    let store = Cached::new(inner.clone(), 10_000);
    inner.fail([Fault::Hangs]);
    let mut hanging = Box::pin(store.put("a", "1"));
    assert!((&mut hanging).now_or_never().is_none());
    store.put("a", "2").await.unwrap();
    // The first may still be done, after the second.
    inner.map.put("a", "1").await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), Some("1".into()));
    drop(hanging);
    inner.map.put("a", "3").await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), Some("3".into()), "nothing was remembered meanwhile");
}
