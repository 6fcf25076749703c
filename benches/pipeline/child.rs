//! One run of one case, in a process of its own: CPU time and peak memory are then that run's.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, thread};

use kasper::store::{AnyStore, MapStore};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::case::{Case, PARTITIONS, Who, Work};
use crate::common::BoxError;
use crate::common::counting;
use crate::common::measure::Sample;
use crate::common::ours::{self, Job, Worker};
use crate::common::raw::forward::forward;
use crate::common::raw::way::Way;
use crate::common::raw::{self, Input, consume};

/// What the parent says to do.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) case: Case,
    pub(crate) brokers: String,
    pub(crate) input: String,
    pub(crate) output: Option<String>,
    pub(crate) messages: u64,
    /// How a raw loop works.
    pub(crate) way: Way,
}

/// Does it and prints the sample, as one line of JSON. A task without end ends with the end of
/// standard input.
pub(crate) fn run(task: Task) -> Result<(), BoxError> {
    let sample = match (task.case.who, task.case.work) {
        (_, Work::Count) => Runtime::new()?.block_on(count(&task))?,
        (Who::Ours { .. } | Who::OursWithMetrics, _) => Runtime::new()?.block_on(ours(task))?,
        _ => raw(&task),
    };
    println!("{}", sample.to_json());
    Ok(())
}

async fn ours(task: Task) -> Result<Sample, BoxError> {
    let (group, one_in_flight) = match task.case.who {
        Who::Ours { group, one_in_flight } => (group, one_in_flight),
        _ => (false, false),
    };
    let produces = task.output.is_some();
    let worker = match task.output {
        None => Worker::Read,
        Some(output) if task.case.work == Work::Forward => Worker::Forward(output),
        Some(output) => Worker::PassThrough(output),
    };
    let partitions = (!group).then_some(PARTITIONS);
    let job = Job {
        max_in_flight: one_in_flight.then_some(1),
        metrics: task.case.who == Who::OursWithMetrics,
        produces,
        ..Job::new(task.brokers, vec![task.input], partitions, worker)
    };
    if !matches!(task.case.work, Work::Latency(_)) {
        return ours::run_to_end(job, task.messages).await;
    }
    let (stop, stopped) = oneshot::channel::<()>();
    at_end_of_input(move || drop(stop));
    ours::run_until(job, async {
        // Ends, with an error, when the sender is dropped.
        let _ended = stopped.await;
    })
    .await
}

async fn count(task: &Task) -> Result<Sample, BoxError> {
    let (brokers, topic, messages) = (task.brokers.as_str(), task.input.as_str(), task.messages);
    let input = counting::Input { brokers, topic, partitions: PARTITIONS, messages };
    counting::ours(input, AnyStore::new(MapStore::new()), false).await
}

fn raw(task: &Task) -> Sample {
    raw::exit_on_panic();
    let topics = std::slice::from_ref(&task.input);
    let (brokers, messages) = (task.brokers.as_str(), task.messages);
    let input = Input { brokers, topics, partitions: PARTITIONS, messages };
    match (&task.output, task.case.who) {
        (None, Who::RawPoll) => consume::poll(input, task.way),
        (None, _) => consume::batches(input, task.way),
        (Some(output), _) if matches!(task.case.work, Work::Latency(_)) => {
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = Arc::clone(&stop);
            at_end_of_input(move || stopped.store(true, Ordering::Relaxed));
            let input = Input { messages: u64::MAX, ..input };
            forward(input, output, task.way, || stop.load(Ordering::Relaxed))
        }
        (Some(output), _) => forward(input, output, task.way, || false),
    }
}

fn at_end_of_input(act: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        // An error is an end, too.
        let _read = io::stdin().read_to_end(&mut Vec::new());
        act();
    });
}
