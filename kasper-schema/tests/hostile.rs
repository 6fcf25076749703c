//! Bytes and schemas that are broken or hostile: each is an error of its message.
#![cfg(feature = "avro")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod double;

use double::Double;
use kasper::codec::Decode;
use kasper::{Error, ErrorKind, Result};
use kasper_schema::AvroDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Decodes these bytes of the writer's schema with the reader's.
async fn decode<T: DeserializeOwned>(writer: &str, bytes: &[u8], reader: &str) -> Result<T> {
    let (double, registry) = Double::with_registry().await;
    double.decode_avro(&registry, writer, bytes, reader).await
}

fn record(fields: &[Value]) -> String {
    json!({ "type": "record", "name": "R", "fields": fields }).to_string()
}

#[tokio::test]
async fn a_value_that_is_cut_off_is_refused() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct R<F> {
        a: i64,
        last: F,
    }
    async fn check<F: DeserializeOwned + PartialEq + std::fmt::Debug>(
        kind: Value,
        bytes: &[u8],
        value: F,
    ) {
        let mut fields =
            vec![json!({ "name": "a", "type": "long" }), json!({ "name": "last", "type": kind })];
        let writer = record(&fields);
        fields.push(json!({ "name": "n", "type": "int", "default": 0 }));
        let expected = R { a: 1, last: value };
        for reader in [&writer, &record(&fields)] {
            let read = decode::<R<F>>(&writer, bytes, reader).await;
            assert_eq!(read.unwrap(), expected, "{reader}");
            for end in 0..bytes.len() {
                let error = decode::<R<F>>(&writer, &bytes[..end], reader).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Decode, "{end} {reader}");
            }
        }
    }
    check(json!(["null", "string"]), b"\x02\x00", None::<String>).await;
    check(json!(["null", "string"]), b"\x02\x02\x04ab", Some("ab".to_owned())).await;
    check(json!(["null", "boolean"]), b"\x02\x02\x01", Some(true)).await;
    check(json!("string"), b"\x02\x04ab", "ab".to_owned()).await;
    check(json!("boolean"), b"\x02\x01", true).await;
    // A reader's union takes what the writer has without one: null, too, if it is taken for a missing value.
    for (kind, whole) in [("string", &b"\x02\x02x"[..]), ("boolean", b"\x02\x01")] {
        let fields = |kind: Value| {
            record(&[
                json!({ "name": "a", "type": "long" }),
                json!({ "name": "last", "type": kind }),
            ])
        };
        let (writer, reader) = (fields(json!(kind)), fields(json!(["null", kind])));
        assert!(decode::<R<Option<Value>>>(&writer, whole, &reader).await.is_ok());
        for end in 0..whole.len() {
            let read = decode::<R<Option<Value>>>(&writer, &whole[..end], &reader);
            assert_eq!(read.await.unwrap_err().kind(), ErrorKind::Decode, "{kind} {end}");
        }
    }
}

#[tokio::test]
async fn a_schema_that_apache_avro_panics_at_is_refused() {
    let (double, registry) = Double::with_registry().await;
    let field = json!({ "name": "a", "type": "long" });
    let decoder =
        AvroDecoder::<Value>::new(&registry, &record(std::slice::from_ref(&field))).unwrap();
    let load = async |id: u32| {
        let bytes = [&[0][..], &id.to_be_bytes(), b"\x02"].concat();
        decoder.load([&bytes[..]]).await.unwrap();
        let read: Result<Value, _> = decoder.decode(&bytes);
        let error = *read.unwrap_err().downcast::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::Decode);
    };
    for (key, value) in [("size", json!("max")), ("precision", json!(null)), ("scale", json!(1.5))]
    {
        let mut field = field.clone();
        field[key] = value;
        let schema = record(&[field]);
        load(double.add_avro("a", &schema)).await;
        let error = AvroDecoder::<Value>::new(&registry, &schema).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{key}");
    }
    // A referenced schema that does not define the name that it is there for.
    let int = double.add_avro("int", "\"int\"");
    assert!(int > 0);
    for name in ["int", "other"] {
        double
            .add_avro("other", &json!({ "type": "fixed", "name": "Other", "size": 1 }).to_string());
        let references = json!([{ "name": "x.Y", "subject": name, "version": 1 }]);
        let schema = record(&[json!({ "name": "a", "type": "x.Y" })]);
        load(double.add("r", json!({ "schema": schema, "references": references }))).await;
    }
}

