//! Questions to the brokers about offsets. They block, so each is asked on a thread for such.
//!
//! Place in the data path: before it. The answers say where a partition begins.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::errors::{self, no_handle};
use super::ffi::{Client, Code, Counted, Known, ListEntry, PartitionList, TopicHandle};
use crate::broker::OffsetSpec;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, TopicPartition};

/// How long the group's coordinator has for an answer.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a broker has for metadata, which is asked for when an answer is missing.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// librdkafka's numbers for the ends of the log, where a timestamp is asked for.
const END: i64 = -1;
const EARLIEST: i64 = -2;

/// librdkafka's number where there is neither an offset nor an error.
const NO_ANSWER: i64 = -1001;

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

/// The committed next offsets, in the order asked for, from [their entries](committed_entries).
pub(super) fn committed(
    partitions: &[TopicPartition],
    entries: &[ListEntry],
) -> Vec<Option<Offset>> {
    let answers: HashMap<_, _> =
        entries.iter().map(|entry| ((&*entry.topic, entry.partition), entry.offset)).collect();
    let offsets = partitions.iter().map(|p| answers.get(&(&*p.topic, p.number)).copied());
    // A negative number stands for "nothing committed".
    offsets.map(|offset| offset.filter(|offset| *offset >= 0).map(Offset::new)).collect()
}

/// What is committed for these partitions. Blocks.
pub(super) fn committed_entries(
    client: &Client,
    partitions: &[TopicPartition],
) -> Result<Vec<ListEntry>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut list = PartitionList::new(client).ok_or_else(|| no_handle("partition list"))?;
    for partition in partitions {
        list.add(&partition.topic, partition.number, 0);
    }
    let result = client.committed(&mut list, COMMITTED_TIMEOUT);
    let failed =
        |code| errors::with_group(errors::plain(code).with("operation", "committed"), code, client);
    result.map_err(failed)?;
    let entries = list.entries();
    for entry in &entries {
        if let Some(code) = entry.error {
            let error = failed(code).with("topic", &entry.topic);
            return Err(error.with("partition", entry.partition));
        }
    }
    Ok(entries)
}

/// Why there is no offset.
#[derive(Debug, Clone, Copy)]
enum Missing {
    Code(Code),
    NoLeader,
    /// Neither an offset nor an error: the leader did not answer in time.
    NoAnswer,
}

impl Missing {
    fn error(self, partition: &TopicPartition) -> Error {
        let unavailable = |text| Error::new(ErrorKind::Unavailable, text).retryable();
        let error = match self {
            Self::Code(code) => errors::plain(code),
            Self::NoLeader => unavailable("no broker leads the partition"),
            Self::NoAnswer => unavailable("the partition's leader did not answer in time"),
        };
        error
            .with("operation", "list_offsets")
            .with("topic", &partition.topic)
            .with("partition", partition.number)
    }
}

/// Offsets of the log, an answer for each query, in the order asked for. One request to each leader,
/// unless a partition is asked about twice, or a time is after its last message.
pub(super) fn list(
    client: &Arc<Client>,
    queries: &[(TopicPartition, OffsetSpec)],
    read_committed: bool,
    patience: Duration,
) -> Vec<Result<Offset>> {
    let mut search = Search::new(client, queries);
    while let Some(round) = search.next_round() {
        search.ask(&round, read_committed, patience);
    }
    search.renew_metadata();
    search.into_answers()
}

struct Search<'q> {
    client: &'q Arc<Client>,
    queries: &'q [(TopicPartition, OffsetSpec)],
    /// What librdkafka is asked for each query.
    numbers: Vec<i64>,
    answers: Vec<Option<Result<Offset, Missing>>>,
}

impl<'q> Search<'q> {
    fn new(client: &'q Arc<Client>, queries: &'q [(TopicPartition, OffsetSpec)]) -> Self {
        let numbers = queries.iter().map(|(_, spec)| number(*spec)).collect();
        Self { client, queries, numbers, answers: vec![None; queries.len()] }
    }

    /// The unanswered queries, each partition once: answers are told apart by partition.
    fn next_round(&self) -> Option<Vec<usize>> {
        let mut seen = HashSet::new();
        let open = (0..self.queries.len()).filter(|index| self.answers[*index].is_none());
        let round: Vec<usize> = open.filter(|index| seen.insert(&self.queries[*index].0)).collect();
        (!round.is_empty()).then_some(round)
    }

