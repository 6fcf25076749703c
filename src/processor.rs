//! The traits that users implement: [`Processor`], and [`ProcessorFactory`], which makes one per partition.

use std::future::Future;

use futures_util::future::BoxFuture;

use crate::context::Context;
use crate::error::BoxError;
use crate::message::Batch;
use crate::start_context::StartContext;

/// Processes the messages of one partition number, batch by batch.
///
/// Each value serves one partition number for one *assignment epoch*: the [factory](ProcessorFactory) makes a fresh
/// value whenever the partition number is assigned or its set of topics changes, and the value is dropped when the
/// epoch ends. So `&mut self` may keep state without a lock, and state in memory never outlives the right to the
/// partition.
///
/// # Rules
/// 1. `process` gets each message at least once, and the messages of one topic in the order of their offsets. After a
///    failure or a rebalance, batches that were not committed are delivered again, perhaps cut differently: write
///    `process` so that processing messages twice gives the same result.
/// 2. When `process` returns `Ok`, the messages that it [sent](Context::send) are produced. When they are
///    acknowledged, the batch's offsets are committed. Meanwhile, the next batch may already be processed
///    ([`max_in_flight`](crate::Builder::max_in_flight)).
/// 3. When `process` returns an error or panics, nothing of the batch is committed, and of the messages that it sent,
///    only those are produced that were already [flushed](Context::flush). The topic processor stops with that error,
///    unless an [`ErrorPolicy`](crate::ErrorPolicy) says otherwise. With one, the same value may get the same messages
///    again, whole or in parts: change `self` only when nothing can fail any more.
/// 4. The future may be dropped at any `await`: when the partition is revoked and the drain deadline passes, when the
///    partition is lost, or when messages of an earlier batch could not be delivered. The batch is then not
///    committed, and it is processed again, by this process or by another one.
/// 5. Don't block the thread for long (use `tokio::task::spawn_blocking`): rule 4 cannot interrupt a blocked thread.
///
/// # Sometimes you want to…
/// - send a message: [`Context::send`];
/// - read the messages of one input topic only: [`Batch::topic`];
/// - keep a message after `process` has returned: [`Message::to_owned`](crate::Message::to_owned);
/// - do something at intervals, also without messages: [`tick`](Self::tick);
/// - do something before the partition goes to another process: [`closing`](Self::closing);
/// - load something before the first batch of a partition: [`ProcessorFactory::create`];
/// - stop the topic processor from within `process`: [`Context::close`];
/// - find your own error in the one that `run` returns: [`Error::find`](crate::Error::find).
///
/// ```
/// use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};
///
/// struct Uppercase;
///
/// impl Processor for Uppercase {
///     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
///         for message in batch.iter() {
///             let text = std::str::from_utf8(message.value().unwrap_or_default())?;
///             context.send(OutgoingMessage::new("upper").value(text.to_uppercase()));
///         }
///         Ok(())
///     }
/// }
/// ```
#[doc(alias = "MessageProcessor")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Kasper processor",
    label = "needs `impl kasper::Processor for {Self}`",
    note = "a processor has one method that must be written: \
            `async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError>`",
    note = "a closure that makes processors returns the processor itself; where that is async or can fail, \
            implement `kasper::ProcessorFactory` and call `build_with_factory`"
)]
pub trait Processor: Send + 'static {
    /// Processes one batch; see the trait's rules.
    ///
    /// # Errors
    /// Any error that the user's code returns. [`run`](crate::TopicProcessor::run) returns it as the source of an
    /// [`Error`](crate::Error) of kind [`Process`](crate::ErrorKind::Process) that names the batch's topics,
    /// partition and offsets.
    ///
    /// ```
    /// use kasper::testkit::{ProcessorTester, TestMessage};
    /// use kasper::{Batch, BoxError, Context, Processor};
    ///
    /// struct Sum(u64);
    ///
    /// impl Processor for Sum {
    ///     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    ///         for message in batch.iter() {
    ///             self.0 += std::str::from_utf8(message.value().unwrap_or_default())?.parse::<u64>()?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let mut tester = ProcessorTester::new(["orders"], |_| Sum(0));
    /// tester.push(TestMessage::new("orders").value("1"));
    /// tester.push(TestMessage::new("orders").value("two"));
    /// let error = tester.run_batch().await.unwrap_err();
    /// assert_eq!(
    ///     format!("{error:#}"),
    ///     "process failed: process returned an error (topic=orders, offsets=0..=1, partition=0): \
    ///      invalid digit found in string"
    /// );
    /// # }
    /// ```
    fn process(
        &mut self,
        batch: &Batch,
        context: &mut Context,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Called at intervals, also without messages, for example to send a summary. Only if
    /// [`Builder::tick_every`](crate::Builder::tick_every) sets an interval. Does nothing by default.
    ///
    /// Rules 2 to 5 hold for `tick` as well: what it sends is produced when it returns `Ok`, and no batch that is
    /// processed after it is committed before that is acknowledged. Batches that were processed *before* it may be
    /// committed already, so keep in a store, not in `self`, what a tick must still have after a crash.
    ///
    /// `tick` is never called beside `process`, but between two batches, and takes the place of a batch in flight: while
    /// [`max_in_flight`](crate::Builder::max_in_flight) or
    /// [`max_in_flight_bytes`](crate::Builder::max_in_flight_bytes) holds back batches, it holds back ticks too. At most
    /// one tick of a partition is in flight. A partition that is paused, or about to be given up, does not tick.
    ///
    /// # Errors
    /// The topic processor stops, or calls `tick` again as the [`ErrorPolicy`](crate::ErrorPolicy) says; where that would
    /// reject a message, it stops. The error says `tick returned an error`.
    ///
    /// ```
    /// use kasper::testkit::{ProcessorTester, TestMessage};
    /// use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};
    ///
    /// #[derive(Default)]
    /// struct Summary {
    ///     orders: usize,
    /// }
    ///
    /// impl Summary {
    ///     fn send(&mut self, context: &mut Context) {
    ///         let orders = std::mem::take(&mut self.orders);
    ///         context.send(OutgoingMessage::new("summaries").value(format!("{orders} orders")));
    ///     }
    /// }
    ///
    /// impl Processor for Summary {
    ///     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    ///         self.orders += batch.len();
    ///         Ok(())
    ///     }
    ///
    ///     async fn tick(&mut self, context: &mut Context) -> Result<(), BoxError> {
    ///         self.send(context);
    ///         Ok(())
    ///     }
    ///
    ///     async fn closing(&mut self, context: &mut Context) -> Result<(), BoxError> {
    ///         self.send(context);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let mut tester = ProcessorTester::new(["orders"], |_| Summary::default());
    /// tester.push(TestMessage::new("orders"));
    /// tester.push(TestMessage::new("orders"));
    /// tester.run_all().await?;
    /// tester.tick().await?;
    /// assert_eq!(tester.take_outgoing(), [TestMessage::new("summaries").value("2 orders")]);
    ///
    /// tester.push(TestMessage::new("orders"));
    /// tester.run_all().await?;
    /// tester.revoke().await?;
    /// assert_eq!(tester.take_outgoing(), [TestMessage::new("summaries").value("1 orders")]);
    /// # Ok(())
    /// # }
    /// ```
    fn tick(&mut self, context: &mut Context) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = context;
        std::future::ready(Ok(()))
    }

    /// Called once before the processor is dropped in good order, for example to send what it has collected. Does
    /// nothing by default.
    ///
    /// That is, when all batches are finished, at a revocation and at a shutdown, within the
    /// [drain deadline](crate::Builder::drain_deadline) that has begun then. It is also called, and may take as long, when
    /// the set of topics of the partition number changes, and when an offset was out of range: then another processor
    /// takes its place, or `run` ends. What `closing` sends is acknowledged before the last commit of the partition,
    /// unless that takes longer than the deadline; a warning is logged then.
    ///
    /// It is *not* called after the partition was lost, while a batch is tried again after an error, after an error or a
    /// panic that stops the processor, or when the drain
    /// deadline has passed; and a killed process calls nothing. So what `closing` does must not be all that keeps a
    /// result from being lost: use it to be early or tidy.
    ///
    /// # Errors
    /// The topic processor stops with the error, which says `closing returned an error`. Batches that were finished
    /// before are committed nevertheless.
    ///
    /// # Cancel safety
    /// The future is dropped when the drain deadline passes or the partition is lost.
    ///
    /// See [`tick`](Self::tick) for an example.
    fn closing(
        &mut self,
        context: &mut Context,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = context;
        std::future::ready(Ok(()))
    }
}

