//! The offset to read from is not in the log: finding out where to go on.
//!
//! Place in the data path: in a lane's place, until it can go on. It is a task like the lane's own,
//! so that brokers that don't answer keep the coordinator from nothing: the group can take the
//! partition away, and the processor can be closed.

use std::sync::Arc;

use tokio::sync::watch;

use crate::broker::Consumer;
use crate::error::Error;
use crate::message::{Offset, TopicPartition};
use crate::pipeline::batcher::Batcher;
use crate::pipeline::command::{Command, ending};
use crate::pipeline::partition_processor::LaneEnd;
use crate::pipeline::start::after_out_of_range;
use crate::settings::OutOfRange;

/// The partition that an error of the queue is about.
pub(super) fn partition_of(error: &Error, number: i32) -> TopicPartition {
    TopicPartition::new(error.get("topic").unwrap_or_default(), number)
}

/// Ends with where to go on, or with nothing when the lane is to end. `position`: the next message that
/// is not finished.
pub(super) async fn search(
    consumer: Arc<dyn Consumer>,
    policy: OutOfRange,
    error: Error,
    number: i32,
    position: Offset,
    batcher: Batcher,
    mut commands: watch::Receiver<Command>,
) -> LaneEnd {
    let partition = partition_of(&error, number);
    let searched = tokio::select! {
        biased;
        () = ending(&mut commands) => None,
        found = after_out_of_range(&*consumer, &partition, position, policy, error) => Some(found),
    };
    let searched = searched.map(|found| (partition, found));
    LaneEnd { partition: number, batcher, complete: false, result: Ok(()), searched }
}
