//! From the runs of a case to its figures: medians, ratios, bars.

use crate::case::Case;
use crate::common::measure::{Sample, Spread};
use crate::common::runs::Case as _;
use crate::rounds::Results;
use crate::series::{Act, MAX_BATCH_MESSAGES, Told, Who};

/// At most so many times the CPU per message of the first step.
pub(crate) const GROWTH_BAR: f64 = 1.2;
/// With one rejected message in 1,000: at least so many times the throughput without.
pub(crate) const REJECTED_BAR: f64 = 0.9;
/// An idle process: at most so many percent of a core.
pub(crate) const IDLE_BAR_PERCENT: f64 = 2.0;
/// From `build` until all partitions are read: at most so many seconds.
pub(crate) const START_BAR_SECONDS: f64 = 1.0;

/// What is told of one case.
pub(crate) struct Summary {
    pub(crate) case: Case,
    pub(crate) runs: usize,
    /// Messages in, a second.
    pub(crate) rate: Spread,
    pub(crate) ratio: Option<Spread>,
    pub(crate) cpu_us: Spread,
    pub(crate) cpu_ratio: Option<Spread>,
    /// CPU to that of the first step.
    pub(crate) growth: Option<Spread>,
    /// Throughput to that of the first step.
    pub(crate) rate_of_first: Option<Spread>,
    pub(crate) rss_mb: Spread,
    /// Messages a second, if batches were full and nothing but `process` took time.
    pub(crate) possible: Option<f64>,
    /// Throughput to that.
    pub(crate) of_possible: Option<Spread>,
    pub(crate) idle_percent: Option<Spread>,
    pub(crate) first_seconds: Option<Spread>,
    pub(crate) all_seconds: Option<Spread>,
    /// By name; empty where no bar is set.
    pub(crate) bars: Vec<(&'static str, bool)>,
}

impl Summary {
    /// `None` if no run of the case went well.
    pub(crate) fn of(results: &Results, case: Case) -> Option<Self> {
        let runs = &results.runs;
        let spread = |value: &dyn Fn(&Sample) -> f64| runs.spread(case, value);
        let told = |told: Told, value: &dyn Fn(&Sample) -> f64| {
            spread(value).filter(|_| case.series.told == told)
        };
        let possible = possible(case);
        let mut summary = Self {
            case,
            runs: runs.of(case).iter().flatten().count(),
            rate: spread(&|run| if run.messages > 0 { run.rate() } else { 0.0 })?,
            ratio: runs.ratio(case, &Sample::rate),
            cpu_us: spread(&|run| if run.messages > 0 { run.cpu_us() } else { 0.0 })?,
            cpu_ratio: runs.ratio(case, &|run| run.cpu_seconds),
            growth: case.base().and_then(|first| runs.ratio_to(first, case, &Sample::cpu_us)),
            rate_of_first: case.base().and_then(|first| runs.ratio_to(first, case, &Sample::rate)),
            rss_mb: spread(&|run| run.rss_mb)?,
            possible,
            of_possible: possible.and_then(|most| spread(&|run| run.rate() / most)),
            idle_percent: told(Told::Idle, &|run| run.cpu_seconds / run.seconds * 100.0),
            first_seconds: told(Told::Start, &|run| run.seconds_from_start - run.seconds),
            all_seconds: told(Told::Start, &|run| run.seconds_from_start),
            bars: Vec::new(),
        };
        summary.bars = summary.checks();
        Some(summary)
    }

    fn checks(&self) -> Vec<(&'static str, bool)> {
        let who = self.case.who;
        let at_most = |name, value: Option<Spread>, most: f64| {
            value.map(|value| (name, value.median <= most))
        };
        let checks = match self.case.series.told {
            _ if who == Who::Raw => None,
            Told::Growth => at_most("growth", self.growth, GROWTH_BAR),
            Told::Rejected => {
                self.rate_of_first.map(|ratio| ("rate", ratio.median >= REJECTED_BAR))
            }
            Told::Idle => at_most("idle", self.idle_percent, IDLE_BAR_PERCENT),
            Told::Start if who == Who::Ours => {
                at_most("start", self.all_seconds, START_BAR_SECONDS)
            }
            _ => None,
        };
        checks.into_iter().collect()
    }

    pub(crate) fn misses(&self) -> bool {
        self.bars.iter().any(|(_, met)| !met)
    }
}

#[allow(clippy::cast_precision_loss, reason = "thousands")]
fn possible(case: Case) -> Option<f64> {
    let Act::Sleep(time) = case.step.act else { return None };
    let messages = MAX_BATCH_MESSAGES * case.input().partitions;
    Some(messages as f64 / time.as_secs_f64())
}
