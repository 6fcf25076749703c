//! The library doing the same work as the raw loops.

use std::hint::black_box;

use kasper::{Batch, BoxError, Context, OnError, OutgoingMessage, Processor, TopicProcessor};

use super::job::{self, Seen};
use super::measure::{Mark, Sample};
use super::topics::WARM_UP;

/// What processes what, and how.
#[derive(Debug, Clone)]
pub(crate) struct Job<P> {
    pub(crate) brokers: String,
    pub(crate) inputs: Vec<String>,
    /// So many static partitions; `None`: in a group.
    pub(crate) partitions: Option<usize>,
    /// `None`: the library's default.
    pub(crate) max_in_flight: Option<usize>,
    /// Count and measure for Prometheus.
    pub(crate) metrics: bool,
    /// The producer compresses.
    pub(crate) lz4: bool,
    /// Wait for the producer before reading.
    pub(crate) produces: bool,
    /// Where messages go that cannot be processed.
    pub(crate) dead_letters: Option<String>,
    /// Of each partition.
    pub(crate) processor: P,
}

impl<P> Job<P> {
    /// With the library's defaults, which suffice for reading.
    pub(crate) fn new(
        brokers: String,
        inputs: Vec<String>,
        partitions: Option<usize>,
        processor: P,
    ) -> Self {
        let (max_in_flight, metrics, lz4, produces) = (None, false, false, false);
        let dead_letters = None;
        Self {
            brokers,
            inputs,
            partitions,
            max_in_flight,
            metrics,
            lz4,
            produces,
            dead_letters,
            processor,
        }
    }
}

/// Processes everything there is.
pub(crate) async fn run_to_end(
    job: Job<impl Processor + Clone>,
    messages: u64,
) -> Result<Sample, BoxError> {
    let seen = Seen::default();
    let processor = build(job, &seen).await?;
    job::run_to_end(processor, messages, &seen).await
}

/// Processes until `stop` is done.
pub(crate) async fn run_until(
    job: Job<impl Processor + Clone>,
    stop: impl Future<Output = ()>,
) -> Result<Sample, BoxError> {
    let seen = Seen::default();
    let processor = build(job, &seen).await?;
    let start = Mark::now();
    let mut end = None;
    let stopped = async {
        stop.await;
        end = Some(Mark::now());
    };
    let report = processor.run_until(stopped).await?;
    let end = end.unwrap_or_else(Mark::now);
    Ok(Sample::until(report.messages, start, seen.first(), end))
}

pub(crate) async fn build(
    job: Job<impl Processor + Clone>,
    seen: &Seen,
) -> Result<TopicProcessor, BoxError> {
    let name = format!("{}-{}", job.inputs.join("-"), std::process::id());
    let mut builder = TopicProcessor::builder(name, job.inputs).brokers(job.brokers);
    if let Some(partitions) = job.partitions {
        builder = builder.partitions(0..i32::try_from(partitions)?);
    }
    if let Some(batches) = job.max_in_flight {
        builder = builder.max_in_flight(batches);
    }
    if job.lz4 {
        builder = builder.kafka("compression.type", "lz4");
    }
    if let Some(topic) = job.dead_letters {
        builder = builder.on_error(OnError::dead_letter(topic));
    }
    #[cfg(feature = "prometheus")]
    if job.metrics {
        builder = builder.metrics(kasper::metrics::prometheus()?);
    }
    let (seen, inner) = (seen.clone(), job.processor);
    let processor =
        builder.build(move |_| Watched { seen: seen.clone(), inner: inner.clone() }).await?;
    if job.produces {
        tokio::time::sleep(WARM_UP).await;
    }
    Ok(processor)
}

/// Notes what a processor gets.
struct Watched<P> {
    seen: Seen,
    inner: P,
}

impl<P: Processor> Processor for Watched<P> {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        self.seen.begin(batch);
        self.inner.process(batch, context).await
    }
}

/// What is done with a message.
#[derive(Debug, Clone)]
pub(crate) enum Worker {
    /// Its size is looked at.
    Read,
    /// It is sent to the same partition of this topic.
    PassThrough(String),
    /// It is forwarded: with its timestamp and headers, to the partition that its key says.
    Forward(String),
}

impl Processor for Worker {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        match self {
            Self::Forward(output) => {
                batch.iter().for_each(|message| context.forward(output, &message));
            }
            Self::PassThrough(output) => batch.iter().for_each(|message| {
                let outgoing = OutgoingMessage::new(&*output).partition(message.partition());
                context.send(outgoing.key(message.key()).value(message.value()));
            }),
            Self::Read => {
                let size = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
                let sizes = batch.iter().map(|message| size(message.key()) + size(message.value()));
                black_box(sizes.sum::<usize>());
            }
        }
        Ok(())
    }
}
