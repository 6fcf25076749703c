//! [`Proving`]: the runs of a proof, and what is made of one that leads to another result.

use std::time::{Duration, Instant};

use super::execution::execute;
use super::finding::{Counterexample, Finding, Proof, Report, difference};
use super::outcome::{Outcome, Tally};
use super::schedule::{Fault, Schedule, Shape};
use super::shrink::{Case, Shrinker};
use super::story::reads_differently;
use super::subject::Subject;
use crate::testkit::TestMessage;

/// A run that takes longer waits for something, on a clock that is not paused.
const SLOW: Duration = Duration::from_secs(5);

/// A proof that is being made.
pub(super) struct Proving<'a> {
    subject: &'a Subject,
    inputs: Vec<TestMessage>,
    /// What a straight run leads to.
    expected: Outcome,
    /// The output topics.
    topics: Vec<String>,
    shape: Shape,
    schedules: usize,
    tally: Tally,
}

impl<'a> Proving<'a> {
    /// The runs without faults.
    pub(super) async fn begin(
        subject: &'a Subject,
        inputs: Vec<TestMessage>,
    ) -> Result<Self, Counterexample> {
        let straight = Schedule::straight(1);
        let expected = execute(subject, &inputs, &straight, &[], false).await;
        let mut proving = Self {
            subject,
            topics: expected.topics.iter().cloned().collect(),
            shape: Shape::default(),
            schedules: 1,
            tally: expected.tally,
            expected,
            inputs,
        };
        let does_nothing = !proving.expected.has_written && proving.expected.sent.is_empty();
        if proving.expected.trouble.is_some() || does_nothing {
            return Err(proving.straight_fails().await);
        }
        let at_once = Schedule::straight(usize::MAX);
        let found = proving.run(&at_once).await;
        if Finding::of(&at_once, &proving.expected, &found).is_some() {
            return Err(proving.explain(None, at_once, &found).await);
        }
        for elsewhere in [false, true] {
            let handed_over = Schedule::handed_over(proving.inputs.len(), elsewhere);
            proving.check(None, handed_over).await?;
        }
        proving.shape = Shape {
            messages: proving.inputs.len(),
            points_of_one: proving.expected.points,
            points_of_all: found.points.max(proving.expected.points),
            waits: found.waits.max(proving.expected.waits),
            output_topics: proving.topics.len(),
            ticks: subject.ticks,
            any_order: subject.any_order,
        };
        Ok(proving)
    }

    async fn run(&mut self, schedule: &Schedule) -> Outcome {
        let found = execute(self.subject, &self.inputs, schedule, &self.topics, false).await;
        self.schedules += 1;
        self.tally.add(&found.tally);
        found
    }

    pub(super) async fn try_seed(&mut self, seed: u64) -> Result<(), Counterexample> {
        let schedule = Schedule::of_seed(seed, &self.shape);
        self.check(Some(seed), schedule).await
    }

    async fn check(&mut self, seed: Option<u64>, schedule: Schedule) -> Result<(), Counterexample> {
        let begun = Instant::now();
        let found = self.run(&schedule).await;
        match Finding::of(&schedule, &self.expected, &found) {
            None => Ok(()),
            // Each of the many runs that make it shorter would wait as long.
            Some(finding) if begun.elapsed() > SLOW => {
                Err(self.tell(finding, seed, schedule).await)
            }
            Some(_) => Err(self.explain(seed, schedule, &found).await),
        }
    }

    /// A clock has gone on since the first run.
    pub(super) async fn end(self) -> Result<Proof, Counterexample> {
        match self.differs_now().await {
            Some(different) => Err(different),
            None => Ok(Proof {
                schedules: self.schedules,
                messages: self.inputs.len(),
                tally: self.tally,
            }),
        }
    }

    /// A straight run that ends differently from the first one.
    async fn differs_now(&self) -> Option<Counterexample> {
        let straight = Schedule::straight(1);
        let again = execute(self.subject, &self.inputs, &straight, &self.topics, false).await;
        Finding::of(&straight, &self.expected, &again)?;
        Some(nondeterministic(None, &self.expected, &again))
    }

