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
/// Every setting except the brokers has a default. Nothing is checked before [`build`](Builder::build), which reports
/// every fault at once.
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
    /// The name is part of the consumer group's name, of log lines and of metrics. All instances of the same job have
    /// the same name.
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
    /// The default port is 9092. An IPv6 address is written in brackets: `[::1]:9092`. librdkafka's form with a
    /// protocol, `SASL_SSL://host:port`, is accepted if it agrees with the property `security.protocol`. Spaces
    /// around an entry and empty entries are ignored; `build` refuses every other entry that is not an address, and
    /// names it.
    pub fn brokers(mut self, brokers: impl Into<String>) -> Self {
        self.options.brokers = brokers.into();
        self
    }

    /// Sets a [librdkafka property][properties] for the consumer, the producer, or both, depending on which of them
    /// has the property: security, compression, time-outs, client id, static membership (`group.instance.id`), …
    ///
    /// `build` refuses properties that the library's guarantees depend on, under each of librdkafka's names for them.
    /// It also refuses values that librdkafka doesn't accept, and gives the reason. If a property is set more than
    /// once, under one name or several (`linger.ms`, `queue.buffering.max.ms`), the last value counts. The values of
    /// passwords and keys are never logged.
    ///
    /// [properties]: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
    ///
    /// ```
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Totals;
    /// # impl Processor for Totals {
    /// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let builder = kasper::TopicProcessor::builder("totals", ["orders"]).brokers("localhost:9092");
    /// let builder = builder.kafka("compression.type", "gzip").kafka("acks", "1");
    /// let error = builder.build(|_partition| Totals).await.unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "configuration: property `acks` is set by the library: \
    ///      a batch counts as sent when all in-sync replicas have it"
    /// );
    /// # }
    /// ```
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

    /// Uses Kafka's newer rebalance protocol (KIP-848, `group.protocol=consumer`) with the broker's `range` assignor.
    /// Default: the classic protocol with `range`.
    ///
    /// Partitions that stay with their member are then not stopped by a rebalance. The protocol needs brokers of
    /// version 4.0 or later, and librdkafka's implementation of it is younger than that of the classic protocol. All
    /// members of a group must use the same protocol.
    pub fn consumer_protocol(mut self) -> Self {
        self.options.group_protocol = GroupProtocol::Consumer;
        self
    }

    /// Processes exactly these partition numbers, of each input topic that has them, without joining the group.
    /// Offsets are still committed to the group. Default: the group distributes the partitions.
    ///
    /// Nothing fences static partitions: you must ensure that no two processes have the same partitions. Kafka
    /// refuses their commits while the group has members that subscribe.
    #[doc(alias = "InputPartitions")]
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = i32>) -> Self {
        self.options.partitions = Some(partitions.into_iter().collect());
        self
    }

    /// Allows input topics with different numbers of partitions in a group, and members that have a partition number
    /// of only some of the topics. Default: an error, at `build` or [while it runs](Builder::topic_check_interval).
    ///
    /// The `range` assignor divides each topic by its own partition count, and among the members that subscribe to
    /// that topic. So partition *p* of two topics can be assigned to different members if the topics' counts differ,
    /// if members have different lists of topics (a rolling deploy that adds a topic), or if the group uses another
    /// assignor. With this setting, partition-wise joins are not promised.
    ///
    /// ```
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Join;
    /// # impl Processor for Join {
    /// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # let broker = kasper::testkit::EmbeddedBroker::start()?;
    /// broker.create_topic("orders", 4)?;
    /// broker.create_topic("customers", 3)?;
    /// # let topics = ["orders", "customers"];
    /// # let builder = || kasper::TopicProcessor::builder("join", topics).brokers(broker.brokers());
    /// let error = builder().build(|_partition| Join).await.unwrap_err();
    /// assert_eq!(error.get("partitions"), Some("orders: 4, customers: 3"));
    /// assert!(builder().allow_unaligned_topics().build(|_partition| Join).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn allow_unaligned_topics(mut self) -> Self {
        self.options.allow_unaligned_topics = true;
        self
    }

    /// The most messages in a batch. Default: 10,000. Larger batches need fewer round trips to the store, but replay
    /// more messages after a failure.
    #[doc(alias = "BatchSize")]
    pub fn max_batch_messages(mut self, messages: usize) -> Self {
        self.options.max_batch_messages = messages;
        self
    }

    /// The most bytes of keys and values in a batch. Default: 4 MiB. A single message that is larger makes a batch of
    /// its own. Outside of its queue, a partition may hold twice this much: in the batch that is processed, and in
    /// messages that wait for their acks. Large batches no longer fit into the CPU's caches.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.options.max_batch_bytes = bytes;
        self
    }

    /// How long a batch may wait to be filled, counted from its first message. Default: zero, so a batch is what has
    /// arrived: batches grow with the load by themselves, and latency stays low.
    #[doc(alias = "BatchWaitDuration")]
    pub fn max_batch_wait(mut self, wait: Duration) -> Self {
        self.options.max_batch_wait = wait;
        self
    }

    /// How many batches of a partition may be in flight, that is, begun but not finished: the batch in `process`, and
    /// those that wait for their acks. Default: 16. With 1, a batch begins when the batch before it is acknowledged.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.options.max_in_flight = batches;
        self
    }

    /// The memory that a partition's outgoing messages may take while they wait for their acks. The next batch begins
    /// when they take less. Each message counts as its bytes plus 128, for what the Kafka client needs in addition. A
    /// batch of which at least half is [forwarded](crate::Context::forward) counts as a whole. The memory that the
    /// batch was fetched into, which other partitions may share, is not counted.
    ///
    /// Default: 2 MiB. A higher limit keeps slow brokers busy (2 MiB for each 10 ms is 200 MiB/s, for each
    /// partition). It costs memory and, if the brokers are near, CPU: messages that wait are evicted from the
    /// processor's caches.
    ///
    /// One call of `process` may send more than this. What it sends stays in memory until it
    /// [flushes](crate::Context::flush) or returns.
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.options.max_in_flight_bytes = bytes;
        self
    }

    /// How much memory may be taken by messages that are fetched ahead and wait in queues, over all partitions. Default:
    /// 64 MiB; at least 64 KiB. More helps if brokers are far away; less saves memory.
    ///
    /// Each partition number has a share. It is fixed when the client is made, and allows for this process getting
    /// all partition numbers. The queue of a partition number is full when the values in it have as many bytes as the
    /// share, or when it has one message for each KiB of the share: the client keeps 350 bytes for each message,
    /// however small. A fetch that was on its way at that moment still comes in. In total, a stalled process takes up
    /// to twice this setting, for values from none to a MiB, and for keys and headers of up to about 1 KiB.
    ///
    /// The following takes more. Larger keys and headers still count as one message. Producers' batches may be
    /// compressed or have many thousands of messages, and the broker returns at least one whole batch for each
    /// partition. With many partitions and a small budget, each partition takes at least some 110 KiB of small
    /// messages. `docs/operations.md` has figures.
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.options.max_buffered_bytes = bytes;
        self
    }

    /// How often the offsets of finished batches are committed, besides at revocations and at the end. Default: 1 s.
    /// After a crash, batches that finished since the last commit are replayed, and so are batches in flight.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.options.commit_interval = interval;
        self
    }

    /// How often offsets that have not changed are committed again. Default: 30 s. They are also committed at a clean
    /// shutdown.
    ///
    /// Brokers delete a committed offset some time (`offsets.retention.minutes`, 7 days by default) after its last
    /// commit, unless the group has members. With [static partitions](Builder::partitions), the group has no members.
    /// With the [consumer protocol](Builder::consumer_protocol), it has none after all processes of the job have
    /// ended. If offsets were not committed again, a partition without messages would lose its offset while the
    /// processor runs, and begin at [`start_from`](Builder::start_from) after a restart. The default is short enough
    /// for every retention that a broker can have. A longer interval saves the group's coordinator a request, and a
    /// record for each idle partition; keep it far below the retention.
    pub fn offset_refresh_interval(mut self, interval: Duration) -> Self {
        self.options.offset_refresh_interval = interval;
        self
    }

    /// How long batches in flight may take to finish when their partition is revoked or the processor shuts down.
    /// Default: 30 s or half of `max.poll.interval.ms`, whichever is less. Batches that are not finished by then are
    /// dropped, and the next owner of the partition processes them again.
    ///
    /// The whole group waits for a member that drains. At most three quarters of `max.poll.interval.ms`, which is the
    /// time that the group allows; the last commit comes on top ([`commit_timeout`](Builder::commit_timeout)).
    ///
    /// ```
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Totals;
    /// # impl Processor for Totals {
    /// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # use std::time::Duration;
    /// # let builder = kasper::TopicProcessor::builder("totals", ["orders"]).brokers("localhost:9092");
    /// let builder = builder.kafka("max.poll.interval.ms", "40000").drain_deadline(Duration::from_secs(31));
    /// let error = builder.build(|_partition| Totals).await.unwrap_err();
    /// assert!(error.to_string().contains("longer than three quarters of `max.poll.interval.ms` (30s)"));
    /// # }
    /// ```
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.options.drain_deadline = Some(deadline);
        self
    }

    /// How long a revocation or a shutdown waits for the answer to the last commit, after everything is drained.
    /// Default: 10 s or a quarter of `max.poll.interval.ms`, whichever is less. At most that quarter, and at least 1
    /// ms. It matters when the group's coordinator is away.
    ///
    /// After this time, the revocation is answered, or the shutdown continues and ends with an
    /// [error](crate::ErrorKind::Commit). The batches that finished last may then be processed again. The client
    /// still makes the commit if it can, as long as the group has not moved on.
    pub fn commit_timeout(mut self, timeout: Duration) -> Self {
        self.options.commit_timeout = Some(timeout);
        self
    }

    /// How long an outgoing message may wait for its ack. After this time its batch fails, which stops the processor.
    /// Default: no limit, so the processor waits until an outage of the brokers is over. At least 1 ms, at most 24.8
    /// days.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.options.delivery_timeout = Some(timeout);
        self
    }

    /// After how long without progress, although there is lag, a partition is reported as stalled, in the log and in
    /// [`PartitionStatus::stalled`](crate::PartitionStatus::stalled). Default: 60 s; at least 1 ms.
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

    /// Where partitions begin that have no committed offset in the group. Default: earliest. With
    /// [`StartFrom::Latest`], partitions that are added to a topic later still begin at their earliest message.
    pub fn start_from(mut self, start: StartFrom) -> Self {
        self.options.start_from = start;
        self
    }

    /// What happens if the offset to read from is not in the log. Default: fail.
    pub fn out_of_range(mut self, policy: OutOfRange) -> Self {
        self.options.out_of_range = policy;
        self
    }

    /// How keys choose partitions. Default: as in Java's clients.
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.options.partitioner = partitioner;
        self
    }

    /// Called when partitions are assigned, revoked or lost, but not when `run` ends; see [`RebalanceEvent`]. The hook
    /// runs on the task that answers the group: be quick, and don't block. If it panics, the processor shuts down in order and returns an error of kind
    /// [`Panic`](crate::ErrorKind::Panic).
    pub fn on_rebalance(mut self, hook: impl Fn(&RebalanceEvent) + Send + Sync + 'static) -> Self {
        self.options.on_rebalance = Some(Arc::new(hook));
        self
    }

    /// Where metrics go: a recorder of the `metrics` facade, or an `Arc` of a recorder that other processors use,
    /// too; see [`metrics`](crate::metrics). Default: the facade's global recorder at the time when `run` begins; if
    /// none is installed, nowhere.
    #[doc(alias = "MetricsProvider")]
    pub fn metrics(mut self, recorder: impl Recorder + Send + Sync + 'static) -> Self {
        self.options.metrics = Metrics::new(self.options.name.as_str(), recorder);
        self
    }

    /// How often gauges such as lag and batches in flight are set. Default: 1 s. Even with a shorter interval, peaks
    /// between two scrapes are not visible. When the assignment changes, gauges are set at once.
    #[doc(alias = "MetricsUpdateInterval")]
    pub fn metrics_interval(mut self, interval: Duration) -> Self {
        self.options.metrics_interval = interval;
        self
    }

    /// How often brokers are asked for the ends of the logs that this process is not reading at the moment, because
    /// their partitions are paused or their queues are full. Default: 10 s. The ends of other logs come with their
    /// messages. With a shorter interval, the [lag](crate::PartitionStatus::lag) of these partitions is more up to
    /// date, at the price of a request to each of their leaders.
    pub fn lag_interval(mut self, interval: Duration) -> Self {
        self.options.lag_interval = interval;
        self
    }

    /// How often brokers are asked whether the input topics still exist, are still the same, and have the same number
    /// of partitions. Default: 10 s, at one small request. The result is in
    /// [`Status::topics`](crate::Status::topics), in the log, and in a metric.
    ///
    /// The processor stops with an error that says what to do. The error's kind is
    /// - [`UnknownTopic`](crate::ErrorKind::UnknownTopic) if a topic does not exist for three of these intervals;
    /// - [`OffsetOutOfRange`](crate::ErrorKind::OffsetOutOfRange) if a topic was deleted and created again, according
    ///   to two answers in a row;
    /// - [`Config`](crate::ErrorKind::Config) if, for three of these intervals, input topics of a group have
    ///   different numbers of partitions, or this process has a partition number of only some of the topics.
    ///   Meanwhile, the affected partitions are not processed. See
    ///   [`allow_unaligned_topics`](Builder::allow_unaligned_topics).
    ///
    /// With several input topics and the classic protocol, this is also how often the client looks for changes of its
    /// group's topics (between 1 s and 5 min). If you set `topic.metadata.refresh.interval.ms` yourself, it must be at
    /// most twice this interval. With `client.rack`, a member then also notices when brokers come and go, and joins
    /// its group again.
    pub fn topic_check_interval(mut self, interval: Duration) -> Self {
        self.options.topic_check_interval = interval;
        self
    }

    /// Supplies tokens for `sasl.mechanism=OAUTHBEARER`. The provider is called on a thread of its own whenever a
    /// token is needed, and may block for as long as it takes to get one. Needs the feature `ssl`.
    ///
    /// The consumer, the producer and `build` each ask for a token of their own, so cache tokens that are expensive
    /// to get. An error of the provider makes `build` fail. Later, it is only a warning: the old token is used until
    /// it expires, and the provider is asked again after 10 s.
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
    /// - [`Unauthorized`](crate::ErrorKind::Unauthorized): a broker refused the password or the token, there is no
    ///   token, or the broker's certificate is not trusted; and no other broker answered within the second after
    ///   that;
    /// - [`UnknownTopic`](crate::ErrorKind::UnknownTopic), [`UnknownPartition`](crate::ErrorKind::UnknownPartition):
    ///   a topic or a partition to process does not exist on the cluster.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the attempt; the clients are closed in the background.
    ///
    /// ```
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Totals;
    /// # impl Processor for Totals {
    /// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// # use kasper::{ErrorKind, StartFrom, TopicProcessor};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let builder = TopicProcessor::builder("totals", ["orders", "orders"])
    ///     .brokers("kafka-1:9092,kafka-2:99999")
    ///     .partitions([3, 0, 3])
    ///     .max_in_flight(0)
    ///     .start_from(StartFrom::Timestamp(-1));
    /// let error = builder.build(|_partition| Totals).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Config);
    /// for fault in [
    ///     "input topic `orders` is named twice",
    ///     "in the entry `kafka-2:99999`, `99999` is not a port",
    ///     "partition 3 is named twice",
    ///     "`max_in_flight` is 0",
    ///     "`start_from`: the timestamp is negative",
    /// ] {
    ///     assert!(error.to_string().contains(fault), "{error}");
    /// }
    /// # }
    /// ```
    pub async fn build(self, factory: impl ProcessorFactory) -> Result<TopicProcessor> {
        let span = info_span!("processor", processor = %self.options.name);
        self.connect(factory).instrument(span).await
    }
}

/// The compiler refuses a value that is not a factory where it is passed; `compile-fail/` has the compiler's
/// messages.
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
