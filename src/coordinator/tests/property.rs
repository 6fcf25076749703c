//! Thousands of seeded schedules. A seed that fails is printed with its case and what happened; to
//! run it again: `KASPER_SIM_SEED=n cargo test --lib seeded`. `KASPER_SIM_SEEDS=n` runs so many.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::case::Case;
use super::storm::{self, Outcome};
use crate::broker::sim::Rng;

const SEEDS: u64 = 10_000;

/// What a storm is made of.
const HAPPENINGS: [&str; 37] = [
    "assigned",
    "assigned without an answer before",
    "assigned without a start",
    "caught up",
    "caught up beside others",
    "circuit open",
    "closing",
    "commit",
    "commit applied",
    "commit deferred",
    "commit refused",
    "consumed all",
    "crash",
    "delivery failed",
    "last commit failed",
    "letter",
    "letter not delivered",
    "log cut",
    "lookup refused",
    "lost",
    "out of range",
    "partition added",
    "pause",
    "process again",
    "process did not return",
    "process failed",
    "process panicked",
    "purged",
    "rebalance forced",
    "rejoined without an answer",
    "revoked",
    "run ended well",
    "sought",
    "skip",
    "sought after the answer",
    "thrown out",
    "tick",
];

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// What a person needs to see what went wrong.
fn tell(seed: u64, outcome: &Outcome) -> String {
    let mut text = String::new();
    writeln!(text, "{:#?}", Case::draw(&mut Rng::new(seed))).unwrap();
    writeln!(text, "{}", outcome.story.join("\n")).unwrap();
    writeln!(text, "{:#?}", outcome.violations).unwrap();
    writeln!(text, "again with KASPER_SIM_SEED={seed}").unwrap();
    text
}

/// The same seed once more, now with its story.
pub(super) fn assert_good(seed: u64) {
    let outcome = storm::run(seed, true);
    assert!(outcome.violations.is_empty(), "{}", tell(seed, &outcome));
}

#[test]
fn seeded_schedules_keep_every_promise() {
    if let Some(seed) = number("KASPER_SIM_SEED") {
        let _already = tracing_subscriber::fmt().without_time().with_test_writer().try_init();
        let outcome = storm::run(seed, true);
        println!("{}", tell(seed, &outcome));
        assert!(outcome.violations.is_empty());
        return;
    }
    let seeds = number("KASPER_SIM_SEEDS").unwrap_or(SEEDS);
    let counts = run_all(seeds);
    println!("{counts:#?}");
    let rare = HAPPENINGS
        .iter()
        .find(|what| counts.get(**what).is_none_or(|times| (*times as u64) * 300 < seeds));
    let rare = rare.filter(|_| seeds >= SEEDS);
    assert_eq!(rare, None, "it has to happen now and then, else nothing is tested");
}

/// Runs so many seeds, a part on each processor. What happened, and how often.
fn run_all(seeds: u64) -> BTreeMap<&'static str, usize> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    std::thread::scope(|scope| {
        let part = |first| move || run_some((first..seeds).step_by(threads));
        let parts: Vec<_> = (0_u64..).take(threads).map(|first| scope.spawn(part(first))).collect();
        for part in parts {
            let happened = part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            for (what, times) in happened {
                *counts.entry(what).or_default() += times;
            }
        }
    });
    counts
}

fn run_some(seeds: impl Iterator<Item = u64>) -> BTreeMap<&'static str, usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in seeds {
        let outcome = storm::run(seed, false);
        if !outcome.violations.is_empty() {
            assert_good(seed);
            panic!("seed {seed} fails only without its story: {:#?}", outcome.violations);
        }
        for (what, times) in outcome.counts {
            *counts.entry(what).or_default() += times;
        }
    }
    counts
}

/// What one thread cannot see: two of them at the same time. Run it with
/// `cargo test --lib storms_on_threads -- --ignored`.
#[test]
#[ignore = "takes half a minute of real time"]
fn storms_on_threads() {
    let seeds = number("KASPER_SIM_SEEDS").unwrap_or(60);
    std::thread::scope(|scope| {
        for seed in 0..seeds {
            scope.spawn(move || {
                let outcome = storm::run_on_threads(seed);
                assert!(outcome.violations.is_empty(), "{}", tell(seed, &outcome));
            });
        }
    });
}

#[test]
fn a_seed_always_tells_the_same_story() {
    for seed in 0..20 {
        let (first, second) = (storm::run(seed, true), storm::run(seed, true));
        assert_eq!(first.story, second.story);
    }
}
