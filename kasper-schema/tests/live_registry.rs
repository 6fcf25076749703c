//! Against a real registry, Apicurio's, by the API that Confluent's has too.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::process;
use std::time::Duration;

use kasper::codec::{Decode, Encode};
use kasper::{Error, ErrorKind};
use kasper_schema::{
    AvroDecoder, AvroEncoder, ProtobufDecoder, ProtobufEncoder, Registry, RegistryConfig, Subject,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

fn config() -> RegistryConfig {
    let url = std::env::var("KASPER_TEST_REGISTRY");
    RegistryConfig::new(url.expect("KASPER_TEST_REGISTRY: the URL of a schema registry"))
}

fn registering() -> Registry {
    Registry::new(&config().auto_register(true)).unwrap()
}

/// A topic, and with it subjects, of this run of this test alone.
fn topic(test: &str) -> String {
    format!("{test}-{}", process::id())
}

fn schema(topic: &str, fields: &serde_json::Value) -> String {
    let namespace = topic.replace('-', "_");
    json!({ "type": "record", "name": "User", "namespace": namespace, "fields": fields })
        .to_string()
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "User")]
struct Old {
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "User")]
struct New {
    name: String,
    age: i32,
}

fn old_schema(topic: &str) -> String {
    schema(topic, &json!([{ "name": "name", "type": "string" }]))
}

fn new_schema(topic: &str) -> String {
    let age = json!({ "name": "age", "type": "int", "default": -1 });
    schema(topic, &json!([{ "name": "name", "type": "string" }, age]))
}

#[tokio::test]
#[ignore = "needs a schema registry"]
async fn versions_of_a_subject_are_registered_looked_up_and_read() {
    let topic = topic("versions");
    let values = || Subject::topic_value(&topic);
    let look_up = Registry::new(&config()).unwrap();
    let error = AvroEncoder::<Old>::new(&look_up, values(), &old_schema(&topic)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::NotFound, false));
    assert_eq!(error.get("subject"), Some(format!("{topic}-value").as_str()));

    let registry = registering();
    let old = AvroEncoder::new(&registry, values(), &old_schema(&topic)).await.unwrap();
    let new = AvroEncoder::new(&registry, values(), &new_schema(&topic)).await.unwrap();
    assert_ne!(old.schema_id(), new.schema_id());
    // Again, and in other words, it is the same schema.
    let spaced = old_schema(&topic).replace(',', " ,\n ");
    for (registry, text) in [(&registry, &old_schema(&topic)), (&look_up, &spaced)] {
        let again = AvroEncoder::<Old>::new(registry, values(), text).await.unwrap();
        assert_eq!(again.schema_id(), old.schema_id());
    }
    // The first schema is found too, although the subject has a newer one, and the newer by both.
    let found = AvroEncoder::<New>::new(&look_up, values(), &new_schema(&topic)).await.unwrap();
    assert_eq!(found.schema_id(), new.schema_id());

    let ada = old.encode(&Old { name: "Ada".to_owned() }).unwrap();
    let grace = new.encode(&New { name: "Grace".to_owned(), age: 85 }).unwrap();
    let decoder = AvroDecoder::<New>::new(&look_up, &new_schema(&topic)).unwrap();
    decoder.load([&ada[..], &grace]).await.unwrap();
    let (ada, grace) = (decoder.decode(&ada).unwrap(), decoder.decode(&grace).unwrap());
    assert_eq!(ada, New { name: "Ada".to_owned(), age: -1 });
    assert_eq!(grace, New { name: "Grace".to_owned(), age: 85 });
}

