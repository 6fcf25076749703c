//! The rules of [`MultiStore`].

use super::{Names, Profile, check_store};
use crate::error::{Error, ErrorKind};
use crate::multitenant::{MultiStore, TenantKey, TenantMap};
use crate::store::Store;

/// Checks that a multitenant store keeps the [rules of `MultiStore`](MultiStore#rules), and that a
/// tenant's store keeps those of [`Store`](Store#rules).
///
/// `tenants` are two names that the backend accepts. If the backend's tenants have to be created first, pass two that
/// exist.
///
/// # Panics
/// The store breaks a rule; the message names it.
///
/// ```
/// use kasper::multitenant::MultiMapStore;
/// use kasper::testkit::conformance::{Profile, check_multi_store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let profile = Profile::default().many_keys(1000);
/// check_multi_store(&MultiMapStore::new(), ["acme", "other"], &profile).await;
/// # }
/// ```
pub async fn check_multi_store<M: MultiStore>(store: &M, tenants: [&str; 2], profile: &Profile) {
    rule_1_tenants_are_apart(store, tenants, profile).await;
    rule_2_fetch_gives_what_is_there(store, tenants, profile).await;
    rule_3_push_sets_and_deletes(store, tenants, profile).await;
    rule_4_empty_calls_are_ok(store).await;
    rule_5_bad_names_and_keys_are_refused(store, tenants, profile).await;
    rule_6_tenants_that_were_met_are_known(store, tenants).await;
    rule_7_a_push_can_be_made_again(store, tenants, profile).await;
    rule_9_many_keys_go_in_one_call(store, tenants, profile).await;
    let fewer = Profile { many_keys: profile.many_keys.min(1000), ..profile.clone() };
    check_store(&tenant("rule 1", store, tenants[0]), &fewer).await;
}

fn tenant<M: MultiStore>(rule: &str, store: &M, name: &str) -> M::Tenant {
    store.tenant(name).unwrap_or_else(|error| panic!("{rule}: tenant {name}: {error:?}"))
}

