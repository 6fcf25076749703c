//! The limits of a [`Builder`]: sizes of batches, what is held in memory, times.

use std::time::Duration;

use super::Builder;

impl Builder {
    /// The most messages in a batch. Default: 10,000. Larger batches need fewer round trips to the store, but replay
    /// more messages after a failure.
    ///
    /// At first a batch is cut at 2,000 messages or 512 KiB, whichever comes first: it is then still in the CPU's caches when its
    /// messages are sent on. Each batch that waits doubles both for the next one, up to the limits set here, since a wait costs the
    /// same for any size. A batch waits if its `process` is pending at an `.await`, or if it cannot begin because
    /// [`max_in_flight`](Builder::max_in_flight) others have not got their acks. Every eight batches in a row that don't wait
    /// take one doubling back. A call that blocks its thread does not count as a wait. With
    /// [`max_batch_wait`](Builder::max_batch_wait) above zero, the limits set here hold from the beginning.
    #[doc(alias = "BatchSize")]
    pub fn max_batch_messages(mut self, messages: usize) -> Self {
        self.options.max_batch_messages = messages;
        self
    }

    /// The most bytes of keys and values in a batch. Default: 4 MiB. Batches are smaller at first, see
    /// [`max_batch_messages`](Builder::max_batch_messages): large ones no longer fit into the CPU's caches. A single message that is
    /// larger makes a batch of its own. Outside of its queue, a partition holds up to this much in the batch that is processed, and
    /// up to [`max_in_flight_bytes`](Builder::max_in_flight_bytes) in messages that wait for their acks, and what the last batch sent.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.options.max_batch_bytes = bytes;
        self
    }

    /// How long a batch may wait to be filled, counted from the moment when its first message is taken from the queue. Default: zero,
    /// so a batch is what has arrived, up to its limits: it grows with the load by itself, and latency stays low. Any other value
    /// also lets batches be as large as [`max_batch_messages`](Builder::max_batch_messages) and
    /// [`max_batch_bytes`](Builder::max_batch_bytes) from the beginning.
    #[doc(alias = "BatchWaitDuration")]
    pub fn max_batch_wait(mut self, wait: Duration) -> Self {
        self.options.max_batch_wait = wait;
        self
    }

    /// Makes batches as large as they can be while 99 % of the messages have their offset committed within this time from
    /// their arrival in this process. Default: none, so a batch is what has arrived. At least 10 ms.
    ///
    /// Larger batches make fewer calls of the store, and less work for each message. With a target, a batch waits for more
    /// messages as long as the target allows, given how long recent batches took until they were processed, acknowledged and
    /// committed. It is cut earlier if it becomes so large that it would take too long. The limits
    /// [`max_batch_messages`](Builder::max_batch_messages) and [`max_batch_bytes`](Builder::max_batch_bytes) hold as without a
    /// target. The price is latency: most messages take nearly as long as the target allows.
    ///
    /// The target cannot be met while there is a backlog, or while the store and the brokers alone take longer. Then batches don't
    /// wait, and are as large as the limits allow. The log says so once; [`Status::target_missed`](crate::Status::target_missed) says
    /// for how long, and the metric `kasper_latency_seconds` by how much. The time that a message spends at the producer and at the
    /// brokers does not count.
    ///
    /// Offsets are committed more often: [`commit_interval`](Builder::commit_interval) is a quarter of the target, at most 1 s
    /// and at least 5 ms, if it is not set. Each commit is a request to the group's coordinator. `build` refuses a commit interval that
    /// is not shorter than the target, and a target together with [`max_batch_wait`](Builder::max_batch_wait): both say how long a
    /// batch waits.
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
    /// let builder = builder.target_latency(Duration::from_millis(200)).commit_interval(Duration::from_secs(1));
    /// let error = builder.build(|_| Totals).await.unwrap_err();
    /// assert!(error.to_string().contains("`commit_interval` (1s) is not shorter than `target_latency` (200ms)"));
    /// # }
    /// ```
    pub fn target_latency(mut self, target: Duration) -> Self {
        self.options.target_latency = Some(target);
        self
    }

    /// How often [`tick`](crate::Processor::tick) is called for each partition: the time from the start of the processor
    /// to the first call, and from the moment when all that a call sent is acknowledged to the next call. A call is late
    /// if a batch is being processed when it is due, if there is no room for more in flight, or if the partition is
    /// paused. Default: never; at least 1 ms.
    ///
    /// ```
    /// # #[cfg(feature = "kafka")]
    /// # async fn example() -> kasper::Result<()> {
    /// # use kasper::testkit::EmbeddedBroker;
    /// use std::time::Duration;
    ///
    /// use kasper::{Batch, BoxError, Context, Processor, TopicProcessor};
    ///
    /// struct Alarm;
    ///
    /// impl Processor for Alarm {
    ///     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
    ///         Ok(())
    ///     }
    ///
    ///     async fn tick(&mut self, context: &mut Context) -> Result<(), BoxError> {
    ///         context.close();
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # let broker = EmbeddedBroker::start()?;
    /// # broker.create_topic("orders", 1)?;
    /// # let builder = TopicProcessor::builder("alarm", ["orders"]).brokers(broker.brokers()).partitions([0]);
    /// let processor = builder.tick_every(Duration::from_millis(50)).build(|_partition| Alarm).await?;
    /// let report = processor.run().await?; // the topic is empty
    /// assert_eq!(report.messages, 0);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "kafka")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn tick_every(mut self, interval: Duration) -> Self {
        self.options.tick_interval = Some(interval);
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
    /// Default: 2 MiB; with more than 16 partition numbers a share of 32 MiB, at least 256 KiB. A higher limit keeps slow brokers
    /// busy (2 MiB for each 10 ms is 200 MiB/s, for each partition). It costs memory and, if the brokers are near, CPU: messages
    /// that wait are evicted from the processor's caches.
    ///
    /// One call of `process` may send more than this. What it sends stays in memory until it
    /// [flushes](crate::Context::flush) or returns.
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Self {
        self.options.max_in_flight_bytes = Some(bytes);
        self
    }

    /// How much memory may be taken by messages that are fetched ahead and wait in queues, over all partitions. Default:
    /// 8 MiB for each partition number, at least 16 and at most 64 MiB. The setting must be at least 64 KiB. More helps if brokers are
    /// far away, or if large batches save round trips to a store; less saves memory.
    ///
    /// Each partition number has a share. It is fixed when the client is made, and allows for this process getting
    /// all partition numbers. The queue of a partition number is full when the values in it have as many bytes as the
    /// share, or when it has one message for each KiB of the share: the client keeps 350 bytes for each message,
    /// however small. A fetch that was on its way at that moment still comes in. In total, a stalled process takes up
    /// to twice this setting, for values from none to a MiB, and for keys and headers of up to about 1 KiB; with less than
    /// 768 KiB for each topic-partition, up to four times.
    ///
    /// The following takes more. Larger keys and headers still count as one message. Producers' batches may be
    /// compressed or have many thousands of messages, and the broker returns at least one whole batch for each
    /// partition. With many partitions and a small budget, each partition takes at least some 110 KiB of small
    /// messages. `docs/operations.md` has figures.
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.options.max_buffered_bytes = Some(bytes);
        self
    }

    /// How often the offsets of finished batches are committed, besides at revocations and at the end. Default: 1 s; with
    /// [`target_latency`](Builder::target_latency) a quarter of that, at most 1 s and at least 5 ms.
    /// After a crash, batches that finished since the last commit are replayed, and so are batches in flight.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.options.commit_interval = Some(interval);
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

    /// How long batches in flight may take to finish when their partition is revoked or the topic processor shuts down.
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
    /// let error = builder.build(|_| Totals).await.unwrap_err();
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

    /// How long an outgoing message may wait for its ack. After this time its batch fails, which stops the topic processor.
    /// Default: no limit, so the topic processor waits until an outage of the brokers is over. At least 1 ms, at most 24.8
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
}
