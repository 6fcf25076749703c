//! The offset to read from is not in the log: finding out where to go on.
//!
//! Place in the data path: in a lane's place, until it can go on. It is a task like the lane's own,
//! so that brokers that don't answer keep the coordinator from nothing: the group can take the
//! partition away, and the processor can be closed.

use std::sync::Arc;

use tokio::sync::watch;

use crate::broker::{Consumer, QueueError};
use crate::command::{Command, ending};
use crate::message::Offset;
use crate::pipeline::batcher::Batcher;
use crate::pipeline::partition_processor::{Ending, LaneEnd};
use crate::pipeline::start::after_out_of_range;
use crate::pipeline::suspects::Suspects;
use crate::settings::OutOfRange;

/// Ends with where to go on, or with nothing when the lane is to end. `position`: the next message that
/// is not finished.
pub(super) async fn search(
    consumer: Arc<dyn Consumer>,
    policy: OutOfRange,
    error: QueueError,
    position: Offset,
    batcher: Batcher,
    mut commands: watch::Receiver<Command>,
) -> LaneEnd {
    let QueueError { partition, error } = error;
    let number = partition.number;
    let found = tokio::select! {
        biased;
        () = ending(&mut commands) => Ok(None),
        found = after_out_of_range(&*consumer, &partition, position, policy, error) => found,
    };
    let ending = match found {
        Ok(Some(next)) => Ending::GoOnAt(partition, next),
        Ok(None) => Ending::Abandoned,
        Err(error) => Ending::Failed(error),
    };
    LaneEnd { partition: number, batcher, suspects: Suspects::default(), ending }
}
