//! The whole job: count the messages of a topic by their keys, with the counts in a store. Once with the
//! library, once as a loop by hand.
#![allow(unsafe_code, reason = "the raw loop reads librdkafka's messages as they are")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kasper::store::{AnyStore, Store as _};
use kasper::{Batch, Bytes, Context, Processor, TopicProcessor};
use rdkafka::bindings as rd;

use crate::case::{Case, SEVERAL, Who, Work};
use crate::common::BoxError;
use crate::common::job::{self, First};
use crate::common::measure::{Mark, Sample};
use crate::common::raw::{Ahead, Consumer};
use crate::place::Place;
use crate::raw::Raw;

/// How many keys the messages have, over all partitions.
const KEYS: u64 = 5_000;

/// The most messages that the raw loop takes for one round trip: as many as a batch of the library's has.
const BATCH: usize = 10_000;

const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// What the parent says to do.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) case: Case,
    pub(crate) brokers: String,
    pub(crate) input: String,
    pub(crate) place: Place,
    pub(crate) messages: u64,
}

/// A key of a topic with so many partitions; each partition has keys of its own.
pub(crate) fn key(partitions: usize, partition: i32, random: u64) -> String {
    format!("count-{partition}-{:04}", random % (KEYS / partitions as u64))
}

/// Every key that there may be.
pub(crate) fn keys() -> Vec<String> {
    // With one partition, all keys are of that one.
    let all_of_first = (0..KEYS).map(|number| key(1, 0, number));
    let others = (1..).take(SEVERAL - 1);
    let each = KEYS / SEVERAL as u64;
    let of_others = others.flat_map(|partition| (0..each).map(move |n| key(SEVERAL, partition, n)));
    all_of_first.chain(of_others).collect()
}

/// Counts, and checks that all was counted.
pub(crate) async fn run(task: Task) -> Result<Sample, BoxError> {
    let Work::Count { partitions } = task.case.work else {
        return Err("not a job".into());
    };
    let store = task.place.store().await?;
    let before = total(&store).await?;
    let messages = task.messages;
    let sample = match task.case.who {
        Who::Ours => ours(task, store.clone(), partitions).await?,
        // The database in a directory is opened once: the store must be closed for the raw loop.
        Who::Raw => {
            drop(store);
            let place = task.place.clone();
            let sample = raw(task, partitions).await?;
            let after = total(&place.store().await?).await?;
            return checked(sample, after - before, messages);
        }
    };
    let after = total(&store).await?;
    checked(sample, after - before, messages)
}

fn checked(sample: Sample, counted: u64, messages: u64) -> Result<Sample, BoxError> {
    if counted == messages {
        return Ok(sample);
    }
    Err(format!("{counted} messages were counted instead of {messages}").into())
}

async fn total(store: &AnyStore) -> Result<u64, BoxError> {
    let keys = keys();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut total = 0;
    for stored in store.get_many(&keys).await? {
        total += count(stored.as_deref())?;
    }
    Ok(total)
}

/// A count as it is stored: a JSON document, since some servers take nothing else.
fn count(stored: Option<&[u8]>) -> Result<u64, BoxError> {
    let Some(stored) = stored else { return Ok(0) };
    let digits = std::str::from_utf8(stored)?.strip_prefix("{\"count\":");
    Ok(digits.and_then(|rest| rest.strip_suffix('}')).ok_or("not a count")?.parse()?)
}

fn document(count: u64) -> Bytes {
    format!("{{\"count\":{count}}}").into()
}

async fn ours(task: Task, store: AnyStore, partitions: usize) -> Result<Sample, BoxError> {
    let name = format!("{}-{}", task.input, std::process::id());
    let first = First::default();
    let of_processors = first.clone();
    let processor = TopicProcessor::builder(name, [&task.input])
        .brokers(&task.brokers)
        .partitions(0..i32::try_from(partitions)?)
        .build(move |_| Counter { store: store.clone(), first: of_processors.clone() })
        .await?;
    job::run_to_end(processor, task.messages, &first).await
}

struct Counter {
    store: AnyStore,
    first: First,
}

impl Processor for Counter {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        self.first.get_or_init(Mark::now);
        let mut found: HashMap<&str, u64> = HashMap::new();
        for message in batch.iter() {
            *found.entry(std::str::from_utf8(message.key().unwrap_or_default())?).or_default() += 1;
        }
        let keys: Vec<&str> = found.keys().copied().collect();
        let stored = self.store.get_many(&keys).await?;
        let mut changes = Vec::with_capacity(keys.len());
        for (key, stored) in keys.into_iter().zip(stored) {
            changes.push((key, Some(document(count(stored.as_deref())? + found[key]))));
        }
        self.store.write_many(&changes).await?;
        Ok(())
    }
}

/// The loop as it is usually written: take what is there, read, add, write, and commit once a second.
async fn raw(task: Task, partitions: usize) -> Result<Sample, BoxError> {
    let raw = Raw::connect(&task.place).await?;
    let consumer = Consumer::new(&task.brokers, &task.input, partitions, Ahead::default());
    let mut taken = Taken(Vec::with_capacity(BATCH));
    let mut next = vec![-1; partitions];
    let mut last_commit = Instant::now();
    let assigned = Mark::now();
    consumer.assign();
    let mut first = None;
    let mut received = 0;
    while received < task.messages {
        // Never more than are to come, so that the last call does not wait for its time-out.
        let rest = usize::try_from(task.messages - received).unwrap_or(usize::MAX);
        consumer.take(rest.min(BATCH), 20, &mut taken.0);
        if taken.0.is_empty() {
            continue;
        }
        first.get_or_insert_with(Mark::now);
        received += taken.0.len() as u64;
        add(&raw, &task.place, &taken).await?;
        taken.finish(&mut next);
        if last_commit.elapsed() >= COMMIT_INTERVAL {
            consumer.commit(&next, false);
            last_commit = Instant::now();
        }
    }
    let sample = Sample::until_now(received, assigned, first);
    consumer.commit(&next, true);
    Ok(sample)
}

async fn add(raw: &Raw, place: &Place, taken: &Taken) -> Result<(), BoxError> {
    let mut found: HashMap<&[u8], u64> = HashMap::new();
    for key in taken.keys() {
        *found.entry(key).or_default() += 1;
    }
    let mut keys = Vec::with_capacity(found.len());
    for key in found.keys() {
        keys.push(Raw::full_key(place, std::str::from_utf8(key)?));
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let stored = raw.get_many(&keys).await?;
    let mut changes = Vec::with_capacity(keys.len());
    // The map is unchanged: its order is that of the keys.
    for ((key, new), stored) in keys.into_iter().zip(found.values()).zip(stored) {
        changes.push((key, document(count(stored.as_deref())? + new)));
    }
    raw.write_many(&changes).await
}

/// Messages that the loop has taken.
struct Taken(Vec<*mut rd::rd_kafka_message_t>);

impl Taken {
    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|message| {
            // SAFETY: the message lives until it is taken out of the vector, and the key, which it has,
            // as long.
            unsafe { std::slice::from_raw_parts((**message).key.cast(), (**message).key_len) }
        })
    }

    /// Lets go of them, and notes the offsets behind them.
    fn finish(&mut self, next: &mut [i64]) {
        for message in self.0.drain(..) {
            // SAFETY: valid, ours, destroyed once.
            unsafe {
                let partition = usize::try_from((*message).partition).unwrap_or(0);
                next[partition] = (*message).offset + 1;
                rd::rd_kafka_message_destroy(message);
            }
        }
    }
}
