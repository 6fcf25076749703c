//! The library doing the same work as the raw loops.

use std::hint::black_box;

use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor, TopicProcessor};

use crate::case::PARTITIONS;
use crate::common::job::{self, First};
use crate::common::measure::{Mark, Sample};
use crate::common::topics::WARM_UP;

/// What to do, besides reading.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) brokers: String,
    pub(crate) input: String,
    /// Pass each message on to this topic.
    pub(crate) output: Option<String>,
    /// With its timestamp, to the partition that its key says.
    pub(crate) forward: bool,
    pub(crate) group: bool,
    /// `None`: the library's default.
    pub(crate) max_in_flight: Option<usize>,
    /// Count and measure for Prometheus.
    pub(crate) metrics: bool,
}

/// Processes everything there is.
pub(crate) async fn run_to_end(job: Job, messages: u64) -> Result<Sample, BoxError> {
    let first = First::default();
    let processor = build(&job, first.clone()).await?;
    job::run_to_end(processor, messages, &first).await
}

/// Processes until `stop` is done.
pub(crate) async fn run_until(
    job: Job,
    stop: impl Future<Output = ()>,
) -> Result<Sample, BoxError> {
    let first = First::default();
    let processor = build(&job, first.clone()).await?;
    let start = Mark::now();
    let mut end = None;
    let stopped = async {
        stop.await;
        end = Some(Mark::now());
    };
    let report = processor.run_until(stopped).await?;
    let end = end.unwrap_or_else(Mark::now);
    Ok(Sample::until(report.messages, start, first.get().copied(), end))
}

async fn build(job: &Job, first: First) -> Result<TopicProcessor, BoxError> {
    let name = format!("{}-{}", job.input, std::process::id());
    let mut builder = TopicProcessor::builder(name, [&job.input]).brokers(&job.brokers);
    if !job.group {
        builder = builder.partitions(0..i32::try_from(PARTITIONS)?);
    }
    if let Some(batches) = job.max_in_flight {
        builder = builder.max_in_flight(batches);
    }
    #[cfg(feature = "prometheus")]
    if job.metrics {
        builder = builder.metrics(kasper::metrics::prometheus()?);
    }
    let (output, forward) = (job.output.clone(), job.forward);
    let processor = builder
        .build(move |_| Worker { first: first.clone(), output: output.clone(), forward })
        .await?;
    if job.output.is_some() {
        tokio::time::sleep(WARM_UP).await;
    }
    Ok(processor)
}

struct Worker {
    first: First,
    output: Option<String>,
    forward: bool,
}

impl Processor for Worker {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        self.first.get_or_init(Mark::now);
        match &self.output {
            Some(output) if self.forward => {
                batch.iter().for_each(|message| context.forward(output, &message));
            }
            Some(output) => batch.iter().for_each(|message| {
                let outgoing = OutgoingMessage::new(output).partition(message.partition());
                context.send(outgoing.key(message.key()).value(message.value()));
            }),
            None => {
                let size = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
                let sizes = batch.iter().map(|message| size(message.key()) + size(message.value()));
                black_box(sizes.sum::<usize>());
            }
        }
        Ok(())
    }
}
