//! The coordinator and its lanes against the simulated cluster.

mod basics;
mod harness;
