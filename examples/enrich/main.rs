//! Enriches messages without state: each goes to one of two topics.
//!
//! Lines of a web server's log become JSON with all that they mean; what is no such line goes to a topic
//! for a person to look at. Keys, headers, times and the order are kept. The job is in `enrich.rs`,
//! the data and what should come out in `data.rs`.
#![allow(clippy::print_stdout, reason = "a program that prints")]

#[path = "../common/mod.rs"]
mod common;
mod data;
mod enrich;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Parser;
use comfy_table::Table;
use kasper::testkit::{Feeder, TestMessage};
use kasper::{BoxError, TopicProcessor};

use crate::common::{Kafka, KafkaOptions};
use crate::data::Line;
use crate::enrich::{Enrich, Request};

#[derive(Parser)]
/// Parses lines of a web server's log, and sends them to a topic of requests and one of rejected lines.
struct Options {
    /// How many lines to make up
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    lines: u64,
    /// What the data are made from: the same number, the same data
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    kafka: KafkaOptions,
}

#[tokio::main]
async fn main() -> ExitCode {
    common::exit_code(run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), BoxError> {
    let kafka = Kafka::start("enrich", &options.kafka)?;
    kafka.check_room(options.lines)?;
    let lines = data::generate(options.seed, options.lines);
    let topic = kafka.create_topic("lines").await?;
    let enriched = kafka.create_topic("enriched").await?;
    let rejected = kafka.create_topic("rejected").await?;
    let outputs = (enriched.clone(), rejected.clone());
    let processor = TopicProcessor::builder(&kafka.run, [&topic])
        .brokers(&kafka.brokers)
        .partitions(0..kafka.partitions)
        .max_batch_messages(options.kafka.batch.get())
        .build(move |_| {
            let (enriched, rejected) = outputs.clone();
            Enrich { enriched, rejected }
        })
        .await?;
    let feeder = Feeder::new(&kafka.brokers, &topic, kafka.partitions, processor.handle())?;
    let ((), report) = common::run_while(processor, feed(feeder, &topic, &lines)).await?;

    let (enriched, rejected) = (kafka.read_all(&enriched).await?, kafka.read_all(&rejected).await?);
    let again = data::check(&lines, &enriched, &rejected)?;
    print_table(&enriched, &rejected)?;
    let (batches, seconds) = (report.batches, report.duration.as_secs_f64());
    println!("all as expected ({again} sent again), in {batches} batches, {seconds:.1} s");
    Ok(())
}

/// Sends the lines, each with its number in a header, and waits until they are processed.
async fn feed(mut feeder: Feeder, topic: &str, lines: &[Line]) -> Result<(), BoxError> {
    let progress = common::progress_bar(Some(lines.len() as u64), "lines sent");
    for (number, line) in lines.iter().enumerate() {
        let message = TestMessage::new(topic)
            .key(&line.server)
            .value(&line.text)
            .header("line", number.to_string());
        feeder.send_message(message).await?;
        progress.inc(1);
    }
    feeder.finish().await?;
    progress.finish_and_clear();
    Ok(())
}

/// The requests by section, and what was rejected.
fn print_table(enriched: &[TestMessage], rejected: &[TestMessage]) -> Result<(), BoxError> {
    let mut sections: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for request in common::decoded::<Request>(enriched)? {
        let counts = sections.entry(request.section).or_default();
        counts[0] += 1;
        counts[1] += u64::from(request.failed);
        counts[2] += u64::from(request.slow);
    }
    let mut table = Table::new();
    table.set_header(["section", "requests", "failed", "slow"]);
    for (section, counts) in sections {
        table.add_row([section].into_iter().chain(counts.map(|count| count.to_string())));
    }
    table.add_row(["(rejected)".to_owned(), rejected.len().to_string()]);
    common::print_table(table);
    Ok(())
}
