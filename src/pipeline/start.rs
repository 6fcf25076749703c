//! Where a partition begins: its committed offset or, where there is none, what the user chose.
//!
//! Place in the data path: before it, once per assignment. Offsets are found here and assigned
//! explicitly, because the client's own `auto.offset.reset` cannot tell "nothing committed" from "the
//! committed offset is no longer there": the second is a loss of data and must not pass silently.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::broker::{Consumer, OffsetSpec};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, TopicPartition};
use crate::settings::{OutOfRange, StartFrom};

/// Where one partition begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: Offset,
    pub(crate) committed: Option<Offset>,
    /// The end of the log at this moment.
    pub(crate) end: Offset,
}

/// A partition of which the log is still to be asked where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) partition: TopicPartition,
    pub(crate) committed: Option<Offset>,
    /// Where it begins if nothing is committed.
    from: OffsetSpec,
}

/// Finds what is committed for newly assigned partitions. Asks until there is an answer; drop the
/// future to give up.
///
/// # Errors
/// The group's coordinator refuses, for [longer than it is doubted](Doubt).
pub(crate) async fn candidates(
    consumer: &dyn Consumer,
    partitions: &[TopicPartition],
    start_from: StartFrom,
) -> Result<Vec<Candidate>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let committed =
        retried("committed offsets", || consumer.committed(partitions.to_vec())).await?;
    let from = match start_from {
        StartFrom::Earliest => OffsetSpec::Earliest,
        StartFrom::Latest => OffsetSpec::End,
        StartFrom::Timestamp(milliseconds) => OffsetSpec::Timestamp(milliseconds),
    };
    let candidates = partitions.iter().zip(committed).map(|(partition, committed)| Candidate {
        partition: partition.clone(),
        committed,
        from,
    });
    let mut candidates: Vec<_> = candidates.collect();
    if start_from == StartFrom::Latest {
        begin_added_at_their_beginning(consumer, &mut candidates).await?;
    }
    Ok(candidates)
}

/// A partition that was added to its topic while the group reads it begins at its beginning: what was
/// produced there before the group noticed would be skipped at its end.
async fn begin_added_at_their_beginning(
    consumer: &dyn Consumer,
    candidates: &mut [Candidate],
) -> Result<()> {
    let new: Vec<_> = candidates.iter_mut().filter(|c| c.committed.is_none()).collect();
    if new.is_empty() {
        return Ok(());
    }
    let partitions: Vec<_> = new.iter().map(|candidate| candidate.partition.clone()).collect();
    let ask = || consumer.added(partitions.clone());
    let added = retried("committed offsets of the topics' other partitions", ask).await?;
    for (candidate, added) in new.into_iter().zip(added) {
        if added {
            let partition = &candidate.partition;
            info!(%partition, "was added while the group read its topic: begins at its beginning");
            candidate.from = OffsetSpec::Earliest;
        }
    }
    Ok(())
}

/// Asks once, with one call for all, where these partitions begin: an answer for each, in their order.
///
/// # Errors
/// Of a single partition: see [`Consumer::list_offsets`].
pub(crate) async fn starts(
    consumer: &dyn Consumer,
    candidates: &[Candidate],
    patience: Duration,
) -> Vec<Result<Start>> {
    let ends = candidates.iter().map(|candidate| (candidate.partition.clone(), OffsetSpec::End));
    let new = candidates.iter().filter(|candidate| candidate.is_asked_for_its_start());
    let new = new.map(|candidate| (candidate.partition.clone(), candidate.from));
    let queries: Vec<_> = ends.chain(new).collect();
    if queries.is_empty() {
        return Vec::new();
    }
    let mut answers = consumer.list_offsets(queries, patience).await;
    let mut new = answers.split_off(candidates.len().min(answers.len())).into_iter();
    let starts = candidates.iter().zip(answers).map(|(candidate, end)| {
        let own = if candidate.is_asked_for_its_start() { new.next() } else { None };
        let end = end?;
        let offset = match (candidate.committed, own) {
            (Some(committed), _) => committed,
            (None, Some(own)) => own?,
            (None, None) => end,
        };
        let (partition, committed) = (candidate.partition.clone(), candidate.committed);
        Ok(Start { partition, offset, committed, end })
    });
    starts.collect()
}

