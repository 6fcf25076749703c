//! The job itself: events of many tenants are counted with one read and one write per batch.

use std::collections::BTreeMap;

use kasper::codec::{Decode, Encode, Json};
use kasper::multitenant::{AnyMultiStore, MultiStore, TenantKey};
use kasper::{Batch, BoxError, Context, Offset, Processor};
use serde::{Deserialize, Serialize};

use crate::common::count::Count;

/// What happened at a tenant: a message's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) tenant: String,
    pub(crate) kind: String,
}

/// Counts the events of one partition, per tenant and kind; a tenant's keys are `RUN/PARTITION/KIND`.
pub(crate) struct Tally {
    pub(crate) run: String,
    pub(crate) counts: AnyMultiStore,
}

impl Processor for Tally {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let mut found: BTreeMap<Event, Vec<Offset>> = BTreeMap::new();
        for message in batch.iter() {
            let Some(event) = message.decode::<Event>(Json)? else { continue };
            found.entry(event).or_default().push(message.offset());
        }
        let keys = keys(&self.run, batch.partition(), found.keys());
        let wanted: Vec<_> = keys.iter().map(|(tenant, key)| TenantKey::new(tenant, key)).collect();
        let mut counts = self.counts.fetch(&wanted).await?;
        for ((tenant, key), offsets) in keys.iter().zip(found.values()) {
            let stored = counts.get(tenant, key).map(|stored| Json.decode(stored));
            let mut count: Count = stored.transpose()?.unwrap_or_default();
            count.add(offsets);
            counts.put(tenant, key, Json.encode(&count)?);
        }
        self.counts.push(&counts).await?;
        Ok(())
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
    counts: &AnyMultiStore,
    run: &str,
    partitions: i32,
    events: impl Iterator<Item = &Event> + Clone,
) -> Result<BTreeMap<Event, u64>, BoxError> {
    let mut totals = BTreeMap::new();
    for partition in 0..partitions {
        let keys = keys(run, partition, events.clone());
        let wanted: Vec<_> = keys.iter().map(|(tenant, key)| TenantKey::new(tenant, key)).collect();
        let found = counts.fetch(&wanted).await?;
        for (event, (tenant, key)) in events.clone().zip(&keys) {
            let stored = found.get(tenant, key).map(|stored| Json.decode(stored));
            let count: Count = stored.transpose()?.unwrap_or_default();
            *totals.entry(event.clone()).or_default() += count.count;
        }
    }
    Ok(totals)
}