async fn fetch<M: MultiStore>(rule: &str, store: &M, keys: &[TenantKey<'_>]) -> TenantMap {
    let found = store.fetch(keys).await;
    found.unwrap_or_else(|error| panic!("{rule}: fetch failed: {error:?}"))
}

async fn push<M: MultiStore>(rule: &str, store: &M, changes: &TenantMap) {
    let pushed = store.push(changes).await;
    pushed.unwrap_or_else(|error| panic!("{rule}: push failed: {error:?}"));
}

async fn rule_1_tenants_are_apart<M: MultiStore>(store: &M, [a, b]: [&str; 2], profile: &Profile) {
    let (rule, key) = ("rule 1", Names::new("m1").get("k"));
    let (of_a, of_b) = (tenant(rule, store, a), tenant(rule, store, b));
    let put = of_a.put(&key, profile.value("1")).await;
    put.unwrap_or_else(|error| panic!("{rule}: put failed: {error:?}"));
    for (of, value) in
        [(&of_a, profile.some("1")), (&of_b, None), (&tenant(rule, store, a), profile.some("1"))]
    {
        let found = of.get(&key).await;
        let found = found.unwrap_or_else(|error| panic!("{rule}: get failed: {error:?}"));
        assert_eq!(found, value, "{rule}");
    }
}

async fn rule_2_fetch_gives_what_is_there<M: MultiStore>(
    store: &M,
    [a, b]: [&str; 2],
    profile: &Profile,
) {
    let (rule, names) = ("rule 2", Names::new("m2"));
    let (k, l, missing) = (names.get("k"), names.get("l"), names.get("x"));
    let written: TenantMap =
        [(a, &*k, profile.some("1")), (b, &k, profile.some("2")), (b, &l, profile.some("3"))]
            .into_iter()
            .collect();
    push(rule, store, &written).await;
    let key = TenantKey::new;
    let keys = [key(b, &k), key(a, &missing), key(a, &k), key(b, &l), key(b, &k), key(a, &l)];
    let found = fetch(rule, store, &keys).await;
    assert_eq!(found, written, "{rule}: what is there, by tenant and key; nothing else");
    assert!(fetch(rule, store, &[key(a, &missing)]).await.is_empty(), "{rule}: a missing key");
}

async fn rule_3_push_sets_and_deletes<M: MultiStore>(
    store: &M,
    [a, b]: [&str; 2],
    profile: &Profile,
) {
    let (rule, names) = ("rule 3", Names::new("m3"));
    let (k, l) = (names.get("k"), names.get("l"));
    let of_a = tenant(rule, store, a);
    let put = of_a.put(&k, profile.value("1")).await;
    put.unwrap_or_else(|error| panic!("{rule}: put failed: {error:?}"));
    let mut changes = TenantMap::new();
    changes.delete(a, &*k);
    changes.put(a, &*l, profile.value("2"));
    changes.put(b, &*k, profile.value("3"));
    changes.delete(b, &*l);
    push(rule, store, &changes).await;
    let keys: Vec<TenantKey<'_>> = changes.iter().map(|(key, _)| key).collect();
    let left: TenantMap =
        [(a, &*l, profile.some("2")), (b, &*k, profile.some("3"))].into_iter().collect();
    assert_eq!(fetch(rule, store, &keys).await, left, "{rule}");
    let found = of_a.get_many(&[&k, &l]).await;
    let found = found.unwrap_or_else(|error| panic!("{rule}: get_many failed: {error:?}"));
    assert_eq!(found, [None, profile.some("2")], "{rule}: through the tenant's store");
}

async fn rule_4_empty_calls_are_ok<M: MultiStore>(store: &M) {
    assert!(fetch("rule 4", store, &[]).await.is_empty(), "rule 4");
    push("rule 4", store, &TenantMap::new()).await;
}

async fn rule_5_bad_names_and_keys_are_refused<M: MultiStore>(
    store: &M,
    [a, _]: [&str; 2],
    profile: &Profile,
) {
    let (rule, key) = ("rule 5", Names::new("m5").get("k"));
    for (name, bad_key) in [("", &*key), ("a/b", &key), (a, "")] {
        let changes = [(a, &*key, profile.some("1")), (name, bad_key, profile.some("2"))]
            .into_iter()
            .collect();
        let keys = [TenantKey::new(a, &key), TenantKey::new(name, bad_key)];
        for (operation, refused) in
            [("fetch", store.fetch(&keys).await.map(drop)), ("push", store.push(&changes).await)]
        {
            check_refused(rule, operation, name, refused.err());
        }
        if !bad_key.is_empty() && name != a {
            check_refused(rule, "tenant", name, store.tenant(name).map(drop).err());
        }
    }
    let found = fetch(rule, store, &[TenantKey::new(a, &key)]).await;
    assert!(found.is_empty(), "{rule}: nothing is written");
    assert!(!store.tenants().iter().any(|name| name.contains('/')), "{rule}: no tenant is made");
}

fn check_refused(rule: &str, operation: &str, tenant: &str, error: Option<Error>) {
    let Some(error) = error else { panic!("{rule}: {operation} of {tenant:?} was to be refused") };
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{rule}: the kind of {error}");
    assert_eq!(error.get("operation"), Some(operation), "{rule}: the operation in {error}");
    assert_eq!(error.get("tenant"), Some(tenant), "{rule}: the tenant in {error}");
}

async fn rule_6_tenants_that_were_met_are_known<M: MultiStore>(store: &M, [a, b]: [&str; 2]) {
    tenant("rule 6", store, a);
    tenant("rule 6", store, b);
    let known = store.tenants();
    assert!([a, b].iter().all(|name| known.iter().any(|known| known == name)), "rule 6: {known:?}");
    assert!(known.is_sorted(), "rule 6: {known:?}");
}

async fn rule_7_a_push_can_be_made_again<M: MultiStore>(
    store: &M,
    [a, b]: [&str; 2],
    profile: &Profile,
) {
    let (rule, key) = ("rule 7", Names::new("m7").get("k"));
    let changes: TenantMap = [(a, &*key, profile.some("1")), (b, &key, None)].into_iter().collect();
    let keys = [TenantKey::new(a, &key), TenantKey::new(b, &key)];
    for _ in 0..2 {
        push(rule, store, &changes).await;
        let found = fetch(rule, store, &keys).await;
        assert_eq!(found.get(a, &key), profile.some("1").as_ref(), "{rule}");
        assert_eq!(found.len(), 1, "{rule}");
    }
}

async fn rule_9_many_keys_go_in_one_call<M: MultiStore>(
    store: &M,
    tenants: [&str; 2],
    profile: &Profile,
) {
    let (rule, names) = ("rule 9", Names::new("m9"));
    let count = profile.many_keys.min(10_000);
    let entries = (0..count).map(|index| {
        let text = index.to_string();
        (tenants[index % 2], names.get(&text), profile.some(&text))
    });
    let written: TenantMap = entries.collect();
    push(rule, store, &written).await;
    let keys: Vec<TenantKey<'_>> = written.iter().map(|(key, _)| key).collect();
    // Not by assert_eq, which would print all of them.
    assert!(fetch(rule, store, &keys).await == written, "{rule}: {count} keys came back changed");
    let mut deletions = TenantMap::new();
    keys.iter().for_each(|key| deletions.delete(key.tenant, key.key));
    push(rule, store, &deletions).await;
    assert!(fetch(rule, store, &keys).await.is_empty(), "{rule}: deleted");
}
