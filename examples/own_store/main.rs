//! State in a store of your own: the sums of customers' orders, in a directory with a file for each customer.
//!
//! The store is `directory.rs`. It keeps the rules of [`Store`]: `tests/examples/own_store.rs` runs the conformance
//! suite on it.
#![allow(clippy::print_stdout, reason = "a program that prints")]

#[path = "../common/mod.rs"]
mod common;
mod directory;
mod sum_up;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kasper::codec::Json;
use kasper::store::TypedStore;
use kasper::testkit::{Feeder, TestMessage};
use kasper::{BoxError, TopicProcessor};

use common::{Kafka, KafkaOptions};
use directory::DirectoryStore;
use sum_up::{Sum, SumUp};

/// Sums up the orders of customers, in a store of the program's own.
#[derive(Parser)]
struct Options {
    /// Where the sums are kept; by default a new directory, removed at the end
    #[arg(long, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
    /// How many orders are made
    #[arg(long, default_value_t = 10_000)]
    orders: u64,
    /// How many customers make them
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    customers: u64,
    #[command(flatten)]
    kafka: KafkaOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let state = options.state.clone();
    let directory = state
        .unwrap_or_else(|| std::env::temp_dir().join(format!("own-store-{}", std::process::id())));
    let result = run(&options, &directory).await;
    if options.state.is_none() {
        // Nothing is lost if it stays.
        let _ = std::fs::remove_dir_all(&directory);
    }
    common::exit_code(result)
}

async fn run(options: &Options, directory: &Path) -> Result<(), BoxError> {
    let store = DirectoryStore::open(directory)?;
    let kafka = Kafka::start("own-store", &options.kafka)?;
    kafka.check_room(options.orders)?;
    let topic = kafka.create_topic("orders").await?;
    let of_job = store.clone();
    let processor = TopicProcessor::builder(&kafka.run, [&topic])
        .brokers(&kafka.brokers)
        .partitions(0..kafka.partitions)
        .max_batch_messages(options.kafka.batch.get())
        .build(move |start| SumUp::new(start.name(), of_job.clone()))
        .await?;
    let feeder = Feeder::new(&kafka.brokers, &topic, kafka.partitions, processor.handle())?;
    let (expected, report) =
        common::run_while(processor, feed(feeder, &topic, kafka.partitions, options)).await?;
    println!("{} orders in {} batches", report.messages, report.batches);
    check(store, &kafka.run, &expected).await
}

/// Makes the orders, and returns what each customer's come to.
async fn feed(
    mut feeder: Feeder,
    topic: &str,
    partitions: i32,
    options: &Options,
) -> Result<BTreeMap<String, u64>, BoxError> {
    let mut expected = BTreeMap::new();
    for number in 0..options.orders {
        let (customer, amount) = (number % options.customers, number % 97);
        // A customer's orders are all on one partition, as a producer's hash of the key would have it.
        let partition = i32::try_from(customer)? % partitions;
        let customer = format!("customer-{customer}");
        let value = amount.to_string();
        let order = TestMessage::new(topic).key(&customer).value(value);
        feeder.send_message(order.partition(partition)).await?;
        *expected.entry(customer).or_default() += amount;
    }
    feeder.finish().await?;
    Ok(expected)
}

async fn check(
    store: DirectoryStore,
    run: &str,
    expected: &BTreeMap<String, u64>,
) -> Result<(), BoxError> {
    let sums: TypedStore<_, Json, Sum> = TypedStore::new(store, Json);
    for (customer, total) in expected {
        let found = sums.get(&format!("{run}/{customer}")).await?.map_or(0, |sum| sum.total);
        if found != *total {
            return Err(format!("{customer} ordered for {total}, the store has {found}").into());
        }
    }
    println!("the sums of {} customers are as expected", expected.len());
    Ok(())
}
