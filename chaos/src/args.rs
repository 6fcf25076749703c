//! The arguments of `kasper-chaos`, and what they name: faults, protocols, and ways to break a worker.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

/// Runs processors under faults, and checks from outside that the library's promises hold.
///
/// `cargo xtask chaos` starts the brokers and calls it.
#[derive(Debug, Parser)]
#[command(name = "kasper-chaos", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Run),
    SelfTest(SelfTest),
    Worker(Worker),
}

/// Run workers under faults, and judge what they did.
///
/// Creates topics and a group with names of their own, starts a Redis of its own, a producer, and workers. Then it
/// does one fault at a time, and waits after each until every partition goes on. At the end the producer stops, the
/// workers finish what there is, and what is in the topics and in Redis is compared with what was sent.
///
/// Ends with 0 if all promises were kept, with 1 if one was broken, and with 2 if the run itself failed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Run {
    /// The brokers (host:port,…)
    #[arg(long, env = "KASPER_TEST_KAFKA_CLUSTER")]
    pub(crate) brokers: String,

    /// A script that kills a broker; its argument is 1, 2 or 3. Without it, no broker is killed
    #[arg(long, value_name = "FILE", env = "KASPER_TEST_KAFKA_CLUSTER_KILL")]
    pub(crate) kill_script: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) load: Load,

    /// Let the workers have this defect: the run has to find it
    #[arg(long = "break", value_name = "DEFECT")]
    pub(crate) defect: Option<Defect>,
}

/// The defaults of what `cargo xtask chaos` has no option of its own for.
pub(crate) const WORKERS: u32 = 3;
pub(crate) const PARTITIONS: i32 = 8;
pub(crate) const RATE: u32 = 300;

/// What is run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Load {
    /// For how long faults are done; finishing takes up to some minutes more
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    pub(crate) minutes: f64,

    /// Chooses the faults, their order and their lengths. Default: a random one, which is printed
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,

    /// The faults to choose from, separated by commas. Default: all that the protocol allows
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) faults: Vec<Fault>,

    /// How workers get their partitions
    #[arg(long, default_value = "classic")]
    pub(crate) protocol: Protocol,

    /// How many workers there are, at least 2
    #[arg(long, value_name = "N", default_value_t = WORKERS, value_parser = clap::value_parser!(u32).range(2..=16))]
    pub(crate) workers: u32,

    /// Partitions of the input and of the output
    #[arg(long, value_name = "N", default_value_t = PARTITIONS, value_parser = clap::value_parser!(i32).range(1..=100))]
    pub(crate) partitions: i32,

    /// Messages per second
    #[arg(long, value_name = "N", default_value_t = RATE, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,

    /// Within so many seconds after a fault, all partitions must have committed what was sent before its end
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) progress_within: u64,

    /// Within so many seconds after SIGTERM, a worker must have ended
    #[arg(long, value_name = "SECONDS", default_value_t = 45)]
    pub(crate) end_within: u64,

    /// The most memory that a worker may have had in use (MiB)
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub(crate) memory: u64,

    /// A file for the result as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// A file for a picture: faults, and how far the workers were behind
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// Prove that a run finds defects: one short run for each defect, which has to end with a broken promise.
#[derive(Debug, clap::Args)]
pub(crate) struct SelfTest {
    /// The brokers (host:port,…)
    #[arg(long, env = "KASPER_TEST_KAFKA_CLUSTER")]
    pub(crate) brokers: String,

    /// Only these defects, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<Defect>,
}

/// Be one processor process; `run` starts them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Worker {
    #[arg(long)]
    pub(crate) brokers: String,
    /// The job's name
    #[arg(long)]
    pub(crate) name: String,
    #[arg(long)]
    pub(crate) input: String,
    #[arg(long)]
    pub(crate) output: String,
    /// The dead letter topic
    #[arg(long)]
    pub(crate) letters: String,
    /// Redis, host:port
    #[arg(long)]
    pub(crate) redis: String,
    #[arg(long, default_value = "classic")]
    pub(crate) protocol: Protocol,
    /// The partitions of a worker with static partitions
    #[arg(long, value_delimiter = ',')]
    pub(crate) partitions: Vec<i32>,
    #[arg(long = "break", value_name = "DEFECT")]
    pub(crate) defect: Option<Defect>,
}

/// How workers get their partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    /// The group's older protocol
    Classic,
    /// KIP-848
    Consumer,
    /// Each worker is told its partitions
    Static,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// SIGKILL to a worker; another one starts some seconds later
    KillWorker,
    /// SIGTERM to a worker, which has to end in time; then another one starts
    EndWorker,
    /// SIGSTOP to a worker until the group has given its partitions away, then SIGCONT
    FreezeWorker,
    /// SIGKILL to a broker, which starts again after five seconds
    KillBroker,
    /// SIGKILL to Redis, which starts again some seconds later
    KillRedis,
    /// SIGSTOP to Redis, and SIGCONT some seconds later
    FreezeRedis,
    /// One more worker
    Join,
    /// SIGTERM to a worker, and no other one instead
    Leave,
}

impl Fault {
    /// Whether it can be done to workers of this protocol: static ones neither come nor go.
    pub(crate) fn fits(self, protocol: Protocol) -> bool {
        protocol != Protocol::Static || !matches!(self, Self::Join | Self::Leave)
    }
}

/// What is wrong with a worker on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Defect {
    /// One message in a thousand is not written to the store
    LoseOne,
    /// One message in a thousand is not sent on
    OutputMissing,
    /// Some messages are sent on behind the next one of their key
    Disorder,
    /// `Ok` first, and the writes a second later
    EarlyOk,
    /// Malformed messages are skipped
    DropLetters,
}

/// The name of a value on the command line.
pub(crate) fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
