//! The join itself: one customer's profile and orders meet in one state.

use kasper::codec::Json;
use kasper::store::{AnyStore, TypedStore};
use kasper::{Batch, BoxError, Context, Message, OutgoingMessage, Processor};
use serde::{Deserialize, Serialize};

/// A message of the topic `profiles`; its key is the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) country: String,
}

/// A message of the topic `orders`; its key is the customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) order: u64,
    pub(crate) cents: u64,
}

/// An order with its customer's profile: what is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) customer: String,
    #[serde(flatten)]
    pub(crate) order: Order,
    #[serde(flatten)]
    pub(crate) profile: Profile,
}

/// What is known of a customer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Customer {
    pub(crate) profile: Option<Profile>,
    /// Orders that came before the profile, each once. A list: some stores have an index of all names of
    /// fields, which numbers of orders would fill.
    pub(crate) waiting: Vec<Order>,
}

/// The customers; the keys are `RUN/PARTITION/CUSTOMER`.
pub(crate) type Customers = TypedStore<AnyStore, Json, Customer>;

pub(crate) fn key(run: &str, partition: i32, customer: &str) -> String {
    format!("{run}/{partition}/{customer}")
}

/// The names of the topics.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    pub(crate) profiles: String,
    pub(crate) orders: String,
    pub(crate) joined: String,
}

/// Joins one partition of the two topics.
pub(crate) struct Join {
    pub(crate) run: String,
    pub(crate) topics: Topics,
    pub(crate) customers: Customers,
}

impl Processor for Join {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let key_of =
            |message: Message<'_>| Ok(key(&self.run, batch.partition(), message.key_str()?));
        let mut customers = self.customers.load(batch, key_of).await?;
        let some_waited = customers.iter().any(|(_, c)| c.is_some_and(|c| !c.waiting.is_empty()));

        for message in batch.topic(&self.topics.profiles) {
            let profile = message.decode(Json)?;
            customers.entry(&key_of(message)?).get_or_insert_default().profile = profile;
        }
        for message in batch.topic(&self.topics.orders) {
            let Some(order) = message.decode::<Order>(Json)? else { continue };
            let customer = customers.entry(&key_of(message)?).get_or_insert_default();
            // One that comes again may be there.
            if !customer.waiting.contains(&order) {
                customer.waiting.push(order);
            }
        }
        for (_, messages) in batch.group_by_key() {
            if let Some(customer) = customers.get_mut(&key_of(messages[0])?) {
                self.send_rows(context, messages[0].key_str()?, customer)?;
            }
        }

        // An order of this batch comes again if its row is not delivered. One that waited in the store
        // does not: its row must be acknowledged before the order is forgotten.
        if some_waited {
            context.flush().await?;
        }
        Ok(customers.save().await?)
    }
}

impl Join {
    /// Sends a row for each order that waits, if there is a profile for them.
    fn send_rows(
        &self,
        context: &mut Context,
        name: &str,
        customer: &mut Customer,
    ) -> Result<(), BoxError> {
        let Some(profile) = &customer.profile else { return Ok(()) };
        for order in std::mem::take(&mut customer.waiting) {
            // To the partition of the same number: the rows can be joined on.
            let message =
                OutgoingMessage::new(&self.topics.joined).partition(context.partition()).key(name);
            let row = Row { customer: name.to_owned(), order, profile: profile.clone() };
            context.send_encoded(message, &row, Json)?;
        }
        Ok(())
    }
}