    /// There is nothing to compare with.
    async fn straight_fails(self) -> Counterexample {
        let straight = Schedule::straight(1);
        if let Some(finding) = Finding::of(&straight, &self.expected, &self.expected) {
            return self.tell(finding, None, straight).await;
        }
        let line = "it wrote nothing to the store, and sent nothing that is compared";
        Counterexample::new(Report {
            difference: vec![line.to_owned()],
            ..Report::empty(Finding::DoesNothing)
        })
    }

    /// What is wrong if this schedule leads to something else.
    async fn explain(
        &mut self,
        seed: Option<u64>,
        schedule: Schedule,
        found: &Outcome,
    ) -> Counterexample {
        if let Some(different) = self.differs_now().await {
            return different;
        }
        let again = execute(self.subject, &self.inputs, &schedule, &self.topics, false).await;
        if again.store != found.store || again.sent != found.sent {
            return nondeterministic(seed, found, &again);
        }
        let schedule = self.simplest_kind(schedule).await;
        let simplest = self.run(&schedule).await;
        let finding = Finding::of(&schedule, &self.expected, &simplest);
        let Some(finding) = finding else { return nondeterministic(seed, found, &self.expected) };
        let mut case = self.case(schedule).await;
        Shrinker::new(self.subject, &self.topics, finding).shrink(&mut case).await;
        self.tell_case(finding, seed, case).await
    }

    /// The schedule as it is.
    async fn tell(
        &self,
        finding: Finding,
        seed: Option<u64>,
        schedule: Schedule,
    ) -> Counterexample {
        let case = self.case(schedule).await;
        self.tell_case(finding, seed, case).await
    }

    async fn case(&self, schedule: Schedule) -> Case {
        let straight = Schedule::straight(1);
        let expected = execute(self.subject, &self.inputs, &straight, &self.topics, false).await;
        Case { inputs: self.inputs.clone(), schedule, expected }
    }

    async fn tell_case(&self, finding: Finding, seed: Option<u64>, case: Case) -> Counterexample {
        let Case { inputs, schedule, expected } = case;
        let told = execute(self.subject, &inputs, &schedule, &self.topics, true).await;
        let difference = difference(&expected, &told);
        let key = difference.key.as_ref();
        let reads = match finding {
            Finding::DependsOnBatches | Finding::DependsOnTopicOrder => None,
            _ => reads_differently(&told.attempts, key),
        };
        Counterexample::new(Report {
            finding,
            seed,
            key: key.map(ToString::to_string),
            all_inputs: self.inputs.len(),
            inputs: schedule.ordered(&inputs),
            story: told.story,
            difference: difference.lines,
            reads,
        })
    }

    /// The schedule without its faults, or with revocations in place of them, if that shows something too.
    async fn simplest_kind(&mut self, schedule: Schedule) -> Schedule {
        let revoked = |fault| match fault {
            Fault::None | Fault::Tick => Fault::None,
            _ => Fault::Revoked,
        };
        let simpler = [
            schedule.with_faults(0, |_| Fault::None),
            schedule.with_faults(schedule.order, |_| Fault::None),
            schedule.with_faults(0, revoked),
        ];
        for simpler in simpler {
            let found = self.run(&simpler).await;
            if Finding::of(&simpler, &self.expected, &found).is_some() {
                return simpler;
            }
        }
        schedule
    }
}

/// Two runs of one schedule.
fn nondeterministic(seed: Option<u64>, first: &Outcome, second: &Outcome) -> Counterexample {
    let difference = difference(first, second);
    let story = ["a run, the first of two that are equal", "the same again, with another result"];
    Counterexample::new(Report {
        seed,
        key: difference.key.map(|key| key.to_string()),
        story: story.map(str::to_owned).to_vec(),
        difference: difference.lines,
        ..Report::empty(Finding::Nondeterministic)
    })
}
