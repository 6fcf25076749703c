//! What a run shows while it goes on: one line on a terminal, a line for each fault elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The line.
pub(crate) struct Progress {
    began: Instant,
    total: Duration,
    bar: Option<ProgressBar>,
    told: String,
}

impl Progress {
    /// `total`: for how long faults are done.
    pub(crate) fn new(total: Duration) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total.as_secs());
            if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} s  {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { began: Instant::now(), total, bar, told: String::new() }
    }

    /// What is done now.
    pub(crate) fn tell(&mut self, what: &str) {
        what.clone_into(&mut self.told);
        if self.bar.is_none() {
            eprintln!("kasper-chaos: {what}");
        }
    }

    pub(crate) fn show(&self, messages: i64, behind: i64, workers: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.began.elapsed().min(self.total).as_secs());
            let told = &self.told;
            bar.set_message(format!(
                "{messages} messages, {behind} behind, {workers} workers; {told}"
            ));
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
