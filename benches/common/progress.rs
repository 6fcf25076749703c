//! How far a benchmark is.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressStyle};

use super::BoxError;

/// A bar on a terminal, lines elsewhere. A clone is the same bar.
#[derive(Clone)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(runs: u64) -> Result<Self, BoxError> {
        let bar = ProgressBar::new(runs);
        bar.set_style(ProgressStyle::with_template(
            "[{pos}/{len}] {elapsed} (ETA {eta}) {wide_msg}",
        )?);
        Ok(Self(bar))
    }

    /// Says what goes on, with or without a terminal.
    pub(crate) fn note(&self, text: &str) {
        self.0.set_message(text.to_owned());
        if !io::stderr().is_terminal() {
            eprintln!("{text}");
        }
    }

    pub(crate) fn begin(&self, run: &impl ToString) {
        self.0.set_message(run.to_string());
    }

    pub(crate) fn end(&self) {
        self.0.inc(1);
    }

    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
