//! [`Handle`]: watches and controls a running topic processor, from any task.

use std::fmt;
use std::sync::Arc;

use crate::metrics::Metrics;
use crate::pipeline::progress::Board;
use crate::status::{ProcessorState, Status};

/// Controls and watches a topic processor from anywhere: from other tasks, from signal handlers, and from within
/// `process`. It is cheap to clone, and outlives the processor.
///
/// ```
/// # #[cfg(feature = "kafka")]
/// # async fn example() -> kasper::Result<()> {
/// # use kasper::{Batch, BoxError, Context, Processor};
/// # struct Count;
/// # impl Processor for Count {
/// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
/// # }
/// # use kasper::{ProcessorState, TopicProcessor, testkit::EmbeddedBroker};
/// # let broker = EmbeddedBroker::start()?;
/// # broker.create_topic("orders", 1)?;
/// # let builder = TopicProcessor::builder("count-orders", ["orders"]).brokers(broker.brokers());
/// # let builder = builder.partitions([0]);
/// let processor = builder.build(|_| Count).await?;
/// let handle = processor.handle();
/// handle.pause();
/// assert!(handle.status().paused);
/// assert!(!handle.has_consumed_all()); // not known before the processor runs
///
/// handle.close();
/// assert_eq!(handle.status().state, ProcessorState::Starting); // a request only
/// let report = processor.run().await?;
/// assert_eq!(report.messages, 0);
/// handle.closed().await;
/// assert_eq!(handle.status().state, ProcessorState::Closed);
/// # Ok(())
/// # }
/// # #[cfg(feature = "kafka")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
/// ```
#[derive(Clone)]
pub struct Handle {
    board: Arc<Board>,
    name: Arc<str>,
    metrics: Metrics,
}

impl Handle {
    pub(crate) fn new(board: Arc<Board>, name: Arc<str>, metrics: Metrics) -> Self {
        Self { board, name, metrics }
    }

    /// Where the topic processor's metrics go.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The topic processor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks for a shutdown: the batches in flight finish (until the [drain deadline](crate::Builder::drain_deadline))
    /// and are committed, the process leaves the group, and `run` returns. This call only sends the request, and
    /// returns at once. Call it as often as you like, even before `run`.
    #[doc(alias = "Close")]
    pub fn close(&self) {
        self.board.request_close();
    }

    /// Completes when `run` has returned, or when its future was dropped. Cancel-safe.
    pub async fn closed(&self) {
        let mut closed = self.board.closed.subscribe();
        // An error would mean that the board is gone, and we hold it.
        let _closed = closed.wait_for(|closed| *closed).await;
    }

    /// Starts no new batch of any partition until [`resume`](Handle::resume). Batches in flight finish and are
    /// committed. The partitions stay assigned, and partitions that are assigned later are paused too.
    pub fn pause(&self) {
        self.board.control.send_modify(|control| control.paused = true);
    }

    /// Like [`pause`](Handle::pause), but for one partition number, whether it is assigned now or later.
    pub fn pause_partition(&self, partition: i32) {
        self.board.control.send_modify(|control| {
            if !control.paused_partitions.contains(&partition) {
                control.paused_partitions.push(partition);
            }
        });
    }

    /// Ends every pause, both of [all partitions](Handle::pause) and of single partition numbers.
    pub fn resume(&self) {
        self.board.control.send_modify(|control| {
            control.paused = false;
            control.paused_partitions.clear();
        });
    }

    /// Ends the pause of one partition number. The number stays paused while [all partitions are](Handle::pause).
    pub fn resume_partition(&self, partition: i32) {
        self.board.control.send_modify(|control| {
            control.paused_partitions.retain(|paused| *paused != partition);
        });
    }

    /// Whether everything is consumed. True only if every assigned partition is known to be at its end (empty
    /// partitions included), all messages before that end are finished, and nothing is queued or in flight. False
    /// until partitions are assigned or it is known that this process gets none, while partitions are being
    /// looked up or given back, and while an input topic is missing, unaligned or incomplete (see
    /// [`TopicChange`](crate::TopicChange)).
    ///
    /// The ends of the logs come from fetches, about twice a second once a partition is being read. Messages that
    /// were produced since the last report are not known here.
    #[doc(alias = "HasConsumedAllMessages")]
    pub fn has_consumed_all(&self) -> bool {
        self.board.state() == ProcessorState::Running && self.board.reached_ends()
    }

    /// The sum of the lags of all assigned partitions, except those that have not begun because no broker leads them.
    pub fn lag(&self) -> u64 {
        self.board.status().iter().map(|partition| partition.lag).sum()
    }

    /// The state of the processor and of each partition that has started. The call never waits, so a health check may
    /// make it.
    pub fn status(&self) -> Status {
        let totals = self.board.totals();
        Status {
            state: self.board.state(),
            settled: self.board.is_settled(),
            paused: self.board.control.borrow().paused,
            failure: self.board.failure(),
            partitions: self.board.status(),
            topics: self.board.topic_warnings(),
            target_missed: self.board.target_missed(),
            messages: totals.messages,
            batches: totals.batches,
            bytes: totals.bytes,
            rejected: totals.rejected,
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.board.state();
        f.debug_struct("Handle").field("name", &self.name).field("state", &state).finish()
    }
}
