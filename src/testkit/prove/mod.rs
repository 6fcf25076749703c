//! [`prove()`]: is a processor right when messages come at least once?
//!
//! Place in the data path: around it, as [`ProcessorTester`](super::ProcessorTester), which drives each run
//! ([`execution`]). A [`schedule`] is made from a seed and says where batches are cut and what fails. The processor works
//! on a [`store`] whose calls stop and fail at its points ([`recorder`]), and is made by one of two [`processes`]. What came
//! of a run ([`outcome`]) is compared with a straight run. A schedule that leads to something else is made as short as it
//! can be ([`shrink`]) and told ([`story`], [`finding`]).

mod execution;
mod finding;
mod outcome;
mod processes;
mod prover;
mod proving;
mod random;
mod recorder;
mod schedule;
mod shrink;
mod store;
mod story;
mod subject;

use crate::processor::{Processor, ProcessorFactory};
use crate::start_context::StartContext;
use crate::testkit::TestMessage;

pub use self::finding::{Counterexample, Finding, Proof};
pub use self::prover::Prover;
pub use self::store::ProofStore;

/// Begins a proof that a processor is right when messages come at least once: that whatever happens, its store and what
/// it sends are as after a run in which nothing happens.
///
/// `topics` are the input topics, and `inputs` their messages in the order in which they come, as with
/// [`ProcessorTester::push`](crate::testkit::ProcessorTester::push). `make` is what a process of yours does when it begins: it gets
/// the store, and returns the closure that [`Builder::build`](crate::Builder::build) gets. What it makes outside of that
/// closure is shared by all processors of a process.
///
/// # What happens in a run
/// The processor runs in the same code as in production, through a schedule that is made from a seed:
///
/// - batches are cut anywhere;
/// - the process dies, the partition is lost (then the future of `process` is dropped where it awaits), or a call to the
///   store fails with a retriable error: before, after and in the middle of each call to the store, at other awaits,
///   within a [`flush`](crate::Context::flush), and before the commit;
/// - a message can't be delivered, acks are late, and what was not acknowledged is lost;
/// - commits are made at intervals: the last few batches come again as well, cut differently;
/// - the partition is revoked in good order;
/// - the same process goes on, or another one, and the first one gets the partition back later.
///
/// Then what is left is delivered, the partition is revoked, and the result is compared with that of a *straight run*: the
/// messages one by one, and no fault. The comparison is of the contents of the [`ProofStore`], and of the *set* of the
/// messages that were sent: Kafka delivers at least once on the way out, too, so how often and in which order they come
/// is no difference. A topic that readers use as a table is better compared by the [last message of each
/// key](Prover::compacted).
///
/// # What does not happen
/// - A process that was declared dead does not write once its successor has begun. It may in production, and the library
///   can't prevent it (see DESIGN.md, "The law"); few processors could stand it.
/// - The messages of several topics keep the order in which they are given, unless they may come in [any
///   order](Prover::any_topic_order).
/// - Ticks come only with [`ticks`](Prover::ticks).
///
/// # Findings
/// See [`Finding`]. A schedule that leads to something else is made shorter as long as it shows the same: fewer
/// steps, fewer messages. The [`Counterexample`] tells it step by step, with its seed.
///
/// ```
/// use kasper::codec::Json;
/// use kasper::store::{Store, TypedStore};
/// use kasper::testkit::{Finding, ProofStore, TestMessage, prove};
/// use kasper::{Batch, BoxError, Context, Processor, StartContext};
///
/// /// Wrong: an order that comes again is added again.
/// struct Sum<S>(TypedStore<S, Json, u64>);
///
/// impl<S: Store + 'static> Processor for Sum<S> {
///     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
///         let mut sum = self.0.get("sum").await?.unwrap_or_default();
///         for order in batch.iter() {
///             sum += order.decode::<u64>(Json)?.unwrap_or_default();
///         }
///         Ok(self.0.put("sum", &sum).await?)
///     }
/// }
///
/// /// Right: the sum is stored with the offset of the next order.
/// struct SumOnce<S>(TypedStore<S, Json, (u64, i64)>);
///
/// impl<S: Store + 'static> Processor for SumOnce<S> {
///     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
///         let (mut sum, mut next) = self.0.get("sum").await?.unwrap_or_default();
///         for order in batch.iter() {
///             if order.offset().get() >= next {
///                 sum += order.decode::<u64>(Json)?.unwrap_or_default();
///                 next = order.offset().next().get();
///             }
///         }
///         Ok(self.0.put("sum", &(sum, next)).await?)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let orders = ["10", "20", "5"].map(|cents| TestMessage::new("orders").value(cents));
///
/// let proof = prove(["orders"], orders.clone(), |store: ProofStore| {
///     move |_: &StartContext| SumOnce(TypedStore::new(store.clone(), Json))
/// });
/// proof.check().await.unwrap();
///
/// let proof = prove(["orders"], orders, |store: ProofStore| {
///     move |_: &StartContext| Sum(TypedStore::new(store.clone(), Json))
/// });
/// let wrong = proof.check().await.unwrap_err();
/// assert_eq!((wrong.finding(), wrong.key()), (Finding::NotIdempotent, Some("sum")));
/// let story = [
///     "batch orders 0..=0; the process dies before the offsets are committed",
///     "batch orders 0..=0 again",
/// ];
/// assert_eq!(wrong.story(), story);
/// assert_eq!(wrong.difference(), [r#"expected `sum` = "10", found "20""#]);
/// # }
/// ```
///
/// # Panics
/// There is no input topic, one comes twice, a message is for another topic, or there is no message.
#[track_caller]
pub fn prove<P, F>(
    topics: impl IntoIterator<Item = impl Into<String>>,
    inputs: impl IntoIterator<Item = impl Into<TestMessage>>,
    make: impl FnMut(ProofStore) -> F + Send + 'static,
) -> Prover
where
    P: Processor,
    F: FnMut(&StartContext) -> P + Send + 'static,
{
    prove_with_factory(topics, inputs, make)
}

