//! The example `service` as a deployment has it: a process with its state in Redis, killed again and again while orders
//! come. Every order is enriched, the totals are exact, and what is malformed is rejected.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;
#[path = "program/mod.rs"]
mod program;
#[path = "../examples/service/job.rs"]
#[allow(dead_code, reason = "the service itself uses it")]
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use common::{brokers, committed, group_of, read_all, unique, wait_until};
use kasper::codec::Json;
use kasper::multitenant::{MultiRedisStore, MultiStore};
use kasper::store::{RedisConfig, TypedStore};
use kasper::testkit::TestMessage;
use program::example;
use service::{EnrichedOrder, Topics, Total};

const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 2;
const TENANTS: u64 = 3;
const CUSTOMERS: u64 = 10;
const ORDERS: u64 = 3000;
/// One of so many orders is malformed.
const MALFORMED: u64 = 50;
const KILLS: u64 = 5;

/// The process; killed when the test is over, however it ends.
struct Service(Child);

impl Service {
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Ends it as an operator does.
    fn stop(mut self) -> ExitStatus {
        Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        self.0.wait().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _already_gone = self.0.wait();
    }
}

/// A deployment of one process, and what it works on.
struct Deployment {
    prefix: String,
    topics: Topics,
    admin: String,
    store: String,
}

impl Deployment {
    async fn new() -> Self {
        let prefix = format!("{}-", unique("service"));
        let topics = Topics::new(&prefix);
        let Topics { customers, orders, enriched, rejected, summaries } = &topics;
        for topic in [customers, orders, enriched, rejected, summaries] {
            common::create(topic, PARTITIONS, &[]).await;
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let redis = std::env::var("KASPER_TEST_REDIS").expect("this test needs a Redis");
        let store = format!("redis://{redis}/{}", prefix.trim_end_matches('-'));
        Self { prefix, topics, admin: free.to_string(), store }
    }

    fn start(&self) -> Service {
        let service = Command::new(example("service"))
            .args(["--store", &self.store, "--prefix", &self.prefix, "--summary-every", "1"])
            .env("ORDERS_BROKERS", brokers())
            .env("ORDERS_ADMIN", &self.admin)
            .env("ORDERS_COMMIT_INTERVAL", "200ms")
            // One that comes back need not wait until the group has missed the one that was killed.
            .env("ORDERS_KAFKA_GROUP_INSTANCE_ID", "service-0")
            .spawn();
        Service(service.unwrap())
    }

    /// Waits until the process has partitions, and has processed something.
    fn processes(&self) {
        wait_until(LIMIT, || {
            let ready = self.get("/health/ready").is_some_and(|answer| answer.contains("200 OK"));
            ready
                && self
                    .get("/metrics")
                    .is_some_and(|metrics| metrics.contains("kasper_batches_total"))
        });
    }

    /// What the admin server answers; nothing while there is none.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.admin).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn has_consumed(&self, topic: &str, ends: &BTreeMap<i32, i64>) -> bool {
        let group = group_of(&format!("{}order-service", self.prefix));
        ends.iter().all(|(number, end)| committed(&group, topic, *number) >= Some(*end))
    }
}

/// The key of an order, or of the customer who made it.
fn key(order: u64) -> String {
    format!("tenant-{}/{}", order % TENANTS, order / TENANTS % CUSTOMERS)
}

fn is_malformed(order: u64) -> bool {
    order % MALFORMED == 7
}

