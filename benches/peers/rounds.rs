//! The rounds: every case once a round, each run in a process of its own.

use std::collections::HashMap;

use kasper::store::{Store as _, connect};
use tokio::runtime::Runtime;

use crate::case::{Case, PARTITIONS, VALUE_BYTES, Who, Work};
use crate::common::BoxError;
use crate::common::child::{self, this_program};
use crate::common::contents::Contents;
use crate::common::counting;
use crate::common::measure::Sample;
use crate::common::progress::Progress;
use crate::common::runs;
use crate::common::topics::Topics;
use crate::programs;

pub(crate) type Plan = runs::Plan<Case>;

pub(crate) type Results = runs::Results<Case, Sample>;

pub(crate) struct Rounds {
    plan: Plan,
    /// Empty if no case needs it.
    redis: String,
    runtime: Runtime,
    topics: Topics,
    inputs: HashMap<Work, String>,
    progress: Progress,
}

impl Rounds {
    pub(crate) fn new(plan: Plan, redis: String) -> Result<Self, BoxError> {
        let progress = plan.progress()?;
        let (topics, runtime) = (Topics::new(&plan.brokers)?, Runtime::new()?);
        let mut rounds = Self { plan, redis, runtime, topics, inputs: HashMap::new(), progress };
        rounds.fill()?;
        Ok(rounds)
    }

    pub(crate) fn run(mut self) -> Results {
        let (plan, progress) = (self.plan.clone(), self.progress.clone());
        plan.run(&progress, |case| self.run_one(case))
    }

    /// The topics that the cases read, one for each work.
    fn fill(&mut self) -> Result<(), BoxError> {
        for case in &self.plan.cases {
            let (work, messages) = (case.work, case.work.messages(self.plan.quick));
            if self.inputs.contains_key(&work) {
                continue;
            }
            let label = work.label();
            self.progress.note(&format!("filling the topic for {label}: {messages} messages"));
            let counts = [messages / PARTITIONS as u64; PARTITIONS];
            let (contents, topics) = (Contents::new(VALUE_BYTES, &counts), &mut self.topics);
            let topic = if work == Work::Count {
                let key = |partition, random| counting::key(PARTITIONS, partition, random);
                topics.create_filled(label, &contents, key)?
            } else {
                // Keys that spread over partitions.
                let key = |_, random: u64| random.to_le_bytes();
                topics.create_filled(label, &contents, key)?
            };
            self.inputs.insert(work, topic);
        }
        Ok(())
    }

    /// A run, and whether all messages came through.
    fn run_one(&mut self, case: Case) -> Result<Sample, BoxError> {
        let messages = case.work.messages(self.plan.quick);
        let input = self.inputs.get(&case.work).ok_or("no topic")?.clone();
        match case.work {
            Work::Consume => self.run_child(case, &input, &[]),
            Work::PassThrough => {
                let output = self.topics.create("output", PARTITIONS)?;
                let sample = self.run_child(case, &input, &[("output", &output)]);
                let passed = self.topics.count_messages(&output, PARTITIONS);
                self.topics.delete(&output)?;
                let (sample, passed) = (sample?, passed?);
                let expected = messages * (1 + case.who.warm_ups(self.plan.quick));
                match passed == expected {
                    true => Ok(sample),
                    false => Err(format!("{passed} messages instead of {expected}").into()),
                }
            }
            // They keep their counts to themselves, and check them.
            Work::Count if matches!(case.who, Who::KafkaStreams | Who::Goka) => {
                self.run_child(case, &input, &[])
            }
            Work::Count => {
                let prefix = format!("{input}-{}", case.who);
                let more = [("redis", self.redis.as_str()), ("prefix", &prefix)];
                let sample = self.run_child(case, &input, &more);
                let counted = self.take_counts(&prefix)?;
                let sample = sample?;
                counting::check(counted, messages)?;
                Ok(sample)
            }
        }
    }

    /// The sum of the counts in Redis, which are removed.
    fn take_counts(&self, prefix: &str) -> Result<u64, BoxError> {
        let keys: Vec<String> = counting::keys(PARTITIONS).collect();
        self.runtime.block_on(async {
            let store = connect(&format!("redis://{}/{prefix}", self.redis)).await?;
            let total = counting::total(&store, &keys).await?;
            let removed: Vec<_> = keys.iter().map(|key| (key.as_str(), None)).collect();
            store.write_many(&removed).await?;
            Ok(total)
        })
    }

    fn run_child(
        &self,
        case: Case,
        input: &str,
        more: &[(&str, &str)],
    ) -> Result<Sample, BoxError> {
        let messages = case.work.messages(self.plan.quick).to_string();
        let brokers = &self.plan.brokers;
        let named = [("brokers", brokers.as_str()), ("input", input), ("messages", &messages)];
        let named = named.iter().chain(more);
        let mut command = match programs::command(case.who) {
            Some(mut program) => {
                let state = env!("CARGO_TARGET_TMPDIR");
                program.arg(case.work.label());
                program.args(named.map(|(name, value)| format!("{name}={value}")));
                let warm_ups = case.who.warm_ups(self.plan.quick);
                program.args([format!("partitions={PARTITIONS}"), format!("warm_ups={warm_ups}")]);
                program.arg(format!("state={state}"));
                program
            }
            None => this_program(&case, named.copied())?,
        };
        child::sample(&mut command.spawn()?)
    }
}
