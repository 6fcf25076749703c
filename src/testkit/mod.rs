//! Tools to test processors with: a tester that needs no broker and, with feature `kafka`, a broker
//! inside the process. Feature `testkit`.

#[cfg(feature = "kafka")]
mod embedded;
mod tester;

#[cfg(feature = "kafka")]
pub use embedded::{EmbeddedBroker, Feeder, create_topic};
pub use tester::{OutgoingRecord, ProcessorTester, TestMessage};
