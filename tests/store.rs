//! A user's own store, and stores behind pointers, through the public API.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::Mutex;

use kasper::store::{MapStore, Store};
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
