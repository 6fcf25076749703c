//! Process Kafka topics in **micro-batches**, with state in a central key-value store.
//!
//! A [`TopicProcessor`] reads input topics and calls your [`Processor`] with a [`Batch`]: the messages
//! of one partition number, across all input topics. The processor reads and writes its state in a
//! [store](store::Store) once per batch, and [sends](Context::send) messages. When those are
//! acknowledged, the batch's offsets are committed:
//!
//! **store writes → produced and acknowledged → offsets committed.**
//!
//! An error, a panic or a crash anywhere before the last step replays the batch: processing is
//! at-least-once, and should give the same result when it is done twice. Nothing is committed for a
//! batch that did not finish, nor for a partition that is no longer ours.
//!
//! # Where to begin
//!
//! - [`TopicProcessor`]: build one, run it, watch it with its [`Handle`].
//! - [`Processor`]: the trait to implement, and its rules.
//! - [`Builder`]: every setting with its default and its trade-off.
//! - [`ErrorPolicy`]: what happens when `process` fails: stop, try again, dead letters.
//! - [`StartContext`]: what a factory is told about the partition that it makes a processor for.
//! - `ProcessorConfig`: what operators set, in a file or the environment; feature `config`.
//! - [`store`] and [`multitenant`]: where state is kept, for one owner or many tenants.
//! - [`metrics`]: what a processor counts and measures, and where it goes.
//! - [`logging`]: what is logged, and how to set it up in one call.
//! - `admin`: status, health and a live page over HTTP; feature `admin`.
//! - [`codec`]: values of your types in stores and messages.
//! - [`testkit`]: test a processor without a broker, and prove that it is right when messages come again; feature
//!   `testkit`.
//! - The examples `word_count`, `join`, `multitenant`, `enrich` and `own_store`: whole programs.
//!
//! # A processor and its test
//!
//! ```
//! # #[cfg(feature = "testkit")]
//! # async fn example() -> kasper::Result<()> {
//! use kasper::testkit::{ProcessorTester, TestMessage};
//! use kasper::{Batch, BoxError, Context, Processor};
//!
//! /// Forwards large orders.
//! struct Watch;
//!
//! impl Processor for Watch {
//!     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
//!         for order in batch.topic("orders") {
//!             let amount: f64 = std::str::from_utf8(order.value().unwrap_or_default())?.parse()?;
//!             if amount > 1000.0 {
//!                 context.forward("large-orders", &order);
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let mut tester = ProcessorTester::new(["orders"], |_| Watch);
//! tester.push(TestMessage::new("orders").key("7").value("12.50"));
//! tester.push(TestMessage::new("orders").key("8").value("1200"));
//! tester.run_batch().await?;
//! assert_eq!(tester.outgoing().len(), 1);
//! # Ok(())
//! # }
//! # #[cfg(feature = "testkit")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
//! #     .block_on(example()).unwrap();
//! ```
//!
//! # Features
//!
//! `kafka` (default): the real broker, librdkafka compiled from source. `testkit`: see above. `ssl`,
//! `zstd`, `gssapi`: TLS and SASL with SCRAM or tokens (OAUTHBEARER), zstd compression, Kerberos. `redis`,
//! `redis-tls`, `cassandra`, `cassandra-tls`, `elasticsearch`, `elasticsearch-tls`: stores in Redis, Cassandra, Elasticsearch and
//! OpenSearch, and TLS to them. `local`: a store in local files. `json`: values as JSON. `prometheus`: metrics
//! as text for Prometheus. `logging`: logging set up in one call. `admin`: status, health and a live page over HTTP. `config`: settings from
//! a file or the environment. Without
//! default features, the crate has no broker and no C code: only the traits and types that processors and stores are
//! written against.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "kafka"),
    allow(dead_code, reason = "without a broker, only what users write and test with is in use")
)]

#[macro_use]
mod faults;

#[cfg(feature = "admin")]
pub mod admin;
mod backoff;
mod broker;
#[cfg(feature = "kafka")]
mod builder;
pub mod codec;
mod command;
mod concurrent;
mod context;
mod coordinator;
mod error;
mod handle;
mod lock;
pub mod logging;
mod message;
pub mod metrics;
pub mod multitenant;
mod on_error;
mod pipeline;
mod processor;
#[cfg(any(
    feature = "redis",
    feature = "cassandra",
    feature = "elasticsearch",
    feature = "local",
    feature = "config"
))]
mod setting;
mod settings;
#[cfg(feature = "kafka")]
mod signal;
mod start_context;
mod status;
pub mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
#[cfg(feature = "kafka")]
mod topic_processor;

pub use backoff::Backoff;
#[cfg(feature = "kafka")]
pub use broker::kafka::OauthToken;
#[cfg(feature = "config")]
#[cfg_attr(docsrs, doc(cfg(feature = "config")))]
pub use builder::ProcessorConfig;
#[cfg(feature = "kafka")]
pub use builder::{Builder, Partitioner};
pub use context::Context;
pub use error::{BoxError, Error, ErrorKind, Result};
pub use handle::Handle;
pub use message::{
    Batch, Header, Message, Offset, OffsetRange, OutgoingBytes, OutgoingMessage, OwnedMessage,
    TopicPartition, TraceContext,
};
pub use on_error::{Circuit, ErrorPolicy, LetterHeaders, OnError, ProcessError, Quarantine};
pub use processor::{Processor, ProcessorFactory};
pub use settings::{OutOfRange, StartFrom};
#[cfg(feature = "kafka")]
pub use signal::shutdown_signal;
pub use start_context::StartContext;
pub use status::{
    PartitionState, PartitionStatus, ProcessorState, RebalanceEvent, Report, Retrying, Status,
    TopicChange, TopicWarning,
};
#[cfg(feature = "kafka")]
pub use topic_processor::TopicProcessor;

pub use bytes::Bytes;

#[cfg(all(doctest, feature = "kafka"))]
#[doc = include_str!("../README.md")]
struct Readme;
