//! The results as a table of at most 100 columns and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::case::{Case, Work};
use crate::latency::PER_SECOND;
use crate::measure::Spread;
use crate::rounds::Results;
use crate::setup::PARTITIONS;
use crate::summary::{CPU_BAR, P99_BAR_MS, P99_BAR_RATIO, Summary, THROUGHPUT_BAR};

pub(crate) fn table(results: &Results) -> String {
    let mut text = String::new();
    let mut previous = None;
    let (mut met, mut all) = (0, 0);
    for case in &in_order(results) {
        if previous != Some((case.work, case.size)) {
            previous = Some((case.work, case.size));
            heading(&mut text, results, *case);
        }
        let Some(summary) = Summary::of(results, *case) else {
            line(&mut text, &[&case.who.to_string(), "failed"], &[14, 20]);
            continue;
        };
        match case.work {
            Work::Consume | Work::PassThrough => throughput_row(&mut text, &summary),
            Work::Latency => latency_row(&mut text, &summary),
            Work::Drain => drain_row(&mut text, &summary),
        }
        all += summary.bars.len();
        met += summary.bars.iter().filter(|(_, met)| *met).count();
    }
    let _infallible = write!(
        text,
        "\nMedian of {} rounds [least–most]; ratios are medians of the rounds' own.\n\
         Bars: throughput at least {THROUGHPUT_BAR} of the raw loop's, CPU at most {CPU_BAR} of it; \
         p99 at most {P99_BAR_MS} ms\nor {P99_BAR_RATIO} times the raw loop's. \
         {met} of {all} met; `!` marks a figure that misses its bar.",
        results.plan.rounds
    );
    for failure in results.failures() {
        let _infallible = write!(text, "\nFAILED {failure}");
    }
    text
}

/// Each group's raw loops first.
fn in_order(results: &Results) -> Vec<Case> {
    let cases: Vec<Case> = results.runs.iter().map(|(case, _)| *case).collect();
    let group = |case: &Case| {
        cases.iter().position(|other| (other.work, other.size) == (case.work, case.size))
    };
    let mut ordered = cases.clone();
    ordered.sort_by_key(|case| (group(case), case.ceiling().is_some()));
    ordered
}

const THROUGHPUT: &[usize] = &[14, 20, 19, 18, 19, 5, 5];
const LATENCY: &[usize] = &[14, 18, 18, 19, 20, 5, 5];
const DRAIN: &[usize] = &[14, 20, 22, 19, 19, 5];

fn heading(text: &mut String, results: &Results, case: Case) {
    let bytes = case.size.bytes();
    let messages = thousands(case.messages(results.plan.quick));
    let (title, columns, widths): (String, &[&str], _) = match case.work {
        Work::Consume | Work::PassThrough => (
            format!("values of {bytes} B, {PARTITIONS} partitions, {messages} messages"),
            &["", "k msg/s", "of raw", "CPU µs/msg", "of raw", "MB", "bars"],
            THROUGHPUT,
        ),
        Work::Latency => (
            format!(
                "values of {bytes} B, {} messages a second passed through",
                thousands(PER_SECOND)
            ),
            &["", "p50 ms", "p99 ms", "max ms", "p99 of raw", "", "bars"],
            LATENCY,
        ),
        Work::Drain => (
            format!("{messages} messages of {bytes} B, {:?} by partition", case.spread(false)),
            &["", "s to the last", "s to the return", "CPU µs/msg", "of raw", "MB"],
            DRAIN,
        ),
    };
    let _infallible = writeln!(text, "\n{}: {title}", case.work.label());
    line(text, columns, widths);
}

fn throughput_row(text: &mut String, summary: &Summary) {
    let thousand = |value: f64| format!("{:.0}", value / 1e3);
    let cells: &[&str] = &[
        &summary.case.who.to_string(),
        &range(summary.rate, thousand),
        &ratio(summary.ratio, summary.misses("throughput")),
        &range(summary.cpu_us, decimals),
        &ratio(summary.cpu_ratio, summary.misses("cpu")),
        &format!("{:.0}", summary.rss_mb.median),
        verdict(summary),
    ];
    line(text, cells, THROUGHPUT);
}

