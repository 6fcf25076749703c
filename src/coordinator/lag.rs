//! Ends of logs that no fetch tells of: asked for at intervals, so that lag is right where nothing is fetched.
//!
//! Place in the data path: beside it. There is one question at a time, nobody waits for its answer, and its failure
//! changes nothing.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use tracing::{Instrument as _, debug};

use crate::broker::{Consumer, OffsetSpec};
use crate::coordinator::Coordinator;
use crate::error::Result;
use crate::message::{Offset, TopicPartition};
use crate::processor::BoxFuture;

/// Questions at the same time, where there is one for each partition. The client has a thread for each, and few:
/// a rebalance must get one.
const CONCURRENCY: usize = 4;

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
            if let Some(lane) = self.lanes.get(&partition.partition) {
                lane.progress().note_end(&partition, epoch, end);
            }
        }
        self.board.changed.notify_one();
    }
}

fn question(consumer: Arc<dyn Consumer>, asked: Vec<Asked>) -> BoxFuture<'static, Ends> {
    let ask = async move {
        match ends(&*consumer, &asked).await {
            Ok(ends) => ends,
            // One partition without a leader, and there is no answer for any.
            Err(_) if asked.len() > 1 => {
                let each = stream::iter(asked).map(|one| {
                    let consumer = consumer.clone();
                    async move { ends(&*consumer, &[one]).await.unwrap_or_default() }
                });
                each.buffer_unordered(CONCURRENCY).concat().await
            }
            Err(error) => {
                debug!(%error, "the end of a log is not known; asking again later");
                Vec::new()
            }
        }
    };
    Box::pin(ask.in_current_span())
}

async fn ends(consumer: &dyn Consumer, asked: &[Asked]) -> Result<Ends> {
    let queries = asked.iter().map(|(partition, _)| (partition.clone(), OffsetSpec::End)).collect();
    let ends = consumer.list_offsets(queries).await?;
    Ok(asked.iter().cloned().zip(ends).collect())
}
