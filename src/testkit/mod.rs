//! Tools for testing processors: a tester that needs no broker, a [proof](prove()) that a processor is right when messages
//! come again, and, with the feature `kafka`, a broker inside the process, a client that writes to topics and reads them,
//! and a feeder. All take and return [`TestMessage`]s. Feature `testkit`.

#[cfg(feature = "kafka")]
mod client;
pub mod conformance;
#[cfg(feature = "kafka")]
mod embedded;
#[cfg(feature = "kafka")]
mod feeder;
mod message;
mod prove;
mod proxy;
#[cfg(feature = "kafka")]
mod reading;
mod tester;
#[cfg(feature = "kafka")]
mod writer;

#[cfg(feature = "kafka")]
pub use client::TestClient;
#[cfg(feature = "kafka")]
pub use embedded::EmbeddedBroker;
#[cfg(feature = "kafka")]
pub use feeder::Feeder;
pub use message::TestMessage;
pub use prove::{Counterexample, Finding, Proof, ProofStore, Prover, prove, prove_with_factory};
pub use proxy::{Fault, FaultProxy};
pub use tester::{Attempt, ProcessorTester};

/// An error of the `rdkafka` crate's clients, which the test kit uses.
#[cfg(feature = "kafka")]
fn failed(operation: &'static str, error: &rdkafka::error::KafkaError) -> crate::Error {
    crate::broker::kafka::error_of_crate(error).with("operation", operation)
}
