//! How large batches may become: as large as the user allows, where that saves round trips.
//!
//! Place in the data path: the [`batcher`](super::batcher) asks; the [`partition_processor`](super::partition_processor)
//! tells how a batch went.
//!
//! Where a batch waits, for a store or for acks, it pays for that whatever its size, so large batches are cheaper. A
//! `process` that only computes pays for each message, and large batches make it slower: what was fetched has left the
//! processor's caches when it is looked at, and what it sends when it is produced.

use crate::settings::BatchLimits;

/// A batch of a processor that never waits: enough that what is paid once a batch does not show.
const LEAST_MESSAGES: usize = 2000;

/// The same in bytes: a part of what fits into a core's second-level cache.
const LEAST_BYTES: usize = 512 << 10;

/// How often the limits double at most.
const MOST_DOUBLINGS: u32 = 24;

/// So many batches in a row do not wait before the limits halve: a store behind a cache is asked now and then.
const CALM: u32 = 8;

/// The limits of the next batch. They double with each batch that waited, up to the user's limits, and halve when none
/// did for a while.
#[derive(Debug)]
pub(crate) struct BatchWindow {
    limits: BatchLimits,
    doublings: u32,
    /// Batches that did not wait, since the last one that did, or since the limits changed.
    calm: u32,
}

impl BatchWindow {
    pub(crate) fn new(limits: BatchLimits) -> Self {
        Self { limits, doublings: 0, calm: 0 }
    }

    pub(crate) fn messages(&self) -> usize {
        self.grown(LEAST_MESSAGES, self.limits.max_messages)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.grown(LEAST_BYTES, self.limits.max_bytes)
    }

    fn grown(&self, least: usize, most: usize) -> usize {
        match self.limits.is_fixed {
            true => most,
            false => least.saturating_mul(1 << self.doublings).min(most),
        }
    }

    /// A batch was processed.
    pub(crate) fn processed(&mut self, waited: bool) {
        self.calm = if waited { 0 } else { self.calm + 1 };
        if self.calm == CALM {
            self.calm = 0;
            self.doublings = self.doublings.saturating_sub(1);
        }
        let may_grow =
            self.messages() < self.limits.max_messages || self.bytes() < self.limits.max_bytes;
        if waited && may_grow && self.doublings < MOST_DOUBLINGS {
            self.doublings += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits(max_messages: usize, max_bytes: usize) -> BatchLimits {
        BatchLimits { max_messages, max_bytes, max_wait: Duration::ZERO, is_fixed: false }
    }

    #[test]
    fn batches_grow_to_the_limits_while_they_wait_and_shrink_when_they_do_not() {
        let mut window = BatchWindow::new(limits(10_000, 4 << 20));
        assert_eq!((window.messages(), window.bytes()), (2000, 512 << 10));
        (0..4).for_each(|_| window.processed(true));
        assert_eq!((window.messages(), window.bytes()), (10_000, 4 << 20));
        (0..100).for_each(|_| window.processed(true));
        (0..4 * CALM).for_each(|_| window.processed(false));
        assert_eq!((window.messages(), window.bytes()), (2000, 512 << 10));
    }

    #[test]
    fn a_wait_now_and_then_keeps_batches_large() {
        let mut window = BatchWindow::new(limits(10_000, 4 << 20));
        (0..1000).for_each(|batch| window.processed(batch % 6 == 0));
        assert_eq!(window.messages(), 10_000);
    }

    #[test]
    fn limits_below_the_least_and_extreme_ones_are_kept() {
        let mut small = BatchWindow::new(limits(10, 100));
        assert_eq!((small.messages(), small.bytes()), (10, 100));
        small.processed(true);
        assert_eq!((small.messages(), small.bytes()), (10, 100));
        let mut large = BatchWindow::new(limits(usize::MAX, usize::MAX));
        (0..1000).for_each(|_| large.processed(true));
        assert!(large.messages() >= 1_000_000_000 && large.bytes() >= 1_000_000_000);
    }

    #[test]
    fn fixed_limits_hold_from_the_beginning() {
        let mut window =
            BatchWindow::new(BatchLimits { is_fixed: true, ..limits(10_000, 4 << 20) });
        for _ in 0..100 {
            assert_eq!((window.messages(), window.bytes()), (10_000, 4 << 20));
            window.processed(false);
        }
    }
}
