//! What came of the runs: figures of each step, and over time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::case::{Case, PARTITIONS};
use crate::common::BoxError;
use crate::common::table::{decimals, line, thousands};
use crate::job::Record;
use crate::load::Sent;

/// A point of the plot.
const WINDOW: Duration = Duration::from_millis(500);

/// Of a part of a run. Latencies are those of the messages that were sent in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Messages a second.
    pub(crate) rate: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) batch_messages: f64,
    pub(crate) calls_per_second: f64,
    pub(crate) cpu_percent: f64,
}

pub(crate) struct Run {
    pub(crate) case: Case,
    pub(crate) steps: Vec<Figures>,
    /// Seconds since the first step, and what is so in the half second that begins there.
    pub(crate) windows: Vec<(f64, Figures)>,
}

impl Run {
    pub(crate) fn new(case: Case, sent: &Sent, record: &Record) -> Result<Self, BoxError> {
        let mut latencies = latencies(sent, record)?;
        latencies.sort_unstable();
        let (first, last) = sent.steps.first().zip(sent.steps.last()).ok_or("no steps")?;
        let steps = sent.steps.iter();
        let steps = steps.map(|step| figures(&latencies, record, step.rate, step.begin, step.end));
        let window = u64::try_from(WINDOW.as_nanos())?;
        let count = (last.end - first.begin) / window;
        let windows = (0..count).map(|index| {
            let begin = first.begin + index * window;
            let step = sent.steps.iter().rfind(|step| step.begin <= begin);
            let rate = step.map_or(0, |step| step.rate);
            (seconds(begin - first.begin), figures(&latencies, record, rate, begin, begin + window))
        });
        Ok(Self { case, steps: steps.collect(), windows: windows.collect() })
    }
}

#[allow(clippy::cast_precision_loss, reason = "nanoseconds of less than days")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// Of each message, when it was sent and how long it took until it was committed.
fn latencies(sent: &Sent, record: &Record) -> Result<Vec<(u64, u64)>, BoxError> {
    let mut latencies = Vec::new();
    let mut committed = [0; PARTITIONS];
    for (at, partition, next) in &record.commits {
        let next = usize::try_from(*next)?;
        let times = sent.times[*partition].get(committed[*partition]..next);
        let times = times.ok_or("more was committed than sent")?;
        latencies.extend(times.iter().map(|sent| (*sent, at.saturating_sub(*sent))));
        committed[*partition] = next;
    }
    match (0..PARTITIONS).all(|partition| committed[partition] == sent.times[partition].len()) {
        true => Ok(latencies),
        false => Err("the load was not carried: not everything was committed at the end".into()),
    }
}

#[allow(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn figures(latencies: &[(u64, u64)], record: &Record, rate: u64, begin: u64, end: u64) -> Figures {
    let index = |time| latencies.partition_point(|(sent, _)| *sent < time);
    let part = &latencies[index(begin)..index(end)];
    let mut nanos: Vec<u64> = part.iter().map(|(_, latency)| *latency).collect();
    nanos.sort_unstable();
    let at = |percent: usize| {
        nanos.get(nanos.len() * percent / 100).map_or(f64::NAN, |nanos| seconds(*nanos) * 1e3)
    };
    let batches = record.batches.iter().filter(|(at, _)| (begin..end).contains(at));
    let sizes: Vec<u64> = batches.map(|(_, messages)| *messages).collect();
    let cpu = |time| {
        let index = record.cpu.partition_point(|(at, _)| *at < time);
        record.cpu.get(index).or(record.cpu.last()).map_or((0, 0.0), |cpu| *cpu)
    };
    let ((from, used_before), (to, used)) = (cpu(begin), cpu(end));
    Figures {
        rate,
        p50_ms: at(50),
        p99_ms: at(99),
        batch_messages: sizes.iter().sum::<u64>() as f64 / sizes.len() as f64,
        calls_per_second: sizes.len() as f64 / seconds(end - begin),
        cpu_percent: (used - used_before) / seconds(to - from) * 100.0,
    }
}

pub(crate) fn table(runs: &[Run]) -> String {
    const WIDTHS: [usize; 6] = [16, 12, 12, 16, 12, 10];
    let mut text = String::new();
    for runs in runs.chunk_by(|a, b| a.case.call == b.case.call) {
        for step in 0..runs[0].steps.len() {
            let rate = thousands(runs[0].steps[step].rate);
            let call = runs[0].case.call;
            text.push_str(&format!("\n{rate} messages/s, {call:?} for each call of the store\n"));
            let head = ["", "p50 ms", "p99 ms", "messages/batch", "calls/s", "CPU %"];
            line(&mut text, &head, &WIDTHS);
            for run in runs {
                let Some(it) = run.steps.get(step) else { continue };
                let numbers =
                    [it.p50_ms, it.p99_ms, it.batch_messages, it.calls_per_second, it.cpu_percent];
                let cells = numbers.map(decimals);
                let name = run.case.limits.to_string();
                let cells: Vec<&str> =
                    [name.as_str()].into_iter().chain(cells.iter().map(String::as_str)).collect();
                line(&mut text, &cells, &WIDTHS);
            }
        }
    }
    text
}

pub(crate) fn json(runs: &[Run]) -> Value {
    let figures = |it: &Figures| {
        json!({
            "messages_per_second": it.rate,
            "p50_ms": it.p50_ms,
            "p99_ms": it.p99_ms,
            "messages_per_batch": it.batch_messages,
            "store_calls_per_second": it.calls_per_second,
            "cpu_percent": it.cpu_percent,
        })
    };
    let runs = runs.iter().map(|run| {
        let windows = run.windows.iter().map(|(at, it)| {
            let mut window = figures(it);
            window["seconds"] = json!(at);
            window
        });
        json!({
            "case": run.case.to_string(),
            "steps": run.steps.iter().map(figures).collect::<Vec<_>>(),
            "over_time": windows.collect::<Vec<_>>(),
        })
    });
    json!({ "runs": runs.collect::<Vec<_>>() })
}
