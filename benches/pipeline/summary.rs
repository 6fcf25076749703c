//! From the runs of a case to its figures: medians, ratios to the raw loop, bars.

use crate::case::{Case, Who, Work};
use crate::common::measure::Spread;
use crate::common::runs::Case as _;
use crate::latency::{Outcome, Percentiles};
use crate::rounds::{Results, Run};

/// At least this share of the raw loop's throughput, at most so many times its CPU per message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bars {
    pub(crate) throughput: f64,
    pub(crate) cpu: f64,
}

pub(crate) const CONSUME_BARS: Bars = Bars { throughput: 1.0, cpu: 1.05 };
pub(crate) const PASS_THROUGH_BARS: Bars = Bars { throughput: 0.95, cpu: 1.10 };
/// At most so many MB more resident than the raw loop.
pub(crate) const MEMORY_BAR_MB: f64 = 32.0;
/// What metrics may cost: of the throughput without, and of its CPU.
pub(crate) const METRICS_BAR: f64 = 0.02;
/// The 99th percentile: at most so many milliseconds …
pub(crate) const P99_BAR_MS: f64 = 10.0;
/// … and so many times the raw loop's.
pub(crate) const P99_BAR_RATIO: f64 = 1.5;

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
    /// More than the raw loop.
    pub(crate) rss_more_mb: Option<Spread>,
    /// Until the last message was finished, and until `run` returned.
    pub(crate) seconds: Spread,
    pub(crate) seconds_to_return: Spread,
    pub(crate) p50_ms: Option<Spread>,
    pub(crate) p99_ms: Option<Spread>,
    pub(crate) max_ms: Option<Spread>,
    pub(crate) p99_ratio: Option<Spread>,
    pub(crate) ack_p50_ms: Option<Spread>,
    pub(crate) ack_p99_ms: Option<Spread>,
    /// Rounds in which the load was not carried, and by whom, in the first of them.
    pub(crate) too_much: Option<(usize, &'static str)>,
    /// The raw loop carried the load in more rounds.
    carries_less: bool,
    /// By name; empty where no bar is set.
    pub(crate) bars: Vec<(&'static str, bool)>,
}

impl Summary {
    /// `None` if no run of the case went well.
    pub(crate) fn of(results: &Results, case: Case) -> Option<Self> {
        let runs: Vec<&Run> = results.runs.of(case).iter().flatten().collect();
        let spread = |value: &dyn Fn(&Run) -> f64| results.runs.spread(case, value);
        let ratio = |value: &dyn Fn(&Run) -> f64| results.runs.ratio(case, value);
        let has_latency = matches!(case.work, Work::Latency(_));
        let latency =
            |value: fn(Percentiles) -> f64| spread(&|run| through(run).map_or(f64::NAN, value));
        let acks = |value: fn(Percentiles) -> f64| spread(&|run| acks(run).map_or(f64::NAN, value));
        let mut summary = Self {
            case,
            runs: runs.len(),
            messages: runs.first()?.sample.messages,
            rate: spread(&rate)?,
            ratio: ratio(&rate).filter(|_| !has_latency),
            cpu_us: spread(&cpu_us)?,
            cpu_ratio: ratio(&cpu_us),
            rss_mb: spread(&|run| run.sample.rss_mb)?,
            rss_more_mb: results.runs.difference(case, &|run| run.sample.rss_mb),
            seconds: spread(&seconds)?,
            seconds_to_return: spread(&|run| run.sample.seconds_to_return)?,
            p50_ms: latency(|through| through.p50),
            p99_ms: latency(|through| through.p99),
            max_ms: latency(|through| through.max),
            p99_ratio: ratio(&|run| through(run).map_or(f64::NAN, |through| through.p99)),
            ack_p50_ms: acks(|acks| acks.p50),
            ack_p99_ms: acks(|acks| acks.p99),
            too_much: too_much(&runs),
            carries_less: has_latency
                && carried(results, Some(case)) < carried(results, case.ceiling()),
            bars: Vec::new(),
        };
        summary.bars = summary.checks();
        Some(summary)
    }

    fn checks(&self) -> Vec<(&'static str, bool)> {
        let mut checks = Vec::new();
        if let (Work::Consume | Work::PassThrough | Work::Forward, Some(ratio), Some(cpu_ratio)) =
            (self.case.work, self.ratio, self.cpu_ratio)
        {
            let bars = match (self.case.who, self.case.work) {
                (Who::OursWithMetrics, _) => {
                    Bars { throughput: 1.0 - METRICS_BAR, cpu: 1.0 + METRICS_BAR }
                }
                (_, Work::Consume) => CONSUME_BARS,
                _ => PASS_THROUGH_BARS,
            };
            checks.push(("throughput", ratio.median >= bars.throughput));
            checks.push(("cpu", cpu_ratio.median <= bars.cpu));
            let more = self.rss_more_mb.map_or(0.0, |more| more.median);
            checks.push(("memory", more <= MEMORY_BAR_MB));
        }
        if self.carries_less {
            checks.push(("p99", false));
        } else if let (Some(p99), Some(ratio)) = (self.p99_ms, self.p99_ratio) {
            checks.push(("p99", p99.median <= P99_BAR_MS && ratio.median <= P99_BAR_RATIO));
        }
        checks
    }

    pub(crate) fn misses(&self, bar: &str) -> bool {
        self.bars.iter().any(|(name, met)| *name == bar && !met)
    }
}

#[allow(clippy::cast_precision_loss, reason = "millions")]
pub(crate) fn rate(run: &Run) -> f64 {
    run.sample.messages as f64 / seconds(run)
}

pub(crate) fn cpu_us(run: &Run) -> f64 {
    run.sample.cpu_us()
}

/// For a drain the wait for the first message counts.
fn seconds(run: &Run) -> f64 {
    if run.work == Work::Drain { run.sample.seconds_from_start } else { run.sample.seconds }
}

/// In how many rounds.
fn carried(results: &Results, case: Option<Case>) -> usize {
    let runs = case.map_or(&[][..], |case| results.runs.of(case));
    runs.iter().flatten().filter(|run| through(run).is_some()).count()
}

fn too_much(runs: &[&Run]) -> Option<(usize, &'static str)> {
    let who = |run: &&Run| match run.latency {
        Some(Outcome::TooMuch(who)) => Some(who),
        _ => None,
    };
    let first = runs.iter().find_map(who)?;
    Some((runs.iter().filter_map(who).count(), first))
}

fn through(run: &Run) -> Option<Percentiles> {
    Some(run.latency?.latency()?.through)
}

fn acks(run: &Run) -> Option<Percentiles> {
    Some(run.latency?.latency()?.acks)
}
