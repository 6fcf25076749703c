//! The monitor: what the library promises, checked at the moment it could be broken.
//!
//! - `process` gets the messages of a partition in order and without a gap, from where it was
//!   assigned or sought to, and only while it is assigned.
//! - An offset is committed only when everything before it, from the start of the same ownership, is
//!   finished: `process` returned `Ok` and all that it sent is acknowledged.
//! - What a tick sent is acknowledged before anything is committed that the same processor value processed later.
//! - Ticks and `closing` come only while a partition of the number is assigned, and not beside another call. `closing`
//!   is the last call of a processor value, and comes when all calls before it are finished.
//! - What is committed never goes back. (Where the log is cut these two hold for what was not delivered only.)
//! - A processor value serves one ownership of a partition, one batch at a time.
//! - A revocation is answered in time.
//! - What one processor value sends to one partition arrives in order.
//! - Where what fails is processed again, nothing else is processed before it. A message that cannot be processed is
//!   passed over only when its letter is acknowledged or, where it is skipped, when it was seen to fail. No other
//!   message is rejected.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::World;
use super::poison::Poison;
use super::producer::LineKey;
use crate::message::{Offset, TopicPartition};

/// A call of `process`, `tick` or `closing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallId(usize);

#[derive(Debug)]
struct Call {
    client: u32,
    incarnation: u64,
    number: i32,
    /// Partition, offset, and ownership. Of a tick or `closing` there are none.
    messages: Vec<(TopicPartition, i64, u64)>,
    sent: usize,
    acked: usize,
    failed: bool,
    returned: bool,
    /// It ended without success, and its lane goes on.
    given_up: bool,
}

impl Call {
    /// It returned `Ok`, and all that it sent is acknowledged.
    fn is_complete(&self) -> bool {
        self.returned && !self.failed && self.acked == self.sent
    }
}

/// An ownership of a partition, from assignment to revocation.
#[derive(Debug)]
struct Grant {
    start: i64,
    /// Where the log ended when it began.
    end: i64,
    /// `process` gets this offset next, or the first message behind it.
    expected: i64,
    finished: BTreeSet<i64>,
    /// Where calls begin whose output was not delivered: they may come again.
    again: BTreeSet<i64>,
    /// What calls before this one left unfinished is processed again, if it is still in the log.
    since_call: usize,
    /// Where it was assigned or sought to last.
    begins: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Monitor {
    pub(crate) violations: Vec<String>,
    /// Offsets may be skipped and go back: the scenario is about offsets out of range.
    pub(crate) offsets_jump: bool,
    /// A group without a committed offset begins at the end or at a time: what is before is not to be processed.
    pub(crate) starts_late: bool,
    /// Messages that cannot be processed.
    pub(crate) poison: Poison,
    /// What fails is processed again by the same lane.
    pub(crate) retries: bool,
    /// A call that blocks its thread may still be under way when the next begins.
    pub(crate) calls_overlap: bool,
    /// Members that end by themselves when they have processed what they have.
    catching_up: BTreeSet<u32>,
    /// What such members had not processed when they left.
    left: BTreeMap<u32, Vec<(TopicPartition, i64)>>,
    /// How long the answer to a revocation may take.
    pub(crate) answer_limit: Option<Duration>,
    calls: Vec<Call>,
    grants: BTreeMap<u64, Grant>,
    current: BTreeMap<(u32, TopicPartition), u64>,
    /// Processed and delivered by anybody.
    pub(super) done: BTreeMap<TopicPartition, BTreeSet<i64>>,
    /// Messages that were rejected for good.
    pub(super) settled: BTreeMap<TopicPartition, BTreeSet<i64>>,
    running: BTreeMap<(u32, i32), usize>,
    incarnations: BTreeMap<u64, BTreeMap<TopicPartition, u64>>,
    /// Per processor value, its ticks that are not complete.
    open_ticks: BTreeMap<u64, BTreeSet<usize>>,
    /// Processor values whose `closing` was called.
    closed: BTreeSet<u64>,
    /// Calls of `tick`, and of `closing`.
    batchless: (usize, usize),
    /// Per line and processor value, the last message in the log: its call, and its place in that.
    order: BTreeMap<(LineKey, u64), (usize, usize)>,
}

impl Monitor {
    /// `end`: of the log at this moment.
    pub(super) fn assigned(
        &mut self,
        id: u32,
        partition: &TopicPartition,
        grant: u64,
        (start, end): (i64, i64),
    ) {
        self.current.insert((id, partition.clone()), grant);
        let since_call = self.calls.len();
        let grant_begins = Grant {
            start,
            end,
            expected: start,
            finished: BTreeSet::new(),
            again: BTreeSet::new(),
            since_call,
            begins: start,
        };
        self.grants.insert(grant, grant_begins);
    }

