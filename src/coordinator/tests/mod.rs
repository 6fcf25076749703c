//! The coordinator and its lanes against the simulated cluster.
#![allow(clippy::print_stdout, reason = "a seed's story is for a person")]

mod basics;
mod batches;
mod blocking;
mod case;
mod failures;
mod faults;
mod harness;
mod kept;
mod lag;
mod metrics;
mod offsets;
mod on_error;
mod partial;
mod processor;
mod property;
mod revocation;
mod shutdown;
mod starting;
mod storm;
mod target;
mod ticks;
mod topics;
mod unanswered;
mod watching;