/// As [`prove`], with the same factory as [`Builder::build_with_factory`](crate::Builder::build_with_factory).
///
/// # Panics
/// As [`prove`].
///
/// ```
/// use kasper::store::Store;
/// use kasper::testkit::{ProofStore, TestMessage, prove_with_factory};
/// use kasper::{Batch, BoxError, Context, Processor, ProcessorFactory, StartContext};
///
/// /// Remembers the last value of each key, with a prefix that it reads when it begins.
/// struct Last {
///     prefix: String,
///     store: ProofStore,
/// }
/// # impl Processor for Last {
/// #     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
/// #         for message in batch.iter() {
/// #             let value = message.value().unwrap_or_default().to_vec();
/// #             self.store.put(&format!("{}/{}", self.prefix, message.key_str()?), value).await?;
/// #         }
/// #         Ok(())
/// #     }
/// # }
///
/// struct Begin(ProofStore);
///
/// impl ProcessorFactory for Begin {
///     type Processor = Last;
///
///     async fn create(&mut self, _: &StartContext) -> Result<Last, BoxError> {
///         let prefix = self.0.get("prefix").await?.unwrap_or("last".into());
///         Ok(Last { prefix: String::from_utf8(prefix.to_vec())?, store: self.0.clone() })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let inputs = ["1", "2", "3"].map(|value| TestMessage::new("orders").key("a").value(value));
/// let proof = prove_with_factory(["orders"], inputs, Begin).seeds(100).check().await.unwrap();
/// assert_eq!(proof.schedules(), 104); // four without faults come first
/// # }
/// ```
#[track_caller]
pub fn prove_with_factory<F: ProcessorFactory>(
    topics: impl IntoIterator<Item = impl Into<String>>,
    inputs: impl IntoIterator<Item = impl Into<TestMessage>>,
    mut make: impl FnMut(ProofStore) -> F + Send + 'static,
) -> Prover {
    let topics = topics.into_iter().map(Into::into).collect();
    let inputs = inputs.into_iter().map(Into::into).collect();
    Prover::new(topics, inputs, Box::new(move |store| Box::new(make(store))))
}
