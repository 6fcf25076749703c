//! The path of a message through one partition, in order:
//!
//! 1. [`batcher`] takes messages from the partition's queue and cuts batches;
//! 2. [`partition_processor`] drives a batch through a [`call`] of the user's processor and past its acks, while
//!    [`delivery`](crate::message::delivery) collects what the processor sends and counts the delivery reports;
//! 3. [`in_flight`] holds what waits for its acks, and has [`letters`] of rejected messages sent;
//! 4. [`committer`] commits the next offsets of what is finished;
//! 5. [`progress`] is what the others may know about it: status, lag, caught up.
//!
//! When a call fails, it is made again ([`attempts`]), or [`recovery`] does what the user's policy says; [`division`] finds the message that fails, [`suspects`] are batches
//! whose output could not be produced.
//!
//! Beside it, [`latency_target`] says how long batches may wait, [`punctuality`] whether that target is met, [`command`](crate::command) is what a lane is told, and [`ticks`] say when it ticks. Before it all, [`start`] finds the offsets to begin at.

pub(crate) mod attempts;
pub(crate) mod batch_window;
pub(crate) mod batcher;
pub(crate) mod call;
pub(crate) mod committer;
pub(crate) mod division;
pub(crate) mod epoch;
pub(crate) mod in_flight;
pub(crate) mod latency_target;
pub(crate) mod letters;
pub(crate) mod partition_processor;
pub(crate) mod progress;
pub(crate) mod punctuality;
mod quarantine;
pub(crate) mod recovery;
pub(crate) mod start;
pub(crate) mod suspects;
pub(crate) mod ticks;
pub(crate) mod topic_progress;
