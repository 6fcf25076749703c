//! Avro values: encoded, decoded, and resolved from other schemas.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod double;

use std::collections::BTreeMap;

use double::Double;
use kasper::codec::{Decode, Encode};
use kasper::{Error, ErrorKind, Result};
use kasper_schema::{AvroDecoder, AvroEncoder, Subject};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Writes with one schema and reads with another.
async fn evolve<W: Serialize, R: DeserializeOwned>(
    writer: &str,
    value: &W,
    reader: &str,
) -> Result<R> {
    let (_double, registry) = Double::with_registry().await;
    let encoder = AvroEncoder::new(&registry, Subject::named("x"), writer).await?;
    let bytes = encoder.encode(value).unwrap();
    let decoder = AvroDecoder::<R>::new(&registry, reader)?;
    decoder.load([&bytes[..]]).await?;
    decoder.decode(&bytes).map_err(|error| *error.downcast::<Error>().unwrap())
}

fn record(name: &str, fields: impl Serialize) -> String {
    json!({ "type": "record", "name": name, "namespace": "shop", "fields": fields }).to_string()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Size {
    Small,
    Large,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Address {
    city: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: i64,
    amount: f64,
    paid: bool,
    note: Option<String>,
    tags: Vec<String>,
    counts: BTreeMap<String, i32>,
    size: Size,
    from: Address,
    to: Option<Address>,
    at: i64,
}

fn order() -> Order {
    Order {
        id: -5,
        amount: 1.5,
        paid: true,
        note: Some("x".to_owned()),
        tags: vec!["a".to_owned(), "b".to_owned()],
        counts: BTreeMap::from([("one".to_owned(), 1)]),
        size: Size::Large,
        from: Address { city: "Zürich".to_owned() },
        to: None,
        at: 1_700_000_000_000,
    }
}

fn order_fields() -> Vec<Value> {
    let address = json!({ "type": "record", "name": "Address", "fields": [{ "name": "city", "type": "string" }] });
    vec![
        json!({ "name": "id", "type": "long" }),
        json!({ "name": "amount", "type": "double" }),
        json!({ "name": "paid", "type": "boolean" }),
        json!({ "name": "note", "type": ["null", "string"], "default": null }),
        json!({ "name": "tags", "type": { "type": "array", "items": "string" } }),
        json!({ "name": "counts", "type": { "type": "map", "values": "int" } }),
        json!({ "name": "size", "type": { "type": "enum", "name": "Size", "symbols": ["Small", "Large"] } }),
        json!({ "name": "from", "type": address }),
        json!({ "name": "to", "type": ["null", "Address"], "default": null }),
        json!({ "name": "at", "type": { "type": "long", "logicalType": "timestamp-millis" } }),
    ]
}

#[tokio::test]
async fn a_value_comes_back() {
    let schema = record("Order", json!(order_fields()));
    for order in
        [order(), Order { note: None, to: Some(Address { city: String::new() }), ..order() }]
    {
        assert_eq!(evolve::<_, Order>(&schema, &order, &schema).await.unwrap(), order);
        // The same, resolved: the other schema has one field more.
        let mut fields = order_fields();
        fields.insert(2, json!({ "name": "new", "type": "int", "default": 7 }));
        let newer = record("Order", json!(fields));
        assert_eq!(evolve::<_, Order>(&schema, &order, &newer).await.unwrap(), order);
    }
}

#[tokio::test]
async fn older_and_newer_versions_are_read() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "User")]
    struct Old {
        name: String,
        age: i32,
        gone: String,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename = "User")]
    struct New {
        age: i64,
        full_name: String,
        email: Option<String>,
        level: i32,
    }
    let old = record(
        "User",
        json!([
            { "name": "name", "type": "string" },
            { "name": "age", "type": "int" },
            { "name": "gone", "type": "string", "default": "-" },
        ]),
    );
    let new = record(
        "User",
        json!([
            { "name": "age", "type": "long" },
            { "name": "full_name", "aliases": ["name"], "type": "string" },
            { "name": "email", "type": ["null", "string"], "default": null },
            { "name": "level", "type": "int", "default": 3 },
        ]),
    );
    let written = Old { name: "Ada".to_owned(), age: 36, gone: "x".to_owned() };
    let expected = New { age: 36, full_name: "Ada".to_owned(), email: None, level: 3 };
    assert_eq!(evolve::<_, New>(&old, &written, &new).await.unwrap(), expected);
    // Backward, what has no default is missing.
    let error = evolve::<_, Old>(&new, &expected, &old).await.unwrap_err();
    assert_eq!((error.kind(), error.get("schema_id")), (ErrorKind::Decode, Some("1")));
    assert!(format!("{error:#}").contains("`name` is missing"), "{error:#}");
}

