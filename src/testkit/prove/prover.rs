//! [`Prover`]: what the user sets up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::finding::{Counterexample, Proof};
use super::proving::Proving;
use super::store::ProofStore;
use super::subject::Subject;
use crate::lock::Mutex;
use crate::message::Offset;
use crate::processor::{DynFactory, Processor, ProcessorFactory};
use crate::start_context::StartContext;
use crate::testkit::TestMessage;

const DEFAULT_SEEDS: u64 = 500;

/// The environment variable with the one seed to try.
const SEED: &str = "KASPER_PROVE_SEED";

/// Begins a proof that a processor is right when messages come at least once: that whatever happens, its store and what
/// it sends are as after a run in which nothing happens.
///
/// `topics` are the input topics, and `inputs` their messages in the order in which they come, as with
/// [`ProcessorTester::push`](super::ProcessorTester::push). `make` is what a process of yours does when it begins: it gets
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
/// There is no input topic, one comes twice, or there is no message.
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
    let topics: Vec<String> = topics.into_iter().map(Into::into).collect();
    assert!(!topics.is_empty(), "a processor has at least one input topic");
    let inputs: Vec<TestMessage> = inputs.into_iter().map(Into::into).collect();
    assert!(!inputs.is_empty(), "without a message there is nothing to prove");
    let make = move |store| Box::new(make(store)) as Box<dyn DynFactory>;
    let subject = Subject {
        topics,
        partition: 0,
        make: Arc::new(Mutex::new(Box::new(make))),
        atomic_writes: false,
        ticks: false,
        any_order: false,
        compacted: BTreeSet::new(),
        ignored: BTreeSet::new(),
    };
    Prover { inputs: with_offsets(inputs), subject, seeds: DEFAULT_SEEDS, seed: None }
}

/// A proof that is set up; [`check`](Self::check) makes it. See [`prove`].
pub struct Prover {
    inputs: Vec<TestMessage>,
    subject: Subject,
    seeds: u64,
    seed: Option<u64>,
}

impl Prover {
    /// Sets how many schedules are tried, beside the four without faults that come first: the messages one by one, all in
    /// one batch, and with a revocation after each message, to the same process and to another one. Default: 500, which
    /// takes about two seconds with twenty messages and without optimisation.
    ///
    /// The same seed makes the same schedule, in the same version of the library and with the same messages.
    #[must_use]
    pub fn seeds(mut self, seeds: u64) -> Self {
        self.seeds = seeds;
        self
    }

    /// Tries the schedule of this seed only, to see a [counterexample](Counterexample::seed) again. The environment
    /// variable `KASPER_PROVE_SEED` does the same for every proof of the process that chooses no seed itself.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the partition number. Default: 0.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.subject.partition = partition;
        self
    }

    /// Of this output topic, only the last message of each key is compared, as a reader of a compacted topic sees it.
    /// Right for a topic with the current value of something, such as a count: how many values come between depends on
    /// where batches are cut. Default: all messages are compared, as a set.
    #[must_use]
    pub fn compacted(mut self, topic: impl Into<String>) -> Self {
        self.subject.compacted.insert(topic.into());
        self
    }

    /// What is sent to this output topic is not compared: for messages that may differ or be missing, such as those of
    /// [`closing`](Processor::closing).
    #[must_use]
    pub fn ignored(mut self, topic: impl Into<String>) -> Self {
        self.subject.ignored.insert(topic.into());
        self
    }

    /// A write takes effect as a whole or not at all. Default: any part of it may, as rule 9 of [`Store`] allows. Right for a
    /// processor that is meant for one kind of store, which makes this promise.
    ///
    /// [`Store`]: crate::store::Store#rules
    #[must_use]
    pub fn atomic_writes(mut self) -> Self {
        self.subject.atomic_writes = true;
        self
    }

    /// The processor also [ticks](Processor::tick), after some batches and at the end. Default: it does not.
    #[must_use]
    pub fn ticks(mut self) -> Self {
        self.subject.ticks = true;
        self
    }

    /// The messages of several topics come in another order in each schedule; those of one topic keep theirs. So it is in
    /// production, where topics are fetched side by side. Default: all come as they are given, because many joins
    /// depend on it.
    ///
    /// ```
    /// # use kasper::store::Store;
    /// # use kasper::testkit::{Finding, ProofStore, TestMessage, prove};
    /// # use kasper::{Batch, BoxError, Context, Processor, StartContext};
    /// /// Keeps the last message of each key, of whatever topic.
    /// struct Last(ProofStore);
    /// # impl Processor for Last {
    /// #     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    /// #         for message in batch.iter() {
    /// #             self.0.put(message.key_str()?, message.value().unwrap_or_default().to_vec()).await?;
    /// #         }
    /// #         Ok(())
    /// #     }
    /// # }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let message = |topic: &str, value: &str| TestMessage::new(topic).key("a").value(value);
    /// let inputs = [message("orders", "1"), message("refunds", "2")];
    /// let make = |store: ProofStore| move |_: &StartContext| Last(store.clone());
    ///
    /// prove(["orders", "refunds"], inputs.clone(), make).check().await.unwrap();
    /// let proof = prove(["orders", "refunds"], inputs, make).any_topic_order();
    /// assert_eq!(proof.check().await.unwrap_err().finding(), Finding::DependsOnTopicOrder);
    /// # }
    /// ```
    #[must_use]
    pub fn any_topic_order(mut self) -> Self {
        self.subject.any_order = true;
        self
    }

    /// Makes the proof: tries all schedules, or all until one leads to another result.
    ///
    /// It needs a tokio runtime with its timer, such as that of `#[tokio::test]`. If the processor sleeps, pause time
    /// (`#[tokio::test(start_paused = true)]`). A processor that repeats failed calls, by
    /// [`Retry`](crate::store::Retry) for example, sleeps.
    ///
    /// # Errors
    /// The result of a schedule is not that of a straight run. `unwrap` prints the story.
    ///
    /// # Panics
    /// A message is for a topic that is no input topic, offsets of a topic don't grow, or `KASPER_PROVE_SEED` is not a number.
    pub async fn check(self) -> Result<Proof, Counterexample> {
        let Self { subject, inputs, seeds, seed } = self;
        let mut proving = Proving::begin(&subject, inputs).await?;
        match seed.or_else(seed_of_environment) {
            Some(seed) => proving.try_seed(seed).await?,
            None => {
                for seed in 0..seeds {
                    proving.try_seed(seed).await?;
                }
            }
        }
        proving.end().await
    }
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prover")
            .field("topics", &self.subject.topics)
            .field("messages", &self.inputs.len())
            .field("seeds", &self.seeds)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

fn seed_of_environment() -> Option<u64> {
    let seed = std::env::var(SEED).ok()?;
    let parsed = seed.parse();
    assert!(parsed.is_ok(), "{SEED} is `{seed}`, which is not a number");
    parsed.ok()
}

/// Each message has its offset, and keeps it when others are taken out.
fn with_offsets(mut inputs: Vec<TestMessage>) -> Vec<TestMessage> {
    let mut ends = BTreeMap::new();
    for input in &mut inputs {
        let end = ends.entry(input.topic.clone()).or_insert(0);
        let offset = input.offset.map_or(*end, |offset| offset.get());
        input.offset = Some(Offset::new(offset));
        *end = offset + 1;
    }
    inputs
}
