//! What a proof finds: [`Finding`], with the schedule that shows it ([`Counterexample`]); or nothing ([`Proof`]).

use std::error::Error as StdError;
use std::fmt;

use super::outcome::{Difference, Outcome, Tally, Trouble};
use super::schedule::Schedule;
use crate::testkit::TestMessage;

/// What is wrong with a processor.
///
/// Of a seed's schedule, what shows without faults is told first: [`DependsOnBatches`](Finding::DependsOnBatches),
/// [`DependsOnTopicOrder`](Finding::DependsOnTopicOrder), then [`StateInMemory`](Finding::StateInMemory).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Finding {
    /// Messages that come again change the store once more: a count that counts them twice, or a state that is written
    /// before all that depends on it.
    NotIdempotent,
    /// Another cut of the same messages into batches leads to another result, without any fault.
    DependsOnBatches,
    /// Another order of the messages of several topics leads to another result, without any fault. Only with
    /// [`Prover::any_topic_order`](super::Prover::any_topic_order).
    DependsOnTopicOrder,
    /// After messages have come again, the store is as it should be, and what was sent is not: a message is missing, or
    /// there is one that a straight run does not send.
    SendsDifferently,
    /// A new processor goes on in good order, no message comes twice, and the result is another one: something was
    /// kept in the processor, in its factory or in a cache that was never written to the store, or was out of date.
    StateInMemory,
    /// A call to the store failed, `process` returned `Ok`, and something is missing.
    IgnoresErrors,
    /// Two equal runs end differently: a time of day, a random number, the order of a hash map, or a `static` that outlives
    /// a run. A clock is noticed if it goes on between the first run and the last: not one of whole seconds.
    Nondeterministic,
    /// The processor returns an error or panics, although nothing was made to fail.
    Fails,
    /// A call of the processor does not end within 30 s.
    Stuck,
    /// A straight run neither writes to the [`ProofStore`](super::ProofStore) nor sends anything that is compared: the proof would
    /// prove nothing.
    DoesNothing,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotIdempotent => "not idempotent",
            Self::DependsOnBatches => "depends on where batches are cut",
            Self::DependsOnTopicOrder => "depends on the order of the topics",
            Self::SendsDifferently => "sends differently",
            Self::StateInMemory => "keeps state in memory",
            Self::IgnoresErrors => "ignores an error of the store",
            Self::Nondeterministic => "differs between two equal runs",
            Self::Fails => "fails",
            Self::Stuck => "does not end",
            Self::DoesNothing => "does nothing that can be compared",
        })
    }
}

impl Finding {
    /// What is wrong with a run that was to end as `expected`; `None` if nothing is.
    pub(super) fn of(schedule: &Schedule, expected: &Outcome, found: &Outcome) -> Option<Self> {
        match found.trouble {
            Some(Trouble::Failed(_)) => return Some(Self::Fails),
            Some(Trouble::Stuck) => return Some(Self::Stuck),
            None => {}
        }
        if expected.store == found.store && expected.sent == found.sent {
            None
        } else if schedule.only_cuts() && schedule.order == 0 {
            Some(Self::DependsOnBatches)
        } else if schedule.only_cuts() {
            Some(Self::DependsOnTopicOrder)
        } else if schedule.is_orderly() {
            Some(Self::StateInMemory)
        } else if found.passed_over_error {
            Some(Self::IgnoresErrors)
        } else if expected.store != found.store {
            Some(Self::NotIdempotent)
        } else {
            Some(Self::SendsDifferently)
        }
    }
}

/// A schedule after which the result of a processor is not that of a straight run: what is wrong, and how to see it again.
///
/// `Display` and `Debug` both show the whole of it, so `.await.unwrap()` in a test prints the story.
pub struct Counterexample {
    report: Box<Report>,
}

/// What a counterexample tells.
pub(super) struct Report {
    pub(super) finding: Finding,
    /// `None`: found in the runs that come before the seeds.
    pub(super) seed: Option<u64>,
    pub(super) key: Option<String>,
    pub(super) inputs: Vec<TestMessage>,
    /// Of which `inputs` are left.
    pub(super) all_inputs: usize,
    pub(super) story: Vec<String>,
    pub(super) difference: Vec<String>,
    pub(super) reads: Option<String>,
}

impl Report {
    /// Nothing but the finding.
    pub(super) fn empty(finding: Finding) -> Self {
        Self {
            finding,
            seed: None,
            key: None,
            inputs: Vec::new(),
            all_inputs: 0,
            story: Vec::new(),
            difference: Vec::new(),
            reads: None,
        }
    }
}

impl Counterexample {
    pub(super) fn new(report: Report) -> Self {
        Self { report: Box::new(report) }
    }

    /// What is wrong.
    pub fn finding(&self) -> Finding {
        self.report.finding
    }

    /// The seed of the schedule, for [`Prover::seed`](super::Prover::seed). `None` if one of the runs without faults has shown
    /// it, which come before all seeds.
    pub fn seed(&self) -> Option<u64> {
        self.report.seed
    }

