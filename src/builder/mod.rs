//! [`Builder`]: configures a [`TopicProcessor`].

mod brokers;
mod build;
mod check;
#[cfg(feature = "config")]
mod config;
mod fetch_ahead;
mod limits;
mod memory;
mod names;
mod options;
mod properties;
mod target;
mod topics;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::{Instrument as _, error, info_span};

#[cfg(feature = "config")]
pub use self::config::ProcessorConfig;
pub use self::options::Partitioner;
use self::options::{GroupProtocol, Options};
use crate::broker::kafka::OauthToken;
use crate::error::{BoxError, Result};
use crate::metrics::{Metrics, Recorder};
use crate::on_error::ErrorPolicy;
use crate::processor::{Processor, ProcessorFactory};
use crate::settings::{OutOfRange, StartFrom};
use crate::start_context::StartContext;
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
    pub(crate) admin: crate::admin::AdminSettings,
}

impl TopicProcessor {
    /// Begins to configure a processor of these input topics.
    ///
    /// The name is part of the consumer group's name, and of log lines and metrics (as `processor`). All instances of the same job have
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
            admin: crate::admin::AdminSettings::default(),
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
    /// let error = builder.build(|_| Totals).await.unwrap_err();
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
    /// Partitions that stay with their member then keep what was fetched, and are processed on during a rebalance; new
    /// messages are fetched when it has been answered. The protocol needs brokers of
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
    /// let error = builder().build(|_| Join).await.unwrap_err();
    /// assert_eq!(error.get("partitions"), Some("orders: 4, customers: 3"));
    /// assert!(builder().allow_unaligned_topics().build(|_| Join).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn allow_unaligned_topics(mut self) -> Self {
        self.options.allow_unaligned_topics = true;
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
    /// runs on the task that answers the group: be quick, and don't block. If it panics, the topic processor shuts down in order and returns an error of kind
    /// [`Panic`](crate::ErrorKind::Panic).
    pub fn on_rebalance(mut self, hook: impl Fn(&RebalanceEvent) + Send + Sync + 'static) -> Self {
        self.options.on_rebalance = Some(Arc::new(hook));
        self
    }

    /// What happens when `process` returns an error or panics: stop, process the batch again, or reject the message that
    /// fails; see [`ErrorPolicy`] and `docs/errors.md`. Takes an [`OnError`](crate::OnError), too. Default: stop at the
    /// first error.
    ///
    /// `build` refuses a dead letter topic that does not exist or is an input topic.
    ///
    /// ```
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Totals;
    /// # impl Processor for Totals {
    /// #     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    /// #         batch.iter().try_for_each(|order| order.key_str()?.parse::<u64>().map(drop).map_err(Into::into))
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # use kasper::testkit::{EmbeddedBroker, TestClient, TestMessage};
    /// use std::time::Duration;
    ///
    /// use kasper::{Backoff, ErrorKind, ErrorPolicy, OnError, TopicProcessor};
    ///
    /// # let broker = EmbeddedBroker::start()?;
    /// # broker.create_topic("orders", 1)?;
    /// # broker.create_topic("orders-dead", 1)?;
    /// # let orders = ["12", "x", "3"].map(|key| TestMessage::new("orders").key(key));
    /// # TestClient::new(broker.brokers(), &[])?.send_all(orders).await?;
    /// # let builder = TopicProcessor::builder("totals", ["orders"]).brokers(broker.brokers()).partitions([0]);
    /// // A store that is away is waited for; what fails otherwise is rejected; a panic stops everything.
    /// let policy = ErrorPolicy::new(OnError::dead_letter("orders-dead"))
    ///     .of_kind(ErrorKind::Panic, OnError::stop())
    ///     .retryable(Backoff::new().max_elapsed(Duration::from_secs(600)));
    /// let processor = builder.on_error(policy).build(|_| Totals).await?;
    /// let report = processor.run_until_caught_up().await?;
    /// assert_eq!((report.messages, report.rejected), (3, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_error(mut self, policy: impl Into<ErrorPolicy>) -> Self {
        self.options.on_error = policy.into();
        self
    }

    /// Where metrics go: a recorder of the `metrics` facade, or an `Arc` of a recorder that other processors use,
    /// too; see [`metrics`](crate::metrics). Default: the facade's global recorder at the time when `run` begins; if
    /// none is installed, nowhere.
    ///
    /// Processors and their stores use the same recorder with [`StartContext::metrics`], and the server of
    /// `Builder::admin` shows the metrics of a `metrics::Prometheus` at `/metrics`.
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
    /// The topic processor stops with an error that says what to do. The error's kind is
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
    /// The closure makes the [`Processor`] of a partition number, each time the number is assigned. It is told the
    /// number, the topics, the name and the metrics in a [`StartContext`]. See
    /// [`build_with_factory`](Builder::build_with_factory) if making a processor is async or can fail.
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
    /// let error = builder.build(|_| Totals).await.unwrap_err();
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
    pub async fn build<P: Processor>(
        self,
        factory: impl FnMut(&StartContext) -> P + Send + 'static,
    ) -> Result<TopicProcessor> {
        self.build_with_factory(factory).await
    }

    /// Like [`build`](Builder::build), with a [`ProcessorFactory`]: for processors whose making is async or can fail.
    ///
    /// # Errors
    /// Those of [`build`](Builder::build). The factory is not called yet: its errors end
    /// [`run`](TopicProcessor::run).
    ///
    /// # Cancel safety
    /// As [`build`](Builder::build).
    pub async fn build_with_factory(
        self,
        factory: impl ProcessorFactory,
    ) -> Result<TopicProcessor> {
        let span = info_span!("processor", processor = %self.options.name);
        let build = async {
            let built = self.connect(factory).await;
            built.inspect_err(|error| error!(?error, "the processor cannot be built"))
        };
        build.instrument(span).await
    }
}

/// The compiler refuses a value that is not a factory where it is passed; `compile-fail/` has the compiler's
/// messages.
///
/// ```compile_fail,E0277
/// struct NotAProcessor;
/// let builder = kasper::TopicProcessor::builder("enrich-orders", ["orders"]);
/// let _future = builder.build(|_| NotAProcessor);
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