    /// This member ends by itself when it has processed what it has.
    pub(crate) fn catches_up(&mut self, client: u32) {
        self.catching_up.insert(client);
    }

    /// What a member that ended by itself had and had not processed, up to where it ended when it got it.
    pub(crate) fn left_by(&mut self, client: u32) -> Vec<(TopicPartition, i64)> {
        self.left.remove(&client).unwrap_or_default()
    }

    pub(super) fn unassigned(&mut self, client: u32, partition: &TopicPartition) {
        self.current.remove(&(client, partition.clone()));
    }

    pub(super) fn is_done(&self, partition: &TopicPartition, offset: i64) -> bool {
        self.done.get(partition).is_some_and(|done| done.contains(&offset))
    }

    /// The topic is another one now.
    pub(super) fn forget(&mut self, topic: &str) {
        self.done.retain(|partition, _| *partition.topic != *topic);
        self.settled.retain(|partition, _| *partition.topic != *topic);
    }

    /// Calls of `process` since the beginning.
    pub(crate) fn calls(&self) -> usize {
        self.calls.iter().filter(|call| !call.messages.is_empty()).count()
    }

    /// Calls of `tick` since the beginning.
    pub(crate) fn ticks(&self) -> usize {
        self.batchless.0
    }

    /// Calls of `closing` since the beginning.
    pub(crate) fn closings(&self) -> usize {
        self.batchless.1
    }

    /// Calls of the user's code that are neither over nor dropped.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// What was handed to `process`, in order, each message as often as it was.
    pub(crate) fn processed(&self, partition: &TopicPartition) -> Vec<i64> {
        let messages = self.calls.iter().flat_map(|call| &call.messages);
        let messages = messages.filter(|(p, _, _)| p == partition);
        messages.map(|(_, offset, _)| *offset).collect()
    }

    /// The number of processor values that have processed something.
    pub(crate) fn incarnations(&self) -> usize {
        self.incarnations.len()
    }

    fn finish_if_complete(&mut self, id: usize) {
        let call = &self.calls[id];
        if !call.is_complete() {
            return;
        }
        let incarnation = call.incarnation;
        if call.messages.is_empty() {
            if let Some(open) = self.open_ticks.get_mut(&incarnation) {
                open.remove(&id);
            }
            let behind = self.calls.iter().enumerate().skip(id + 1);
            let behind = behind.filter(|(_, call)| call.incarnation == incarnation);
            let batches = behind.filter(|(_, call)| !call.messages.is_empty());
            let batches: Vec<usize> = batches.map(|(id, _)| id).collect();
            return batches.into_iter().for_each(|id| self.finish_if_complete(id));
        }
        let ticks = self.open_ticks.get(&incarnation);
        if ticks.and_then(|ticks| ticks.first()).is_some_and(|tick| *tick < id) {
            return;
        }
        for (partition, offset, grant) in &call.messages {
            // Its letter counts.
            if self.poison.has(partition, *offset) {
                continue;
            }
            if let Some(grant) = self.grants.get_mut(grant) {
                grant.finished.insert(*offset);
            }
            self.done.entry(partition.clone()).or_default().insert(*offset);
        }
    }
}

impl World {
    /// `process` is called with these messages.
    pub(crate) fn process_begins(
        &mut self,
        client: u32,
        incarnation: u64,
        number: i32,
        messages: &[(TopicPartition, i64)],
    ) -> CallId {
        let id = self.monitor.calls.len();
        self.tell_story(|| {
            let messages: Vec<_> =
                messages.iter().map(|(p, offset)| format!("{p}={offset}")).collect();
            format!("client {client}: process {id} ({incarnation}) {}", messages.join(" "))
        });
        let mut granted = Vec::with_capacity(messages.len());
        for (partition, offset) in messages {
            let grant = self.monitor.current.get(&(client, partition.clone())).copied();
            match grant {
                None => self.violation(|| {
                    format!("client {client} processes {partition}={offset}, which is not its own")
                }),
                Some(grant) => self.check_sequence(partition, *offset, grant),
            }
            let grant = grant.unwrap_or(0);
            self.check_incarnation(incarnation, partition, grant);
            granted.push((partition.clone(), *offset, grant));
        }
        self.call_begins(client, incarnation, number, granted)
    }

