//! A member as its client library sees it: what the group wants of it, what it has asked its
//! application, which waits for an answer, and what it is assigned.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::World;
use super::fetch::{Fetching, QueueState};
use super::group::Mode;
use crate::broker::{Answer, Event, FetchPosition, RebalanceId};
use crate::message::{Offset, TopicPartition};

/// What the group says to a member.
#[derive(Debug)]
pub(super) enum Tell {
    /// Give everything back and join again (eager).
    Rejoin,
    /// What the new generation brings (eager).
    Assignment {
        generation: i32,
        grants: BTreeMap<TopicPartition, u64>,
    },
    Revoke {
        partitions: Vec<TopicPartition>,
    },
    Assign {
        grants: BTreeMap<TopicPartition, u64>,
    },
    Epoch(i32),
    /// You are no member any more.
    Lost,
}

/// What the application has yet to answer.
#[derive(Debug)]
pub(super) struct Pending {
    id: RebalanceId,
    what: Asked,
}

#[derive(Debug)]
enum Asked {
    Assigned(BTreeMap<TopicPartition, u64>),
    Revoked(Vec<TopicPartition>, Instant),
}

/// What a member does next in the group. As with librdkafka, not while one of its commits is under
/// way: a commit never goes out with a later generation than it was called for in.
#[derive(Debug)]
pub(super) enum Next {
    Join,
    Release(Vec<(TopicPartition, u64)>),
    Leave(oneshot::Sender<()>),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Life {
    New,
    Active,
    /// Closed, or dropped.
    Gone,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) life: Life,
    pub(super) topics: Arc<[Arc<str>]>,
    events: mpsc::UnboundedSender<Event>,
    pub(super) statics: Option<Vec<TopicPartition>>,
    /// Counts memberships: what was said to an earlier one does not concern the current one.
    pub(super) membership: u64,
    /// What commits go out with.
    pub(super) generation: Option<i32>,
    pub(super) lost: bool,
    pub(super) pending: Option<Pending>,
    /// The last rebalance that was reported.
    reported: RebalanceId,
    /// It has joined again without waiting for an answer: what it asked then need not be answered (eager).
    unanswered: BTreeMap<RebalanceId, Asked>,
    /// Commits under way, and what waits for their end.
    pub(super) commits: usize,
    pub(super) next: Option<Next>,
    /// Asks to be a member, or to stay one, and has not heard what it gets.
    joining: bool,
    /// Everything was given back, and nothing has come yet (eager). A member that had nothing is not
    /// asked to give anything back, and so its application knows of no rebalance.
    waiting: bool,
    inbox: VecDeque<Tell>,
    told_until: Instant,
    pub(super) assigned: BTreeMap<TopicPartition, Fetching>,
    pub(super) queues: BTreeMap<i32, QueueState>,
}

/// How often fetch positions are reported.
const REPORTS: Duration = Duration::from_millis(500);

impl Client {
    pub(super) fn new(
        topics: Arc<[Arc<str>]>,
        events: mpsc::UnboundedSender<Event>,
        statics: Option<Vec<TopicPartition>>,
    ) -> Self {
        Self {
            life: Life::New,
            topics,
            events,
            statics,
            membership: 0,
            generation: None,
            lost: false,
            pending: None,
            reported: 0,
            unanswered: BTreeMap::new(),
            commits: 0,
            next: None,
            joining: false,
            waiting: false,
            inbox: VecDeque::new(),
            told_until: Instant::now(),
            assigned: BTreeMap::new(),
            queues: BTreeMap::new(),
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.life == Life::Active
    }

    /// The group is stable, as far as the member knows.
    fn is_steady(&self) -> bool {
        let has_joined = self.statics.is_some() || self.generation.is_some();
        let is_asked = self.pending.is_some() || !self.inbox.is_empty() || self.lost;
        let is_asked = is_asked || self.next.is_some();
        has_joined && !is_asked && !self.joining
    }

    /// When the member hears of something said now.
    pub(super) fn next_tell(&mut self, delay: Duration) -> Instant {
        self.told_until = self.told_until.max(Instant::now() + delay);
        self.told_until
    }

    fn send(&self, event: Event) {
        // Nobody hears what is said to one that is gone.
        let _ = self.events.send(event);
    }
}

impl World {
    pub(super) fn client(&mut self, client: u32) -> &mut Client {
        self.clients.get_mut(&client).unwrap()
    }

    pub(super) fn start_client(&mut self, id: u32) {
        let client = self.client(id);
        client.life = Life::Active;
        match client.statics.clone() {
            None => self.join_anew(id),
            Some(statics) => {
                let grants = statics.into_iter().map(|p| (p, self.fresh())).collect();
                let membership = self.client(id).membership;
                self.after_latency(move |world| {
                    world.hear(id, membership, Tell::Assign { grants });
                });
            }
        }
        self.after(REPORTS, move |world| world.report(id));
    }