/// Makes the [`Processor`] of a partition number, each time the number is assigned.
///
/// Where a closure `|start| …` can make it, pass the closure to [`Builder::build`](crate::Builder::build). Implement
/// this trait if making a processor is async or can fail, and pass the value to
/// [`Builder::build_with_factory`](crate::Builder::build_with_factory). Every `FnMut(&StartContext) -> P` is a factory
/// too.
///
/// ```
/// use kasper::{Batch, BoxError, Context, Processor, ProcessorFactory, StartContext};
///
/// struct Enrich {
///     rules: String,
/// }
///
/// impl Processor for Enrich {
///     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
///         Ok(())
///     }
/// }
///
/// struct FromFile;
///
/// impl ProcessorFactory for FromFile {
///     type Processor = Enrich;
///
///     async fn create(&mut self, start: &StartContext) -> Result<Enrich, BoxError> {
///         let path = format!("rules-{}.txt", start.partition());
///         Ok(Enrich { rules: tokio::fs::read_to_string(path).await? })
///     }
/// }
///
/// # use kasper::testkit::ProcessorTester;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// // There is no such file here: the error that stops the topic processor names the partition.
/// let mut tester = ProcessorTester::with_factory(["orders"], FromFile).partition(3);
/// let error = tester.run_batch().await.unwrap_err();
/// assert_eq!((error.kind(), error.get("partition")), (kasper::ErrorKind::Process, Some("3")));
/// assert!(error.find::<std::io::Error>().is_some());
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no Kasper processor",
    label = "needs `impl kasper::ProcessorFactory for {Self}`",
    note = "a closure gets a `&kasper::StartContext` and returns a fresh processor; where that is async or can \
            fail, implement `kasper::ProcessorFactory`"
)]
pub trait ProcessorFactory: Send + 'static {
    /// The type of the processors that the factory makes.
    type Processor: Processor;

    /// Makes the processor of this partition number. When several partitions start at the same time, the factory is
    /// called for one after the other. The future may be dropped at any `await`, if the partition is revoked in the
    /// meantime.
    ///
    /// # Errors
    /// An error stops the topic processor, just as an error of `process` does.
    fn create(
        &mut self,
        start: &StartContext,
    ) -> impl Future<Output = Result<Self::Processor, BoxError>> + Send;
}

