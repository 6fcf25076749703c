//! The rules of [`Store`].

use bytes::Bytes;

use super::{Names, Profile};
use crate::error::{Error, ErrorKind};
use crate::store::Store;

/// Checks that a store keeps the [rules of `Store`](Store#rules).
///
/// # Panics
/// The store breaks a rule; the message names it.
///
/// ```
/// use kasper::store::Store;
/// use kasper::testkit::conformance::{Profile, check_store};
/// use kasper::{Bytes, Result};
///
/// /// Forgets what it is told.
/// struct Forgetful;
///
/// impl Store for Forgetful {
///     async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
///         Ok(vec![None; keys.len()])
///     }
///
///     async fn write_many(&self, _: &[(&str, Option<Bytes>)]) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let check = tokio::spawn(async { check_store(&Forgetful, &Profile::default()).await });
/// let panic = check.await.unwrap_err().into_panic();
/// assert!(panic.downcast_ref::<String>().unwrap().contains("rule 1"));
/// # }
/// ```
pub async fn check_store<S: Store>(store: &S, profile: &Profile) {
    rule_1_get_many_answers_by_position(store, profile).await;
    rule_2_a_missing_key_is_none(store, profile).await;
    rule_3_what_was_written_is_found(store, profile).await;
    rule_4_writing_sets_and_deletes(store, profile).await;
    rule_5_the_last_change_of_a_key_counts(store, profile).await;
    rule_6_empty_calls_are_ok(store).await;
    rule_7_any_text_but_the_empty_is_a_key(store, profile).await;
    rule_7_an_empty_key_is_refused_before_anything_is_written(store, profile).await;
    rule_7_a_key_over_the_limit_is_refused(store, profile).await;
    rule_8_values_come_back_byte_for_byte(store, profile).await;
    rule_8_a_value_over_the_limit_is_refused(store, profile).await;
    rule_9_a_write_can_be_made_again(store, profile).await;
    rule_10_calls_may_be_made_at_the_same_time(store, profile).await;
    rule_12_many_keys_go_in_one_call(store, profile).await;
    rule_13_one_key_means_the_same(store, profile).await;
}

async fn read(rule: &str, store: &impl Store, keys: &[&str]) -> Vec<Option<Bytes>> {
    let found = store.get_many(keys).await;
    found.unwrap_or_else(|error| panic!("{rule}: get_many failed: {error:?}"))
}

async fn write(rule: &str, store: &impl Store, changes: &[(&str, Option<Bytes>)]) {
    let written = store.write_many(changes).await;
    written.unwrap_or_else(|error| panic!("{rule}: write_many failed: {error:?}"));
}

fn refused<T>(rule: &str, operation: &str, result: Result<T, Error>) -> Error {
    let Err(error) = result else { panic!("{rule}: {operation} was to be refused") };
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{rule}: the kind of {error}");
    assert_eq!(error.get("operation"), Some(operation), "{rule}: the operation in {error}");
    assert!(!error.is_retryable(), "{rule}: {error} is no use to retry");
    error
}

async fn rule_1_get_many_answers_by_position(store: &impl Store, profile: &Profile) {
    let (rule, names) = ("rule 1", Names::new("1"));
    let (a, b, missing) = (names.get("a"), names.get("b"), names.get("x"));
    write(rule, store, &[(&a, profile.some("1")), (&b, profile.some("2"))]).await;
    let found = read(rule, store, &[&b, &missing, &a, &b]).await;
    assert_eq!(found, [profile.some("2"), None, profile.some("1"), profile.some("2")], "{rule}");
}

async fn rule_2_a_missing_key_is_none(store: &impl Store, profile: &Profile) {
    let (rule, key) = ("rule 2", Names::new("2").get("a"));
    assert_eq!(read(rule, store, &[&key]).await, [None], "{rule}: never written");
    write(rule, store, &[(&key, profile.some("1"))]).await;
    write(rule, store, &[(&key, None)]).await;
    assert_eq!(read(rule, store, &[&key]).await, [None], "{rule}: deleted");
}

async fn rule_3_what_was_written_is_found(store: &impl Store, profile: &Profile) {
    let (rule, key) = ("rule 3", Names::new("3").get("a"));
    for value in ["1", "2", "3"] {
        write(rule, store, &[(&key, profile.some(value))]).await;
        assert_eq!(read(rule, store, &[&key]).await, [profile.some(value)], "{rule}");
    }
}

async fn rule_4_writing_sets_and_deletes(store: &impl Store, profile: &Profile) {
    let (rule, names) = ("rule 4", Names::new("4"));
    let [a, b, c, missing] = ["a", "b", "c", "x"].map(|name| names.get(name));
    write(rule, store, &[(&a, profile.some("1")), (&b, profile.some("2"))]).await;
    let changes = [(&*a, profile.some("3")), (&b, None), (&c, profile.some("4")), (&missing, None)];
    write(rule, store, &changes).await;
    let found = read(rule, store, &[&a, &b, &c, &missing]).await;
    assert_eq!(found, [profile.some("3"), None, profile.some("4"), None], "{rule}");
}

