//! The path of a message through one partition, in order:
//!
//! 1. [`batcher`] takes messages from the partition's queue and cuts batches;
//! 2. [`partition_processor`] drives a batch through the user's processor and past its acks;
//! 3. [`outgoing`] collects what the processor sends and counts the delivery reports;
//! 4. [`committer`] records the next offsets of what is finished;
//! 5. [`progress`] is what the others may know about it: status, lag, caught up.

// pub(crate) mod batcher;
// pub(crate) mod committer;
pub(crate) mod outgoing;
// pub(crate) mod partition_processor;
// pub(crate) mod progress;
// pub(crate) mod start;
