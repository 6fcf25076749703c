//! The consumer's thread: turns librdkafka's events into [`Event`]s and commit results, and leaves
//! the group at the end.
//!
//! Place in the data path: beside it; no message comes through here.
//!
//! It waits for nothing but the next event, at most [`POLL`]: by polling it shows the group that
//! this member is alive. Only while the consumer closes does it answer rebalances itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::assignment::Slots;
use super::denial::Denial;
use super::errors;
use super::ffi::{Client, ClientEvent, EventKind, Known, ListEntry, QueueHandle};
use super::log::{self, Repetitions};
use super::queue::BesideValues;
use super::statistics::{Assigned, Reading};
use super::token::{self, TokenProvider};
use crate::broker::{CommitResult, Event, RebalanceId};
use crate::error::{Error, ErrorKind};
use crate::lock::Mutex;
use crate::message::TopicPartition;

pub(super) const POLL: Duration = Duration::from_millis(100);

/// How long the thread may take with the events that are there, for whoever waits for that.
const CATCHES_UP: Duration = Duration::from_secs(5);

/// What the consumer and its thread share.
#[derive(Default)]
pub(super) struct ConsumerShared {
    slots: Mutex<Slots>,
    rebalances: Rebalances,
    /// Counts the thread's turns: it waits for an event, and handles it.
    turns: AtomicU64,
    /// `run` has begun: somebody reads the events.
    started: AtomicBool,
    commits: Mutex<Commits>,
    next_commit: AtomicUsize,
    closing: Mutex<Closing>,
    assigned: Mutex<Assigned>,
    /// By partition number. No other lock is taken while this one is held.
    beside_values: Mutex<HashMap<i32, Arc<BesideValues>>>,
}

/// Commits under way by their ids; `over` when no more results will come.
#[derive(Default)]
struct Commits {
    waiting: HashMap<usize, oneshot::Sender<CommitResult>>,
    over: bool,
}

/// The numbers of the last rebalances that were reported and answered. Numbered, since the next may be
/// reported while the answer to the last one has only just been taken.
#[derive(Default)]
struct Rebalances {
    reported: AtomicU64,
    answered: AtomicU64,
    /// The last assignment that replaces everything: answers to what was reported before it come too late.
    replaces: AtomicU64,
}

#[derive(Default)]
struct Closing {
    requested: bool,
    done: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

impl ConsumerShared {
    pub(super) fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock()
    }

    /// Notes that a rebalance waits for its answer; `replaces` everything that was assigned. Its number.
    fn reported(&self, replaces: bool) -> RebalanceId {
        // Called by one thread only. The order matters to those who read: see `is_replaced`.
        let id = self.rebalances.reported.load(Ordering::Acquire) + 1;
        if replaces {
            self.rebalances.replaces.store(id, Ordering::Release);
        }
        self.rebalances.reported.store(id, Ordering::Release);
        id
    }

    /// Notes that librdkafka has taken an answer.
    pub(super) fn answered(&self, id: RebalanceId) {
        let reported = self.rebalances.reported.load(Ordering::Acquire);
        self.rebalances.answered.fetch_max(id.min(reported), Ordering::AcqRel);
    }

    /// Whether a rebalance waits for its answer, with what librdkafka has said and the thread has not heard yet. Blocks
    /// until the thread has, [`CATCHES_UP`] at most.
    pub(super) fn is_answer_due_now(&self, events: &QueueHandle) -> bool {
        let deadline = Instant::now() + CATCHES_UP;
        let waits = || {
            std::thread::sleep(Duration::from_millis(1));
            Instant::now() < deadline && !self.is_answer_due() && !self.close_requested()
        };
        while events.len() > 0 && waits() {}
        // What is no longer in the queue is in hand in this turn, or was in an earlier one.
        let turn = self.turns();
        events.wake();
        while self.turns() == turn && waits() {}
        self.is_answer_due() || self.close_requested()
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    pub(super) fn start(&self) {
        self.started.store(true, Ordering::Release);
    }

    fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    pub(super) fn is_answer_due(&self) -> bool {
        let Rebalances { reported, answered, .. } = &self.rebalances;
        reported.load(Ordering::Acquire) > answered.load(Ordering::Acquire)
    }

    /// Whether librdkafka has gone on without the answer to this rebalance.
    pub(super) fn is_superseded(&self, id: RebalanceId) -> bool {
        id < self.rebalances.replaces.load(Ordering::Acquire)
    }

    /// Whether an assignment that replaces everything waits for its answer.
    pub(super) fn is_replaced(&self) -> bool {
        let Rebalances { answered, replaces, .. } = &self.rebalances;
        replaces.load(Ordering::Acquire) > answered.load(Ordering::Acquire)
    }

    pub(super) fn assigned(&self) -> MutexGuard<'_, Assigned> {
        self.assigned.lock()
    }

