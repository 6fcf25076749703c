//! The results as a table of at most 100 columns and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::case::Case;
use crate::common::measure::Spread;
use crate::common::runs::Case as _;
use crate::common::table::{decimals, line, put, put_bars, range, ratio, thousands, verdict};
use crate::rounds::Results;
use crate::series::{Act, Series, Told, VALUE_BYTES};
use crate::summary::{GROWTH_BAR, IDLE_BAR_PERCENT, REJECTED_BAR, START_BAR_SECONDS, Summary};

/// A column behind the case's name: its title, its width, what stands in it.
type Column = (&'static str, usize, fn(&Summary) -> String);

const RATE: Column = ("k msg/s", 20, |it| range(it.rate, kilo));
const RATE_OF_RAW: Column = ("of raw", 19, |it| ratio(it.ratio, false));
const CPU: Column = ("CPU µs/msg", 18, |it| range(it.cpu_us, decimals));
const CPU_OF_RAW: Column = ("of raw", 18, |it| ratio(it.cpu_ratio, false));
const GROWTH: Column = ("of the first", 19, |it| ratio(it.growth, it.misses()));
const GROWTH_ONLY: Column = ("of the first", 19, |it| ratio(it.growth, false));
const RATE_OF_FIRST: Column = ("of the first", 19, |it| ratio(it.rate_of_first, it.misses()));
const POSSIBLE: Column = ("k possible", 12, |it| it.possible.map_or(String::new(), kilo));
const OF_POSSIBLE: Column = ("of it", 19, |it| ratio(it.of_possible, false));
const IDLE: Column = ("% of a core", 20, |it| ratio(it.idle_percent, it.misses()));
const FIRST: Column = ("s to the first", 20, |it| ratio(it.first_seconds, false));
const ALL: Column = ("s to all", 20, |it| ratio(it.all_seconds, it.misses()));
const MEMORY: Column = ("MB", 5, |it| format!("{:.0}", it.rss_mb.median));
const BARS: Column = ("bars", 5, |it| verdict(&it.bars).to_owned());

const NAME_WIDTH: usize = 15;

fn columns(told: Told) -> &'static [Column] {
    match told {
        Told::Growth => &[RATE, CPU, CPU_OF_RAW, GROWTH, MEMORY, BARS],
        Told::BesideRaw => &[RATE, RATE_OF_RAW, CPU, CPU_OF_RAW, MEMORY],
        Told::Rejected => &[RATE, RATE_OF_FIRST, CPU, GROWTH_ONLY, MEMORY, BARS],
        Told::Sleep => &[RATE, POSSIBLE, OF_POSSIBLE, CPU, MEMORY],
        Told::Idle => &[IDLE, CPU_OF_RAW, MEMORY, BARS],
        Told::Start => &[FIRST, ALL, MEMORY, BARS],
    }
}

fn kilo(value: f64) -> String {
    format!("{:.0}", value / 1e3)
}

pub(crate) fn table(results: &Results) -> String {
    let mut text = String::new();
    let (mut met, mut all) = (0, 0);
    for series in Series::ALL {
        let cases: Vec<Case> = results.runs.cases().filter(|case| case.series == series).collect();
        if cases.is_empty() {
            continue;
        }
        let columns = columns(series.told);
        let widths: Vec<usize> =
            [NAME_WIDTH].into_iter().chain(columns.iter().map(|(_, width, _)| *width)).collect();
        let _infallible = writeln!(text, "\n{}: {}", series.name, title(results, &cases, series));
        let titles: Vec<&str> =
            [""].into_iter().chain(columns.iter().map(|(title, ..)| *title)).collect();
        line(&mut text, &titles, &widths);
        for case in cases {
            let name = format!("{} {}", case.step.label, case.who);
            let summary = Summary::of(results, case);
            let cells: Vec<String> = match &summary {
                Some(summary) => columns.iter().map(|(.., cell)| cell(summary)).collect(),
                None => vec!["failed".to_owned()],
            };
            let cells: Vec<&str> =
                [name.as_str()].into_iter().chain(cells.iter().map(String::as_str)).collect();
            line(&mut text, &cells, &widths);
            let bars = summary.map(|summary| summary.bars).unwrap_or_default();
            all += bars.len();
            met += bars.iter().filter(|(_, met)| *met).count();
        }
    }
    let _infallible = write!(
        text,
        "\nMedian of {} rounds [least–most]; ratios are medians of the rounds' own, `of the first` to the \
         CPU at\nthe first step. Bars: CPU at most {GROWTH_BAR} of the first step's; throughput with \
         rejected messages\nat least {REJECTED_BAR} of that without; idle at most {IDLE_BAR_PERCENT} % of a core; all \
         partitions read after {START_BAR_SECONDS} s.\n{met} of \
         {all} met; `!` marks a figure that misses its bar.",
        results.plan.rounds,
    );
    for failure in results.runs.failures() {
        let _infallible = write!(text, "\nFAILED {failure}");
    }
    text
}

/// With how many messages each step has.
fn title(results: &Results, cases: &[Case], series: &Series) -> String {
    let count = |case: &Case| thousands(case.input().messages(results.plan.quick));
    let mut counts: Vec<String> = cases.iter().map(count).collect();
    counts.dedup();
    match series.told {
        Told::Idle | Told::Start => series.title.to_owned(),
        _ => format!("{}; {} messages", series.title, counts.join(" / ")),
    }
}

pub(crate) fn json(results: &Results) -> Value {
    let entries: Vec<Value> = results.runs.cases().map(|case| entry(results, case)).collect();
    json!({
        "benchmark": "growth",
        "quick": results.plan.quick,
        "rounds": results.plan.rounds,
        "value_bytes": VALUE_BYTES,
        "bars": {
            "growth_at_most": GROWTH_BAR,
            "rejected_at_least": REJECTED_BAR,
            "idle_percent_at_most": IDLE_BAR_PERCENT,
            "start_seconds_at_most": START_BAR_SECONDS,
        },
        "results": entries,
        "failures": results.runs.failures(),
    })
}

fn entry(results: &Results, case: Case) -> Value {
    let input = case.input();
    let mut entry = json!({
        "name": case.to_string(),
        "ceiling": case.ceiling().map(|ceiling| ceiling.to_string()),
        "first_step": case.base().map(|first| first.to_string()),
        "topics": input.topics,
        "partitions": input.partitions,
        "messages": input.messages(results.plan.quick),
        "key_bytes": input.key_bytes,
        "headers": input.headers,
    });
    let Some(summary) = Summary::of(results, case) else { return entry };
    entry["runs"] = json!(summary.runs);
    let of_messages = |spread: Spread| Some(spread).filter(|_| case.step.act != Act::Idle);
    for (name, spread) in [
        ("msgs_per_s", of_messages(summary.rate)),
        ("ratio", summary.ratio),
        ("cpu_us_per_msg", of_messages(summary.cpu_us)),
        ("cpu_ratio", summary.cpu_ratio),
        ("growth", summary.growth),
        ("rate_of_first", summary.rate_of_first),
        ("rss_mb", Some(summary.rss_mb)),
        ("of_possible", summary.of_possible),
        ("idle_percent", summary.idle_percent),
        ("first_seconds", summary.first_seconds),
        ("all_seconds", summary.all_seconds),
    ] {
        put(&mut entry, name, spread);
    }
    entry["possible_msgs_per_s"] = json!(summary.possible);
    put_bars(&mut entry, &summary.bars);
    entry
}
