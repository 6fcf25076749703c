//! The rounds: every case once a round, each run in a child process.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use indicatif::{ProgressBar, ProgressStyle};

use crate::case::{Case, Work};
use crate::latency::{self, Latency};
use crate::measure::Sample;
use crate::setup::Topics;
use crate::{BROKERS, BoxError};

/// After so long a run counts as failed.
const RUN_LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct Plan {
    pub(crate) brokers: String,
    pub(crate) cases: Vec<Case>,
    pub(crate) rounds: u32,
    pub(crate) quick: bool,
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) work: Work,
    pub(crate) sample: Sample,
    pub(crate) latency: Option<Latency>,
}

/// All runs: per case one entry a round, `None` for a run that failed.
pub(crate) struct Results {
    pub(crate) plan: Plan,
    pub(crate) runs: Vec<(Case, Vec<Option<Run>>)>,
    failures: Vec<String>,
}

impl Results {
    pub(crate) fn of(&self, case: Case) -> &[Option<Run>] {
        let found = self.runs.iter().find(|(known, _)| *known == case);
        found.map_or(&[], |(_, runs)| runs)
    }

    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }
}

pub(crate) struct Rounds {
    plan: Plan,
    topics: Topics,
    bar: ProgressBar,
}

impl Rounds {
    pub(crate) fn new(plan: Plan) -> Result<Self, BoxError> {
        let runs = plan.cases.len() as u64 * u64::from(plan.rounds);
        let bar = ProgressBar::new(runs);
        bar.set_style(ProgressStyle::with_template(
            "[{pos}/{len}] {elapsed} (ETA {eta}) {wide_msg}",
        )?);
        Ok(Self { topics: Topics::new(&plan.brokers)?, plan, bar })
    }

    pub(crate) fn run(mut self) -> Result<Results, BoxError> {
        let mut runs: Vec<(Case, Vec<Option<Run>>)> =
            self.plan.cases.iter().map(|case| (*case, Vec::new())).collect();
        let mut failures = Vec::new();
        let inputs = self.fill()?;
        for round in 1..=self.plan.rounds {
            self.note(&format!("round {round} of {}", self.plan.rounds));
            let compared = |a: &Case, b: &Case| (a.work, a.size) == (b.work, b.size);
            for group in runs.chunk_by_mut(|(a, _), (b, _)| compared(a, b)) {
                // Each round begins with another one, so that nothing has a lasting advantage of its
                // place: the first runs while the broker deletes what went before.
                let (behind, front) = group.split_at_mut(round as usize % group.len());
                for (case, runs) in front.iter_mut().chain(behind) {
                    self.bar.set_message(case.to_string());
                    let input = inputs.get(&input_of(*case)).cloned();
                    let outcome = self.run_one(*case, input);
                    if let Err(error) = &outcome {
                        failures.push(format!("{case}, round {round}: {error}"));
                    }
                    runs.push(outcome.ok());
                    self.bar.inc(1);
                }
            }
        }
        self.bar.finish_and_clear();
        Ok(Results { plan: self.plan, runs, failures })
    }

    /// The topics that the cases read, one for each work and size.
    fn fill(&mut self) -> Result<HashMap<(&'static str, &'static str), String>, BoxError> {
        let mut inputs = HashMap::new();
        for case in self.plan.cases.clone() {
            let (work, size) = input_of(case);
            if case.work == Work::Latency || inputs.contains_key(&(work, size)) {
                continue;
            }
            self.note(&format!("filling the topic for {work} with {size}"));
            let (bytes, counts) = (case.size.bytes(), case.spread(self.plan.quick));
            let topic = self.topics.create_filled(&format!("{work}-{size}"), bytes, counts)?;
            inputs.insert((work, size), topic);
        }
        Ok(inputs)
    }

    fn run_one(&mut self, case: Case, input: Option<String>) -> Result<Run, BoxError> {
        let mut own = Vec::new();
        let mut create = |label: &str| {
            let topic = self.topics.create(label)?;
            own.push(topic.clone());
            Ok::<_, BoxError>(topic)
        };
        let input = input.map_or_else(|| create("input"), Ok)?;
        let output = case.work.has_output().then(|| create("output")).transpose()?;
        let run = run_child(&self.plan, case, &input, output.as_deref());
        for topic in own {
            self.topics.delete(&topic)?;
        }
        run
    }

    /// Says what goes on, with or without a terminal.
    fn note(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        if !io::stderr().is_terminal() {
            eprintln!("{text}");
        }
    }
}

fn input_of(case: Case) -> (&'static str, &'static str) {
    (case.work.label(), case.size.label())
}

fn run_child(plan: &Plan, case: Case, input: &str, output: Option<&str>) -> Result<Run, BoxError> {
    let mut command = Command::new(env::current_exe()?);
    let messages = case.messages(plan.quick).to_string();
    command.args(["--case", &case.to_string(), "--input", input, "--messages", &messages]);
    command.args(output.iter().flat_map(|output| ["--output", output]));
    command.env(BROKERS, &plan.brokers).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let latency = match (case.work, output) {
        (Work::Latency, Some(output)) => {
            let seconds = if plan.quick { 2 } else { 10 };
            let time = Duration::from_secs(seconds);
            Some(latency::measure(&plan.brokers, input, output, time))
        }
        _ => None,
    };
    // The end of its input tells a child without end to end.
    drop(child.stdin.take());
    let text = wait(&mut child)?;
    let sample = Sample::from_json(&text).ok_or("no result")?;
    Ok(Run { work: case.work, sample, latency: latency.transpose()? })
}

/// The output of a child that ended well.
fn wait(child: &mut Child) -> Result<String, BoxError> {
    let deadline = Instant::now() + RUN_LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(format!("not done after {RUN_LIMIT:?}").into());
        }
        thread::sleep(Duration::from_millis(10));
    };
    let mut text = String::new();
    // A line of JSON fits the pipe: the child did not wait for us to read it.
    if let Some(output) = &mut child.stdout {
        output.read_to_string(&mut text)?;
    }
    if status.success() { Ok(text) } else { Err(status.to_string().into()) }
}
