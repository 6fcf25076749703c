//! One run of one case, in a process of its own: CPU time and peak memory are then that run's.

use std::time::Duration;

use kasper::Processor;
use tokio::runtime::Runtime;

use crate::case::Case;
use crate::common::BoxError;
use crate::common::measure::Sample;
use crate::common::ours::{self, Job, Worker};
use crate::common::raw::forward::forward;
use crate::common::raw::way::Way;
use crate::common::raw::{self, consume};
use crate::processors::{Multiplier, Rejecter, Sleeper};
use crate::series::{Act, Who};
use crate::{idle, start};

/// What the parent says to do.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) case: Case,
    pub(crate) brokers: String,
    pub(crate) inputs: Vec<String>,
    /// Empty where nothing is sent.
    pub(crate) output: String,
    pub(crate) messages: u64,
    /// For how long it has nothing to do.
    pub(crate) idle: Duration,
}

/// Does it and prints the sample, as one line of JSON.
pub(crate) fn run(task: Task) -> Result<(), BoxError> {
    let sample = match task.case.who {
        Who::Raw => raw(&task),
        _ => Runtime::new()?.block_on(ours(task))?,
    };
    println!("{}", sample.to_json());
    Ok(())
}

async fn ours(task: Task) -> Result<Sample, BoxError> {
    let (messages, output) = (task.messages, task.output.clone());
    match task.case.step.act {
        Act::Read => ours::run_to_end(task.job(Worker::Read), messages).await,
        Act::PassThrough => ours::run_to_end(task.job(Worker::PassThrough(output)), messages).await,
        Act::Forward => ours::run_to_end(task.job(Worker::Forward(output)), messages).await,
        Act::Multiply { every, times } => {
            let owned = task.case.who == Who::OursOwned;
            let multiplier = Multiplier { topic: output, every, times, owned, taken: 0 };
            ours::run_to_end(task.job(multiplier), messages).await
        }
        Act::Reject(rejects) => {
            // Letters are counted with the others.
            let dead_letters = Some(output.clone());
            let job = task.job(Rejecter { topic: output, rejects });
            ours::run_to_end(Job { dead_letters, ..job }, messages).await
        }
        Act::Sleep(time) => ours::run_to_end(task.job(Sleeper(time)), messages).await,
        Act::Idle => {
            let (partitions, time) = (task.case.input().partitions, task.idle);
            idle::ours(task.job(Worker::Read), partitions, time).await
        }
        Act::Start => start::ours(task.job(Worker::Read), messages).await,
    }
}

fn raw(task: &Task) -> Sample {
    raw::exit_on_panic();
    let read = task.case.input();
    let input = raw::Input {
        brokers: &task.brokers,
        topics: &task.inputs,
        partitions: read.partitions,
        messages: task.messages,
    };
    let all_partitions = read.topics * read.partitions;
    let reading = Way::READ.over(all_partitions);
    let passing = Way { lz4: read.lz4, ..Way::PASS_SMALL.over(all_partitions) };
    match task.case.step.act {
        Act::Read | Act::Sleep(_) => consume::batches(input, reading),
        Act::PassThrough | Act::Reject(_) => forward(input, &task.output, passing, || false),
        Act::Forward => forward(input, &task.output, passing.forwarding(), || false),
        Act::Multiply { every, times } => {
            forward(input, &task.output, Way { every, times, ..passing }, || false)
        }
        Act::Idle => idle::raw(input, reading, task.idle),
        Act::Start => start::raw(input, reading),
    }
}

impl Task {
    fn job<P: Processor + Clone>(self, processor: P) -> Job<P> {
        let read = self.case.input();
        let partitions = (self.case.who != Who::OursGroup).then_some(read.partitions);
        let produces = self.case.step.act.has_output();
        let lz4 = read.lz4;
        Job { produces, lz4, ..Job::new(self.brokers, self.inputs, partitions, processor) }
    }
}
