//! An epoch: one assignment of a topic-partition to this process, or its part after an offset out of range.
//!
//! Place in the data path: beside it. The committer begins epochs and notes here what it commits; the progress of the
//! lane, and so the status, reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::message::Offset;

/// Stands for "nothing is committed"; offsets are not negative.
const NOTHING: i64 = -1;

/// An epoch of a topic-partition, and what is committed in it. Clones are the same epoch.
#[derive(Debug, Clone)]
pub(crate) struct Epoch {
    number: u64,
    committed: Arc<AtomicI64>,
}

impl Epoch {
    pub(crate) fn new(number: u64, committed: Option<Offset>) -> Self {
        let committed = committed.map_or(NOTHING, Offset::get);
        Self { number, committed: Arc::new(AtomicI64::new(committed)) }
    }

    /// Counts up in this process.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The committed next offset, if the group has one that is known here.
    pub(crate) fn committed(&self) -> Option<Offset> {
        let committed = self.committed.load(Ordering::Relaxed);
        (committed != NOTHING).then(|| Offset::new(committed))
    }

    pub(super) fn note_committed(&self, next: Offset) {
        self.committed.store(next.get(), Ordering::Relaxed);
    }
}
