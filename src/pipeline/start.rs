//! Where a partition begins: its committed offset or, where there is none, what the user chose.
//!
//! Place in the data path: before it, once per assignment. Offsets are found here and assigned
//! explicitly, because the client's own `auto.offset.reset` cannot tell "nothing committed" from "the
//! committed offset is no longer there": the second is a loss of data and must not pass silently.

use std::time::Duration;

use tracing::warn;

use crate::broker::{Consumer, OffsetSpec};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, TopicPartition};

/// Where a partition begins for which the group has no committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StartFrom {
    /// At the earliest message that the broker still has. The default: nothing is skipped.
    #[default]
    Earliest,
    /// At the end: only what is produced from now on.
    Latest,
    /// At the first message with this timestamp (milliseconds since 1970-01-01 UTC) or a later one;
    /// at the end if there is none.
    Timestamp(i64),
}

/// What happens when the offset to read from is not in the log: older than what retention left, or
/// beyond the end because the topic was recreated or truncated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OutOfRange {
    /// Stop with an error that names the partition, the offset and the log's range. The default:
    /// messages were lost, and a person should know before processing goes on.
    #[default]
    Fail,
    /// Warn and go on at the earliest message that the broker still has.
    Earliest,
    /// Warn and go on at the end.
    Latest,
}

/// Where one partition begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: Offset,
    pub(crate) committed: Option<Offset>,
    /// The end of the log at this moment.
    pub(crate) end: Offset,
}

/// Finds the starting offsets of newly assigned partitions, all at once. Asks for the committed ones
/// until there is an answer; drop the future to give up.
///
/// # Errors
/// Retryable where one of the partitions has no leader, or its leader no answer: then each is to be
/// asked for [by itself](starting_offset).
pub(crate) async fn starting_offsets(
    consumer: &dyn Consumer,
    partitions: &[TopicPartition],
    start_from: StartFrom,
) -> Result<Vec<Start>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let committed =
        retried("committed offsets", || consumer.committed(partitions.to_vec())).await?;
    let spec = match start_from {
        StartFrom::Earliest => OffsetSpec::Earliest,
        StartFrom::Latest => OffsetSpec::End,
        StartFrom::Timestamp(milliseconds) => OffsetSpec::Timestamp(milliseconds),
    };
    // Two requests: the client takes each partition once a request.
    let ends = consumer.list_offsets(all_of(partitions, OffsetSpec::End)).await?;
    let new: Vec<_> = partitions.iter().zip(&committed).filter(|(_, c)| c.is_none()).collect();
    let new = new.into_iter().map(|(partition, _)| (partition.clone(), spec)).collect::<Vec<_>>();
    let new = match new.is_empty() {
        true => Vec::new(),
        false => consumer.list_offsets(new).await?,
    };
    let mut new = new.into_iter();
    let starts = partitions.iter().zip(committed).zip(ends).map(|((partition, committed), end)| {
        let offset = committed.or_else(|| new.next()).unwrap_or(end);
        Start { partition: partition.clone(), offset, committed, end }
    });
    Ok(starts.collect())
}

/// Finds the starting offset of one partition. Asks again while the brokers can't answer; drop the
/// future to give up.
pub(crate) async fn starting_offset(
    consumer: &dyn Consumer,
    partition: &TopicPartition,
    start_from: StartFrom,
) -> Result<Start> {
    let partition = std::slice::from_ref(partition);
    let ask = || starting_offsets(consumer, partition, start_from);
    first(retried("starting offset", ask).await?)
}

/// Where to go on after the offset of a partition turned out not to be in the log.
///
/// # Errors
/// The policy is [`OutOfRange::Fail`], or the brokers don't answer.
pub(crate) async fn after_out_of_range(
    consumer: &dyn Consumer,
    partition: &TopicPartition,
    offset: Offset,
    policy: OutOfRange,
    cause: Error,
) -> Result<Offset> {
    let ask = |spec| {
        let query = vec![(partition.clone(), spec)];
        retried("log range", move || consumer.list_offsets(query.clone()))
    };
    let earliest = first(ask(OffsetSpec::Earliest).await?)?;
    let end = first(ask(OffsetSpec::End).await?)?;
    let chosen = match policy {
        OutOfRange::Fail => {
            let message = "the offset to read from is not in the log: messages were deleted before \
                they were processed, or the topic was recreated; choose where to go on with \
                `out_of_range`, or reset the group's offsets";
            return Err(Error::new(ErrorKind::OffsetOutOfRange, message)
                .with("topic", &partition.topic)
                .with("partition", partition.partition)
                .with("offset", offset)
                .with("log", format!("{earliest}..{end}"))
                .with_source(cause));
        }
        OutOfRange::Earliest => earliest,
        OutOfRange::Latest => end,
    };
    warn!(
        topic = %partition.topic, partition = partition.partition, %offset,
        %earliest, %end, going_on_at = %chosen,
        "the offset to read from is not in the log: messages were skipped or will be processed again"
    );
    Ok(chosen)
}

/// The answer to the only question.
fn first<T>(answers: Vec<T>) -> Result<T> {
    let missing =
        || Error::new(ErrorKind::Internal, "the Kafka client answered without the offset");
    answers.into_iter().next().ok_or_else(missing)
}

fn all_of(partitions: &[TopicPartition], spec: OffsetSpec) -> Vec<(TopicPartition, OffsetSpec)> {
    partitions.iter().map(|partition| (partition.clone(), spec)).collect()
}

/// Asks until there is an answer or an error that a retry won't mend.
async fn retried<T, F: Future<Output = Result<T>>>(what: &str, ask: impl Fn() -> F) -> Result<T> {
    let mut pause = Duration::from_millis(100);
    loop {
        match ask().await {
            Err(error) if error.is_retryable() => {
                warn!(%error, "could not get the {what}; the next attempt is in {pause:?}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            result => return result,
        }
    }
}
