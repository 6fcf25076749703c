//! Avro and Protobuf for [Kasper](kasper), with a Confluent-compatible schema registry.
//!
//! A value begins with a zero byte and the id of the schema that it was written with. A decoder *loads* the schemas that
//! a batch needs, which is a lookup in memory for nearly every batch, and then decodes each message without waiting. An
//! encoder has looked up its schema's id when it was made. Both are Kasper's codecs: they go where
//! [`Text`](kasper::codec::Text) or `Json` would.
//!
//! ```
//! # #[cfg(feature = "avro")]
//! # mod example {
//! use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};
//! use kasper_schema::{AvroDecoder, AvroEncoder, Registry, RegistryConfig, Subject};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Order {
//!     amount: i64,
//! }
//!
//! #[derive(Serialize)]
//! struct Invoice {
//!     total: i64,
//! }
//!
//! const ORDER: &str = r#"{"type": "record", "name": "Order", "fields": [{"name": "amount", "type": "long"}]}"#;
//! const INVOICE: &str = r#"{"type": "record", "name": "Invoice", "fields": [{"name": "total", "type": "long"}]}"#;
//!
//! #[derive(Clone)]
//! struct Bill {
//!     orders: AvroDecoder<Order>,
//!     invoices: AvroEncoder<Invoice>,
//! }
//!
//! impl Bill {
//!     /// Made once, and cloned for each partition.
//!     async fn new(config: &RegistryConfig) -> kasper::Result<Self> {
//!         let registry = Registry::new(config)?;
//!         let invoices = Subject::topic_value("invoices");
//!         Ok(Self {
//!             orders: AvroDecoder::new(&registry, ORDER)?,
//!             invoices: AvroEncoder::new(&registry, invoices, INVOICE).await?,
//!         })
//!     }
//! }
//!
//! impl Processor for Bill {
//!     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
//!         self.orders.load_values(batch.topic("orders")).await?;
//!         for message in batch.topic("orders") {
//!             let Some(order) = message.decode(&self.orders)? else { continue };
//!             let invoice = OutgoingMessage::like("invoices", &message);
//!             context.send_encoded(invoice, &Invoice { total: 2 * order.amount }, &self.invoices)?;
//!         }
//!         Ok(())
//!     }
//! }
//! # }
//! ```
//!
//! # Errors
//! If the registry is away, loading fails with a [retryable](kasper::Error::is_retryable) error after the configured
//! [`timeout`](RegistryConfig::timeout). An id that the registry does not know, and a schema that does not fit the type,
//! are errors of the message concerned: `message.decode` returns them, with its topic, partition and offset, and the
//! `schema_id` in the cause. So `process` may skip such a message.

#[cfg(not(any(feature = "avro", feature = "protobuf")))]
compile_error!("kasper-schema needs the feature `avro` or `protobuf`");

#[cfg(feature = "avro")]
mod avro;
mod client;
mod config;
mod frame;
mod loaded;
#[cfg(feature = "protobuf")]
mod protobuf;
mod registry;
mod subject;

#[cfg(feature = "avro")]
pub use avro::{AvroDecoder, AvroEncoder};
pub use config::RegistryConfig;
#[cfg(feature = "protobuf")]
pub use protobuf::{Protobuf, ProtobufDecoder, ProtobufEncoder};
pub use registry::Registry;
pub use subject::Subject;
