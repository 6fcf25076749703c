//! The group coordinator: who is a member, who owns which partition, what is committed.
//!
//! What both protocols share; [`eager`](super::eager) and [`incremental`](super::incremental) have
//! the rest.

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use super::client::{Client, Tell};
use super::weather::Mode;
use crate::message::{Offset, TopicPartition};

/// Who gets what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Topic by topic in ranges, as with Kafka's `range`.
    Range,
    /// Each topic-partition by chance, anew with each rebalance.
    Scattered,
    /// As told; what is not named is nobody's.
    Pinned(BTreeMap<TopicPartition, u32>),
}

#[derive(Debug)]
pub(super) struct GroupMember {
    /// Which of the client's memberships this is.
    pub(super) membership: u64,
    /// What a commit must come with (incremental).
    pub(super) epoch: i32,
}

#[derive(Debug)]
pub(super) struct Owner {
    pub(super) client: u32,
    /// Counts ownerships: a partition that comes back to the same member comes with another one.
    pub(super) grant: u64,
    /// The owner was told to give it back.
    pub(super) revoking: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Stable,
    /// Waiting for the members to join.
    Preparing(BTreeSet<u32>),
    /// The members are being told what they got.
    Completing,
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(super) mode: Mode,
    pub(crate) spread: Spread,
    pub(super) generation: i32,
    pub(super) phase: Phase,
    pub(super) round: u64,
    pub(super) members: BTreeMap<u32, GroupMember>,
    /// Memberships that are over.
    former: BTreeSet<u64>,
    pub(super) owners: BTreeMap<TopicPartition, Owner>,
    pub(super) target: BTreeMap<TopicPartition, u32>,
    pub(super) committed: BTreeMap<TopicPartition, Offset>,
}

impl Group {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            spread: Spread::Range,
            generation: 0,
            phase: Phase::Stable,
            round: 0,
            members: BTreeMap::new(),
            former: BTreeSet::new(),
            owners: BTreeMap::new(),
            target: BTreeMap::new(),
            committed: BTreeMap::new(),
        }
    }

    pub(super) fn is_member(&self, client: u32, membership: u64) -> bool {
        self.members.get(&client).is_some_and(|member| member.membership == membership)
    }
}

impl World {
    pub(crate) fn committed(&self, partition: &TopicPartition) -> Option<Offset> {
        self.group.committed.get(partition).copied()
    }

    /// As an administrator does while nobody is there.
    pub(crate) fn set_committed(&mut self, partition: &TopicPartition, offset: i64) {
        self.group.committed.insert(partition.clone(), Offset::new(offset));
    }

    pub(crate) fn members(&self) -> Vec<u32> {
        self.group.members.keys().copied().collect()
    }

    pub(super) fn is_group_settled(&self) -> bool {
        let group = &self.group;
        let mut owners = group.owners.iter();
        group.phase == Phase::Stable
            && owners.all(|(partition, owner)| {
                let held = self.clients.get(&owner.client).and_then(|c| c.assigned.get(partition));
                !owner.revoking && held.is_some_and(|fetching| fetching.grant == owner.grant)
            })
    }

    /// Partitions move, or may.
    pub(crate) fn rebalance(&mut self) {
        match self.group.mode {
            Mode::Eager => self.prepare(None),
            Mode::Incremental => self.retarget(),
        }
    }

    /// Throws a member out, as after a session time-out. It will hear of it.
    pub(crate) fn throw_out(&mut self, client: u32) {
        let Some(member) = self.group.members.get(&client) else { return };
        let membership = member.membership;
        self.tell_story(|| format!("group: member {client} is thrown out"));
        self.count("thrown out");
        let notice = self.rng.millis(self.weather.notice.clone());
        self.after(notice, move |world| world.hear(client, membership, Tell::Lost));
        self.leave(client);
    }

    /// A member is gone.
    pub(super) fn leave(&mut self, client: u32) {
        let Some(member) = self.group.members.remove(&client) else { return };
        self.group.former.insert(member.membership);
        match self.group.mode {
            Mode::Eager => self.prepare(None),
            Mode::Incremental => {
                self.group.owners.retain(|_, owner| owner.client != client);
                self.retarget();
            }
        }
    }

    /// Takes a new member, unless it is gone already, or was thrown out and will hear of that.
    pub(super) fn enlist(&mut self, client: u32, membership: u64) -> bool {
        let wants = |c: &Client| c.is_active() && c.membership == membership;
        let wants = self.clients.get(&client).is_some_and(wants);
        if !wants || self.group.former.contains(&membership) {
            return false;
        }
        self.group.members.insert(client, GroupMember { membership, epoch: 0 });
        true
    }

    pub(super) fn join(&mut self, client: u32, membership: u64) {
        match self.group.mode {
            Mode::Eager => self.eager_join(client, membership),
            Mode::Incremental => self.incremental_join(client, membership),
        }
    }

    /// Says something to a member. It hears things in order.
    pub(super) fn tell(&mut self, client: u32, tell: Tell) {
        let Some(member) = self.group.members.get(&client) else { return };
        let membership = member.membership;
        let delay = match tell {
            Tell::Assignment { .. } => self.weather.latency.clone(),
            _ => self.weather.heartbeat.clone(),
        };
        let delay = self.rng.millis(delay);
        let Some(at) = self.clients.get_mut(&client).map(|client| client.next_tell(delay)) else {
            return;
        };
        self.at(at, move |world| world.hear(client, membership, tell));
    }

    /// Members that want this topic.
    fn subscribers(&self, topic: &str) -> Vec<u32> {
        let wants = |client: &&u32| self.clients[client].topics.iter().any(|t| **t == *topic);
        self.group.members.keys().filter(wants).copied().collect()
    }

    /// Who gets what, from now on.
    pub(super) fn spread(&mut self) -> BTreeMap<TopicPartition, u32> {
        let members: Vec<u32> = self.group.members.keys().copied().collect();
        let partitions = self.partitions();
        match (&self.group.spread, members.is_empty()) {
            (_, true) => BTreeMap::new(),
            (Spread::Pinned(pins), _) => {
                let pins = pins.iter().filter(|(_, client)| members.contains(client));
                pins.map(|(partition, client)| (partition.clone(), *client)).collect()
            }
            (Spread::Scattered, _) => {
                let spread = partitions.into_iter().filter_map(|partition| {
                    let members = self.subscribers(&partition.topic);
                    (!members.is_empty()).then(|| (partition, self.rng.pick(&members)))
                });
                spread.collect()
            }
            (Spread::Range, _) => {
                let count = |topic: &str| partitions.iter().filter(|p| &*p.topic == topic).count();
                let ranged = partitions.iter().filter_map(|partition| {
                    let members = self.subscribers(&partition.topic);
                    let number = usize::try_from(partition.number).unwrap();
                    let index = number * members.len() / count(&partition.topic);
                    Some((partition.clone(), *members.get(index)?))
                });
                ranged.collect()
            }
        }
    }
}
