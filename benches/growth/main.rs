//! `cargo xtask bench growth`: what the library costs where work grows, on a real Kafka.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program with output")]

mod case;
mod child;
#[allow(dead_code, reason = "each benchmark uses its part of it")]
#[path = "../common/mod.rs"]
mod common;
mod idle;
mod processors;
mod report;
mod rounds;
mod series;
mod start;
mod summary;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::case::Case;
use crate::child::Task;
use crate::common::BoxError;
use crate::common::options::{Common, address, chosen, exit, tell};
use crate::rounds::{Plan, Rounds};

const BROKERS: &str = "KASPER_TEST_KAFKA";

/// Measures how the costs of the library grow with what it has to do, on the Kafka at KASPER_TEST_KAFKA
/// (host:port), beside loops on librdkafka's C functions that do the same.
///
/// partitions    consume and pass-through with 4, 32 and 256 partitions and the same messages in all.
///               Bar: at most 1.2 times the CPU per message of 4 partitions
/// topics        consume 1, 4 and 16 input topics of 4 partitions, with the same messages in all.
///               Bar: at most 1.2 times the CPU per message of one topic
/// keys          pass-through with keys of 10 B, 100 B and 1 KiB
/// headers       forward with 0 and 5 headers of 20 B
/// outputs       send 0.1, 1 and 10 messages for each message in. ours-owned makes each value before
///               it sends it; ours sends the input's
/// compression   pass-through of compressible values, with lz4 in both topics
/// rejected      pass-through, where one message in 1,000 cannot be processed and becomes a letter: the
///               processor writes it (dead_letter), names the message (poison), or returns an error
///               (error). Bar: at least 0.9 times the throughput without
/// sleep         consume with a `process` that sleeps 1, 10 and 100 ms for each batch. Possible are
///               10,000 messages (max_batch_messages) for each partition in this time
/// idle          1,000 partitions of an empty topic: CPU of the process. Bar: at most 2 % of a core
/// start         from `build` until the first message of 1,000 partitions with one message each is
///               processed, and until all are. Bar: at most 1 s for all, with static partitions; a
///               group has Kafka's own delay for a first member in it
///
/// Values have 100 B. Producers' batches have at most 16 KiB, in all topics. Who is not called
/// ours-group has static partitions.
///
/// Cases take turns, round by round; every run is a process of its own. Throughput is measured from the
/// first message received to the last one finished: processed, or acknowledged by the broker. CPU is user
/// and system time of the process in that time, with all of librdkafka's threads; memory is the peak of
/// the whole run. Ratios are between runs of the same round; shown is the median of the rounds, in
/// brackets the range.
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    /// A fifth of the messages, shorter idle runs, 1 round: 2 to 3 minutes in all
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    common: Common,

    /// Only cases whose name, such as `partitions/consume/256/ours`, contains one of these; the cases
    /// that they are compared with run too
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    only: Vec<String>,

    /// Run one case in this process; used by the benchmark itself
    #[arg(long, hide = true, requires_all = ["brokers", "inputs", "messages"])]
    case: Option<String>,
    #[arg(long, hide = true)]
    brokers: Option<String>,
    #[arg(long, hide = true, value_delimiter = ',')]
    inputs: Vec<String>,
    #[arg(long, hide = true)]
    output: Option<String>,
    #[arg(long, hide = true)]
    messages: Option<u64>,
    #[arg(long, hide = true)]
    idle_seconds: Option<u64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    exit(match options.case {
        Some(_) => run_case(options),
        None => run_all(&options),
    })
}

fn run_case(options: Options) -> Result<ExitCode, BoxError> {
    let name = options.case.unwrap_or_default();
    child::run(Task {
        case: Case::named(&name).ok_or_else(|| format!("there is no case `{name}`"))?,
        brokers: options.brokers.unwrap_or_default(),
        inputs: options.inputs,
        output: options.output.unwrap_or_default(),
        messages: options.messages.unwrap_or_default(),
        idle: Duration::from_secs(options.idle_seconds.unwrap_or_default()),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn run_all(options: &Options) -> Result<ExitCode, BoxError> {
    let cases = chosen(Case::all(), &options.only)?;
    let brokers = address("growth", BROKERS)?;
    let rounds = options.common.rounds_or(if options.quick { 1 } else { 3 });
    let plan = Plan { brokers, cases, rounds, quick: options.quick };
    let results = Rounds::new(plan)?.run();
    let (table, json) = (report::table(&results), report::json(&results));
    tell(&table, &json, options.common.json(), results.runs.failures())
}
