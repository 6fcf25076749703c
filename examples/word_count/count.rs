//! The job itself: a processor that counts words, right also when a batch comes again.

use std::collections::HashMap;

use kasper::codec::Json;
use kasper::store::{AnyStore, TypedStore};
use kasper::{Batch, BoxError, Context, Offset, Processor};

use crate::common::count::Count;
use crate::text;

/// The counts of words; the keys are `RUN/PARTITION/WORD`.
pub(crate) type Counts = TypedStore<AnyStore, Json, Count>;

/// Counts the words of one partition.
pub(crate) struct WordCount {
    run: String,
    counts: Counts,
}

impl WordCount {
    pub(crate) fn new(run: &str, counts: &Counts) -> Self {
        Self { run: run.to_owned(), counts: counts.clone() }
    }
}

impl Processor for WordCount {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let mut found: HashMap<String, Vec<Offset>> = HashMap::new();
        for line in batch.iter() {
            for word in text::words(&text::lower_case(line.value().unwrap_or_default())) {
                found.entry(word.to_owned()).or_default().push(line.offset());
            }
        }
        let key = |word: &String| key(&self.run, batch.partition(), word);
        let mut counts = self.counts.load_keys(found.keys().map(key)).await?;
        for (word, offsets) in &found {
            counts.entry(&key(word)).get_or_insert_default().add(offsets);
        }
        Ok(counts.save().await?)
    }
}

/// The key of a word in one partition.
fn key(run: &str, partition: i32, word: &str) -> String {
    format!("{run}/{partition}/{word}")
}

/// How often each of these words was counted, in all partitions. A store has no list of its keys, so
/// the words must be known.
pub(crate) async fn totals(
    counts: &Counts,
    run: &str,
    partitions: i32,
    words: impl Iterator<Item = &String> + Clone,
) -> Result<HashMap<String, u64>, BoxError> {
    let mut totals = HashMap::new();
    for partition in 0..partitions {
        let keys: Vec<String> = words.clone().map(|word| key(run, partition, word)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        for (word, count) in words.clone().zip(counts.get_many(&keys).await?) {
            *totals.entry(word.clone()).or_default() += count.unwrap_or_default().count;
        }
    }
    Ok(totals)
}
