//! Processed batches that wait for the acks of what they sent.
//!
//! Place in the data path: behind `process`. Batches leave in the order in which they came; leaving
//! is what makes a batch *finished*. After a failed one nothing finishes any more.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::{Batch, OffsetRange};
#[cfg(test)]
use crate::broker::sim::mutation::{self, Mutation};
use crate::error::{Error, Result};
use crate::message::Offset;
use crate::metrics::lane::LaneMetrics;
use crate::pipeline::outgoing::{Delivery, Outbox};
use crate::pipeline::progress::{Board, LaneProgress};

/// How much may wait for its acks, per partition number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlightLimits {
    pub(crate) max_batches: usize,
    pub(crate) max_bytes: usize,
}

/// So many send buffers are kept for the next batches: few, so that their memory is still in the
/// processor's caches.
const KEPT_BUFFERS: usize = 2;

/// A processed batch.
pub(crate) struct InFlight {
    deliveries: VecDeque<Arc<Delivery>>,
    ranges: Vec<(u16, OffsetRange)>,
    messages: usize,
    bytes: usize,
}

impl InFlight {
    #[allow(clippy::cast_possible_truncation, reason = "the builder allows 65,535 topics")]
    pub(crate) fn new(batch: &Batch, deliveries: VecDeque<Arc<Delivery>>) -> Self {
        let ranges = batch.ranges().iter().enumerate();
        Self {
            deliveries,
            ranges: ranges.filter_map(|(i, range)| range.map(|range| (i as u16, range))).collect(),
            messages: batch.len(),
            bytes: batch.bytes(),
        }
    }

    fn outgoing_bytes(&self) -> usize {
        self.deliveries.iter().map(|delivery| delivery.bytes()).sum()
    }
}

pub(crate) struct InFlightQueue {
    limits: FlightLimits,
    batches: VecDeque<InFlight>,
    outgoing_bytes: usize,
    /// A batch failed: those behind it are waited for, and never finish.
    failed: bool,
    /// Deliveries of finished batches, whose send buffers the next ones take. The client's thread may
    /// hold one for a moment after its last report, so they are taken apart late.
    spent: VecDeque<Arc<Delivery>>,
    progress: Arc<LaneProgress>,
    board: Arc<Board>,
    metrics: Arc<LaneMetrics>,
}

impl InFlightQueue {
    pub(crate) fn new(
        limits: FlightLimits,
        progress: Arc<LaneProgress>,
        board: Arc<Board>,
        metrics: Arc<LaneMetrics>,
    ) -> Self {
        Self {
            limits,
            batches: VecDeque::new(),
            outgoing_bytes: 0,
            failed: false,
            spent: VecDeque::new(),
            progress,
            board,
            metrics,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.batches.len() < self.limits.max_batches && self.outgoing_bytes < self.limits.max_bytes
    }

    pub(crate) fn push(&mut self, batch: InFlight) {
        self.outgoing_bytes += batch.outgoing_bytes();
        self.batches.push_back(batch);
    }

    pub(crate) fn take_spent(&mut self) -> Option<Outbox> {
        self.spent.pop_front().and_then(Delivery::into_spent)
    }

    /// Waits for the acks of the oldest batch and takes it out; never done while there is none.
    /// Cancel-safe: the batch leaves after the last wait.
    ///
    /// # Errors
    /// The batch's delivery failed, as the first one of this lane.
    pub(crate) async fn front_finished(&mut self) -> Result<()> {
        let Some(front) = self.batches.front() else { return std::future::pending().await };
        for delivery in &front.deliveries {
            #[cfg(test)]
            if mutation::is(Mutation::CommitBeforeAcks) {
                continue;
            }
            delivery.finished().await;
        }
        self.batches.pop_front().map_or(Ok(()), |front| self.finish(front))
    }

    fn finish(&mut self, front: InFlight) -> Result<()> {
        self.outgoing_bytes -= front.outgoing_bytes();
        if self.failed {
            return Ok(());
        }
        let failure = front.deliveries.iter().find_map(|delivery| delivery.result().err());
        #[cfg(test)]
        let failure = failure.filter(|_| !mutation::is(Mutation::IgnoreDeliveryFailure));
        if let Some(error) = failure {
            self.failed = true;
            return Err(self.locate(error, &front));
        }
        let next: Vec<(u16, Offset)> =
            front.ranges.iter().map(|(topic, range)| (*topic, range.last.next())).collect();
        self.board.add_batch(front.messages, front.bytes);
        self.progress.finish_batch(&next);
        front.deliveries.iter().for_each(|delivery| self.metrics.acknowledged(delivery));
        self.spent.extend(front.deliveries);
        self.spent.truncate(KEPT_BUFFERS);
        Ok(())
    }

    /// Says which input the undeliverable message was made from.
    fn locate(&self, mut error: Error, batch: &InFlight) -> Error {
        let status = self.progress.status();
        for (topic, range) in &batch.ranges {
            if let Some(progress) = status.topics.iter().find(|t| t.topic == *topic) {
                let input = format!("{} {range}", progress.partition);
                error = error.with("batch", input);
            }
        }
        error.with("partition", self.progress.partition)
    }
}
