//! Counts words: text goes in line by line, counts come out of a store.
//!
//! `cargo run --release --example word_count` needs no server: it starts a broker inside the
//! process and feeds it this repository's own text. The counting is in `count.rs`.
#![allow(clippy::print_stdout, reason = "a program that prints")]

#[path = "../common/mod.rs"]
mod common;
mod count;
mod text;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::mpsc;

use clap::Parser;
use indicatif::ProgressBar;
use kasper::codec::Json;
use kasper::store::{self, TypedStore};
use kasper::testkit::Feeder;
use kasper::{BoxError, TopicProcessor};

use crate::common::{Kafka, KafkaOptions, StoreOptions};
use crate::count::{Counts, WordCount, totals};

#[derive(Parser)]
/// Counts words in Kafka messages, with the counts in a store.
struct Options {
    /// Text to count: files, or `-` for standard input [default: this repository's own text]
    #[arg(long, num_args = 1..)]
    input: Vec<String>,
    /// How many words to print
    #[arg(long, default_value_t = 15)]
    top: usize,
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
    let counts: Counts = TypedStore::new(store::connect(&options.store.store).await?, Json);
    let kafka = Kafka::start("word-count", &options.kafka)?;
    let topic = kafka.create_topic("lines").await?;
    let of_job = counts.clone();
    let processor = TopicProcessor::builder(&kafka.run, [&topic])
        .brokers(&kafka.brokers)
        .partitions(0..kafka.partitions)
        .max_batch_messages(options.kafka.batch.get())
        .build(move |start| WordCount::new(start.name(), &of_job))
        .await?;

    let progress = common::progress_bar(None, "lines sent");
    let feeder = Feeder::new(&kafka.brokers, &topic, kafka.partitions, processor.handle())?;
    let feeding = feed(feeder, &options.input, &progress);
    let ((lines, fed), report) = common::run_while(processor, feeding).await?;
    progress.finish_and_clear();

    let counted = totals(&counts, &kafka.run, kafka.partitions, fed.keys()).await?;
    text::print_totals(&counted, options.top);
    let seconds = report.duration.as_secs_f64();
    println!("{lines} lines in {} batches, {seconds:.1} s", report.batches);
    check(&counted, &fed)
}

/// Sends every line as one message, and waits until all are counted. Returns how many there were, and
/// what should have been counted.
async fn feed(
    mut feeder: Feeder,
    input: &[String],
    progress: &ProgressBar,
) -> Result<(u64, HashMap<String, u64>), BoxError> {
    let (fed, lines) = mpsc::channel();
    let counting = tokio::task::spawn_blocking(|| text::count_words(lines));
    for source in text::sources(input)? {
        for line in source.lines()? {
            let line = line?;
            feeder.send(line.as_bytes()).await?;
            fed.send(line)?;
            progress.inc(1);
        }
    }
    drop(fed);
    Ok((feeder.finish().await?, counting.await?))
}

fn check(counted: &HashMap<String, u64>, fed: &HashMap<String, u64>) -> Result<(), BoxError> {
    let mut words: Vec<_> =
        fed.iter().filter(|(word, fed)| counted.get(*word) != Some(fed)).collect();
    words.sort();
    let Some((word, fed)) = words.first() else { return Ok(()) };
    let counted = counted.get(*word).copied().unwrap_or_default();
    let wrong = words.len();
    Err(format!("{wrong} counts are wrong: `{word}` came {fed} times, {counted} were counted")
        .into())
}
