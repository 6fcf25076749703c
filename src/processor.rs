//! What the user writes: a [`Processor`], and the [`ProcessorFactory`] that makes one per partition.

use std::future::Future;

use futures_util::future::BoxFuture;

use crate::context::Context;
use crate::error::BoxError;
use crate::message::Batch;

/// Processes the messages of one partition number, batch by batch.
///
/// One value serves one partition number for one *assignment epoch*: the [factory](ProcessorFactory)
/// makes a fresh one whenever the partition number is assigned (or its set of topics changes), and
/// it is dropped when that ends. So `&mut self` may keep state without a lock, and state in memory
/// never outlives the right to the partition.
///
/// # Rules
/// 1. `process` gets each message at least once, those of one topic in the order of their offsets.
///    After a failure or a rebalance a batch is delivered again, perhaps cut differently: write so
///    that doing it twice gives the same result.
/// 2. When `process` returns `Ok`, what was [sent](Context::send) is produced; when that is
///    acknowledged, the batch's offsets are committed. Meanwhile the next batch may already be
///    processed ([`max_in_flight`](crate::Builder::max_in_flight)).
/// 3. When `process` returns an error or panics, nothing of the batch is sent (but for what was
///    [flushed](Context::flush)) or committed, and the processor stops with that error.
/// 4. The future may be dropped at any `await`: when the partition is revoked and the drain
///    deadline passes, when it is lost, or when what an earlier batch sent could not be delivered.
///    The batch is then not committed and comes again, here or elsewhere.
/// 5. Don't block the thread for long (use `tokio::task::spawn_blocking`): a blocked thread cannot
///    be interrupted by rule 4.
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
    note = "a processor has one method: \
            `async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError>`",
    note = "a closure that makes processors returns the processor itself; implement \
            `kasper::ProcessorFactory` where that is async or can fail"
)]
pub trait Processor: Send + 'static {
    /// Processes one batch; see the trait's rules.
    ///
    /// # Errors
    /// Whatever the user's code returns; it comes out of [`run`](crate::TopicProcessor::run) as the
    /// source of an [`Error`](crate::Error) of kind [`Process`](crate::ErrorKind::Process) that
    /// names the batch's topics, partition and offsets.
    fn process(
        &mut self,
        batch: &Batch,
        context: &mut Context,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Makes the [`Processor`] of a partition number, each time it is assigned.
///
/// Every `FnMut(i32) -> P` is a factory; implement the trait where making a processor is async or
/// can fail:
///
/// ```
/// use kasper::{Batch, BoxError, Context, Processor, ProcessorFactory};
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
///     async fn create(&mut self, partition: i32) -> Result<Enrich, BoxError> {
///         let path = format!("rules-{partition}.txt");
///         Ok(Enrich { rules: tokio::fs::read_to_string(path).await? })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no Kasper processor",
    label = "expected a closure `|partition: i32| -> P` where `P: kasper::Processor`",
    note = "the closure gets the partition number and returns a fresh processor for it, as in \
            `|_partition| MyProcessor::new()`; implement `kasper::ProcessorFactory` where that is \
            async or can fail"
)]
pub trait ProcessorFactory: Send + 'static {
    /// The type of processor made.
    type Processor: Processor;

    /// Makes the processor of this partition number. Partitions that start at the same time are
    /// served one after the other. The future may be dropped at any `await`, when the partition is
    /// revoked meanwhile.
    ///
    /// # Errors
    /// An error stops the topic processor, as an error of `process` does.
    fn create(
        &mut self,
        partition: i32,
    ) -> impl Future<Output = Result<Self::Processor, BoxError>> + Send;
}

impl<F, P> ProcessorFactory for F
where
    F: FnMut(i32) -> P + Send + 'static,
    P: Processor,
{
    type Processor = P;

    async fn create(&mut self, partition: i32) -> Result<P, BoxError> {
        Ok(self(partition))
    }
}

/// [`Processor`] behind a pointer: one box a batch.
pub(crate) trait DynProcessor: Send {
    fn process_dyn<'a>(
        &'a mut self,
        batch: &'a Batch,
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
}

/// [`ProcessorFactory`] behind a pointer.
pub(crate) trait DynFactory: Send {
    fn create_dyn(
        &mut self,
        partition: i32,
    ) -> BoxFuture<'_, Result<Box<dyn DynProcessor>, BoxError>>;
}

impl<F: ProcessorFactory> DynFactory for F {
    fn create_dyn(
        &mut self,
        partition: i32,
    ) -> BoxFuture<'_, Result<Box<dyn DynProcessor>, BoxError>> {
        Box::pin(async move {
            let processor = self.create(partition).await?;
            Ok(Box::new(processor) as Box<dyn DynProcessor>)
        })
    }
}
