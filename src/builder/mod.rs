//! [`Builder`]: configures a [`TopicProcessor`].

mod brokers;
mod build;
mod check;
mod fetch_ahead;
mod names;
mod options;
mod properties;
mod topics;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::{Instrument as _, info_span};

pub use self::options::Partitioner;
use self::options::{GroupProtocol, Options};
use crate::broker::kafka::OauthToken;
use crate::error::{BoxError, Result};
use crate::metrics::{Metrics, Recorder};
use crate::processor::ProcessorFactory;
use crate::settings::{OutOfRange, StartFrom};
use crate::status::RebalanceEvent;
use crate::topic_processor::TopicProcessor;

/// Configures a [`TopicProcessor`]; made by [`TopicProcessor::builder`].
///
/// Every setting has a default but for the brokers. Nothing is checked before
/// [`build`](Builder::build), which reports every fault at once.
#[doc(alias = "Config")]
#[must_use = "a builder does nothing before `build`"]
pub struct Builder {
    options: Options,
    #[cfg(feature = "admin")]
    pub(crate) admin: Option<crate::admin::AdminAddress>,
}

impl TopicProcessor {
    /// Begins to configure a processor of these input topics.
    ///
    /// The name is part of the consumer group's, of log lines and of metrics. All instances of the
    /// same job have the same name.
    #[doc(alias = "NewTopicProcessor")]
    pub fn builder<T: Into<String>>(
        name: impl Into<String>,
        topics: impl IntoIterator<Item = T>,
    ) -> Builder {
        Builder::new(name.into(), topics.into_iter().map(Into::into).collect())
    }
}

impl Builder {
    pub(crate) fn new(name: String, topics: Vec<String>) -> Self {
        Self {
            options: Options::new(name, topics),
            #[cfg(feature = "admin")]
            admin: None,
        }
    }

    /// The brokers to ask first: `host:port`, several separated by commas. Required.
    ///
    /// Without a port it is 9092. An IPv6 address stands in brackets: `[::1]:9092`. librdkafka's form with a
    /// protocol, `SASL_SSL://host:port`, is accepted if it agrees with the property `security.protocol`.
    /// Spaces around an entry and empty entries are ignored; `build` refuses every other entry that is not an
    /// address, and names it.
    pub fn brokers(mut self, brokers: impl Into<String>) -> Self {
        self.options.brokers = brokers.into();
        self
    }

    /// Sets a [librdkafka property][properties] for the consumer, the producer, or both, whichever
    /// has it: security, compression, time-outs, client id, static membership
    /// (`group.instance.id`), …
    ///
    /// `build` refuses those that the library's guarantees rest on, under each of librdkafka's names for them,
    /// and values that librdkafka doesn't take, with the reason. If a property is set more than once, under
    /// one name or several (`linger.ms`, `queue.buffering.max.ms`), the last one counts. The values of
    /// passwords and keys are never logged.
    ///
    /// [properties]: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
    pub fn kafka(mut self, property: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.properties.push((property.into(), value.into()));
        self
    }

    /// The consumer group. Default: `kasper-topic-processor-{name}`, as in Go Kasper, so that a
    /// running deployment can be taken over in place.
    pub fn group_id(mut self, group_id: impl Into<String>) -> Self {
        self.options.group_id = Some(group_id.into());
        self
    }

    /// Uses Kafka's newer rebalance protocol (KIP-848, `group.protocol=consumer`) with the broker's
    /// `range` assignor. Default: the classic protocol with `range`.
    ///
    /// Rebalances then don't stop the partitions that stay where they are. It needs brokers of
    /// version 4.0 or later, and librdkafka's side of it is younger than the classic one. All members
    /// of a group must use the same protocol.
    pub fn consumer_protocol(mut self) -> Self {
        self.options.group_protocol = GroupProtocol::Consumer;
        self
    }

