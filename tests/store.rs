//! A user's own store, and stores behind pointers, through the public API.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::Mutex;

use kasper::codec::Json;
use kasper::multitenant::{MultiMapStore, MultiStore, TenantKey};
use kasper::store::{MapStore, Store, TypedStore};
use kasper::{Bytes, Error, ErrorKind, Result};

/// A store that notes the calls that it gets, and can be down.
#[derive(Default)]
struct Noted {
    map: MapStore,
    calls: Mutex<Vec<String>>,
    down: bool,
}

impl Noted {
    fn note(&self, operation: &'static str, count: usize) -> Result<()> {
        self.calls.lock().unwrap().push(format!("{operation} {count}"));
        let down = Error::new(ErrorKind::Unavailable, "down").retryable();
        if self.down { Err(down.with("operation", operation)) } else { Ok(()) }
    }
}

impl Store for Noted {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.note("get_many", keys.len())?;
        self.map.get_many(keys).await
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        self.note("write_many", changes.len())?;
        self.map.write_many(changes).await
    }

    async fn flush(&self) -> Result<()> {
        self.note("flush", 0)
    }
}

/// What generic code of a user looks like.
async fn use_all(store: impl Store) -> Result<Option<Bytes>> {
    store.put("a", String::from("1")).await?;
    store.put("b", "2").await?;
    store.delete("b").await?;
    store.flush().await?;
    store.get("a").await
}

#[tokio::test]
async fn single_key_methods_are_calls_for_one_key() {
    let store = Noted::default();
    assert_eq!(use_all(&store).await.unwrap(), Some("1".into()));
    let calls = ["write_many 1", "write_many 1", "write_many 1", "flush 0", "get_many 1"];
    assert_eq!(*store.calls.lock().unwrap(), calls);
}

#[tokio::test]
async fn pointers_pass_every_method_on() {
    let store = Arc::new(Noted::default());
    assert_eq!(use_all(store.clone()).await.unwrap(), Some("1".into()));
    assert_eq!(use_all(&&store).await.unwrap(), Some("1".into()));
    assert_eq!(store.calls.lock().unwrap().len(), 10, "`flush` is the store's own");
}

#[tokio::test]
async fn errors_pass_through_the_single_key_methods() {
    let store = Noted { down: true, ..Noted::default() };
    let error = store.put("a", "1").await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.get("operation"), Some("write_many"));
}

#[tokio::test]
async fn an_error_for_a_key_says_which() {
    let error = MapStore::new().get_many(&["a", "b", ""]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.get("index"), Some("2"));
}

#[tokio::test]
async fn the_futures_can_be_spawned() {
    let store = MapStore::new();
    let tasks = (0..4).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let key = task.to_string();
            store.put(&key, key.clone()).await?;
            store.get_many(&[&key]).await
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert!(task.await.unwrap().unwrap()[0].is_some());
    }
    assert_eq!(store.snapshot().into_keys().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

fn typed(store: &Noted) -> TypedStore<&Noted, Json, u64> {
    TypedStore::new(store, Json)
}

#[tokio::test]
async fn a_state_is_one_read_and_one_write_of_what_was_changed() {
    let store = Noted::default();
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")] {
        store.map.put(key, value).await.unwrap();
    }
    let store_of_numbers = typed(&store);
    let keys = ["d", "a", "b", "a", "c", "e", "f"];
    let mut state = store_of_numbers.load_keys(keys.to_vec()).await.unwrap();
    assert_eq!(state.iter().count(), 6);
    assert_eq!((state.get("a"), state.get("e")), (Some(&1), None));
    // Set to what it was: written all the same, for an earlier attempt may still be on its way.
    *state.get_mut("a").unwrap() += 0;
    assert_eq!(state.get("f"), None);
    assert_eq!(state.insert("b", 20), Some(2));
    assert_eq!(state.remove("c"), Some(3));
    *state.entry("e").get_or_insert_default() += 5;
    assert_eq!(*store.calls.lock().unwrap(), ["get_many 6"], "nothing is written before `save`");
    state.save().await.unwrap();
    assert_eq!(*store.calls.lock().unwrap(), ["get_many 6", "write_many 4"]);
    let all = ["a", "b", "c", "d", "e", "f"];
    let expected = [Some(1), Some(20), None, Some(4), Some(5), None];
    assert_eq!(store_of_numbers.get_many(&all).await.unwrap(), expected);
}

