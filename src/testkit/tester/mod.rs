//! [`ProcessorTester`]: drives a processor through the stages of the pipeline, in the test's own task.
//!
//! Place in the data path: around it. The lane, its batcher, the batches in flight and the committer are those that
//! run in production. [`broker`] stands in for Kafka at both ends. The tester does what the coordinator does: it
//! starts and ends the lane, and decides when offsets are committed ([`drive`]). [`watched`] tells it whether the
//! lane waits for the user's code. Tests call the methods in this file, and those of
//! [`outcome`], which say what came of it.

mod broker;
mod drive;
mod outcome;
mod watched;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use self::broker::{TestLog, TestProducer};
use self::drive::Lane;
use self::watched::{Calls, WatchedFactory};
use crate::command::Command;
use crate::error::Result;
use crate::message::Offset;
use crate::metrics::{Metrics, Recorder};
use crate::pipeline::committer::Committer;
use crate::pipeline::progress::Board;
use crate::processor::{DynFactory, Processor, ProcessorFactory};
use crate::settings::addable;
use crate::start_context::StartContext;
use crate::testkit::TestMessage;

pub use self::watched::Attempt;

/// The topic processor's name.
const NAME: &str = "tester";

const DEFAULT_MAX_IN_FLIGHT: usize = 16;
const DEFAULT_DRAIN_DEADLINE: Duration = Duration::from_secs(30);

/// Longer than any test, and still a point in time when it is added to now.
const LONGEST_DRAIN: Duration = Duration::from_hours(24 * 365);

