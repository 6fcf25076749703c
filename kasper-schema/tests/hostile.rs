//! Bytes and schemas that are broken or hostile: each is an error of its message.
#![cfg(feature = "avro")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod double;

use double::Double;
use kasper::codec::Decode;
use kasper::{Error, ErrorKind, Result};
use kasper_schema::{AvroDecoder, Registry, RegistryConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

async fn registry() -> (Double, Registry) {
    let double = Double::start().await;
    let registry = Registry::new(&RegistryConfig::new(&double.url)).unwrap();
    (double, registry)
}

/// Decodes these bytes of the writer's schema with the reader's.
async fn decode<T: DeserializeOwned>(writer: &str, bytes: &[u8], reader: &str) -> Result<T> {
    let (double, registry) = registry().await;
    let decoder = AvroDecoder::<T>::new(&registry, reader)?;
    let id = double.add_avro("a", writer);
    let bytes = [&[0][..], &id.to_be_bytes(), bytes].concat();
    decoder.load([&bytes[..]]).await?;
    decoder.decode(&bytes).map_err(|error| *error.downcast::<Error>().unwrap())
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
    let (double, registry) = registry().await;
    let field = json!({ "name": "a", "type": "long" });
    let decoder = AvroDecoder::<Value>::new(&registry, &record(&[field.clone()])).unwrap();
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
