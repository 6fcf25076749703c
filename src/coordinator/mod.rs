//! The coordinator: one task that knows which partitions are ours, starts and ends their lanes, and
//! decides when offsets are committed. The inside of [`TopicProcessor::run`](crate::TopicProcessor).
//!
//! Place in the data path: above it. Everything that changes ownership happens in this one task, in
//! order, so that "is this partition still ours?" and "commit its offset" cannot race.
//!
//! A partition's life: *assigned* (offsets found, lane started) → *running* → *draining* (no new
//! batch; what is in flight may finish until the deadline) → *revoked* (the finished prefix is
//! committed, then the partition given back) or *lost* (stopped at once, nothing committed).
//!
//! This file is the loop; [`lanes`] starts and ends lanes, [`rebalance`] answers the group,
//! [`starting`] finds where partitions begin, [`out_of_range`] where to go on when an offset is gone, [`topics`]
//! notices when input topics change.

mod events;
mod lanes;
mod log_ends;
mod out_of_range;
mod rebalance;
mod starting;
#[cfg(test)]
mod tests;
mod topics;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{Instrument as _, error, info, info_span, warn};

use crate::broker::{
    CommitError, CommitRefusal, CommitResult, Consumer, Event, FetchPosition, POSITIONS_SETTLE,
    Producer,
};
use crate::command::Command;
use crate::coordinator::events::{Events, Next};
use crate::coordinator::lanes::Lanes;
use crate::coordinator::log_ends::Ends;
use crate::coordinator::starting::{Starts, answer_of};
use crate::coordinator::topics::Topics;
use crate::error::{Error, ErrorKind, Result};
use crate::logging::list;
use crate::metrics::partitions::PartitionGauges;
use crate::metrics::processor::ProcessorMetrics;
use crate::metrics::topics::TopicGauges;
use crate::pipeline::committer::Committer;
use crate::pipeline::progress::Board;
use crate::pipeline::punctuality::Goal;
use crate::pipeline::start::Doubt;
use crate::processor::DynFactory;
use crate::settings::Settings;
use crate::status::{ProcessorState, Report};

/// When the processor stops by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    Closed,
    CaughtUp,
}

/// So long after a commit failed, none is made at intervals, which a latency target may make short.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// How long leaving the group may take.
const GOODBYE: Duration = Duration::from_secs(10);

/// A member that has been told several times that it is in a stable group, with no partition, is
/// believed to get none. (Once is not enough: with KIP-848 partitions come one by one.)
const BELIEVED_EMPTY: u32 = 6;

pub(crate) struct Coordinator {
    settings: Arc<Settings>,
    consumer: Arc<dyn Consumer>,
    producer: Arc<dyn Producer>,
    events: Events,
    factory: Arc<Mutex<Box<dyn DynFactory>>>,
    board: Arc<Board>,
    committer: Committer,
    /// The latency target, if there is one.
    goal: Option<Arc<Goal>>,
    lanes: Lanes,
    /// Ends of logs, while they are asked for.
    ends: Option<BoxFuture<'static, Ends>>,
    topics: Topics,
    /// How the cluster has the input topics, while that is asked for.
    topic_states: Option<BoxFuture<'static, topics::Answer>>,
    /// Where assigned partitions begin.
    starts: Starts,
    /// Commits that are refused because a right is missing.
    commits_doubted: Doubt,
    /// When the last commit failed, if it did.
    commit_failed: Option<Instant>,
    /// The first failure: it stops the processor and is what `run` returns.
    failure: Option<Error>,
    /// The client cannot go on: another member may already have taken this one's place.
    client_failed: bool,
    empty_reports: u32,
    /// Assignments change by parts. Then one may be followed by the next at once, and only a report of the group says
    /// that it stands.
    by_parts: bool,
    started: Instant,
    /// Off until it runs.
    metrics: Arc<ProcessorMetrics>,
    gauges: PartitionGauges,
    topic_gauges: TopicGauges,
}

impl Drop for Coordinator {
    /// However `run` ends, handles are told. The lanes' tasks end with the [`JoinSet`].
    fn drop(&mut self) {
        for lane in self.lanes.values() {
            lane.command(Command::Stop);
        }
        self.board.close_for_good();
    }
}