/// Tests a [`Processor`](crate::Processor) without a broker: the test makes the messages, decides where a batch ends,
/// and looks at what was sent and committed.
///
/// The processor runs in the same code as in production: batches, acks, batches in flight, errors, panics, and offset
/// commits behave alike. The tester stands for one partition number. It spawns nothing and does not sleep, so a test
/// is as fast as the processor, and time may be paused. Change settings before the first run.
///
/// Afterwards it says which messages were [sent](Self::outgoing), with their headers, which offsets are
/// [committed](Self::committed_offsets), and in which [attempt](Self::attempts) a message was processed.
///
/// # What a good test does
/// Kafka delivers at least once, so a batch may be processed twice, and may be cut differently the second time.
/// [`replay`](Self::replay) and [`replay_cut`](Self::replay_cut) do that. The contents of the store should be the
/// same before and after.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use kasper::store::{MapStore, Store};
/// use kasper::testkit::{ProcessorTester, TestMessage};
/// use kasper::{Batch, BoxError, Context, Offset, OutgoingMessage, Processor};
///
/// /// Counts messages per key. A count is stored with the offset of the last message in it, as
/// /// `count@offset`: a message that comes again is not counted again.
/// struct CountPerKey {
///     store: MapStore,
/// }
///
/// impl Processor for CountPerKey {
///     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
///         let mut found: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
///         for message in batch.iter() {
///             let key = std::str::from_utf8(message.key().unwrap_or_default())?;
///             found.entry(key).or_default().push(message.offset().get());
///         }
///         let keys: Vec<&str> = found.keys().copied().collect();
///         let stored = self.store.get_many(&keys).await?;
///         let mut changes = Vec::new();
///         for ((key, offsets), stored) in found.into_iter().zip(stored) {
///             let (mut count, last) = stored.map_or(Ok((0, -1)), |stored| parse(&stored))?;
///             count += offsets.iter().filter(|offset| **offset > last).count();
///             let last = offsets.into_iter().fold(last, i64::max);
///             context.send(OutgoingMessage::new("counts").key(key).value(count.to_string()));
///             changes.push((key, Some(format!("{count}@{last}").into())));
///         }
///         self.store.write_many(&changes).await?;
///         Ok(())
///     }
/// }
///
/// fn parse(stored: &[u8]) -> Result<(usize, i64), BoxError> {
///     let text = std::str::from_utf8(stored)?;
///     let (count, last) = text.split_once('@').ok_or("no `@` in a stored count")?;
///     Ok((count.parse()?, last.parse()?))
/// }
///
/// #[tokio::main(flavor = "current_thread")] // in a test: #[tokio::test]
/// async fn main() -> kasper::Result<()> {
///     let store = MapStore::new();
///     let counts = store.clone();
///     let mut tester = ProcessorTester::new(["words"], move |_partition| {
///         CountPerKey { store: counts.clone() }
///     });
///
///     for word in ["to", "be", "or", "not", "to", "be"] {
///         tester.push(TestMessage::new("words").key(word));
///     }
///     tester.run_batch().await?;
///     assert_eq!(store.snapshot()["to"], "2@4");
///     assert_eq!(tester.outgoing().len(), 4);
///     assert_eq!(tester.outgoing()[0], TestMessage::new("counts").key("be").value("2"));
///     assert_eq!(tester.committed("words"), Some(Offset::new(6)));
///
///     // A crash before the offsets were committed: all of it comes again, and changes nothing.
///     let before = store.snapshot();
///     tester.replay().await?;
///     assert_eq!(store.snapshot(), before);
///     tester.replay_cut(1).await?;
///     assert_eq!(store.snapshot(), before);
///     Ok(())
/// }
/// ```
///
/// # Runtime
/// The async methods need a tokio runtime with its timer, such as that of `#[tokio::test]`. Paused time and the
/// current-thread runtime are fine.
///
/// # Cancel safety
/// If the future of [`run_batch`](Self::run_batch) or [`run_all`](Self::run_all) is dropped, the batch stays where it
/// is, perhaps within `process`. The next run continues it, `revoke` drains it, and `lose` and `crash` drop it. So a
/// time-out around `run_batch`, followed by `lose`, shows what a processor leaves behind when it is cancelled at an
/// `await`.
pub struct ProcessorTester {
    topics: Arc<[Arc<str>]>,
    partition: i32,
    max_batch_messages: usize,
    max_in_flight: usize,
    drain_deadline: Duration,
    metrics: Metrics,
    factory: Arc<Mutex<Box<dyn DynFactory>>>,
    calls: Arc<Calls>,
    log: Arc<TestLog>,
    producer: Arc<TestProducer>,
    committer: Committer,
    board: Arc<Board>,
    /// Each notification makes the lane tick.
    ticks: Arc<Notify>,
    assigned: bool,
    lane: Option<Lane>,
    /// What was committed when the last run began: a crash goes back to it.
    committed_before: Vec<Option<Offset>>,
}

impl ProcessorTester {
    /// A tester for these input topics, with the partition number 0 assigned. It takes the same closure as
    /// [`Builder::build`](crate::Builder::build), and calls it when the first run begins. The name of the topic
    /// processor is `tester`.
    ///
    /// # Panics
    /// No topic is given, or a topic is given twice.
    #[track_caller]
    pub fn new<P: Processor>(
        topics: impl IntoIterator<Item = impl Into<String>>,
        factory: impl FnMut(&StartContext) -> P + Send + 'static,
    ) -> Self {
        Self::with_factory(topics, factory)
    }

    /// Like [`new`](Self::new), with the same factory as
    /// [`Builder::build_with_factory`](crate::Builder::build_with_factory).
    ///
    /// # Panics
    /// No topic is given, or a topic is given twice.
    #[track_caller]
    pub fn with_factory(
        topics: impl IntoIterator<Item = impl Into<String>>,
        factory: impl ProcessorFactory,
    ) -> Self {
        let topics: Arc<[Arc<str>]> = topics.into_iter().map(|topic| topic.into().into()).collect();
        assert!(!topics.is_empty(), "a processor has at least one input topic");
        for (index, topic) in topics.iter().enumerate() {
            assert!(!topics[..index].contains(topic), "input topic `{topic}` comes twice");
        }
        let producer = Arc::new(TestProducer::default());
        let calls = Calls::new(producer.clone());
        let log = TestLog::new(topics.clone());
        let factory = WatchedFactory { factory: Box::new(factory), calls: calls.clone() };
        Self {
            committed_before: log.committed(),
            topics,
            partition: 0,
            max_batch_messages: usize::MAX,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            drain_deadline: DEFAULT_DRAIN_DEADLINE,
            metrics: Metrics::global(NAME),
            factory: Arc::new(Mutex::new(Box::new(factory))),
            calls,
            committer: drive::committing_to(&log),
            log,
            producer,
            board: Board::new(),
            ticks: Arc::default(),
            assigned: true,
            lane: None,
        }
    }