    /// `tick` is called or, if it `is_last`, `closing`.
    pub(crate) fn batchless_begins(
        &mut self,
        client: u32,
        incarnation: u64,
        number: i32,
        is_last: bool,
    ) -> CallId {
        let what = if is_last { "closing" } else { "tick" };
        let id = self.monitor.calls.len();
        self.tell_story(|| format!("client {client}: {what} {id} ({incarnation}) of {number}"));
        self.count(what);
        let mut current = self.monitor.current.keys();
        if !current.any(|(owner, partition)| *owner == client && partition.number == number) {
            self.violation(|| format!("client {client}: {what} of {number}, which is not its own"));
        }
        let mut before = self.monitor.calls.iter().filter(|call| call.incarnation == incarnation);
        if is_last && before.any(|call| !call.is_complete() && !self.is_made_up_for(call)) {
            self.violation(|| format!("closing of {number} before all calls are finished"));
        }
        self.monitor.open_ticks.entry(incarnation).or_default().insert(id);
        let (ticks, closings) = &mut self.monitor.batchless;
        *(if is_last { closings } else { ticks }) += 1;
        let call = self.call_begins(client, incarnation, number, Vec::new());
        if is_last {
            self.monitor.closed.insert(incarnation);
        }
        call
    }

    /// The call failed, and what it was given was processed by another one, or rejected.
    fn is_made_up_for(&self, call: &Call) -> bool {
        let is_over = |(partition, offset, grant): &(TopicPartition, i64, u64)| {
            let finished = self.monitor.grants.get(grant).map(|grant| &grant.finished);
            finished.is_some_and(|finished| finished.contains(offset))
                || self.is_rejected(partition, *offset)
        };
        call.given_up && call.messages.iter().all(is_over)
    }

    fn call_begins(
        &mut self,
        client: u32,
        incarnation: u64,
        number: i32,
        messages: Vec<(TopicPartition, i64, u64)>,
    ) -> CallId {
        let id = self.monitor.calls.len();
        let running = self.monitor.running.insert((client, number), id);
        if running.is_some() && !self.monitor.calls_overlap {
            self.violation(|| format!("client {client} has two calls for {number} at once"));
        }
        if self.monitor.closed.contains(&incarnation) {
            self.violation(|| format!("a call of {number} follows `closing`"));
        }
        self.monitor.calls.push(Call {
            client,
            incarnation,
            number,
            messages,
            sent: 0,
            acked: 0,
            failed: false,
            returned: false,
            given_up: false,
        });
        CallId(id)
    }

    fn check_sequence(&mut self, partition: &TopicPartition, offset: i64, grant: u64) {
        let Some(state) = self.monitor.grants.get_mut(&grant) else { return };
        let log = &self.logs[partition];
        let expected = log.at(state.expected).map(|m| m.offset.get());
        // Retention may have deleted it since it was fetched.
        let deleted = log.offsets(state.expected, log.start).next();
        let from = std::mem::replace(&mut state.expected, offset + 1);
        let is_again = self.monitor.retries && state.again.contains(&offset);
        let is_next = expected == Some(offset) || deleted == Some(offset) || is_again;
        if !is_next && !self.is_rejected_up_to(partition, from, Offset::new(offset)) {
            self.violation(|| format!("{partition}: got {offset} where {expected:?} is next"));
        }
    }

