//! From the runs of a case to its figures: medians, ratios to the raw loop, bars.

use crate::case::{Case, Who, Work};
use crate::common::measure::Spread;
use crate::rounds::{Results, Run};

/// At least this share of the raw loop's throughput.
pub(crate) const THROUGHPUT_BAR: f64 = 0.9;
/// At most so many times the raw loop's CPU per message.
pub(crate) const CPU_BAR: f64 = 1.25;
/// What metrics may cost: of the throughput without, and of its CPU.
pub(crate) const METRICS_BAR: f64 = 0.02;
/// The 99th percentile: at most so many milliseconds …
pub(crate) const P99_BAR_MS: f64 = 20.0;
/// … or so many times the raw loop's.
pub(crate) const P99_BAR_RATIO: f64 = 2.0;

/// What is told of one case.
pub(crate) struct Summary {
    pub(crate) case: Case,
    pub(crate) runs: usize,
    pub(crate) messages: u64,
    pub(crate) rate: Spread,
    pub(crate) ratio: Option<Spread>,
    pub(crate) cpu_us: Spread,
    pub(crate) cpu_ratio: Option<Spread>,
    pub(crate) rss_mb: Spread,
    /// Until the last message was finished, and until `run` returned.
    pub(crate) seconds: Spread,
    pub(crate) seconds_to_return: Spread,
    pub(crate) p50_ms: Option<Spread>,
    pub(crate) p99_ms: Option<Spread>,
    pub(crate) max_ms: Option<Spread>,
    pub(crate) p99_ratio: Option<Spread>,
    /// By name; empty where no bar is set.
    pub(crate) bars: Vec<(&'static str, bool)>,
}

impl Summary {
    /// `None` if no run of the case went well.
    pub(crate) fn of(results: &Results, case: Case) -> Option<Self> {
        let runs: Vec<&Run> = results.runs.of(case).iter().flatten().collect();
        let spread = |value: &dyn Fn(&Run) -> f64| results.runs.spread(case, value);
        let ratio = |value: &dyn Fn(&Run) -> f64| results.runs.ratio(case, value);
        let has_latency = case.work == Work::Latency;
        let latency = |value: &dyn Fn(&Run) -> f64| spread(value).filter(|_| has_latency);
        let mut summary = Self {
            case,
            runs: runs.len(),
            messages: runs.first()?.sample.messages,
            rate: spread(&rate)?,
            ratio: ratio(&rate).filter(|_| !has_latency),
            cpu_us: spread(&cpu_us)?,
            cpu_ratio: ratio(&cpu_us),
            rss_mb: spread(&|run| run.sample.rss_mb)?,
            seconds: spread(&seconds)?,
            seconds_to_return: spread(&|run| run.sample.seconds_to_return)?,
            p50_ms: latency(&|run| run.latency.map_or(f64::NAN, |latency| latency.p50)),
            p99_ms: latency(&p99),
            max_ms: latency(&|run| run.latency.map_or(f64::NAN, |latency| latency.max)),
            p99_ratio: ratio(&p99),
            bars: Vec::new(),
        };
        summary.bars = summary.checks();
        Some(summary)
    }

    fn checks(&self) -> Vec<(&'static str, bool)> {
        let mut checks = Vec::new();
        if let (Work::Consume | Work::PassThrough, Some(ratio), Some(cpu_ratio)) =
            (self.case.work, self.ratio, self.cpu_ratio)
        {
            let (throughput, cpu) = match self.case.who {
                Who::OursWithMetrics => (1.0 - METRICS_BAR, 1.0 + METRICS_BAR),
                _ => (THROUGHPUT_BAR, CPU_BAR),
            };
            checks.push(("throughput", ratio.median >= throughput));
            checks.push(("cpu", cpu_ratio.median <= cpu));
        }
        if let (Some(p99), Some(ratio)) = (self.p99_ms, self.p99_ratio) {
            checks.push(("p99", p99.median <= P99_BAR_MS || ratio.median <= P99_BAR_RATIO));
        }
        checks
    }

    pub(crate) fn misses(&self, bar: &str) -> bool {
        self.bars.iter().any(|(name, met)| *name == bar && !met)
    }
}

#[allow(clippy::cast_precision_loss, reason = "millions")]
fn rate(run: &Run) -> f64 {
    run.sample.messages as f64 / seconds(run)
}

#[allow(clippy::cast_precision_loss, reason = "millions")]
fn cpu_us(run: &Run) -> f64 {
    run.sample.cpu_seconds * 1e6 / run.sample.messages as f64
}

/// For a drain the wait for the first message counts.
fn seconds(run: &Run) -> f64 {
    if run.work == Work::Drain { run.sample.seconds_from_start } else { run.sample.seconds }
}

fn p99(run: &Run) -> f64 {
    run.latency.map_or(f64::NAN, |latency| latency.p99)
}
