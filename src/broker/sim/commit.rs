//! Commits: when they leave the client, how the group judges them, when the answer comes.

use std::time::Duration;

use tokio::sync::oneshot;

use super::World;
use super::client::Next;
use super::group::Phase;
use super::weather::Mode;
use crate::broker::{CommitError, CommitRefusal, CommitResult};
use crate::error::{Error, ErrorKind};
use crate::message::{Offset, TopicPartition};

/// What becomes of a commit.
#[derive(Debug, Clone)]
pub(crate) enum CommitFate {
    Good,
    /// Refused with this code, though nothing is wrong with it.
    Refused(&'static str),
    /// It waits in the client for so long.
    Deferred(Duration),
    /// It waits in the client until [`World::release_commits`].
    Held,
    /// It is applied, and the client hears nothing and reports an error.
    AnswerLost,
}

#[derive(Debug)]
pub(super) struct Commit {
    client: u32,
    offsets: Vec<Entry>,
    fate: CommitFate,
    answer: oneshot::Sender<CommitResult>,
}

/// What is to be committed, and of which ownership it was when the commit was called for.
#[derive(Debug, Clone)]
struct Entry {
    partition: TopicPartition,
    grant: Option<u64>,
    offset: Offset,
}

/// What a commit is stamped with when it leaves the client.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    membership: u64,
    generation: i32,
}

impl World {
    pub(super) fn commit(
        &mut self,
        id: u32,
        offsets: Vec<(TopicPartition, Offset)>,
        answer: oneshot::Sender<CommitResult>,
    ) {
        self.count("commit");
        let fate = self.commit_fates.pop_front().unwrap_or_else(|| self.chance_fate());
        let client = self.client(id);
        let offsets = offsets.into_iter().map(|(partition, offset)| {
            let grant = client.assigned.get(&partition).map(|fetching| fetching.grant);
            Entry { partition, grant, offset }
        });
        let offsets: Vec<Entry> = offsets.collect();
        if let Some(Entry { partition, .. }) = offsets.iter().find(|entry| entry.grant.is_none()) {
            let partition = partition.clone();
            self.violation(|| format!("client {id} would commit {partition} after it gave it up"));
        }
        self.client(id).commits += 1;
        let commit = Commit { client: id, offsets, fate, answer };
        match commit.fate {
            CommitFate::Deferred(delay) => {
                self.count("commit deferred");
                self.after(delay, move |world| world.send(commit));
            }
            CommitFate::Held => self.held_commits.push(commit),
            _ => self.send(commit),
        }
    }

    /// Lets the commits go that were held.
    pub(crate) fn release_commits(&mut self) {
        for commit in std::mem::take(&mut self.held_commits) {
            self.send(commit);
        }
    }

    pub(crate) fn held_commits(&self) -> usize {
        self.held_commits.len()
    }

    fn chance_fate(&mut self) -> CommitFate {
        let faults = self.weather.faults.clone();
        if self.rng.chance(faults.commit_deferred) {
            CommitFate::Deferred(self.rng.millis(1..=faults.deferred_up_to.max(1)))
        } else if self.rng.chance(faults.commit_refused) {
            let codes = ["COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "REQUEST_TIMED_OUT"];
            CommitFate::Refused(self.rng.pick(&codes))
        } else if self.rng.chance(faults.answer_lost) {
            CommitFate::AnswerLost
        } else {
            CommitFate::Good
        }
    }

    /// The commit leaves the client.
    fn send(&mut self, commit: Commit) {
        let client = self.client(commit.client);
        let is_static = client.statics.is_some();
        // Nothing fences static members from each other; the client's last commits are not what the
        // tests are about.
        let is_leaving = matches!(client.next, Some(Next::Leave(_))) && !is_static;
        if !client.is_active() && !is_leaving {
            return self.answer(commit, Err(refused("_DESTROY")));
        }
        let generation = if is_static { Some(-1) } else { client.generation };
        // It knows that it is no member any more.
        let Some(generation) = generation else {
            return self.after_latency(|world| {
                world.answer(commit, Err(refused("UNKNOWN_MEMBER_ID")));
            });
        };
        let stamp = Stamp { membership: client.membership, generation };
        self.after_latency(move |world| world.arrive(commit, stamp));
    }

    fn arrive(&mut self, commit: Commit, stamp: Stamp) {
        let judged = self.judge(&commit, stamp);
        let code = judged.err().unwrap_or("applied");
        self.tell_story(|| {
            let entries = commit.offsets.iter();
            let what: Vec<_> = entries.map(|e| format!("{}={}", e.partition, e.offset)).collect();
            format!("commit of client {}: {}: {code}", commit.client, what.join(" "))
        });
        self.count(if judged.is_ok() { "commit applied" } else { "commit refused" });
        if judged.is_ok() {
            self.apply(&commit);
        }
        let result = match (&commit.fate, judged) {
            (CommitFate::AnswerLost, Ok(())) => Err(refused("_TIMED_OUT")),
            (_, judged) => judged.map_err(refused),
        };
        self.after_latency(move |world| world.answer(commit, result));
    }

    fn answer(&mut self, commit: Commit, result: CommitResult) {
        // Whoever is gone does not want to know.
        let _ = commit.answer.send(result);
        self.client(commit.client).commits -= 1;
        self.proceed_if_committed(commit.client);
    }

    fn judge(&self, commit: &Commit, stamp: Stamp) -> Result<(), &'static str> {
        let is_static = self.clients[&commit.client].statics.is_some();
        match (is_static, self.group.members.is_empty()) {
            (true, true) => return Ok(()),
            (true, false) => return Err("UNKNOWN_MEMBER_ID"),
            (false, _) => {}
        }
        if !self.group.is_member(commit.client, stamp.membership) {
            return Err("UNKNOWN_MEMBER_ID");
        }
        let group = &self.group;
        match group.mode {
            Mode::Eager if group.generation != stamp.generation => Err("ILLEGAL_GENERATION"),
            Mode::Eager if group.phase == Phase::Completing => Err("REBALANCE_IN_PROGRESS"),
            Mode::Incremental if group.members[&commit.client].epoch != stamp.generation => {
                Err("STALE_MEMBER_EPOCH")
            }
            _ => match commit.fate {
                CommitFate::Refused(code) => Err(code),
                _ => Ok(()),
            },
        }
    }

    fn apply(&mut self, commit: &Commit) {
        let is_static = self.clients[&commit.client].statics.is_some();
        for Entry { partition, grant, offset } in commit.offsets.clone() {
            let owner = self.group.owners.get(&partition).map(|owner| owner.grant);
            if !is_static && (grant.is_none() || owner != grant) {
                self.violation(|| {
                    let id = commit.client;
                    format!("client {id} commits {offset} for {partition} after it gave it up")
                });
            }
            self.check_commit(&partition, grant, offset.get());
            self.skip_before_first(&partition, offset.get());
            self.group.committed.insert(partition, offset);
        }
    }
}

fn refused(code: &'static str) -> CommitError {
    let error = Error::new(ErrorKind::Commit, "offsets could not be committed").with("code", code);
    let refusal = match code {
        "UNKNOWN_MEMBER_ID" => CommitRefusal::UnknownMember,
        "REBALANCE_IN_PROGRESS" | "ILLEGAL_GENERATION" | "STALE_MEMBER_EPOCH" => {
            CommitRefusal::Rebalancing
        }
        _ => CommitRefusal::Other,
    };
    CommitError { refusal, error }
}
