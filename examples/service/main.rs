//! A service with all that one needs beside its job: configuration from the environment, state in a store, logs in
//! JSON, metrics, health checks, a graceful shutdown. Copy this directory to begin one of your own.
//!
//! It enriches orders with their customers; `job.rs` has that. With the topics created, and a Kafka and a Redis at hand:
//!
//!     ORDERS_BROKERS=localhost:9092 cargo run --features admin,prometheus,logging,config,redis --example service -- --store redis://localhost/orders
//!
//! Then `curl localhost:9090/health/ready`, `/status`, `/metrics`, and http://localhost:9090 in a browser.

mod job;

use std::time::Duration;

use clap::Parser;
use kasper::logging::Logging;
use kasper::store;
use kasper::{TopicProcessor, metrics};
use tracing::{error, info};

use crate::job::{Orders, Topics};

#[derive(Parser)]
/// Enriches orders with their customers, and counts them for each tenant.
///
/// Environment variables that begin with ORDERS_ configure the connection to Kafka, the limits and the admin server:
/// ORDERS_BROKERS, ORDERS_KAFKA_SASL_PASSWORD, ORDERS_MAX_BATCH_MESSAGES, ORDERS_ADMIN, …
struct Options {
    /// Where customers and totals are kept
    #[arg(long, value_name = "URL", default_value = "redis://localhost/orders")]
    store: String,
    /// What the names of topics and of the consumer group begin with
    #[arg(long, default_value = "")]
    prefix: String,
    /// How often the totals that have changed are sent, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    summary_every: u64,
}

#[tokio::main]
async fn main() -> kasper::Result<()> {
    let options = Options::parse();
    Logging::json("orders").init()?;
    run(options).await
}

async fn run(options: Options) -> kasper::Result<()> {
    let topics = Topics::new(&options.prefix);
    let store = store::connect_multi(&options.store).await;
    let store = store.inspect_err(|error| error!("cannot use the store: {error:#}"))?;
    let name = format!("{}order-service", options.prefix);
    let processor = TopicProcessor::builder(name, [&topics.customers, &topics.orders])
        .brokers("localhost:9092")
        .admin("127.0.0.1:9090")
        .config_from_env("ORDERS")
        .metrics(metrics::prometheus()?)
        .tick_every(Duration::from_secs(options.summary_every))
        .build(move |start| {
            // A short outage of the store is waited for; a longer one stops the service, which is then started again.
            let store = start.store("orders", store.clone());
            Orders::new(topics.clone(), start.partition(), &store)
        })
        .await?;
    let report = processor.run_until(kasper::shutdown_signal()).await?;
    info!(messages = report.messages, batches = report.batches, "stopped");
    Ok(())
}
