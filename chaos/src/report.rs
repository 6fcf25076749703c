//! What came out of a run, as a table and as JSON.

use std::collections::BTreeMap;

use clap::ValueEnum as _;
use serde::Serialize;

use crate::args::{Defect, Fault, Protocol, name_of};
use crate::nemesis::Mark;
use crate::oracle::{Broken, Counts};
use crate::watch::{Sample, Stall};

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) minutes: f64,
    pub(crate) protocol: Protocol,
    pub(crate) workers: u32,
    pub(crate) partitions: i32,
    pub(crate) rate: u32,
    pub(crate) defect: Option<Defect>,
    pub(crate) versions: BTreeMap<&'static str, String>,
    /// Does the same faults again.
    pub(crate) again: String,
    pub(crate) counts: Counts,
    pub(crate) workers_started: usize,
    /// How often a worker was told its partitions.
    pub(crate) assignments: usize,
    pub(crate) longest_stall: Stall,
    /// From the end of a fault until all partitions had caught up, in milliseconds.
    pub(crate) slowest_recovery: u64,
    /// From SIGTERM to the end of a worker, in milliseconds.
    pub(crate) slowest_end: u64,
    pub(crate) peak_memory_mib: u64,
    pub(crate) broken: Vec<Broken>,
    pub(crate) faults: Vec<Mark>,
    pub(crate) samples: Vec<Sample>,
}

impl Report {
    /// How often each kind of fault was done.
    fn kinds(&self) -> String {
        let mut told = Vec::new();
        for kind in Fault::value_variants() {
            let count = self.faults.iter().filter(|mark| mark.fault == *kind).count();
            if count > 0 {
                told.push(format!("{count} {}", name_of(kind)));
            }
        }
        if told.is_empty() { "none".to_owned() } else { told.join(", ") }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let counts = &self.counts;
        let seconds = |milliseconds: u64| format!("{:.1} s", milliseconds as f64 / 1000.0);
        let stall = &self.longest_stall;
        let verdict = if self.broken.is_empty() { "all promises kept" } else { "BROKEN PROMISES" };
        let rows = [
            ("seed", self.seed.to_string()),
            ("minutes of faults", format!("{:.1}", self.minutes)),
            ("protocol", name_of(&self.protocol)),
            ("faults", self.kinds()),
            ("workers started", self.workers_started.to_string()),
            ("assignments seen by workers", self.assignments.to_string()),
            ("messages", format!("{} ({} malformed)", counts.messages, counts.malformed)),
            ("letters", counts.letters.to_string()),
            ("lost", counts.lost.to_string()),
            ("not sent on", counts.not_sent_on.to_string()),
            ("doubled", format!("{} (at most {} of one)", counts.doubled, counts.most_copies)),
            ("disordered", counts.disordered.to_string()),
            ("counted twice", counts.counted_twice.to_string()),
            ("not counted", counts.not_counted.to_string()),
            (
                "longest stall",
                format!("{}, partition {}", seconds(stall.milliseconds), stall.partition),
            ),
            ("slowest recovery", seconds(self.slowest_recovery)),
            ("slowest end after SIGTERM", seconds(self.slowest_end)),
            ("peak memory of a worker", format!("{} MiB", self.peak_memory_mib)),
            ("verdict", verdict.to_owned()),
        ];
        let lines = rows.map(|(name, value)| format!("  {name:<28} {value}"));
        lines.join("\n")
    }

    /// A line for each broken promise.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let line = |broken: &Broken| {
            let Broken { promise, count, example } = broken;
            format!("BROKEN, {count} times: {promise}. First: {example}")
        };
        self.broken.iter().map(line).collect()
    }
}
