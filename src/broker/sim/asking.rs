//! What a client asks its application, assignments and revocations, and what comes of the answers.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::World;
use super::client::{Asked, Next, Pending, names};
use super::fetch::Fetching;
use super::weather::Mode;
use crate::broker::{Answer, Event, RebalanceId};
use crate::message::{Offset, TopicPartition};

impl World {
    pub(super) fn ask_assigned(&mut self, id: u32, grants: BTreeMap<TopicPartition, u64>) {
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

    pub(super) fn ask_revoked(&mut self, id: u32, partitions: Vec<TopicPartition>, lost: bool) {
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
            client.queues.entry(partition.number).or_default();
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

    fn check_answer(&mut self, id: u32, asked: Instant) {
        let took = asked.elapsed();
        if self.monitor.answer_limit.is_some_and(|limit| took > limit) {
            self.violation(|| format!("client {id} took {took:?} to answer a revocation"));
        }
    }
}
