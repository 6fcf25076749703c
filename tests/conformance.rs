//! The conformance suite: stores that keep the rules pass it, and each broken rule is seen.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use kasper::multitenant::{AnyMultiStore, MultiMapStore, MultiStore, TenantKey, TenantMap};
use kasper::store::{AnyStore, MapStore, Store};
use kasper::testkit::conformance::{Profile, check_multi_store, check_store};
use kasper::{Bytes, Error, ErrorKind, Result};

const TENANTS: [&str; 2] = ["acme", "globex"];

#[tokio::test]
async fn a_map_keeps_the_rules() {
    check_store(&MapStore::new(), &Profile::default()).await;
}

#[tokio::test]
async fn pointers_and_any_keep_the_rules() {
    let profile = Profile::default().many_keys(100);
    check_store(&&MapStore::new(), &profile).await;
    check_store(&Arc::new(MapStore::new()), &profile).await;
    check_store(&AnyStore::new(MapStore::new()), &profile).await;
}

#[tokio::test]
async fn multitenant_maps_keep_the_rules() {
    let profile = Profile::default();
    check_multi_store(&MultiMapStore::new(), TENANTS, &profile).await;
    check_multi_store(&Arc::new(MultiMapStore::new()), TENANTS, &profile).await;
    check_multi_store(&AnyMultiStore::new(MultiMapStore::new()), TENANTS, &profile).await;
}

/// Which rule a store breaks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    SkipsMissing,
    SortsAnswers,
    ForgetsDeletions,
    FirstChangeCounts,
    TrimsKeys,
    TakesEmptyKeys,
    TakesLongKeys,
    EmptyValueDeletes,
    TakesLongValues,
    WritesHalf,
    NamesNoLongKey,
    KeepsOldValues,
    RefusesToDeleteNothing,
    RefusesNothing,
    RefusesTheSameAgain,
    OneAtATime,
    TakesFewKeys,
    PutsNothing,
}

struct Broken {
    fault: Fault,
    map: MapStore,
    calls: AtomicUsize,
    last: Mutex<Vec<(String, Option<Bytes>)>>,
}

const MAX_KEY: usize = 200;
const MAX_VALUE: usize = 100_000;

impl Broken {
    fn check(&self, operation: &'static str, key: &str, value: Option<&Bytes>) -> Result<()> {
        let fault = self.fault;
        let refuse = |what: &str, limit: usize| {
            let error = Error::new(ErrorKind::InvalidInput, what).with("operation", operation);
            let error = error.with("limit", limit);
            let is_named = limit != MAX_KEY || fault != Fault::NamesNoLongKey;
            Err(if is_named { error.with("key", key) } else { error })
        };
        if key.is_empty() && fault != Fault::TakesEmptyKeys {
            return refuse("empty", 0);
        }
        if key.len() > MAX_KEY && fault != Fault::TakesLongKeys {
            return refuse("too long", MAX_KEY);
        }
        if value.is_some_and(|v| v.len() > MAX_VALUE) && fault != Fault::TakesLongValues {
            return refuse("too large", MAX_VALUE);
        }
        Ok(())
    }

    /// Refuses whole calls.
    async fn enter(&self, keys: usize) -> Result<()> {
        let fails = |fault: Fault, is_so: bool| match self.fault == fault && is_so {
            true => Err(Error::new(ErrorKind::Backend, "refused")),
            false => Ok(()),
        };
        let calls = self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.calls.fetch_sub(1, Ordering::SeqCst);
        fails(Fault::OneAtATime, calls > 0)?;
        fails(Fault::RefusesNothing, keys == 0)?;
        fails(Fault::TakesFewKeys, keys > 500)
    }

    async fn keeps_old(&self, key: &str) -> Result<bool> {
        let is_there = self.map.get(&self.key(key)).await?.is_some();
        Ok(self.fault == Fault::KeepsOldValues && is_there)
    }

    /// Refuses changes, and remembers them.
    async fn note(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        let refuse = || Err(Error::new(ErrorKind::Backend, "refused"));
        let owned = changes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let last = std::mem::replace(&mut *self.last.lock().unwrap(), owned);
        let is_again = last.len() == changes.len()
            && last.iter().zip(changes).all(|(a, b)| (&*a.0, &a.1) == (b.0, &b.1));
        if self.fault == Fault::RefusesTheSameAgain && is_again && changes.len() > 1 {
            return refuse();
        }
        for (key, value) in changes {
            let is_there = self.map.get(&self.key(key)).await?.is_some();
            let is_put_before = changes.iter().any(|(other, put)| other == key && put.is_some());
            if self.fault == Fault::RefusesToDeleteNothing
                && value.is_none()
                && !is_there
                && !is_put_before
            {
                return refuse();
            }
        }
        Ok(())
    }

