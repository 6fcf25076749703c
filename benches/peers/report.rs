//! The results as a table of at most 100 columns and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::case::{Case, PARTITIONS, VALUE_BYTES, Who, Work};
use crate::common::counting::KEYS;
use crate::common::measure::Sample;
use crate::common::runs::Case as _;
use crate::common::table::{decimals, line, put, range, ratio, thousands};
use crate::rounds::Results;
use crate::versions::Versions;

const WIDTHS: &[usize] = &[14, 22, 19, 20, 20, 5];

/// Where the counts are.
fn store(case: Case) -> Option<&'static str> {
    match (case.work, case.who) {
        (Work::Count, Who::KafkaStreams) => Some("RocksDB with a changelog topic"),
        (Work::Count, Who::Goka) => Some("LevelDB with a changelog topic"),
        (Work::Count, _) => Some("Redis"),
        _ => None,
    }
}

pub(crate) fn table(results: &Results, versions: &Versions, left_out: &[String]) -> String {
    let mut text = String::new();
    for work in Work::ALL {
        section(&mut text, results, work);
    }
    let _infallible = write!(
        text,
        "\nMedian of {} rounds [least–most]; ratios are medians of the rounds' own, to ours. CPU and peak \
         memory\nare the client's alone, without Kafka and Redis.\n",
        results.plan.rounds
    );
    if results.runs.cases().any(|case| case.work == Work::Count) {
        text.push_str(
            "Counts: ours, raw and franz-go in Redis, beside the broker; kafka-streams in RocksDB and \
             goka in\nLevelDB, each in its own process, with a changelog topic. goka writes every \
             message's new count, the\nothers once for a batch or a commit.\n",
        );
    }
    for line in &versions.0 {
        let _infallible = write!(text, "\n{line}");
    }
    for line in left_out {
        let _infallible = write!(text, "\n{line}");
    }
    for failure in results.runs.failures() {
        let _infallible = write!(text, "\nFAILED {failure}");
    }
    text
}

/// Nothing, if no case has this work.
fn section(text: &mut String, results: &Results, work: Work) {
    let cases = results.runs.in_order().into_iter().filter(|case| case.work == work);
    let cases: Vec<Case> = cases.collect();
    if cases.is_empty() {
        return;
    }
    heading(text, results, work);
    for case in cases {
        row(text, results, case);
    }
    for who in Who::ALL.into_iter().filter(|who| !who.does(work)) {
        if results.runs.cases().any(|case| case.who == who) {
            line(text, &[&who.to_string(), "–", "–", "–", "–", "–"], WIDTHS);
        }
    }
}

fn heading(text: &mut String, results: &Results, work: Work) {
    let messages = thousands(work.messages(results.plan.quick));
    let keys = match work {
        Work::Count => format!(", {} keys", thousands(KEYS)),
        _ => String::new(),
    };
    let _infallible = writeln!(
        text,
        "\n{}: values of {VALUE_BYTES} B, {PARTITIONS} partitions, {messages} messages{keys}",
        work.label()
    );
    line(text, &["", "k msg/s", "of ours", "CPU µs/msg", "of ours", "MB"], WIDTHS);
}

fn row(text: &mut String, results: &Results, case: Case) {
    let runs = &results.runs;
    let who = case.who.to_string();
    let (Some(rate_of), Some(cpu_of), Some(rss)) = (
        runs.spread(case, &Sample::rate),
        runs.spread(case, &Sample::cpu_us),
        runs.spread(case, &|sample| sample.rss_mb),
    ) else {
        line(text, &[&who, "failed"], WIDTHS);
        return;
    };
    let thousand = |value: f64| format!("{:.0}", value / 1e3);
    let cells: &[&str] = &[
        &who,
        &range(rate_of, thousand),
        &ratio(runs.ratio(case, &Sample::rate), false),
        &range(cpu_of, decimals),
        &ratio(runs.ratio(case, &Sample::cpu_us), false),
        &format!("{:.0}", rss.median),
    ];
    line(text, cells, WIDTHS);
}

pub(crate) fn json(results: &Results, versions: &Versions, left_out: &[String]) -> Value {
    let entries: Vec<Value> = results.runs.cases().map(|case| entry(results, case)).collect();
    json!({
        "benchmark": "peers",
        "quick": results.plan.quick,
        "rounds": results.plan.rounds,
        "partitions": PARTITIONS,
        "value_bytes": VALUE_BYTES,
        "versions": versions.0,
        "left_out": left_out,
        "results": entries,
        "failures": results.runs.failures(),
    })
}

fn entry(results: &Results, case: Case) -> Value {
    let mut entry = json!({
        "name": case.to_string(),
        "compared_with": case.ceiling().map(|ours| ours.to_string()),
        "work": case.work.label(),
        "messages": case.work.messages(results.plan.quick),
        "store": store(case),
    });
    let runs = &results.runs;
    entry["runs"] = json!(runs.of(case).iter().flatten().count());
    put(&mut entry, "msgs_per_s", runs.spread(case, &Sample::rate));
    put(&mut entry, "ratio", runs.ratio(case, &Sample::rate));
    put(&mut entry, "cpu_us_per_msg", runs.spread(case, &Sample::cpu_us));
    put(&mut entry, "cpu_ratio", runs.ratio(case, &Sample::cpu_us));
    put(&mut entry, "rss_mb", runs.spread(case, &|sample| sample.rss_mb));
    entry
}
