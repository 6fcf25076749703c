//! The path of a message through one partition, in order:
//!
//! 1. [`batcher`] takes messages from the partition's queue and cuts batches;
//! 2. [`partition_processor`] drives a batch through the user's processor and past its acks;
//! 3. [`outgoing`] collects what the processor sends and counts the delivery reports, [`undelivered`] says
//!    which message failed and why;
//! 4. [`in_flight`] holds what waits for its acks;
//! 5. [`committer`] records the next offsets of what is finished;
//! 6. [`progress`] is what the others may know about it: status, lag, caught up.
//!
//! Beside it, [`command`] is what a lane is told, and [`need`] how much memory its buffers keep. Before it all, [`start`] finds the offsets to begin at.

pub(crate) mod batcher;
pub(crate) mod command;
pub(crate) mod committer;
pub(crate) mod in_flight;
pub(crate) mod need;
pub(crate) mod outgoing;
pub(crate) mod partition_processor;
pub(crate) mod progress;
pub(crate) mod start;
pub(crate) mod topic_progress;
pub(crate) mod undelivered;
