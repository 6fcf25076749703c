//! [`Circuit`]: stops a topic processor that rejects too many messages.
//!
//! Place in the data path: before the first letter of a batch is sent. Letters that are acknowledged can't be taken
//! back, so a batch is judged as a whole, with what went before it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind};
use crate::message::rejected::Rejection;

/// The number of parts of the window; the oldest part is forgotten as a whole.
const PARTS: u32 = 10;

/// The number of errors that are told when the circuit opens: the first ones.
const TOLD: usize = 3;

/// When so many messages are rejected that the fault is more likely in the program than in the messages: then the
/// topic processor stops, with an error of kind [`CircuitOpen`](ErrorKind::CircuitOpen) that has the first errors.
///
/// Messages that are only held in a [quarantine](crate::Quarantine) do not count.
///
/// Each partition number is judged by itself, and each batch before its first letter is sent: a deploy that fails on
/// every message of a batch sends no letter of it. Where batches are small, at most
/// [`consecutive`](Circuit::consecutive) − 1 letters of a partition are sent before that. A rebalance and a restart forget what
/// was counted: a process that is started again and again sends as many each time.
///
/// ```
/// use std::time::Duration;
///
/// use kasper::{Circuit, ErrorPolicy, OnError};
///
/// let circuit = Circuit::new().consecutive(10).window(Duration::from_secs(60), 0.05, 20);
/// let policy = ErrorPolicy::new(OnError::dead_letter("orders-dead")).circuit(circuit);
/// # let _ = policy;
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct Circuit {
    consecutive: u64,
    window: Duration,
    share: f64,
    count: u64,
}

impl Default for Circuit {
    fn default() -> Self {
        Self { consecutive: 100, window: Duration::from_mins(1), share: 0.2, count: 100 }
    }
}

impl Circuit {
    /// Opens at 100 rejected messages in a row, or when at least 100 messages, and a fifth of all, were rejected within
    /// a minute.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens when so many messages in a row are rejected. Default: 100. At least 1; with 1, no message is ever rejected.
    pub fn consecutive(mut self, messages: u64) -> Self {
        self.consecutive = messages;
        self
    }

    /// Opens when, within this time, at least `count` messages were rejected, and at least this `share` (0 to 1) of all
    /// that were processed. Default: a minute, 0.2, 100.
    pub fn window(mut self, time: Duration, share: f64, count: u64) -> Self {
        (self.window, self.share, self.count) = (time, share, count);
        self
    }

    /// Never opens: every message may be rejected.
    pub fn never(self) -> Self {
        self.consecutive(u64::MAX).window(Duration::from_secs(1), 1.0, u64::MAX)
    }

    pub(super) fn fault(&self) -> Option<String> {
        let Self { consecutive, window, share, count } = self;
        if *consecutive == 0 || *count == 0 {
            return Some("`Circuit`: a count of 0 messages; it must be at least 1".into());
        }
        if window.is_zero() {
            return Some("`Circuit`: the window has no length".into());
        }
        (!(0.0..=1.0).contains(share))
            .then(|| format!("`Circuit`: the share is {share}; it must be from 0 to 1"))
    }
}

/// What one partition number has rejected lately.
pub(crate) struct CircuitState {
    circuit: Circuit,
    /// Rejected messages behind the last processed one.
    in_a_row: u64,
    parts: VecDeque<Part>,
    /// The first errors of the rejections within the window.
    errors: VecDeque<(Instant, String)>,
}

struct Part {
    begun: Instant,
    messages: u64,
    rejected: u64,
}

impl CircuitState {
    pub(crate) fn new(circuit: Circuit) -> Self {
        Self { circuit, in_a_row: 0, parts: VecDeque::new(), errors: VecDeque::new() }
    }

    /// A batch was processed and nothing of it rejected: the straight path.
    pub(crate) fn processed(&mut self, messages: usize) {
        self.in_a_row = 0;
        // Before the first rejection there is nothing to take a share of but this.
        self.part(Instant::now()).messages += messages as u64;
    }

    /// Whether so many rejections, behind those before, open it in any case, however the rest of the batch ends.
    ///
    /// `run`: the rejected messages in a row up to now, `from_start` if that run has the batch's first message.
    pub(crate) fn is_doomed(&self, run: u64, from_start: bool) -> bool {
        let before = if from_start { self.in_a_row } else { 0 };
        before + run >= self.circuit.consecutive
    }

