//! A processor whose keys and values are Avro.
#![cfg(feature = "avro")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod double;

use std::sync::{Arc, Mutex};

use double::Double;
use kasper::codec::Encode;
use kasper::testkit::{ProcessorTester, TestMessage};
use kasper::{Batch, BoxError, Context, Error, Processor, Result};
use kasper_schema::{AvroDecoder, AvroEncoder, Registry, RegistryConfig, Subject};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Address {
    city: String,
}

/// A key, and a value or what is told of it.
type Seen = Arc<Mutex<Vec<(Option<i64>, String)>>>;

/// Skips messages that cannot be decoded.
struct Collect {
    keys: AvroDecoder<i64>,
    values: AvroDecoder<Address>,
    seen: Seen,
}

impl Processor for Collect {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        self.keys.load_keys(batch.iter()).await?;
        self.values.load_values(batch.iter()).await?;
        for message in batch.iter() {
            let key = message.decode_key(&self.keys)?;
            let seen = match message.decode(&self.values) {
                Ok(address) => address.map_or_else(String::new, |address| address.city),
                Err(error) => {
                    let cause = error.find::<Error>().unwrap();
                    format!("{} {}", error.get("offset").unwrap(), cause.get("schema_id").unwrap())
                }
            };
            self.seen.lock().unwrap().push((key, seen));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_processor_decodes_keys_and_values_and_skips_what_it_cannot() {
    let double = Double::start().await;
    let registry = Registry::new(&RegistryConfig::new(&double.url).auto_register(true)).unwrap();
    let schema = r#"{"type":"record","name":"Address","fields":[{"name":"city","type":"string"}]}"#;
    let keys =
        AvroEncoder::<i64>::new(&registry, Subject::topic_key("t"), r#""long""#).await.unwrap();
    let values = AvroEncoder::new(&registry, Subject::topic_value("t"), schema).await.unwrap();
    let seen = Seen::default();
    let mut tester = ProcessorTester::new(["t"], {
        let (seen, registry) = (seen.clone(), registry.clone());
        move |_| Collect {
            keys: AvroDecoder::new(&registry, r#""long""#).unwrap(),
            values: AvroDecoder::new(&registry, schema).unwrap(),
            seen: seen.clone(),
        }
    });
    let value = values.encode(&Address { city: "x".to_owned() }).unwrap();
    tester.push(TestMessage::new("t").key(keys.encode(&7).unwrap()).value(value));
    tester.push(TestMessage::new("t").value(&b"\0\0\0\0\x63"[..]));
    tester.push(TestMessage::new("t").key(keys.encode(&8).unwrap()));
    tester.run_all().await.unwrap();
    let expected = [(Some(7), "x".to_owned()), (None, "1 99".to_owned()), (Some(8), String::new())];
    assert_eq!(*seen.lock().unwrap(), expected);
}
