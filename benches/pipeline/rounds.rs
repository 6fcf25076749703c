//! The rounds: every case once a round, each run in a child process.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::BROKERS;
use crate::case::{Case, PARTITIONS, Work};
use crate::common::BoxError;
use crate::common::child::{sample, this_program};
use crate::common::contents::Contents;
use crate::common::measure::Sample;
use crate::common::progress::Progress;
use crate::common::raw::way::Way;
use crate::common::runs;
use crate::common::topics::Topics;
use crate::latency::{self, Load, Outcome};
use crate::ways;

pub(crate) type Plan = runs::Plan<Case>;

pub(crate) type Results = runs::Results<Case, Run>;

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) work: Work,
    pub(crate) sample: Sample,
    pub(crate) latency: Option<Outcome>,
}

pub(crate) struct Rounds {
    plan: Plan,
    topics: Topics,
    progress: Progress,
}

impl Rounds {
    pub(crate) fn new(plan: Plan) -> Result<Self, BoxError> {
        let progress = plan.progress()?;
        Ok(Self { topics: Topics::new(&plan.brokers)?, plan, progress })
    }

    pub(crate) fn run(mut self) -> Result<Results, BoxError> {
        let inputs = self.fill()?;
        let (plan, progress) = (self.plan.clone(), self.progress.clone());
        Ok(plan.run(&progress, |case| {
            self.run_one(case, ways::fastest(case), inputs.get(&case.input()).cloned())
        }))
    }

    /// How many rounds there are to be.
    pub(crate) fn count(&self) -> u32 {
        self.plan.rounds
    }

    /// The topics that the cases read, one for each work and size.
    pub(crate) fn fill(
        &mut self,
    ) -> Result<HashMap<(&'static str, &'static str), String>, BoxError> {
        let mut inputs = HashMap::new();
        for case in self.plan.cases.clone() {
            let (work, size) = case.input();
            if matches!(case.work, Work::Latency(_)) || inputs.contains_key(&(work, size)) {
                continue;
            }
            self.progress.note(&format!("filling the topic for {work} with {size}"));
            let (bytes, counts) = (case.size.bytes(), case.spread(self.plan.quick));
            let topic = self.topics.create_filled(
                &format!("{work}-{size}"),
                &Contents::new(bytes, &counts),
                // Keys that spread over partitions.
                |_, random| random.to_le_bytes(),
            )?;
            inputs.insert((work, size), topic);
        }
        Ok(inputs)
    }

    pub(crate) fn run_one(
        &mut self,
        case: Case,
        way: Way,
        input: Option<String>,
    ) -> Result<Run, BoxError> {
        let mut own = Vec::new();
        let mut create = |label: &str| {
            let topic = self.topics.create(label, PARTITIONS)?;
            own.push(topic.clone());
            Ok::<_, BoxError>(topic)
        };
        let input = input.map_or_else(|| create("input"), Ok)?;
        let output = case.work.has_output().then(|| create("output")).transpose()?;
        let run = run_child(&self.plan, case, way, &input, output.as_deref());
        for topic in own {
            self.topics.delete(&topic)?;
        }
        run
    }
}

/// This program, told to run a case on these topics: input and output.
pub(crate) fn told(
    case: Case,
    way: Way,
    (input, output): (&str, Option<&str>),
    messages: u64,
) -> Result<Command, BoxError> {
    let (messages, way) = (messages.to_string(), serde_json::to_string(&way)?);
    let told = [("input", input), ("messages", &messages), ("way", &way)];
    this_program(&case, told.into_iter().chain(output.map(|output| ("output", output))))
}

fn run_child(
    plan: &Plan,
    case: Case,
    way: Way,
    input: &str,
    output: Option<&str>,
) -> Result<Run, BoxError> {
    let mut command = told(case, way, (input, output), case.messages(plan.quick))?;
    command.env(BROKERS, &plan.brokers).stdin(Stdio::piped());
    let mut child = command.spawn()?;
    let latency = match (case.work, output) {
        (Work::Latency(rate), Some(output)) => {
            let time = Duration::from_secs(if plan.quick { 2 } else { 10 });
            let load = Load { per_second: rate.messages(), time };
            Some(latency::measure(&plan.brokers, input, output, load))
        }
        _ => None,
    };
    // The end of its input tells a child without end to end.
    drop(child.stdin.take());
    let sample = sample(&mut child)?;
    Ok(Run { work: case.work, sample, latency: latency.transpose()? })
}
