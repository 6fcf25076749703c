//! `testkit::prove`: right processors pass, wrong ones are found and named, and what is found is told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod join;
mod right;
mod story;
mod wrong;

use kasper::codec::Json;
use kasper::store::{Store, TypedStore};
use kasper::testkit::{Counterexample, Finding, ProofStore, Prover, TestMessage, prove};
use kasper::{Batch, BoxError, Context, Processor, StartContext};

/// The seeds within which every wrong processor here is found. The right ones are tried with as many.
const FEW_SEEDS: u64 = 200;

/// Orders of three customers.
fn orders() -> Vec<TestMessage> {
    let order = |number: u64| {
        let customer = ["ann", "bob", "cyd"][usize::try_from(number * 7 % 3).unwrap()];
        TestMessage::new("orders").key(customer).value((number % 5 + 1).to_string())
    };
    (0..20).map(order).collect()
}

fn cents(message: &kasper::Message<'_>) -> Result<u64, BoxError> {
    Ok(message.decode::<u64>(Json)?.unwrap_or_default())
}

/// A proof with the orders, of the processors that this makes.
fn prove_orders<P: Processor>(make: impl Fn(&ProofStore) -> P + Clone + Send + 'static) -> Prover {
    prove(["orders"], orders(), move |store: ProofStore| {
        let make = make.clone();
        move |_: &StartContext| make(&store)
    })
}

/// What is found in few seeds.
async fn found(prover: Prover) -> Counterexample {
    let found = prover.seeds(FEW_SEEDS).check().await;
    found.expect_err("a wrong processor passed")
}

/// The sum of each customer's orders. Wrong: orders that come again are added again.
struct Sums<S>(TypedStore<S, Json, u64>);

impl<S: Store + 'static> Processor for Sums<S> {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let mut sums = self.0.load(batch, |order| order.key_str()).await?;
        for order in batch.iter() {
            *sums.entry(order.key_str()?).get_or_insert_default() += cents(&order)?;
        }
        Ok(sums.save().await?)
    }
}

fn sums() -> Prover {
    prove_orders(|store| Sums(TypedStore::new(store.clone(), Json)))
}

#[track_caller]
fn assert_finds(found: &Counterexample, finding: Finding) {
    assert_eq!(found.finding(), finding, "{found}");
}
