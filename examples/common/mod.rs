//! What the examples share: their options, Kafka for one run, and how they end.
#![allow(dead_code, reason = "each example uses a part of it")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "programs that print")]

pub(crate) mod count;
pub(crate) mod random;

use std::borrow::Cow;
use std::process::{self, ExitCode};
use std::time::{Duration, UNIX_EPOCH};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use kasper::codec::Json;
use kasper::testkit::{EmbeddedBroker, TestClient, TestMessage};
use kasper::{BoxError, Report, TopicProcessor};
use serde::de::DeserializeOwned;

/// Where Kafka is, and how it is read.
#[derive(clap::Args)]
pub(crate) struct KafkaOptions {
    /// A real Kafka (host:port,…) instead of a broker inside the process
    #[arg(long)]
    brokers: Option<String>,
    /// Partitions of each topic
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,
    /// The most messages in a batch
    #[arg(long, default_value = "10000")]
    pub(crate) batch: std::num::NonZeroUsize,
}

/// Where state is kept.
#[derive(clap::Args)]
pub(crate) struct StoreOptions {
    /// The store: `map:` (in memory), or, with the crate's feature of that name, `local:PATH`,
    /// `redis://…/PREFIX`, `elasticsearch+http://…/INDEX`, `cassandra://…/KEYSPACE/TABLE`
    #[arg(long, value_name = "URL", default_value = "map:")]
    pub(crate) store: String,
}

/// Kafka for one run of an example: an embedded broker, or a real one with topics of the run's own.
pub(crate) struct Kafka {
    pub(crate) brokers: String,
    pub(crate) partitions: i32,
    /// A name that no other run has, on this Kafka or in a store that is still there: the beginning
    /// of every topic's name and of every key.
    pub(crate) run: String,
    client: TestClient,
    embedded: Option<EmbeddedBroker>,
}

impl Kafka {
    pub(crate) fn start(program: &str, options: &KafkaOptions) -> Result<Self, BoxError> {
        let now = UNIX_EPOCH.elapsed()?.as_millis();
        let run = format!("{program}-{now}-{}", process::id());
        let (embedded, brokers) = match &options.brokers {
            Some(brokers) => (None, brokers.clone()),
            None => {
                let embedded = EmbeddedBroker::start()?;
                let brokers = embedded.brokers();
                (Some(embedded), brokers)
            }
        };
        let client = TestClient::new(&*brokers, &[])?;
        Ok(Self { brokers, partitions: options.partitions, run, client, embedded })
    }

    /// Creates a topic of this run, and returns its name.
    pub(crate) async fn create_topic(&self, name: &str) -> Result<String, BoxError> {
        let topic = format!("{}-{name}", self.run);
        match &self.embedded {
            Some(embedded) => embedded.create_topic(&topic, self.partitions)?,
            None => self.client.create_topic(&topic, self.partitions).await?,
        }
        Ok(topic)
    }

    /// Makes sure that so many short messages, spread evenly over the partitions of a topic, are all
    /// kept until they are read. The embedded broker drops the oldest where a partition grows over 5 MiB.
    pub(crate) fn check_room(&self, messages: u64) -> Result<(), BoxError> {
        const KEPT: u64 = 20_000;
        let room = KEPT * u64::from(self.partitions.unsigned_abs());
        if self.embedded.is_none() || messages <= room {
            return Ok(());
        }
        let partitions = self.partitions;
        Err(format!(
            "the broker inside the process keeps {room} messages on {partitions} partitions, not \
             {messages}: take fewer, or more --partitions, or a real Kafka with --brokers"
        )
        .into())
    }

    /// Everything that a topic holds.
    pub(crate) async fn read_all(&self, topic: &str) -> Result<Vec<TestMessage>, BoxError> {
        Ok(self.client.read_all(topic).await?)
    }
}

/// Runs the processor while it is fed, and closes it afterwards.
pub(crate) async fn run_while<T>(
    processor: TopicProcessor,
    feeding: impl Future<Output = Result<T, BoxError>>,
) -> Result<(T, Report), BoxError> {
    let handle = processor.handle();
    let running = tokio::spawn(processor.run_until(kasper::shutdown_signal()));
    let fed = feeding.await;
    handle.close();
    // The processor's own error first: a feeder only knows that its reader is gone.
    let report = running.await??;
    Ok((fed?, report))
}

/// A bar for so many messages; a spinner where nobody knows how many.
pub(crate) fn progress_bar(total: Option<u64>, what: &'static str) -> ProgressBar {
    let (bar, style) = match total {
        Some(total) => (ProgressBar::new(total), "{wide_bar} {human_pos}/{human_len} {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {human_pos} {msg}"),
    };
    let style = ProgressStyle::with_template(&format!("{style}, {{per_sec}} [{{elapsed}}]"));
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = bar.with_style(style).with_message(Cow::Borrowed(what));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// The values of these messages.
pub(crate) fn decoded<T: DeserializeOwned>(messages: &[TestMessage]) -> Result<Vec<T>, BoxError> {
    let value = |message: &TestMessage| message.decode(Json)?.ok_or_else(|| "a tombstone".into());
    messages.iter().map(value).collect()
}

/// Prints a table whose columns are numbers, but for the first.
pub(crate) fn print_table(mut table: Table) {
    table.load_style(presets::UTF8_BORDERS_ONLY);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

/// The end of `main`: an error is printed with all its causes, and the program fails.
pub(crate) fn exit_code(result: Result<(), BoxError>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let causes = std::iter::successors(error.source(), |error| error.source());
    let causes: String = causes.map(|cause| format!(": {cause}")).collect();
    eprintln!("error: {error}{causes}");
    ExitCode::FAILURE
}
