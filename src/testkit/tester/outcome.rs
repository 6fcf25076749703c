//! What came of the runs of a [`ProcessorTester`].

use super::{OutgoingRecord, ProcessorTester};
use crate::message::Offset;

impl ProcessorTester {
    /// The messages that were sent and reached the broker, in order. Includes replays and messages that are not
    /// acknowledged yet, but not messages that [could not be delivered](Self::fail_delivery).
    pub fn outgoing(&self) -> Vec<OutgoingRecord> {
        self.producer.outgoing()
    }

    /// Like [`outgoing`](Self::outgoing), but also forgets the messages: the next call returns only what is sent from
    /// now on.
    pub fn take_outgoing(&mut self) -> Vec<OutgoingRecord> {
        self.producer.take_outgoing()
    }

    /// The next offset that is committed for this topic; `None` if nothing is committed.
    ///
    /// # Panics
    /// The topic is not an input topic.
    #[track_caller]
    pub fn committed(&self, topic: &str) -> Option<Offset> {
        self.log.committed()[usize::from(self.topic_index(topic))]
    }

    /// The number of messages that the next runs deliver.
    pub fn pending(&self) -> usize {
        self.log.pending()
    }

    /// The number of batches that were begun but are not finished, because [acks are held](Self::hold_acks), or
    /// because a run was dropped within `process`.
    pub fn in_flight(&self) -> usize {
        self.lane.as_ref().map_or(0, |lane| lane.progress.status().in_flight)
    }

    /// How often `process` was called, replays included.
    pub fn batches(&self) -> usize {
        self.calls.given().1
    }

    /// Whether the processor has called [`Context::close`](crate::Context::close). The run in which it did so ended
    /// like a [revocation](Self::revoke).
    pub fn has_asked_to_close(&self) -> bool {
        self.board.control.borrow().close
    }
}
