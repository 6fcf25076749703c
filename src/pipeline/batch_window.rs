//! How large batches may become: as large as the user allows, where that saves round trips.
//!
//! Place in the data path: the [`batcher`](super::batcher) asks; the [`partition_processor`](super::partition_processor)
//! tells how a call of `process` went.
//!
//! A `process` that waits (for a store, or for acks) pays for each call, whatever its size, so large batches are
//! cheaper. One that only computes pays for each message, and large batches make it slower: what was fetched has left the
//! processor's caches when it is looked at, and what it sends when it is produced.
//!
//! Where batches wait to be filled (`max_batch_wait`), the user's limits hold from the beginning.

use crate::settings::BatchLimits;

/// A batch of a processor that never waits: enough that what is paid once a batch does not show.
const LEAST_MESSAGES: usize = 1000;

/// The same in bytes: a part of what fits into a core's second-level cache.
const LEAST_BYTES: usize = 512 << 10;

/// How often the limits double at most.
const MOST_DOUBLINGS: u32 = 24;

/// The limits of the next batch. They double with each batch whose `process` waited, up to the user's limits, and halve
/// with each other one.
#[derive(Debug)]
pub(crate) struct BatchWindow {
    limits: BatchLimits,
    doublings: u32,
}

impl BatchWindow {
    pub(crate) fn new(limits: BatchLimits) -> Self {
        // Who waits for more wants large batches.
        let doublings = if limits.max_wait.is_zero() { 0 } else { MOST_DOUBLINGS };
        Self { limits, doublings }
    }

    pub(crate) fn messages(&self) -> usize {
        self.limits.max_messages.min(LEAST_MESSAGES << self.doublings)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.limits.max_bytes.min(LEAST_BYTES << self.doublings)
    }

    /// A batch was processed.
    pub(crate) fn processed(&mut self, waited: bool) {
        let is_whole =
            self.messages() == self.limits.max_messages && self.bytes() == self.limits.max_bytes;
        if !self.limits.max_wait.is_zero() {
            return;
        }
        if !waited {
            self.doublings = self.doublings.saturating_sub(1);
        } else if !is_whole && self.doublings < MOST_DOUBLINGS {
            self.doublings += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn window(max_messages: usize, max_bytes: usize) -> BatchWindow {
        BatchWindow::new(BatchLimits { max_messages, max_bytes, max_wait: Duration::ZERO })
    }

    #[test]
    fn batches_grow_to_the_limits_while_process_waits_and_shrink_when_it_does_not() {
        let mut window = window(10_000, 4 << 20);
        assert_eq!((window.messages(), window.bytes()), (1000, 512 << 10));
        (0..4).for_each(|_| window.processed(true));
        assert_eq!((window.messages(), window.bytes()), (10_000, 4 << 20));
        (0..100).for_each(|_| window.processed(true));
        (0..4).for_each(|_| window.processed(false));
        assert_eq!((window.messages(), window.bytes()), (1000, 512 << 10));
    }

    #[test]
    fn where_batches_are_waited_for_the_limits_hold_from_the_beginning() {
        let max_wait = Duration::from_millis(1);
        let limits = BatchLimits { max_messages: 10_000, max_bytes: 4 << 20, max_wait };
        let mut window = BatchWindow::new(limits);
        for _ in 0..100 {
            assert_eq!((window.messages(), window.bytes()), (10_000, 4 << 20));
            window.processed(false);
        }
    }

    #[test]
    fn limits_below_the_least_and_extreme_ones_are_kept() {
        let mut small = window(10, 100);
        assert_eq!((small.messages(), small.bytes()), (10, 100));
        small.processed(true);
        assert_eq!((small.messages(), small.bytes()), (10, 100));
        let mut large = window(usize::MAX, usize::MAX);
        (0..1000).for_each(|_| large.processed(true));
        assert!(large.messages() >= 1_000_000_000 && large.bytes() >= 1_000_000_000);
    }
}
