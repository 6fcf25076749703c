//! Protobuf messages by the id of their schema.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod double;

use double::Double;
use kasper::codec::{Decode, Encode};
use kasper::store::{MapStore, TypedStore};
use kasper::{Error, ErrorKind};
use kasper_schema::{Protobuf, ProtobufDecoder, ProtobufEncoder, Registry, Subject};
use serde_json::json;

const FILE: &str = r#"
    syntax = "proto3";
    package shop;
    message Customer { string name = 1; }
    message Order { int64 amount = 1; message Line { string item = 1; } }
"#;

macro_rules! message {
    ($name:ident, $full:literal, $field:ident: $type:ty, $kind:ident) => {
        #[derive(Clone, PartialEq, prost::Message)]
        struct $name {
            #[prost($kind, tag = "1")]
            $field: $type,
        }

        impl prost::Name for $name {
            const NAME: &'static str = stringify!($name);
            const PACKAGE: &'static str = "shop";

            fn full_name() -> String {
                $full.to_owned()
            }
        }
    };
}

message!(Customer, "shop.Customer", name: String, string);
message!(Order, "shop.Order", amount: i64, int64);
message!(Line, "shop.Order.Line", item: String, string);

async fn encoder<M: prost::Name>(registry: &Registry) -> ProtobufEncoder<M> {
    ProtobufEncoder::new(registry, Subject::topic_value("t"), FILE).await.unwrap()
}

fn error<M: std::fmt::Debug>(outcome: Result<M, kasper::BoxError>) -> Error {
    *outcome.unwrap_err().downcast::<Error>().unwrap()
}

#[tokio::test]
async fn messages_come_back_and_are_framed_as_by_other_clients() {
    let (_double, registry) = Double::with_registry().await;
    let (customers, orders, lines) = (
        encoder::<Customer>(&registry).await,
        encoder::<Order>(&registry).await,
        encoder::<Line>(&registry).await,
    );
    let customer = customers.encode(&Customer { name: "A".to_owned() }).unwrap();
    assert_eq!(customer[..], *b"\0\0\0\0\x01\0\x0a\x01A");
    let order = orders.encode(&Order { amount: 7 }).unwrap();
    assert_eq!(order[..], *b"\0\0\0\0\x01\x02\x02\x08\x07");
    let line = lines.encode(&Line { item: "x".to_owned() }).unwrap();
    assert_eq!(line[..], *b"\0\0\0\0\x01\x04\x02\0\x0a\x01x");

    let decoder = ProtobufDecoder::<Line>::new(&registry);
    decoder.load([&line[..]]).await.unwrap();
    assert_eq!(decoder.decode(&line).unwrap(), Line { item: "x".to_owned() });
    // A line would be decoded from a customer without complaint.
    for other in [&customer, &order] {
        let error = error(decoder.decode(other));
        assert_eq!(
            (error.kind(), error.get("expected")),
            (ErrorKind::Decode, Some("shop.Order.Line"))
        );
    }
    for broken in [&b"\0\0\0\0\x01"[..], b"\0\0\0\0\x01\x04\x02\0\x0a\x07x"] {
        assert_eq!(error(decoder.decode(broken)).kind(), ErrorKind::Decode);
    }
}

#[tokio::test]
async fn a_message_is_found_by_name_where_another_version_defines_it() {
    let (double, registry) = Double::with_registry().await;
    let older = "package shop; message Order { int64 amount = 1; }";
    let id = double.add("t", json!({ "schema": older, "schemaType": "PROTOBUF" }));
    let decoder = ProtobufDecoder::<Order>::new(&registry);
    for place in [&[0][..], &[2, 0]] {
        let bytes = [&[0][..], &id.to_be_bytes(), place, b"\x08\x07"].concat();
        decoder.load([&bytes[..]]).await.unwrap();
        assert_eq!(decoder.decode(&bytes).unwrap(), Order { amount: 7 });
    }
}

#[tokio::test]
async fn schemas_without_the_message_are_told() {
    let (double, registry) = Double::with_registry().await;
    let decoder = ProtobufDecoder::<Order>::new(&registry);
    let other = double.add("t", json!({ "schema": "message A {}", "schemaType": "PROTOBUF" }));
    let avro = double.add_avro("t", r#""string""#);
    for (id, reason) in [(other, "does not define `shop.Order`"), (avro, "not Protobuf but AVRO")] {
        let bytes = [&[0][..], &id.to_be_bytes(), &[0]].concat();
        decoder.load([&bytes[..]]).await.unwrap();
        let error = error(decoder.decode(&bytes));
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert!(error.to_string().contains(reason), "{error}");
    }
    let subject = Subject::record_name();
    let error =
        ProtobufEncoder::<Order>::new(&registry, subject, "message A {}").await.unwrap_err();
    assert_eq!((error.kind(), error.get("message")), (ErrorKind::InvalidInput, Some("shop.Order")));
}

#[tokio::test]
async fn subjects_by_name_have_the_messages_name() {
    let (double, registry) = Double::with_registry().await;
    for subject in [Subject::record_name(), Subject::topic_record_name("t")] {
        ProtobufEncoder::<Line>::new(&registry, subject, FILE).await.unwrap();
    }
    assert_eq!(
        double.registrations(),
        ["/subjects/shop.Order.Line/versions", "/subjects/t-shop.Order.Line/versions"]
    );
}

#[tokio::test]
async fn plain_messages_are_values_of_a_store() {
    let orders = TypedStore::new(MapStore::new(), Protobuf);
    orders.put("a", &Order { amount: 7 }).await.unwrap();
    assert_eq!(orders.get("a").await.unwrap(), Some(Order { amount: 7 }));
}
