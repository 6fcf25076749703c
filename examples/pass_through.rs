//! Sends every message of some topics on to another one: the smallest job with output.
//!
//! Prints its partitions as they come and go, and a report at the end. Several of them with the same
//! name share the partitions; the tests start, stop and kill them while messages flow.
#![allow(clippy::print_stdout, reason = "a program that prints")]

use std::time::Duration;

use clap::Parser;
use kasper::{
    Batch, BoxError, Context, Handle, OnError, Processor, RebalanceEvent, TopicProcessor,
};

#[derive(Parser)]
/// Sends every message of the input topics on to the output topic.
struct Options {
    /// Brokers to ask first (host:port,…)
    #[arg(long, default_value = "localhost:9092")]
    brokers: String,
    /// The job's name; all with the same name share the partitions
    #[arg(long, default_value = "pass-through")]
    name: String,
    /// A topic to read; may be given several times
    #[arg(long, required = true)]
    input: Vec<String>,
    /// The topic to write to
    #[arg(long)]
    output: String,
    /// Partition numbers to process without joining the group, such as 0,1,2
    #[arg(long, value_delimiter = ',')]
    partitions: Option<Vec<i32>>,
    /// Use KIP-848, Kafka's newer rebalance protocol
    #[arg(long)]
    consumer_protocol: bool,
    /// Stop when everything there is has been sent on
    #[arg(long)]
    once: bool,
    /// Never finish the first batch of a partition, and print what is buffered: shows what a stalled
    /// job takes
    #[arg(long)]
    stall: bool,
    /// A topic for the messages that cannot be processed; without it, the first of them stops the job
    #[arg(long, value_name = "TOPIC")]
    dead_letters: Option<String>,
    /// Take 5 ms for each batch, and fail for messages whose key is divisible by this number: shows dead letters
    #[arg(long, value_name = "NUMBER")]
    fail_for: Option<std::num::NonZeroU32>,
    /// How much may be fetched ahead, over all partitions
    #[arg(long)]
    max_buffered_bytes: Option<usize>,
    /// The most messages of a batch
    #[arg(long, default_value_t = 10_000)]
    max_batch_messages: usize,
    /// A librdkafka property, such as session.timeout.ms=6000; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = property)]
    kafka: Vec<(String, String)>,
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Clone)]
struct PassThrough {
    output: String,
    stall: bool,
    fail_for: Option<std::num::NonZeroU32>,
}

impl Processor for PassThrough {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        if self.stall {
            std::future::pending::<()>().await;
        }
        if self.fail_for.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for message in batch.iter() {
            if let Some(divisor) = self.fail_for
                && message.key_str()?.parse::<u32>()? % divisor == 0
            {
                return Err(format!("the key is divisible by {divisor}").into());
            }
            context.forward(&self.output, &message);
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let options = Options::parse();
    let mut builder = TopicProcessor::builder(&options.name, &options.input)
        .brokers(&options.brokers)
        .max_batch_messages(options.max_batch_messages)
        .on_rebalance(print_event);
    if let Some(bytes) = options.max_buffered_bytes {
        builder = builder.max_buffered_bytes(bytes);
    }
    for (name, value) in &options.kafka {
        builder = builder.kafka(name, value);
    }
    if let Some(partitions) = &options.partitions {
        builder = builder.partitions(partitions.iter().copied());
    }
    if options.consumer_protocol {
        builder = builder.consumer_protocol();
    }
    if let Some(topic) = &options.dead_letters {
        builder = builder.on_error(OnError::dead_letter(topic));
    }
    let Options { output, stall, fail_for, once, .. } = options;
    let pass_through = PassThrough { output, stall, fail_for };
    let processor = builder.build(move |_| pass_through.clone()).await?;
    if stall {
        tokio::spawn(print_buffered(processor.handle()));
    }
    let report = match once {
        true => processor.run_until_caught_up().await?,
        false => processor.run_until(kasper::shutdown_signal()).await?,
    };
    println!("processed {} messages in {} batches", report.messages, report.batches);
    Ok(())
}

async fn print_buffered(handle: Handle) {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let partitions = handle.status().partitions;
        println!("buffered {}", partitions.iter().map(|p| p.buffered_bytes).sum::<u64>());
    }
}

fn print_event(event: &RebalanceEvent) {
    let (what, partitions) = match event {
        RebalanceEvent::Assigned(partitions) => ("assigned", partitions),
        RebalanceEvent::Revoked(partitions) => ("revoked", partitions),
        RebalanceEvent::Lost(partitions) => ("lost", partitions),
        _ => return,
    };
    let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    println!("{what} {}", names.join(" "));
}
