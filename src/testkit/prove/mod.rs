//! [`prove()`]: is a processor right when messages come at least once?
//!
//! Place in the data path: around it, as [`ProcessorTester`](super::ProcessorTester), which drives each run
//! ([`execution`]). A [`schedule`] is made from a seed and says where batches are cut and what fails. The processor works
//! on a [`store`] whose calls stop and fail at its points ([`recorder`]), and is made by one of two [`processes`]. What came
//! of a run ([`outcome`]) is compared with a straight run. A schedule that leads to something else is made as short as it
//! can be ([`shrink`]) and told ([`story`], [`finding`]).

mod execution;
mod finding;
mod outcome;
mod processes;
mod prover;
mod proving;
mod random;
mod recorder;
mod schedule;
mod shrink;
mod store;
mod story;
mod subject;

pub use self::finding::{Counterexample, Finding, Proof};
pub use self::prover::{Prover, prove, prove_with_factory};
pub use self::store::ProofStore;
