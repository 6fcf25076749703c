//! Ends of logs that no fetch tells of: asked for at intervals, so that lag is right where nothing is fetched.
//!
//! Place in the data path: beside it. There is one question at a time, nobody waits for its answer, and its failure
//! changes nothing.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tracing::{Instrument as _, debug};

use crate::broker::{Consumer, OffsetSpec};
use crate::coordinator::Coordinator;
use crate::message::{Offset, TopicPartition};
use crate::pipeline::start::PATIENCE;

/// A partition, and the epoch that it was asked about in.
type Asked = (TopicPartition, u64);

/// The answers there were.
pub(super) type Ends = Vec<(Asked, Offset)>;

impl Coordinator {
    /// Asks for the ends of those logs that no fetch has told of since it asked last; with one request for all,
    /// unless the last one is still on its way.
    pub(super) fn ask_for_ends(&mut self) {
        if self.ends.is_some() {
            return;
        }
        let lanes = self.lanes.values();
        let asked: Vec<Asked> = lanes.flat_map(|lane| lane.progress().without_news()).collect();
        if !asked.is_empty() {
            self.ends = Some(question(self.consumer.clone(), asked));
        }
    }

    pub(super) fn note_ends(&mut self, ends: Ends) {
        self.ends = None;
        for ((partition, epoch), end) in ends {
            if let Some(lane) = self.lanes.get(partition.number) {
                lane.progress().note_end(&partition, epoch, end);
            }
        }
        self.board.changed.notify_one();
    }
}

fn question(consumer: Arc<dyn Consumer>, asked: Vec<Asked>) -> BoxFuture<'static, Ends> {
    let queries = asked.iter().map(|(partition, _)| (partition.clone(), OffsetSpec::End)).collect();
    let ask = async move {
        let answers = consumer.list_offsets(queries, PATIENCE).await;
        let ends = asked.into_iter().zip(answers).filter_map(|(asked, answer)| match answer {
            Ok(end) => Some((asked, end)),
            Err(error) => {
                debug!(?error, "the end of a log is not known; asking again later");
                None
            }
        });
        ends.collect()
    };
    Box::pin(ask.in_current_span())
}
