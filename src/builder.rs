//! [`Builder`]: configures a [`TopicProcessor`].

mod build;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::{Instrument as _, info_span};

use crate::broker::kafka::{OauthToken, TokenProvider};
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::metrics::{Metrics, Recorder};
use crate::processor::ProcessorFactory;
use crate::properties::GroupProtocol;
use crate::settings::{OutOfRange, RebalanceHook, StartFrom};
use crate::status::RebalanceEvent;
use crate::topic_processor::TopicProcessor;

/// How the key of an outgoing message chooses its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Partitioner {
    /// Murmur2 of the key, and a random partition for messages without one: what Java's clients do,
    /// Kafka Streams and Kafka Connect included. The default, so that topics written here and there
    /// can be joined.
    #[default]
    Murmur2Random,
    /// FNV-1a of the key, random without one: sarama's default, hence Go Kasper's.
    Fnv1aRandom,
    /// CRC32 of the key, random without one: librdkafka's own default.
    ConsistentRandom,
}

impl Partitioner {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Murmur2Random => "murmur2_random",
            Self::Fnv1aRandom => "fnv1a_random",
            Self::ConsistentRandom => "consistent_random",
        }
    }
}

/// Configures a [`TopicProcessor`]; made by [`TopicProcessor::builder`].
///
/// Every setting has a default but for the brokers. Nothing is checked before
/// [`build`](Builder::build), which reports every fault at once.
#[doc(alias = "Config")]
#[must_use = "a builder does nothing before `build`"]
pub struct Builder {
    pub(crate) name: String,
    pub(crate) topics: Vec<String>,
    pub(crate) brokers: String,
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) group_id: Option<String>,
    pub(crate) group_protocol: GroupProtocol,
    pub(crate) partitions: Option<Vec<i32>>,
    pub(crate) allow_unaligned_topics: bool,
    pub(crate) max_batch_messages: usize,
    pub(crate) max_batch_bytes: usize,
    pub(crate) max_batch_wait: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) max_in_flight_bytes: usize,
    pub(crate) max_buffered_bytes: usize,
    pub(crate) commit_interval: Duration,
    pub(crate) offset_refresh_interval: Duration,
    pub(crate) drain_deadline: Option<Duration>,
    pub(crate) commit_timeout: Option<Duration>,
    pub(crate) delivery_timeout: Option<Duration>,
    pub(crate) stall_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) wait_for_topics: Duration,
    pub(crate) start_from: StartFrom,
    pub(crate) out_of_range: OutOfRange,
    pub(crate) partitioner: Partitioner,
    pub(crate) on_rebalance: Option<RebalanceHook>,
    pub(crate) token_provider: Option<TokenProvider>,
    pub(crate) metrics: Metrics,
    pub(crate) metrics_interval: Duration,
    pub(crate) lag_interval: Duration,
    pub(crate) topic_check_interval: Duration,
    #[cfg(feature = "admin")]
    pub(crate) admin: Option<crate::admin::OfBuilder>,
}

impl Builder {
    pub(crate) fn new(name: String, topics: Vec<String>) -> Self {
        Self {
            metrics: Metrics::global(name.as_str()),
            metrics_interval: Duration::from_secs(1),
            lag_interval: Duration::from_secs(10),
            topic_check_interval: Duration::from_secs(10),
            name,
            topics,
            brokers: String::new(),
            properties: Vec::new(),
            group_id: None,
            group_protocol: GroupProtocol::Classic,
            partitions: None,
            allow_unaligned_topics: false,
            max_batch_messages: 10_000,
            max_batch_bytes: 4 << 20,
            max_batch_wait: Duration::ZERO,
            max_in_flight: 16,
            max_in_flight_bytes: 2 << 20,
            max_buffered_bytes: 64 << 20,
            commit_interval: Duration::from_secs(1),
            offset_refresh_interval: Duration::from_secs(30),
            drain_deadline: None,
            commit_timeout: None,
            delivery_timeout: None,
            stall_timeout: Duration::from_mins(1),
            connect_timeout: Duration::from_secs(10),
            wait_for_topics: Duration::ZERO,
            start_from: StartFrom::default(),
            out_of_range: OutOfRange::default(),
            partitioner: Partitioner::default(),
            on_rebalance: None,
            token_provider: None,
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
        self.brokers = brokers.into();
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
        self.properties.push((property.into(), value.into()));
        self
    }

    /// The consumer group. Default: `kasper-topic-processor-{name}`, as in Go Kasper, so that a
    /// running deployment can be taken over in place.
    pub fn group_id(mut self, group_id: impl Into<String>) -> Self {
        self.group_id = Some(group_id.into());
        self
    }

    /// Uses Kafka's newer rebalance protocol (KIP-848, `group.protocol=consumer`) with the broker's
    /// `range` assignor. Default: the classic protocol with `range`.
    ///
    /// Rebalances then don't stop the partitions that stay where they are. It needs brokers of
    /// version 4.0 or later, and librdkafka's side of it is younger than the classic one. All members
    /// of a group must use the same protocol.
    pub fn consumer_protocol(mut self) -> Self {
        self.group_protocol = GroupProtocol::Consumer;
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
        self.partitions = Some(partitions.into_iter().collect());
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
        self.allow_unaligned_topics = true;
        self
    }

    /// The most messages in a batch. Default: 10,000. Larger batches make fewer round trips to the
    /// store and replay more after a failure.
    #[doc(alias = "BatchSize")]
    pub fn max_batch_messages(mut self, messages: usize) -> Self {
        self.max_batch_messages = messages;
        self
    }

    /// The most bytes of keys and values in a batch. Default: 4 MiB. A single larger message makes a
    /// batch of its own. A partition may have this much twice outside of its queue, in the batch that is
    /// processed and in what waits for its acks, and what is large leaves the processor's caches.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// How long a batch may wait to be filled, counted from its first message. Default: zero, which
    /// takes what has arrived: batches grow with the load by themselves, and latency stays low
    /// without it.
    #[doc(alias = "BatchWaitDuration")]
    pub fn max_batch_wait(mut self, wait: Duration) -> Self {
        self.max_batch_wait = wait;
        self
    }

    /// How many processed batches of a partition may wait for their acks while the next is
    /// processed. Default: 16. With 1, a batch begins when the one before is acknowledged.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.max_in_flight = batches;
        self
    }

