//! The classic protocol with an eager assignor: all members give everything back and join; when
//! all have, or the time is over, a new generation begins.

use std::collections::BTreeMap;

use super::World;
use super::client::Tell;
use super::group::{Owner, Phase};
use crate::message::TopicPartition;

impl World {
    /// A JoinGroup arrives.
    pub(super) fn eager_join(&mut self, client: u32, membership: u64) {
        if !self.group.is_member(client, membership) && !self.enlist(client, membership) {
            return;
        }
        match &mut self.group.phase {
            Phase::Preparing(joined) => {
                joined.insert(client);
                self.complete_if_all_joined();
            }
            _ => self.prepare(Some(client)),
        }
    }

    /// Begins a rebalance, if none has begun; `joined` needs not be told.
    pub(super) fn prepare(&mut self, joined: Option<u32>) {
        if matches!(self.group.phase, Phase::Preparing(_)) {
            return self.complete_if_all_joined();
        }
        self.tell_story(|| "group: prepares a rebalance".into());
        self.group.phase = Phase::Preparing(joined.into_iter().collect());
        self.group.round += 1;
        let round = self.group.round;
        for client in self.members() {
            if joined != Some(client) {
                self.tell(client, Tell::Rejoin);
            }
        }
        self.after(self.weather.rebalance_timeout, move |world| world.stop_waiting(round));
        self.complete_if_all_joined();
    }

    fn stop_waiting(&mut self, round: u64) {
        let Phase::Preparing(joined) = &self.group.phase else { return };
        if self.group.round != round {
            return;
        }
        let late: Vec<u32> =
            self.group.members.keys().filter(|client| !joined.contains(client)).copied().collect();
        for client in late {
            self.throw_out(client);
        }
    }

    fn complete_if_all_joined(&mut self) {
        let Phase::Preparing(joined) = &self.group.phase else { return };
        if !self.group.members.keys().all(|client| joined.contains(client)) {
            return;
        }
        self.group.generation += 1;
        let (round, generation) = (self.group.round, self.group.generation);
        self.group.phase = Phase::Completing;
        let mut grants: BTreeMap<u32, BTreeMap<TopicPartition, u64>> = BTreeMap::new();
        self.group.owners.clear();
        for (partition, client) in self.spread() {
            let grant = self.fresh();
            let owner = Owner { client, grant, revoking: false };
            self.group.owners.insert(partition.clone(), owner);
            grants.entry(client).or_default().insert(partition, grant);
        }
        self.tell_story(|| format!("group: generation {generation} begins"));
        for client in self.members() {
            let grants = grants.remove(&client).unwrap_or_default();
            self.tell(client, Tell::Assignment { generation, grants });
        }
        self.after_latency(move |world| {
            if world.group.round == round && world.group.phase == Phase::Completing {
                world.group.phase = Phase::Stable;
            }
        });
    }
}