    /// Asks to become a member.
    fn join_anew(&mut self, id: u32) {
        let membership = self.fresh();
        self.client(id).membership = membership;
        self.send_join(id);
    }

    fn send_join(&mut self, id: u32) {
        let client = self.client(id);
        client.joining = true;
        let membership = client.membership;
        self.after_latency(move |world| world.join(id, membership));
    }

    /// The member hears what the group says.
    pub(super) fn hear(&mut self, id: u32, membership: u64, tell: Tell) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if !client.is_active() || client.membership != membership {
            return;
        }
        match tell {
            Tell::Lost => {
                client.lost = true;
                client.generation = None;
                client.inbox.clear();
            }
            // What was still on its way when the membership ended.
            _ if client.lost => {}
            tell => client.inbox.push_back(tell),
        }
        self.step(id);
    }

    /// Asks the application the next thing, if it has answered the last.
    pub(super) fn step(&mut self, id: u32) {
        let client = self.client(id);
        while client.is_active() && client.pending.is_none() && client.next.is_none() {
            if client.lost {
                if client.assigned.is_empty() {
                    if client.commits == 0 {
                        client.lost = false;
                        self.join_anew(id);
                    }
                    return;
                }
                let all = client.assigned.keys().cloned().collect();
                return self.ask_revoked(id, all, true);
            }
            // Commits leave the client before it hears of a new generation.
            let is_assignment = matches!(client.inbox.front(), Some(Tell::Assignment { .. }));
            if is_assignment && client.commits > 0 {
                return;
            }
            let Some(tell) = client.inbox.pop_front() else { return };
            match tell {
                Tell::Rejoin if client.assigned.is_empty() => return self.send_join(id),
                Tell::Rejoin => {
                    let all = client.assigned.keys().cloned().collect();
                    return self.ask_revoked(id, all, false);
                }
                Tell::Revoke { partitions } => return self.ask_revoked(id, partitions, false),
                Tell::Assignment { generation, grants } => {
                    client.generation = Some(generation);
                    return self.ask_assigned(id, grants);
                }
                Tell::Assign { grants } => return self.ask_assigned(id, grants),
                Tell::Epoch(epoch) => {
                    client.generation = Some(epoch);
                    client.joining = false;
                }
                Tell::Lost => {}
            }
        }
    }

    fn ask_assigned(&mut self, id: u32, grants: BTreeMap<TopicPartition, u64>) {
        let partitions: Vec<_> = grants.keys().cloned().collect();
        self.tell_story(|| format!("client {id}: assigned {}", names(&partitions)));
        self.count("assigned");
        let replaces = self.begin_rebalance(id);
        let client = self.client(id);
        if !client.unanswered.is_empty() {
            self.count("assigned without an answer before");
        }
        let client = self.client(id);
        let event = client.reported;
        client.pending = Some(Pending { id: event, what: Asked::Assigned(grants) });
        client.send(Event::Assigned { id: event, partitions, replaces });
    }

    /// The next question to the application gets its number. Where only parts of an assignment change, the client
    /// drops what it has fetched of all partitions until the answer. Says whether everything changes at once.
    fn begin_rebalance(&mut self, id: u32) -> bool {
        let is_group = self.client(id).statics.is_none();
        let is_eager = is_group && self.group.mode == Mode::Eager;
        if is_group && !is_eager {
            self.purge(id);
        }
        self.client(id).reported += 1;
        is_eager
    }

    /// A member of an eager group learns of new topics or partitions and joins again, whatever it has asked its
    /// application.
    pub(crate) fn rejoin_unanswered(&mut self, id: u32) {
        let is_eager = self.group.mode == Mode::Eager;
        let client = self.client(id);
        let may = is_eager && client.is_active() && client.statics.is_none() && client.commits == 0;
        if !may || client.lost || client.next.is_some() {
            return;
        }
        let Some(pending) = client.pending.take() else { return };
        client.unanswered.insert(pending.id, pending.what);
        self.tell_story(|| format!("client {id}: joins again without an answer"));
        self.count("rejoined without an answer");
        self.send_join(id);
    }

    fn ask_revoked(&mut self, id: u32, partitions: Vec<TopicPartition>, lost: bool) {
        let word = if lost { "lost" } else { "revoked" };
        self.tell_story(|| format!("client {id}: {word} {}", names(&partitions)));
        self.count(word);
        self.begin_rebalance(id);
        let client = self.client(id);
        let (event, asked) = (client.reported, Asked::Revoked(partitions.clone(), Instant::now()));
        client.pending = Some(Pending { id: event, what: asked });
        client.send(Event::Revoked { id: event, partitions, lost });
    }