    /// How large keys and headers of this partition number are.
    pub(super) fn beside_values(&self, number: i32) -> Arc<BesideValues> {
        Arc::clone(self.beside_values.lock().entry(number).or_default())
    }

    /// A new commit's id, and where its result will come; `None` when the client is gone.
    pub(super) fn expect_commit(&self) -> Option<(usize, oneshot::Receiver<CommitResult>)> {
        let mut commits = self.commits.lock();
        if commits.over {
            return None;
        }
        // Never 0, which librdkafka gives for results that nobody asked for.
        let id = self.next_commit.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = oneshot::channel();
        commits.waiting.insert(id, sender);
        Some((id, receiver))
    }

    pub(super) fn finish_commit(&self, id: usize, result: CommitResult) {
        if let Some(sender) = self.commits.lock().waiting.remove(&id) {
            // Whoever is gone does not want to know.
            let _ = sender.send(result);
        }
    }

    /// Asks the thread to close; the receiver hears when that is done, and by its end at the latest.
    pub(super) fn request_close(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut closing = self.closing.lock();
        closing.requested = true;
        if !closing.done {
            closing.waiting.push(sender);
        }
        receiver
    }

    fn close_requested(&self) -> bool {
        self.closing.lock().requested
    }

    /// No result and no event will come any more: lets everybody go who waits for one.
    fn finish(&self) {
        let mut commits = self.commits.lock();
        commits.over = true;
        commits.waiting.clear();
        drop(commits);
        let mut closing = self.closing.lock();
        closing.done = true;
        closing.waiting.clear();
    }
}

/// The thread's own things.
pub(super) struct ControlThread {
    pub(super) client: Arc<Client>,
    pub(super) queue: Arc<QueueHandle>,
    pub(super) topics: Arc<[Arc<str>]>,
    pub(super) shared: Arc<ConsumerShared>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) reading: Reading,
    pub(super) token_provider: Option<TokenProvider>,
    pub(super) repetitions: Repetitions,
    pub(super) denial: Denial,
    /// Before it closes, so that it leaves its group: see DESIGN.md.
    pub(super) unsubscribes: bool,
    pub(super) closing: bool,
}

impl Drop for ControlThread {
    /// Also where a subscriber of the log panics: nobody may wait for a thread that is gone.
    fn drop(&mut self) {
        self.shared.finish();
    }
}

impl ControlThread {
    pub(super) fn run(mut self) {
        loop {
            self.shared.turns.fetch_add(1, Ordering::AcqRel);
            let queue = Arc::clone(&self.queue);
            if let Some(event) = queue.poll(POLL) {
                self.handle(&event);
            }
            if !self.closing && self.shared.close_requested() {
                self.closing = true;
                if !self.begin_to_close() {
                    return;
                }
            }
            if self.closing && self.client.closed() {
                return;
            }
        }
    }

    /// Whether there is something to wait for.
    ///
    /// A rebalance that was reported and not answered is answered here, after `close`: then
    /// librdkafka takes "unassign" for the answer to an assignment too. And *only* such a one: a
    /// call that reaches librdkafka between the group's end and the closing of its queue is dropped
    /// without a reply, and waits for good. While an answer is due, the group cannot end. For the
    /// same reason nobody assigns any more from here on.
    fn begin_to_close(&self) -> bool {
        self.shared.slots().close();
        self.shared.assigned().clear();
        if self.unsubscribes
            && let Err(code) = self.client.unsubscribe()
        {
            tracing::debug!(code = code.name(), "the consumer could not unsubscribe");
        }
        if let Err((code, text)) = self.client.close(&self.queue) {
            tracing::debug!(code = code.name(), "the consumer does not close: {text}");
            return false;
        }
        if self.shared.is_answer_due() {
            self.answer_with_unassign();
        }
        true
    }

    fn answer_with_unassign(&self) {
        if let Err(code) = self.client.unassign() {
            tracing::debug!(code = code.name(), "the consumer could not unassign");
        }
    }

    fn handle(&mut self, event: &ClientEvent<'_>) {
        match event.kind() {
            EventKind::Rebalance => self.rebalance(event),
            EventKind::Commit => self.commit_result(event),
            EventKind::Error => self.error(event),
            EventKind::Statistics => self.statistics(event),
            EventKind::Log => log::log("consumer", event),
            EventKind::TokenRefresh => token::refresh(&self.client, self.token_provider.as_ref()),
            EventKind::Deliveries | EventKind::Other => {}
        }
    }