    fn ask(&mut self, round: &[usize], read_committed: bool, patience: Duration) {
        let Some(mut list) = PartitionList::new(self.client) else {
            return self.fail(round, Known::RD_KAFKA_RESP_ERR__FAIL.into());
        };
        for index in round {
            let partition = &self.queries[*index].0;
            list.add(&partition.topic, partition.number, self.numbers[*index]);
        }
        match self.client.list_offsets(&list, read_committed, patience) {
            Ok(entries) => self.note(round, entries),
            Err(code) if code.is(Known::RD_KAFKA_RESP_ERR__NOENT) => self.explain(round),
            Err(code) => self.fail(round, code),
        }
    }

    fn note(&mut self, round: &[usize], entries: Vec<ListEntry>) {
        let entries =
            entries.into_iter().map(|entry| ((entry.topic.clone(), entry.partition), entry));
        let entries: HashMap<_, _> = entries.collect();
        for index in round {
            let partition = &self.queries[*index].0;
            let entry = entries.get(&(partition.topic.to_string(), partition.number));
            match entry.map_or((None, NO_ANSWER), |entry| (entry.error, entry.offset)) {
                (Some(code), _) => self.miss(*index, Missing::Code(code)),
                (None, offset) if offset >= 0 => {
                    self.answers[*index] = Some(Ok(Offset::new(offset)));
                }
                // No message at or after this time: the end is asked for in the next round.
                (None, END) if self.numbers[*index] >= 0 => self.numbers[*index] = END,
                _ => self.miss(*index, Missing::NoAnswer),
            }
        }
    }

    /// No broker leads any of the partitions, or they do not exist: librdkafka does not tell which.
    fn explain(&mut self, round: &[usize]) {
        let mut counts = HashMap::new();
        for index in round {
            let TopicPartition { topic, number } = &self.queries[*index].0;
            let count = counts.entry(topic).or_insert_with(|| partition_count(self.client, topic));
            let missing = match *count {
                Err(code) => Missing::Code(code),
                Ok(count) if usize::try_from(*number).is_ok_and(|number| number < count) => {
                    Missing::NoLeader
                }
                Ok(_) => Missing::Code(Known::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION.into()),
            };
            self.miss(*index, missing);
        }
    }

    fn fail(&mut self, round: &[usize], code: Code) {
        round.iter().for_each(|index| self.miss(*index, Missing::Code(code)));
    }

    /// Also for what else is asked of the partition: the next round would wait for the same leader.
    fn miss(&mut self, index: usize, missing: Missing) {
        let partition = &self.queries[index].0;
        for (query, answer) in self.queries.iter().zip(&mut self.answers) {
            if answer.is_none() && query.0 == *partition {
                *answer = Some(Err(missing));
            }
        }
    }

    /// librdkafka looks for leaders in what it knows of the cluster, and learns only from some errors
    /// that this is out of date. The next question must not go to the same broker for minutes.
    fn renew_metadata(&self) {
        let answers = self.queries.iter().zip(&self.answers);
        let missing = answers.filter(|(_, answer)| matches!(answer, Some(Err(_))));
        let topics: HashSet<_> = missing.map(|(query, _)| &query.0.topic).collect();
        for topic in topics {
            if partition_count(self.client, topic).is_err() {
                // No broker answers, or this one would be refused for every topic.
                return;
            }
        }
    }

    fn into_answers(self) -> Vec<Result<Offset>> {
        let answers = self.queries.iter().zip(self.answers);
        let answers = answers.map(|((partition, _), answer)| {
            let answer = answer.unwrap_or(Err(Missing::NoAnswer));
            answer.map_err(|missing| missing.error(partition))
        });
        answers.collect()
    }
}

/// The number of a topic's partitions, from the cluster.
pub(super) fn partition_count(client: &Arc<Client>, topic: &str) -> Result<usize, Code> {
    let topic = TopicHandle::new(client, topic)?;
    match client.partition_count(&topic, METADATA_TIMEOUT) {
        Counted::Partitions(count) => Ok(count),
        Counted::Refused(code) | Counted::NoAnswer(code) => Err(code),
    }
}

fn number(spec: OffsetSpec) -> i64 {
    match spec {
        OffsetSpec::Earliest => EARLIEST,
        OffsetSpec::End => END,
        // Negative times would be taken for the ends of the log; no message is that old.
        OffsetSpec::Timestamp(time) => time.max(0),
    }
}