    /// The application's answer to an assignment.
    pub(super) fn answer_assigned(
        &mut self,
        id: u32,
        event: RebalanceId,
        starts: &[(TopicPartition, Option<Offset>)],
    ) -> Answer {
        let client = self.client(id);
        if !client.is_active() {
            return Answer::Taken;
        }
        let is_superseded = client.pending.as_ref().is_some_and(|pending| pending.id > event);
        let asked = match client.unanswered.remove(&event) {
            Some(_) if is_superseded => return Answer::Superseded,
            // It joins again, and meanwhile takes the answer.
            Some(asked) => Some(asked),
            None => client.pending.take_if(|pending| pending.id == event).map(|p| p.what),
        };
        let Some(Asked::Assigned(grants)) = asked else {
            self.violation(|| format!("client {id} answers an assignment that was not asked"));
            return Answer::Taken;
        };
        // What comes after an assignment of everything replaces what was never answered.
        client.unanswered.retain(|earlier, _| *earlier > event);
        if client.statics.is_none() && self.group.mode == Mode::Eager {
            let before: Vec<_> = self.client(id).assigned.keys().cloned().collect();
            self.forget(id, &before);
        }
        let client = self.client(id);
        // What was lost meanwhile is not read; the revocation follows.
        let dead = client.lost;
        let given: Vec<_> = starts.iter().map(|(partition, _)| partition).collect();
        if !given.iter().copied().eq(grants.keys()) {
            self.violation(|| format!("client {id} assigns {given:?} where it got {grants:?}"));
        }
        let client = self.client(id);
        client.joining = false;
        client.waiting = false;
        for (partition, offset) in starts {
            let grant = grants[partition];
            let version = self.fresh();
            let fetching = Fetching::new(grant, version, offset.map(Offset::get), dead);
            self.tell_story(|| format!("client {id}: reads {partition} from {offset:?}"));
            if offset.is_none() {
                self.count("assigned without a start");
            }
            if let Some(offset) = offset {
                self.begins(id, partition, grant, offset.get());
            }
            let client = self.client(id);
            client.assigned.insert(partition.clone(), fetching);
            client.queues.entry(partition.partition).or_default();
            self.arm(id, partition);
        }
        self.end_purge(id);
        self.step(id);
        Answer::Taken
    }

    /// The application's answer to a revocation.
    pub(super) fn answer_revoked(
        &mut self,
        id: u32,
        event: RebalanceId,
        partitions: &[TopicPartition],
    ) {
        let client = self.client(id);
        if !client.is_active() {
            return;
        }
        if client.unanswered.remove(&event).is_some() {
            // It ends the assignment all the same.
            self.forget(id, partitions);
            return;
        }
        match client.pending.take().map(|pending| pending.what) {
            Some(Asked::Revoked(asked, at)) if asked == partitions => self.check_answer(id, at),
            pending => {
                let what = format!("client {id} gives back {partitions:?}, asked was {pending:?}");
                return self.violation(|| what);
            }
        }
        self.tell_story(|| format!("client {id}: gives back {}", names(partitions)));
        let released = self.forget(id, partitions);
        self.end_purge(id);
        let mode = self.group.mode;
        let client = self.client(id);
        client.waiting = mode == Mode::Eager && !partitions.is_empty();
        if client.lost {
            return self.step(id);
        }
        let next = match mode {
            Mode::Eager => Next::Join,
            Mode::Incremental => Next::Release(released),
        };
        self.proceed(id, next);
    }

    pub(super) fn proceed(&mut self, id: u32, next: Next) {
        self.client(id).next = Some(next);
        self.proceed_if_recorded(id);
    }

    /// Goes on if no commit is under way any more.
    pub(super) fn proceed_if_recorded(&mut self, id: u32) {
        let client = self.client(id);
        let next = client.next.take_if(|_| client.commits == 0);
        let membership = client.membership;
        match next {
            None => {}
            Some(Next::Join) => self.send_join(id),
            Some(Next::Release(released)) => {
                self.after_latency(move |world| world.released(id, membership, &released));
            }
            Some(Next::Leave(left)) => self.after_latency(move |world| {
                world.leave(id);
                world.after_latency(|_| {
                    let _ = left.send(());
                });
            }),
        }
        self.step(id);
    }

    fn check_answer(&mut self, id: u32, asked: Instant) {
        let took = asked.elapsed();
        if self.monitor.answer_limit.is_some_and(|limit| took > limit) {
            self.violation(|| format!("client {id} took {took:?} to answer a revocation"));
        }
    }

