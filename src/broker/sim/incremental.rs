//! The newer protocol (KIP-848): the group has a target assignment, and each member is brought
//! towards it: what it has too much is revoked; when it has given that back, others get it. Each
//! member has an epoch of its own.

use std::collections::BTreeMap;

use super::World;
use super::client::Tell;
use super::group::Owner;
use crate::message::TopicPartition;

impl World {
    pub(super) fn incremental_join(&mut self, client: u32, membership: u64) {
        if !self.enlist(client, membership) {
            return;
        }
        if self.rng.chance(30) {
            let nothing = Tell::Assign { grants: BTreeMap::new() };
            self.tell(client, nothing);
        }
        self.retarget();
    }

    pub(super) fn retarget(&mut self) {
        self.group.generation += 1;
        self.group.target = self.spread();
        let generation = self.group.generation;
        self.tell_story(|| format!("group: epoch {generation} begins"));
        self.reconcile();
    }

    fn reconcile(&mut self) {
        self.revoke_what_moves();
        self.raise_epochs();
        self.assign_what_is_free();
    }

    fn revoke_what_moves(&mut self) {
        let mut moving: BTreeMap<u32, Vec<(TopicPartition, u64)>> = BTreeMap::new();
        for (partition, owner) in &mut self.group.owners {
            if !owner.revoking && self.group.target.get(partition) != Some(&owner.client) {
                owner.revoking = true;
                moving.entry(owner.client).or_default().push((partition.clone(), owner.grant));
            }
        }
        for (client, moving) in moving {
            for part in self.piecemeal(moving) {
                let partitions = part.iter().map(|(partition, _)| partition.clone()).collect();
                self.tell(client, Tell::Revoke { partitions });
                self.after(self.weather.rebalance_timeout, move |world| {
                    let waits = part.iter().any(|(partition, grant)| {
                        world.group.owners.get(partition).is_some_and(|o| o.grant == *grant)
                    });
                    if waits {
                        world.throw_out(client);
                    }
                });
            }
        }
    }

    /// Members that have given back what they had to get the group's epoch.
    fn raise_epochs(&mut self) {
        let generation = self.group.generation;
        let mut raised = Vec::new();
        for (client, member) in &mut self.group.members {
            let mut owners = self.group.owners.values();
            if member.epoch < generation && !owners.any(|o| o.client == *client && o.revoking) {
                member.epoch = generation;
                raised.push(*client);
            }
        }
        for client in raised {
            self.tell(client, Tell::Epoch(generation));
        }
    }

    fn assign_what_is_free(&mut self) {
        let free = self.group.target.iter().filter(|(p, _)| !self.group.owners.contains_key(p));
        let free: Vec<_> = free.map(|(partition, client)| (partition.clone(), *client)).collect();
        let mut granted: BTreeMap<u32, Vec<(TopicPartition, u64)>> = BTreeMap::new();
        for (partition, client) in free {
            let grant = self.fresh();
            let owner = Owner { client, grant, revoking: false };
            self.group.owners.insert(partition.clone(), owner);
            granted.entry(client).or_default().push((partition, grant));
        }
        for (client, granted) in granted {
            for part in self.piecemeal(granted) {
                self.tell(client, Tell::Assign { grants: part.into_iter().collect() });
            }
        }
    }

    /// In one piece or, by chance, in two.
    fn piecemeal<T>(&mut self, mut all: Vec<T>) -> Vec<Vec<T>> {
        if all.len() < 2 || !self.rng.chance(self.weather.faults.piecemeal) {
            return vec![all];
        }
        let rest = all.split_off(self.rng.size(1..=all.len() - 1));
        vec![all, rest]
    }

    /// A member has given partitions back.
    pub(super) fn released(
        &mut self,
        client: u32,
        membership: u64,
        grants: &[(TopicPartition, u64)],
    ) {
        if !self.group.is_member(client, membership) {
            return;
        }
        for (partition, grant) in grants {
            if self.group.owners.get(partition).is_some_and(|owner| owner.grant == *grant) {
                self.group.owners.remove(partition);
            }
        }
        self.reconcile();
    }
}
