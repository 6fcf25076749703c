//! One run of the library or of a raw loop, in a process of its own.

use kasper::store::connect;
use tokio::runtime::Runtime;

use crate::case::{Case, PARTITIONS, Who, Work};
use crate::common::BoxError;
use crate::common::counting::{self, Input};
use crate::common::measure::Sample;
use crate::common::ours::{self, Job, Worker};
use crate::common::raw::forward::forward;
use crate::common::raw::way::Way;
use crate::common::raw::{self, consume};
use crate::common::redis::Redis;

/// What the parent says to do.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) case: Case,
    pub(crate) brokers: String,
    pub(crate) input: String,
    /// Of a pass-through.
    pub(crate) output: Option<String>,
    pub(crate) messages: u64,
    /// Where the counts are: a server and the prefix of the keys.
    pub(crate) redis: String,
    pub(crate) prefix: String,
}

/// Does it and prints the sample, as one line of JSON.
pub(crate) fn run(task: Task) -> Result<(), BoxError> {
    let runtime = Runtime::new()?;
    let sample = match (task.case.who, task.case.work) {
        (Who::Ours, Work::Count) => runtime.block_on(count(&task))?,
        (Who::Ours, _) => runtime.block_on(ours(task))?,
        (Who::Raw, Work::Count) => runtime.block_on(count_raw(&task))?,
        (Who::Raw, _) => raw(&task),
        (Who::FranzGo | Who::KafkaStreams | Who::Goka, _) => {
            return Err("a program of its own".into());
        }
    };
    println!("{}", sample.to_json());
    Ok(())
}

async fn ours(task: Task) -> Result<Sample, BoxError> {
    let produces = task.output.is_some();
    let worker = task.output.map_or(Worker::Read, Worker::Forward);
    let job = Job { produces, ..Job::new(task.brokers, vec![task.input], None, worker) };
    ours::run_to_end(job, task.messages).await
}

fn raw(task: &Task) -> Sample {
    raw::exit_on_panic();
    let topics = std::slice::from_ref(&task.input);
    let (brokers, messages) = (task.brokers.as_str(), task.messages);
    let input = raw::Input { brokers, topics, partitions: PARTITIONS, messages };
    match &task.output {
        None => consume::batches(input, Way::READ),
        Some(output) => forward(input, output, Way::PASS_SMALL.forwarding(), || false),
    }
}

async fn count(task: &Task) -> Result<Sample, BoxError> {
    let store = connect(&format!("redis://{}/{}", task.redis, task.prefix)).await?;
    counting::ours(task.counted(), store, true).await
}

async fn count_raw(task: &Task) -> Result<Sample, BoxError> {
    let redis = Redis::connect(&task.redis).await?;
    counting::raw(task.counted(), &redis, |key| format!("{}/{key}", task.prefix)).await
}

impl Task {
    fn counted(&self) -> Input<'_> {
        Input {
            brokers: &self.brokers,
            topic: &self.input,
            partitions: PARTITIONS,
            messages: self.messages,
        }
    }
}
