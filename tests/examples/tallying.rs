//! `multitenant`: one read and one write per batch, and counts that stay right when batches come again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kasper::Result;
use kasper::codec::{Encode, Json};
use kasper::multitenant::{AnyMultiStore, MultiMapStore, MultiStore, TenantKey, TenantMap};
use kasper::store::{MapStore, TypedStore};
use kasper::testkit::{ProcessorTester, TestMessage};

use crate::tally::{Event, Tally, totals};

/// A store that counts its calls.
#[derive(Clone, Default)]
struct Watched {
    store: MultiMapStore,
    fetches: Arc<AtomicUsize>,
    pushes: Arc<AtomicUsize>,
}

impl MultiStore for Watched {
    type Tenant = MapStore;

    fn tenant(&self, tenant: &str) -> Result<MapStore> {
        self.store.tenant(tenant)
    }

    fn tenants(&self) -> Vec<String> {
        self.store.tenants()
    }

    async fn fetch(&self, keys: &[TenantKey<'_>]) -> Result<TenantMap> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        self.store.fetch(keys).await
    }

    async fn push(&self, changes: &TenantMap) -> Result<()> {
        self.pushes.fetch_add(1, Ordering::Relaxed);
        self.store.push(changes).await
    }
}

#[tokio::test]
async fn batches_that_come_again_change_nothing_and_cost_one_call_each_way() {
    let watched = Watched::default();
    let counts = TypedStore::new(AnyMultiStore::new(watched.clone()), Json);
    let shared = counts.clone();
    let tester = ProcessorTester::new(["events"], move |_| Tally {
        run: "run".to_owned(),
        counts: shared.clone(),
    });
    let mut tester = tester.max_batch_messages(70);
    let mut expected: BTreeMap<Event, u64> = BTreeMap::new();
    for number in 0..500 {
        let (tenant, kind) = (format!("tenant-{}", number % 7), format!("kind-{}", number % 3));
        let event = Event { tenant, kind };
        tester.push(TestMessage::new("events").value(Json.encode(&event).unwrap()));
        *expected.entry(event).or_default() += 1;
    }
    tester.run_all().await.unwrap();
    assert_eq!(totals(&counts, "run", 1, expected.keys()).await.unwrap(), expected);
    assert_eq!(counts.inner().tenants().len(), 7);

    tester.replay().await.unwrap();
    tester.replay_cut(33).await.unwrap();
    let before = watched.fetches.load(Ordering::Relaxed);
    assert_eq!(totals(&counts, "run", 1, expected.keys()).await.unwrap(), expected);
    assert_eq!(watched.fetches.load(Ordering::Relaxed), before + 1);
    assert_eq!(watched.pushes.load(Ordering::Relaxed), tester.batches());
    assert_eq!(before, tester.batches() + 1, "one for each batch, one for the first totals");
}
