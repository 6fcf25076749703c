//! Joins two topics, partition by partition: orders with the profiles of their customers.
//!
//! Messages of one customer are in the partition of the same number, in both topics, so one processor
//! gets them all. An order that comes before its profile waits in the store. The join is in `join.rs`,
//! the data and what should come out of it in `data.rs`.
#![allow(clippy::print_stdout, reason = "a program that prints")]

#[path = "../common/mod.rs"]
mod common;
mod data;
mod join;

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Parser;
use comfy_table::Table;
use kasper::codec::{Encode, Json};
use kasper::store::{self, TypedStore};
use kasper::testkit::{Feeder, TestMessage};
use kasper::{BoxError, Handle, TopicProcessor};

use crate::common::{Kafka, KafkaOptions, StoreOptions};
use crate::data::{Data, Event, generate};
use crate::join::{Customers, Join, Row, Topics};

#[derive(Parser)]
/// Joins orders with the profiles of their customers; orders whose profile has not come wait in a store.
struct Options {
    /// How many orders to make up
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    orders: u64,
    /// What the data are made from: the same number, the same data
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    kafka: KafkaOptions,
    #[command(flatten)]
    store: StoreOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    common::exit_code(run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), BoxError> {
    let customers: Customers = TypedStore::new(store::connect(&options.store.store).await?, Json);
    let kafka = Kafka::start("join", &options.kafka)?;
    kafka.check_room(options.orders)?;
    let data = generate(options.seed, options.orders, 100 + options.orders / 20);
    let topics = Topics {
        profiles: kafka.create_topic("profiles").await?,
        orders: kafka.create_topic("orders").await?,
        joined: kafka.create_topic("joined").await?,
    };
    let join = (topics.clone(), customers.clone());
    let processor = TopicProcessor::builder(&kafka.run, [&topics.profiles, &topics.orders])
        .brokers(&kafka.brokers)
        .partitions(0..kafka.partitions)
        .max_batch_messages(options.kafka.batch.get())
        .build(move |start| {
            let (topics, customers) = join.clone();
            Join { run: start.name().to_owned(), topics, customers }
        })
        .await?;
    let feeding = feed(&kafka, &topics, &data, processor.handle());
    let ((), report) = common::run_while(processor, feeding).await?;

    let rows: Vec<Row> = common::decoded(&kafka.read_all(&topics.joined).await?)?;
    let unmatched = unmatched(&kafka, &customers, data.customers).await?;
    let again = data.check(&rows, &unmatched)?;
    print_table(&data);
    let (batches, seconds) = (report.batches, report.duration.as_secs_f64());
    println!("all as expected ({again} rows sent again), in {batches} batches, {seconds:.1} s");
    Ok(())
}

/// The partition of a customer, in every topic.
fn partition(kafka: &Kafka, customer: u64) -> i32 {
    let partition = customer % u64::from(kafka.partitions.unsigned_abs());
    i32::try_from(partition).unwrap_or_default()
}

/// Sends all profiles and orders, and waits until they are processed.
async fn feed(kafka: &Kafka, topics: &Topics, data: &Data, reader: Handle) -> Result<(), BoxError> {
    let feeder = |topic: &str| Feeder::new(&kafka.brokers, topic, kafka.partitions, reader.clone());
    let (mut profiles, mut orders) = (feeder(&topics.profiles)?, feeder(&topics.orders)?);
    let progress = common::progress_bar(Some(data.events.len() as u64), "messages sent");
    for event in &data.events {
        let (feeder, topic, customer, value) = match event {
            Event::Profile(customer, profile) => {
                (&mut profiles, &topics.profiles, *customer, Json.encode(profile)?)
            }
            Event::Order(customer, order) => {
                (&mut orders, &topics.orders, *customer, Json.encode(order)?)
            }
        };
        let message = TestMessage::new(topic)
            .partition(partition(kafka, customer))
            .key(data::name(customer))
            .value(value);
        feeder.send_message(message).await?;
        progress.inc(1);
    }
    profiles.finish().await?;
    orders.finish().await?;
    progress.finish_and_clear();
    Ok(())
}

/// The orders that still wait for a profile. A store has no list of its keys: all customers are looked up.
async fn unmatched(
    kafka: &Kafka,
    customers: &Customers,
    count: u64,
) -> Result<BTreeSet<u64>, BoxError> {
    let key = |number| join::key(&kafka.run, partition(kafka, number), &data::name(number));
    let keys: Vec<String> = (0..count).map(key).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let customers = customers.get_many(&keys).await?;
    Ok(customers
        .into_iter()
        .flatten()
        .flat_map(|customer| customer.waiting)
        .map(|order| order.order)
        .collect())
}

/// What was checked to have come out.
fn print_table(data: &Data) {
    let orders = data.rows.len() + data.unmatched.len();
    let mut table = Table::new();
    table.set_header(["", "count"]);
    table.add_row(["customers".to_owned(), data.customers.to_string()]);
    table.add_row(["profiles".to_owned(), data.profiles.to_string()]);
    table.add_row(["orders".to_owned(), orders.to_string()]);
    table.add_row(["  sent before their profile".to_owned(), data.early_orders.to_string()]);
    table.add_row(["  joined".to_owned(), data.rows.len().to_string()]);
    table.add_row(["  unmatched: no profile came".to_owned(), data.unmatched.len().to_string()]);
    common::print_table(table);
}
