//! The job itself: events of many tenants are counted with one read and one write per batch.

use std::collections::BTreeMap;

use kasper::codec::Json;
use kasper::multitenant::AnyMultiStore;
use kasper::store::TypedStore;
use kasper::{Batch, BoxError, Context, Offset, Processor};
use serde::{Deserialize, Serialize};

use crate::common::count::Count;

/// What happened at a tenant: a message's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) tenant: String,
    pub(crate) kind: String,
}

/// The counts of all tenants; a tenant's keys are `RUN/PARTITION/KIND`.
pub(crate) type Counts = TypedStore<AnyMultiStore, Json, Count>;

/// Counts the events of one partition, per tenant and kind.
pub(crate) struct Tally {
    pub(crate) run: String,
    pub(crate) counts: Counts,
}

impl Processor for Tally {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let mut found: BTreeMap<Event, Vec<Offset>> = BTreeMap::new();
        for message in batch.iter() {
            let Some(event) = message.decode::<Event>(Json)? else { continue };
            found.entry(event).or_default().push(message.offset());
        }
        let keys = keys(&self.run, batch.partition(), found.keys());
        let mut counts = self.counts.load_keys(keys.clone()).await?;
        for (key, offsets) in keys.iter().zip(found.values()) {
            counts.entry(key).get_or_insert_default().add(offsets);
        }
        Ok(counts.save().await?)
    }
}

/// The tenants and keys of these events in one partition.
fn keys<'a>(
    run: &str,
    partition: i32,
    events: impl Iterator<Item = &'a Event>,
) -> Vec<(&'a str, String)> {
    events
        .map(|event| (event.tenant.as_str(), format!("{run}/{partition}/{}", event.kind)))
        .collect()
}

/// How often each of these events was counted, in all partitions.
pub(crate) async fn totals(
    counts: &Counts,
    run: &str,
    partitions: i32,
    events: impl Iterator<Item = &Event> + Clone,
) -> Result<BTreeMap<Event, u64>, BoxError> {
    let mut totals = BTreeMap::new();
    for partition in 0..partitions {
        let keys = keys(run, partition, events.clone());
        let found = counts.load_keys(keys.clone()).await?;
        for (event, key) in events.clone().zip(&keys) {
            *totals.entry(event.clone()).or_default() +=
                found.get(key).map_or(0, |count| count.count);
        }
    }
    Ok(totals)
}