impl Candidate {
    fn is_asked_for_its_start(&self) -> bool {
        self.committed.is_none() && self.from != OffsetSpec::End
    }
}

/// Where to go on after a broker said that an offset of this partition is not in the log; `None`: at
/// `position`, where the messages go on that are finished.
///
/// The answer may be out of date. It was given for an offset that was read from before the last seek,
/// or by a broker that no longer leads the partition. So the log is asked, and nothing is skipped and
/// nothing comes again where it has the position.
///
/// # Errors
/// The policy is [`OutOfRange::Fail`], or the brokers refuse to answer.
pub(crate) async fn after_out_of_range(
    consumer: &dyn Consumer,
    partition: &TopicPartition,
    position: Offset,
    policy: OutOfRange,
    cause: Error,
) -> Result<Option<Offset>> {
    let specs = [OffsetSpec::Earliest, OffsetSpec::End];
    let ask = || async move {
        let queries = specs.map(|spec| (partition.clone(), spec)).to_vec();
        let answers = consumer.list_offsets(queries, PATIENCE).await;
        answers.into_iter().collect::<Result<Vec<_>>>()
    };
    let range = retried("log range", ask).await?;
    let [earliest, end] = range[..] else {
        return Err(Error::new(ErrorKind::Internal, "no answer for the offsets asked for"));
    };
    if (earliest..=end).contains(&position) {
        warn!(
            topic = %partition.topic, partition = partition.number, %position,
            %earliest, %end, error = %cause,
            "an offset was said not to be in the log, but the next one to process is: going on there"
        );
        // The broker that said so may still be asked: not in a tight loop.
        tokio::time::sleep(DISAGREEMENT).await;
        return Ok(None);
    }
    let chosen = match policy {
        OutOfRange::Fail => {
            let message = "the offset to read from is not in the log: messages were deleted before \
                they were processed, or the topic was recreated; choose where to go on with \
                `out_of_range`, or reset the group's offsets";
            return Err(Error::new(ErrorKind::OffsetOutOfRange, message)
                .with("topic", &partition.topic)
                .with("partition", partition.number)
                .with("offset", position)
                .with("log", format!("{earliest}..{end}"))
                .with_source(cause));
        }
        OutOfRange::Earliest => earliest,
        OutOfRange::Latest => end,
    };
    warn!(
        topic = %partition.topic, partition = partition.number, offset = %position,
        %earliest, %end, going_on_at = %chosen,
        "the offset to read from is not in the log: messages were skipped or will be processed again"
    );
    Ok(Some(chosen))
}

/// How long to wait where brokers say different things about a log.
const DISAGREEMENT: Duration = Duration::from_millis(500);

/// How long a leader that is asked for offsets has to answer at least.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// An error that may be [out of date](Error::doubted_for), and since when it is the answer.
#[derive(Debug, Default)]
pub(crate) struct Doubt(Option<Instant>);

impl Doubt {
    /// Whether to ask again after this error.
    pub(crate) fn asks_again(&mut self, error: &Error) -> bool {
        if error.is_retryable() {
            self.0 = None;
            return true;
        }
        let limit = error.doubted_for();
        let since = *self.0.get_or_insert_with(Instant::now);
        since.elapsed() < limit
    }
}

/// An error that is believed now. What brokers say of a topic that they do not know says little to
/// somebody who has seen it exist.
pub(crate) fn believed(error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::UnknownTopic | ErrorKind::UnknownPartition) {
        return error;
    }
    let message = format!(
        "the topic, or this partition of it, does not exist, or does not exist any more: that has \
         been the brokers' answer for {:?}",
        error.doubted_for()
    );
    let mut outer = Error::new(error.kind(), message);
    for name in ["topic", "partition"] {
        if let Some(value) = error.get(name) {
            outer = outer.with(name, value);
        }
    }
    outer.with_source(error)
}

/// Asks until there is an answer, or an error that is believed.
async fn retried<T, F: Future<Output = Result<T>>>(what: &str, ask: impl Fn() -> F) -> Result<T> {
    let mut pause = Duration::from_millis(100);
    let mut doubt = Doubt::default();
    loop {
        match ask().await {
            Err(error) if doubt.asks_again(&error) => {
                warn!(?error, "could not get the {what}; the next attempt is in {pause:?}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            result => return result.map_err(believed),
        }
    }
}