#[tokio::test]
async fn defaults_of_every_type_are_taken() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Empty {}
    let empty = record("Order", json!([]));
    let mut fields = order_fields();
    for (field, default) in fields.iter_mut().zip([
        json!(-5),
        json!(1.5),
        json!(true),
        json!(null),
        json!(["a", "b"]),
        json!({ "one": 1 }),
        json!("Large"),
        json!({ "city": "Zürich" }),
        json!(null),
        json!(1_700_000_000_000_i64),
    ]) {
        field["default"] = default;
    }
    let full = record("Order", json!(fields));
    let expected = Order { note: None, ..order() };
    assert_eq!(evolve::<_, Order>(&empty, &Empty {}, &full).await.unwrap(), expected);
}

#[tokio::test]
async fn default_bytes_are_one_for_each_character() {
    #[derive(Serialize)]
    struct Empty {}
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename = "R")]
    struct Raw {
        #[serde(with = "apache_avro::serde::bytes")]
        raw: Vec<u8>,
    }
    let raw = record("R", json!([{ "name": "raw", "type": "bytes", "default": "a\u{ff}" }]));
    let read = evolve::<_, Raw>(&record("R", json!([])), &Empty {}, &raw).await.unwrap();
    assert_eq!(read, Raw { raw: vec![b'a', 0xff] });
}

