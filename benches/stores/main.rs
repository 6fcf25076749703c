//! `cargo xtask bench stores`: the stores against their servers' raw drivers.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program with output")]

mod calls;
mod case;
#[allow(dead_code, reason = "each benchmark uses its part of it")]
#[path = "../common/mod.rs"]
mod common;
mod counting;
mod place;
mod raw;
mod report;
mod rounds;

use std::process::ExitCode;

use clap::{Parser, ValueEnum as _};
use tokio::runtime::Runtime;

use crate::case::{Case, Server, Work};
use crate::common::BoxError;
use crate::common::options::{Common, address, chosen, exit, tell};
use crate::counting::Task;
use crate::place::Place;
use crate::rounds::{Plan, Rounds};

const BROKERS: &str = "KASPER_TEST_KAFKA";

/// Measures the stores against the raw drivers of their servers.
///
/// get_many, write_many   1, 100, 1,000 and 10,000 keys in a call, with values of 100 B and 1 KiB. Raw:
///                        MGET and MSET; a pipeline to each server of a cluster; concurrent prepared
///                        statements; _mget and _bulk; the storage engine's own calls
/// count                  the whole job: messages of a topic are counted by key, with the counts in the
///                        store. Raw: a loop on librdkafka's C functions that takes up to 10,000
///                        messages, reads, adds, writes, and takes the next
///
/// Raw driver and store take turns: call by call within each round, whole jobs one after the other,
/// each in a process of its own. Ratios are between runs of the same round, the store's to the raw
/// one's; shown is the median of the rounds, in brackets the range.
///
/// Servers are where KASPER_TEST_REDIS, KASPER_TEST_REDIS_CLUSTER, KASPER_TEST_CASSANDRA,
/// KASPER_TEST_ELASTICSEARCH and KASPER_TEST_OPENSEARCH say (host:port), and Kafka, for the
/// counting, at KASPER_TEST_KAFKA; `cargo xtask bench stores` starts those that are not set. One
/// that is missing is an error: `--on` leaves it out.
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    /// Less time for calls, a fourth of the messages, fewer rounds: 3 to 4 minutes in all
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    common: Common,

    /// Only these servers
    #[arg(long, value_name = "SERVER", num_args = 1..)]
    on: Vec<Server>,

    /// Only cases whose name, such as `redis/get_many/100/1KiB/ours`, contains one of these; the raw
    /// ones that they are compared with run too
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    only: Vec<String>,

    /// Run one counting job in this process; used by the benchmark itself
    #[arg(long, hide = true, requires_all = ["input", "messages", "place"])]
    case: Option<String>,
    #[arg(long, hide = true)]
    input: Option<String>,
    #[arg(long, hide = true)]
    messages: Option<u64>,
    #[arg(long, hide = true)]
    place: Option<String>,
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
    let all = Case::all(Server::value_variants()).into_iter();
    let case = all.into_iter().find(|case| case.to_string() == name);
    let case = case.ok_or_else(|| format!("there is no case `{name}`"))?;
    let place = Place::new(case.server, case.who, "")?;
    let task = Task {
        case,
        brokers: address("stores", BROKERS)?,
        input: options.input.unwrap_or_default(),
        place: Place { name: options.place.unwrap_or_default(), ..place },
        messages: options.messages.unwrap_or_default(),
    };
    let sample = Runtime::new()?.block_on(counting::run(task))?;
    println!("{}", sample.to_json());
    Ok(ExitCode::SUCCESS)
}

fn run_all(options: &Options) -> Result<ExitCode, BoxError> {
    let servers = match options.on.is_empty() {
        true => Server::value_variants(),
        false => &options.on,
    };
    let cases = chosen(Case::all(servers), &options.only)?;
    let rounds = options.common.rounds(options.quick);
    let counts = cases.iter().any(|case| matches!(case.work, Work::Count { .. }));
    let brokers = if counts { address("stores", BROKERS)? } else { String::new() };
    let plan = Plan { brokers, cases, rounds, quick: options.quick };
    let results = Rounds::new(plan)?.run()?;
    let (table, json) = (report::table(&results), report::json(&results));
    tell(&table, &json, options.common.json(), results.runs.failures())
}
