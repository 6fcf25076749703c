//! Codecs: for stores and for messages, and what is said of data that they can't decode.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;

use kasper::codec::{Codec, Json};
use kasper::store::{AnyStore, MapStore, Store, TypedStore};
use kasper::testkit::{ProcessorTester, TestMessage};
use kasper::{Batch, BoxError, Context, Error, ErrorKind, OutgoingMessage, Processor};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Profile {
    name: String,
    visits: u64,
}

fn ada() -> Profile {
    Profile { name: "Ada".to_owned(), visits: 3 }
}

#[tokio::test]
async fn a_typed_store_answers_as_the_store_does() {
    let bytes = MapStore::new();
    let store: TypedStore<_, _, Profile> = TypedStore::new(bytes.clone(), Json);
    store.write_many(&[("a", Some(ada())), ("b", Some(ada())), ("b", None)]).await.unwrap();
    assert_eq!(bytes.snapshot()["a"], r#"{"name":"Ada","visits":3}"#);
    let found = store.get_many(&["b", "a", "b", "a"]).await.unwrap();
    assert_eq!(found, [None, Some(ada()), None, Some(ada())]);
    store.delete("a").await.unwrap();
    assert_eq!(store.clone().get("a").await.unwrap(), None);
    store.flush().await.unwrap();
    assert!(store.inner().is_empty());
}

#[tokio::test]
async fn a_value_that_is_none_names_its_key_and_the_cause() {
    let bytes = AnyStore::new(MapStore::new());
    let store: TypedStore<_, _, Profile> = TypedStore::new(bytes.clone(), Json);
    store.put("good", &ada()).await.unwrap();
    bytes.put("bad", r#"{"name": 1}"#).await.unwrap();
    for error in
        [store.get("bad").await.unwrap_err(), store.get_many(&["good", "bad"]).await.unwrap_err()]
    {
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Decode, false));
        assert_eq!((error.get("key"), error.get("operation")), (Some("bad"), Some("get_many")));
        let cause = error.find::<serde_json::Error>().unwrap();
        assert!(cause.to_string().contains("expected a string"), "{cause}");
    }
}

#[tokio::test]
async fn nothing_is_written_if_one_value_has_no_bytes() {
    let bytes = MapStore::new();
    let store = TypedStore::new(bytes.clone(), Json);
    let good: HashMap<(u8, u8), u8> = HashMap::new();
    let bad = HashMap::from([((1, 2), 3)]);
    let error = store.write_many(&[("good", Some(good)), ("bad", Some(bad))]).await.unwrap_err();
    assert_eq!((error.kind(), error.get("key")), (ErrorKind::InvalidInput, Some("bad")));
    assert!(bytes.is_empty());
}

#[test]
fn a_reference_to_a_codec_is_one() {
    fn round<C: Codec<Profile>>(codec: C) -> Profile {
        codec.decode(&codec.encode(&ada()).unwrap()).unwrap()
    }
    fn borrowed(codec: &impl Codec<Profile>) -> Profile {
        round(codec)
    }
    assert_eq!(borrowed(&Json), ada());
}

/// Sends each profile on with one more visit, under a key that is a number.
struct Visit;

impl Processor for Visit {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for message in batch.iter() {
            let number: Option<u32> = message.decode_key(Json)?;
            let Some(mut profile) = message.decode::<Profile>(Json)? else {
                context.send_encoded(OutgoingMessage::new("gone"), &number, Json)?;
                continue;
            };
            profile.visits += 1;
            let outgoing = OutgoingMessage::new("visits").key(message.key());
            context.send_encoded(outgoing, &profile, Json)?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn messages_are_decoded_and_encoded() {
    let mut tester = ProcessorTester::new(["profiles"], |_| Visit);
    tester.push(TestMessage::new("profiles").key("7").value(r#"{"name":"Ada","visits":3}"#));
    tester.push(TestMessage::tombstone("profiles", "8"));
    tester.push(TestMessage::new("profiles"));
    tester.run_all().await.unwrap();
    let sent = tester.take_outgoing();
    let sent: Vec<_> = sent.iter().map(|m| (&*m.topic, m.value_text().unwrap())).collect();
    let visited = r#"{"name":"Ada","visits":4}"#;
    assert_eq!(sent, [("visits", visited), ("gone", "8"), ("gone", "null")]);
}

#[tokio::test]
async fn a_message_that_is_none_is_named_by_its_place_and_not_by_its_bytes() {
    for (key, value, part, cause) in [
        ("1", "secret", "value", "expected value"),
        ("secret", r#"{"name":"Ada","visits":3}"#, "key", "expected value"),
    ] {
        let mut tester = ProcessorTester::new(["profiles"], |_| Visit);
        tester.push(TestMessage::new("profiles").key("1").value(r#"{"name":"x","visits":0}"#));
        tester.run_all().await.unwrap();
        tester.push(TestMessage::new("profiles").key(key).value(value));
        let error = tester.run_all().await.unwrap_err();
        assert!(!error.is_retryable());
        let inner = error.find::<Error>().unwrap();
        assert_eq!(inner.kind(), ErrorKind::Decode);
        assert!(inner.to_string().contains(part), "{inner}");
        let place = ["topic", "partition", "offset"].map(|name| inner.get(name).unwrap());
        assert_eq!(place, ["profiles", "0", "1"]);
        let text = format!("{error:?}");
        assert!(text.contains(cause) && !text.contains("secret"), "{text}");
    }
}

/// Sends what JSON can't say.
struct Unspeakable;

impl Processor for Unspeakable {
    async fn process(&mut self, _: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let value = HashMap::from([((1, 2), 3)]);
        let sent = context.send_encoded(OutgoingMessage::new("out"), &value, Json);
        assert_eq!(context.pending(), 0);
        Ok(sent?)
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_sent_is_an_error_that_names_the_topic() {
    let mut tester = ProcessorTester::new(["in"], |_| Unspeakable);
    tester.push(TestMessage::new("in").value("x"));
    let error = tester.run_all().await.unwrap_err();
    let inner = error.find::<Error>().unwrap();
    assert_eq!((inner.kind(), inner.get("topic")), (ErrorKind::InvalidInput, Some("out")));
}
