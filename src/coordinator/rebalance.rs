//! Answering the group: partitions come, partitions go.

use std::collections::BTreeMap;

use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::broker::{Answer, CommitError, POSITIONS_SETTLE, RebalanceId};
use crate::coordinator::Coordinator;
use crate::coordinator::lanes::Before;
use crate::error::{Error, ErrorKind, Result};
use crate::logging::list;
use crate::message::TopicPartition;
use crate::pipeline::start::Start;
use crate::pipeline::topic_progress::TopicProgress;
use crate::status::RebalanceEvent;

impl Coordinator {
    /// Takes newly assigned partitions: at these offsets, or, where there is none, without one.
    pub(super) async fn assign(
        &mut self,
        id: RebalanceId,
        partitions: Vec<TopicPartition>,
        starts: Vec<Start>,
    ) -> Result<()> {
        let offsets = starts.iter().map(|start| (&start.partition, start.offset));
        let offsets: BTreeMap<_, _> = offsets.collect();
        let pairs = partitions.iter().map(|p| (p.clone(), offsets.get(p).copied()));
        let pairs: Vec<_> = pairs.collect();
        if self.consumer.assign(id, &pairs)? == Answer::Superseded {
            // What replaces it is the next event.
            self.starts.end(&partitions);
            return Ok(());
        }
        self.restart_positions(POSITIONS_SETTLE);
        info!(partitions = %list(&partitions), "assigned");
        self.begin(starts, || Before::Nothing)?;
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

    /// Begins partitions that were assigned before it was known where they start.
    pub(super) async fn begin_late(&mut self, starts: Vec<Start>) -> Result<()> {
        if starts.is_empty() {
            return Ok(());
        }
        self.begin(starts, || Before::GoBack)?;
        self.note_assignment();
        self.start_lanes().await
    }

    /// Adds partitions to the lanes of their numbers.
    fn begin(&mut self, starts: Vec<Start>, before: impl Fn() -> Before) -> Result<()> {
        let mut by_number: BTreeMap<i32, Vec<TopicProgress>> = BTreeMap::new();
        for start in starts {
            let number = start.partition.number;
            let topic = self.begin_epoch(start)?;
            by_number.entry(number).or_default().push(topic);
        }
        for (number, topics) in by_number {
            // Not only when it starts: until then it is not consumed either.
            if let Some(new) = self.lanes.add_topics(number, topics, before()) {
                self.board.insert(new);
            }
        }
        Ok(())
    }

    fn note_assignment(&self) {
        if self.by_parts {
            self.board.set_settled(false);
        } else {
            self.settle();
        }
    }

    fn begin_epoch(&mut self, start: Start) -> Result<TopicProgress> {
        let Start { partition, offset, committed, end } = start;
        let topic = self.settings.topic_index(&partition.topic).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the group assigned a topic that is not an input topic")
                .with("topic", &partition.topic)
        })?;
        let epoch = self.committer.begin(partition.clone(), offset, committed);
        debug!(
            %partition, epoch = epoch.number(), start = %offset, %end, committed = committed.is_some(),
            "begins"
        );
        Ok(TopicProgress::new(topic, partition, epoch, offset, end))
    }

    /// Gives partitions back: drains their lanes, commits what finished, and only then lets go.
    ///
    /// The client may go on without the answer (see [`Event`](crate::broker::Event)): then they are lost.
    pub(super) async fn revoke(
        &mut self,
        id: RebalanceId,
        revoked: &[TopicPartition],
        lost: bool,
    ) -> Result<()> {
        let word = if lost { "lost" } else { "revoked" };
        info!(partitions = %list(revoked), "{word}");
        self.starts.end(revoked);
        let numbers = self.lanes.of(revoked);
        match lost {
            true => self.stop_lanes(&numbers).await,
            false => self.drain_lanes(&numbers).await,
        }
        let lost = lost || self.events.is_superseded();
        self.commit_revoked(revoked, lost).await;
        let lost_after_all = lost || self.consumer.assignment_lost() || self.events.is_superseded();
        self.end_epochs(revoked, lost_after_all);
        self.consumer.unassign(id, revoked)?;
        self.restart_positions(POSITIONS_SETTLE);
        self.given_up(numbers, revoked, lost_after_all);
        self.start_lanes().await
    }

    /// A new assignment replaces everything, and no revocation came before it: what was ours may already be another
    /// member's.
    pub(super) async fn lose_everything(&mut self) -> Result<()> {
        let topics = self.lanes.values().flat_map(|lane| lane.partitions());
        let lost: Vec<TopicPartition> = topics.chain(self.starts.late().cloned()).collect();
        let lost = if fault!(KeepReplaced) { Vec::new() } else { lost };
        if lost.is_empty() {
            return Ok(());
        }
        warn!(partitions = %list(&lost), "the group has assigned all partitions anew: these are lost");
        self.starts.end(&lost);
        let numbers = self.lanes.of(&lost);
        self.stop_lanes(&numbers).await;
        self.end_epochs(&lost, true);
        self.given_up(numbers, &lost, true);
        self.start_lanes().await
    }

    /// From here on nothing is committed for these partitions.
    fn end_epochs(&mut self, revoked: &[TopicPartition], lost_after_all: bool) {
        for partition in revoked {
            if fault!(CommitWithoutOwnership) {
                continue;
            }
            self.committer.end(partition, lost_after_all);
        }
        // Before the answer: the next owner may be in this process, and report to the same recorder.
        self.gauges.forget(revoked);
    }

    fn given_up(&mut self, numbers: Vec<i32>, revoked: &[TopicPartition], lost: bool) {
        self.forget(numbers, revoked);
        let partitions = revoked.to_vec();
        self.rebalanced(&match lost {
            true => RebalanceEvent::Lost(partitions),
            false => RebalanceEvent::Revoked(partitions),
        });
    }

    fn forget(&mut self, numbers: Vec<i32>, revoked: &[TopicPartition]) {
        self.board.set_settled(false);
        for gone in self.lanes.remove_topics(numbers, revoked) {
            self.board.remove(gone);
        }
        self.empty_reports = 0;
        self.note_assignment();
    }

    /// Commits the finished prefix of partitions that go, unless they are lost.
    ///
    /// A commit that is not answered in time is left to the client, which neither joins the group again
    /// nor leaves it, nor tells it that partitions are free, before the commit is done with: it goes out
    /// with the generation in which the partitions were ours, or not at all. If the group has gone on
    /// without this member, it refuses that.
    async fn commit_revoked(&mut self, revoked: &[TopicPartition], lost: bool) {
        if lost || self.consumer.assignment_lost() {
            return;
        }
        self.collect_finished();
        let wanted = |p: &TopicPartition| revoked.contains(p) && self.topics.may_commit(p);
        let commit = self.committer.commit_now(wanted, self.by_parts);
        let committed = tokio::select! {
            biased;
            () = self.events.superseded() => {
                warn!("the group went on before the offset commit at a revocation: the last batches may be processed again");
                return;
            }
            committed = timeout(self.settings.commit_timeout, commit) => committed,
        };
        match committed {
            Ok(Ok(())) => {}
            Ok(Err(CommitError { error, .. })) => {
                warn!(
                    ?error,
                    "the offset commit at a revocation failed: the last batches will be processed again"
                );
            }
            Err(_) => warn!(
                "no answer to the offset commit at a revocation: the last batches may be processed again"
            ),
        }
    }
}
