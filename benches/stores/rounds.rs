//! The rounds: every case once a round.

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::calls::{Calls, Run};
use crate::case::{Case, Server, Who, Work};
use crate::common::BoxError;
use crate::common::child::{self, this_program};
use crate::common::contents::Contents;
use crate::common::counting::key;
use crate::common::progress::Progress;
use crate::common::runs;
use crate::common::topics::Topics;
use crate::counting;
use crate::place::Place;

pub(crate) type Plan = runs::Plan<Case>;

pub(crate) type Results = runs::Results<Case, Run>;

/// A topic that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Input {
    partitions: usize,
    messages: u64,
}

impl Input {
    fn of(case: Case, quick: bool) -> Option<Self> {
        let Work::Count { partitions } = case.work else { return None };
        Some(Self { partitions, messages: case.messages(quick) })
    }
}

pub(crate) struct Rounds {
    plan: Plan,
    runtime: Runtime,
    inputs: Vec<(Input, String)>,
    _topics: Option<Topics>,
    calls: Vec<Calls>,
    progress: Progress,
}

/// What a place is for. A local store can be open in one process only: jobs have places of their own.
const CALLS: &str = "calls";
const COUNT: &str = "count";

/// What runs at the same time has others.
fn place(server: Server, who: Who, what: &str) -> Result<Place, BoxError> {
    Place::new(server, who, &format!("{}_{what}", std::process::id()))
}

impl Rounds {
    pub(crate) fn new(plan: Plan) -> Result<Self, BoxError> {
        let progress = plan.progress()?;
        let (calls, inputs) = (Vec::new(), Vec::new());
        let runtime = Runtime::new()?;
        let mut rounds = Self { plan, runtime, inputs, _topics: None, calls, progress };
        rounds.fill()?;
        rounds.connect()?;
        Ok(rounds)
    }

    pub(crate) fn run(self) -> Result<Results, BoxError> {
        let results = self.plan.run_alike(&self.progress, |cases| self.run_alike(cases));
        for server in self.servers() {
            self.remove(server)?;
        }
        Ok(results)
    }

    /// The topics, each as long as a case needs that counts it.
    fn fill(&mut self) -> Result<(), BoxError> {
        if self.plan.brokers.is_empty() {
            return Ok(());
        }
        let mut topics = Topics::new(&self.plan.brokers)?;
        for case in &self.plan.cases {
            let Some(input) = Input::of(*case, self.plan.quick) else { continue };
            if self.inputs.iter().any(|(known, _)| *known == input) {
                continue;
            }
            let Input { partitions, messages } = input;
            self.progress
                .note(&format!("filling a topic: {messages} messages, {partitions} partitions"));
            let counts = vec![messages / partitions as u64; partitions];
            let key_of = |partition, random| key(partitions, partition, random);
            let topic = topics.create_filled("count", &Contents::new(100, &counts), key_of)?;
            self.inputs.push((input, topic));
        }
        self._topics = Some(topics);
        Ok(())
    }

    fn servers(&self) -> Vec<Server> {
        let mut servers: Vec<Server> = self.plan.cases.iter().map(|case| case.server).collect();
        servers.dedup();
        servers
    }

    fn connect(&mut self) -> Result<(), BoxError> {
        for server in self.servers() {
            self.progress.note(&format!("writing to {}", server.label()));
            let connected = self.runtime.block_on(async {
                for who in [Who::Raw, Who::Ours] {
                    place(server, who, CALLS)?.make().await?;
                    place(server, who, COUNT)?.make().await?;
                }
                let (raw, ours) =
                    (place(server, Who::Raw, CALLS)?, place(server, Who::Ours, CALLS)?);
                Calls::connect(&raw, &ours).await
            });
            let name = server.label();
            self.calls.push(connected.map_err(|error: BoxError| format!("{name}: {error}"))?);
        }
        Ok(())
    }

    fn run_alike(&self, cases: &[Case]) -> Vec<Result<Run, BoxError>> {
        let Some(first) = cases.first() else { return Vec::new() };
        self.progress.begin(first);
        let runs = match first.work {
            Work::Calls { .. } => {
                let time = Duration::from_millis(if self.plan.quick { 150 } else { 500 });
                let calls = self.calls.iter().find(|calls| calls.server == first.server);
                calls.map_or_else(Vec::new, |calls| self.runtime.block_on(calls.run(cases, time)))
            }
            Work::Count { .. } => cases.iter().map(|case| self.count(*case)).collect(),
        };
        cases.iter().for_each(|_| self.progress.end());
        runs
    }

    fn count(&self, case: Case) -> Result<Run, BoxError> {
        let input = Input::of(case, self.plan.quick);
        let input = self.inputs.iter().find(|(known, _)| Some(*known) == input);
        let (Input { messages, .. }, topic) = input.ok_or("no topic")?;
        let place = place(case.server, case.who, COUNT)?;
        let messages = messages.to_string();
        let told = [("input", topic.as_str()), ("messages", &messages), ("place", &place.name)];
        let sample = child::sample(&mut this_program(&case, told)?.spawn()?)?;
        let count = usize::try_from(sample.messages)?;
        Ok(Run { count, seconds: sample.seconds, sample: Some(sample) })
    }

    fn remove(&self, server: Server) -> Result<(), BoxError> {
        let counted = counting::keys();
        let counted: Vec<&str> = counted.iter().map(String::as_str).collect();
        let calls = self.calls.iter().filter(|calls| calls.server == server);
        let called: Vec<&str> = calls.flat_map(Calls::keys).collect();
        self.runtime.block_on(async {
            for who in [Who::Raw, Who::Ours] {
                place(server, who, CALLS)?.remove(&called).await?;
                place(server, who, COUNT)?.remove(&counted).await?;
            }
            Ok(())
        })
    }
}
