//! The whole job: count the messages of a topic by their keys, with the counts in a store. Once with the
//! library, once as a loop by hand.
#![allow(unsafe_code, reason = "the raw loop reads librdkafka's messages as they are")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kasper::store::{AnyStore, Store as _};
use kasper::{Batch, Bytes, Context, Processor, TopicProcessor};
use rdkafka::bindings as rd;

use super::BoxError;
use super::job::{self, Seen};
use super::measure::{Mark, Sample};
use super::raw::client::{Ahead, Consumer};

/// How many keys the messages have, over all partitions.
pub(crate) const KEYS: u64 = 5_000;

/// The most messages that the raw loop takes for one round trip: as many as a batch of the library's has.
const BATCH: usize = 10_000;

const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// A key of a topic with so many partitions; each partition has keys of its own.
pub(crate) fn key(partitions: usize, partition: i32, random: u64) -> String {
    format!("count-{partition}-{:04}", random % (KEYS / partitions as u64))
}

/// Every key of a topic with so many partitions.
pub(crate) fn keys(partitions: usize) -> impl Iterator<Item = String> {
    let each = KEYS / partitions as u64;
    let of_all = (0..).take(partitions);
    of_all.flat_map(move |partition| (0..each).map(move |n| key(partitions, partition, n)))
}

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) brokers: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) partitions: usize,
    pub(crate) messages: u64,
}

pub(crate) type Values = Vec<Option<Bytes>>;

/// A server's driver, used without a layer in between.
pub(crate) trait Driver {
    async fn get_many(&self, keys: &[&str]) -> Result<Values, BoxError>;

    async fn write_many(&self, changes: &[(&str, Bytes)]) -> Result<(), BoxError>;
}

/// How many messages were counted under these keys.
pub(crate) async fn total(store: &AnyStore, keys: &[String]) -> Result<u64, BoxError> {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut total = 0;
    for stored in store.get_many(&keys).await? {
        total += count(stored.as_deref())?;
    }
    Ok(total)
}

pub(crate) fn check(counted: u64, messages: u64) -> Result<(), BoxError> {
    if counted == messages {
        return Ok(());
    }
    Err(format!("{counted} messages were counted instead of {messages}").into())
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

/// With the library; in a group or with static partitions.
pub(crate) async fn ours(
    input: Input<'_>,
    store: AnyStore,
    group: bool,
) -> Result<Sample, BoxError> {
    let name = format!("{}-{}", input.topic, std::process::id());
    let seen = Seen::default();
    let of_processors = seen.clone();
    let mut builder = TopicProcessor::builder(name, [input.topic]).brokers(input.brokers);
    if !group {
        builder = builder.partitions(0..i32::try_from(input.partitions)?);
    }
    let processor = builder
        .build(move |_| Counter { store: store.clone(), seen: of_processors.clone() })
        .await?;
    job::run_to_end(processor, input.messages, &seen).await
}

struct Counter {
    store: AnyStore,
    seen: Seen,
}

impl Processor for Counter {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        self.seen.begin(batch);
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
/// `full_key` makes a key as the server has it.
pub(crate) async fn raw(
    input: Input<'_>,
    driver: &impl Driver,
    full_key: impl Fn(&str) -> String,
) -> Result<Sample, BoxError> {
    let consumer = Consumer::new(input.brokers, &[input.topic], input.partitions, Ahead::default());
    let mut taken = Taken(Vec::with_capacity(BATCH));
    let mut next = vec![-1; input.partitions];
    let mut last_commit = Instant::now();
    let assigned = Mark::now();
    consumer.assign();
    let mut first = None;
    let mut received = 0;
    while received < input.messages {
        // Never more than are to come, so that the last call does not wait for its time-out.
        let rest = usize::try_from(input.messages - received).unwrap_or(usize::MAX);
        consumer.take(rest.min(BATCH), 20, &mut taken.0);
        if taken.0.is_empty() {
            continue;
        }
        first.get_or_insert_with(Mark::now);
        received += taken.0.len() as u64;
        add(driver, &full_key, &taken).await?;
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

async fn add(
    driver: &impl Driver,
    full_key: &impl Fn(&str) -> String,
    taken: &Taken,
) -> Result<(), BoxError> {
    let mut found: HashMap<&[u8], u64> = HashMap::new();
    for key in taken.keys() {
        *found.entry(key).or_default() += 1;
    }
    let mut keys = Vec::with_capacity(found.len());
    for key in found.keys() {
        keys.push(full_key(std::str::from_utf8(key)?));
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let stored = driver.get_many(&keys).await?;
    let mut changes = Vec::with_capacity(keys.len());
    // The map is unchanged: its order is that of the keys.
    for ((key, new), stored) in keys.into_iter().zip(found.values()).zip(stored) {
        changes.push((key, document(count(stored.as_deref())? + new)));
    }
    driver.write_many(&changes).await
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
