//! `cargo xtask bench target`: `target_latency` against fixed limits of batches, while the load changes.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program with output")]

mod case;
#[allow(dead_code, reason = "each benchmark uses its part of it")]
#[path = "../common/mod.rs"]
mod common;
mod job;
mod load;
mod plot;
mod report;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;

use crate::case::{Case, PARTITIONS};
use crate::common::BoxError;
use crate::common::options::{address, exit, tell};
use crate::common::progress::Progress;
use crate::common::{child, topics::Topics};
use crate::job::Record;
use crate::report::Run;

const BROKERS: &str = "KASPER_TEST_KAFKA";

/// Until everything is committed after the last message: the default commit interval, and some.
const LAST_COMMIT: Duration = Duration::from_millis(1500);

/// Measures `target_latency` against fixed limits of batches, on the Kafka at KASPER_TEST_KAFKA (host:port).
///
/// A producer sends 1,000, 10,000, 100,000, 10,000 and 1,000 messages a second to four partitions. The job counts
/// messages by 1,000 keys and calls a store once a batch: a sleep of 2 or 20 ms, and 2 µs for each key.
///
/// default       the library's defaults: a batch is what has arrived; offsets are committed once a second
/// commit-25ms   the same, and offsets are committed every 25 ms; so in the next two
/// wait-50ms     `max_batch_wait` of 50 ms
/// 100-messages  `max_batch_messages` of 100
/// target-100ms  `target_latency` of 100 ms, which implies a commit interval of 25 ms
/// target-250ms  `target_latency` of 250 ms, which implies a commit interval of 62 ms
///
/// Latency is measured from the `send` of the producer (linger.ms=1) until the job knows that the offset is committed,
/// for every message; all of a step counts, with the change at its beginning. CPU is that of the job's process, which looks at its
/// status every 2 ms for this.
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    /// Steps of 1.5 s instead of 4 s: 2 to 3 minutes in all
    #[arg(long)]
    quick: bool,

    /// Write the results to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw the results as SVG into this file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Only cases whose name, such as `20ms/target-100ms`, contains one of these
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    only: Vec<String>,

    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,

    /// Run one case in this process; used by the benchmark itself
    #[arg(long, hide = true, requires = "input")]
    case: Option<String>,
    #[arg(long, hide = true)]
    input: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    exit(match (&options.case, &options.input) {
        (Some(case), Some(input)) => run_case(case, input),
        _ => run_all(&options),
    })
}

fn run_case(name: &str, input: &str) -> Result<ExitCode, BoxError> {
    let case = Case::all().into_iter().find(|case| case.to_string() == name);
    let case = case.ok_or_else(|| format!("there is no case `{name}`"))?;
    let brokers = address("target", BROKERS)?;
    let record = tokio::runtime::Runtime::new()?.block_on(job::run(case, &brokers, input))?;
    println!("{}", record.to_json());
    Ok(ExitCode::SUCCESS)
}

fn run_all(options: &Options) -> Result<ExitCode, BoxError> {
    let brokers = address("target", BROKERS)?;
    let asked = |case: &Case| {
        let name = case.to_string();
        options.only.is_empty() || options.only.iter().any(|text| name.contains(text.as_str()))
    };
    let cases: Vec<Case> = Case::all().into_iter().filter(asked).collect();
    let step = Duration::from_millis(if options.quick { 1500 } else { 4000 });
    let mut topics = Topics::new(&brokers)?;
    let progress = Progress::new(cases.len() as u64)?;
    let (mut runs, mut failures) = (Vec::new(), Vec::new());
    for case in cases {
        progress.begin(&case);
        match run(&mut topics, &brokers, case, step) {
            Ok(run) => runs.push(run),
            Err(error) => {
                eprintln!("{case}: {error}");
                failures.push(format!("{case}: {error}"));
            }
        }
        progress.end();
    }
    progress.clear();
    if let Some(file) = &options.plot {
        std::fs::write(file, plot::svg(&runs))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    tell(&report::table(&runs), &report::json(&runs), options.json.as_deref(), &failures)
}

/// The job in a process of its own, and the producer in this one.
fn run(topics: &mut Topics, brokers: &str, case: Case, step: Duration) -> Result<Run, BoxError> {
    let topic = topics.create("target", PARTITIONS)?;
    let mut job =
        child::this_program(&case, [("input", &*topic)])?.stdin(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(job.stdout.take().ok_or("the job has no output")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let sent = load::send(brokers, &topic, step);
    if sent.is_ok() {
        std::thread::sleep(LAST_COMMIT);
    }
    // It ends with its input.
    drop(job.stdin.take());
    line.clear();
    output.read_line(&mut line)?;
    child::end(&mut job)?;
    topics.delete(&topic)?;
    Run::new(case, &sent?, &Record::from_json(&line)?)
}
