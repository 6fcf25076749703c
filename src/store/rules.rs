//! The rules of [`Store`], one check for each, by number. A check gets a store of its own, empty.
//!
//! Rule 11 and the failures of rule 9 need a backend that can be made to fail: they are not here.

use bytes::Bytes;

use crate::error::ErrorKind;
use crate::store::Store;

pub(crate) async fn check_all<S: Store>(empty: impl Fn() -> S) {
    rule_1_get_many_answers_by_position(&empty()).await;
    rule_2_a_missing_key_is_none(&empty()).await;
    rule_3_what_was_written_is_found(&empty()).await;
    rule_4_writing_sets_and_deletes(&empty()).await;
    rule_5_the_last_change_of_a_key_counts(&empty()).await;
    rule_6_empty_calls_are_ok(&empty()).await;
    rule_7_any_text_but_the_empty_is_a_key(&empty()).await;
    rule_7_an_empty_key_is_refused_before_anything_is_written(&empty()).await;
    rule_8_any_bytes_are_a_value(&empty()).await;
    rule_9_a_write_can_be_made_again(&empty()).await;
    rule_10_calls_may_be_made_at_the_same_time(&empty()).await;
    provided_methods_mean_the_same(&empty()).await;
}

fn some(value: &'static str) -> Option<Bytes> {
    Some(value.into())
}

async fn rule_1_get_many_answers_by_position(store: &impl Store) {
    store.write_many(&[("a", some("1")), ("b", some("2"))]).await.unwrap();
    let values = store.get_many(&["b", "x", "a", "b"]).await.unwrap();
    assert_eq!(values, [some("2"), None, some("1"), some("2")]);
}

async fn rule_2_a_missing_key_is_none(store: &impl Store) {
    assert_eq!(store.get_many(&["a"]).await.unwrap(), [None]);
    store.write_many(&[("a", some("1"))]).await.unwrap();
    store.write_many(&[("a", None)]).await.unwrap();
    assert_eq!(store.get_many(&["a"]).await.unwrap(), [None]);
}

async fn rule_3_what_was_written_is_found(store: &impl Store) {
    for value in ["1", "2", "3"] {
        store.write_many(&[("a", some(value))]).await.unwrap();
        assert_eq!(store.get_many(&["a"]).await.unwrap(), [some(value)]);
    }
}

async fn rule_4_writing_sets_and_deletes(store: &impl Store) {
    store.write_many(&[("a", some("1")), ("b", some("2"))]).await.unwrap();
    let changes = [("a", some("3")), ("b", None), ("c", some("4")), ("missing", None)];
    store.write_many(&changes).await.unwrap();
    let values = store.get_many(&["a", "b", "c", "missing"]).await.unwrap();
    assert_eq!(values, [some("3"), None, some("4"), None]);
}

async fn rule_5_the_last_change_of_a_key_counts(store: &impl Store) {
    let changes = [
        ("set", some("1")),
        ("deleted", some("1")),
        ("set", None),
        ("set", some("2")),
        ("deleted", None),
    ];
    store.write_many(&changes).await.unwrap();
    assert_eq!(store.get_many(&["set", "deleted"]).await.unwrap(), [some("2"), None]);
}

async fn rule_6_empty_calls_are_ok(store: &impl Store) {
    assert!(store.get_many(&[]).await.unwrap().is_empty());
    store.write_many(&[]).await.unwrap();
}

async fn rule_7_any_text_but_the_empty_is_a_key(store: &impl Store) {
    let keys =
        ["a", "A", " a", "a ", "a/b", "/", "..", "*", "é", "e\u{301}", "a\n\t\0", "日本", "\""];
    let values: Vec<Bytes> = (0..keys.len()).map(|index| index.to_string().into()).collect();
    let changes: Vec<_> = keys.into_iter().zip(values.iter().cloned().map(Some)).collect();
    store.write_many(&changes).await.unwrap();
    let found = store.get_many(&keys).await.unwrap();
    assert_eq!(found, values.into_iter().map(Some).collect::<Vec<_>>());
}

async fn rule_7_an_empty_key_is_refused_before_anything_is_written(store: &impl Store) {
    let error = store.get_many(&["a", ""]).await.unwrap_err();
    assert_eq!((error.kind(), error.get("operation")), (ErrorKind::InvalidInput, Some("get_many")));
    for empty in [some("2"), None] {
        let error = store.write_many(&[("a", some("1")), ("", empty)]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.get("operation"), Some("write_many"));
        assert!(!error.is_retryable());
    }
    assert_eq!(store.get_many(&["a"]).await.unwrap(), [None]);
}

async fn rule_8_any_bytes_are_a_value(store: &impl Store) {
    let all: Vec<u8> = (0..=255).collect();
    let changes = [("empty", some("")), ("all", Some(all.clone().into()))];
    store.write_many(&changes).await.unwrap();
    let found = store.get_many(&["empty", "all"]).await.unwrap();
    assert_eq!(found, [some(""), Some(all.into())]);
}

async fn rule_9_a_write_can_be_made_again(store: &impl Store) {
    store.write_many(&[("a", some("0"))]).await.unwrap();
    for _ in 0..2 {
        store.write_many(&[("a", None), ("b", some("1"))]).await.unwrap();
        assert_eq!(store.get_many(&["a", "b"]).await.unwrap(), [None, some("1")]);
    }
}

async fn rule_10_calls_may_be_made_at_the_same_time(store: &impl Store) {
    let (one, two) = ([("a", some("1")), ("b", some("1"))], [("b", some("2")), ("a", some("2"))]);
    let (first, second, found) =
        tokio::join!(store.write_many(&one), store.write_many(&two), store.get_many(&["a", "b"]));
    first.unwrap();
    second.unwrap();
    for value in found.unwrap().into_iter().flatten() {
        assert!(value == "1" || value == "2");
    }
    for value in store.get_many(&["a", "b"]).await.unwrap() {
        assert!(value == some("1") || value == some("2"));
    }
}

async fn provided_methods_mean_the_same(store: &impl Store) {
    assert_eq!(store.get("a").await.unwrap(), None);
    store.put("a", "1").await.unwrap();
    store.put("b", vec![2]).await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), some("1"));
    store.delete("a").await.unwrap();
    store.delete("a").await.unwrap();
    assert_eq!(store.get_many(&["a", "b"]).await.unwrap(), [None, Some(vec![2].into())]);
    for refused in [store.get("").await.map(drop), store.put("", "1").await, store.delete("").await]
    {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    store.flush().await.unwrap();
}
