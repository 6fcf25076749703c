//! Tools for testing processors: a tester that needs no broker and, with the feature `kafka`, a broker inside the
//! process. Feature `testkit`.

pub mod conformance;
#[cfg(feature = "kafka")]
mod embedded;
mod proxy;
mod tester;

#[cfg(feature = "kafka")]
pub use embedded::{EmbeddedBroker, Feeder, create_topic};
pub use proxy::{Fault, FaultProxy};
pub use tester::{OutgoingRecord, ProcessorTester, TestMessage};