    /// From now on nothing of these partitions arrives. Their messages stay in the queues, outdated.
    fn forget(&mut self, id: u32, partitions: &[TopicPartition]) -> Vec<(TopicPartition, u64)> {
        let mut grants = Vec::new();
        for partition in partitions {
            let client = self.client(id);
            if let Some(fetching) = client.assigned.remove(partition) {
                grants.push((partition.clone(), fetching.grant));
            }
            let number = partition.partition;
            if !client.assigned.keys().any(|assigned| assigned.partition == number) {
                client.queues.remove(&number);
            }
            self.monitor.unassigned(id, partition);
        }
        grants
    }

    /// The client is closed or dropped: nothing more is asked or fetched.
    pub(super) fn end_client(&mut self, id: u32) {
        let client = self.client(id);
        client.life = Life::Gone;
        client.pending = None;
        client.next = None;
        client.inbox.clear();
        let all: Vec<_> = client.assigned.keys().cloned().collect();
        self.forget(id, &all);
    }

    /// Tells the application where fetching stands, as it stood a moment ago.
    fn report(&mut self, id: u32) {
        let client = self.client(id);
        if !client.is_active() {
            return;
        }
        let settled = client.is_steady().then_some(client.assigned.len());
        let is_asked = client.pending.is_some();
        let reading = client.assigned.iter().filter(|(_, f)| !f.dead && !f.unstarted);
        let reading: Vec<_> =
            reading.map(|(p, f)| (p.clone(), f.position, f.reported(), f.end)).collect();
        let positions = reading.into_iter().map(|(partition, position, fetched, end)| {
            let log_end = self.log(&partition).end;
            // At the end, a fetch waits for more.
            let end = if position == log_end { Some(log_end) } else { end };
            let end = end.map(Offset::new);
            // A byte for each message.
            let queued_bytes = self.queued(id, partition.partition) as u64;
            let fetched = (!is_asked).then_some(Offset::new(fetched));
            FetchPosition { partition, fetched, end, queued_bytes }
        });
        let positions: Vec<_> = positions.collect();
        let (taken, delay) = (Instant::now(), self.rng.millis(self.weather.report.clone()));
        self.after(delay, move |world| {
            let client = world.client(id);
            client.send(Event::Positions { taken, positions });
            if let Some(assigned) = settled {
                client.send(Event::Settled { assigned });
            }
        });
        self.after(REPORTS, move |world| world.report(id));
    }

    /// Everything was given back, and nothing has come yet.
    pub(crate) fn is_between_assignments(&mut self, id: u32) -> bool {
        self.client(id).waiting
    }

    /// Every member has what it is to have, and nobody is asked anything.
    pub(crate) fn is_settled(&self) -> bool {
        let mut there = self.clients.values().filter(|client| client.life != Life::Gone);
        there.all(Client::is_steady) && self.is_group_settled()
    }

    /// The member has been asked to give something back, and has not answered.
    pub(crate) fn is_asked_to_give_back(&mut self, id: u32) -> bool {
        let pending = self.client(id).pending.as_ref();
        pending.is_some_and(|pending| matches!(pending.what, Asked::Revoked(..)))
    }

    /// A rebalance that replaces everything has been reported and not answered: commits would go out with its
    /// generation.
    pub(super) fn is_replaced(&mut self, id: u32) -> bool {
        let is_eager = self.group.mode == Mode::Eager;
        let client = self.client(id);
        let pending = client.pending.as_ref();
        let assigned = pending.is_some_and(|pending| matches!(pending.what, Asked::Assigned(_)));
        is_eager && assigned && client.statics.is_none()
    }

    /// The member has been asked something, and has not answered.
    pub(crate) fn is_asked(&mut self, id: u32) -> bool {
        self.client(id).pending.is_some()
    }

    /// The group assigns everything to a member anew, and no revocation comes before (eager).
    pub(crate) fn assign_again(&mut self, id: u32) {
        let client = self.client(id);
        let generation = client.generation.unwrap_or_default();
        let grants = client.assigned.iter().map(|(partition, f)| (partition.clone(), f.grant));
        let tell = Tell::Assignment { generation, grants: grants.collect() };
        let membership = client.membership;
        self.hear(id, membership, tell);
    }

    /// The topic-partitions that a member reads.
    pub(crate) fn assigned(&mut self, id: u32) -> Vec<TopicPartition> {
        self.client(id).assigned.keys().cloned().collect()
    }

    /// Something that the client itself tells its application.
    pub(crate) fn send_event(&mut self, id: u32, event: Event) {
        self.client(id).send(event);
    }
}

fn names(partitions: &[TopicPartition]) -> String {
    let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    names.join(" ")
}
