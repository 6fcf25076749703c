//! [`Recorder`]: the data of all stores of one run, and the points at which calls to them stop or fail.
//!
//! A call passes a *point* before it takes effect and one after; a write of several keys takes effect in two parts, with
//! a point between them. At each point the call waits once, as one to a server would. The [`execution`](super::execution)
//! may arm one point of a batch: there the call fails, or never goes on, and the execution drops the processor.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, MutexGuard};
use std::task::Waker;

use bytes::Bytes;

use super::random::mix;
use crate::lock::Mutex;
use crate::message::Batch;
use crate::store::limits::shortened;

/// A key, with the store and the tenant that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// Empty: the first store.
    pub(super) store: Arc<str>,
    pub(super) tenant: Option<Arc<str>>,
    pub(super) key: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.store.is_empty() {
            write!(f, "{}:", self.store)?;
        }
        if let Some(tenant) = &self.tenant {
            write!(f, "{tenant}/")?;
        }
        f.write_str(&shortened(&self.key))
    }
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Read,
    Write,
    Flush,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Before,
    /// This many of its keys, in the order in which it names them, are written.
    Partly(usize),
    After,
}

/// What happens at the armed point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Stop,
    Fail,
}

/// What a call does at a point.
pub(super) enum Passage {
    /// It waits once, and goes on.
    Wait,
    /// It never goes on.
    Stop,
    Fail,
}

/// The point that was reached.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) does: Does,
    pub(super) phase: Phase,
    pub(super) keys: Vec<Name>,
}

/// One call of `process`.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempt {
    /// `orders 0..=2, profiles 7..=7`.
    pub(super) ranges: String,
    pub(super) messages: BTreeSet<(String, i64)>,
    /// What it read first of each key.
    pub(super) reads: BTreeMap<Name, Option<Bytes>>,
}

pub(super) struct Recorder {
    /// Whether a write takes effect as a whole.
    atomic: bool,
    salt: u64,
    /// Attempts are kept, for the story.
    tells: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    data: BTreeMap<Name, Bytes>,
    has_written: bool,
    armed: Option<(usize, Action)>,
    reached: Option<Place>,
    stopped: bool,
    points: usize,
    /// The call that waits is one of the store.
    waits_in_store: bool,
    /// Of the task that drives the run: a call in a task of its own may be the one that stops.
    driver: Option<Waker>,
    batches: usize,
    attempts: Vec<Attempt>,
    in_attempt: bool,
}

impl Recorder {
    pub(super) fn new(atomic: bool, salt: u64, tells: bool) -> Arc<Self> {
        Arc::new(Self { atomic, salt, tells, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A batch begins to be driven.
    pub(super) fn arm(&self, point: Option<(usize, Action)>) {
        let mut state = self.state();
        (state.armed, state.reached, state.stopped, state.points) = (point, None, false, 0);
    }

    /// Nothing more stops or fails. Returns the point that did, and how many were passed.
    pub(super) fn disarm(&self) -> (Option<Place>, usize) {
        let mut state = self.state();
        state.armed = None;
        (state.reached.take(), state.points)
    }

    pub(super) fn begin_poll(&self, driver: &Waker) {
        let mut state = self.state();
        state.waits_in_store = false;
        if !state.driver.as_ref().is_some_and(|known| known.will_wake(driver)) {
            state.driver = Some(driver.clone());
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    pub(super) fn waits_in_store(&self) -> bool {
        self.state().waits_in_store
    }

    /// A call reaches a point.
    pub(super) fn pass<'a>(
        &self,
        does: Does,
        phase: Phase,
        keys: impl Iterator<Item = &'a Name>,
    ) -> Passage {
        let mut state = self.state();
        let point = state.points;
        state.points += 1;
        state.waits_in_store = true;
        let armed = state.armed.take_if(|(armed, _)| *armed == point);
        let Some((_, action)) = armed else { return Passage::Wait };
        state.reached = Some(Place { does, phase, keys: keys.cloned().collect() });
        if action == Action::Fail {
            return Passage::Fail;
        }
        state.stopped = true;
        if let Some(driver) = &state.driver {
            driver.wake_by_ref();
        }
        Passage::Stop
    }

    pub(super) fn read(&self, names: &[Name]) -> Vec<Option<Bytes>> {
        let mut state = self.state();
        let values: Vec<_> = names.iter().map(|name| state.data.get(name).cloned()).collect();
        if self.tells
            && state.in_attempt
            && let Some(attempt) = state.attempts.last_mut()
        {
            for (name, value) in names.iter().zip(&values) {
                attempt.reads.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        values
    }

    pub(super) fn write(&self, changes: &[(Name, Option<Bytes>)]) {
        let mut state = self.state();
        state.has_written |= !changes.is_empty();
        for (name, value) in changes {
            match value {
                // A copy: a small part of a message would keep the message.
                Some(value) => state.data.insert(name.clone(), Bytes::copy_from_slice(value)),
                None => state.data.remove(name),
            };
        }
    }

    /// Orders the changes, and says how many of them take effect first.
    pub(super) fn cut(&self, changes: &mut [(Name, Option<Bytes>)]) -> usize {
        if self.atomic || changes.len() < 2 {
            return changes.len();
        }
        // By the keys, not by their places: a processor with a hash map writes in another order each time.
        let rank = |name: &Name| {
            name.key.bytes().fold(self.salt, |rank, byte| mix(rank ^ u64::from(byte)))
        };
        changes.sort_by_cached_key(|(name, _)| rank(name));
        let most = u64::try_from(changes.len() - 1).unwrap_or(1);
        1 + usize::try_from(mix(self.salt) % most).unwrap_or_default()
    }

    /// `process` is called.
    pub(super) fn begin_attempt(&self, batch: &Batch) {
        let mut state = self.state();
        state.batches += 1;
        if !self.tells {
            return;
        }
        let ranges: Vec<String> =
            batch.offsets().map(|(topic, range)| format!("{topic} {range}")).collect();
        let messages = batch.iter().map(|m| (m.topic().to_owned(), m.offset().get())).collect();
        let attempt = Attempt { ranges: ranges.join(", "), messages, reads: BTreeMap::new() };
        state.attempts.push(attempt);
        state.in_attempt = true;
    }

    /// What is read from now on does not belong to a call of `process`.
    pub(super) fn end_attempt(&self) {
        self.state().in_attempt = false;
    }

    pub(super) fn batches(&self) -> usize {
        self.state().batches
    }

    pub(super) fn attempts(&self) -> Vec<Attempt> {
        self.state().attempts.clone()
    }

    pub(super) fn has_written(&self) -> bool {
        self.state().has_written
    }

    pub(super) fn contents(&self) -> BTreeMap<Name, Bytes> {
        self.state().data.clone()
    }
}