/// A list of `length` nodes.
fn list(length: usize) -> Vec<u8> {
    let mut bytes = b"\x02\x02".repeat(length - 1);
    bytes.extend(b"\x02\x00");
    bytes
}

#[derive(Debug, Deserialize)]
struct Node {
    value: i64,
    next: Option<Box<Node>>,
}

fn node(value: &str) -> String {
    let fields = [
        json!({ "name": "value", "type": value }),
        json!({ "name": "next", "type": ["null", "Node"] }),
    ];
    json!({ "type": "record", "name": "Node", "fields": fields }).to_string()
}

/// In a debug build, `apache-avro` needs more stack for 128 levels than threads have.
#[test]
fn a_value_that_is_nested_too_deeply_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = move || runtime.block_on(deeply_nested_values());
    std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap().join().unwrap();
}

async fn deeply_nested_values() {
    let (long, int) = (node("long"), node("int"));
    let outer = |node: &str| {
        let node: Value = serde_json::from_str(node).unwrap();
        record(&[json!({ "name": "a", "type": "long" }), json!({ "name": "gone", "type": node })])
    };
    for writer in [&long, &int] {
        let read: Node = decode(writer, &list(128), &long).await.unwrap();
        let length = std::iter::successors(Some(&read), |node| node.next.as_deref()).count();
        assert_eq!((length, read.value), (128, 1));
        for length in [129, 1_000_000] {
            let error = decode::<Node>(writer, &list(length), &long).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
            assert!(format!("{error:#}").contains("nested"), "{error:#}");
        }
    }
    // The reader's schema may lack the field.
    #[derive(Debug, Deserialize)]
    struct R {
        a: i64,
    }
    let without = record(&[json!({ "name": "a", "type": "long" })]);
    let value = |length: usize| [b"\x02", &list(length)[..]].concat();
    assert_eq!(decode::<R>(&outer(&long), &value(127), &without).await.unwrap().a, 1);
    assert!(decode::<R>(&outer(&long), &value(1_000_000), &without).await.is_err());
    // A record that only contains itself has no end.
    let endless =
        json!({ "type": "record", "name": "E", "fields": [{ "name": "e", "type": "E" }] });
    assert!(decode::<Value>(&endless.to_string(), b"", &without).await.is_err());
    let array = json!({ "type": "record", "name": "T", "fields": [
        { "name": "t", "type": { "type": "array", "items": "T" } },
    ] });
    let deep = b"\x02".repeat(1_000_000);
    assert!(decode::<Value>(&array.to_string(), &deep, &array.to_string()).await.is_err());
}

#[tokio::test]
async fn values_without_bytes_are_limited() {
    #[derive(Debug, Deserialize)]
    struct Empty {
        #[serde(rename = "n")]
        _n: (),
    }
    let empty =
        json!({ "type": "record", "name": "Empty", "fields": [{ "name": "n", "type": "null" }] });
    items_without_bytes::<()>(&json!("null")).await;
    items_without_bytes::<Empty>(&empty).await;
}

async fn items_without_bytes<I: DeserializeOwned + std::fmt::Debug>(item: &Value) {
    #[derive(Debug, Deserialize)]
    struct R<I> {
        items: Vec<I>,
    }
    #[derive(Debug, Deserialize)]
    #[serde(rename = "R")]
    struct Without {}
    let items = json!({ "name": "items", "type": { "type": "array", "items": item } });
    let (own, without) = (record(&[items]), record(&[]));
    // 3 items, then none.
    assert_eq!(decode::<R<I>>(&own, b"\x06\x00", &own).await.unwrap().items.len(), 3);
    decode::<Without>(&own, b"\x06\x00", &without).await.unwrap();
    // 5 million items, in either form of a block, then none.
    for bytes in [&b"\x80\xad\xe2\x04\x00"[..], b"\xff\xac\xe2\x04\x00\x00"] {
        let errors = [
            decode::<R<I>>(&own, bytes, &own).await.unwrap_err(),
            decode::<Without>(&own, bytes, &without).await.unwrap_err(),
        ];
        for error in errors {
            assert!(format!("{error:#}").contains("no bytes"), "{error:#}");
        }
    }
}
