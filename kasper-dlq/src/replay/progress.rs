//! How far a replay is: a bar on a terminal, lines elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::text::complain;

/// Between two lines, where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines { total: u64, last: Instant },
}

impl Progress {
    /// `total`: how many offsets there are, messages at most.
    pub(crate) fn new(total: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { total, last: Instant::now() };
        }
        let bar = ProgressBar::new(total);
        let template = "{wide_bar} {human_pos}/{human_len} letters, {msg}, ETA {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    pub(crate) fn show(&mut self, done: u64, replayed: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_message(format!("{replayed} replayed"));
                bar.set_position(done);
            }
            Self::Lines { total, last } if last.elapsed() >= INTERVAL => {
                *last = Instant::now();
                complain(&format!("{done} of {total} letters done, {replayed} replayed"));
            }
            Self::Lines { .. } => {}
        }
    }

    pub(crate) fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
