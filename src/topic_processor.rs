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
/// [`TopicProcessor::builder`] configures one, and it consumes once you call one of its `run` methods. Run as many as
/// you like, in one process or in several: topic processors with the same name share the partitions.
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
///     .build(|_| Audit)
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

/// The clients, and what the user supplied.
pub(crate) struct Connected {
    pub(crate) consumer: Arc<dyn Consumer>,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    pub(crate) producer: Arc<dyn Producer>,
    pub(crate) factory: Box<dyn DynFactory>,
}

impl TopicProcessor {
    pub(crate) fn new(settings: Arc<Settings>, connected: Connected) -> Self {
        let board = Board::new();
        let handle = Handle::new(board.clone(), settings.name.clone(), settings.metrics.clone());
        let Connected { consumer, events, producer, factory } = connected;
        let coordinator = Coordinator::new(settings, consumer, producer, events, factory, board);
        Self {
            coordinator,
            handle,
            #[cfg(feature = "admin")]
            admin: None,
        }
    }

    /// A handle to control and watch the topic processor while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Processes until [`Handle::close`] is called or something fails.
    ///
    /// `run` then lets the batches in flight finish (until the [drain deadline](crate::Builder::drain_deadline)),
    /// commits the offsets of the finished batches (within [`commit_timeout`](crate::Builder::commit_timeout)),
    /// leaves the group (within 10 s), and returns. Each partition number is processed in a task of the current tokio runtime.
    ///
    /// # Errors
    /// - [`Process`](crate::ErrorKind::Process), [`Panic`](crate::ErrorKind::Panic): the user's code failed. The
    ///   source of a `Process` error is the user's error. If `process` failed, the context has `topic`, `partition`
    ///   and `offsets`, and that batch is not committed; if the factory failed, the context has `partition`.
    /// - [`Delivery`](crate::ErrorKind::Delivery): an outgoing message could not be delivered. The context has the
    ///   message's `topic`, and the `batch` that it was made from, which is not committed. If `process` returns the
    ///   error of a [flush](crate::Context::flush), the kind is `Process` instead, with the `Delivery` error as its
    ///   source.
    /// - [`OffsetOutOfRange`](crate::ErrorKind::OffsetOutOfRange): see [`out_of_range`](crate::Builder::out_of_range).
    ///   Also returned if an input topic was deleted and created again.
    /// - [`UnknownTopic`](crate::ErrorKind::UnknownTopic): an input topic was deleted;
    ///   [`UnknownPartition`](crate::ErrorKind::UnknownPartition): a static partition does not exist;
    ///   [`Config`](crate::ErrorKind::Config): the input topics, or the members of the group, no longer fit together.
    ///   See [`topic_check_interval`](crate::Builder::topic_check_interval).
    /// - [`Commit`](crate::ErrorKind::Commit): the last commit failed; or the group has members, and therefore Kafka
    ///   accepts no offsets of [static partitions](crate::Builder::partitions).
    /// - [`Unauthorized`](crate::ErrorKind::Unauthorized): a right to a topic or to the group is missing. `run`
    ///   returns at once if fetching is refused, or with the [consumer protocol](crate::Builder::consumer_protocol);
    ///   otherwise after 10 s.
    /// - [`Backend`](crate::ErrorKind::Backend): the Kafka client failed for good, or got a message that it cannot
    ///   decode.
    ///
    /// Unavailable brokers are not an error: the clients retry until the brokers return.
    ///
    /// # Cancel safety
    /// Dropping the future is like a crash: the partitions' tasks end at their next `await`, nothing more is
    /// committed, and messages that were not committed are processed again. The process leaves the group in the
    /// background. Dropping never blocks.
    #[doc(alias = "RunLoop")]
    pub async fn run(self) -> Result<Report> {
        self.run_until(std::future::pending()).await
    }

    /// Like [`run`](TopicProcessor::run), but also ends when the future `stop` completes; see
    /// [`shutdown_signal`](crate::shutdown_signal).
    ///
    /// # Errors
    /// As [`run`](TopicProcessor::run).
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<Report> {
        self.coordinator.run(Until::Closed, stop).await
    }

    /// Like [`run`](TopicProcessor::run), but also ends when all messages are processed that the partitions had when
    /// this member was assigned them.
    ///
    /// Partitions that are assigned later count too, up to their end at that time. Partitions that are revoked or
    /// lost no longer count. With the [consumer protocol](crate::Builder::consumer_protocol), partitions may be
    /// assigned one by one: the method returns when the partitions assigned so far are done. Without any partition, it returns
    /// once the group is stable: after some seconds, or after about 15 s with the consumer protocol. Messages
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
