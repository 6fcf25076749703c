//! Faults that the library's own tests put into it, to see that the simulated schedules find them. In every other
//! build `fault!` is `false`.
//!
//! The switch belongs to the thread: a test runs on a thread of its own, and simulations run on one
//! thread.

#[cfg(test)]
use std::cell::Cell;

/// Whether this fault is switched on.
#[cfg(test)]
macro_rules! fault {
    ($fault:ident) => {
        $crate::faults::is($crate::faults::Fault::$fault)
    };
}

#[cfg(not(test))]
macro_rules! fault {
    ($fault:ident) => {
        false
    };
}

#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A batch counts as finished when `process` has returned.
    CommitBeforeAcks,
    /// What was buffered is kept though messages before it were given up.
    KeepBuffer,
    /// A failed delivery is taken for a good one.
    IgnoreDeliveryFailure,
    /// A commit is made while another is outstanding.
    CommitBesideAnother,
    /// Offsets of partitions that were given back are still committed.
    CommitWithoutOwnership,
    /// A partition whose queue is empty is taken for consumed up to the position reported last, over rebalances.
    BelieveEmptyQueue,
    /// What a tick or `closing` sends is not waited for.
    ForgetTicks,
    /// A rejected message counts as finished before its letter is acknowledged.
    ForgetLetters,
    /// A message is rejected because of an error that may go away by itself.
    RejectRetryable,
    /// What is behind a rejected message in its batch is finished before it.
    FinishBeforeLetters,
    /// `closing` is called though a batch was not delivered.
    CloseAfterFailure,
    /// An assignment that replaces everything is added to what was there.
    KeepReplaced,
}

#[cfg(test)]
thread_local! {
    static CURRENT: Cell<Option<Fault>> = const { Cell::new(None) };
}

#[cfg(test)]
pub(crate) fn is(fault: Fault) -> bool {
    CURRENT.get() == Some(fault)
}

#[cfg(test)]
pub(crate) fn set(fault: Option<Fault>) {
    CURRENT.set(fault);
}