    fn check_incarnation(&mut self, incarnation: u64, partition: &TopicPartition, grant: u64) {
        let served = self.monitor.incarnations.entry(incarnation).or_default();
        let first = *served.entry(partition.clone()).or_insert(grant);
        if first != grant {
            self.violation(|| format!("a processor serves two epochs of {partition}"));
        }
    }

    /// The call sends one more message; the value to send.
    pub(crate) fn process_sends(&mut self, CallId(id): CallId) -> Vec<u8> {
        let call = &mut self.monitor.calls[id];
        let index = call.sent;
        call.sent += 1;
        let mut value = u32::try_from(id).unwrap().to_le_bytes().to_vec();
        value.extend(u32::try_from(index).unwrap().to_le_bytes());
        value
    }

    /// The call is over: it returned `Ok`, or it failed or was dropped.
    pub(crate) fn process_ends(&mut self, CallId(id): CallId, ok: bool) {
        let end = if ok { "returns" } else { "ends without success" };
        self.count(if ok { "process returned" } else { "process did not return" });
        self.tell_story(|| format!("process {id} {end}"));
        if !ok && self.monitor.retries {
            self.give_up(id);
        }
        let monitor = &mut self.monitor;
        let call = &mut monitor.calls[id];
        call.returned = ok;
        let key = (call.client, call.number);
        if monitor.running.get(&key) == Some(&id) {
            monitor.running.remove(&key);
        }
        monitor.finish_if_complete(id);
    }

    /// What a call without success was given comes again, before anything else.
    fn give_up(&mut self, id: usize) {
        self.count("process again");
        let call = &mut self.monitor.calls[id];
        call.given_up = true;
        let (incarnation, messages) = (call.incarnation, call.messages.clone());
        if let Some(open) = self.monitor.open_ticks.get_mut(&incarnation) {
            open.remove(&id);
        }
        for (_, offset, grant) in &messages {
            if let Some(state) = self.monitor.grants.get_mut(grant) {
                state.expected = state.expected.min(*offset);
            }
        }
        self.failed_for(&messages);
    }

    /// An outgoing message has its place in the log.
    pub(super) fn delivered(&mut self, key: &LineKey, value: Option<&[u8]>) {
        let Some((id, index)) = decode(value) else { return };
        let line = (key.clone(), self.monitor.calls[id].incarnation);
        let last = self.monitor.order.insert(line, (id, index));
        if last.is_some_and(|last| last >= (id, index)) {
            self.violation(|| {
                format!("message {index} of process {id} arrives in {key:?} behind {last:?}")
            });
        }
    }

    pub(super) fn acked(&mut self, value: Option<&[u8]>) {
        let Some((id, _)) = decode(value) else { return };
        self.monitor.calls[id].acked += 1;
        self.monitor.finish_if_complete(id);
    }

    pub(super) fn not_delivered(&mut self, value: Option<&[u8]>) {
        let Some((id, _)) = decode(value) else { return };
        self.tell_story(|| format!("a message of process {id} is not delivered"));
        let call = &mut self.monitor.calls[id];
        call.failed = true;
        call.given_up = self.monitor.retries;
        let mut first: BTreeMap<u64, i64> = BTreeMap::new();
        for (_, offset, grant) in &call.messages {
            first
                .entry(*grant)
                .and_modify(|first| *first = (*first).min(*offset))
                .or_insert(*offset);
        }
        for (grant, offset) in first {
            if let Some(state) = self.monitor.grants.get_mut(&grant) {
                state.again.insert(offset);
            }
        }
    }

    pub(super) fn sought(&mut self, id: u32, partition: &TopicPartition, offset: i64) {
        let Some(grant) = self.monitor.current.get(&(id, partition.clone())).copied() else {
            return;
        };
        if let Some(skipped) = self.first_unfinished(partition, grant, offset) {
            self.violation(|| {
                format!("{partition} is sought to {offset}, {skipped} is unfinished")
            });
        }
        let calls = self.monitor.calls.len();
        if let Some(state) = self.monitor.grants.get_mut(&grant) {
            state.expected = offset;
            state.since_call = calls;
            state.begins = offset;
        }
    }