fn latency_row(text: &mut String, summary: &Summary) {
    let cell = |spread: Option<Spread>| spread.map_or(String::new(), |it| range(it, decimals));
    let cells: &[&str] = &[
        &summary.case.who.to_string(),
        &cell(summary.p50_ms),
        &cell(summary.p99_ms),
        &cell(summary.max_ms),
        &ratio(summary.p99_ratio, summary.misses("p99")),
        "",
        verdict(summary),
    ];
    line(text, cells, LATENCY);
}

fn drain_row(text: &mut String, summary: &Summary) {
    let returned = summary.case.ceiling().map(|_| range(summary.seconds_to_return, decimals));
    let cells: &[&str] = &[
        &summary.case.who.to_string(),
        &range(summary.seconds, decimals),
        &returned.unwrap_or_default(),
        &range(summary.cpu_us, decimals),
        &ratio(summary.cpu_ratio, false),
        &format!("{:.0}", summary.rss_mb.median),
    ];
    line(text, cells, DRAIN);
}

fn verdict(summary: &Summary) -> &'static str {
    match summary.bars.iter().all(|(_, met)| *met) {
        _ if summary.bars.is_empty() => "",
        true => "pass",
        false => "miss",
    }
}

/// The first cell to the left, the others to the right of their columns.
fn line(text: &mut String, cells: &[&str], widths: &[usize]) {
    let mut row = String::new();
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let _infallible = match index {
            0 => write!(row, "{cell:<width$}"),
            _ => write!(row, "{cell:>width$}"),
        };
    }
    text.push_str(row.trim_end());
    text.push('\n');
}

fn range(spread: Spread, format: impl Fn(f64) -> String) -> String {
    format!("{} [{}–{}]", format(spread.median), format(spread.min), format(spread.max))
}

fn ratio(spread: Option<Spread>, misses: bool) -> String {
    let mark = if misses { "!" } else { "" };
    spread.map_or(String::new(), |spread| format!("{}{mark}", range(spread, decimals)))
}

/// Three significant digits or more.
fn decimals(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn json(results: &Results) -> Value {
    let cases = results.runs.iter();
    let entries: Vec<Value> = cases.map(|(case, _)| entry(results, *case)).collect();
    json!({
        "benchmark": "pipeline",
        "quick": results.plan.quick,
        "rounds": results.plan.rounds,
        "partitions": PARTITIONS,
        "bars": {
            "ratio_at_least": THROUGHPUT_BAR,
            "cpu_ratio_at_most": CPU_BAR,
            "p99_ms_at_most": P99_BAR_MS,
            "or_p99_ratio_at_most": P99_BAR_RATIO,
        },
        "results": entries,
        "failures": results.failures(),
    })
}

fn entry(results: &Results, case: Case) -> Value {
    let ceiling = case.ceiling().map(|ceiling| ceiling.to_string());
    let mut entry = json!({
        "name": case.to_string(),
        "ceiling": ceiling,
        "work": case.work.label(),
        "value_bytes": case.size.bytes(),
    });
    let Some(summary) = Summary::of(results, case) else { return entry };
    entry["runs"] = json!(summary.runs);
    entry["messages"] = json!(summary.messages);
    let seconds_to_return = Some(summary.seconds_to_return).filter(|it| it.median > 0.0);
    for (name, spread) in [
        ("msgs_per_s", Some(summary.rate)),
        ("ratio", summary.ratio),
        ("cpu_us_per_msg", Some(summary.cpu_us)),
        ("cpu_ratio", summary.cpu_ratio),
        ("rss_mb", Some(summary.rss_mb)),
        ("seconds", Some(summary.seconds)),
        ("seconds_to_return", seconds_to_return),
        ("p50_ms", summary.p50_ms),
        ("p99_ms", summary.p99_ms),
        ("max_ms", summary.max_ms),
        ("p99_ratio", summary.p99_ratio),
    ] {
        entry[name] = json!(spread.map(|spread| spread.median));
        if let Some(Spread { min, max, .. }) = spread {
            entry[format!("{name}_range")] = json!([min, max]);
        }
    }
    let bars = summary.bars.iter().map(|(name, met)| ((*name).to_owned(), json!(met)));
    entry["bars"] = Value::Object(bars.collect());
    entry
}
