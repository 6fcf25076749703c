//! [`Context`]: what `process` can do besides reading its batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::{fmt, mem};

use tokio::sync::watch;

use crate::broker::{Handover, Producer};
use crate::command::{self, Command};
use crate::error::{self, BoxError, Error, ErrorKind};
use crate::message::delivery::Delivery;
use crate::message::outbox::Outbox;
use crate::message::rejected::Rejected;
use crate::message::{Batch, Message, OutgoingMessage};
use crate::metrics::Metrics;
use crate::metrics::lane::LaneMetrics;
use crate::on_error::{LetterWriter, Reason};

/// A larger value is encoded into memory of its own.
const KEPT_ENCODED: usize = 64 << 10;

/// Sends messages, and tells a processor which partition it works on.
/// [`Processor::process`](crate::Processor::process) gets it with each batch.
///
/// # Sometimes you want to…
/// - send a message without waiting: [`send`](Context::send);
/// - send an input message on, unchanged: [`forward`](Context::forward);
/// - wait for the acknowledgements now, before `process` returns: [`flush`](Context::flush);
/// - reject a message of the batch, without an error: [`dead_letter`](Context::dead_letter);
/// - know whether the batch is processed again after an error: [`attempt`](Context::attempt);
/// - count something of your own: [`metrics`](Context::metrics);
/// - stop the topic processor: [`close`](Context::close).
#[doc(alias = "Sender")]
pub struct Context {
    partition: i32,
    outbox: Outbox,
    producer: Arc<dyn Producer>,
    /// Deliveries of this batch that are not known to be acknowledged, in order.
    deliveries: VecDeque<Arc<Delivery>>,
    /// How many of `deliveries`, from the first, are with the producer.
    handed_over: usize,
    /// The first delivery of this batch that failed at a flush. It fails the batch.
    failed: Option<Arc<Delivery>>,
    /// The empty send buffer of a finished delivery; the next delivery takes it.
    spent: Option<Outbox>,
    /// Empty: kept for its memory.
    encoded: Vec<u8>,
    rejected: Rejected,
    letters: Arc<LetterWriter>,
    attempt: u32,
    close: Arc<dyn Fn() + Send + Sync>,
    metrics: Arc<LaneMetrics>,
    commands: watch::Receiver<Command>,
}

impl Context {
    pub(crate) fn new(
        partition: i32,
        producer: Arc<dyn Producer>,
        letters: Arc<LetterWriter>,
        close: Arc<dyn Fn() + Send + Sync>,
        metrics: Arc<LaneMetrics>,
        commands: watch::Receiver<Command>,
    ) -> Self {
        Self {
            partition,
            outbox: Outbox::default(),
            producer,
            deliveries: VecDeque::new(),
            handed_over: 0,
            failed: None,
            spent: None,
            encoded: Vec::new(),
            rejected: Rejected::default(),
            letters,
            attempt: 1,
            close,
            metrics,
            commands,
        }
    }

