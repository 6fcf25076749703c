//! The rounds: every case once a round, each run in a child process.

use std::collections::HashMap;

use crate::case::Case;
use crate::common::BoxError;
use crate::common::child::{sample, this_program};
use crate::common::contents::{Contents, stretched};
use crate::common::measure::Sample;
use crate::common::progress::Progress;
use crate::common::runs;
use crate::common::topics::Topics;
use crate::series::{Input, VALUE_BYTES};

pub(crate) type Plan = runs::Plan<Case>;

pub(crate) type Results = runs::Results<Case, Sample>;

/// Batches of the size that Java's producers make by default, whatever the number of partitions. Otherwise a
/// topic of fewer partitions would have larger ones, which are cheaper to read.
const PRODUCER: &[(&str, &str)] = &[("batch.size", "16384"), ("linger.ms", "500")];
const COMPRESSING: &[(&str, &str)] =
    &[("batch.size", "16384"), ("linger.ms", "500"), ("compression.type", "lz4")];

/// Messages in each partition of an output topic before a run. A broker enters a partition's second batch of
/// 4 KiB or more into its index, a sparse file: reading it first may cost more than all the rest of a run
/// (where a disk reads 8 MiB ahead, 10 ms and more for each partition).
const BEFORE: u64 = 512;

pub(crate) struct Rounds {
    plan: Plan,
    topics: Topics,
    inputs: HashMap<Input, Vec<String>>,
    progress: Progress,
}

impl Rounds {
    pub(crate) fn new(plan: Plan) -> Result<Self, BoxError> {
        let progress = plan.progress()?;
        let topics = Topics::new(&plan.brokers)?;
        let mut rounds = Self { plan, topics, inputs: HashMap::new(), progress };
        rounds.fill()?;
        Ok(rounds)
    }

    pub(crate) fn run(mut self) -> Results {
        let (plan, progress) = (self.plan.clone(), self.progress.clone());
        plan.run(&progress, |case| self.run_one(case))
    }

    fn fill(&mut self) -> Result<(), BoxError> {
        for case in &self.plan.cases {
            let input = case.input();
            if self.inputs.contains_key(&input) {
                continue;
            }
            let messages = input.messages(self.plan.quick);
            let all_partitions = input.topics * input.partitions;
            self.progress
                .note(&format!("filling {all_partitions} partitions: {messages} messages"));
            let counts = vec![messages / all_partitions as u64; input.partitions];
            let contents = Contents {
                headers: input.headers,
                compressible: input.lz4,
                producer: if input.lz4 { COMPRESSING } else { PRODUCER },
                ..Contents::new(VALUE_BYTES, &counts)
            };
            let key = |_, random| stretched(random, input.key_bytes);
            let of_topic = |_| self.topics.create_filled("input", &contents, key);
            let topics = (0..input.topics).map(of_topic).collect::<Result<_, _>>()?;
            self.inputs.insert(input, topics);
        }
        Ok(())
    }

    /// A run, and whether all that is to be sent was sent.
    fn run_one(&mut self, case: Case) -> Result<Sample, BoxError> {
        if !case.step.act.has_output() {
            return self.run_child(case, "");
        }
        let partitions = case.input().partitions;
        let before = vec![BEFORE; partitions];
        let contents = Contents { producer: PRODUCER, ..Contents::new(VALUE_BYTES, &before) };
        let output = self.topics.create_filled("output", &contents, |_, _| "")?;
        let sample = self.run_child(case, &output);
        let sent = self.topics.count_messages(&output, partitions);
        self.topics.delete(&output)?;
        let (sample, sent) = (sample?, sent? - BEFORE * partitions as u64);
        let expected = case.input().outputs(case.step.act, self.plan.quick);
        match sent == expected {
            true => Ok(sample),
            false => Err(format!("{sent} messages were sent instead of {expected}").into()),
        }
    }

    fn run_child(&self, case: Case, output: &str) -> Result<Sample, BoxError> {
        let quick = self.plan.quick;
        let inputs = self.inputs.get(&case.input()).ok_or("no topic")?.join(",");
        let messages = case.input().messages(quick).to_string();
        let told = [
            ("brokers", self.plan.brokers.as_str()),
            ("inputs", &inputs),
            ("output", output),
            ("messages", &messages),
            ("idle-seconds", if quick { "5" } else { "10" }),
        ];
        sample(&mut this_program(&case, told)?.spawn()?)
    }
}
