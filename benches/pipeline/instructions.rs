//! `--instructions`: how many instructions a message takes, the client's and the library's together, as valgrind's
//! callgrind counts them.
//!
//! Machines that are shared have no hardware counters for it. Valgrind counts what each thread executes, whatever else
//! the machine does, so runs differ by less than a percent where times differ by a third. What starts and stops a
//! client is in a run of few messages as in one of many: the difference of the two leaves it out.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio, id};
use std::time::Duration;

use serde_json::{Value, json};

use crate::BROKERS;
use crate::case::{Case, PARTITIONS};
use crate::common::BoxError;
use crate::common::child::sample_within;
use crate::common::contents::Contents;
use crate::common::counting;
use crate::common::measure::Spread;
use crate::common::runs::{Case as _, Results, Size};
use crate::common::table::{line, put, range, thousands};
use crate::common::topics::Topics;
use crate::report::versions;
use crate::rounds::{Plan, told};
use crate::ways;

/// Instructions of a message, by case.
pub(crate) type Counts = Results<Case, f64>;

/// A program is about fifty times slower under valgrind.
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// What librdkafka does for its statistics, twice a second for the library and never for the raw loops. It is left out:
/// it takes about 0.1 % at full speed, and fifty times as much of a run in valgrind, which lasts fifty times longer.
const STATISTICS: &str = "rd_kafka_stats_emit_tmr_cb";

/// The messages of the two topics.
fn messages(quick: bool) -> [u64; 2] {
    if quick { [100_000, 400_000] } else { [200_000, 1_000_000] }
}

/// Every case on both topics.
pub(crate) fn count(plan: &Plan) -> Result<Counts, BoxError> {
    let progress = plan.progress()?;
    progress.note("filling the topics");
    let mut topics = Topics::new(&plan.brokers)?;
    let mut inputs = Vec::new();
    for messages in messages(plan.quick) {
        let counts = [messages / PARTITIONS as u64; PARTITIONS];
        let contents = Contents::new(Size::Small.bytes(), &counts);
        let key = |partition, random| counting::key(PARTITIONS, partition, random);
        inputs.push((topics.create_filled("instructions", &contents, key)?, messages));
    }
    Ok(plan.run(&progress, |case| {
        let mut counted = Vec::new();
        for (input, messages) in &inputs {
            let total = run(plan, &mut topics, case, input, *messages);
            counted.push((*messages, total?));
        }
        per_message(&counted).ok_or_else(|| "more messages took no more instructions".into())
    }))
}

/// From the messages and the instructions of two runs.
#[allow(clippy::cast_precision_loss, reason = "less than 2^53")]
fn per_message(counted: &[(u64, u64)]) -> Option<f64> {
    let [(few, less), (many, more)] = counted else { return None };
    Some(more.checked_sub(*less)? as f64 / many.checked_sub(*few)? as f64)
}

/// The instructions of a run.
fn run(
    plan: &Plan,
    topics: &mut Topics,
    case: Case,
    input: &str,
    messages: u64,
) -> Result<u64, BoxError> {
    let has_output = case.work.has_output();
    let output = has_output.then(|| topics.create("output", PARTITIONS)).transpose()?;
    let mut child = told(case, ways::fastest(case), (input, output.as_deref()), messages)?;
    let counted = total(child.env(BROKERS, &plan.brokers));
    if let Some(output) = output {
        topics.delete(&output)?;
    }
    counted
}

/// Runs a command in valgrind, and reads the total.
fn total(command: &Command) -> Result<u64, BoxError> {
    let log = Log(env::temp_dir().join(format!("kasper-instructions-{}", id())));
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        // On entry to the function it stops collecting, on return it goes on.
        .args([&format!("--toggle-collect={STATISTICS}"), "--collect-atstart=yes"])
        .arg(format!("--log-file={}", log.0.display()))
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = valgrind.spawn().map_err(|error| format!("cannot run valgrind: {error}"))?;
    let _sample = sample_within(RUN_LIMIT, &mut child)?;
    let text = fs::read_to_string(&log.0)?;
    collected(&text).ok_or_else(|| format!("valgrind told no total:\n{text}").into())
}

/// The number in `==4711== Collected : 5364897018`.
fn collected(log: &str) -> Option<u64> {
    let (_, rest) = log.lines().find_map(|line| line.split_once("Collected :"))?;
    rest.trim().parse().ok()
}

/// What valgrind writes; removed when dropped.
struct Log(PathBuf);

impl Drop for Log {
    fn drop(&mut self) {
        // In a directory for temporary files.
        let _left_behind = fs::remove_file(&self.0);
    }
}

const WIDTHS: &[usize] = &[28, 24, 22];

pub(crate) fn table(results: &Counts) -> String {
    let [few, many] = messages(results.plan.quick).map(thousands);
    let bytes = Size::Small.bytes();
    let mut text = format!(
        "\ninstructions: of a message of {bytes} B, {PARTITIONS} partitions, from runs of {few} and {many}\n"
    );
    line(&mut text, &["", "instructions", "more than raw"], WIDTHS);
    for case in &results.runs.in_order() {
        let (all, more) = figures(results, *case);
        let name = case.to_string();
        match all {
            Some(all) => line(&mut text, &[&name, &cell(Some(all)), &cell(more)], WIDTHS),
            None => line(&mut text, &[&name, "failed"], WIDTHS),
        }
    }
    for failure in results.runs.failures() {
        text.push_str(&format!("FAILED {failure}\n"));
    }
    text
}

fn cell(spread: Option<Spread>) -> String {
    let whole = |value: f64| format!("{value:.0}");
    match spread {
        Some(spread) if spread.min < spread.max => range(spread, whole),
        Some(spread) => whole(spread.median),
        None => String::new(),
    }
}

fn figures(results: &Counts, case: Case) -> (Option<Spread>, Option<Spread>) {
    let value = |count: &f64| *count;
    (results.runs.spread(case, &value), results.runs.difference(case, &value))
}

pub(crate) fn json(results: &Counts) -> Value {
    let entry = |case: Case| {
        let ceiling = case.ceiling().map(|ceiling| ceiling.to_string());
        let mut entry = json!({ "name": case.to_string(), "ceiling": ceiling });
        let (all, more) = figures(results, case);
        put(&mut entry, "instructions", all);
        put(&mut entry, "more_than_ceiling", more);
        entry
    };
    json!({
        "benchmark": "pipeline, instructions",
        "versions": versions(),
        "quick": results.plan.quick,
        "rounds": results.plan.rounds,
        "messages": messages(results.plan.quick),
        "results": results.runs.cases().map(entry).collect::<Vec<Value>>(),
        "failures": results.runs.failures(),
    })
}