#[tokio::test]
async fn a_state_without_keys_or_changes_makes_no_call() {
    let store = Noted::default();
    let numbers = typed(&store);
    numbers.load_keys(Vec::<String>::new()).await.unwrap().save().await.unwrap();
    assert!(store.calls.lock().unwrap().is_empty());
    let mut lost = numbers.load_keys(vec!["a"]).await.unwrap();
    lost.insert("a", 1);
    drop(lost);
    assert_eq!(numbers.get("a").await.unwrap(), None, "dropped without `save`");
    assert_eq!(*store.calls.lock().unwrap(), ["get_many 1", "get_many 1"]);
}

#[tokio::test]
async fn errors_of_a_state_name_the_key() {
    let bytes = MapStore::new();
    bytes.put("bad", "one").await.unwrap();
    let store: TypedStore<_, _, u64> = TypedStore::new(bytes.clone(), Json);
    let error = store.load_keys(vec!["good", "bad"]).await.unwrap_err();
    assert_eq!((error.kind(), error.get("key")), (ErrorKind::Decode, Some("bad")));

    let tenants = MultiMapStore::new();
    tenants.tenant("acme").unwrap().put("bad", "one").await.unwrap();
    let store: TypedStore<_, _, u64> = TypedStore::new(tenants, Json);
    let error = store.load_keys(vec![TenantKey::new("acme", "bad")]).await.unwrap_err();
    assert_eq!((error.get("tenant"), error.get("key")), (Some("acme"), Some("bad")));
    assert_eq!(error.get("operation"), Some("fetch"));
    let error = store.load_keys(vec![("no/tenant", "a")]).await.unwrap_err();
    assert_eq!((error.kind(), error.get("tenant")), (ErrorKind::InvalidInput, Some("no/tenant")));

    let store = TypedStore::new(bytes.clone(), Json);
    let mut state = store.load_keys(vec!["map", "list"]).await.unwrap();
    state.insert("list", std::collections::BTreeMap::from([(vec![1], 1)]));
    state.insert("map", std::collections::BTreeMap::new());
    let error = state.save().await.unwrap_err();
    assert_eq!((error.kind(), error.get("key")), (ErrorKind::InvalidInput, Some("list")));
    assert_eq!(bytes.get("map").await.unwrap(), None, "nothing is written");
}

#[tokio::test]
async fn the_state_of_many_tenants_is_kept_apart() {
    let tenants = MultiMapStore::new();
    let store: TypedStore<_, _, u64> = TypedStore::new(tenants.clone(), Json);
    let keys = || vec![("acme", "a".to_owned()), ("other", "a".to_owned())];
    let mut state = store.load_keys(keys()).await.unwrap();
    state.insert(&keys()[0], 1);
    state.save().await.unwrap();
    let mut state = store.load_keys(keys()).await.unwrap();
    assert_eq!((state.get(&keys()[0]), state.get(&keys()[1])), (Some(&1), None));
    state.remove(&keys()[0]);
    state.save().await.unwrap();
    assert!(tenants.tenant("acme").unwrap().is_empty());
}

#[tokio::test]
#[should_panic(expected = "the key \"b\" was not loaded")]
async fn a_key_that_was_not_loaded_has_no_value_to_believe() {
    let store = Noted::default();
    typed(&store).load_keys(vec!["a"]).await.unwrap().get("b");
}
