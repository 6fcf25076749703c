//! How long it takes until messages of all partitions are there, from where the client is made.

use kasper::Processor;

use crate::common::BoxError;
use crate::common::job::{self, Seen};
use crate::common::measure::{Mark, Sample};
use crate::common::ours::{self, Job};
use crate::common::raw::way::Way;
use crate::common::raw::{Input, consume};

/// The library, from the call of `build`.
pub(crate) async fn ours(
    job: Job<impl Processor + Clone>,
    messages: u64,
) -> Result<Sample, BoxError> {
    let begin = Mark::now();
    let seen = Seen::default();
    let processor = ours::build(job, &seen).await?;
    let built = begin.elapsed();
    Ok(later(built, job::run_to_end(processor, messages, &seen).await?))
}

pub(crate) fn raw(input: Input<'_>, way: Way) -> Sample {
    let begin = Mark::now();
    let consumer = input.consumer(way.ahead());
    let made = begin.elapsed();
    later(made, consume::all(&consumer, input.messages, way.batch))
}

fn later(seconds: f64, mut sample: Sample) -> Sample {
    sample.seconds_from_start += seconds;
    sample
}
