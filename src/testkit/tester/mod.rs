//! [`ProcessorTester`]: drives a processor through the stages of the pipeline, in the test's own task.
//!
//! Place in the data path: around it. The lane, its batcher, the batches in flight and the committer are those that
//! run in production. [`broker`] stands in for Kafka at both ends. The tester does what the coordinator does: it
//! starts and ends the lane, and decides when offsets are committed ([`drive`]). [`watched`] tells it whether the
//! lane waits for the user's code. Tests set the tester up here, call the methods of [`actions`],
//! and those of [`outcome`], which say what came of it.

mod actions;
mod broker;
mod drive;
mod outcome;
mod rewind;
mod watched;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use self::broker::{TestLog, TestProducer};
use self::drive::Lane;
use self::watched::{Calls, WatchedFactory};
use crate::message::Offset;
use crate::metrics::{Metrics, Recorder};
use crate::on_error::ErrorPolicy;
use crate::pipeline::committer::Committer;
use crate::pipeline::progress::Board;
use crate::processor::{DynFactory, Processor, ProcessorFactory};
use crate::start_context::StartContext;

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
/// same before and after. [`prove`](super::prove()) does that and more, in hundreds of schedules.
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
    on_error: ErrorPolicy,
    factory: Arc<Mutex<Box<dyn DynFactory>>>,
    calls: Arc<Calls>,
    log: Arc<TestLog>,
    producer: Arc<TestProducer>,
    committer: Committer,
    board: Arc<Board>,
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
            on_error: ErrorPolicy::default(),
            factory: Arc::new(Mutex::new(Box::new(factory))),
            calls,
            committer: drive::committing_to(&log),
            log,
            producer,
            board: Board::new(),
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

    /// What happens when `process` fails, as [`Builder::on_error`](crate::Builder::on_error) says. Letters are among the
    /// [outgoing](ProcessorTester::outgoing) messages. The tester waits for the backoff: pause tokio's clock
    /// (`#[tokio::test(start_paused = true)]`), and it takes no time. Default: stop at the first error.
    #[must_use]
    pub fn on_error(mut self, policy: impl Into<ErrorPolicy>) -> Self {
        self.on_error = policy.into();
        self
    }

    /// Sets where metrics go, as [`Builder::metrics`](crate::Builder::metrics) does, under the processor name
    /// `tester`. Gauges are not set.
    #[must_use]
    pub fn metrics(mut self, recorder: impl Recorder + Send + Sync + 'static) -> Self {
        self.metrics = Metrics::new(NAME, recorder);
        self
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