async fn rule_5_the_last_change_of_a_key_counts(store: &impl Store, profile: &Profile) {
    let (rule, names) = ("rule 5", Names::new("5"));
    let (set, deleted) = (names.get("set"), names.get("deleted"));
    let changes = [
        (&*set, profile.some("1")),
        (&deleted, profile.some("1")),
        (&set, None),
        (&set, profile.some("2")),
        (&deleted, None),
    ];
    write(rule, store, &changes).await;
    assert_eq!(read(rule, store, &[&set, &deleted]).await, [profile.some("2"), None], "{rule}");
}

async fn rule_6_empty_calls_are_ok(store: &impl Store) {
    assert!(read("rule 6", store, &[]).await.is_empty(), "rule 6");
    write("rule 6", store, &[]).await;
}

async fn rule_7_any_text_but_the_empty_is_a_key(store: &impl Store, profile: &Profile) {
    let (rule, names) = ("rule 7", Names::new("7"));
    let odd =
        ["a", "A", " a", "a ", "a/b", "/", "..", "*", "é", "e\u{301}", "a\n\t\0", "日本", "\""];
    // At the beginning, too, where some backends give characters a meaning.
    let odd = odd.iter().flat_map(|text| [names.get(text), format!("{text}{}", names.get(""))]);
    let longest = "k".repeat(profile.max_key_bytes.unwrap_or(10_000));
    let keys: Vec<String> = odd.chain([format!("{}{longest}", names.get(""))]).collect();
    let longest = profile.max_key_bytes.unwrap_or(usize::MAX);
    let keys: Vec<&str> = keys.iter().map(|key| &key[..key.len().min(longest)]).collect();
    let values: Vec<_> = (0..keys.len()).map(|index| profile.some(&index.to_string())).collect();
    let changes: Vec<_> = keys.iter().copied().zip(values.iter().cloned()).collect();
    write(rule, store, &changes).await;
    let found = read(rule, store, &keys).await;
    for ((key, value), found) in changes.iter().zip(found) {
        assert_eq!(found, *value, "{rule}: the key {key:?}");
    }
}

async fn rule_7_an_empty_key_is_refused_before_anything_is_written(
    store: &impl Store,
    profile: &Profile,
) {
    let (rule, key) = ("rule 7, the empty key", Names::new("7e").get("a"));
    refused(rule, "get_many", store.get_many(&[&key, ""]).await);
    for empty in [profile.some("2"), None] {
        let changes = [(&*key, profile.some("1")), ("", empty)];
        refused(rule, "write_many", store.write_many(&changes).await);
    }
    assert_eq!(read(rule, store, &[&key]).await, [None], "{rule}: nothing is written");
}

async fn rule_7_a_key_over_the_limit_is_refused(store: &impl Store, profile: &Profile) {
    let Some(limit) = profile.max_key_bytes else { return };
    let (rule, key) = ("rule 7, a long key", Names::new("7l").get("a"));
    let long = "k".repeat(limit + 1);
    refused(rule, "get_many", store.get_many(&[&long]).await);
    let changes = [(&*key, profile.some("1")), (&*long, profile.some("2"))];
    let error = refused(rule, "write_many", store.write_many(&changes).await);
    assert_eq!(error.get("limit"), Some(&*limit.to_string()), "{rule}: the limit in {error}");
    let named = error.get("key").is_some_and(|key| key.starts_with("kkk"));
    assert!(named, "{rule}: the key in {error}");
    assert_eq!(read(rule, store, &[&key]).await, [None], "{rule}: nothing is written");
}

async fn rule_8_values_come_back_byte_for_byte(store: &impl Store, profile: &Profile) {
    let (rule, names) = ("rule 8", Names::new("8"));
    let long = profile.max_value_bytes.unwrap_or(1 << 20).min(1 << 20);
    let values: Vec<Bytes> = match profile.json_values {
        true => vec![
            "{\"b\":1,  \"a\" : [1.0, 1e2, -0.0, \"\\u00e9é\", null]\n}".into(),
            format!("{{\"text\":\"{}\"}}", "x".repeat(long - 11)).into(),
        ],
        false => vec!["".into(), (0..=255).collect(), (0..=255).cycle().take(long).collect()],
    };
    let keys: Vec<String> = (0..values.len()).map(|index| names.get(&index.to_string())).collect();
    let changes: Vec<_> =
        keys.iter().map(String::as_str).zip(values.iter().cloned().map(Some)).collect();
    write(rule, store, &changes).await;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for (found, value) in read(rule, store, &keys).await.into_iter().zip(values) {
        // Not by assert_eq, which would print a megabyte.
        let found =
            found.unwrap_or_else(|| panic!("{rule}: a value of {} bytes is lost", value.len()));
        assert!(found == value, "{rule}: a value of {} bytes came back changed", value.len());
    }
    if profile.json_values {
        let (good, bad) = (names.get("good"), names.get("bad"));
        let changes = [(&*good, profile.some("1")), (&*bad, Some("{\"a\":".into()))];
        let error = refused(rule, "write_many", store.write_many(&changes).await);
        assert_eq!(error.get("key"), Some(&*bad), "{rule}: the key in {error}");
        assert_eq!(read(rule, store, &[&good]).await, [None], "{rule}: nothing is written");
    }
}

