//! The job itself: orders meet their customers, are counted for each tenant, and are sent on.

use std::collections::BTreeSet;

use kasper::codec::{Decode, Json};
use kasper::multitenant::{MultiStore, check_tenant_name};
use kasper::store::TypedStore;
use kasper::{Batch, BoxError, Context, Message, Offset, OutgoingMessage, Processor};
use serde::{Deserialize, Serialize};

/// The names of the topics.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    /// Keys: `TENANT/CUSTOMER`. Values: [`Customer`]; a tombstone deletes one. Customers come before their orders: an order
    /// of an unknown customer is rejected, and counted.
    pub(crate) customers: String,
    /// Keys: `TENANT/CUSTOMER`, so that an order and its customer have the same partition number. Values: [`Order`].
    pub(crate) orders: String,
    /// Values: [`EnrichedOrder`].
    pub(crate) enriched: String,
    /// What can't be processed, unchanged, with the header `reason`: the topic's `max.message.bytes` must leave room for that.
    pub(crate) rejected: String,
    /// Keys: `TENANT/total/PARTITION`. Values: [`Total`]; the last one counts. After a crash it may be late until the tenant's
    /// next order: what must not be late is sent by `process`.
    pub(crate) summaries: String,
}

impl Topics {
    pub(crate) fn new(prefix: &str) -> Self {
        let topic = |name| format!("{prefix}{name}");
        Self {
            customers: topic("customers"),
            orders: topic("orders"),
            enriched: topic("enriched-orders"),
            rejected: topic("rejected-orders"),
            summaries: topic("order-summaries"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Customer {
    pub(crate) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) order: u64,
    pub(crate) cents: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EnrichedOrder {
    #[serde(flatten)]
    pub(crate) order: Order,
    pub(crate) customer: Customer,
}

/// What a tenant ordered in one partition number, up to an offset: orders that come again after a crash are not counted
/// again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Total {
    pub(crate) orders: u64,
    pub(crate) cents: u64,
    next_offset: i64,
}

impl Total {
    fn add(&mut self, order: &Order, offset: Offset) {
        if offset.get() >= self.next_offset {
            self.orders += 1;
            self.cents += u64::from(order.cents);
            self.next_offset = offset.next().get();
        }
    }
}

/// Processes one partition number. Customers and totals are in one multitenant store.
pub(crate) struct Orders<M> {
    topics: Topics,
    customers: TypedStore<M, Json, Customer>,
    totals: TypedStore<M, Json, Total>,
    /// The key of this partition number's totals.
    total: String,
    /// The tenants with orders since the last summary.
    changed: BTreeSet<String>,
}

impl<M: MultiStore + Clone + 'static> Orders<M> {
    pub(crate) fn new(topics: Topics, partition: i32, store: &M) -> Self {
        Self {
            topics,
            customers: TypedStore::new(store.clone(), Json),
            totals: TypedStore::new(store.clone(), Json),
            total: format!("total/{partition}"),
            changed: BTreeSet::new(),
        }
    }
}

impl<M: MultiStore + Clone + 'static> Processor for Orders<M> {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let customers = self.accepted::<Customer>(batch, &self.topics.customers, context);
        let orders = self.accepted::<Order>(batch, &self.topics.orders, context);
        let owners = customers.iter().map(|input| input.owner.clone());
        let owners = owners.chain(orders.iter().map(|input| input.owner.clone()));
        let mut known = self.customers.load_keys(owners).await?;
        let tenants = orders.iter().map(|input| (input.owner.0, self.total.as_str()));
        let mut totals = self.totals.load_keys(tenants).await?;

        for input in customers {
            *known.entry(&input.owner) = input.value;
        }
        for Input { message, owner, value } in orders {
            let Some(order) = value else { continue };
            // Before anything that may be different when the order comes again.
            let total = totals.entry(&(owner.0, &*self.total)).get_or_insert_default();
            total.add(&order, message.offset());
            self.changed.insert(owner.0.to_owned());
            let Some(customer) = known.get(&owner).cloned() else {
                self.reject(&message, "there is no such customer", context);
                continue;
            };
            let enriched = OutgoingMessage::like(&self.topics.enriched, &message);
            context.send_encoded(enriched, &EnrichedOrder { order, customer }, Json)?;
        }
        known.save().await?;
        Ok(totals.save().await?)
    }

    /// Sends the totals that have changed.
    async fn tick(&mut self, context: &mut Context) -> Result<(), BoxError> {
        let keys = self.changed.iter().map(|tenant| (tenant.as_str(), self.total.as_str()));
        let totals = self.totals.load_keys(keys).await?;
        for ((tenant, key), total) in totals.iter() {
            // Without one, the tenant was deleted from the store.
            let Some(total) = total else { continue };
            let message =
                OutgoingMessage::new(&self.topics.summaries).key(format!("{tenant}/{key}"));
            context.send_encoded(message, total, Json)?;
        }
        drop(totals);
        self.changed.clear();
        Ok(())
    }

    /// Sends the last totals before another process goes on.
    async fn closing(&mut self, context: &mut Context) -> Result<(), BoxError> {
        self.tick(context).await
    }
}

impl<M> Orders<M> {
    /// The messages of a topic, but for those that can't be read: these are rejected.
    fn accepted<'b, T>(
        &self,
        batch: &'b Batch,
        topic: &str,
        context: &mut Context,
    ) -> Vec<Input<'b, T>>
    where
        Json: Decode<'b, T>,
    {
        let mut accepted = Vec::new();
        for message in batch.topic(topic) {
            match Input::read(message) {
                Ok(input) => accepted.push(input),
                Err(error) => self.reject(&message, &error.to_string(), context),
            }
        }
        accepted
    }

    fn reject(&self, message: &Message<'_>, reason: &str, context: &mut Context) {
        let rejected = OutgoingMessage::like(&self.topics.rejected, message);
        context.send(rejected.value(message.value()).header("reason", reason));
    }
}

/// Of a message.
const MAX_KEY_BYTES: usize = 200;

/// A message that can be processed.
struct Input<'b, T> {
    message: Message<'b>,
    /// The tenant, and the customer's key in the store.
    owner: (&'b str, String),
    /// `None`: a tombstone.
    value: Option<T>,
}

impl<'b, T> Input<'b, T>
where
    Json: Decode<'b, T>,
{
    fn read(message: Message<'b>) -> Result<Self, BoxError> {
        let key = message.key_str()?;
        let (tenant, customer) = key.split_once('/').ok_or("the key is not TENANT/CUSTOMER")?;
        check_tenant_name(tenant)?;
        // Stores refuse long keys, and one message that a store refuses would stop the service again and again.
        if key.len() > MAX_KEY_BYTES {
            return Err(format!("the key is longer than {MAX_KEY_BYTES} bytes").into());
        }
        let owner = (tenant, format!("customer/{customer}"));
        Ok(Self { message, owner, value: message.decode(Json)? })
    }
}