    fn key(&self, key: &str) -> String {
        let key = if self.fault == Fault::TrimsKeys { key.trim() } else { key };
        format!("-{key}")
    }
}

impl Store for Broken {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        keys.iter().try_for_each(|key| self.check("get_many", key, None))?;
        self.enter(keys.len()).await?;
        let mut own: Vec<String> = keys.iter().map(|key| self.key(key)).collect();
        if self.fault == Fault::SortsAnswers {
            own.sort();
        }
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let mut values = self.map.get_many(&own).await?;
        if self.fault == Fault::SkipsMissing && keys.len() > 1 {
            values.retain(Option::is_some);
        }
        Ok(values)
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        if self.fault != Fault::WritesHalf {
            changes.iter().try_for_each(|(k, v)| self.check("write_many", k, v.as_ref()))?;
        }
        if changes.iter().all(|(key, value)| self.check("", key, value.as_ref()).is_ok()) {
            self.enter(changes.len()).await?;
            self.note(changes).await?;
        }
        let mut changes = changes.to_vec();
        if self.fault == Fault::FirstChangeCounts {
            changes.reverse();
        }
        for (key, value) in changes {
            self.check("write_many", key, value.as_ref())?;
            match value {
                None if self.fault == Fault::ForgetsDeletions => {}
                Some(value) if value.is_empty() && self.fault == Fault::EmptyValueDeletes => {
                    self.map.delete(&self.key(key)).await?;
                }
                Some(_) if self.keeps_old(key).await? => {}
                value => self.map.write_many(&[(&self.key(key), value)]).await?,
            }
        }
        Ok(())
    }

    async fn put(&self, key: &str, value: impl Into<Bytes> + Send) -> Result<()> {
        if self.fault == Fault::PutsNothing {
            return Ok(());
        }
        self.write_many(&[(key, Some(value.into()))]).await
    }
}

#[tokio::test]
async fn each_broken_rule_is_seen_and_named() {
    let profile =
        Profile::default().max_key_bytes(MAX_KEY).max_value_bytes(MAX_VALUE).many_keys(1000);
    for (fault, rule) in [
        (Fault::SkipsMissing, "rule 1"),
        (Fault::SortsAnswers, "rule 1"),
        (Fault::ForgetsDeletions, "rule 2"),
        (Fault::FirstChangeCounts, "rule 5"),
        (Fault::TrimsKeys, "rule 7"),
        (Fault::TakesEmptyKeys, "rule 7, the empty key"),
        (Fault::WritesHalf, "rule 7, the empty key"),
        (Fault::TakesLongKeys, "rule 7, a long key"),
        (Fault::EmptyValueDeletes, "rule 8"),
        (Fault::TakesLongValues, "rule 8, a long value"),
        (Fault::NamesNoLongKey, "rule 7, a long key"),
        (Fault::KeepsOldValues, "rule 3"),
        (Fault::RefusesToDeleteNothing, "rule 4"),
        (Fault::RefusesNothing, "rule 6"),
        (Fault::RefusesTheSameAgain, "rule 9"),
        (Fault::OneAtATime, "rule 10"),
        (Fault::TakesFewKeys, "rule 12"),
        (Fault::PutsNothing, "rule 13"),
    ] {
        let (calls, last) = (AtomicUsize::new(0), Mutex::default());
        let store = Broken { fault, map: MapStore::new(), calls, last };
        let found = panic_of(check_store(&store, &profile)).await;
        assert!(found.contains(rule), "{fault:?}: {found}");
    }
}

/// Files what it finds under the first tenant, as Go Kasper's Elasticsearch store did under the index.
struct WrongTenant(MultiMapStore);

impl MultiStore for WrongTenant {
    type Tenant = MapStore;

    fn tenant(&self, tenant: &str) -> Result<MapStore> {
        self.0.tenant(tenant)
    }

    fn tenants(&self) -> Vec<String> {
        self.0.tenants()
    }

    async fn fetch(&self, keys: &[TenantKey<'_>]) -> Result<TenantMap> {
        let found = self.0.fetch(keys).await?;
        let filed = found.iter().map(|(key, value)| ("index", key.key, value.cloned()));
        Ok(filed.collect())
    }

    async fn push(&self, changes: &TenantMap) -> Result<()> {
        self.0.push(changes).await
    }
}

#[tokio::test]
async fn results_under_a_wrong_tenant_are_seen() {
    let store = WrongTenant(MultiMapStore::new());
    let found = panic_of(check_multi_store(&store, TENANTS, &Profile::default())).await;
    assert!(found.contains("rule 2"), "{found}");
}

async fn panic_of(check: impl Future<Output = ()>) -> String {
    let panic = AssertUnwindSafe(check).catch_unwind().await.unwrap_err();
    panic.downcast::<String>().map_or_else(|_| "no text".to_owned(), |text| *text)
}
