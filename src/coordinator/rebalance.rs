//! Answering the group: partitions come, partitions go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

#[cfg(test)]
use crate::broker::sim::mutation::{self, Mutation};
use crate::coordinator::Coordinator;
use crate::coordinator::lanes::{Before, Lane};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::RebalanceEvent;
use crate::message::TopicPartition;
use crate::pipeline::partition_processor::Command;
use crate::pipeline::start::Start;
use crate::pipeline::topic_progress::TopicProgress;

/// Lost partitions may already have a new owner: whatever does not end at once is left to itself.
const LOST_DEADLINE: Duration = Duration::from_millis(250);

impl Coordinator {
    pub(super) fn new_epoch(&mut self) -> u64 {
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        epoch
    }

    /// Takes newly assigned partitions: at these offsets or, without any, when they are found.
    pub(super) async fn assign(
        &mut self,
        partitions: Vec<TopicPartition>,
        starts: Vec<Start>,
    ) -> Result<()> {
        let offsets = starts.iter().map(|start| Some(start.offset));
        let offsets = offsets.chain(std::iter::repeat(None));
        let pairs: Vec<_> = partitions.iter().cloned().zip(offsets).collect();
        self.consumer.assign(&pairs)?;
        let mut by_number: BTreeMap<i32, Vec<TopicProgress>> = BTreeMap::new();
        for start in starts {
            let number = start.partition.partition;
            let topic = self.begin_epoch(start)?;
            by_number.entry(number).or_default().push(topic);
        }
        info!(partitions = %names(&partitions), "assigned");
        for (number, topics) in by_number {
            self.add_topics(number, topics, Before::Nothing);
        }
        if !partitions.is_empty() {
            self.note_assignment();
        }
        self.rebalanced(&RebalanceEvent::Assigned(partitions));
        self.start_lanes().await
    }

    fn rebalanced(&mut self, event: &RebalanceEvent) {
        self.metrics.rebalanced(event);
        self.gauges.set(&self.board.status());
        let called = self.settings.rebalanced(event);
        self.note(called);
    }

    /// Begins a partition that was assigned before it was known where it starts.
    pub(super) async fn begin_late(&mut self, start: Start) -> Result<()> {
        let number = start.partition.partition;
        let topic = self.begin_epoch(start)?;
        self.add_topics(number, vec![topic], Before::GoBack);
        self.note_assignment();
        self.start_lanes().await
    }

    /// Without lanes nothing is left to consume, and yet we are not done: an eager rebalance takes
    /// everything and then brings it back. Only a report that we get nothing is believed.
    fn note_assignment(&self) {
        let settled = !self.lanes.is_empty() && self.late.is_empty();
        self.board.settled.store(settled, Ordering::SeqCst);
    }

    fn begin_epoch(&mut self, start: Start) -> Result<TopicProgress> {
        let Start { partition, offset, committed, end } = start;
        let topic = self.settings.topic_index(&partition.topic).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "a topic was assigned that is no input topic")
                .with("topic", &partition.topic)
        })?;
        let epoch = self.new_epoch();
        debug!(%partition, epoch, start = %offset, %end, committed = committed.is_some(), "begins");
        self.committer.begin(partition.clone(), epoch, offset, committed);
        let mut progress = TopicProgress::new(topic, partition, epoch, offset, end);
        progress.committed = committed;
        Ok(progress)
    }

    /// A running lane that gets more topics finishes what it has and begins again with all of them.
    fn add_topics(&mut self, number: i32, topics: Vec<TopicProgress>, before: Before) {
        match self.lanes.get_mut(&number) {
            Some(lane) => {
                lane.add_topics(topics, before);
                lane.command(Command::Drain(None));
            }
            None => {
                let lane = Lane::new(number, topics, before);
                // Not only when it starts: until then it is not consumed either.
                self.board.insert(lane.progress().clone());
                self.lanes.insert(number, lane);
            }
        }
    }

    /// Gives partitions back: drains their lanes, records what finished, and only then lets go.
    pub(super) async fn revoke(&mut self, revoked: &[TopicPartition], lost: bool) -> Result<()> {
        let word = if lost { "lost" } else { "revoked" };
        info!(partitions = %names(revoked), "{word}");
        for partition in revoked {
            if let Some(lookup) = self.late.remove(partition) {
                lookup.abort();
            }
        }
        let numbers: BTreeSet<i32> = revoked.iter().map(|partition| partition.partition).collect();
        let numbers: Vec<i32> =
            numbers.into_iter().filter(|number| self.lanes.contains_key(number)).collect();
        if lost {
            self.end_lanes(&numbers, Command::Stop, Instant::now() + LOST_DEADLINE).await;
        } else {
            let deadline = Instant::now() + self.settings.drain_deadline;
            self.end_lanes(&numbers, Command::Drain(Some(deadline)), deadline).await;
        }
        self.record_revoked(revoked, lost).await;
        self.show_committed();
        let lost_after_all = lost || self.consumer.assignment_lost();
        self.note_recorded(|partition| revoked.contains(partition), lost_after_all);
        for partition in revoked {
            #[cfg(test)]
            if mutation::is(Mutation::CommitWithoutOwnership) {
                continue;
            }
            self.committer.end(partition);
        }
        // Before the answer: the next owner may be in this process, and report to the same recorder.
        self.gauges.forget(revoked);
        self.consumer.unassign(revoked)?;
        self.forget(numbers, revoked);
        let partitions = revoked.to_vec();
        self.rebalanced(&match lost_after_all {
            true => RebalanceEvent::Lost(partitions),
            false => RebalanceEvent::Revoked(partitions),
        });
        self.start_lanes().await
    }

    fn forget(&mut self, numbers: Vec<i32>, revoked: &[TopicPartition]) {
        self.board.settled.store(false, Ordering::SeqCst);
        for number in numbers {
            let remains = self.lanes.get_mut(&number).is_some_and(|l| l.remove_topics(revoked));
            if !remains {
                self.lanes.remove(&number);
                self.board.remove(number);
            }
        }
        self.empty_reports = 0;
        self.note_assignment();
    }

    /// Records the finished prefix of partitions that go, unless they are lost.
    ///
    /// A commit that is not answered in time is left to the client, which neither joins the group again
    /// nor leaves it, nor tells it that partitions are free, before the commit is done with: it goes out
    /// with the generation in which the partitions were ours, or not at all. If the group has gone on
    /// without this member, it refuses that.
    async fn record_revoked(&mut self, revoked: &[TopicPartition], lost: bool) {
        if lost || self.consumer.assignment_lost() {
            return;
        }
        self.collect_finished();
        let recording =
            self.committer.commit_now(|p| revoked.contains(p) && self.topics.may_commit(p));
        match timeout(self.settings.commit_timeout, recording).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(%error, "could not record at the revocation: what was finished last comes again");
            }
            Err(_) => warn!(
                "no answer to the commit at the revocation: what was finished last may come again"
            ),
        }
    }
}

fn names(partitions: &[TopicPartition]) -> String {
    let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    names.join(" ")
}
