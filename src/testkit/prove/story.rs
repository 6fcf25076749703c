//! [`Teller`]: says what happens in a run, a line for each step; and what a batch that came again read otherwise.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::outcome::shown;
use super::recorder::{Attempt, Does, Name, Phase, Place, Recorder};
use super::schedule::{Fault, Step};

pub(super) struct Teller {
    recorder: Arc<Recorder>,
    /// `None`: the story is not wanted.
    lines: Option<Vec<String>>,
    /// How many attempts are told.
    told: usize,
    seen: BTreeSet<(String, i64)>,
}

impl Teller {
    pub(super) fn new(recorder: Arc<Recorder>, tells: bool) -> Self {
        Self { recorder, lines: tells.then(Vec::new), told: 0, seen: BTreeSet::new() }
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }

    /// A step begins with its batch. `stopped`: within it, at the place that was `reached` or another wait.
    pub(super) fn batch(
        &mut self,
        step: &Step,
        reached: Option<&Place>,
        stopped: bool,
        waits: bool,
    ) {
        if self.lines.is_none() {
            return;
        }
        let mut line = self.new_attempts().unwrap_or_else(|| "no batch".to_owned());
        if step.hold {
            line += " (acks are late)";
        }
        let place = match reached {
            Some(place) => place.to_string(),
            None if stopped => "while `process` waits".to_owned(),
            None if waits => "while `flush` waits for its acks".to_owned(),
            None => "before the offsets are committed".to_owned(),
        };
        match step.fault {
            Fault::Crash(_) => line += &format!("; the process dies {place}"),
            Fault::Lost(_) => {
                line += &format!("; the partition is lost {place}, and the processor is dropped");
            }
            Fault::StoreFails(_) => {
                if let Some(place) = reached {
                    line += &format!("; {}", place.failure());
                }
            }
            Fault::Revoked => line += "; the partition is revoked in good order",
            Fault::Tick => line += "; a tick",
            Fault::None | Fault::DeliveryFails(_) => {}
        }
        if step.fault == Fault::Revoked && step.elsewhere {
            line += ", and another process takes over";
        }
        self.add(line);
    }

    /// A step does not end.
    pub(super) fn stuck(&mut self) {
        if self.lines.is_some() {
            let batch = self.new_attempts().unwrap_or_else(|| "no batch".to_owned());
            self.add(format!("{batch}; it does not end"));
        }
    }

    /// The batches that have begun since the last line.
    fn new_attempts(&mut self) -> Option<String> {
        let attempts = self.recorder.attempts();
        let mut texts = Vec::new();
        for attempt in &attempts[self.told..] {
            let again = attempt.messages.iter().any(|message| self.seen.contains(message));
            self.seen.extend(attempt.messages.iter().cloned());
            let again = if again { " again" } else { "" };
            texts.push(format!("batch {}{again}", attempt.ranges));
        }
        self.told = attempts.len();
        (!texts.is_empty()).then(|| texts.join(", "))
    }

    pub(super) fn delivery_fails(&mut self, topic: &str) {
        self.add(format!("the next message to `{topic}` will not be delivered"));
    }

    pub(super) fn starts_again(&mut self) {
        self.append("; the processor fails, and starts again");
    }

    /// `process` has failed.
    pub(super) fn fails(&mut self, step: &Step) {
        self.append("; the processor fails, and ");
        self.append(starts(step));
    }

    /// After a crash or a loss: how many commits are taken back, and whether sent messages are.
    pub(super) fn goes_back(&mut self, step: &Step, commits: usize, unsent: bool) {
        if unsent {
            self.append(", what was not acknowledged is lost");
        }
        match commits {
            0 => {}
            1 => self.append(", the commit before was not made either"),
            _ => self.append(&format!(", the {commits} commits before were not made either")),
        }
        if step.elsewhere {
            self.append("; another process takes over");
        }
    }

    pub(super) fn acks_come(&mut self) {
        self.add("the acks come".to_owned());
        if let Some(attempts) = self.new_attempts() {
            self.append(&format!("; {attempts}"));
        }
    }

    fn add(&mut self, line: String) {
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }

    fn append(&mut self, text: &str) {
        if let Some(line) = self.lines.as_mut().and_then(|lines| lines.last_mut()) {
            line.push_str(text);
        }
    }
}

fn starts(step: &Step) -> &'static str {
    match step.elsewhere {
        true => "another process takes over",
        false => "starts again",
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = names(&self.keys);
        match (self.phase, self.does) {
            (Phase::Before, Does::Read) => write!(f, "before it reads {keys}"),
            (Phase::After, Does::Read) => write!(f, "after it has read {keys}"),
            (Phase::Before, Does::Write) => write!(f, "before the write of {keys}"),
            (Phase::After, Does::Write) => write!(f, "after the write of {keys}"),
            (Phase::Before, Does::Flush) => f.write_str("before the store is flushed"),
            (Phase::After, Does::Flush) => f.write_str("after the store is flushed"),
            (Phase::Partly(first), _) => {
                let written = names(&self.keys[..first.min(self.keys.len())]);
                write!(f, "in the middle of the write of {keys}, of which {written} is written")
            }
        }
    }
}

impl Place {
    fn failure(&self) -> String {
        let keys = names(&self.keys);
        match (self.does, self.phase) {
            (Does::Read, _) => format!("the read of {keys} fails"),
            (Does::Flush, _) => "the flush of the store fails".to_owned(),
            (Does::Write, Phase::Before) => {
                format!("the write of {keys} fails, nothing is written")
            }
            (Does::Write, Phase::After) => format!("the write of {keys} fails, but all is written"),
            (Does::Write, Phase::Partly(first)) => {
                let written = names(&self.keys[..first.min(self.keys.len())]);
                format!("the write of {keys} fails, but {written} is written")
            }
        }
    }
}

/// Sorted: a processor with a hash map has another order each time.
fn names(names: &[Name]) -> String {
    const MOST: usize = 3;
    let distinct: BTreeSet<&Name> = names.iter().collect();
    let shown: Vec<String> = distinct.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    match distinct.len() {
        0 => "nothing".to_owned(),
        count if count > MOST => format!("{} and {} more", shown.join(", "), count - MOST),
        _ => shown.join(", "),
    }
}

/// Where a batch that came again read something else than at first. This is no fault in itself: a processor that keeps
/// an offset with each value does so. It is told beside a difference, as what may have led to it. A key that `differs`
/// goes before others.
pub(super) fn reads_differently(attempts: &[Attempt], differs: Option<&Name>) -> Option<String> {
    let mut found = None;
    for (index, later) in attempts.iter().enumerate() {
        let earlier = attempts[..index].iter().filter(|e| !e.messages.is_disjoint(&later.messages));
        for earlier in earlier {
            for (name, value) in &later.reads {
                let Some(first) = earlier.reads.get(name).filter(|first| *first != value) else {
                    continue;
                };
                if found.is_none() || differs == Some(name) {
                    let line = format!(
                        "batch {} read `{name}` = {} when its messages came again, and {} at first",
                        later.ranges,
                        shown(value.as_ref()),
                        shown(first.as_ref()),
                    );
                    if differs == Some(name) {
                        return Some(line);
                    }
                    found = Some(line);
                }
            }
        }
    }
    found
}
