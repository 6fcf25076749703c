//! `--sweep`: looks for the fastest raw loop of each work and size.
//!
//! One thing after the other is changed, and the best goes on: the one before, unless another is 5 % faster. All ways that
//! are compared take turns, round by round.

use crate::case::{Case, Who, Work};
use crate::common::BoxError;
use crate::common::measure::Spread;
use crate::common::raw::way::Way;
use crate::common::table::{decimals, line, range};
use crate::rounds::{Rounds, Run};
use crate::summary::{cpu_us, rate};
use crate::ways;

const WIDTHS: &[usize] = &[62, 20, 18, 6];

/// So much faster is no chance.
const CLEARLY: f64 = 1.05;

/// Prints what it measures as it goes.
pub(crate) fn run(mut rounds: Rounds, cases: &[Case]) -> Result<(), BoxError> {
    let inputs = rounds.fill()?;
    let swept = [Work::Consume, Work::PassThrough, Work::Forward];
    let cases = cases.iter().filter(|case| swept.contains(&case.work));
    for case in cases.filter(|case| case.who == Who::RawBatches) {
        let input = inputs.get(&case.input());
        println!("\n{case}");
        line_out(&["", "k msg/s", "CPU µs/msg", "MB"]);
        let used = ways::fastest(*case);
        let mut best = ways::first(case.work);
        for dimension in 0.. {
            let Some(ways) = ways::neighbours(best, case.work, dimension) else { break };
            best = fastest(&mut rounds, *case, (best, &ways), input)?;
        }
        println!("best: {best}");
        println!("used: {used}");
    }
    Ok(())
}

fn fastest(
    rounds: &mut Rounds,
    case: Case,
    (known, ways): (Way, &[Way]),
    input: Option<&String>,
) -> Result<Way, BoxError> {
    let mut runs: Vec<Vec<Run>> = ways.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds.count() {
        for (way, runs) in ways.iter().zip(&mut runs) {
            runs.push(rounds.run_one(case, *way, input.cloned())?);
        }
    }
    let mut best: Option<(f64, Way)> = None;
    for (way, runs) in ways.iter().zip(&runs) {
        let spread = |value: &dyn Fn(&Run) -> f64| Spread::of(runs.iter().map(value));
        let (Some(rates), Some(cpu)) = (spread(&rate), spread(&cpu_us)) else { continue };
        let memory = spread(&|run| run.sample.rss_mb).map_or(f64::NAN, |spread| spread.median);
        line_out(&[
            &way.to_string(),
            &range(rates, |rate| format!("{:.0}", rate / 1e3)),
            &range(cpu, decimals),
            &format!("{memory:.0}"),
        ]);
        let score = if *way == known { rates.median * CLEARLY } else { rates.median };
        if best.is_none_or(|(most, _)| score > most) {
            best = Some((score, *way));
        }
    }
    println!();
    best.map(|(_, way)| way).ok_or_else(|| format!("no run of {case} has a figure").into())
}

fn line_out(cells: &[&str]) {
    let mut text = String::new();
    line(&mut text, cells, WIDTHS);
    print!("{text}");
}