    /// The first key of the store that has another value than after a straight run: `key`, `tenant/key` or `store:key`.
    pub fn key(&self) -> Option<&str> {
        self.report.key.as_deref()
    }

    /// The messages that are needed to see it, with their offsets, in the order in which they come.
    pub fn messages(&self) -> &[TestMessage] {
        &self.report.inputs
    }

    /// What happens, a line for each step.
    pub fn story(&self) -> &[String] {
        &self.report.story
    }

    /// How the result differs from that of a straight run, a line for each key or message.
    pub fn difference(&self) -> &[String] {
        &self.report.difference
    }

    /// *Reads something else after a replay*: the first read that was answered differently when its messages came again.
    /// It may be what has led to the difference. By itself it is no finding, because a processor that keeps an offset
    /// with each value, to pass over what it has seen, does the same and is right.
    pub fn reads_differently(&self) -> Option<&str> {
        self.report.reads.as_deref()
    }
}

/// More are counted, not shown.
const MOST_MESSAGES: usize = 10;

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &*self.report;
        write!(f, "{}", report.finding)?;
        if let Some(key) = &report.key {
            write!(f, ": `{key}`")?;
        }
        if !report.inputs.is_empty() {
            write!(f, "\n  of {} messages these are enough:", report.all_inputs)?;
        }
        for input in report.inputs.iter().take(MOST_MESSAGES) {
            write!(f, "\n    {input:?}")?;
        }
        if report.inputs.len() > MOST_MESSAGES {
            write!(f, "\n    … and {} more", report.inputs.len() - MOST_MESSAGES)?;
        }
        if !report.story.is_empty() {
            f.write_str("\n  what happens:")?;
        }
        for (number, line) in (1..).zip(&report.story) {
            write!(f, "\n    {number}. {line}")?;
        }
        for line in &report.difference {
            write!(f, "\n  {line}")?;
        }
        if let Some(reads) = &report.reads {
            write!(f, "\n  it reads something else after a replay: {reads}")?;
        }
        match report.seed {
            Some(seed) => {
                write!(f, "\n  to see it again: `.seed({seed})`, or KASPER_PROVE_SEED={seed}")
            }
            None => f.write_str("\n  found in one of the runs without faults, before all seeds"),
        }
    }
}

/// As `Display`: it is what `unwrap` prints.
impl fmt::Debug for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl StdError for Counterexample {}

/// No schedule led to another result than a straight run: how many were tried, and what happened in them.
///
/// It proves as much as a test does: these messages, in these schedules.
///
/// ```
/// # use kasper::testkit::{TestMessage, prove};
/// # use kasper::{Batch, BoxError, Context, Processor, StartContext};
/// # struct Copy;
/// # impl Processor for Copy {
/// #     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
/// #         Ok(batch.iter().for_each(|message| context.forward("copies", &message)))
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let inputs = ["1", "2", "3"].map(|value| TestMessage::new("orders").value(value));
/// let proof = prove(["orders"], inputs, |_| |_: &StartContext| Copy).seeds(100);
/// let proof = proof.check().await.unwrap();
/// assert_eq!(proof.schedules(), 104);
/// assert!(proof.batches() > 104 && proof.faults() > 50);
/// assert!(proof.to_string().starts_with("104 schedules of 3 messages, all with the result"));
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Proof {
    pub(super) schedules: usize,
    pub(super) messages: usize,
    pub(super) tally: Tally,
}

impl Proof {
    /// The schedules that were tried.
    pub fn schedules(&self) -> usize {
        self.schedules
    }

    /// How often `process` was called, in all of them.
    pub fn batches(&self) -> usize {
        self.tally.batches
    }

    /// How often something went wrong: crashes, partitions that were lost, failed calls and deliveries.
    pub fn faults(&self) -> usize {
        let Tally { crashes, losses, store_failures, delivery_failures, .. } = self.tally;
        crashes + losses + store_failures + delivery_failures
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schedules, messages, tally } = self;
        write!(
            f,
            "{schedules} schedules of {messages} messages, all with the result of a straight run: {} batches, \
             {} crashes, {} lost partitions, {} revocations, {} failed calls to the store, {} failed deliveries",
            tally.batches,
            tally.crashes,
            tally.losses,
            tally.revocations,
            tally.store_failures,
            tally.delivery_failures
        )
    }
}

/// The lines about a run that was to end as `expected`.
pub(super) fn difference(expected: &Outcome, found: &Outcome) -> Difference {
    match &found.trouble {
        Some(Trouble::Failed(error)) => {
            Difference { key: None, lines: vec![format!("its error: {error:#}")] }
        }
        Some(Trouble::Stuck) => {
            let line =
                "a call of the processor waits, or batches come that nobody takes".to_owned();
            Difference { key: None, lines: vec![line] }
        }
        None => Difference::between(expected, found),
    }
}
