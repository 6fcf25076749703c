//! `kasper-chaos worker`: a processor that keeps a ledger and sends every message on, well or with a defect.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kasper::store::{RedisConfig, RedisStore, Store};
use kasper::{
    Backoff, Batch, BoxError, Bytes, Circuit, Context, ErrorPolicy, Message, OnError,
    OutgoingMessage, ProcessError, Processor, RebalanceEvent, TopicProcessor,
};

use crate::args::{Defect, Protocol, Worker};
use crate::id::{Aggregate, Id};

/// What all keys in Redis begin with.
pub(crate) const PREFIX: &str = "chaos";

/// A member that is silent for so long is out of the group. With KIP-848, the broker has the same time.
pub(crate) const SESSION: Duration = Duration::from_secs(6);

#[derive(Clone)]
struct Ledger {
    store: RedisStore,
    output: String,
    defect: Option<Defect>,
    held_back: Option<Id>,
}

impl Processor for Ledger {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let messages = batch.iter().map(|message| Ok((id_of(&message)?, message)));
        let messages: Vec<(Id, Message<'_>)> = messages.collect::<Result<_, ProcessError>>()?;
        let ids: Vec<Id> = messages.iter().map(|(id, _)| *id).collect();
        let changes = self.changes(&ids).await?;
        if self.defect == Some(Defect::EarlyOk) {
            let store = self.store.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                // What fails is lost: that is the defect.
                let _ = write(&store, &changes).await;
            });
        } else {
            write(&self.store, &changes).await?;
        }
        for (id, message) in &messages {
            self.send_on(*id, message, context);
        }
        Ok(())
    }
}

impl Ledger {
    /// The entries of these messages, and the aggregates of their keys.
    async fn changes(&self, ids: &[Id]) -> kasper::Result<Vec<(String, Bytes)>> {
        let mut aggregates: BTreeMap<u32, Aggregate> =
            ids.iter().map(|id| (id.key, Aggregate::default())).collect();
        let keys: Vec<String> = aggregates.keys().map(|key| Aggregate::store_key(*key)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let found = self.store.get_many(&keys).await?;
        for (aggregate, found) in aggregates.values_mut().zip(found) {
            *aggregate = found.and_then(|bytes| Aggregate::parse(&bytes)).unwrap_or_default();
        }
        let mut changes = Vec::new();
        for id in ids {
            aggregates.entry(id.key).or_default().add(id.number);
            if self.defect != Some(Defect::LoseOne) || !is_chosen(*id) {
                changes.push((id.ledger_key(), Bytes::from_static(b"1")));
            }
        }
        let aggregates = aggregates.into_iter();
        changes.extend(aggregates.map(|(key, aggregate)| {
            (Aggregate::store_key(key), Bytes::from(aggregate.to_string()))
        }));
        Ok(changes)
    }

    fn send_on(&mut self, id: Id, message: &Message<'_>, context: &mut Context) {
        match self.defect {
            Some(Defect::OutputMissing) if is_chosen(id) => return,
            Some(Defect::Disorder) if self.held_back.is_none() && id.number % 20 == 10 => {
                self.held_back = Some(id);
                return;
            }
            _ => {}
        }
        let output = &self.output;
        let on = OutgoingMessage::like(output, message).value(id.value());
        context.send(on.partition(message.partition()));
        if let Some(held) = self.held_back.take_if(|held| held.key == id.key) {
            let late = OutgoingMessage::new(output).key(held.key_text()).value(held.value());
            context.send(late.partition(message.partition()));
        }
    }
}

/// One message in a thousand.
fn is_chosen(id: Id) -> bool {
    (id.number * 41 + u64::from(id.key)) % 1000 == 500
}

fn id_of(message: &Message<'_>) -> Result<Id, ProcessError> {
    let id = message.value().and_then(Id::parse);
    id.ok_or_else(|| ProcessError::poison(message, "the value is malformed"))
}

async fn write(store: &RedisStore, changes: &[(String, Bytes)]) -> kasper::Result<()> {
    let changes: Vec<(&str, Option<Bytes>)> =
        changes.iter().map(|(key, value)| (key.as_str(), Some(value.clone()))).collect();
    store.write_many(&changes).await
}

/// Runs until it is asked to end.
pub(crate) fn run(worker: &Worker) -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build()?.block_on(process(worker))
}

async fn process(worker: &Worker) -> Result<()> {
    let config = RedisConfig::new(&worker.redis, PREFIX)
        .request_timeout(Duration::from_secs(2))
        .connect_timeout(Duration::from_secs(1));
    let store = RedisStore::connect(&config).await.context("no store")?;
    let ledger =
        Ledger { store, output: worker.output.clone(), defect: worker.defect, held_back: None };
    let mut builder = TopicProcessor::builder(&worker.name, [&worker.input])
        .brokers(&worker.brokers)
        .connect_timeout(Duration::from_secs(60))
        .max_batch_wait(Duration::from_millis(20))
        .commit_interval(Duration::from_millis(500))
        .drain_deadline(Duration::from_secs(10))
        .on_error(policy(worker))
        .on_rebalance(print_event);
    match worker.protocol {
        Protocol::Classic => {
            let session = SESSION.as_millis().to_string();
            builder = builder.kafka("session.timeout.ms", session);
            builder = builder.kafka("heartbeat.interval.ms", "1000");
        }
        Protocol::Consumer => builder = builder.consumer_protocol(),
        Protocol::Static => builder = builder.partitions(worker.partitions.iter().copied()),
    }
    let processor = builder.build(move |_| ledger.clone()).await?;
    processor.run_until(kasper::shutdown_signal()).await?;
    println!("ended in order");
    Ok(())
}

/// Waits for ever for what may come back; malformed messages become letters, however many.
fn policy(worker: &Worker) -> ErrorPolicy {
    let rejected = match worker.defect {
        Some(Defect::DropLetters) => OnError::skip(),
        _ => OnError::dead_letter(&worker.letters),
    };
    let backoff = Backoff::new().longest(Duration::from_secs(1)).forever();
    let circuit =
        Circuit::new().consecutive(u64::MAX).window(Duration::from_secs(1), 1.0, u64::MAX);
    ErrorPolicy::new(rejected).retryable(backoff).circuit(circuit)
}

fn print_event(event: &RebalanceEvent) {
    let (what, partitions) = match event {
        RebalanceEvent::Assigned(partitions) => (ASSIGNED, partitions),
        RebalanceEvent::Revoked(partitions) => ("revoked", partitions),
        RebalanceEvent::Lost(partitions) => ("lost", partitions),
        _ => return,
    };
    let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    println!("{what} {}", names.join(" "));
}

/// What a line in a worker's log begins with that tells of an assignment.
pub(crate) const ASSIGNED: &str = "assigned";
