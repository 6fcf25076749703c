//! [`TopicProcessor`]: the library's main type, and the ways to run it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::broker::{Consumer, Event, Producer};
use crate::coordinator::{Coordinator, Until};
use crate::error::Result;
use crate::handle::Handle;
use crate::pipeline::progress::Board;
use crate::processor::DynFactory;
use crate::settings::Settings;
use crate::status::Report;

/// Processes the messages of its input topics, batch by batch.
///
/// Made by [`TopicProcessor::builder`]; consumes when one of the `run` methods is called. Run as many
/// as you like, in one process or in many: those with the same name share the partitions.
///
/// ```no_run
/// use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor, TopicProcessor};
///
/// struct Audit;
///
/// impl Processor for Audit {
///     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
///         for message in batch.topic("orders") {
///             context.forward("audit", &message);
///         }
///         Ok(())
///     }
/// }
///
/// # async fn example() -> kasper::Result<()> {
/// let report = TopicProcessor::builder("audit-orders", ["orders"])
///     .brokers("localhost:9092")
///     .build(|_partition| Audit)
///     .await?
///     .run_until(kasper::shutdown_signal())
///     .await?;
/// println!("{} messages", report.messages);
/// # Ok(())
/// # }
/// ```
#[must_use = "a topic processor does nothing before `run`"]
pub struct TopicProcessor {
    coordinator: Coordinator,
    handle: Handle,
    /// Serves until `run` has ended.
    #[cfg(feature = "admin")]
    pub(crate) admin: Option<crate::admin::AdminServer>,
}

/// The clients and the user's part.
pub(crate) struct Connected {
    pub(crate) consumer: Arc<dyn Consumer>,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    pub(crate) producer: Arc<dyn Producer>,
    pub(crate) factory: Box<dyn DynFactory>,
}

impl TopicProcessor {
    pub(crate) fn new(settings: Arc<Settings>, connected: Connected) -> Self {
        let board = Board::new();
        let handle = Handle::new(board.clone(), settings.name.clone());
        let Connected { consumer, events, producer, factory } = connected;
        let coordinator = Coordinator::new(settings, consumer, producer, events, factory, board);
        Self {
            coordinator,
            handle,
            #[cfg(feature = "admin")]
            admin: None,
        }
    }

    /// A handle to control and watch it while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Processes until [`Handle::close`] is called or something fails.
    ///
    /// Then the batches in flight are finished (until the
    /// [drain deadline](crate::Builder::drain_deadline)), the offsets of finished ones are committed
    /// ([`commit_timeout`](crate::Builder::commit_timeout)), and the group is left (10 s at most). Each partition
    /// number is processed in a task of the current tokio runtime.
    ///
    /// # Errors
    /// - [`Process`](crate::ErrorKind::Process), [`Panic`](crate::ErrorKind::Panic): the user's code
    ///   failed. Context: `topic`, `partition`, `offsets`; the user's error is the source. That batch
    ///   is not committed.
    /// - [`Delivery`](crate::ErrorKind::Delivery): an outgoing message could not be delivered.
    ///   Context: its `topic`, and the `batch` that it was made from, which is not committed. `Process`, with this
    ///   as its source, where `process` returns the error of a [flush](crate::Context::flush).
    /// - [`OffsetOutOfRange`](crate::ErrorKind::OffsetOutOfRange): see
    ///   [`out_of_range`](crate::Builder::out_of_range). Also where an input topic was deleted and created again.
    /// - [`UnknownTopic`](crate::ErrorKind::UnknownTopic): an input topic was deleted;
    ///   [`UnknownPartition`](crate::ErrorKind::UnknownPartition): a static partition is not there;
    ///   [`Config`](crate::ErrorKind::Config): input topics, or the group's members, no longer fit together. See
    ///   [`topic_check_interval`](crate::Builder::topic_check_interval).
    /// - [`Commit`](crate::ErrorKind::Commit): the last commit failed; or the group has members and takes no offsets of
    ///   [static partitions](crate::Builder::partitions).
    /// - [`Unauthorized`](crate::ErrorKind::Unauthorized): a right to a topic or to the group is missing: at once where it
    ///   is fetched from or with the [consumer protocol](crate::Builder::consumer_protocol), else after 10 s.
    /// - [`Backend`](crate::ErrorKind::Backend): the Kafka client failed for good, or got a message that it cannot
    ///   decode.
    ///
    /// Brokers that go away are no error: the clients try again until they return.
    ///
    /// # Cancel safety
    /// Dropping the future is a crash: the partitions' tasks end at their next await, no further commit is made, what
    /// was not committed comes again. The group is left in the background. Nothing blocks.
    #[doc(alias = "RunLoop")]
    pub async fn run(self) -> Result<Report> {
        self.run_until(std::future::pending()).await
    }

    /// Like [`run`](TopicProcessor::run), until the future is done; see
    /// [`shutdown_signal`](crate::shutdown_signal).
    ///
    /// # Errors
    /// As [`run`](TopicProcessor::run).
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<Report> {
        self.coordinator.run(Until::Closed, stop).await
    }

    /// Like [`run`](TopicProcessor::run), until everything is processed that was there when this
    /// member was given its partitions.
    ///
    /// Partitions assigned later count too, up to where they ended then; partitions that go away no
    /// longer count. With the [consumer protocol](crate::Builder::consumer_protocol) partitions may come one
    /// by one: it returns when those that are there are done. Without any partition it returns once
    /// the group is stable: after some seconds, or about 15 with the consumer protocol. Messages
    /// produced after the assignment may or may not be processed.
    ///
    /// # Errors
    /// As [`run`](TopicProcessor::run).
    pub async fn run_until_caught_up(self) -> Result<Report> {
        self.coordinator.run(Until::CaughtUp, std::future::pending()).await
    }
}

impl fmt::Debug for TopicProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicProcessor").field("handle", &self.handle).finish_non_exhaustive()
    }
}