    /// A batch of so many messages is about to be finished, with these rejected, in order. Those that are held in a quarantine
    /// say nothing about the processor.
    ///
    /// # Errors
    /// The circuit is open: nothing may be rejected.
    pub(crate) fn judge(&mut self, messages: usize, rejected: &[Rejection]) -> Result<(), Error> {
        let mut longest = self.in_a_row;
        let mut next = 0;
        for Rejection { index, reason, .. } in rejected {
            if *index != next {
                self.in_a_row = 0;
            }
            self.in_a_row += u64::from(!reason.is_held());
            longest = longest.max(self.in_a_row);
            next = index + 1;
        }
        if next < messages {
            self.in_a_row = 0;
        }
        let now = Instant::now();
        while self.errors.front().is_some_and(|(noted, _)| now - *noted > self.circuit.window) {
            self.errors.pop_front();
        }
        let room = TOLD.saturating_sub(self.errors.len());
        let failed = rejected.iter().filter(|one| !one.reason.is_held());
        self.errors.extend(failed.clone().take(room).map(|one| (now, one.told.clone())));
        let part = self.part(now);
        let failed = failed.count();
        part.messages += (messages - (rejected.len() - failed)) as u64;
        part.rejected += failed as u64;
        let all: u64 = self.parts.iter().map(|part| part.messages).sum();
        let bad: u64 = self.parts.iter().map(|part| part.rejected).sum();
        let Circuit { consecutive, window, share, count } = self.circuit;
        #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        let is_share = bad as f64 >= share * all as f64;
        if longest >= consecutive {
            return Err(self.open(&format!("{longest} messages in a row were rejected")));
        }
        if bad >= count && is_share {
            let told = format!("{bad} of {all} messages were rejected within {window:?}");
            return Err(self.open(&told));
        }
        Ok(())
    }

    /// The error that stops the topic processor.
    pub(crate) fn open(&self, why: &str) -> Error {
        let message = format!(
            "{why}, so the fault is probably not in the messages; the letters of the last batch were not sent. Correct \
             the processor, or allow more with `ErrorPolicy::circuit`"
        );
        let error = Error::new(ErrorKind::CircuitOpen, message);
        self.errors.iter().fold(error, |error, (_, text)| error.with("rejected", text))
    }

    /// The newest part of the window; older ones than the window are forgotten.
    fn part(&mut self, now: Instant) -> &mut Part {
        let length = self.circuit.window / PARTS;
        while self.parts.front().is_some_and(|part| now - part.begun > self.circuit.window) {
            self.parts.pop_front();
        }
        if self.parts.back().is_none_or(|part| now - part.begun >= length) {
            self.parts.push_back(Part { begun: now, messages: 0, rejected: 0 });
        }
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(circuit: Circuit) -> CircuitState {
        CircuitState::new(circuit)
    }

    fn rejected(indexes: impl IntoIterator<Item = usize>) -> Vec<Rejection> {
        indexes.into_iter().map(Rejection::for_test).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_at_rejections_in_a_row_over_batches() {
        let mut state = state(Circuit::new().consecutive(5));
        state.judge(10, &rejected([7, 8, 9])).unwrap();
        state.judge(10, &rejected([1, 2, 3, 4])).unwrap();
        state.judge(3, &rejected([2])).unwrap();
        state.judge(3, &rejected([0, 1, 2])).unwrap();
        let error = state.judge(2, &rejected([0])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CircuitOpen);
        assert_eq!(error.get("rejected"), Some("message 7"));
        assert!(error.to_string().contains("5 messages in a row"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_without_rejections_ends_a_run() {
        let mut state = state(Circuit::new().consecutive(2));
        state.judge(1, &rejected([0])).unwrap();
        state.processed(1);
        state.judge(1, &rejected([0])).unwrap();
        assert!(
            state.is_doomed(1, true) && !state.is_doomed(1, false) && state.is_doomed(2, false)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_at_a_share_within_the_window() {
        let circuit = Circuit::new().window(Duration::from_secs(10), 0.1, 5);
        let mut state = state(circuit);
        let every_tenth = rejected((0..40).step_by(10));
        state.judge(40, &every_tenth).unwrap();
        // A fifth rejection of fewer than fifty messages.
        assert!(state.judge(9, &rejected([0])).is_err());

        let mut state = CircuitState::new(circuit);
        state.judge(40, &every_tenth).unwrap();
        tokio::time::advance(Duration::from_secs(12)).await;
        state.judge(9, &rejected([0])).unwrap();
        state.processed(1_000_000);
        state.judge(40, &every_tenth).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_in_a_thousand_never_opens_it() {
        let mut state = state(Circuit::new());
        for _ in 0..1000 {
            state.judge(2000, &rejected([500, 1500])).unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(state.parts.len() <= 11);
    }

    #[test]
    fn odd_settings_are_faults() {
        let circuit = Circuit::new();
        assert_eq!(circuit.fault(), None);
        assert_eq!(circuit.never().fault(), None);
        for odd in [
            circuit.consecutive(0),
            circuit.window(Duration::ZERO, 0.5, 1),
            circuit.window(Duration::from_secs(1), 1.5, 1),
            circuit.window(Duration::from_secs(1), f64::NAN, 1),
            circuit.window(Duration::from_secs(1), 0.5, 0),
        ] {
            assert!(odd.fault().is_some(), "{odd:?}");
        }
    }
}