async fn rule_8_a_value_over_the_limit_is_refused(store: &impl Store, profile: &Profile) {
    let Some(limit) = profile.max_value_bytes.filter(|limit| *limit <= 100 << 20) else { return };
    let (rule, names) = ("rule 8, a long value", Names::new("8l"));
    let (good, bad) = (names.get("good"), names.get("bad"));
    let long = format!("\"{}\"", "v".repeat(limit - 1));
    let changes = [(&*good, profile.some("1")), (&*bad, Some(long.into()))];
    let error = refused(rule, "write_many", store.write_many(&changes).await);
    assert_eq!(error.get("key"), Some(&*bad), "{rule}: the key in {error}");
    assert_eq!(error.get("limit"), Some(&*limit.to_string()), "{rule}: the limit in {error}");
    assert_eq!(read(rule, store, &[&good]).await, [None], "{rule}: nothing is written");
}

async fn rule_9_a_write_can_be_made_again(store: &impl Store, profile: &Profile) {
    let (rule, names) = ("rule 9", Names::new("9"));
    let (a, b) = (names.get("a"), names.get("b"));
    write(rule, store, &[(&a, profile.some("0"))]).await;
    for _ in 0..2 {
        write(rule, store, &[(&a, None), (&b, profile.some("1"))]).await;
        assert_eq!(read(rule, store, &[&a, &b]).await, [None, profile.some("1")], "{rule}");
    }
}

async fn rule_10_calls_may_be_made_at_the_same_time(store: &impl Store, profile: &Profile) {
    let (rule, names) = ("rule 10", Names::new("10"));
    let (a, b) = (names.get("a"), names.get("b"));
    let one = [(&*a, profile.some("1")), (&b, profile.some("1"))];
    let two = [(&*b, profile.some("2")), (&a, profile.some("2"))];
    let keys = [&*a, &*b];
    let ((), (), found) =
        tokio::join!(write(rule, store, &one), write(rule, store, &two), read(rule, store, &keys));
    let is_written = |value: &Bytes| *value == profile.value("1") || *value == profile.value("2");
    assert!(found.iter().flatten().all(is_written), "{rule}: meanwhile");
    let after = read(rule, store, &keys).await;
    assert!(after.iter().all(|value| value.as_ref().is_some_and(is_written)), "{rule}: afterwards");
}

async fn rule_12_many_keys_go_in_one_call(store: &impl Store, profile: &Profile) {
    let (rule, names) = ("rule 12", Names::new("12"));
    let keys: Vec<String> =
        (0..profile.many_keys).map(|index| names.get(&index.to_string())).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let values = (0..keys.len()).map(|index| profile.some(&index.to_string()));
    let changes: Vec<_> = keys.iter().copied().zip(values).collect();
    write(rule, store, &changes).await;
    let found = read(rule, store, &keys).await;
    assert_eq!(found.len(), keys.len(), "{rule}");
    for ((key, value), found) in changes.iter().zip(found) {
        assert_eq!(found, *value, "{rule}: {key}");
    }
    let deletions: Vec<_> = keys.iter().map(|key| (*key, None)).collect();
    write(rule, store, &deletions).await;
    assert!(read(rule, store, &keys).await.iter().all(Option::is_none), "{rule}: deleted");
}

async fn rule_13_one_key_means_the_same(store: &impl Store, profile: &Profile) {
    let (rule, names) = ("rule 13", Names::new("13"));
    let (a, b) = (names.get("a"), names.get("b"));
    let get = async |key: &str| {
        store.get(key).await.unwrap_or_else(|error| panic!("{rule}: get failed: {error:?}"))
    };
    assert_eq!(get(&a).await, None, "{rule}");
    for key in [&a, &b] {
        let put = store.put(key, profile.value("1")).await;
        put.unwrap_or_else(|error| panic!("{rule}: put failed: {error:?}"));
    }
    assert_eq!(get(&a).await, profile.some("1"), "{rule}");
    for _ in 0..2 {
        let deleted = store.delete(&a).await;
        deleted.unwrap_or_else(|error| panic!("{rule}: delete failed: {error:?}"));
    }
    assert_eq!(read(rule, store, &[&a, &b]).await, [None, profile.some("1")], "{rule}");
    refused(rule, "get_many", store.get("").await);
    refused(rule, "write_many", store.put("", profile.value("1")).await);
    refused(rule, "write_many", store.delete("").await);
    store.flush().await.unwrap_or_else(|error| panic!("{rule}: flush failed: {error:?}"));
    assert_eq!(get(&b).await, profile.some("1"), "{rule}: after flush");
}
