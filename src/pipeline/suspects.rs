//! [`Suspects`]: batches of which an outgoing message could not be produced.
//!
//! Place in the data path: behind the [`in_flight`](super::in_flight) queue. Where the user's policy rejects the incoming
//! messages that such a message was made from, the lane ends, the next one begins at the finished messages, and
//! [`recovery`](super::recovery) looks for them in the batches that it gets.

use std::collections::BTreeMap;

use crate::message::{Batch, Offset, OffsetRange};
use crate::on_error::Reason;
use crate::pipeline::progress::LaneProgress;

/// One of these batches.
#[derive(Debug)]
pub(crate) struct Suspect {
    /// By index of the topic.
    pub(crate) ranges: Vec<(u16, OffsetRange)>,
    /// The incoming messages that the outgoing one was made from; empty if that is not known.
    pub(crate) causes: Vec<(u16, Offset)>,
    pub(crate) reason: Reason,
}

impl Suspect {
    fn is_finished(&self, progress: &LaneProgress) -> bool {
        let status = progress.status();
        self.ranges.iter().all(|(index, range)| {
            let topic = status.topics.iter().find(|topic| topic.topic == *index);
            topic.is_none_or(|topic| topic.finished > range.last)
        })
    }

    fn overlaps(&self, batch: &Batch) -> bool {
        self.ranges.iter().any(|(topic, range)| {
            let of_batch = batch.ranges().get(usize::from(*topic)).copied().flatten();
            of_batch.is_some_and(|other| range.first <= other.last && other.first <= range.last)
        })
    }
}

/// Those that a lane's number has, which may be taken from one lane to the next.
#[derive(Debug, Default)]
pub(crate) struct Suspects(Vec<Suspect>);

/// What is to be done about a batch.
#[derive(Debug)]
pub(crate) enum Suspicion {
    /// These messages are rejected.
    Of(BTreeMap<usize, Reason>),
    /// Some message may have to be: this is why.
    Unknown(Reason),
}

impl Suspects {
    pub(crate) fn add(&mut self, suspect: Suspect) {
        self.0.push(suspect);
    }

    pub(crate) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// What is to be done about this batch, if anything. Forgets what is finished.
    pub(crate) fn about(&mut self, batch: &Batch, progress: &LaneProgress) -> Option<Suspicion> {
        if self.0.is_empty() {
            return None;
        }
        self.0.retain(|suspect| !suspect.is_finished(progress));
        let mut culprits = BTreeMap::new();
        let mut unknown = None;
        for suspect in self.0.iter().filter(|suspect| suspect.overlaps(batch)) {
            if suspect.causes.is_empty() {
                unknown = Some(suspect.reason.clone());
            }
            for (topic, offset) in &suspect.causes {
                if let Some(index) = batch.position_in(*topic, *offset) {
                    culprits.insert(index, suspect.reason.clone());
                }
            }
        }
        match (unknown, culprits.is_empty()) {
            (Some(reason), true) => Some(Suspicion::Unknown(reason)),
            (_, false) => Some(Suspicion::Of(culprits)),
            (None, true) => None,
        }
    }
}
