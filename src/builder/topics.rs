//! What `build` asks the cluster: do the input topics exist, and how many partitions have they?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::check::Plan;
use super::options::Options;
use super::properties;
use crate::broker::kafka::{self, TopicMetadata};
use crate::error::{Error, ErrorKind, Result};
use crate::logging::list;
use crate::message::TopicPartition;
use crate::settings::addable;

/// How long to wait before looking again for a topic that doesn't exist yet.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The partition counts of the input topics, in their order, and those of the dead letter topics.
///
/// # Errors
/// No broker answers, a topic is missing, or counts differ in a group.
pub(super) async fn look_up(
    options: &Options,
    plan: &Plan,
) -> Result<(Vec<TopicMetadata>, BTreeMap<Arc<str>, i32>)> {
    let letters: BTreeSet<String> =
        options.on_error.topics().map(|topic| topic.to_string()).collect();
    let names: Vec<String> = options.topics.iter().cloned().chain(letters).collect();
    let (properties, _) = properties::clients(options, plan, 1, options.topics.len());
    let client = kafka::MetadataClient::new(&properties, options.token_provider.clone())?;
    let started = Instant::now();
    loop {
        let mut metadata = client.topics(&names, addable(options.connect_timeout)).await?;
        let missing = missing(&metadata);
        if missing.is_empty() {
            let letters = metadata.split_off(options.topics.len());
            check_alignment(options, &metadata)?;
            let counts = letters.into_iter().map(|topic| {
                let count = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
                (topic.topic.into(), count)
            });
            return Ok((metadata, counts.collect()));
        }
        let waited = started.elapsed();
        if waited >= options.wait_for_topics {
            return Err(unknown_topics(&missing, options));
        }
        info!(topics = %list(&missing), ?waited, "waiting for topics that don't exist yet");
        tokio::time::sleep(LOOK_AGAIN.min(options.wait_for_topics - waited)).await;
    }
}

fn missing(metadata: &[TopicMetadata]) -> Vec<String> {
    let missing = metadata.iter().filter(|topic| topic.partitions == 0);
    missing.map(|topic| topic.topic.clone()).collect()
}

fn unknown_topics(missing: &[String], options: &Options) -> Error {
    let message = if options.wait_for_topics.is_zero() {
        "the cluster does not have this topic; create it, or set `wait_for_topics` to wait until it exists"
            .into()
    } else {
        format!(
            "the cluster still does not have this topic after {:?} (`wait_for_topics`)",
            options.wait_for_topics
        )
    };
    Error::new(ErrorKind::UnknownTopic, message)
        .with("topic", missing.join(", "))
        .with("brokers", &options.brokers)
}

fn check_alignment(options: &Options, metadata: &[TopicMetadata]) -> Result<()> {
    let counts: BTreeSet<usize> = metadata.iter().map(|topic| topic.partitions).collect();
    let other_assignor = options
        .property("partition.assignment.strategy")
        .map(|assignor| assignor.trim_matches([' ', ',']));
    let other_assignor = other_assignor.filter(|assignor| *assignor != "range");
    let may_be_joined = metadata.len() > 1 && !options.allow_unaligned_topics;
    if let Some(assignor) = other_assignor.filter(|_| may_be_joined) {
        warn!(
            assignor,
            "only the `range` assignor gives the same partition numbers of several topics to the \
             same member: without `allow_unaligned_topics`, the processor stops where it gets a part"
        );
    }
    if counts.len() < 2 || options.partitions.is_some() || options.allow_unaligned_topics {
        return Ok(());
    }
    let counts: Vec<_> =
        metadata.iter().map(|topic| format!("{}: {}", topic.topic, topic.partitions)).collect();
    Err(Error::new(
        ErrorKind::Config,
        "the input topics have different partition counts, so the group may assign the same \
         partition number of two topics to different members; give them the same count, set \
         `partitions`, or call `allow_unaligned_topics` if the topics are not joined",
    )
    .with("partitions", counts.join(", ")))
}

/// The topic-partitions of a static assignment: each number, of each topic that has it.
///
/// # Errors
/// No topic has one of the numbers.
pub(super) fn static_assignment(
    options: &Options,
    metadata: &[TopicMetadata],
) -> Result<Option<Vec<TopicPartition>>> {
    let Some(numbers) = &options.partitions else { return Ok(None) };
    let has = |topic: &TopicMetadata, number: i32| {
        usize::try_from(number).is_ok_and(|number| number < topic.partitions)
    };
    let unknown: Vec<String> = numbers
        .iter()
        .filter(|number| !metadata.iter().any(|topic| has(topic, **number)))
        .map(ToString::to_string)
        .collect();
    if !unknown.is_empty() {
        let counts: Vec<_> =
            metadata.iter().map(|topic| format!("{}: {}", topic.topic, topic.partitions)).collect();
        let message = "no input topic has a partition of this number";
        return Err(Error::new(ErrorKind::UnknownPartition, message)
            .with("partition", unknown.join(", "))
            .with("partitions", counts.join(", ")));
    }
    let pairs = numbers.iter().flat_map(|number| {
        let topics = metadata.iter().filter(|topic| has(topic, *number));
        topics.map(|topic| TopicPartition::new(topic.topic.as_str(), *number))
    });
    Ok(Some(pairs.collect()))
}

/// How many partition numbers this process may get.
pub(super) fn partition_numbers(
    metadata: &[TopicMetadata],
    assignment: Option<&[TopicPartition]>,
) -> usize {
    match assignment {
        Some(pairs) => pairs.iter().map(|pair| pair.number).collect::<BTreeSet<_>>().len(),
        None => metadata.iter().map(|topic| topic.partitions).max().unwrap_or(1),
    }
}