    /// To the topic processor, if it is still there. Before it runs only what stops it is kept for it: nobody takes
    /// the rest out.
    fn send(&self, event: Event) {
        if self.shared.has_started() || matches!(event, Event::Fatal(_)) {
            let _ = self.events.send(event);
        }
    }

    /// Sends under the lock: a seek takes it too, so what is sent after the seek was judged after
    /// it. (What was sent before may still be on its way to whoever sought.)
    fn statistics(&mut self, event: &ClientEvent<'_>) {
        let Some(statistics) = Reading::parse(event.statistics()) else { return };
        let assigned = self.shared.assigned();
        let memory =
            |number, messages, values| self.shared.beside_values(number).memory(messages, values);
        let events = self.reading.events(&statistics, &assigned, memory);
        events.into_iter().for_each(|event| self.send(event));
        drop(assigned);
        let state = statistics.cgrp.as_ref().map_or("", |group| &group.state);
        if let Some(error) = self.denial.look(state, Instant::now()) {
            self.send(Event::Fatal(error));
        }
    }

    fn rebalance(&mut self, event: &ClientEvent<'_>) {
        self.denial.let_in();
        if self.closing {
            return self.answer_with_unassign();
        }
        let partitions = event.partitions().iter().map(|entry| self.partition(entry)).collect();
        let Some(code) = event.error() else { return };
        let is_cooperative = self.client.is_cooperative();
        if is_cooperative {
            // librdkafka has dropped what was fetched, of all partitions.
            self.shared.assigned().all_purged(Instant::now());
        }
        if code.is(Known::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
            let replaces = !is_cooperative;
            let id = self.shared.reported(replaces);
            self.send(Event::Assigned { id, partitions, replaces });
        } else if code.is(Known::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS) {
            let lost = self.client.assignment_lost();
            let id = self.shared.reported(false);
            self.send(Event::Revoked { id, partitions, lost });
        } else {
            self.answer_with_unassign();
            self.send(Event::Warning(errors::warning(code, event.error_text())));
        }
    }

    /// With the input topic's own name, so that it is not stored again and again.
    fn partition(&self, entry: &ListEntry) -> TopicPartition {
        let known = self.topics.iter().find(|topic| ***topic == *entry.topic);
        let topic = known.map_or_else(|| Arc::from(entry.topic.as_str()), Arc::clone);
        TopicPartition { topic, number: entry.partition }
    }

    fn commit_result(&self, event: &ClientEvent<'_>) {
        let id = event.commit_id();
        let entries = event.partitions();
        let failed: Vec<&ListEntry> =
            entries.iter().filter(|entry| entry.error.is_some()).collect();
        // The partitions' own errors say more than the one for all of them.
        let code = failed.iter().find_map(|entry| entry.error).or(event.error());
        let code = code.filter(|code| !code.is(Known::RD_KAFKA_RESP_ERR__NO_OFFSET));
        let result = match code {
            None => Ok(()),
            Some(code) => {
                let all: Vec<&ListEntry> = entries.iter().collect();
                let blamed = if failed.is_empty() { all } else { failed };
                let mut topics: Vec<&str> =
                    blamed.iter().map(|entry| entry.topic.as_str()).collect();
                topics.sort_unstable();
                topics.dedup();
                Err(errors::commit(code, &topics.join(", "), &self.client))
            }
        };
        self.shared.finish_commit(id, result);
    }

    fn error(&mut self, event: &ClientEvent<'_>) {
        let Some(code) = event.error() else { return };
        if event.is_fatal() || code.is(Known::RD_KAFKA_RESP_ERR__FATAL) {
            let (code, text) = self.client.fatal_error().unwrap_or((code, event.error_text()));
            let kind = match errors::kind(code) {
                ErrorKind::Unauthorized => ErrorKind::Unauthorized,
                _ => ErrorKind::Backend,
            };
            let error = Error::new(kind, text).with("code", code.name());
            return self.send(Event::Fatal(errors::with_group(error, code, &self.client)));
        }
        let now = Instant::now();
        if code.is(Known::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED) {
            let error = errors::error(code, event.error_text());
            self.denial.refused(errors::with_group(error, code, &self.client), now);
        } else if errors::error(code, "").is_retryable() {
            self.denial.disturbed(now);
        }
        if self.shared.has_started() && self.repetitions.is_new(code, now) {
            self.send(Event::Warning(errors::warning(code, event.error_text())));
        }
    }
}
