//! Avro values without parts, resolved: logical types, decimals, promotions.
#![cfg(feature = "avro")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod double;

use double::Double;
use kasper::Result;
use kasper_schema::Registry;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

/// Reads bytes of the writer's schema with the reader's.
async fn reread<R: DeserializeOwned>(writer: &Value, bytes: &[u8], reader: &Value) -> Result<R> {
    let (double, registry) = Double::with_registry().await;
    reread_with(&double, &registry, writer, bytes, reader).await
}

async fn reread_with<R: DeserializeOwned>(
    double: &Double,
    registry: &Registry,
    writer: &Value,
    bytes: &[u8],
    reader: &Value,
) -> Result<R> {
    double.decode_avro(registry, &writer.to_string(), bytes, &reader.to_string()).await
}

#[tokio::test]
async fn logical_types_are_resolved_as_what_they_stand_for() {
    let logical = |kind: &str, name: &str| json!({ "type": kind, "logicalType": name });
    let (millis, micros) =
        (logical("long", "timestamp-millis"), logical("long", "timestamp-micros"));
    let (date, time) = (logical("int", "date"), logical("int", "time-millis"));
    // With a union, the reader's schema is another one also where the logical type makes no difference.
    let or_null = |kind: &Value| json!(["null", kind]);
    for (writer, reader) in [
        (&millis, json!("long")),
        (&millis, micros.clone()),
        (&json!("long"), millis.clone()),
        (&json!("int"), millis.clone()),
        (&date, millis.clone()),
        (&date, json!("long")),
        (&logical("long", "local-timestamp-nanos"), millis.clone()),
    ] {
        assert_eq!(
            reread::<Option<i64>>(writer, b"\x0e", &or_null(&reader)).await.unwrap(),
            Some(7)
        );
    }
    assert_eq!(reread::<Option<i32>>(&date, b"\x0e", &or_null(&time)).await.unwrap(), Some(7));
    assert_eq!(reread::<f64>(&millis, b"\x0e", &json!("double")).await.unwrap(), 7.0);
    // The variant of the same physical type goes before one of a wider type.
    let union = json!(["double", "int"]);
    #[derive(Debug, PartialEq, Deserialize)]
    enum Number {
        Double(f64),
        Int(i32),
    }
    assert_eq!(reread::<Number>(&date, b"\x0e", &union).await.unwrap(), Number::Int(7));
    let text = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let bytes = [&[72][..], text.as_bytes()].concat();
    let uuid = logical("string", "uuid");
    for (writer, reader) in [(&uuid, json!("string")), (&json!("string"), uuid.clone())] {
        let read = reread::<Option<String>>(writer, &bytes, &or_null(&reader)).await.unwrap();
        assert_eq!(read.as_deref(), Some(text));
    }
    let duration = json!({ "type": "fixed", "name": "D", "size": 12, "logicalType": "duration" });
    let fixed = json!({ "type": "fixed", "name": "D", "size": 12 });
    for (writer, reader) in [(&duration, &fixed), (&fixed, &duration)] {
        reread::<IgnoredAny>(writer, b"abcdefghijkl", &or_null(reader)).await.unwrap();
    }
}

#[tokio::test]
async fn decimals_are_resolved_by_precision_and_scale() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename = "R")]
    struct Price {
        #[serde(with = "apache_avro::serde::bytes")]
        price: Vec<u8>,
    }
    let decimal = |precision: u32, scale: u32| json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale });
    let writer = |price: &Value| {
        json!({ "type": "record", "name": "R", "fields": [
        { "name": "price", "type": price }, { "name": "gone", "type": "int" },
    ] })
    };
    let reader = |price: &Value| json!({ "type": "record", "name": "R", "fields": [{ "name": "price", "type": price }] });
    // Java writes as few bytes as the number needs: here two, where 18 digits may need eight.
    let bytes = b"\x04\x01\x00\x00";
    let price = || Price { price: vec![1, 0] };
    let wide = decimal(18, 2);
    for (written, read) in [(&wide, &wide), (&wide, &json!("bytes")), (&json!("bytes"), &wide)] {
        assert_eq!(reread::<Price>(&writer(written), bytes, &reader(read)).await.unwrap(), price());
    }
    for other in [decimal(18, 3), decimal(10, 2)] {
        let error = reread::<Price>(&writer(&wide), bytes, &reader(&other)).await.unwrap_err();
        assert!(format!("{error:#}").contains("precision or scale"), "{error:#}");
    }
    let fixed = json!({ "type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "precision": 4, "scale": 2 });
    let read = reread::<Price>(&writer(&fixed), b"\xff\x00\x00", &reader(&fixed)).await.unwrap();
    assert_eq!(read, Price { price: vec![0xff, 0] });
}

#[tokio::test]
async fn only_avros_promotions_are_made() {
    let kinds =
        ["null", "boolean", "int", "long", "float", "double", "string", "bytes", "{F}", "{G}"];
    let schema = |kind: &str| match kind {
        "{F}" => json!({ "type": "fixed", "name": "F", "size": 1 }),
        "{G}" => json!({ "type": "fixed", "name": "F", "size": 2 }),
        kind => json!(kind),
    };
    let bytes = |kind: &str| match kind {
        "null" => &b""[..],
        "float" => &[0; 4],
        "double" => &[0; 8],
        "{G}" => &[0; 2],
        _ => b"\0",
    };
    let allowed = |from: &str, to: &str| {
        from == to
            || match from {
                "int" => ["long", "float", "double"].contains(&to),
                "long" => ["float", "double"].contains(&to),
                "float" => to == "double",
                "string" => to == "bytes",
                "bytes" => to == "string",
                _ => false,
            }
    };
    let (double, registry) = Double::with_registry().await;
    for (from, to) in kinds.iter().flat_map(|from| kinds.map(|to| (*from, to))) {
        // A reader's schema is another one with an alternative that never fits.
        let never = json!({ "type": "record", "name": "R", "fields": [] });
        let (writer, reader) = (schema(from), json!([never, schema(to)]));
        let read =
            reread_with::<IgnoredAny>(&double, &registry, &writer, bytes(from), &reader).await;
        assert_eq!(read.is_ok(), allowed(from, to), "{from} {to}: {:?}", read.err());
    }
}