    /// Adds a message to the outgoing messages, which are produced when `process` returns `Ok`, or at
    /// [`flush`](Context::flush).
    ///
    /// This call copies the message into a buffer. It sends nothing, doesn't block, and can't fail. If the message
    /// can't be delivered later (too large, no such topic, delivery time-out), the batch is not committed, and the
    /// topic processor stops with an error that has the batch, the reason, and the message's topic, partition,
    /// position among the messages sent together, and sizes of key and value. Messages to one partition keep the
    /// order in which they were sent.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};
    /// struct Audit;
    ///
    /// impl Processor for Audit {
    ///     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    ///         for message in batch.iter() {
    ///             let value = message.value().ok_or("no value")?;
    ///             context.send(OutgoingMessage::new("audit").value(value));
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let mut tester = ProcessorTester::new(["orders"], |_| Audit);
    /// tester.push(TestMessage::new("orders").value("1"));
    /// tester.run_batch().await?;
    /// assert_eq!(tester.take_outgoing(), [TestMessage::new("audit").value("1")]);
    ///
    /// // Of a batch that fails, nothing is produced.
    /// tester.push(TestMessage::new("orders").value("2"));
    /// tester.push(TestMessage::tombstone("orders", "3"));
    /// assert!(tester.run_batch().await.is_err());
    /// assert!(tester.outgoing().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn send(&mut self, message: OutgoingMessage<'_>) {
        self.outbox.push(message);
    }

    /// [Sends](Context::send) an incoming message on to another topic, with its key, value, headers and timestamp.
    /// The partitioner chooses its partition anew, from the key.
    ///
    /// If at least half of a batch, by bytes, is forwarded, keys and values are not copied: the whole batch stays in
    /// memory until it is acknowledged, within [`max_in_flight_bytes`](crate::Builder::max_in_flight_bytes).
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};
    /// # struct Copy;
    /// # impl Processor for Copy {
    /// #     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    /// for message in batch.iter() {
    ///     context.forward("copies", &message);
    /// }
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # let mut tester = ProcessorTester::new(["orders"], |_| Copy).partition(3);
    /// # tester.push(TestMessage::tombstone("orders", "7").header("via", "web").timestamp(1_700_000_000_000));
    /// # tester.run_batch().await?;
    /// // A tombstone stays one. The partition is left to the partitioner.
    /// let copy = TestMessage::new("copies").key("7").header("via", "web").timestamp(1_700_000_000_000);
    /// assert_eq!(tester.outgoing(), [copy]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn forward(&mut self, topic: &str, message: &Message<'_>) {
        self.outbox.push_forwarded(topic, message);
    }

    /// Produces everything that was sent so far, waits until it is acknowledged, and then frees its memory. A call of
    /// `process` that sends far more than it reads should flush every megabyte or so: what it sends stays in memory
    /// until it flushes or returns.
    ///
    /// The offsets of the batch are committed only when `process` has returned and the remaining messages are
    /// acknowledged too. After a failure, flushed messages are sent again when the batch is replayed.
    ///
    /// # Errors
    /// A message could not be delivered. The batch fails with that error even if `process` ignores it and returns
    /// `Ok`, and each later flush of the batch returns the error again.
    ///
    /// If the partition was given away in the meantime, nothing is produced, and `flush` fails with an error of kind
    /// [`Delivery`](crate::ErrorKind::Delivery) if there was something to send. This happens to a `process` that
    /// blocks its thread past the [drain deadline](crate::Builder::drain_deadline).
    ///
    /// # Cancel safety
    /// If the future is dropped, the messages stay part of the batch: the batch is not committed before they are
    /// acknowledged.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, ErrorKind, OutgoingMessage, Processor};
    /// struct Careless;
    ///
    /// impl Processor for Careless {
    ///     async fn process(&mut self, _: &Batch, context: &mut Context) -> Result<(), BoxError> {
    ///         context.send(OutgoingMessage::new("audit").value("1"));
    ///         assert_eq!(context.pending(), 1);
    ///         let _ignored = context.flush().await;
    ///         assert_eq!(context.pending(), 0);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let mut tester = ProcessorTester::new(["orders"], |_| Careless);
    /// tester.push(TestMessage::new("orders"));
    /// tester.fail_delivery("audit", "too large");
    /// assert_eq!(tester.run_batch().await.unwrap_err().kind(), ErrorKind::Delivery);
    /// assert_eq!(tester.committed("orders"), None);
    /// # }
    /// ```
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.hand_over().await?;
        while let Some(delivery) = self.deliveries.front() {
            delivery.finished().await;
            let Some(delivery) = self.deliveries.pop_front() else { break };
            self.handed_over -= 1;
            if let Err(error) = delivery.result() {
                self.failed.get_or_insert(delivery);
                return Err(error);
            }
            self.metrics.acknowledged(&delivery);
            self.spent = Delivery::into_spent(delivery);
        }
        self.failed.as_ref().map_or(Ok(()), |delivery| delivery.result())
    }

    /// Rejects a message of the batch: it is sent to the dead letter topic, with its key, value, headers and timestamp, and
    /// with headers that say where it came from and why it was rejected. Nothing else changes: the batch goes on, and
    /// its offsets are committed when everything that was sent, the letter included, is acknowledged.
    ///
    /// The letter is sent when `process` returns `Ok`, not at a [`flush`](Context::flush); when it returns an error,
    /// the letter is discarded. A second letter for the same message is ignored. The topic is the one of the
    /// [`ErrorPolicy`](crate::ErrorPolicy), whose [circuit](crate::Circuit) counts the message as rejected.
    ///
    /// Returning an error has the same result and finds the message by itself, at the price of processing the batch
    /// again in parts. Where many messages are malformed, this is cheaper.
    ///
    /// # Errors
    /// - [`Config`](ErrorKind::Config): there is no dead letter topic.
    /// - [`Process`](ErrorKind::Process): the reason is an error that is [retryable](crate::Error::is_retryable), such as a store
    ///   that is away. Return it from `process`: the batch is then processed again.
    /// - [`InvalidInput`](ErrorKind::InvalidInput): the message is not one of this batch.
    ///
    /// ```
    /// use kasper::testkit::{ProcessorTester, TestMessage};
    /// use kasper::{Batch, BoxError, Context, ErrorPolicy, OnError, Processor};
    ///
    /// struct Amounts;
    ///
    /// impl Processor for Amounts {
    ///     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    ///         for message in batch.iter() {
    ///             match message.key_str()?.parse::<u64>() {
    ///                 Ok(amount) if amount > 100 => context.forward("large", &message),
    ///                 Ok(_) => {}
    ///                 Err(error) => context.dead_letter(&message, error)?,
    ///             }
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let policy = ErrorPolicy::new(OnError::stop()).dead_letter_topic("orders-dead");
    /// let mut tester = ProcessorTester::new(["orders"], |_| Amounts).on_error(policy);
    /// tester.push(TestMessage::new("orders").key("12"));
    /// tester.push(TestMessage::new("orders").key("x"));
    /// tester.run_batch().await?;
    /// let letter = &tester.outgoing()[0];
    /// assert_eq!(letter.topic, "orders-dead");
    /// assert_eq!(letter.header_value("__dlq.errors.offset"), Some(&b"1"[..]));
    /// assert_eq!(letter.header_value("__dlq.errors.message"), Some(&b"invalid digit found in string"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn dead_letter(
        &mut self,
        message: &Message<'_>,
        reason: impl Into<BoxError>,
    ) -> Result<(), Error> {
        let Some(topic) = self.letters.own_topic() else {
            let fault = "there is no dead letter topic for `dead_letter`; name one with `Builder::on_error` and \
                `ErrorPolicy::dead_letter_topic`";
            return Err(Error::new(ErrorKind::Config, fault).with("partition", self.partition));
        };
        let reason = reason.into();
        if error::chain(&*reason).any(error::is_retryable) {
            let fault = "a message is not rejected because of an error that is retryable";
            return Err(Error::new(ErrorKind::Process, fault).with_source(reason));
        }
        let Some(index) = self.outbox.index_of(message) else {
            let fault = "only a message of the batch that is being processed can be rejected";
            return Err(
                Error::new(ErrorKind::InvalidInput, fault).with("partition", self.partition)
            );
        };
        let reason = Reason::told(&reason, self.attempt);
        self.rejected.add(index, message, (Some(topic), &self.letters), &reason);
        if self.letters.policy.quarantine().is_some() {
            self.rejected.note_key(index, message);
        }
        Ok(())
    }

    /// Whether the message follows one of its topic and key that [`dead_letter`](Self::dead_letter) has rejected in this call, under
    /// [`ErrorPolicy::quarantine_by_key`](crate::ErrorPolicy::quarantine_by_key). Pass over it then: it becomes a letter,
    /// whatever you do with it, and is processed when it was replayed. Without a quarantine: no. Messages of keys that were
    /// held before never reach `process`.
    pub fn is_quarantined(&self, message: &Message<'_>) -> bool {
        let first = self.rejected.first_of_key(message);
        first.is_some_and(|first| self.outbox.index_of(message).is_some_and(|index| index > first))
    }

    /// How often the messages of this batch have been given to `process` of this partition's processor, with this
    /// call: 1, or more after an error, if the [`ErrorPolicy`](crate::ErrorPolicy) has the batch processed again. Of a
    /// `tick`, the number of calls without a success. It starts anew after a rebalance.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The number of messages sent in this call of `process` and not yet flushed.
    pub fn pending(&self) -> usize {
        self.outbox.len()
    }

    /// The partition number being processed.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Registers metrics of your own, with the recorder that the topic processor uses. Keep each counter, gauge or
    /// histogram that you register: registering is too slow to do for every batch.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// use kasper::metrics::Counter;
    ///
    /// #[derive(Default)]
    /// struct Watch {
    ///     empty: Option<Counter>,
    /// }
    ///
    /// impl Processor for Watch {
    ///     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    ///         let empty = self.empty.get_or_insert_with(|| {
    ///             context.metrics().counter("orders_empty_total", "Orders without a value.", &[])
    ///         });
    ///         empty.increment(batch.iter().filter(|message| message.value().is_none()).count() as u64);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[cfg(feature = "prometheus")]
    /// # async fn example() -> kasper::Result<()> {
    /// let recorder = kasper::metrics::prometheus()?;
    /// let tester = ProcessorTester::new(["orders"], |_| Watch::default());
    /// let mut tester = tester.metrics(recorder.clone());
    /// tester.push(TestMessage::tombstone("orders", "7"));
    /// tester.run_batch().await?;
    /// assert!(recorder.render().contains(r#"orders_empty_total{processor="tester"} 1"#));
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "prometheus")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn metrics(&self) -> &Metrics {
        self.metrics.metrics()
    }

    pub(crate) fn lane_metrics(&self) -> Arc<LaneMetrics> {
        self.metrics.clone()
    }

    /// Asks the topic processor to shut down once this batch is finished, like
    /// [`Handle::close`](crate::Handle::close).
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Offset, Processor};
    /// # struct UntilEnd;
    /// # impl Processor for UntilEnd {
    /// #     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    /// if batch.iter().any(|message| message.key() == Some(b"end")) {
    ///     context.close();
    /// }
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # let mut tester = ProcessorTester::new(["orders"], |_| UntilEnd);
    /// # tester.push(TestMessage::new("orders").key("end"));
    /// # tester.run_batch().await?;
    /// // The batch that asked for it is committed.
    /// assert!(tester.has_asked_to_close());
    /// assert_eq!(tester.committed("orders"), Some(Offset::new(1)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        (self.close)();
    }

    /// An empty buffer for an encoded value.
    pub(crate) fn take_encoded(&mut self) -> Vec<u8> {
        mem::take(&mut self.encoded)
    }

    /// Takes it back for the next value, with as much memory as is worth keeping.
    pub(crate) fn keep_encoded(&mut self, mut encoded: Vec<u8>) {
        encoded.clear();
        encoded.shrink_to(KEPT_ENCODED);
        self.encoded = encoded;
    }

    /// Drops what the last call of `process` left, so that the next call begins with nothing but its batch.
    pub(crate) fn begin(&mut self, batch: Option<Arc<Batch>>, spent: Option<Outbox>, attempt: u32) {
        self.outbox.begin(batch);
        self.rejected.clear();
        self.attempt = attempt;
        self.abandon();
        match (spent, &mut self.spent) {
            (Some(spent), _) => self.spent = Some(spent),
            // Nothing was sent lately: it may be larger than what is needed now.
            (None, Some(unused)) => unused.clear(),
            (None, None) => {}
        }
    }

    /// Hands everything sent so far to the producer, in order; waits while its queue is full.
    /// Cancel-safe: what was not handed over stays next in line.
    ///
    /// # Errors
    /// The lane must give up. `process` may have blocked its thread until after the partition was given to another
    /// member, and then flush: what it sends would follow what the new owner sends for the same messages. (An error, and
    /// not a wait for the lane to drop this future: `process` may block its thread on that, and then nobody would.)
    pub(crate) async fn hand_over(&mut self) -> Result<(), Error> {
        if !self.outbox.is_empty() {
            self.deliveries.push_back(self.outbox.take(self.spent.take()));
        }
        while let Some(delivery) = self.deliveries.get(self.handed_over) {
            if command::is_over(&self.commands) {
                return Err(given_away(self.partition));
            }
            match self.producer.produce(delivery) {
                Handover::Complete => self.handed_over += 1,
                Handover::QueueFull => self.producer.room().await,
            }
        }
        Ok(())
    }

    /// The call failed with this error: gives up what it sent and rejected, except what was flushed. Returns what it failed
    /// for. If messages that it flushed were not delivered, that is the reason, whatever it made of it.
    pub(crate) fn discard(&mut self, error: Error) -> Error {
        let mut flushed = self.failed.iter().chain(&self.deliveries);
        let undelivered = flushed.find_map(|delivery| delivery.result().err());
        let error = match undelivered.filter(|_| !error.has_kind(ErrorKind::Delivery)) {
            Some(cause) => cause.with("process", error),
            None => error,
        };
        self.outbox.begin(None);
        self.rejected.clear();
        self.abandon();
        error
    }

    /// What the call that has returned `Ok` rejects.
    #[inline]
    pub(crate) fn take_rejected(&mut self) -> Rejected {
        mem::take(&mut self.rejected)
    }

    /// Abandons the deliveries of a batch that was given up.
    fn abandon(&mut self) {
        self.handed_over = 0;
        self.failed = None;
        for delivery in self.deliveries.drain(..) {
            if delivery.next() < delivery.len() {
                self.producer.abandon(&delivery);
            }
        }
    }

    /// Ends the batch. Returns its deliveries that failed or are not known to be acknowledged; call it after
    /// [`hand_over`](Context::hand_over).
    pub(crate) fn end(&mut self) -> VecDeque<Arc<Delivery>> {
        self.outbox.end();
        self.handed_over = 0;
        let mut deliveries = mem::take(&mut self.deliveries);
        if let Some(failed) = self.failed.take() {
            deliveries.push_front(failed);
        }
        deliveries
    }
}

fn given_away(partition: i32) -> Error {
    let message = "the partition was given up before these messages were sent: nothing is sent for it any more";
    Error::new(ErrorKind::Delivery, message).with("partition", partition)
}

impl Drop for Context {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("partition", &self.partition)
            .field("pending", &self.outbox.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
