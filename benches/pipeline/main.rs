//! `cargo xtask bench pipeline`: the library against raw librdkafka, on a real Kafka.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program with output")]

mod case;
mod child;
#[allow(dead_code, reason = "each benchmark uses its part of it")]
#[path = "../common/mod.rs"]
mod common;
mod instructions;
mod latency;
mod report;
mod rounds;
mod summary;
mod sweep;
mod ways;

use std::process::ExitCode;

use clap::Parser;

use crate::case::Case;
use crate::child::Task;
use crate::common::BoxError;
use crate::common::options::{Common, address, chosen, exit, tell};
use crate::rounds::{Plan, Rounds};

const BROKERS: &str = "KASPER_TEST_KAFKA";

/// Measures the library against raw librdkafka, on the Kafka at KASPER_TEST_KAFKA (host:port).
///
/// consume       read messages of 100 B and 1 KiB: raw (poll message by message; batches of 1000) and
///               the library, with static partitions and in a group
/// pass-through  produce each message again, to the same partition of another topic; acks=all,
///               idempotent; offsets committed once a second. `-1` is one batch in flight (the library:
///               per partition)
/// forward       the same with timestamps kept, and the partition chosen by the key
/// latency       pass-through of 1,000, 10,000 and 100,000 messages/s: from the `send` of a producer with
///               `linger.ms=5` to the reader of the output
/// drain         read 40,000 messages where one of four partitions is empty and the others run dry
///               one after the other
///
/// `--instructions` counts the instructions that a message takes, the client's and the library's, with valgrind: of
/// consuming, counting by key in memory, pass-through and forward, 100 B. Two topics of different size are read, and
/// the difference is told, so that starting does not count.
///
/// The raw loops are the fastest that were found; `--sweep` looks for them again. They do not keep
/// apart whose messages fail, bound memory by partition, or notice rebalances, which the library does.
///
/// `ours-metrics` is `ours-static` with metrics for Prometheus, and compared with that.
///
/// Cases take turns, round by round; every run is a process of its own. Throughput is measured from
/// the first message received (after the assignment) to the last one finished: read, or
/// acknowledged by the broker. CPU is user and system time of the process in that time, with all
/// of librdkafka's threads; memory is the peak of the whole run. Ratios are between runs of the same
/// round, ours to the raw loop's; shown is the median of the rounds, in brackets the range.
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    /// A fifth of the messages and shorter latency runs: 4 to 5 minutes in all
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    common: Common,

    /// Only these cases, such as `pass-through/1KiB/ours-group-1`, or those whose names contain one of these; the
    /// raw loops that they are compared with run too
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    only: Vec<String>,

    /// Instead of the cases, look for the fastest raw loops: batch sizes, batches in flight, copied or not, linger,
    /// how much is fetched ahead
    #[arg(long)]
    sweep: bool,

    /// Instead of time, count instructions; once, unless `--rounds` says otherwise
    #[arg(long, conflicts_with = "sweep")]
    instructions: bool,

    /// Run one case in this process; used by the benchmark itself
    #[arg(long, hide = true, requires_all = ["input", "messages"])]
    case: Option<String>,
    #[arg(long, hide = true)]
    input: Option<String>,
    #[arg(long, hide = true)]
    output: Option<String>,
    #[arg(long, hide = true)]
    messages: Option<u64>,
    #[arg(long, hide = true)]
    way: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    exit(match options.case {
        Some(_) => run_case(options),
        None => run_all(&options),
    })
}

fn brokers() -> Result<String, BoxError> {
    address("pipeline", BROKERS)
}

fn run_case(options: Options) -> Result<ExitCode, BoxError> {
    let name = options.case.unwrap_or_default();
    let case = Case::named(&name).ok_or_else(|| format!("there is no case `{name}`"))?;
    let way = options.way.map(|way| serde_json::from_str(&way)).transpose()?;
    child::run(Task {
        case,
        way: way.unwrap_or_else(|| ways::fastest(case)),
        brokers: brokers()?,
        input: options.input.unwrap_or_default(),
        output: options.output,
        messages: options.messages.unwrap_or_default(),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn run_all(options: &Options) -> Result<ExitCode, BoxError> {
    let quick = options.quick;
    if options.instructions {
        let cases = chosen(Case::counted(), &options.only)?;
        let rounds = options.common.rounds_or(1);
        let results = instructions::count(&Plan { brokers: brokers()?, cases, rounds, quick })?;
        let (table, json) = (instructions::table(&results), instructions::json(&results));
        return tell(&table, &json, options.common.json(), results.runs.failures());
    }
    let cases = chosen(Case::all(), &options.only)?;
    let rounds = options.common.rounds(quick);
    let plan = Plan { brokers: brokers()?, cases, rounds, quick };
    if options.sweep {
        let cases = plan.cases.clone();
        sweep::run(Rounds::new(plan)?, &cases)?;
        return Ok(ExitCode::SUCCESS);
    }
    let results = Rounds::new(plan)?.run()?;
    let (table, json) = (report::table(&results), report::json(&results));
    tell(&table, &json, options.common.json(), results.runs.failures())
}