    /// The memory that a partition's outgoing messages may take up while they wait for their acks; the
    /// next batch begins when they take less. Each counts with its own bytes and 128 more, for most
    /// of the 200 that the Kafka client needs besides; a batch that is mostly [forwarded](crate::Context::forward), with
    /// the keys and values of all its messages. Such a batch also keeps what they were fetched in, which
    /// other partitions may share, and that is not counted.
    ///
    /// Default: 2 MiB. More keeps brokers busy that answer slowly (2 MiB for each 10 ms is 200 MiB/s,
    /// for each partition), and costs memory and, with brokers that are near, CPU: what waits leaves
    /// the processor's caches.
    ///
    /// One call of `process` may send more than this. What it sends stays in memory until it
    /// [flushes](crate::Context::flush) or returns.
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.max_in_flight_bytes = bytes;
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
    /// partition. `docs/operations.md` has figures.
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.max_buffered_bytes = bytes;
        self
    }

    /// How often the offsets of finished batches are recorded, besides at revocations and at the end.
    /// Default: 1 s. A crash replays at most what finished in this time and what was in flight.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval;
        self
    }

    /// How often offsets that have not changed are committed again. Default: 30 s. They are also
    /// committed at a clean shutdown.
    ///
    /// Brokers delete a committed offset some time (`offsets.retention.minutes`, 7 days by default) after its last
    /// commit, unless the group has members: those of [static partitions](Builder::partitions), and
    /// with the [consumer protocol](Builder::consumer_protocol) those of a group whose processes are all
    /// gone. A partition without messages would lose its offset while the processor runs, and begin at
    /// [`start_from`](Builder::start_from) after a restart. The default is short enough for every retention that a
    /// broker can have. A longer interval saves the group's coordinator a request, and a record for each idle
    /// partition; keep it far below the retention.
    pub fn offset_refresh_interval(mut self, interval: Duration) -> Self {
        self.offset_refresh_interval = interval;
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
        self.drain_deadline = Some(deadline);
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
        self.commit_timeout = Some(timeout);
        self
    }

    /// Fails the batch of an outgoing message that is not acknowledged in this time, and so stops the
    /// processor. Default: none; an outage of the brokers is waited out. At least 1 ms, at most 24.8 days.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = Some(timeout);
        self
    }

    /// After how long without progress, though there is lag, a partition is reported as stalled, in
    /// the log and in [`PartitionStatus::stalled`](crate::PartitionStatus::stalled). Default: 60 s; at least 1 ms.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// How long `build` tries to reach a broker. Default: 10 s; at least 1 ms.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long `build` waits for input topics that don't exist yet. Default: not at all.
    pub fn wait_for_topics(mut self, wait: Duration) -> Self {
        self.wait_for_topics = wait;
        self
    }

    /// Where partitions begin for which the group has no committed offset. Default: earliest. Partitions
    /// that are added to a topic later begin at their earliest message with [`StartFrom::Latest`], too.
    pub fn start_from(mut self, start: StartFrom) -> Self {
        self.start_from = start;
        self
    }

    /// What happens when an offset to read from is not in the log. Default: fail.
    pub fn out_of_range(mut self, policy: OutOfRange) -> Self {
        self.out_of_range = policy;
        self
    }

    /// How keys choose partitions. Default: as Java's clients do.
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.partitioner = partitioner;
        self
    }

    /// Called when partitions come or go. It runs on the task that answers the group: be quick, and
    /// don't block. If it panics, the processor stops in order, with an error of kind
    /// [`Panic`](ErrorKind::Panic).
    pub fn on_rebalance(mut self, hook: impl Fn(&RebalanceEvent) + Send + Sync + 'static) -> Self {
        self.on_rebalance = Some(Arc::new(hook));
        self
    }

    /// Where metrics go: a recorder of the `metrics` facade, or an `Arc` of one that other processors use, too;
    /// see [`metrics`](crate::metrics). Default: the facade's global recorder, as it is when `run` begins; where
    /// none is installed, nowhere.
    #[doc(alias = "MetricsProvider")]
    pub fn metrics(mut self, recorder: impl Recorder + Send + Sync + 'static) -> Self {
        self.metrics = Metrics::new(self.name.as_str(), recorder);
        self
    }

    /// How often gauges are set: lag, batches in flight and the like. Default: 1 s. A shorter interval shows
    /// peaks between two scrapes to nobody. When partitions come or go, gauges are set at once.
    #[doc(alias = "MetricsUpdateInterval")]
    pub fn metrics_interval(mut self, interval: Duration) -> Self {
        self.metrics_interval = interval;
        self
    }

    /// How often brokers are asked where the logs end that this process does not read just now: of partitions that
    /// are paused, or whose queue is full. Default: 10 s. The others' ends come with their messages. A shorter
    /// interval makes their [lag](crate::PartitionStatus::lag) more up to date, at a request to each of their
    /// leaders.
    pub fn lag_interval(mut self, interval: Duration) -> Self {
        self.lag_interval = interval;
        self
    }

    /// How often brokers are asked whether the input topics are still there, the same, and with the same number of
    /// partitions. Default: 10 s, at one small request. What they say is in
    /// [`Status::topics`](crate::Status::topics), in the log, and in a metric.
    ///
    /// The processor stops with an error that says what to do
    /// - of kind [`UnknownTopic`](ErrorKind::UnknownTopic), when a topic does not exist for three of these
    ///   intervals;
    /// - of kind [`OffsetOutOfRange`](ErrorKind::OffsetOutOfRange), when a topic was deleted and created again,
    ///   which two answers in a row must say;
    /// - of kind [`Config`](ErrorKind::Config), when, for three of these intervals, input topics of a group have
    ///   differing numbers of partitions, or this process has a partition number of some of the topics only.
    ///   Meanwhile it processes nothing of what is affected. See
    ///   [`allow_unaligned_topics`](Builder::allow_unaligned_topics).
    pub fn topic_check_interval(mut self, interval: Duration) -> Self {
        self.topic_check_interval = interval;
        self
    }

    /// Supplies tokens for `sasl.mechanism=OAUTHBEARER`; called on a thread of its own whenever one is
    /// needed, and may block for the time that takes. Needs the feature `ssl`.
    ///
    /// Consumer and producer ask each for itself, as does `build`: keep the token where it is dear. An
    /// error of the provider is one of `build`. Later it is a warning: the old token serves as long as
    /// it lives, and the provider is asked again after 10 s.
    pub fn oauth_token(
        mut self,
        provider: impl Fn() -> Result<OauthToken, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.token_provider = Some(Arc::new(provider));
        self
    }

    /// Checks the configuration, connects, and looks at the input topics.
    ///
    /// # Errors
    /// - [`Config`](ErrorKind::Config): the message lists every fault found;
    /// - [`Unavailable`](ErrorKind::Unavailable): no broker answered within the
    ///   [connect time-out](Builder::connect_timeout);
    /// - [`Unauthorized`](ErrorKind::Unauthorized): a broker refused the password or the token, there
    ///   is no token, or the broker's certificate is not trusted, and no other broker answered in the
    ///   second after that;
    /// - [`UnknownTopic`](ErrorKind::UnknownTopic), [`UnknownPartition`](ErrorKind::UnknownPartition):
    ///   the cluster doesn't have what is to be processed.
    ///
    /// # Cancel safety
    /// Dropping the future gives up; the clients are closed in the background.
    pub async fn build(self, factory: impl ProcessorFactory) -> Result<TopicProcessor> {
        let span = info_span!("processor", processor = %self.name);
        self.connect(factory).instrument(span).await
    }
}

impl fmt::Debug for Builder {
    /// Names of properties, never their values: they hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let properties: Vec<_> = self.properties.iter().map(|(name, _)| name).collect();
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("topics", &self.topics)
            // `build` refuses what may have a password in it.
            .field("brokers", if self.brokers.contains('@') { &"(hidden)" } else { &self.brokers })
            .field("properties", &properties)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl Error {
    pub(crate) fn faults(faults: &[String]) -> Self {
        Self::new(ErrorKind::Config, faults.join("; "))
    }
}
