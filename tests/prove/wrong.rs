//! Processors that are wrong, each in its way.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use kasper::codec::Json;
use kasper::store::{Cached, Store, TypedStore};
use kasper::testkit::{Finding, ProofStore, prove};
use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor, StartContext};

use super::{assert_finds, cents, found, orders, prove_orders, sums};

#[tokio::test]
async fn a_plain_counter() {
    let found = found(sums()).await;
    assert_finds(&found, Finding::NotIdempotent);
    assert_eq!((found.messages().len(), found.story().len()), (1, 2), "{found}");
}

/// Counts in the struct.
#[derive(Default)]
struct Remembers {
    sums: BTreeMap<String, u64>,
    store: Option<ProofStore>,
}

impl Processor for Remembers {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        for order in batch.iter() {
            let key = order.key_str()?;
            let sum = self.sums.entry(key.to_owned()).or_default();
            *sum += cents(&order)?;
            self.store.as_ref().unwrap().put(key, sum.to_string()).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn state_in_the_struct() {
    let remembers =
        |store: &ProofStore| Remembers { store: Some(store.clone()), ..Remembers::default() };
    let found = found(prove_orders(remembers)).await;
    assert_finds(&found, Finding::StateInMemory);
    assert!(found.story()[0].contains("revoked in good order"), "{found}");
}

/// Tells the sum of all that it has seen, before it remembers it.
struct TellsFirst(TypedStore<ProofStore, Json, (u64, i64)>);

impl Processor for TellsFirst {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let (mut sum, mut next) = self.0.get("sum").await?.unwrap_or_default();
        for order in batch.iter() {
            if order.offset().get() >= next {
                sum += cents(&order)?;
                next = order.offset().next().get();
            }
        }
        context.send(OutgoingMessage::new("sums").value(sum.to_string()));
        context.flush().await?;
        Ok(self.0.put("sum", &(sum, next)).await?)
    }
}

/// The store is right. What was sent for a batch that is cut differently when it comes again can't be taken back.
#[tokio::test]
async fn output_before_the_write() {
    let tells = |store: &ProofStore| TellsFirst(TypedStore::new(store.clone(), Json));
    assert_finds(&found(prove_orders(tells)).await, Finding::DependsOnBatches);
}

/// Passes over what it has seen, and sends the rest when it has remembered it.
struct RemembersFirst(ProofStore);

impl Processor for RemembersFirst {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for order in batch.iter() {
            let id = order.offset().get().to_string();
            if self.0.get(&id).await?.is_none() {
                self.0.put(&id, "seen").await?;
                context.forward("accepted", &order);
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn output_after_a_write_that_says_it_is_done() {
    let found = found(prove_orders(|store| RemembersFirst(store.clone()))).await;
    assert_finds(&found, Finding::SendsDifferently);
    assert!(found.messages().len() <= 2, "{found}");
    let reads = found.reads_differently().unwrap();
    assert!(reads.contains("when its messages came again, and nothing at first"), "{reads}");
}

/// Keeps the time at which an order was processed.
struct Stamps(ProofStore);

impl Processor for Stamps {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        for order in batch.iter() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
            self.0.put(order.key_str()?, now.to_string()).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn the_time_of_day() {
    let found = found(prove_orders(|store| Stamps(store.clone()))).await;
    assert_finds(&found, Finding::Nondeterministic);
}

/// Count and offset under two keys.
struct TwoKeys(TypedStore<ProofStore, Json, i64>);

impl Processor for TwoKeys {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let mut state = self.0.load_keys(["count", "next"]).await?;
        for order in batch.iter() {
            let next = *state.entry("next").get_or_insert_default();
            if order.offset().get() >= next {
                *state.entry("count").get_or_insert_default() += 1;
                state.insert("next", order.offset().next().get());
            }
        }
        Ok(state.save().await?)
    }
}

/// A write of two keys may be made by half. Some stores promise more.
#[tokio::test]
async fn a_count_and_its_offset_under_two_keys() {
    let two = |store: &ProofStore| TwoKeys(TypedStore::new(store.clone(), Json));
    let found = found(prove_orders(two)).await;
    assert_finds(&found, Finding::NotIdempotent);
    assert!(found.story()[0].contains("in the middle of the write"), "{found}");
    prove_orders(two).atomic_writes().check().await.unwrap();
}

struct Ignores(ProofStore);

impl Processor for Ignores {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        for order in batch.iter() {
            let _ = self.0.put(order.key_str()?, order.value().unwrap_or_default().to_vec()).await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn an_error_that_is_ignored() {
    let found = found(prove_orders(|store| Ignores(store.clone()))).await;
    assert_finds(&found, Finding::IgnoresErrors);
    assert!(found.story()[0].contains("fails, nothing is written"), "{found}");
}

/// The sum of all orders, with its offset.
struct SumOnce<S>(TypedStore<S, Json, (u64, i64)>);

impl<S: Store + 'static> Processor for SumOnce<S> {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let (mut sum, mut next) = self.0.get("sum").await?.unwrap_or_default();
        for order in batch.iter() {
            if order.offset().get() >= next {
                sum += cents(&order)?;
                next = order.offset().next().get();
            }
        }
        Ok(self.0.put("sum", &(sum, next)).await?)
    }
}

/// One cache for all processors of a process: when the partition comes back, it is out of date.
#[tokio::test]
async fn a_cache_that_outlives_the_assignment() {
    let cached = prove(["orders"], orders(), |store: ProofStore| {
        let cache = Cached::new(store, 1 << 20);
        move |_: &StartContext| SumOnce(TypedStore::new(cache.clone(), Json))
    });
    assert_finds(&found(cached).await, Finding::StateInMemory);
}

/// Marks an order as done, in memory that all processors of a process share, and awaits the write after that.
struct MarksFirst {
    done: Arc<Mutex<HashSet<i64>>>,
    store: ProofStore,
}

impl Processor for MarksFirst {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        for order in batch.iter() {
            if self.done.lock().unwrap().insert(order.offset().get()) {
                self.store.put(&order.offset().get().to_string(), "done").await?;
            }
        }
        Ok(())
    }
}

/// Only a process that lives on shows it: its future is dropped at the write.
#[tokio::test]
async fn a_future_that_is_cancelled() {
    let marks = prove(["orders"], orders(), |store: ProofStore| {
        let done = Arc::<Mutex<HashSet<i64>>>::default();
        move |_: &StartContext| MarksFirst { done: done.clone(), store: store.clone() }
    });
    let found = found(marks).await;
    assert_finds(&found, Finding::NotIdempotent);
    assert!(found.story()[0].contains("the processor is dropped"), "{found}");
}

/// Reads once, and writes for each message what it read and a little more.
struct Stale(TypedStore<ProofStore, Json, (u64, i64)>);

impl Processor for Stale {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        let read = self.0.get("sum").await?.unwrap_or_default();
        for order in batch.iter() {
            if order.offset().get() >= read.1 {
                let sum = (read.0 + cents(&order)?, order.offset().next().get());
                self.0.put("sum", &sum).await?;
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_value_that_was_read_before_it_changed() {
    let found = found(prove_orders(|store| Stale(TypedStore::new(store.clone(), Json)))).await;
    assert_finds(&found, Finding::DependsOnBatches);
    assert_eq!((found.seed(), found.messages().len()), (None, 2), "{found}");
}

/// Takes an order that it knows for an error, and waits for one that it does not expect.
struct Strict {
    store: ProofStore,
    waits: bool,
}

impl Processor for Strict {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        for order in batch.iter() {
            let id = order.offset().get().to_string();
            match self.store.get(&id).await? {
                None => self.store.put(&id, "seen").await?,
                Some(_) if self.waits => std::future::pending().await,
                Some(_) => return Err(format!("the order {id} came twice").into()),
            }
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_fails_or_waits_when_messages_come_again() {
    let strict = |waits| prove_orders(move |store| Strict { store: store.clone(), waits });
    let fails = found(strict(false)).await;
    assert_finds(&fails, Finding::Fails);
    assert!(fails.difference()[0].contains("the order 0 came twice"), "{fails}");
    assert_finds(&found(strict(true)).await, Finding::Stuck);
}

struct Idle;

impl Processor for Idle {
    async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_proof_of_nothing() {
    assert_finds(&found(prove_orders(|_| Idle)).await, Finding::DoesNothing);
}