#[tokio::test]
#[ignore = "needs a schema registry"]
async fn subjects_are_named_by_every_strategy() {
    let (topic, registry) = (topic("strategies"), registering());
    let text = old_schema(&topic);
    for subject in [
        Subject::topic_key(&topic),
        Subject::topic_value(&topic),
        Subject::record_name(),
        Subject::topic_record_name(&topic),
        Subject::named(format!("{topic} / ü?%")),
    ] {
        let look_up = Registry::new(&config()).unwrap();
        let missing = AvroEncoder::<Old>::new(&look_up, subject.clone(), &text).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing:?}");
        let registered = AvroEncoder::<Old>::new(&registry, subject.clone(), &text).await.unwrap();
        let found = AvroEncoder::<Old>::new(&look_up, subject, &text).await.unwrap();
        assert_eq!(found.schema_id(), registered.schema_id());
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Line {
    #[prost(string, tag = "1")]
    item: String,
}

impl prost::Name for Line {
    const NAME: &'static str = "Line";
    const PACKAGE: &'static str = "shop";

    fn full_name() -> String {
        "shop.Order.Line".to_owned()
    }
}

#[tokio::test]
#[ignore = "needs a schema registry"]
async fn protobuf_messages_are_read_by_their_id() {
    let (topic, registry) = (topic("protobuf"), registering());
    let file = r#"
        syntax = "proto3";
        package shop;
        message Customer { string name = 1; }
        message Order { map<string, int32> counts = 2; message Line { string item = 1; } }
    "#;
    let values = Subject::topic_value(&topic);
    let encoder = ProtobufEncoder::<Line>::new(&registry, values, file).await.unwrap();
    let line = Line { item: "x".to_owned() };
    let bytes = encoder.encode(&line).unwrap();
    let decoder = ProtobufDecoder::<Line>::new(&Registry::new(&config()).unwrap());
    decoder.load([&bytes[..]]).await.unwrap();
    assert_eq!(decoder.decode(&bytes).unwrap(), line);

    let avro = AvroDecoder::<Old>::new(&registry, &old_schema(&topic)).unwrap();
    avro.load([&bytes[..]]).await.unwrap();
    let error = avro.decode(&bytes).unwrap_err();
    assert!(error.to_string().contains("not Avro but PROTOBUF"), "{error}");
}

#[tokio::test]
#[ignore = "needs a schema registry"]
async fn refusals_are_told() {
    let (topic, registry) = (topic("refusals"), registering());
    let decoder = AvroDecoder::<Old>::new(&registry, &old_schema(&topic)).unwrap();
    let unknown = b"\0\x7f\xff\xff\xff\0";
    decoder.load([&unknown[..]]).await.unwrap();
    let error = *decoder.decode(unknown).unwrap_err().downcast::<Error>().unwrap();
    assert_eq!((error.kind(), error.get("schema_id")), (ErrorKind::NotFound, Some("2147483647")));

    // What this crate takes for a schema and the registry does not.
    let values = Subject::topic_value(&topic);
    let error = ProtobufEncoder::<Line>::new(
        &registry,
        values,
        "package shop; message Order { message Line { string item = 1",
    );
    let error = error.await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::InvalidInput, false), "{error:?}");

    let elsewhere = format!("{}/elsewhere", std::env::var("KASPER_TEST_REGISTRY").unwrap());
    let registry = Registry::new(&RegistryConfig::new(elsewhere)).unwrap();
    let decoder = AvroDecoder::<Old>::new(&registry, &old_schema(&topic)).unwrap();
    let error = decoder.load([&unknown[..]]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
}

#[tokio::test]
#[ignore = "needs a schema registry"]
async fn a_server_that_is_away_is_passed_over() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (topic, url) = (topic("away"), std::env::var("KASPER_TEST_REGISTRY").unwrap());
    let config = RegistryConfig::new(away).url(url).auto_register(true);
    let registry = Registry::new(&config.timeout(Duration::from_secs(60))).unwrap();
    let values = Subject::topic_value(&topic);
    let encoder = AvroEncoder::new(&registry, values, &old_schema(&topic)).await.unwrap();
    assert!(!encoder.encode(&Old { name: "Ada".to_owned() }).unwrap().is_empty());
}