    /// Sets the partition number. Default: 0.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = partition;
        self
    }

    /// Sets the most messages in a batch. Default: no limit, so a batch ends where the test runs it.
    ///
    /// # Panics
    /// The number is 0.
    #[must_use]
    #[track_caller]
    pub fn max_batch_messages(mut self, messages: usize) -> Self {
        assert!(messages > 0, "a batch has at least one message");
        self.max_batch_messages = messages;
        self
    }

    /// Sets how many batches may be in flight, as [`Builder::max_in_flight`](crate::Builder::max_in_flight) does.
    /// Default: 16. The setting only has an effect while [acks are held](Self::hold_acks).
    ///
    /// # Panics
    /// The number is 0.
    #[must_use]
    #[track_caller]
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        assert!(batches > 0, "at least one batch must be in flight for anything to happen");
        self.max_in_flight = batches;
        self
    }

    /// Sets how long a batch may still run when the partition is [revoked](Self::revoke), as
    /// [`Builder::drain_deadline`](crate::Builder::drain_deadline) does. Default: 30 s.
    #[must_use]
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.drain_deadline = deadline.min(LONGEST_DRAIN);
        self
    }

    /// Sets where metrics go, as [`Builder::metrics`](crate::Builder::metrics) does, under the processor name
    /// `tester`. Gauges are not set.
    #[must_use]
    pub fn metrics(mut self, recorder: impl Recorder + Send + Sync + 'static) -> Self {
        self.metrics = Metrics::new(NAME, recorder);
        self
    }

    /// Adds a message to its topic, and returns its offset. The next run delivers the message.
    ///
    /// Messages are delivered in the order in which they are pushed, across all topics, in the tester's
    /// [partition](Self::partition), whatever partition they name.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Offset, Processor};
    /// # struct Ignore;
    /// # impl Processor for Ignore {
    /// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// let mut tester = ProcessorTester::new(["orders", "profiles"], |_| Ignore);
    /// assert_eq!(tester.push(TestMessage::new("orders").value("1")), Offset::new(0));
    /// assert_eq!(tester.push(TestMessage::new("orders").value("2").offset(7)), Offset::new(7));
    /// assert_eq!(tester.push(TestMessage::new("orders").value("3")), Offset::new(8));
    /// assert_eq!(tester.push(TestMessage::new("profiles").key("42")), Offset::new(0));
    /// assert_eq!(tester.pending(), 4);
    /// ```
    ///
    /// # Panics
    /// The topic is not an input topic, or the message's [own offset](TestMessage::offset) is not after those already
    /// in the topic.
    #[track_caller]
    pub fn push(&mut self, message: impl Into<TestMessage>) -> Offset {
        let message = message.into();
        let topic = self.topic_index(&message.topic);
        let end = self.log.end(topic);
        let offset = message.offset.unwrap_or(end);
        assert!(offset >= end, "offset {offset} in `{}`, where the next is {end}", message.topic);
        self.log.push(topic, offset, message);
        offset
    }

    /// Delivers pushed messages as one batch: all of them or, if there are more than
    /// [`max_batch_messages`](Self::max_batch_messages), the first ones. Returns when the batch is finished and its
    /// offsets are committed. The result is the number of messages given to `process`.
    ///
    /// Without messages, `process` is not called, and the result is 0. While [acks are held](Self::hold_acks), this
    /// returns as soon as the batch waits for them, and begins no batch if [`max_in_flight`](Self::max_in_flight)
    /// batches already wait. If an earlier run was dropped within `process`, this one finishes that batch and begins
    /// no other.
    ///
    /// # Errors
    /// The error that [`run`](crate::TopicProcessor::run) would return. As when `run` ends, what finished before is
    /// committed, and the processor is dropped. To continue, [`assign`](Self::assign) or [`replay`](Self::replay).
    /// Without an assignment, the error's kind is [`InvalidInput`](crate::ErrorKind::InvalidInput).
    pub async fn run_batch(&mut self) -> Result<usize> {
        self.begin_run()?;
        let (before, _) = self.calls.given();
        self.step(self.max_batch_messages).await?;
        Ok(self.calls.given().0 - before)
    }

    /// Delivers everything that was pushed, in batches of at most [`max_batch_messages`](Self::max_batch_messages),
    /// and returns the number of messages given to `process`. While [acks are held](Self::hold_acks), it returns when
    /// [`max_in_flight`](Self::max_in_flight) batches wait for them.
    ///
    /// # Errors
    /// Those of [`run_batch`](Self::run_batch).
    pub async fn run_all(&mut self) -> Result<usize> {
        self.run_in_batches(self.max_batch_messages).await
    }

    /// Makes the processor [tick](crate::Processor::tick), and commits what is finished then. Ticks come only from here,
    /// never from time. If as many batches wait for held acks as [may be in flight](Self::max_in_flight), the tick
    /// follows when they are released.
    ///
    /// # Errors
    /// Those of [`run_batch`](Self::run_batch), and the error of `tick`.
    ///
    /// ```
    /// use kasper::testkit::ProcessorTester;
    /// use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};
    ///
    /// struct Heartbeat;
    ///
    /// impl Processor for Heartbeat {
    ///     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
    ///         Ok(())
    ///     }
    ///
    ///     async fn tick(&mut self, context: &mut Context) -> Result<(), BoxError> {
    ///         context.send(OutgoingMessage::new("heartbeats").value(context.partition().to_string()));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let mut tester = ProcessorTester::new(["orders"], |_| Heartbeat).partition(3);
    /// tester.tick().await?;
    /// assert_eq!(tester.take_outgoing(), [OutgoingMessage::new("heartbeats").value("3")]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn tick(&mut self) -> Result<()> {
        self.begin_run()?;
        self.ticks.notify_one();
        self.settle().await
    }

    /// Simulates a crash, and processes everything since the beginning of the last run once more:
    /// [`crash`](Self::crash), [`assign`](Self::assign), [`run_all`](Self::run_all).
    ///
    /// # Errors
    /// Those of [`run_batch`](Self::run_batch).
    pub async fn replay(&mut self) -> Result<usize> {
        self.replay_cut(self.max_batch_messages).await
    }

    /// Like [`replay`](Self::replay), in batches of at most `max_batch_messages`.
    ///
    /// # Errors
    /// Those of [`run_batch`](Self::run_batch).
    ///
    /// # Panics
    /// The number is 0.
    pub async fn replay_cut(&mut self, max_batch_messages: usize) -> Result<usize> {
        assert!(max_batch_messages > 0, "a batch has at least one message");
        self.crash();
        self.assign();
        self.run_in_batches(max_batch_messages).await
    }

    /// The process dies at the worst moment: everything of the last run is processed and sent, but its offsets are
    /// not committed. The processor is dropped where it stands. The committed offsets go back to where they were when
    /// the last run began.
    ///
    /// A [revocation](Self::revoke), and a run that ended with an error, commit what finished. A crash after them
    /// takes nothing back.
    pub fn crash(&mut self) {
        let committed = std::mem::take(&mut self.committed_before);
        self.log.set_committed(&committed);
        self.committed_before = committed;
        self.unassign();
    }

    /// The group revokes the partition: batches in flight finish (until the [drain deadline](Self::drain_deadline),
    /// and unless their acks are [held](Self::hold_acks)), the finished prefix is committed, and the processor is
    /// dropped.
    ///
    /// # Errors
    /// A batch in flight failed.
    pub async fn revoke(&mut self) -> Result<()> {
        let Some(lane) = &self.lane else {
            self.unassign();
            return Ok(());
        };
        self.log.open(0);
        let deadline = Instant::now() + addable(self.drain_deadline);
        lane.commands.send_replace(Command::Drain(Some(deadline)));
        // A lane that does not end waits for acks that the test holds: then the deadline may as well
        // have passed, and what is in flight is dropped.
        let end = self.drive().await;
        self.end_lane(end).await
    }

    /// The partition is lost, as after a session time-out: the processor is dropped where it stands, and nothing more
    /// is committed. The offsets of the last run count as not committed, either.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// use std::time::Duration;
    ///
    /// struct Slow;
    ///
    /// impl Processor for Slow {
    ///     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
    ///         tokio::time::sleep(Duration::from_secs(60)).await;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let mut tester = ProcessorTester::new(["orders"], |_partition| Slow);
    /// tester.push(TestMessage::new("orders"));
    /// let run = tokio::time::timeout(Duration::from_secs(1), tester.run_batch()).await;
    /// assert!(run.is_err()); // still within `process`
    /// tester.lose().await; // drops `process` at its `await`
    /// assert_eq!((tester.in_flight(), tester.pending(), tester.committed("orders")), (0, 1, None));
    /// # }
    /// ```
    pub async fn lose(&mut self) {
        if let Some(lane) = &self.lane {
            lane.commands.send_replace(Command::Stop);
            let _nothing_of_it_counts = self.drive().await;
        }
        self.crash();
    }

    /// The partition is assigned again, after [`revoke`](Self::revoke), [`lose`](Self::lose), [`crash`](Self::crash),
    /// an error, or [`Context::close`](crate::Context::close). The next run makes a fresh processor and continues at
    /// the committed offsets. Does nothing if the partition is already assigned.
    pub fn assign(&mut self) {
        if !self.assigned {
            self.assigned = true;
            self.board.control.send_modify(|control| control.close = false);
        }
    }

    /// Makes the next undelivered message to this topic fail with this reason, as a message that is too large does.
    /// Two calls make two messages fail.
    pub fn fail_delivery(&mut self, topic: impl Into<String>, reason: impl Into<String>) {
        self.producer.fail_next(topic.into(), reason.into());
    }

    /// Holds acks back from now on: batches that send something stay in flight until
    /// [`release_acks`](Self::release_acks). That call also returns the error of a later batch, because a failed
    /// processor first waits for the batches in flight.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Offset, Processor};
    /// # struct Forward;
    /// # impl Processor for Forward {
    /// #     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    /// #         Ok(batch.iter().for_each(|message| context.forward("audit", &message)))
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let mut tester = ProcessorTester::new(["orders"], |_partition| Forward);
    /// tester.hold_acks();
    /// tester.push(TestMessage::new("orders").value("1"));
    /// tester.run_batch().await?;
    /// assert_eq!((tester.in_flight(), tester.committed("orders")), (1, None));
    /// tester.release_acks().await?;
    /// assert_eq!((tester.in_flight(), tester.committed("orders")), (0, Some(Offset::new(1))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn hold_acks(&mut self) {
        self.producer.hold_acks();
    }

    /// Releases all acks that were held, and holds none any more. Batches that waited for acks finish and are
    /// committed; no other batch begins.
    ///
    /// # Errors
    /// A delivery had failed, or a `process` that waited in [`flush`](crate::Context::flush) continued and failed.
    pub async fn release_acks(&mut self) -> Result<()> {
        self.producer.release_acks();
        match &self.lane {
            Some(_) => self.settle().await,
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ProcessorTester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessorTester")
            .field("topics", &self.topics)
            .field("partition", &self.partition)
            .field("assigned", &self.assigned)
            .field("pending", &self.pending())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
