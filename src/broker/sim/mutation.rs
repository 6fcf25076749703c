//! Faults put into the library on purpose, to see that the tests see them. Compiled for tests only.
//!
//! The switch belongs to the thread: a test runs on a thread of its own, and simulations run on one
//! thread.

use std::cell::Cell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// A batch counts as finished when `process` has returned.
    CommitBeforeAcks,
    /// What was buffered is kept though messages before it were given up.
    KeepBuffer,
    /// A failed delivery is taken for a good one.
    IgnoreDeliveryFailure,
    /// A commit is made while another is outstanding.
    CommitBesideAnother,
    /// Offsets of partitions that were given back are still recorded.
    CommitWithoutOwnership,
    /// A partition whose queue is empty is taken for consumed up to the position reported last, over rebalances.
    BelieveEmptyQueue,
    /// An assignment that replaces everything is added to what was there.
    KeepReplaced,
}

thread_local! {
    static CURRENT: Cell<Option<Mutation>> = const { Cell::new(None) };
}

pub(crate) fn is(mutation: Mutation) -> bool {
    CURRENT.get() == Some(mutation)
}

pub(crate) fn set(mutation: Option<Mutation>) {
    CURRENT.set(mutation);
}
