//! Processors that are right.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kasper::codec::Json;
use kasper::multitenant::{AnyMultiStore, MultiStore};
use kasper::store::{AnyStore, Cached, Retry, Store, TypedStore};
use kasper::testkit::{Finding, ProofStore, TestMessage, prove};
use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor, StartContext};
use tokio::time::{Instant, sleep};

use super::{FEW_SEEDS, assert_finds, cents, prove_orders};

/// The last order of each customer.
struct Last<S>(S);

impl<S: Store + 'static> Processor for Last<S> {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        for order in batch.iter() {
            let value = order.value().unwrap_or_default().to_vec();
            self.0.put(order.key_str()?, value).await?;
        }
        Ok(())
    }
}

/// The sum of each customer's orders, with the offset of the next order that is not in it.
struct SumsOnce<S>(TypedStore<S, Json, (u64, i64)>);

impl<S: Store + 'static> Processor for SumsOnce<S> {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let mut sums = self.0.load(batch, |order| order.key_str()).await?;
        for order in batch.iter() {
            let (sum, next) = sums.entry(order.key_str()?).get_or_insert_default();
            if order.offset().get() >= *next {
                *sum += cents(&order)?;
                *next = order.offset().next().get();
            }
        }
        Ok(sums.save().await?)
    }
}

/// The largest order of each customer.
struct Largest(TypedStore<ProofStore, Json, u64>);

impl Processor for Largest {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let mut largest = self.0.load(batch, |order| order.key_str()).await?;
        for order in batch.iter() {
            let largest = largest.entry(order.key_str()?).get_or_insert_default();
            *largest = cents(&order)?.max(*largest);
        }
        Ok(largest.save().await?)
    }
}

/// All amounts that a customer has ordered for.
struct Amounts(TypedStore<AnyStore, Json, BTreeSet<u64>>);

impl Processor for Amounts {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let mut amounts = self.0.load(batch, |order| order.key_str()).await?;
        for order in batch.iter() {
            amounts.entry(order.key_str()?).get_or_insert_default().insert(cents(&order)?);
        }
        Ok(amounts.save().await?)
    }
}

#[tokio::test]
async fn the_last_the_largest_and_the_set_of_all() {
    prove_orders(|store| Last(store.clone())).seeds(FEW_SEEDS).check().await.unwrap();
    prove_orders(|store| Largest(TypedStore::new(store.clone(), Json)))
        .seeds(FEW_SEEDS)
        .check()
        .await
        .unwrap();
    let amounts = |store: &ProofStore| Amounts(TypedStore::new(AnyStore::new(store.clone()), Json));
    prove_orders(amounts).seeds(FEW_SEEDS).check().await.unwrap();
}

#[tokio::test]
async fn a_sum_with_its_offset() {
    let proof = prove_orders(|store| SumsOnce(TypedStore::new(store.clone(), Json)));
    let proof = proof.seeds(1000).check().await.unwrap();
    assert_eq!(proof.schedules(), 1004);
    assert!(proof.faults() > 1000 && proof.batches() > 5000, "{proof}");
}

#[tokio::test]
async fn a_cache_for_each_processor() {
    let cached =
        |store: &ProofStore| SumsOnce(TypedStore::new(Cached::new(store.clone(), 1 << 20), Json));
    prove_orders(cached).seeds(FEW_SEEDS).check().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_repeated_in_a_processor_that_sleeps() {
    let begun = Instant::now();
    let repeated = |store: &ProofStore| SumsOnce(TypedStore::new(Retry::new(store.clone()), Json));
    prove_orders(repeated).seeds(FEW_SEEDS).check().await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(1), "nothing failed");
}

/// Sends the sum of each customer after each batch.
struct Tells(TypedStore<ProofStore, Json, (u64, i64)>);

impl Processor for Tells {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let mut sums = self.0.load(batch, |order| order.key_str()).await?;
        for order in batch.iter() {
            let (sum, next) = sums.entry(order.key_str()?).get_or_insert_default();
            if order.offset().get() >= *next {
                *sum += cents(&order)?;
                *next = order.offset().next().get();
            }
        }
        for (key, sum) in sums.iter() {
            let sum = sum.map_or(0, |(sum, _)| *sum);
            context.send(OutgoingMessage::new("sums").key(*key).value(sum.to_string()));
        }
        Ok(sums.save().await?)
    }
}

#[tokio::test]
async fn the_last_sum_of_each_customer_is_sent_whatever_happens() {
    let tells = |store: &ProofStore| Tells(TypedStore::new(store.clone(), Json));
    let found = prove_orders(tells).check().await.unwrap_err();
    assert_finds(&found, Finding::DependsOnBatches);
    let hint = "if only the last message of each key counts in `sums`: `.compacted(\"sums\")`";
    assert_eq!(found.difference().last().unwrap(), hint);
    prove_orders(tells).compacted("sums").seeds(FEW_SEEDS).check().await.unwrap();
    prove_orders(tells).ignored("sums").seeds(FEW_SEEDS).check().await.unwrap();
}

/// Says which customers are new. It says so before it remembers them.
struct Welcome(ProofStore);

impl Processor for Welcome {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for order in batch.iter() {
            if self.0.get(order.key_str()?).await?.is_none() {
                context.send(OutgoingMessage::new("welcome").key(order.key()));
                context.flush().await?;
                self.0.put(order.key_str()?, "known").await?;
            }
        }
        Ok(())
    }
}

/// Without state, and with a wait of its own.
struct Slow;

impl Processor for Slow {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for order in batch.iter() {
            sleep(Duration::from_secs(1)).await;
            context.forward("copies", &order);
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_before_it_is_remembered_and_what_has_no_state() {
    prove_orders(|store| Welcome(store.clone())).seeds(FEW_SEEDS).check().await.unwrap();
    prove_orders(|_| Slow).seeds(FEW_SEEDS).check().await.unwrap();
}

/// Sums of tenants in one store.
struct OfTenants<M>(TypedStore<M, Json, BTreeMap<i64, u64>>);

impl<M: MultiStore + 'static> Processor for OfTenants<M> {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let key = |order: kasper::Message<'_>| {
            Ok((order.header_str("tenant")?.unwrap_or("nobody").to_owned(), "orders".to_owned()))
        };
        let mut orders = self.0.load(batch, key).await?;
        for order in batch.iter() {
            let orders = orders.entry(&key(order)?).get_or_insert_default();
            orders.insert(order.offset().get(), cents(&order)?);
        }
        Ok(orders.save().await?)
    }
}

#[tokio::test]
async fn a_multitenant_processor() {
    let order = |number: u32| {
        let tenant = if number.is_multiple_of(3) { "acme" } else { "umbrella" };
        TestMessage::new("orders").value(number.to_string()).header("tenant", tenant)
    };
    let inputs: Vec<TestMessage> = (0..9).map(order).collect();
    let proof = prove(["orders"], inputs.clone(), |store: ProofStore| {
        move |_: &StartContext| OfTenants(TypedStore::new(store.clone(), Json))
    });
    proof.seeds(FEW_SEEDS).check().await.unwrap();
    let proof = prove(["orders"], inputs, |store: ProofStore| {
        move |_: &StartContext| OfTenants(TypedStore::new(AnyMultiStore::new(store.clone()), Json))
    });
    proof.seeds(FEW_SEEDS).check().await.unwrap();
}
