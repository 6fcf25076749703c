//! `cargo xtask bench peers`: the library, raw librdkafka, franz-go, Kafka Streams and goka at the same jobs.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program with output")]

mod case;
mod child;
#[allow(dead_code, reason = "each benchmark uses its part of it")]
#[path = "../common/mod.rs"]
mod common;
mod programs;
mod report;
mod rounds;
mod versions;

use std::process::ExitCode;

use clap::Parser;

use crate::case::{Case, Work};
use crate::child::Task;
use crate::common::BoxError;
use crate::common::options::{Common, address, chosen, exit, tell};
use crate::rounds::{Plan, Rounds};
use crate::versions::Versions;

const BROKERS: &str = "KASPER_TEST_KAFKA";
const REDIS: &str = "KASPER_TEST_REDIS";

/// Measures the library and its peers at the same jobs, on the Kafka at KASPER_TEST_KAFKA and the Redis at
/// KASPER_TEST_REDIS (host:port).
///
/// consume       read messages of 100 B and sum up their sizes
/// pass-through  produce each message again, to another topic; acks=all, idempotent (goka: not, its
///               default), no compression; offsets committed once a second. Producers wait for more
///               messages as long as they do by default: ours and raw 1 ms, franz-go 10 ms, Kafka
///               Streams 100 ms, goka 100 ms or 64 KiB
/// count         count the messages by 5,000 keys. In Redis: per batch an MGET and an MSET of the keys
///               in it. Kafka Streams: `count()` in its own store, RocksDB, with a changelog topic.
///               goka: per message a read and a write of its group table, LevelDB, with a changelog topic
///
/// ours           the library, in a group
/// raw            a loop on librdkafka's C functions, with static partitions; all others are members of a group
/// franz-go       a loop in Go, in a group; for the counts with go-redis
/// kafka-streams  its DSL, at_least_once, commit.interval.ms=1000. A run does the work twice in one JVM (with
///                --quick four times), and the last time is measured: a JVM compiles while it runs
/// goka           a processor in Go, with goka's default settings except for acks and compression; not for
///                consume: its processors emit or keep a table
///
/// `cargo xtask bench peers` compiles the programs in Go and Java; without `go`, or without `javac` and Maven,
/// those are left out.
///
/// Cases take turns, round by round; every run is a process of its own. Throughput is measured from the
/// first message received (after the assignment) to the last one finished: read, acknowledged by the
/// broker, or counted and stored. Kafka Streams stores and acknowledges with the commit of offsets, which
/// it is asked for behind the last message. goka has counted a message when the new count is in LevelDB and
/// acknowledged in the changelog. CPU is user and system time of the process in that time;
/// memory is the peak of the whole run. Not in it: what Kafka and Redis use. Ratios are between runs of
/// the same round, to ours; shown is the median of the rounds, in brackets the range.
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    /// A fifth of the messages: about 3 minutes in all
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    common: Common,

    /// Only cases whose name, such as `pass-through/kafka-streams`, contains one of these; ours, which
    /// they are compared with, runs too
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    only: Vec<String>,

    /// Run one case in this process; used by the benchmark itself
    #[arg(long, hide = true, requires_all = ["brokers", "input", "messages"])]
    case: Option<String>,
    #[arg(long, hide = true)]
    brokers: Option<String>,
    #[arg(long, hide = true)]
    input: Option<String>,
    #[arg(long, hide = true)]
    output: Option<String>,
    #[arg(long, hide = true)]
    messages: Option<u64>,
    #[arg(long, hide = true)]
    redis: Option<String>,
    #[arg(long, hide = true)]
    prefix: Option<String>,
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
        input: options.input.unwrap_or_default(),
        output: options.output,
        messages: options.messages.unwrap_or_default(),
        redis: options.redis.unwrap_or_default(),
        prefix: options.prefix.unwrap_or_default(),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn run_all(options: &Options) -> Result<ExitCode, BoxError> {
    let mut cases = chosen(Case::all(), &options.only)?;
    let mut left_out: Vec<String> =
        cases.iter().filter_map(|case| programs::missing(case.who)).collect();
    left_out.sort();
    left_out.dedup();
    cases.retain(|case| programs::missing(case.who).is_none());
    let rounds = options.common.rounds(options.quick);
    let counts = cases.iter().any(|case| case.work == Work::Count);
    let redis = if counts { address("peers", REDIS)? } else { String::new() };
    let versions = Versions::of(&cases, &redis)?;
    let plan = Plan { brokers: address("peers", BROKERS)?, cases, rounds, quick: options.quick };
    let results = Rounds::new(plan, redis)?.run();
    let table = report::table(&results, &versions, &left_out);
    let json = report::json(&results, &versions, &left_out);
    tell(&table, &json, options.common.json(), results.runs.failures())
}