    /// A commit is being applied.
    pub(super) fn check_commit(
        &mut self,
        partition: &TopicPartition,
        grant: Option<u64>,
        offset: i64,
    ) {
        let unfinished = grant.and_then(|grant| self.first_unfinished(partition, grant, offset));
        if let Some(unfinished) = unfinished {
            self.violation(|| {
                format!("{partition}={offset} committed, {unfinished} is unfinished")
            });
        }
        let before = self.committed(partition).filter(|before| before.get() > offset);
        if let Some(before) = before.filter(|_| !self.monitor.offsets_jump) {
            self.violation(|| format!("{partition}={offset} committed, it was {before}"));
        }
    }

    /// A member begins to read a partition.
    pub(super) fn begins(&mut self, id: u32, partition: &TopicPartition, grant: u64, start: i64) {
        let end = self.log(partition).end;
        self.monitor.assigned(id, partition, grant, (start, end));
        self.skip_before_first(partition, start);
    }

    /// Where a group without a committed offset begins late, nobody is to process what is before its first start.
    pub(super) fn skip_before_first(&mut self, partition: &TopicPartition, start: i64) {
        if self.monitor.starts_late && self.committed(partition).is_none() {
            let before: Vec<i64> = self.log(partition).offsets(0, start).collect();
            self.monitor.done.entry(partition.clone()).or_default().extend(before);
        }
    }

    /// A member leaves.
    pub(super) fn check_left(&mut self, client: u32) {
        if !self.monitor.catching_up.contains(&client) {
            return;
        }
        let current = self.monitor.current.iter().filter(|((id, _), _)| *id == client);
        let left = current.filter_map(|((_, partition), grant)| {
            let end = self.monitor.grants.get(grant)?.end;
            Some((partition.clone(), self.first_unfinished(partition, *grant, end)?))
        });
        let left: Vec<_> = left.collect();
        self.monitor.left.insert(client, left);
    }

    /// A message that was processed, and whose output was not delivered. Nobody may go on behind it, not even where
    /// the log begins later by now. What was given up and is processed again is exempt where it is no longer in the log.
    fn first_undelivered(&self, partition: &TopicPartition, grant: u64, to: i64) -> Option<i64> {
        let Grant { finished, since_call, begins, .. } = self.monitor.grants.get(&grant)?;
        let again = (*begins).max(self.logs[partition].start);
        let calls = self.monitor.calls.iter().enumerate().filter(|(_, call)| call.failed);
        let messages = calls.flat_map(|(id, call)| call.messages.iter().map(move |m| (id, m)));
        let passed = messages.filter(|(id, (p, offset, of))| {
            let counts = id >= since_call || *offset >= again;
            p == partition && *of == grant && *offset < to && counts
        });
        let mut passed = passed.map(|(_, (_, offset, _))| *offset);
        passed.find(|offset| !finished.contains(offset) && !self.is_rejected(partition, *offset))
    }

    fn first_unfinished(&self, partition: &TopicPartition, grant: u64, to: i64) -> Option<i64> {
        if self.monitor.offsets_jump {
            return self.first_undelivered(partition, grant, to);
        }
        let grant = self.monitor.grants.get(&grant)?;
        let mut offsets = self.logs[partition].offsets(grant.start, to);
        offsets.find(|offset| {
            !grant.finished.contains(offset) && !self.is_rejected(partition, *offset)
        })
    }
}

/// The call that sent an outgoing message, and its place there.
fn decode(value: Option<&[u8]>) -> Option<(usize, usize)> {
    let (call, rest) = value?.split_first_chunk::<4>()?;
    let (index, _) = rest.split_first_chunk::<4>()?;
    let call = usize::try_from(u32::from_le_bytes(*call)).ok()?;
    Some((call, usize::try_from(u32::from_le_bytes(*index)).ok()?))
}
