//! What cannot be processed becomes letters: payments are added up per account, and some of them are malformed.
//!
//! The job is in `payments.rs`. It just returns its errors: Kasper finds the message that fails in its batch, sends it to the
//! dead letter topic, and processes the others. At first the store is away, which makes no letter.
#![allow(clippy::print_stdout, reason = "a program that prints")]

#[path = "../common/mod.rs"]
mod common;
mod payments;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use comfy_table::Table;
use kasper::store::{MapStore, Store};
use kasper::testkit::{Feeder, TestMessage};
use kasper::{Backoff, BoxError, ErrorPolicy, OnError, TopicProcessor};

use crate::common::{Kafka, KafkaOptions};
use crate::payments::{Account, AwayAtFirst, Payments};

#[derive(Parser)]
/// Adds up payments per account; malformed ones go to a dead letter topic.
struct Options {
    /// How many payments to make up
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    payments: u64,
    /// One in so many payments is malformed
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(2..))]
    malformed: u64,
    #[command(flatten)]
    kafka: KafkaOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    common::exit_code(run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), BoxError> {
    let kafka = Kafka::start("dead-letters", &options.kafka)?;
    kafka.check_room(options.payments)?;
    let topic = kafka.create_topic("payments").await?;
    let letters = kafka.create_topic("payments-dead").await?;
    let store = Arc::new(AwayAtFirst::new(MapStore::new(), 3));
    let policy = ErrorPolicy::new(OnError::dead_letter(&letters))
        .retryable(Backoff::new().max_elapsed(Duration::from_secs(60)));
    let shared = store.clone();
    let processor = TopicProcessor::builder(&kafka.run, [&topic])
        .brokers(&kafka.brokers)
        .partitions(0..kafka.partitions)
        .max_batch_messages(options.kafka.batch.get())
        .on_error(policy)
        .build(move |_| Payments { store: shared.clone() })
        .await?;
    let feeder = Feeder::new(&kafka.brokers, &topic, kafka.partitions, processor.handle())?;
    let ((), report) = common::run_while(processor, feed(feeder, &topic, &options)).await?;

    let expected = payments::totals(options.payments, options.malformed);
    for (account, total) in &expected {
        let found = store.get(account).await?.ok_or("an account is missing")?;
        let found = Account::read(&found)?.total;
        if found != *total {
            return Err(format!("{account} should have {total}, not {found}").into());
        }
    }
    let letters = kafka.read_all(&letters).await?;
    check_letters(&letters, &options)?;
    print_table(&expected, &letters);
    println!(
        "all as expected: {} messages, {} of them rejected; the store was away {} times at first",
        report.messages, report.rejected, 3
    );
    Ok(())
}

async fn feed(mut feeder: Feeder, topic: &str, options: &Options) -> Result<(), BoxError> {
    let progress = common::progress_bar(Some(options.payments), "payments sent");
    for number in 0..options.payments {
        let (account, value) = payments::payment(number, options.malformed);
        feeder.send_message(TestMessage::new(topic).key(account).value(value)).await?;
        progress.inc(1);
    }
    feeder.finish().await?;
    progress.finish_and_clear();
    Ok(())
}

/// Every malformed payment has a letter, with its value and the reason, and nothing else has one.
fn check_letters(letters: &[TestMessage], options: &Options) -> Result<(), BoxError> {
    let malformed =
        (0..options.payments).filter(|number| payments::is_malformed(*number, options.malformed));
    let mut expected: Vec<String> =
        malformed.map(|number| payments::payment(number, options.malformed).1).collect();
    let mut found: Vec<String> = Vec::new();
    for letter in letters {
        found.push(letter.value_text().unwrap_or_default().to_owned());
        let reason = letter.header_text("__dlq.errors.message");
        if !reason.is_some_and(|reason| reason.contains("invalid digit")) {
            return Err(format!("a letter has the reason {reason:?}").into());
        }
    }
    expected.sort();
    found.sort();
    found.dedup();
    if found != expected {
        return Err(format!("{} letters, not {}", found.len(), expected.len()).into());
    }
    Ok(())
}

fn print_table(totals: &BTreeMap<String, u64>, letters: &[TestMessage]) {
    let mut table = Table::new();
    table.set_header(["account", "total"]);
    for (account, total) in totals.iter().take(5) {
        table.add_row([account.clone(), total.to_string()]);
    }
    table.add_row(["…".to_owned(), "…".to_owned()]);
    common::print_table(table);
    if let Some(letter) = letters.first() {
        println!("a letter:");
        for (name, _) in &letter.headers {
            println!("  {name}: {}", letter.header_text(name).unwrap_or_default());
        }
    }
}
