//! A member as its client library sees it: what the group wants of it, what it has asked its
//! application, which waits for an answer, and what it is assigned.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::World;
use super::fetch::{Fetching, QueueState};
use super::weather::Mode;
use crate::broker::{Event, FetchPosition, RebalanceId};
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
    pub(super) id: RebalanceId,
    pub(super) what: Asked,
}

#[derive(Debug)]
pub(super) enum Asked {
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
    pub(super) reported: RebalanceId,
    /// It has joined again without waiting for an answer: what it asked then need not be answered (eager).
    pub(super) unanswered: BTreeMap<RebalanceId, Asked>,
    /// Commits under way, and what waits for their end.
    pub(super) commits: usize,
    pub(super) next: Option<Next>,
    /// Asks to be a member, or to stay one, and has not heard what it gets.
    pub(super) joining: bool,
    /// Everything was given back, and nothing has come yet (eager). A member that had nothing is not
    /// asked to give anything back, and so its application knows of no rebalance.
    pub(super) waiting: bool,
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

    pub(super) fn send(&self, event: Event) {
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

    pub(super) fn send_join(&mut self, id: u32) {
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

    pub(super) fn proceed(&mut self, id: u32, next: Next) {
        self.client(id).next = Some(next);
        self.proceed_if_committed(id);
    }

    /// Goes on if no commit is under way any more.
    pub(super) fn proceed_if_committed(&mut self, id: u32) {
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

    /// From now on nothing of these partitions arrives. Their messages stay in the queues, outdated.
    pub(super) fn forget(
        &mut self,
        id: u32,
        partitions: &[TopicPartition],
    ) -> Vec<(TopicPartition, u64)> {
        let mut grants = Vec::new();
        for partition in partitions {
            let client = self.client(id);
            if let Some(fetching) = client.assigned.remove(partition) {
                grants.push((partition.clone(), fetching.grant));
            }
            let number = partition.number;
            if !client.assigned.keys().any(|assigned| assigned.number == number) {
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
            let queued_bytes = self.queued(id, partition.number) as u64;
            let fetched = (!is_asked).then_some(Offset::new(fetched));
            FetchPosition { partition, fetched, end, queued_bytes }
        });
        let positions: Vec<_> = positions.collect();
        let (taken, delay) = (Instant::now(), self.rng.millis(self.weather.report.clone()));
        self.after(delay, move |world| {
            world.client(id).send(Event::Positions { taken, positions });
        });
        // In order with the rebalances, which positions are not.
        if let Some(assigned) = settled {
            self.client(id).send(Event::Settled { assigned });
        }
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

pub(super) fn names(partitions: &[TopicPartition]) -> String {
    let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    names.join(" ")
}