impl<F, P> ProcessorFactory for F
where
    F: FnMut(&StartContext) -> P + Send + 'static,
    P: Processor,
{
    type Processor = P;

    async fn create(&mut self, start: &StartContext) -> Result<P, BoxError> {
        Ok(self(start))
    }
}

/// [`Processor`] as a trait object: one box for each call.
pub(crate) trait DynProcessor: Send {
    fn process_dyn<'a>(
        &'a mut self,
        batch: &'a Batch,
        context: &'a mut Context,
    ) -> BoxFuture<'a, Result<(), BoxError>>;

    fn tick_dyn<'a>(&'a mut self, context: &'a mut Context) -> BoxFuture<'a, Result<(), BoxError>>;

    fn closing_dyn<'a>(
        &'a mut self,
        context: &'a mut Context,
    ) -> BoxFuture<'a, Result<(), BoxError>>;
}

impl<P: Processor> DynProcessor for P {
    fn process_dyn<'a>(
        &'a mut self,
        batch: &'a Batch,
        context: &'a mut Context,
    ) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(self.process(batch, context))
    }

    fn tick_dyn<'a>(&'a mut self, context: &'a mut Context) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(self.tick(context))
    }

    fn closing_dyn<'a>(
        &'a mut self,
        context: &'a mut Context,
    ) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(self.closing(context))
    }
}

/// [`ProcessorFactory`] as a trait object.
pub(crate) trait DynFactory: Send {
    fn create_dyn<'a>(
        &'a mut self,
        start: &'a StartContext,
    ) -> BoxFuture<'a, Result<Box<dyn DynProcessor>, BoxError>>;
}

impl<F: ProcessorFactory> DynFactory for F {
    fn create_dyn<'a>(
        &'a mut self,
        start: &'a StartContext,
    ) -> BoxFuture<'a, Result<Box<dyn DynProcessor>, BoxError>> {
        Box::pin(async move {
            let processor = self.create(start).await?;
            Ok(Box::new(processor) as Box<dyn DynProcessor>)
        })
    }
}
