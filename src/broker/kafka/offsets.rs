//! Questions to the brokers about offsets. They block, so each is asked on a thread for such.
//!
//! Place in the data path: before it. The answers say where a partition begins.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::errors;
use super::ffi::{Client, Code, Known, PartitionList};
use super::queue::no_handle;
use crate::broker::OffsetSpec;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, TopicPartition};

/// How long the brokers have for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long they have for an answer about several partitions. librdkafka waits for all leaders.
const TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(3);

/// librdkafka's numbers for the ends of the log, where a timestamp is asked for.
const END: i64 = -1;
const EARLIEST: i64 = -2;

/// Runs a blocking call. Dropping the future leaves the call to itself.
pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(call).await.unwrap_or_else(|error| {
        let message = "a call of the Kafka client panicked or was cancelled";
        Err(Error::new(ErrorKind::Internal, message).with_source(error))
    })
}

/// Questions that are asked at the same time. Each holds a thread, also where nobody waits for the
/// answer any more, and tokio has not many: the coordinator's own calls must get one.
#[derive(Clone)]
pub(super) struct Questions(Arc<Semaphore>);

impl Default for Questions {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(16)))
    }
}

impl Questions {
    /// As [`blocking`], when it is this one's turn.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send + 'static {
        let turns = Arc::clone(&self.0);
        async move {
            // Never an error: nobody closes it.
            let turn = turns.acquire_owned().await.ok();
            blocking(move || {
                let answer = call();
                drop(turn);
                answer
            })
            .await
        }
    }
}

/// The committed next offsets, in the order asked for.
pub(super) fn committed(
    client: &Client,
    partitions: &[TopicPartition],
) -> Result<Vec<Option<Offset>>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = PartitionList::new(client).ok_or_else(|| no_handle("partition list"))?;
    for partition in partitions {
        list.add(&partition.topic, partition.partition, 0);
    }
    let result = client.committed(&mut list, TIMEOUT);
    result.map_err(|code| errors::plain(code).with("operation", "committed"))?;
    let answers = answers(&list, "committed")?;
    let offsets = partitions.iter().map(|partition| find(&answers, partition));
    // A negative number stands for "nothing committed".
    Ok(offsets.map(|offset| offset.filter(|offset| *offset >= 0).map(Offset::new)).collect())
}

/// Offsets of the log, in the order asked for. One request to each leader, unless a partition is
/// asked about twice, or a time is after its last message.
pub(super) fn list(
    client: &Client,
    queries: &[(TopicPartition, OffsetSpec)],
) -> Result<Vec<Offset>> {
    let timeout = if queries.len() > 1 { TIMEOUT_OF_SEVERAL } else { TIMEOUT };
    let mut offsets: Vec<Option<Offset>> = vec![None; queries.len()];
    let mut numbers: Vec<i64> = queries.iter().map(|(_, spec)| number(*spec)).collect();
    while offsets.iter().any(Option::is_none) {
        let round = next_round(queries, &offsets);
        let mut list = PartitionList::new(client).ok_or_else(|| no_handle("partition list"))?;
        for index in &round {
            let partition = &queries[*index].0;
            list.add(&partition.topic, partition.partition, numbers[*index]);
        }
        let result = client.offsets_for_times(&mut list, timeout);
        result.map_err(|code| unlisted(code, &queries[round[0]].0))?;
        let answers = answers(&list, "list_offsets")?;
        for index in round {
            let partition = &queries[index].0;
            match find(&answers, partition) {
                Some(offset) if offset >= 0 => offsets[index] = Some(Offset::new(offset)),
                // No message at or after this time: ask for the end next.
                _ if numbers[index] >= 0 => numbers[index] = END,
                _ => return Err(no_answer(partition)),
            }
        }
    }
    Ok(offsets.into_iter().flatten().collect())
}

fn number(spec: OffsetSpec) -> i64 {
    match spec {
        OffsetSpec::Earliest => EARLIEST,
        OffsetSpec::End => END,
        // Negative times would be taken for the ends of the log; no message is that old.
        OffsetSpec::Timestamp(time) => time.max(0),
    }
}

/// The unanswered queries, each partition once: answers are told apart by partition.
fn next_round(queries: &[(TopicPartition, OffsetSpec)], offsets: &[Option<Offset>]) -> Vec<usize> {
    let mut seen: HashMap<(&str, i32), ()> = HashMap::new();
    let open = (0..queries.len()).filter(|index| offsets[*index].is_none());
    open.filter(|index| {
        let partition = &queries[*index].0;
        seen.insert((&partition.topic, partition.partition), ()).is_none()
    })
    .collect()
}

type Answers = HashMap<(String, i32), i64>;

fn answers(list: &PartitionList<'_>, operation: &'static str) -> Result<Answers> {
    let mut answers = Answers::new();
    for entry in list.entries() {
        if let Some(code) = entry.error {
            return Err(failed(code, operation, &entry.topic, entry.partition));
        }
        answers.insert((entry.topic, entry.partition), entry.offset);
    }
    Ok(answers)
}

fn find(answers: &Answers, partition: &TopicPartition) -> Option<i64> {
    answers.get(&(partition.topic.to_string(), partition.partition)).copied()
}

fn failed(code: Code, operation: &'static str, topic: &str, partition: i32) -> Error {
    errors::plain(code)
        .with("operation", operation)
        .with("topic", topic)
        .with("partition", partition)
}

/// Why nothing was listed. What librdkafka calls an unknown partition is one that no broker leads, if
/// that is so for all that it was asked for; `build` has seen that they exist.
fn unlisted(code: Code, first: &TopicPartition) -> Error {
    let error = errors::plain(code).with("operation", "list_offsets");
    match code.is(Known::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION) {
        true => Error::new(ErrorKind::Unavailable, "the partition has no leader at the moment")
            .retryable()
            .with("operation", "list_offsets")
            .with("topic", &first.topic)
            .with("partition", first.partition),
        false => error,
    }
}

fn no_answer(partition: &TopicPartition) -> Error {
    Error::new(ErrorKind::Backend, "the broker answered without an offset")
        .retryable()
        .with("operation", "list_offsets")
        .with("topic", &partition.topic)
        .with("partition", partition.partition)
}