fn order(topic: &str, number: u64) -> TestMessage {
    let value = match is_malformed(number) {
        true => format!("{number}"),
        false => format!(r#"{{"order":{number},"cents":{}}}"#, number % 1000),
    };
    TestMessage::new(topic).key(key(number)).value(value)
}

/// Where each partition ends.
async fn ends(topic: &str) -> BTreeMap<i32, i64> {
    let messages = read_all(topic).await.into_iter();
    messages.map(|m| (m.partition.unwrap(), m.offset.unwrap().next().get())).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka, a Redis and the example; run `cargo xtask test`"]
async fn a_service_that_is_killed_while_orders_come_loses_and_doubles_nothing() {
    let (deployment, client) = (Deployment::new().await, common::client());
    let customers = (0..TENANTS * CUSTOMERS).map(|number| {
        let value = format!(r#"{{"name":"name of {}"}}"#, key(number));
        TestMessage::new(&deployment.topics.customers).key(key(number)).value(value)
    });
    client.send_all(customers).await.unwrap();
    let mut service = deployment.start();
    let ends_of_customers = ends(&deployment.topics.customers).await;
    wait_until(LIMIT, || deployment.has_consumed(&deployment.topics.customers, &ends_of_customers));

    for number in 0..ORDERS {
        client.send(order(&deployment.topics.orders, number)).await.unwrap();
        if number % (ORDERS / KILLS) == ORDERS / KILLS / 2 {
            deployment.processes();
            service.kill();
            service = deployment.start();
        }
    }
    let ends_of_orders = ends(&deployment.topics.orders).await;
    wait_until(LIMIT, || deployment.has_consumed(&deployment.topics.orders, &ends_of_orders));
    let metrics = deployment.get("/metrics").unwrap();
    for metric in
        ["kasper_incoming_messages_total", "kasper_store_calls_total", "kasper_tick_seconds"]
    {
        assert!(metrics.contains(metric), "{metric} is missing: {metrics}");
    }
    assert!(service.stop().success(), "it ends well");

    let enriched = read_all(&deployment.topics.enriched).await;
    let mut seen = BTreeSet::new();
    for message in &enriched {
        let row: EnrichedOrder = message.decode(Json).unwrap().unwrap();
        assert_eq!(message.key_text(), Some(&*key(row.order.order)));
        assert_eq!(row.customer.name, format!("name of {}", key(row.order.order)));
        seen.insert(row.order.order);
    }
    let right: BTreeSet<u64> = (0..ORDERS).filter(|order| !is_malformed(*order)).collect();
    assert_eq!(seen, right);
    assert!(enriched.len() < 2 * right.len(), "most came once: {}", enriched.len());
    let rejected = read_all(&deployment.topics.rejected).await;
    let rejected: BTreeSet<u64> =
        rejected.iter().map(|message| message.value_text().unwrap().parse().unwrap()).collect();
    assert_eq!(rejected, (0..ORDERS).filter(|order| is_malformed(*order)).collect());
    check_totals(&deployment, &right).await;
}

/// In Redis, and as last sent for each tenant and partition.
async fn check_totals(deployment: &Deployment, orders: &BTreeSet<u64>) {
    let config = RedisConfig::from_url(&deployment.store).unwrap();
    let store = MultiRedisStore::connect(&config).await.unwrap();
    let summaries = read_all(&deployment.topics.summaries).await;
    let last: BTreeMap<&str, Total> = summaries
        .iter()
        .map(|message| (message.key_text().unwrap(), message.decode(Json).unwrap().unwrap()))
        .collect();
    for tenant in 0..TENANTS {
        let name = format!("tenant-{tenant}");
        let totals = TypedStore::new(store.tenant(&name).unwrap(), Json);
        let (mut count, mut cents) = (0, 0);
        for number in 0..PARTITIONS {
            let key = format!("total/{number}");
            let Some(total): Option<Total> = totals.get(&key).await.unwrap() else { continue };
            assert_eq!(last[&*format!("{name}/{key}")], total, "the last summary");
            count += total.orders;
            cents += total.cents;
        }
        let of_tenant: Vec<_> = orders.iter().filter(|order| *order % TENANTS == tenant).collect();
        assert_eq!(count, of_tenant.len() as u64, "{name}");
        assert_eq!(cents, of_tenant.iter().map(|order| *order % 1000).sum::<u64>(), "{name}");
    }
}
