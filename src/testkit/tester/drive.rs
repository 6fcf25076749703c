//! What the coordinator does in production: starting, driving and ending the lane, committing offsets.
//!
//! Nothing is spawned. The lane is a future, and the tester polls it until it ends or waits for
//! something that only the test can bring about (messages, acks). A lane that is not within the
//! user's code has nothing else to wait for.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, watch};

use super::broker::{TestLog, TestQueue};
use super::{NAME, ProcessorTester};
use crate::command::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, TopicPartition};
use crate::metrics::processor::ProcessorMetrics;
use crate::on_error::LetterWriter;
use crate::pipeline::batcher::Batcher;
use crate::pipeline::committer::Committer;
use crate::pipeline::partition_processor::{Ending, LaneEnd, LaneEnvironment, PartitionProcessor};
use crate::pipeline::progress::LaneProgress;
use crate::pipeline::suspects::Suspects;
use crate::pipeline::ticks::TickSource;
use crate::pipeline::topic_progress::TopicProgress;
use crate::settings::{BatchLimits, FlightLimits};

pub(super) struct Lane {
    future: Pin<Box<dyn Future<Output = LaneEnd> + Send>>,
    pub(super) commands: watch::Sender<Command>,
    /// Each permit makes it tick.
    pub(super) ticks: Arc<Semaphore>,
    pub(super) progress: Arc<LaneProgress>,
}

impl ProcessorTester {
    #[track_caller]
    #[allow(clippy::cast_possible_truncation, reason = "the builder allows 65,535 topics")]
    pub(super) fn topic_index(&self, topic: &str) -> u16 {
        let index = self.topics.iter().position(|known| **known == *topic);
        assert!(index.is_some(), "`{topic}` is none of the input topics {:?}", self.topics);
        index.unwrap_or_default() as u16
    }

    pub(super) fn begin_run(&mut self) -> Result<()> {
        self.begin()?;
        self.committed_before = self.log.committed();
        Ok(())
    }

    /// Starts the lane, unless it runs. A replay begins where it began before.
    pub(super) fn begin(&mut self) -> Result<()> {
        if !self.assigned {
            let message = "the partition is not assigned: it was revoked or lost, or the processor \
                ended; call `assign`";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if self.lane.is_none() {
            self.lane = Some(self.start_lane());
        }
        Ok(())
    }

    fn start_lane(&mut self) -> Lane {
        let mut topics = Vec::new();
        for ((index, topic), committed) in (0..).zip(self.topics.iter()).zip(self.log.committed()) {
            let partition = TopicPartition::new(topic.clone(), self.partition);
            let start = committed.unwrap_or(Offset::new(0));
            let epoch = self.committer.begin(partition.clone(), start, Some(start));
            topics.push(TopicProgress::new(index, partition, epoch, start, start));
        }
        // The test says where a batch ends: the queue gives no more than that.
        let limits = BatchLimits {
            max_messages: usize::MAX,
            max_bytes: usize::MAX,
            max_wait: Duration::ZERO,
            is_fixed: true,
        };
        let queue = TestQueue { log: self.log.clone(), partition: self.partition };
        let batcher = Batcher::new(self.partition, self.topics.clone(), limits, Box::new(queue));
        let (length, changed) = (batcher.queue_length(), self.board.changed.clone());
        let progress = Arc::new(LaneProgress::new(self.partition, topics, length, changed));
        let commands = watch::Sender::new(Command::Run);
        let ticks = Arc::new(Semaphore::new(0));
        let environment = LaneEnvironment {
            producer: self.producer.clone(),
            topics: self.topics.clone(),
            board: self.board.clone(),
            name: NAME.into(),
            metrics: ProcessorMetrics::new(&self.metrics),
            limits: FlightLimits { max_batches: self.max_in_flight, max_bytes: usize::MAX },
            ticks: TickSource::Test(ticks.clone()),
            drain_deadline: self.drain_deadline,
            letters: Arc::new(LetterWriter::new(
                self.on_error.clone(),
                NAME.into(),
                format!("kasper-topic-processor-{NAME}"),
                BTreeMap::new(),
            )),
            suspects: Suspects::default(),
        };
        let (watched, subscribed) = (progress.clone(), commands.subscribe());
        let partition_processor =
            PartitionProcessor::new(batcher, watched, subscribed, environment);
        let run = partition_processor.run(self.factory.clone());
        // Else a lane that has used up tokio's cooperative budget would look like one that waits
        // for the test.
        let future = Box::pin(tokio::task::unconstrained(run));
        Lane { future, commands, ticks, progress }
    }

    pub(super) async fn run_in_batches(&mut self, max_batch_messages: usize) -> Result<usize> {
        self.begin_run()?;
        let (before, _) = self.calls.given();
        loop {
            let was_busy = self.calls.is_busy();
            let pending = self.log.pending();
            self.step(max_batch_messages).await?;
            let progressed = was_busy || self.log.pending() < pending;
            let go_on = progressed && !self.calls.is_busy() && self.lane.is_some();
            if !go_on || self.log.pending() == 0 {
                return Ok(self.calls.given().0 - before);
            }
        }
    }

    /// One batch; or the rest of one that an earlier run left.
    pub(super) async fn step(&mut self, max_batch_messages: usize) -> Result<()> {
        if !self.calls.is_busy() {
            self.log.open(max_batch_messages);
        }
        self.settle().await
    }

    /// Drives the lane until it is still, and commits.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let end = self.drive().await;
        self.log.open(0);
        if end.is_some() {
            return self.end_lane(end).await;
        }
        self.commit().await?;
        if self.has_asked_to_close() { self.revoke().await } else { Ok(()) }
    }

    /// Polls the lane until it ends, or waits for the test: then `None`.
    pub(super) async fn drive(&mut self) -> Option<LaneEnd> {
        let lane = self.lane.as_mut()?;
        let calls = &self.calls;
        poll_fn(|task| match lane.future.as_mut().poll(task) {
            Poll::Ready(end) => Poll::Ready(Some(end)),
            // A backoff ends by itself.
            Poll::Pending if calls.is_still() && !lane.progress.is_retrying() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    pub(super) async fn end_lane(&mut self, end: Option<LaneEnd>) -> Result<()> {
        let committed = self.commit().await;
        self.committed_before = self.log.committed();
        self.unassign();
        match end {
            Some(LaneEnd { ending: Ending::Failed(error), .. }) => Err(error),
            _ => committed,
        }
    }

    async fn commit(&mut self) -> Result<()> {
        if let Some(lane) = &self.lane {
            for topic in &lane.progress.status().topics {
                self.committer.finished(&topic.partition, &topic.epoch, topic.finished);
            }
        }
        self.committer.commit_now(|_| true, false).await.map_err(|error| error.error)
    }

    pub(super) fn unassign(&mut self) {
        self.lane = None;
        self.assigned = false;
        for topic in self.topics.iter() {
            let partition = TopicPartition::new(topic.clone(), self.partition);
            self.committer.end(&partition, false);
        }
        self.log.rewind();
    }
}

pub(super) fn committing_to(log: &Arc<TestLog>) -> Committer {
    let log = log.clone();
    let commit = Box::new(move |offsets: Vec<_>| {
        log.commit(&offsets);
        Box::pin(std::future::ready(Ok(()))) as BoxFuture<'static, _>
    });
    Committer::new(commit, Duration::MAX, false)
}