#[tokio::test]
async fn a_variant_keeps_its_name() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Cat {
        name: String,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Dog {
        name: String,
    }
    // In the order of the schema's variants.
    #[derive(Serialize)]
    enum OldPet {
        Dog(Dog),
        Cat(Cat),
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Pet {
        Cat(Cat),
        Dog(Dog),
    }
    #[derive(Serialize)]
    struct OldOwner {
        pet: OldPet,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Owner {
        pet: Pet,
    }
    let animal = |name: &str| json!({ "type": "record", "name": name, "fields": [{ "name": "name", "type": "string" }] });
    let old = record("Owner", json!([{ "name": "pet", "type": [animal("Dog"), animal("Cat")] }]));
    let new = record("Owner", json!([{ "name": "pet", "type": [animal("Cat"), animal("Dog")] }]));
    let name = || "Rex".to_owned();
    for (written, read) in [
        (OldPet::Dog(Dog { name: name() }), Pet::Dog(Dog { name: name() })),
        (OldPet::Cat(Cat { name: name() }), Pet::Cat(Cat { name: name() })),
    ] {
        let (written, read) = (OldOwner { pet: written }, Owner { pet: read });
        assert_eq!(evolve::<_, Owner>(&old, &written, &new).await.unwrap(), read);
        assert_eq!(evolve::<_, Owner>(&new, &read, &new).await.unwrap(), read);
    }
}

#[tokio::test]
async fn an_unknown_symbol_is_the_enums_default() {
    let size = |symbols: &[&str]| json!({ "type": "enum", "name": "Size", "symbols": symbols });
    let mut read = size(&["Large", "Small"]);
    let written = size(&["Small", "Large", "Huge"]);
    let huge = "Huge";
    #[derive(Serialize)]
    enum Written {
        Huge,
        Small,
    }
    let evolve_into = |value, read: &Value| {
        let (written, read) = (written.to_string(), read.to_string());
        async move { evolve::<_, Size>(&written, &value, &read).await }
    };
    assert_eq!(evolve_into(Written::Small, &read).await.unwrap(), Size::Small);
    let error = evolve_into(Written::Huge, &read).await.unwrap_err();
    assert!(format!("{error:#}").contains(huge), "{error:#}");
    read["default"] = json!("Large");
    assert_eq!(evolve_into(Written::Huge, &read).await.unwrap(), Size::Large);
}

#[tokio::test]
async fn numbers_are_widened_and_not_narrowed() {
    assert_eq!(evolve::<_, i64>(r#""int""#, &7_i32, r#""long""#).await.unwrap(), 7);
    assert_eq!(evolve::<_, f64>(r#""int""#, &7_i32, r#""double""#).await.unwrap(), 7.0);
    assert_eq!(
        evolve::<_, Option<i64>>(r#""int""#, &7_i32, r#"["null", "long"]"#).await.unwrap(),
        Some(7)
    );
    assert_eq!(evolve::<_, i64>(r#"["null", "int"]"#, &Some(7_i32), r#""long""#).await.unwrap(), 7);
    let error = evolve::<_, i64>(r#"["null", "int"]"#, &None::<i32>, r#""long""#).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Decode);
    let error = evolve::<_, i32>(r#""string""#, &"7", r#""int""#).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
}

#[tokio::test]
async fn another_record_is_refused_even_if_it_would_fit() {
    let fields = json!([{ "name": "city", "type": "string" }]);
    let address = Address { city: "x".to_owned() };
    let (written, read) = (record("Customer", fields.clone()), record("Address", fields.clone()));
    let error = evolve::<_, Address>(&written, &address, &read).await.unwrap_err();
    assert!(format!("{error:#}").contains("`shop.Customer` is not `shop.Address`"), "{error:#}");
    let read = json!({
        "type": "record", "name": "Address", "aliases": ["shop.Customer"], "fields": fields,
    });
    assert_eq!(evolve::<_, Address>(&written, &address, &read.to_string()).await.unwrap(), address);
}

#[tokio::test]
async fn a_recursive_schema_is_resolved() {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Node {
        value: i64,
        next: Option<Box<Node>>,
    }
    let fields = |value: &str| {
        json!([
            { "name": "value", "type": value },
            { "name": "next", "type": ["null", "Node"], "default": null },
        ])
    };
    #[derive(Serialize)]
    struct Small {
        value: i32,
        next: Option<Box<Small>>,
    }
    let small = Small { value: 1, next: Some(Box::new(Small { value: 2, next: None })) };
    let node = Node { value: 1, next: Some(Box::new(Node { value: 2, next: None })) };
    let (written, read) = (record("Node", fields("int")), record("Node", fields("long")));
    assert_eq!(evolve::<_, Node>(&written, &small, &read).await.unwrap(), node);
    assert_eq!(evolve::<_, Node>(&read, &node, &read).await.unwrap(), node);
}

#[tokio::test]
async fn a_schema_may_refer_to_other_subjects() {
    let (double, registry) = Double::with_registry().await;
    let address = record("Address", json!([{ "name": "city", "type": "shop.City" }]));
    let city = record("City", json!([{ "name": "name", "type": "string" }]));
    let reference = |subject: &str| json!([{ "name": "any", "subject": subject, "version": 1 }]);
    double.add_avro("city", &city);
    double.add("address", json!({ "schema": address, "references": reference("city") }));
    let order = record(
        "Order",
        json!([
            { "name": "from", "type": "shop.Address" }, { "name": "to", "type": "shop.City" },
        ]),
    );
    let references = json!([reference("address")[0], reference("city")[0]]);
    let id = double.add("order", json!({ "schema": order, "references": references }));

    #[derive(Debug, PartialEq, Deserialize)]
    struct City {
        name: String,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename = "Address")]
    struct From {
        city: City,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename = "Order")]
    struct Trip {
        from: From,
        to: City,
    }
    let own = record(
        "Order",
        json!([
            { "name": "from", "type": { "type": "record", "name": "Address", "fields": [
                { "name": "city", "type": { "type": "record", "name": "City", "fields": [{ "name": "name", "type": "string" }] } },
            ] } },
            { "name": "to", "type": "City" },
        ]),
    );
    let decoder = AvroDecoder::<Trip>::new(&registry, &own).unwrap();
    let bytes = [&[0][..], &id.to_be_bytes(), b"\x02a\x02b"].concat();
    decoder.load([&bytes[..]]).await.unwrap();
    let city = |name: &str| City { name: name.to_owned() };
    let trip: Trip = decoder.decode(&bytes).unwrap();
    assert_eq!(trip, Trip { from: From { city: city("a") }, to: city("b") });
}

#[tokio::test]
async fn bytes_left_over_or_missing_are_refused() {
    let (double, registry) = Double::with_registry().await;
    let own = double.add_avro("a", r#""string""#);
    let other = double.add_avro("b", r#""bytes""#);
    let decoder = AvroDecoder::<String>::new(&registry, r#""string""#).unwrap();
    for id in [own, other] {
        let frame = |rest: &[u8]| [&[0][..], &id.to_be_bytes(), rest].concat();
        decoder.load([&frame(b"")[..]]).await.unwrap();
        let decode = |bytes: Vec<u8>| Decode::<String>::decode(&decoder, &bytes);
        assert_eq!(decode(frame(b"\x02x")).unwrap(), "x");
        for broken in [&b""[..], b"\x04x", b"\x02xy", b"\x02\xff"] {
            assert!(decode(frame(broken)).is_err(), "{id} {broken:?}");
        }
    }
}

#[tokio::test]
async fn schemas_that_do_not_fit_are_told() {
    let (double, registry) = Double::with_registry().await;
    let decoder = AvroDecoder::<String>::new(&registry, r#""string""#).unwrap();
    let protobuf = double.add("p", json!({ "schema": "message A {}", "schemaType": "PROTOBUF" }));
    let broken = double.add_avro("b", "{");
    for (id, reason) in [(protobuf, "not Avro but PROTOBUF"), (broken, "can't be understood")] {
        let bytes = [&[0][..], &id.to_be_bytes()].concat();
        decoder.load([&bytes[..]]).await.unwrap();
        let error = decoder.decode(&bytes).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    for schema in ["", "{", r#"{"type":"record","name":"R","fields":[{"name":"a","type":"X"}]}"#] {
        let error = AvroDecoder::<String>::new(&registry, schema).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn a_value_that_does_not_fit_the_schema_is_not_encoded() {
    let (_double, registry) = Double::with_registry().await;
    let schema = record("Order", json!(order_fields()));
    let encoder = AvroEncoder::new(&registry, Subject::record_name(), &schema).await.unwrap();
    assert!(encoder.encode(&Address { city: "x".to_owned() }).is_err());
}

#[tokio::test]
async fn subjects_by_name_have_the_records_name() {
    let (double, registry) = Double::with_registry().await;
    let schema = record("Order", json!([]));
    for subject in [Subject::record_name(), Subject::topic_record_name("orders")] {
        AvroEncoder::<Order>::new(&registry, subject, &schema).await.unwrap();
    }
    let registrations = double.registrations();
    assert_eq!(
        registrations,
        ["/subjects/shop.Order/versions", "/subjects/orders-shop.Order/versions"]
    );
    let error = AvroEncoder::<str>::new(&registry, Subject::record_name(), r#""string""#).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
}
