//! The results as a table of at most 100 columns and as JSON.

use std::fmt::Write as _;

use rdkafka::util::get_rdkafka_version;
use serde_json::{Value, json};

use crate::case::{Case, PARTITIONS, Work};
use crate::common::measure::Spread;
use crate::common::runs::Case as _;
use crate::common::table::{decimals, line, put, put_bars, range, ratio, thousands, verdict};
use crate::rounds::Results;
use crate::summary::{
    CONSUME_BARS, MEMORY_BAR_MB, METRICS_BAR, P99_BAR_MS, P99_BAR_RATIO, PASS_THROUGH_BARS, Summary,
};

pub(crate) fn table(results: &Results) -> String {
    let mut text = String::new();
    let mut previous = None;
    let (mut met, mut all) = (0, 0);
    for case in &results.runs.in_order() {
        if previous != Some((case.work, case.size)) {
            previous = Some((case.work, case.size));
            heading(&mut text, results, *case);
        }
        let Some(summary) = Summary::of(results, *case) else {
            line(&mut text, &[&case.who.to_string(), "failed"], &[14, 20]);
            continue;
        };
        match case.work {
            Work::Consume | Work::Count | Work::PassThrough | Work::Forward => {
                throughput_row(&mut text, &summary);
            }
            Work::Latency(_) => latency_row(&mut text, &summary),
            Work::Drain => drain_row(&mut text, &summary),
        }
        all += summary.bars.len();
        met += summary.bars.iter().filter(|(_, met)| *met).count();
    }
    let _infallible = write!(
        text,
        "\nMedian of {} rounds [least–most]; ratios are medians of the rounds' own.\n\
         Bars: throughput at least {} of the raw loop's (passed on: {}), CPU at most {} of it \
         (passed on: {}),\nat most {MEMORY_BAR_MB} MB more memory; p99 at most {P99_BAR_MS} ms and {P99_BAR_RATIO} times the raw loop's.\n\
         ours-metrics is compared with ours-static: at most {METRICS_BAR} less, or more CPU.\n\
         {met} of {all} met; `!` marks a figure that misses its bar.",
        results.plan.rounds,
        CONSUME_BARS.throughput,
        PASS_THROUGH_BARS.throughput,
        CONSUME_BARS.cpu,
        PASS_THROUGH_BARS.cpu,
    );
    for failure in results.runs.failures() {
        let _infallible = write!(text, "\nFAILED {failure}");
    }
    text
}

const THROUGHPUT: &[usize] = &[14, 20, 19, 18, 19, 5, 5];
const LATENCY: &[usize] = &[14, 16, 18, 18, 19, 18, 5];
const DRAIN: &[usize] = &[14, 20, 22, 19, 19, 5];

fn heading(text: &mut String, results: &Results, case: Case) {
    let bytes = case.size.bytes();
    let messages = thousands(case.messages(results.plan.quick));
    let (title, columns, widths): (String, &[&str], _) = match case.work {
        Work::Consume | Work::Count | Work::PassThrough | Work::Forward => (
            format!("values of {bytes} B, {PARTITIONS} partitions, {messages} messages"),
            &["", "k msg/s", "of raw", "CPU µs/msg", "of raw", "MB", "bars"],
            THROUGHPUT,
        ),
        Work::Latency(rate) => (
            format!(
                "values of {bytes} B, {} messages a second passed through",
                thousands(rate.messages().into())
            ),
            &["", "p50 ms", "p99 ms", "max ms", "p99 of raw", "producer p99", "bars"],
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
        &format!("{:.0}{}", summary.rss_mb.median, if summary.misses("memory") { "!" } else { "" }),
        verdict(&summary.bars),
    ];
    line(text, cells, THROUGHPUT);
}

fn latency_row(text: &mut String, summary: &Summary) {
    let cell = |spread: Option<Spread>| spread.map_or(String::new(), |it| range(it, decimals));
    let p50 = match (summary.p50_ms, summary.too_much) {
        (None, Some((_, who))) => format!("  more than {who} can carry"),
        (p50, _) => cell(p50),
    };
    let cells: &[&str] = &[
        &summary.case.who.to_string(),
        &p50,
        &cell(summary.p99_ms),
        &cell(summary.max_ms),
        &ratio(summary.p99_ratio, summary.misses("p99")),
        &cell(summary.ack_p99_ms),
        verdict(&summary.bars),
    ];
    line(text, cells, LATENCY);
    if let (Some(_), Some((rounds, who))) = (summary.p50_ms, summary.too_much) {
        let runs = summary.runs;
        let _infallible =
            writeln!(text, "  in {rounds} of {runs} rounds it was more than {who} can carry");
    }
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

/// What was measured.
pub(crate) fn versions() -> Value {
    let (_, librdkafka) = get_rdkafka_version();
    json!({ "kasper": env!("CARGO_PKG_VERSION"), "librdkafka": librdkafka })
}

pub(crate) fn json(results: &Results) -> Value {
    let cases = results.runs.cases();
    let entries: Vec<Value> = cases.map(|case| entry(results, case)).collect();
    json!({
        "benchmark": "pipeline",
        "versions": versions(),
        "quick": results.plan.quick,
        "rounds": results.plan.rounds,
        "partitions": PARTITIONS,
        "bars": {
            "consume_ratio_at_least": CONSUME_BARS.throughput,
            "consume_cpu_ratio_at_most": CONSUME_BARS.cpu,
            "pass_through_ratio_at_least": PASS_THROUGH_BARS.throughput,
            "pass_through_cpu_ratio_at_most": PASS_THROUGH_BARS.cpu,
            "mb_more_at_most": MEMORY_BAR_MB,
            "metrics_cost_at_most": METRICS_BAR,
            "p99_ms_at_most": P99_BAR_MS,
            "p99_ratio_at_most": P99_BAR_RATIO,
        },
        "results": entries,
        "failures": results.runs.failures(),
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
        ("producer_p50_ms", summary.ack_p50_ms),
        ("producer_p99_ms", summary.ack_p99_ms),
    ] {
        put(&mut entry, name, spread);
    }
    if let Some((rounds, who)) = summary.too_much {
        entry["rounds_not_carried"] = json!(rounds);
        entry["not_carried_by"] = json!(who);
    }
    put_bars(&mut entry, &summary.bars);
    entry
}