impl Coordinator {
    pub(crate) fn new(
        settings: Arc<Settings>,
        consumer: Arc<dyn Consumer>,
        producer: Arc<dyn Producer>,
        events: mpsc::UnboundedReceiver<Event>,
        factory: Box<dyn DynFactory>,
        board: Arc<Board>,
    ) -> Self {
        let group = consumer.clone();
        let metrics = ProcessorMetrics::off();
        let send = Box::new(move |offsets| group.commit(offsets));
        let committer = Committer::new(send, settings.offset_refresh_interval, settings.is_static);
        let goal = settings.target_latency.map(|it| Goal::new(it, settings.commit_interval));
        let committer = committer.with_target(goal.clone());
        let starts = Starts::new(consumer.clone(), settings.start_from);
        Self {
            starts,
            gauges: PartitionGauges::new(&metrics.metrics),
            topic_gauges: TopicGauges::new(&metrics.metrics),
            metrics,
            settings,
            committer,
            goal,
            consumer,
            producer,
            events: Events::new(events),
            factory: Arc::new(Mutex::new(factory)),
            board,
            lanes: Lanes::default(),
            ends: None,
            commits_doubted: Doubt::default(),
            commit_failed: None,
            topics: Topics::default(),
            topic_states: None,
            failure: None,
            client_failed: false,
            empty_reports: 0,
            by_parts: false,
            started: Instant::now(),
        }
    }

    /// Consumes until told to stop, caught up (if that is wanted) or failed; then drains, commits
    /// and leaves. Dropping the future is a crash.
    pub(crate) async fn run(self, until: Until, stop: impl Future<Output = ()>) -> Result<Report> {
        let span = info_span!("processor", processor = %self.settings.name);
        // On the heap: it is too large to be moved around in the caller's futures.
        Box::pin(self.consume(until, stop).instrument(span)).await
    }

