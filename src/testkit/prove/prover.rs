//! [`Prover`]: what the user sets up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::finding::{Counterexample, Proof};
use super::processes::Make;
use super::proving::Proving;
use super::subject::Subject;
use crate::lock::Mutex;
use crate::message::Offset;
#[allow(unused_imports, reason = "for the documentation")]
use crate::processor::Processor;
use crate::testkit::TestMessage;

const DEFAULT_SEEDS: u64 = 500;

/// The environment variable with the one seed to try.
const SEED: &str = "KASPER_PROVE_SEED";

/// A proof that is set up; [`check`](Self::check) makes it. See [`prove`](super::prove()).
pub struct Prover {
    inputs: Vec<TestMessage>,
    subject: Subject,
    seeds: u64,
    seed: Option<u64>,
}

impl Prover {
    /// # Panics
    /// The list of topics is empty or has one twice, a message's topic is not in it, or there are no messages.
    #[track_caller]
    pub(super) fn new(topics: Vec<String>, inputs: Vec<TestMessage>, make: Box<Make>) -> Self {
        assert!(!topics.is_empty(), "a processor has at least one input topic");
        for (index, topic) in topics.iter().enumerate() {
            assert!(!topics[..index].contains(topic), "input topic `{topic}` comes twice");
        }
        for TestMessage { topic, .. } in &inputs {
            assert!(topics.contains(topic), "`{topic}` is none of the input topics {topics:?}");
        }
        assert!(!inputs.is_empty(), "without a message there is nothing to prove");
        let subject = Subject {
            topics,
            partition: 0,
            make: Arc::new(Mutex::new(make)),
            atomic_writes: false,
            ticks: false,
            any_order: false,
            compacted: BTreeSet::new(),
            ignored: BTreeSet::new(),
        };
        Self { inputs: with_offsets(inputs), subject, seeds: DEFAULT_SEEDS, seed: None }
    }

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
    ///
    /// ```
    /// # use kasper::store::Store;
    /// # use kasper::testkit::{Finding, ProofStore, TestMessage, prove};
    /// # use kasper::{Batch, BoxError, Context, Processor, StartContext};
    /// /// Sends a message once, and remembers that before it is acknowledged.
    /// struct SendOnce(ProofStore);
    /// # impl Processor for SendOnce {
    /// #     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    /// #         for message in batch.iter() {
    /// #             let offset = message.offset().to_string();
    /// #             if self.0.get(&offset).await?.is_none() {
    /// #                 context.forward("copies", &message);
    /// #                 self.0.put(&offset, "sent").await?;
    /// #             }
    /// #         }
    /// #         Ok(())
    /// #     }
    /// # }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let inputs = ["1", "2", "3"].map(|value| TestMessage::new("orders").value(value));
    /// let make = |store: ProofStore| move |_: &StartContext| SendOnce(store.clone());
    /// let wrong = prove(["orders"], inputs.clone(), make).check().await.unwrap_err();
    /// assert_eq!(wrong.finding(), Finding::SendsDifferently);
    ///
    /// let again = prove(["orders"], inputs, make).seed(wrong.seed().unwrap());
    /// assert_eq!(again.check().await.unwrap_err().story(), wrong.story());
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use kasper::testkit::{Finding, TestMessage, prove};
    /// # use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor, StartContext};
    /// /// Sends the last order of each customer in the batch.
    /// struct Latest;
    ///
    /// impl Processor for Latest {
    ///     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    ///         for order in batch.latest_by_key() {
    ///             context.forward("latest", &order);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let inputs = ["1", "2"].map(|value| TestMessage::new("orders").key("ann").value(value));
    /// let proof = || prove(["orders"], inputs.clone(), |_| |_: &StartContext| Latest);
    ///
    /// let found = proof().check().await.unwrap_err();
    /// assert_eq!(found.finding(), Finding::DependsOnBatches); // one batch sends one message
    /// proof().compacted("latest").check().await.unwrap();
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use kasper::store::Store;
    /// # use kasper::testkit::{Finding, ProofStore, TestMessage, prove};
    /// # use kasper::{Batch, BoxError, Context, Processor, StartContext};
    /// /// Knows the offset of the next order, and counts in another key.
    /// struct Count(ProofStore);
    ///
    /// impl Processor for Count {
    ///     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    ///         for order in batch.iter() {
    ///             let stored = self.0.get_many(&["count", "next"]).await?;
    ///             let [count, next] = [0, 1].map(|index| number(stored[index].as_deref()));
    ///             if order.offset().get() >= next {
    ///                 let next = order.offset().next().get().to_string();
    ///                 let count = (count + 1).to_string();
    ///                 let changes = [("count", Some(count.into())), ("next", Some(next.into()))];
    ///                 self.0.write_many(&changes).await?;
    ///             }
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// # fn number(stored: Option<&[u8]>) -> i64 {
    /// #     stored.map_or(0, |stored| str::from_utf8(stored).unwrap().parse().unwrap())
    /// # }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let inputs = ["1", "2"].map(|value| TestMessage::new("orders").value(value));
    /// let make = |store: ProofStore| move |_: &StartContext| Count(store.clone());
    ///
    /// let found = prove(["orders"], inputs.clone(), make).check().await.unwrap_err();
    /// assert!(found.story()[0].contains("in the middle of the write of `count`, `next`"));
    /// prove(["orders"], inputs, make).atomic_writes().check().await.unwrap();
    /// # }
    /// ```
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
    /// The offsets that the messages name don't grow, or `KASPER_PROVE_SEED` is not a number.
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
