//! Counts the events of many tenants, whose keys are kept apart in one multitenant store.
//!
//! A batch has events of any tenants; it costs one `fetch` and one `push`, however many they are. The
//! counting is in `tally.rs`.
#![allow(clippy::print_stdout, reason = "a program that prints")]

#[path = "../common/mod.rs"]
mod common;
mod tally;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser;
use comfy_table::Table;
use kasper::codec::{Encode, Json};
use kasper::store::{self, TypedStore};
use kasper::testkit::Feeder;
use kasper::{BoxError, TopicProcessor};

use crate::common::random::Random;
use crate::common::{Kafka, KafkaOptions, StoreOptions};
use crate::tally::{Event, Tally, totals};

const KINDS: [&str; 4] = ["login", "view", "buy", "logout"];

#[derive(Parser)]
/// Counts events per tenant, with the counts in a multitenant store.
struct Options {
    /// How many events to make up
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Of how many tenants
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    tenants: u64,
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
    let counts = TypedStore::new(store::connect_multi(&options.store.store).await?, Json);
    let kafka = Kafka::start("multitenant", &options.kafka)?;
    let topic = kafka.create_topic("events").await?;
    let of_job = counts.clone();
    let processor = TopicProcessor::builder(&kafka.run, [&topic])
        .brokers(&kafka.brokers)
        .partitions(0..kafka.partitions)
        .max_batch_messages(options.kafka.batch.get())
        .build(move |start| Tally { run: start.name().to_owned(), counts: of_job.clone() })
        .await?;
    let feeder = Feeder::new(&kafka.brokers, &topic, kafka.partitions, processor.handle())?;
    let (fed, report) = common::run_while(processor, feed(feeder, &options)).await?;

    let counted = totals(&counts, &kafka.run, kafka.partitions, fed.keys()).await?;
    print_counts(&counted);
    let (batches, seconds) = (report.batches, report.duration.as_secs_f64());
    println!("{} events in {batches} batches, {seconds:.1} s", options.events);
    check(&counted, &fed)
}

/// Sends made-up events, and waits until all are counted. Returns how many there were of each.
async fn feed(mut feeder: Feeder, options: &Options) -> Result<BTreeMap<Event, u64>, BoxError> {
    let mut random = Random::new(options.seed);
    let mut fed = BTreeMap::new();
    let progress = common::progress_bar(Some(options.events), "events sent");
    for _ in 0..options.events {
        // Some tenants have more to do than others.
        let busiest = 1 + random.below(options.tenants);
        let tenant = format!("tenant-{}", random.below(busiest));
        let event = Event { tenant, kind: random.choose(&KINDS).to_owned() };
        feeder.send(&Json.encode(&event)?).await?;
        *fed.entry(event).or_default() += 1;
        progress.inc(1);
    }
    feeder.finish().await?;
    progress.finish_and_clear();
    Ok(fed)
}

/// A row for each tenant, busiest first.
fn print_counts(counted: &BTreeMap<Event, u64>) {
    const MOST: usize = 20;
    let mut tenants: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for (event, count) in counted {
        tenants.entry(&event.tenant).or_default().insert(&event.kind, *count);
    }
    let mut tenants: Vec<_> = tenants
        .into_iter()
        .map(|(tenant, kinds)| (kinds.values().sum::<u64>(), tenant, kinds))
        .collect();
    tenants.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let mut table = Table::new();
    table.set_header(["tenant"].into_iter().chain(KINDS).chain(["all"]));
    for (total, tenant, kinds) in tenants.iter().take(MOST) {
        let counts = KINDS.map(|kind| kinds.get(kind).copied().unwrap_or_default());
        let counts = counts.iter().chain([total]).map(u64::to_string);
        table.add_row([(*tenant).to_owned()].into_iter().chain(counts));
    }
    common::print_table(table);
    if tenants.len() > MOST {
        println!("and {} more tenants", tenants.len() - MOST);
    }
}

fn check(counted: &BTreeMap<Event, u64>, fed: &BTreeMap<Event, u64>) -> Result<(), BoxError> {
    let wrong = fed.iter().find(|(event, count)| counted.get(event) != Some(count));
    let Some((event, count)) = wrong else { return Ok(()) };
    let counted = counted.get(event).copied().unwrap_or_default();
    Err(format!("{event:?} came {count} times, {counted} were counted").into())
}
