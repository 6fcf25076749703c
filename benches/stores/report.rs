//! The results as a table of at most 100 columns and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::calls::Run;
use crate::case::{Case, Who, Work};
use crate::common::measure::{Sample, Spread};
use crate::common::runs::Case as _;
use crate::common::table::{decimals, line, put, put_bars, range, ratio, verdict};
use crate::rounds::Results;

const WIDTHS: &[usize] = &[24, 23, 23, 20, 6];

/// The bar of a case and whether it is met.
fn bars(results: &Results, case: Case) -> Vec<(&'static str, bool)> {
    let ratio = results.runs.ratio(case, &rate);
    let bar = case.bar().zip(ratio);
    bar.map(|(bar, ratio)| ("throughput", ratio.median >= bar)).into_iter().collect()
}

#[allow(clippy::cast_precision_loss, reason = "millions")]
fn rate(run: &Run) -> f64 {
    run.count as f64 / run.seconds
}

fn cpu_us(run: &Run) -> f64 {
    run.sample.as_ref().map_or(f64::NAN, Sample::cpu_us)
}

fn rss_mb(run: &Run) -> f64 {
    run.sample.as_ref().map_or(f64::NAN, |sample| sample.rss_mb)
}

pub(crate) fn table(results: &Results) -> String {
    let mut text = String::new();
    let mut server = None;
    let (mut met, mut all) = (0, 0);
    for case in results.runs.cases().filter(|case| case.who == Who::Ours) {
        if server.replace(case.server) != Some(case.server) {
            let _infallible = writeln!(text, "\n{}", case.server.label());
            let unit = "thousands a second:";
            line(&mut text, &[unit, "raw", "store", "of raw", "bar"], WIDTHS);
        }
        let bars = bars(results, case);
        row(&mut text, results, case, &bars);
        all += bars.len();
        met += bars.iter().filter(|(_, met)| *met).count();
    }
    let _infallible = write!(
        text,
        "\nKeys or, of the counting job, messages. Median of {} rounds [least–most]; ratios are medians \
         of\nthe rounds' own. Bars: 0.9 of raw from 100 keys on and for the counting job; on Redis 1.0 \
         with one\npartition and 1.5 with several. {met} of {all} met; `!` marks a figure that misses its bar.",
        results.plan.rounds
    );
    for failure in results.runs.failures() {
        let _infallible = write!(text, "\nFAILED {failure}");
    }
    text
}

fn row(text: &mut String, results: &Results, case: Case, bars: &[(&'static str, bool)]) {
    let what = match case.work {
        Work::Calls { call, keys, size } => format!("{} {keys} × {}", call.label(), size.label()),
        Work::Count { partitions: 1 } => "count, 1 partition".to_owned(),
        Work::Count { partitions } => format!("count, {partitions} partitions"),
    };
    let thousands = |value: f64| decimals(value / 1e3);
    let cell = |case: Option<Case>| {
        let rate = case.and_then(|case| results.runs.spread(case, &rate));
        rate.map_or("failed".to_owned(), |rate| range(rate, thousands))
    };
    let misses = bars.iter().any(|(_, met)| !met);
    let cells: &[&str] = &[
        &what,
        &cell(case.ceiling()),
        &cell(Some(case)),
        &ratio(results.runs.ratio(case, &rate), misses),
        verdict(bars),
    ];
    line(text, cells, WIDTHS);
}

pub(crate) fn json(results: &Results) -> Value {
    let entries: Vec<Value> = results.runs.cases().map(|case| entry(results, case)).collect();
    json!({
        "benchmark": "stores",
        "quick": results.plan.quick,
        "rounds": results.plan.rounds,
        "results": entries,
        "failures": results.runs.failures(),
    })
}

fn entry(results: &Results, case: Case) -> Value {
    let mut entry = json!({
        "name": case.to_string(),
        "ceiling": case.ceiling().map(|ceiling| ceiling.to_string()),
        "server": case.server.label(),
    });
    let rate_name = match case.work {
        Work::Calls { call, keys, size } => {
            entry["work"] = json!(call.label());
            entry["keys"] = json!(keys);
            entry["value_bytes"] = json!(size.bytes());
            "keys_per_s"
        }
        Work::Count { partitions } => {
            entry["work"] = json!("count");
            entry["partitions"] = json!(partitions);
            entry["messages"] = json!(case.messages(results.plan.quick));
            "msgs_per_s"
        }
    };
    let runs = &results.runs;
    entry["runs"] = json!(runs.of(case).iter().flatten().count());
    put(&mut entry, rate_name, runs.spread(case, &rate));
    put(&mut entry, "ratio", runs.ratio(case, &rate));
    entry["ratio_at_least"] = json!(case.bar());
    if matches!(case.work, Work::Count { .. }) {
        let spread = |value: &dyn Fn(&Run) -> f64| -> Option<Spread> { runs.spread(case, value) };
        put(&mut entry, "cpu_us_per_msg", spread(&cpu_us));
        put(&mut entry, "cpu_ratio", runs.ratio(case, &cpu_us));
        put(&mut entry, "rss_mb", spread(&rss_mb));
    }
    put_bars(&mut entry, &bars(results, case));
    entry
}
