//! Counts words: text goes in line by line, counts come out of a store.
//!
//! `cargo run --release --example word_count` needs no server: it starts a broker inside the
//! process and feeds it this repository's own text. The counting is in `count.rs`.
#![allow(clippy::print_stdout, reason = "a program that prints")]

mod count;
mod text;

use std::time::Duration;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use kasper::store::MapStore;
use kasper::testkit::{EmbeddedBroker, Feeder, create_topic};
use kasper::{BoxError, TopicProcessor};

use crate::count::{WordCount, totals};

#[derive(Parser)]
/// Counts words in Kafka messages, with the counts in a store.
struct Options {
    /// Text to count: files, or `-` for standard input [default: this repository's own text]
    #[arg(long, num_args = 1..)]
    input: Vec<String>,
    /// A real Kafka (host:port,…) instead of a broker inside the process
    #[arg(long)]
    brokers: Option<String>,
    /// Partitions of the topic
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,
    /// How many words to print
    #[arg(long, default_value_t = 15)]
    top: usize,
    /// The most lines in a batch
    #[arg(long, default_value_t = 10_000)]
    batch: usize,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    // A topic, and so a group, of its own: each run begins anew, on a real Kafka too.
    let topic = format!("word-count-{}", std::time::UNIX_EPOCH.elapsed()?.as_millis());
    let embedded = match &options.brokers {
        None => Some(EmbeddedBroker::start()?),
        Some(_) => None,
    };
    let brokers = match (&embedded, &options.brokers) {
        (Some(embedded), _) => {
            embedded.create_topic(&topic, options.partitions)?;
            embedded.brokers()
        }
        (None, brokers) => {
            let brokers = brokers.clone().unwrap_or_default();
            create_topic(&brokers, &topic, options.partitions).await?;
            brokers
        }
    };

    let store = MapStore::new();
    let counts = store.clone();
    let processor = TopicProcessor::builder(&topic, [&topic])
        .brokers(&brokers)
        .partitions(0..options.partitions)
        .max_batch_messages(options.batch)
        .build(move |_partition| WordCount::new(counts.clone()))
        .await?;
    let handle = processor.handle();
    let feeder = Feeder::new(&brokers, &topic, options.partitions, handle.clone())?;
    let running = tokio::spawn(processor.run_until(kasper::shutdown_signal()));

    let progress = progress_bar();
    let fed = feed(feeder, &options.input, &progress).await;
    handle.close();
    let report = running.await??;
    let lines = fed?;
    progress.finish_and_clear();

    text::print_table(&totals(&store)?, options.top);
    let seconds = report.duration.as_secs_f64();
    println!("{lines} lines in {} batches, {:.1} s", report.batches, seconds);
    Ok(())
}

/// Sends every line as one message, and waits until all are counted.
async fn feed(mut feeder: Feeder, input: &[String], bar: &ProgressBar) -> Result<u64, BoxError> {
    for source in text::sources(input)? {
        for line in source.lines()? {
            let line = line?;
            feeder.send(line.as_bytes()).await?;
            bar.inc(1);
        }
    }
    Ok(feeder.finish().await?)
}

fn progress_bar() -> ProgressBar {
    let style = "{spinner} {human_pos} lines counted, {per_sec} [{elapsed}]";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
