//! A store that is away, with a real Kafka and a Redis of the test's own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;
#[allow(dead_code, reason = "part of several test binaries")]
#[path = "live_store_redis/server.rs"]
mod server;

use std::sync::Arc;
use std::time::Duration;

use common::{eventually, read_all, send_numbers, topic, unique};
use kasper::store::{RedisStore, Store};
use kasper::{
    Backoff, Batch, BoxError, Context, ErrorPolicy, OnError, OutgoingMessage, Processor,
    TopicProcessor,
};
use server::OwnServer;

const LIMIT: Duration = Duration::from_mins(2);

/// Writes each message's position into the store.
#[derive(Clone)]
struct Ledger(Arc<RedisStore>);

impl Processor for Ledger {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        for message in batch.iter() {
            message.key_str()?.parse::<u32>()?;
        }
        let keys: Vec<String> = batch
            .iter()
            .map(|message| format!("{}/{}", message.partition(), message.offset()))
            .collect();
        let changes: Vec<_> = keys.iter().map(|key| (key.as_str(), Some("done".into()))).collect();
        Ok(self.0.write_many(&changes).await?)
    }
}

/// Sends everything on.
struct Relay(String);

impl Processor for Relay {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for message in batch.iter() {
            context.send(OutgoingMessage::like(&self.0, &message).value(message.value()));
        }
        Ok(())
    }
}

/// `KASPER_TEST_OUTAGE_SECONDS`: how long the store is away.
fn outage() -> Duration {
    let seconds =
        std::env::var("KASPER_TEST_OUTAGE_SECONDS").map_or(5, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

/// Redis is killed and comes back: nothing is lost, only the malformed message becomes a letter, and the other
/// processor of the process goes on meanwhile.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Kafka and redis-server: run it with `cargo xtask test`"]
async fn redis_is_away_and_nothing_becomes_a_letter() {
    const COUNT: u32 = 1000;
    common::log();
    let mut redis = OwnServer::start(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let store = Arc::new(RedisStore::connect(&redis.config()).await.unwrap());
    let (input, output, letters) =
        (topic("in", 2).await, topic("out", 1).await, topic("dead", 1).await);
    let send = async || {
        for partition in 0..2 {
            send_numbers(&input, partition, COUNT).await;
        }
    };
    let builder =
        |name: &str| TopicProcessor::builder(unique(name), [&input]).brokers(common::brokers());
    let forever = Backoff::new().longest(Duration::from_secs(1)).forever();
    let policy = ErrorPolicy::new(OnError::dead_letter(&letters)).retryable(forever);
    let own = Ledger(store.clone());
    let ledger = builder("ledger").on_error(policy).build(move |_| own.clone()).await.unwrap();
    let own = output.clone();
    let relay = builder("relay").build(move |_| Relay(own.clone())).await.unwrap();
    let (stored, sent) = (ledger.handle(), relay.handle());
    let (ledger, relay) = (tokio::spawn(ledger.run()), tokio::spawn(relay.run()));
    send().await;
    eventually(LIMIT, || stored.has_consumed_all() && sent.has_consumed_all()).await;

    redis.kill();
    send().await;
    common::client()
        .send(kasper::testkit::TestMessage::new(&*input).partition(0).key("malformed"))
        .await
        .unwrap();
    eventually(LIMIT, || sent.status().messages == u64::from(4 * COUNT + 1)).await;
    tokio::time::sleep(outage()).await;
    // However slow the machine is.
    eventually(LIMIT, || {
        let mut partitions = stored.status().partitions.into_iter();
        partitions.all(|partition| partition.retrying.is_some_and(|retrying| retrying.attempt > 2))
    })
    .await;
    let status = stored.status();
    assert_eq!((status.messages, status.rejected), (u64::from(2 * COUNT), 0));
    assert_eq!(read_all(&letters).await.len(), 0);

    redis.start_again(&[]).await;
    eventually(LIMIT, || stored.has_consumed_all()).await;
    for handle in [&stored, &sent] {
        handle.close();
    }
    let report = ledger.await.unwrap().unwrap();
    assert_eq!((report.messages, report.rejected), (u64::from(4 * COUNT + 1), 1));
    relay.await.unwrap().unwrap();
    let found = read_all(&letters).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key_text(), Some("malformed"));
    let keys: Vec<String> = (0..2)
        .flat_map(|partition| (0..2 * COUNT).map(move |n| format!("{partition}/{n}")))
        .collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = store.get_many(&keys).await.unwrap();
    assert!(found.iter().all(Option::is_some), "every message is in the store");
}
