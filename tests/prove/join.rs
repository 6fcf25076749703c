//! A join of orders with profiles, and one that forgets its orders too early.

use kasper::codec::Json;
use kasper::store::TypedStore;
use kasper::testkit::{Finding, ProofStore, Prover, TestMessage, prove};
use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor, StartContext};
use serde::{Deserialize, Serialize};

use super::{FEW_SEEDS, assert_finds, found};

#[derive(Default, Serialize, Deserialize)]
struct Customer {
    profile: Option<String>,
    waiting: Vec<String>,
}

struct Join {
    customers: TypedStore<ProofStore, Json, Customer>,
    forgets_early: bool,
}

impl Processor for Join {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let mut customers = self.customers.load(batch, |message| message.key_str()).await?;
        for message in batch.iter() {
            let customer = customers.entry(message.key_str()?).get_or_insert_default();
            let text = str::from_utf8(message.value().unwrap_or_default())?.to_owned();
            match message.topic() {
                "profiles" => customer.profile = Some(text),
                _ if customer.waiting.contains(&text) => {}
                _ => customer.waiting.push(text),
            }
            let Some(profile) = &customer.profile else { continue };
            for order in customer.waiting.drain(..) {
                let row = OutgoingMessage::new("rows").key(message.key());
                context.send(row.value(format!("{order} of {profile}")));
            }
        }
        if !self.forgets_early {
            context.flush().await?;
        }
        Ok(customers.save().await?)
    }
}

fn join(forgets_early: bool) -> Prover {
    let order = |key, value| TestMessage::new("orders").key(key).value(value);
    let profile = |key, value| TestMessage::new("profiles").key(key).value(value);
    let inputs = [
        order("a", "1"),
        order("b", "2"),
        profile("b", "Bob"),
        order("a", "3"),
        order("b", "4"),
        profile("a", "Ann"),
        order("a", "5"),
        order("c", "6"),
        order("b", "7"),
    ];
    prove(["profiles", "orders"], inputs, move |store: ProofStore| {
        move |_: &StartContext| Join {
            customers: TypedStore::new(store.clone(), Json),
            forgets_early,
        }
    })
}

#[tokio::test]
async fn a_join_that_sends_before_it_forgets_is_right() {
    join(false).seeds(FEW_SEEDS).check().await.unwrap();
    join(false).any_topic_order().seeds(FEW_SEEDS).check().await.unwrap();
}

#[tokio::test]
async fn a_join_that_forgets_early_is_found() {
    let found = found(join(true)).await;
    assert_finds(&found, Finding::SendsDifferently);
    assert!(found.difference()[0].starts_with("never sent: "), "{found}");
    assert_eq!(found.messages().len(), 2, "an order and its profile: {found}");
}
