//! A count that stays right when a batch comes again.

use kasper::Offset;
use serde::{Deserialize, Serialize};

/// How often something came in one partition, and the offset of the last message that this includes: a
/// message that comes again is not counted again. In the store as `{"count":3,"offset":17}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) count: u64,
    offset: i64,
}

impl Default for Count {
    fn default() -> Self {
        Self { count: 0, offset: -1 }
    }
}

impl Count {
    /// Counts what was found at these offsets, of one batch; an offset may come more than once.
    pub(crate) fn add(&mut self, found: &[Offset]) {
        let included = self.offset;
        for offset in found.iter().map(|offset| offset.get()).filter(|offset| *offset > included) {
            self.count += 1;
            self.offset = self.offset.max(offset);
        }
    }
}