    async fn consume(mut self, until: Until, stop: impl Future<Output = ()>) -> Result<Report> {
        self.started = Instant::now();
        self.begin_metrics();
        let started = self.consumer.start();
        self.note(started);
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.board.set_state(ProcessorState::Running);
        info!(topics = %list(&*self.settings.topics), "running");
        let mut stop = pin!(stop);
        let mut control = self.board.control.subscribe();
        let mut ticks = interval(self.settings.commit_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut gauge_ticks = interval(self.settings.metrics_interval);
        gauge_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lag_ticks = interval(self.settings.lag_interval);
        lag_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut topic_ticks = interval(self.settings.topic_check_interval);
        topic_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let board = self.board.clone();
        loop {
            if self.failure.is_some() || control.borrow_and_update().is_over() {
                break;
            }
            self.apply_pauses();
            let may_end = until == Until::CaughtUp && self.knows_topics();
            let answering = self.starts.is_answering();
            tokio::select! {
                biased;
                () = &mut stop => break,
                _ = control.changed() => {}
                Some(end) = self.lanes.next_end() => self.lane_ended(end).await,
                result = self.committer.settle() => self.commit_settled(result),
                _ = ticks.tick() => self.tick(),
                _ = gauge_ticks.tick() => self.gauges.set(&self.board.status()),
                _ = lag_ticks.tick() => self.ask_for_ends(),
                ends = answer_of(&mut self.ends) => self.note_ends(ends),
                _ = topic_ticks.tick() => self.ask_for_topics(),
                answer = answer_of(&mut self.topic_states) => self.note_topics(answer),
                found = self.starts.next() => self.starts_found(found).await,
                next = self.events.next(answering) => self.handle_next(next).await,
                () = board.caught_up(), if may_end => break,
            }
        }
        self.shut_down().await
    }

    /// Only now: a global recorder may have been installed since this was built.
    fn begin_metrics(&mut self) {
        self.metrics = ProcessorMetrics::new(&self.settings.metrics);
        self.gauges = PartitionGauges::new(&self.settings.metrics);
        self.topic_gauges = TopicGauges::new(&self.settings.metrics);
        self.topic_gauges.register(&self.settings.topics);
        self.committer.measure(self.metrics.commits());
    }

    /// Before it is known which topics there are, nothing has caught up: the group may have left one out.
    fn knows_topics(&self) -> bool {
        !self.settings.needs_alignment || self.topics.is_heard()
    }

    async fn handle_next(&mut self, next: Next) {
        match next {
            Next::Event(event) => self.handle_event(event).await,
            Next::Superseded => self.starts.supersede(),
            Next::Ended => {
                let message = "the Kafka consumer ended without being closed";
                let gone = Error::new(ErrorKind::Internal, message);
                self.note(Err(gone));
            }
        }
    }

    async fn handle_event(&mut self, event: Event) {
        match event {
            Event::Assigned { id, partitions, replaces } => {
                self.by_parts = !replaces;
                if replaces {
                    let lost = self.lose_everything().await;
                    self.note(lost);
                }
                self.restart_positions(POSITIONS_SETTLE);
                self.find_starts(id, partitions, replaces);
            }
            Event::Revoked { id, partitions, lost } => {
                self.restart_positions(POSITIONS_SETTLE);
                let revoked = self.revoke(id, &partitions, lost).await;
                self.note(revoked);
            }
            Event::Positions { taken, positions } => self.note_positions(taken, &positions),
            Event::Settled { assigned } => self.note_settled(assigned),
            Event::Warning(error) => {
                warn!(?error, "the Kafka consumer reports an error and keeps trying");
            }
            Event::Fatal(error) => {
                // A right that is taken away gives nobody our place.
                self.client_failed = error.kind() != ErrorKind::Unauthorized;
                self.note(Err(error));
            }
        }
    }

    /// The first failure stops the processor.
    fn note(&mut self, result: Result<()>) {
        if let Err(error) = result {
            note_failure(&mut self.failure, &self.metrics, &self.board, error);
        }
    }

    /// At intervals: commits what has finished, and looks for partitions that stand still.
    fn tick(&mut self) {
        self.collect_finished();
        let may_commit = self.commit_failed.is_none_or(|failed| failed.elapsed() >= AFTER_FAILURE);
        if may_commit && !self.consumer.assignment_lost() {
            self.committer.commit(|partition| self.topics.may_commit(partition));
        }
        self.board.set_target_missed(self.committer.missed_since());
        for lane in self.lanes.values() {
            lane.progress().watch(self.settings.stall_timeout);
        }
    }

    fn collect_finished(&mut self) {
        for lane in self.lanes.values() {
            for topic in &mut lane.progress().status().topics {
                self.committer.finished(&topic.partition, &topic.epoch, topic.finished);
                if let Some(arrived) = topic.arrived.take() {
                    self.committer.arrived(&topic.partition, &topic.epoch, arrived);
                }
            }
        }
    }

    fn commit_settled(&mut self, result: CommitResult) {
        let Err(error) = result else {
            self.commits_doubted = Doubt::default();
            self.commit_failed = None;
            return;
        };
        self.commit_failed = Some(Instant::now());
        if self.is_refused_for_good(&error) {
            let refused = self.refused(error);
            return self.note(Err(refused));
        }
        let error = error.error;
        // A missing right may be granted in time; all other errors end by themselves, or a rebalance ends them.
        let asks_again = self.commits_doubted.asks_again(&error);
        if error.kind() == ErrorKind::Unauthorized && !asks_again {
            return self.note(Err(error));
        }
        warn!(?error, "the offset commit failed and will be tried again");
    }

    /// Whether no retry will mend this failure of a commit.
    fn is_refused_for_good(&self, error: &CommitError) -> bool {
        self.settings.is_static && error.refusal == CommitRefusal::UnknownMember
    }

    fn refused(&self, error: CommitError) -> Error {
        let message = "the group has members, and Kafka takes no offsets from outside of it: \
            stop the consumers that subscribe with this group id, or don't set `partitions`";
        Error::new(ErrorKind::Commit, message)
            .with("group", &self.settings.group_id)
            .with_source(error.error)
    }

    fn note_positions(&mut self, taken: Instant, positions: &[FetchPosition]) {
        for position in positions {
            if let Some(lane) = self.lanes.get(position.partition.number) {
                lane.progress().note_position(taken, position);
            }
        }
        self.board.changed.notify_one();
    }

    /// The client drops what it has fetched and fetches it again: for this long, positions may be those of before.
    pub(super) fn restart_positions(&self, settle: Duration) {
        let from = Instant::now() + settle;
        for lane in self.lanes.values() {
            lane.progress().restart_reports(from);
        }
    }

    /// Members without a partition are only told so here.
    fn note_settled(&mut self, assigned: usize) {
        // An assignment whose answer is being prepared is one, too.
        if assigned > 0 || !self.lanes.is_empty() || self.starts.is_answering() {
            self.empty_reports = 0;
            if self.by_parts && !self.starts.is_answering() {
                self.settle();
            }
            return;
        }
        self.empty_reports += 1;
        if self.empty_reports >= BELIEVED_EMPTY {
            self.board.set_settled(true);
        }
    }

    /// The assignment stands. Without lanes nothing is left to consume, and yet we are not done: an eager rebalance
    /// takes everything and then brings it back. Only reports that we get nothing are believed.
    pub(super) fn settle(&self) {
        self.board.set_settled(!self.lanes.is_empty() && !self.starts.has_late());
    }

    /// Drains all lanes, commits what finished, leaves the group.
    async fn shut_down(mut self) -> Result<Report> {
        self.board.set_state(ProcessorState::Closing);
        let numbers = self.lanes.numbers();
        match self.client_failed {
            true => self.stop_lanes(&numbers).await,
            false => self.drain_lanes(&numbers).await,
        }
        self.note_reported_failure();
        let committed = self.commit_at_the_end().await;
        self.note(committed);
        let report = self.report();
        if timeout(GOODBYE, self.consumer.close()).await.is_err() {
            warn!(
                "leaving the group takes too long; the group removes this member after its session time-out"
            );
        }
        info!(messages = report.messages, "closed");
        self.failure.take().map_or(Ok(report), Err)
    }

    /// A lane that has reported a failure may have been given up before it ended with it.
    fn note_reported_failure(&mut self) {
        if self.failure.is_some() || !self.board.control.borrow().failed {
            return;
        }
        let lanes =
            self.lanes.values().filter_map(|lane| lane.progress().status().last_error.clone());
        let said = lanes.collect::<Vec<_>>().join("; ");
        let message = format!("a partition failed, and was given up before it ended: {said}");
        self.note(Err(Error::new(ErrorKind::Process, message)));
    }

    async fn commit_at_the_end(&mut self) -> Result<()> {
        self.collect_finished();
        if self.consumer.assignment_lost() {
            warn!(
                "the group took the partitions away before the last offset commit: the last batches will be \
                 processed again"
            );
            return Ok(());
        }
        if !self.committer.owns_any() {
            return Ok(());
        }
        self.set_back_recreated();
        let only_refreshes = !self.committer.has_uncommitted();
        // The time that the offsets are kept for should begin now. Not after a failure, which may be
        // that the offset is not in the log because the topic was recreated: committed again, it would
        // have the next start skip what is before it.
        if self.failure.is_none() {
            self.committer.refresh_all();
        }
        let commit =
            self.committer.commit_now(|partition| self.topics.may_commit(partition), self.by_parts);
        match timeout(self.settings.commit_timeout, commit).await {
            Ok(Err(error)) if self.is_refused_for_good(&error) => Err(self.refused(error)),
            Ok(Err(CommitError { error, .. })) if error.kind() == ErrorKind::Unauthorized => {
                Err(error)
            }
            Ok(Err(_)) | Err(_) if only_refreshes => {
                warn!("offsets that have not changed could not be committed again at the end");
                Ok(())
            }
            Ok(Err(_)) | Err(_) if self.committer.was_refused_by_rebalance() => {
                warn!(
                    "a rebalance came before the last offset commit: the last batches will be processed again"
                );
                Ok(())
            }
            Ok(result) => result.map_err(|error| error.error),
            Err(_) => {
                let message = "the brokers did not answer the last offset commit within `commit_timeout`; \
                    the last batches may be processed again";
                Err(Error::new(ErrorKind::Commit, message).retryable())
            }
        }
    }

    fn report(&mut self) -> Report {
        let next_offsets = self.committer.next_offsets(self.consumer.assignment_lost());
        let totals = self.board.totals();
        Report {
            messages: totals.messages,
            batches: totals.batches,
            bytes: totals.bytes,
            rejected: totals.rejected,
            duration: self.started.elapsed(),
            next_offsets,
        }
    }
}

/// Keeps the `first` failure, and tells of each.
fn note_failure(
    first: &mut Option<Error>,
    metrics: &ProcessorMetrics,
    board: &Board,
    error: Error,
) {
    error!(?error, "the processor stops because of an error");
    if first.is_none() {
        metrics.failed(&error);
        board.note_failure(&error);
        *first = Some(error);
    }
}
