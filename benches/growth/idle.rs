//! What a process costs that has partitions and no messages.

use std::time::{Duration, Instant};

use kasper::{Handle, PartitionState, Processor};
use tokio::sync::oneshot;

use crate::common::BoxError;
use crate::common::job::Seen;
use crate::common::measure::{Mark, Sample};
use crate::common::ours::{self, Job};
use crate::common::raw::Input;
use crate::common::raw::way::Way;

/// Not measured: all partitions have been assigned, and their first requests are answered.
const SETTLING: Duration = Duration::from_secs(2);

/// How long to wait for the assignment of all partitions.
const PATIENCE: Duration = Duration::from_secs(60);

/// The library, with so many partitions of its own, for so long.
pub(crate) async fn ours(
    job: Job<impl Processor + Clone>,
    partitions: usize,
    time: Duration,
) -> Result<Sample, BoxError> {
    let processor = ours::build(job, &Seen::default()).await?;
    let handle = processor.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(processor.run_until(async {
        // Ends, with an error, when the sender is dropped.
        let _ended = stopped.await;
    }));
    let begin = Instant::now();
    while !reads_all(&handle, partitions) && !running.is_finished() {
        if begin.elapsed() > PATIENCE {
            return Err(format!("not all partitions are read after {PATIENCE:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(SETTLING).await;
    let from = Mark::now();
    tokio::time::sleep(time).await;
    let sample = Sample::until_now(0, from, Some(from));
    drop(stop);
    running.await??;
    Ok(sample)
}

fn reads_all(handle: &Handle, partitions: usize) -> bool {
    let status = handle.status();
    let running = status.partitions.iter().filter(|it| it.state == PartitionState::Running);
    status.settled && running.count() == partitions
}

/// A loop that waits for messages.
pub(crate) fn raw(input: Input<'_>, way: Way, time: Duration) -> Sample {
    let consumer = input.consumer(way.ahead());
    consumer.assign();
    let wait = |time: Duration| {
        let from = Mark::now();
        while from.elapsed() < time.as_secs_f64() {
            assert!(consumer.wait(100).is_none(), "a message in an empty topic");
        }
        from
    };
    wait(SETTLING);
    let from = wait(time);
    Sample::until_now(0, from, Some(from))
}
