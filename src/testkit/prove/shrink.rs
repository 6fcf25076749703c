//! [`Shrinker`]: makes a schedule that shows something as short as it can, and still shows the same.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::execution::execute;
use super::finding::Finding;
use super::outcome::Outcome;
use super::schedule::{Fault, Point, Schedule, Step};
use super::subject::Subject;
use crate::testkit::TestMessage;

/// More runs make it shorter rarely, and take seconds.
const MOST_RUNS: usize = 2_000;

/// Runs of a processor that sleeps, or waits for ever, on a clock that is not paused.
const LONGEST: Duration = Duration::from_secs(20);

/// A schedule for some messages, and what they lead to in a straight run.
pub(super) struct Case {
    pub(super) inputs: Vec<TestMessage>,
    pub(super) schedule: Schedule,
    pub(super) expected: Outcome,
}

pub(super) struct Shrinker<'a> {
    pub(super) subject: &'a Subject,
    pub(super) topics: &'a [String],
    pub(super) finding: Finding,
    runs_left: usize,
    begun: Instant,
}

impl<'a> Shrinker<'a> {
    pub(super) fn new(subject: &'a Subject, topics: &'a [String], finding: Finding) -> Self {
        Self { subject, topics, finding, runs_left: MOST_RUNS, begun: Instant::now() }
    }

    /// Tries whatever makes it shorter, until nothing does.
    pub(super) async fn shrink(&mut self, case: &mut Case) {
        loop {
            let mut shorter = self.drop_steps(case).await;
            shorter |= self.drop_messages(case).await;
            shorter |= self.simplify_steps(case).await;
            shorter |= self.shorten_batches(case).await;
            if !shorter || !self.may_run(0) {
                return;
            }
        }
    }

    fn may_run(&mut self, times: usize) -> bool {
        let may = self.runs_left >= times.max(1) && self.begun.elapsed() < LONGEST;
        self.runs_left -= if may { times } else { 0 };
        may
    }

    /// Whether this schedule shows the same; then it is the case's.
    async fn accepts(&mut self, case: &mut Case, schedule: Schedule) -> bool {
        if schedule == case.schedule || !self.may_run(1) {
            return false;
        }
        let found = execute(self.subject, &case.inputs, &schedule, self.topics, false).await;
        let same = Finding::of(&schedule, &case.expected, &found) == Some(self.finding);
        if same {
            case.schedule = schedule;
        }
        same
    }

    async fn drop_steps(&mut self, case: &mut Case) -> bool {
        let mut shorter = false;
        let mut index = 0;
        while index < case.schedule.steps.len() {
            let mut schedule = case.schedule.clone();
            schedule.steps.remove(index);
            match self.accepts(case, schedule).await {
                true => shorter = true,
                false => index += 1,
            }
        }
        shorter
    }

    /// Takes messages out, many at first. Those that stay keep their offsets.
    async fn drop_messages(&mut self, case: &mut Case) -> bool {
        let mut shorter = false;
        let mut size = (case.inputs.len() / 2).max(1);
        while size > 0 {
            // The last ones first: what happens early is easier to follow.
            let mut to = case.inputs.len();
            while to > 0 {
                let from = to.saturating_sub(size);
                let schedule = case.schedule.clone();
                let mut dropped = self.accepts_without(case, from..to, schedule).await;
                if !dropped && size == 1 {
                    dropped = self.accepts_without_in_a_step(case, from).await;
                }
                shorter |= dropped;
                to = from;
            }
            size /= 2;
        }
        shorter
    }

    /// A message, and the room for it in a batch: else it would be another batch that gets the messages behind it.
    async fn accepts_without_in_a_step(&mut self, case: &mut Case, message: usize) -> bool {
        for index in 0..case.schedule.steps.len() {
            let mut schedule = case.schedule.clone();
            match schedule.steps[index].messages {
                1 => drop(schedule.steps.remove(index)),
                _ => schedule.steps[index].messages -= 1,
            }
            if self.accepts_without(case, message..message + 1, schedule).await {
                return true;
            }
        }
        false
    }

    async fn accepts_without(
        &mut self,
        case: &mut Case,
        without: Range<usize>,
        schedule: Schedule,
    ) -> bool {
        let mut inputs = case.inputs.clone();
        inputs.drain(without);
        if inputs.is_empty() || !self.may_run(2) {
            return false;
        }
        let straight = Schedule::straight(1);
        let expected = execute(self.subject, &inputs, &straight, self.topics, false).await;
        if expected.trouble.is_some() {
            return false;
        }
        let found = execute(self.subject, &inputs, &schedule, self.topics, false).await;
        if Finding::of(&schedule, &expected, &found) != Some(self.finding) {
            return false;
        }
        *case = Case { inputs, schedule, expected };
        true
    }

    async fn simplify_steps(&mut self, case: &mut Case) -> bool {
        let mut shorter = false;
        for index in 0..case.schedule.steps.len() {
            for step in simpler(&case.schedule.steps[index]) {
                let mut schedule = case.schedule.clone();
                schedule.steps[index] = step;
                if self.accepts(case, schedule).await {
                    shorter = true;
                    break;
                }
            }
        }
        let mut schedule = case.schedule.clone();
        schedule.rest = usize::MAX;
        shorter |= self.accepts(case, schedule).await;
        let as_given = Schedule { order: 0, ..case.schedule.clone() };
        self.accepts(case, as_given).await || shorter
    }

    async fn shorten_batches(&mut self, case: &mut Case) -> bool {
        let mut shorter = false;
        for index in 0..case.schedule.steps.len() {
            let messages = case.schedule.steps[index].messages;
            for fewer in [1, messages / 2, messages - 1] {
                let mut schedule = case.schedule.clone();
                schedule.steps[index].messages = fewer;
                if (1..messages).contains(&fewer) && self.accepts(case, schedule).await {
                    shorter = true;
                    break;
                }
            }
        }
        shorter
    }
}

/// The step with less in it, the simplest first.
fn simpler(step: &Step) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut point = None;
    if let Fault::Lost(at) | Fault::Crash(at) = step.fault {
        point = Some(at);
    }
    if let Fault::StoreFails(at) = step.fault {
        point = Some(Point::Store(at));
    }
    let faults = [Some(Fault::None), Some(Fault::Revoked), Some(Fault::Crash(Point::End))];
    for fault in faults.into_iter().flatten().chain(point.map(Fault::Crash)) {
        if rank(fault) < rank(step.fault) {
            steps.push(Step { fault, ..*step });
        }
    }
    let plain = Step { messages: step.messages, fault: step.fault, ..Step::PLAIN };
    steps.extend([
        plain,
        Step { back: 0, ..*step },
        Step { back: step.back.min(1), ..*step },
        Step { elsewhere: false, ..*step },
        Step { hold: false, unsent: false, ..*step },
        Step { unsent: false, ..*step },
    ]);
    steps.extend(step.fault.earlier().into_iter().map(|fault| Step { fault, ..*step }));
    steps.retain(|simpler| simpler != step);
    steps
}

fn rank(fault: Fault) -> usize {
    match fault {
        Fault::None => 0,
        Fault::Tick => 1,
        Fault::Revoked => 2,
        Fault::Crash(Point::End) => 3,
        Fault::Crash(_) => 4,
        Fault::DeliveryFails(_) => 5,
        Fault::Lost(_) => 6,
        Fault::StoreFails(_) => 7,
    }
}