    /// Processes exactly these partition numbers, of each input topic that has them, without joining
    /// the group; offsets are still committed to it. Default: the group shares out the partitions.
    ///
    /// Nothing fences static partitions: that no two processes have the same is up to you. Kafka
    /// refuses their commits while the group has members that subscribe.
    ///
    /// ```
    /// # use kasper::TopicProcessor;
    /// let builder = TopicProcessor::builder("totals", ["orders"]).partitions(0..12);
    /// ```
    #[doc(alias = "InputPartitions")]
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = i32>) -> Self {
        self.options.partitions = Some(partitions.into_iter().collect());
        self
    }

    /// Allows input topics with differing partition counts in a group, and members that have a partition number of
    /// some of the topics only. Default: an error, at `build` or
    /// [while it runs](Builder::topic_check_interval).
    ///
    /// The `range` assignor divides each topic by its own count, and among the members that subscribe to it. So
    /// partition *p* of two topics can be given to different members where their counts differ, where members have
    /// different lists of topics (a rolling deploy that adds a topic), or with another assignor. With this,
    /// partition-wise joins are not promised.
    pub fn allow_unaligned_topics(mut self) -> Self {
        self.options.allow_unaligned_topics = true;
        self
    }

    /// The most messages in a batch. Default: 10,000. Larger batches make fewer round trips to the
    /// store and replay more after a failure.
    #[doc(alias = "BatchSize")]
    pub fn max_batch_messages(mut self, messages: usize) -> Self {
        self.options.max_batch_messages = messages;
        self
    }

    /// The most bytes of keys and values in a batch. Default: 4 MiB. A single larger message makes a
    /// batch of its own. A partition may have this much twice outside of its queue: in the batch that is
    /// processed, and in what waits for its acks. Large batches no longer fit into the CPU's caches.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.options.max_batch_bytes = bytes;
        self
    }

    /// How long a batch may wait to be filled, counted from its first message. Default: zero, which
    /// takes what has arrived: batches grow with the load by themselves, and latency stays low
    /// without it.
    #[doc(alias = "BatchWaitDuration")]
    pub fn max_batch_wait(mut self, wait: Duration) -> Self {
        self.options.max_batch_wait = wait;
        self
    }

    /// How many batches of a partition may have begun and not be finished: the one in `process`, and those that
    /// wait for their acks. Default: 16. With 1, a batch begins when the one before is acknowledged.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.options.max_in_flight = batches;
        self
    }

    /// The memory that a partition's outgoing messages may take up while they wait for their acks; the
    /// next batch begins when they take less. Each message counts as its bytes and 128 more, for what the Kafka client needs
    /// besides. A batch of which at least half is [forwarded](crate::Context::forward) counts as a whole. The memory
    /// that it was fetched into, which other partitions may share, is not counted.
    ///
    /// Default: 2 MiB. More keeps brokers busy that answer slowly (2 MiB for each 10 ms is 200 MiB/s,
    /// for each partition), and costs memory and, with brokers that are near, CPU: what waits leaves
    /// the processor's caches.
    ///
    /// One call of `process` may send more than this. What it sends stays in memory until it
    /// [flushes](crate::Context::flush) or returns.
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.options.max_in_flight_bytes = bytes;
        self
    }

    /// How much memory messages may take that are fetched ahead and wait in queues, over all partitions.
    /// Default: 64 MiB, at least 64 KiB. More helps where brokers are far; less saves memory.
    ///
    /// Each partition number has a share, which is fixed when the client is made, for the case that this
    /// process gets all of them. Its queue is full when the values in it have so many bytes, or when it
    /// has a message for each KiB of the share: the client keeps 350 bytes for each message, however
    /// small. A fetch that was on its way then still comes in. All in all, a process that is stalled takes
    /// up to twice this, for values from none to a MiB, and keys and headers of up to about 1 KiB.
    ///
    /// Larger keys and headers count as one message, too, and take more. So do producers' batches that are
    /// compressed or have many thousands of messages: the broker returns at least one whole batch for each
    /// partition. So do many partitions with a small budget: each takes some 110 KiB of small messages at least. `docs/operations.md` has figures.
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.options.max_buffered_bytes = bytes;
        self
    }

    /// How often the offsets of finished batches are committed, besides at revocations and at the end.
    /// Default: 1 s. A crash replays what finished since the last commit, and what was in flight.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.options.commit_interval = interval;
        self
    }

    /// How often offsets that have not changed are committed again. Default: 30 s. They are also
    /// committed at a clean shutdown.
    ///
    /// Brokers delete a committed offset some time (`offsets.retention.minutes`, 7 days by default) after its last
    /// commit, unless the group has members. [Static partitions](Builder::partitions) have a group without members, and
    /// with the [consumer protocol](Builder::consumer_protocol) so has a job whose processes have all ended. A partition
    /// without messages would lose its offset while the processor runs, and begin at
    /// [`start_from`](Builder::start_from) after a restart. The default is short enough for every retention that a
    /// broker can have. A longer interval saves the group's coordinator a request, and a record for each idle
    /// partition; keep it far below the retention.
    pub fn offset_refresh_interval(mut self, interval: Duration) -> Self {
        self.options.offset_refresh_interval = interval;
        self
    }

    /// How long batches in flight may take to finish when their partition is revoked or the processor
    /// shuts down. Default: 30 s or half of `max.poll.interval.ms`, whichever is less. What is not
    /// finished then is dropped, and comes again at the next owner.
    ///
    /// The whole group waits for a member that drains. At most three quarters of
    /// `max.poll.interval.ms`, which is what the group allows; the last commit comes on top
    /// ([`commit_timeout`](Builder::commit_timeout)).
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.options.drain_deadline = Some(deadline);
        self
    }

    /// How long a revocation, or a shutdown, waits for the last commit to be answered when everything
    /// is drained. Default: 10 s or a quarter of `max.poll.interval.ms`, whichever is less; at most
    /// that quarter, and at least 1 ms. It matters when the group's coordinator is away.
    ///
    /// Then the revocation is answered, or the shutdown goes on and ends with an
    /// [error](crate::ErrorKind::Commit), and what was finished last may come again. The client still
    /// makes the commit if it can, as long as the group has not moved on.
    pub fn commit_timeout(mut self, timeout: Duration) -> Self {
        self.options.commit_timeout = Some(timeout);
        self
    }

    /// Fails the batch of an outgoing message that is not acknowledged in this time, and so stops the
    /// processor. Default: none; an outage of the brokers is waited out. At least 1 ms, at most 24.8 days.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.options.delivery_timeout = Some(timeout);
        self
    }

    /// After how long without progress, though there is lag, a partition is reported as stalled, in
    /// the log and in [`PartitionStatus::stalled`](crate::PartitionStatus::stalled). Default: 60 s; at least 1 ms.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.options.stall_timeout = timeout;
        self
    }

    /// How long `build` tries to reach a broker. Default: 10 s; at least 1 ms.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// How long `build` waits for input topics that don't exist yet. Default: not at all.
    pub fn wait_for_topics(mut self, wait: Duration) -> Self {
        self.options.wait_for_topics = wait;
        self
    }

    /// Where partitions begin for which the group has no committed offset. Default: earliest. Partitions
    /// that are added to a topic later begin at their earliest message with [`StartFrom::Latest`], too.
    pub fn start_from(mut self, start: StartFrom) -> Self {
        self.options.start_from = start;
        self
    }

    /// What happens when an offset to read from is not in the log. Default: fail.
    pub fn out_of_range(mut self, policy: OutOfRange) -> Self {
        self.options.out_of_range = policy;
        self
    }

    /// How keys choose partitions. Default: as Java's clients do.
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.options.partitioner = partitioner;
        self
    }

    /// Called when partitions come or go. It runs on the task that answers the group: be quick, and
    /// don't block. If it panics, the processor stops in order, with an error of kind
    /// [`Panic`](crate::ErrorKind::Panic).
    pub fn on_rebalance(mut self, hook: impl Fn(&RebalanceEvent) + Send + Sync + 'static) -> Self {
        self.options.on_rebalance = Some(Arc::new(hook));
        self
    }

    /// Where metrics go: a recorder of the `metrics` facade, or an `Arc` of one that other processors use, too;
    /// see [`metrics`](crate::metrics). Default: the facade's global recorder, as it is when `run` begins; where
    /// none is installed, nowhere.
    #[doc(alias = "MetricsProvider")]
    pub fn metrics(mut self, recorder: impl Recorder + Send + Sync + 'static) -> Self {
        self.options.metrics = Metrics::new(self.options.name.as_str(), recorder);
        self
    }

    /// How often gauges are set: lag, batches in flight and the like. Default: 1 s. With a shorter one,
    /// peaks between two scrapes are still not visible. When partitions come or go, gauges are set at once.
    #[doc(alias = "MetricsUpdateInterval")]
    pub fn metrics_interval(mut self, interval: Duration) -> Self {
        self.options.metrics_interval = interval;
        self
    }

    /// How often brokers are asked where the logs end that this process does not read just now: of partitions that
    /// are paused, or whose queue is full. Default: 10 s. The others' ends come with their messages. A shorter
    /// interval makes their [lag](crate::PartitionStatus::lag) more up to date, at a request to each of their
    /// leaders.
    pub fn lag_interval(mut self, interval: Duration) -> Self {
        self.options.lag_interval = interval;
        self
    }

    /// How often brokers are asked whether the input topics are still there, the same, and with the same number of
    /// partitions. Default: 10 s, at one small request. What they say is in
    /// [`Status::topics`](crate::Status::topics), in the log, and in a metric.
    ///
    /// The processor stops with an error that says what to do
    /// - of kind [`UnknownTopic`](crate::ErrorKind::UnknownTopic), when a topic does not exist for three of these
    ///   intervals;
    /// - of kind [`OffsetOutOfRange`](crate::ErrorKind::OffsetOutOfRange), when a topic was deleted and created again,
    ///   which two answers in a row must say;
    /// - of kind [`Config`](crate::ErrorKind::Config), when, for three of these intervals, input topics of a group have
    ///   differing numbers of partitions, or this process has a partition number of some of the topics only.
    ///   Meanwhile it processes nothing of what is affected. See
    ///   [`allow_unaligned_topics`](Builder::allow_unaligned_topics).
    ///
    /// With several input topics and the classic protocol the client looks for changed topics of its group as often (1 s to
    /// 5 min): the property `topic.metadata.refresh.interval.ms`, which may be set to at most twice this interval then.
    /// With `client.rack` a member then also notices that a broker comes or goes, and joins its group again.
    pub fn topic_check_interval(mut self, interval: Duration) -> Self {
        self.options.topic_check_interval = interval;
        self
    }

    /// Supplies tokens for `sasl.mechanism=OAUTHBEARER`; called on a thread of its own whenever one is
    /// needed, and may block for the time that takes. Needs the feature `ssl`.
    ///
    /// Consumer, producer and `build` each ask for a token of their own. If tokens are expensive to get, cache them. An
    /// error of the provider is one of `build`. Later it is a warning: the old token serves as long as
    /// it lives, and the provider is asked again after 10 s.
    pub fn oauth_token(
        mut self,
        provider: impl Fn() -> Result<OauthToken, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.options.token_provider = Some(Arc::new(provider));
        self
    }

    /// Checks the configuration, connects, and looks at the input topics.
    ///
    /// # Errors
    /// - [`Config`](crate::ErrorKind::Config): the message lists every fault found;
    /// - [`Unavailable`](crate::ErrorKind::Unavailable): no broker answered within the
    ///   [connect time-out](Builder::connect_timeout);
    /// - [`Unauthorized`](crate::ErrorKind::Unauthorized): a broker refused the password or the token, there
    ///   is no token, or the broker's certificate is not trusted, and no other broker answered in the
    ///   second after that;
    /// - [`UnknownTopic`](crate::ErrorKind::UnknownTopic), [`UnknownPartition`](crate::ErrorKind::UnknownPartition):
    ///   the cluster doesn't have what is to be processed.
    ///
    /// # Cancel safety
    /// Dropping the future gives up; the clients are closed in the background.
    pub async fn build(self, factory: impl ProcessorFactory) -> Result<TopicProcessor> {
        let span = info_span!("processor", processor = %self.options.name);
        self.connect(factory).instrument(span).await
    }
}

/// What is no factory is refused where it is given; `compile-fail/` has the compiler's words.
///
/// ```compile_fail,E0277
/// struct NotAProcessor;
/// let builder = kasper::TopicProcessor::builder("enrich-orders", ["orders"]);
/// let _future = builder.build(|_partition| NotAProcessor);
/// ```
///
/// ```compile_fail,E0277
/// use kasper::{Batch, BoxError, Context, Processor, TopicProcessor};
///
/// struct Enrich;
///
/// impl Processor for Enrich {
///     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
///         Ok(())
///     }
/// }
///
/// let _future = TopicProcessor::builder("enrich-orders", ["orders"]).build(Enrich);
/// ```
#[cfg(doctest)]
struct Refused;

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.options.fmt(f)
    }
}
