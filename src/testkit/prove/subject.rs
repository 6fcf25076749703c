//! [`Subject`]: the processor under proof, and how its runs are compared.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::processes::Make;
use crate::lock::Mutex;

/// What stays the same in all runs.
pub(super) struct Subject {
    pub(super) topics: Vec<String>,
    pub(super) partition: i32,
    pub(super) make: Arc<Mutex<Box<Make>>>,
    pub(super) atomic_writes: bool,
    pub(super) ticks: bool,
    pub(super) any_order: bool,
    /// Output topics of which the last message of each key counts.
    pub(super) compacted: BTreeSet<String>,
    /// Output topics that are not compared.
    pub(super) ignored: BTreeSet<String>,
}
