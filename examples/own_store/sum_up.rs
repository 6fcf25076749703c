//! The job itself: the sums of customers' orders, right also when a batch comes again.

use std::collections::BTreeMap;

use kasper::codec::Json;
use kasper::store::{Store, TypedStore};
use kasper::{Batch, BoxError, Context, Offset, Processor};
use serde::{Deserialize, Serialize};

/// What a customer's orders come to.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Sum {
    pub(crate) total: u64,
    /// Orders below this offset are in the total: those of a batch that comes again are not added twice.
    next: i64,
}

/// Sums up the orders of one partition. A customer's orders are all in the same one, since the customer is their key.
pub(crate) struct SumUp<S> {
    run: String,
    sums: TypedStore<S, Json, Sum>,
}

impl<S> SumUp<S> {
    pub(crate) fn new(run: &str, store: S) -> Self {
        Self { run: run.to_owned(), sums: TypedStore::new(store, Json) }
    }
}

impl<S: Store + 'static> Processor for SumUp<S> {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let mut orders: BTreeMap<String, Vec<(Offset, u64)>> = BTreeMap::new();
        for message in batch.iter() {
            let customer = str::from_utf8(message.key().unwrap_or_default())?;
            let amount = str::from_utf8(message.value().unwrap_or_default())?.parse()?;
            let key = format!("{}/{customer}", self.run);
            orders.entry(key).or_default().push((message.offset(), amount));
        }
        let keys: Vec<&str> = orders.keys().map(String::as_str).collect();
        let stored = self.sums.get_many(&keys).await?;
        let changes = orders.iter().zip(stored).map(|((key, orders), stored)| {
            let mut sum = stored.unwrap_or_default();
            let known = sum.next;
            for (offset, amount) in orders.iter().filter(|(offset, _)| offset.get() >= known) {
                sum.total += amount;
                sum.next = offset.get() + 1;
            }
            (key.as_str(), Some(sum))
        });
        Ok(self.sums.write_many(&changes.collect::<Vec<_>>()).await?)
    }
}
