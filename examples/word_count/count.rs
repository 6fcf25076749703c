//! The job itself: a processor that counts words, right also when a batch comes again.

use std::collections::HashMap;

use kasper::store::{MapStore, Store};
use kasper::{Batch, BoxError, Context, Offset, Processor};

use crate::text;

/// Counts the words of one partition. Each count in the store carries the offset of the last line
/// that it includes: when a batch comes again, its lines are not counted twice.
pub(crate) struct WordCount {
    store: MapStore,
}

impl WordCount {
    pub(crate) fn new(store: MapStore) -> Self {
        Self { store }
    }
}

impl Processor for WordCount {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let mut found: HashMap<String, Vec<Offset>> = HashMap::new();
        for line in batch.iter() {
            for word in text::words(line.value().unwrap_or_default()) {
                let key = format!("{}/{word}", batch.partition());
                found.entry(key).or_default().push(line.offset());
            }
        }
        let keys: Vec<&str> = found.keys().map(String::as_str).collect();
        let stored = self.store.get_many(&keys).await?;
        let mut changes = Vec::with_capacity(keys.len());
        for (key, stored) in keys.into_iter().zip(stored) {
            let mut count = stored.as_deref().map_or(Ok(Count::NONE), Count::parse)?;
            let new = found[key].iter().filter(|offset| offset.get() > count.offset).count();
            count.count += new as u64;
            count.offset = found[key].iter().map(|o| o.get()).fold(count.offset, i64::max);
            changes.push((key, Some(count.to_string().into())));
        }
        self.store.write_many(&changes).await?;
        Ok(())
    }
}

/// A count and the offset of the last line that it includes; in the store as `count@offset`.
struct Count {
    count: u64,
    offset: i64,
}

impl Count {
    const NONE: Self = Self { count: 0, offset: -1 };

    fn parse(stored: &[u8]) -> Result<Self, BoxError> {
        let text = std::str::from_utf8(stored)?;
        let (count, offset) = text.split_once('@').ok_or("no `@` in a stored count")?;
        Ok(Self { count: count.parse()?, offset: offset.parse()? })
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.count, self.offset)
    }
}

/// The counts of all partitions, summed.
pub(crate) fn totals(store: &MapStore) -> Result<HashMap<String, u64>, BoxError> {
    let mut totals = HashMap::new();
    for (key, stored) in store.snapshot() {
        let word = key.split_once('/').map_or(key.as_str(), |(_, word)| word);
        *totals.entry(word.to_owned()).or_default() += Count::parse(&stored)?.count;
    }
    Ok(totals)
}
