//! Starting and ending lanes: one per partition number of which a topic is ours.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, info, info_span, warn};

use crate::broker::{QueueError, Sought};
use crate::command::Command;
use crate::coordinator::out_of_range::search;
use crate::coordinator::{Coordinator, note_failure};
use crate::error::{Error, ErrorKind, Result};
use crate::logging::list;
use crate::message::{Offset, TopicPartition};
use crate::pipeline::batcher::Batcher;
use crate::pipeline::partition_processor::{Ending, LaneEnd, LaneEnvironment, PartitionProcessor};
use crate::pipeline::progress::LaneProgress;
use crate::pipeline::suspects::Suspects;
use crate::pipeline::ticks::TickSource;
use crate::pipeline::topic_progress::TopicProgress;

/// Lost partitions may already have a new owner: whatever does not end at once is left to itself.
const LOST_DEADLINE: Duration = Duration::from_millis(250);

/// A lane ends by itself at its deadline. One that does not, so much later, blocks its thread.
const GRACE: Duration = Duration::from_millis(250);

/// A partition number of which at least one topic is ours. Its task ends and begins anew whenever
/// its topics change.
pub(super) struct Lane {
    progress: Arc<LaneProgress>,
    commands: watch::Sender<Command>,
    task: Option<AbortHandle>,
    /// What the last task left: the queue, and what was taken from it. `None` while a task runs, and
    /// after one that had to be aborted.
    batcher: Option<Batcher>,
    before: Before,
    suspects: Suspects,
}

/// What comes before a lane's next task.
pub(super) enum Before {
    Nothing,
    /// Messages that were taken are neither finished nor in the batcher, or a topic has come whose
    /// start was not known when it was assigned: go back to the finished messages.
    GoBack,
    /// An offset is not in the log: find out where to go on.
    Search(QueueError),
    /// Go on there with this topic, and go back with the others.
    MoveTo(TopicPartition, Offset),
}

impl Lane {
    fn new(number: i32, topics: Vec<TopicProgress>, before: Before) -> Self {
        Self {
            progress: Arc::new(LaneProgress::new(number, topics, Arc::new(|| 0), Arc::default())),
            commands: watch::Sender::new(Command::Run),
            task: None,
            batcher: None,
            before,
            suspects: Suspects::default(),
        }
    }

    pub(super) fn progress(&self) -> &Arc<LaneProgress> {
        &self.progress
    }

    pub(super) fn command(&self, command: Command) {
        if matches!(command, Command::Drain(_)) {
            // The lane itself only gets to say so when `process` has returned.
            self.progress.drains();
        }
        self.commands.send_replace(command);
    }

    fn add_topics(&mut self, topics: Vec<TopicProgress>, before: Before) {
        self.progress.status().topics.extend(topics);
        // Everything else implies it.
        if matches!(self.before, Before::Nothing) {
            self.before = before;
        }
    }

    /// Forgets topics that were revoked, and drops what was buffered of them. The lane's task has
    /// ended. Returns whether there are topics left.
    fn remove_topics(&mut self, revoked: &[TopicPartition]) -> bool {
        let mut status = self.progress.status();
        status.topics.retain(|topic| !revoked.contains(&topic.partition));
        let left: Vec<u16> = status.topics.iter().map(|topic| topic.topic).collect();
        if let Some(batcher) = &mut self.batcher {
            batcher.retain_topics(&left);
        }
        !left.is_empty()
    }

    /// Takes over what the ended task left; a failure that stops the processor is returned.
    fn take_over(&mut self, end: LaneEnd) -> Result<()> {
        self.task = None;
        self.batcher = Some(end.batcher);
        self.suspects.append(end.suspects);
        match end.ending {
            Ending::Complete => {}
            Ending::Abandoned | Ending::Suspect => self.before = Before::GoBack,
            Ending::OutOfRange(error) => self.before = Before::Search(error),
            Ending::GoOnAt(partition, next) => self.before = Before::MoveTo(partition, next),
            Ending::Failed(error) => {
                self.before = Before::GoBack;
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        self.progress.status().topics.iter().map(|topic| topic.partition.clone()).collect()
    }

    fn owns(&self, partition: &TopicPartition) -> bool {
        self.position(partition).is_some()
    }

    /// The next message that is not finished.
    fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        let status = self.progress.status();
        let topic = status.topics.iter().find(|topic| topic.partition == *partition);
        topic.map(|topic| topic.finished)
    }
}

/// How a lane's task ended.
pub(super) type TaskEnd = Result<(Id, LaneEnd), JoinError>;

/// The lanes of this process by their numbers, and their tasks.
#[derive(Default)]
pub(super) struct Lanes {
    by_number: BTreeMap<i32, Lane>,
    tasks: JoinSet<LaneEnd>,
}

impl Lanes {
    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    pub(super) fn get(&self, number: i32) -> Option<&Lane> {
        self.by_number.get(&number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i32, &Lane)> {
        self.by_number.iter().map(|(number, lane)| (*number, lane))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Lane> {
        self.by_number.values()
    }

    pub(super) fn numbers(&self) -> Vec<i32> {
        self.by_number.keys().copied().collect()
    }

    /// The numbers of these partitions that have lanes.
    pub(super) fn of(&self, partitions: &[TopicPartition]) -> Vec<i32> {
        let numbers: BTreeSet<i32> = partitions.iter().map(|p| p.number).collect();
        numbers.into_iter().filter(|number| self.by_number.contains_key(number)).collect()
    }

    /// A running lane that gets more topics finishes what it has and begins again with all of them. Returns the lane's
    /// progress if it is new.
    pub(super) fn add_topics(
        &mut self,
        number: i32,
        topics: Vec<TopicProgress>,
        before: Before,
    ) -> Option<Arc<LaneProgress>> {
        if let Some(lane) = self.by_number.get_mut(&number) {
            lane.add_topics(topics, before);
            lane.command(Command::Drain(None));
            return None;
        }
        let lane = Lane::new(number, topics, before);
        let progress = lane.progress.clone();
        self.by_number.insert(number, lane);
        Some(progress)
    }

    /// Forgets revoked topics of these lanes, whose tasks have ended. Returns the numbers of which no topic is left:
    /// their lanes are gone.
    pub(super) fn remove_topics(
        &mut self,
        numbers: Vec<i32>,
        revoked: &[TopicPartition],
    ) -> Vec<i32> {
        let mut gone = numbers;
        gone.retain(|number| {
            !self.by_number.get_mut(number).is_some_and(|lane| lane.remove_topics(revoked))
        });
        gone.iter().for_each(|number| drop(self.by_number.remove(number)));
        gone
    }

    /// The next task that ends; `None` while there is none. Cancel-safe.
    pub(super) async fn next_end(&mut self) -> Option<TaskEnd> {
        self.tasks.join_next_with_id().await
    }

    /// Takes over what an ended task left.
    ///
    /// # Errors
    /// The lane's failure, which stops the processor.
    pub(super) fn take_over(&mut self, end: TaskEnd) -> Result<()> {
        let (id, end) = match end {
            Ok(end) => end,
            // Aborted past its deadline: nobody waits for it any more.
            Err(error) if error.is_cancelled() => return Ok(()),
            Err(error) => {
                let fault = Error::new(ErrorKind::Internal, "the task of a partition panicked");
                return Err(fault.with_source(error));
            }
        };
        let lane = self.by_number.get_mut(&end.partition);
        // Another one than the current task was aborted, and ended by itself after all.
        match lane.filter(|lane| lane.task.as_ref().is_some_and(|task| task.id() == id)) {
            Some(lane) => lane.take_over(end),
            None => Ok(()),
        }
    }

    fn idle(&self) -> Vec<i32> {
        self.iter().filter(|(_, lane)| lane.task.is_none()).map(|(number, _)| number).collect()
    }

    fn spawn(&mut self, number: i32, task: impl Future<Output = LaneEnd> + Send + 'static) {
        let task = self.tasks.spawn(task);
        if let Some(lane) = self.by_number.get_mut(&number) {
            lane.task = Some(task);
        }
    }

    fn command(&self, numbers: &[i32], command: Command) {
        let lanes = numbers.iter().filter_map(|number| self.get(*number));
        lanes.for_each(|lane| lane.command(command));
    }

    /// Ends the tasks of these lanes and waits until they have ended, at most until shortly behind
    /// the deadline. They are stopped when the client goes on without them: when `superseded` is done. Each failure is
    /// given to `note` at once.
    ///
    /// A task whose thread is blocked is left to itself then: whatever it still does, nobody takes anything from it,
    /// and it is gone at its next await.
    async fn end(
        &mut self,
        numbers: &[i32],
        command: Command,
        deadline: Instant,
        superseded: impl Future<Output = ()>,
        mut note: impl FnMut(Error),
    ) {
        let mut superseded = pin!(superseded);
        let (mut command, mut deadline) = (command, deadline);
        self.command(numbers, command);
        while numbers.iter().any(|number| self.get(*number).is_some_and(|l| l.task.is_some())) {
            let end = tokio::select! {
                biased;
                () = &mut superseded, if command != Command::Stop => {
                    (command, deadline) = (Command::Stop, Instant::now() + LOST_DEADLINE);
                    self.command(numbers, command);
                    continue;
                }
                end = timeout_at(deadline + GRACE, self.tasks.join_next_with_id()) => end,
            };
            match end {
                Ok(Some(end)) => {
                    if let Err(failure) = self.take_over(end) {
                        note(failure);
                    }
                }
                Ok(None) => break,
                Err(_) => return self.abort(numbers),
            }
        }
    }

    fn abort(&mut self, numbers: &[i32]) {
        for number in numbers {
            let Some(lane) = self.by_number.get_mut(number) else { continue };
            if let Some(task) = lane.task.take() {
                warn!(
                    partition = number,
                    "the processor has not returned by the drain deadline and blocks its thread: a batch that it \
                     works on will be processed again"
                );
                lane.command(Command::Stop);
                task.abort();
                lane.before = Before::GoBack;
            }
        }
    }
}

impl Coordinator {
    /// Passes on what handles asked for.
    pub(super) fn apply_pauses(&self) {
        let control = self.board.control.borrow().clone();
        for (number, lane) in self.lanes.iter() {
            let is_paused = control.is_paused(number) || self.topics.holds(number);
            let (from, to) = match is_paused {
                true => (Command::Run, Command::Pause),
                false => (Command::Pause, Command::Run),
            };
            lane.commands.send_if_modified(|command| {
                let applies = *command == from;
                if applies {
                    *command = to;
                }
                applies
            });
        }
    }

    /// Begins every lane that has no task: new ones, and those whose last task ended because their
    /// topics changed or an offset was out of range.
    pub(super) async fn start_lanes(&mut self) -> Result<()> {
        if self.failure.is_some() {
            return Ok(());
        }
        self.judge_alignment();
        let (back, mut ready): (Vec<i32>, Vec<i32>) =
            self.lanes.idle().into_iter().partition(|number| self.must_go_back(*number));
        if self.go_back(&back).await? == Sought::Done {
            ready.extend(back);
        }
        ready.into_iter().try_for_each(|number| self.start_lane(number))
    }

    /// Whether the last task gave up messages, so that the lane begins at the finished ones.
    fn must_go_back(&mut self, number: i32) -> bool {
        let Some(lane) = self.lanes.by_number.get_mut(&number) else { return false };
        let progress = lane.progress.clone();
        if let Some(batcher) = &mut lane.batcher
            && !matches!(lane.before, Before::Nothing)
        {
            batcher.clear();
        }
        match std::mem::replace(&mut lane.before, Before::Nothing) {
            Before::Nothing => return false,
            // The offset of a topic that was revoked meanwhile is forgotten: to begin an epoch for it
            // would be to commit its offset while another member has it.
            Before::Search(error) if lane.owns(&error.partition) => {
                lane.before = Before::Search(error);
                return false;
            }
            Before::GoBack | Before::Search(_) => {}
            Before::MoveTo(partition, next) => self.move_to(&progress, &partition, next),
        }
        true
    }

    /// Goes back to the finished messages of these lanes, with one seek for all of them. If that has to
    /// wait for the answer to a rebalance, the lanes wait, too: answering starts all lanes that have no
    /// task.
    async fn go_back(&mut self, numbers: &[i32]) -> Result<Sought> {
        if numbers.is_empty() {
            return Ok(Sought::Done);
        }
        let lanes = numbers.iter().filter_map(|number| self.lanes.get(*number));
        let topics = lanes.flat_map(|lane| lane.progress.status().topics.clone());
        let positions = topics.map(|topic| (topic.partition, topic.finished)).collect();
        info!(partitions = %list(numbers), "going back to the finished messages");
        let sought = self.consumer.seek(positions).await;
        // The others may be fetched anew, too.
        self.restart_positions(Duration::ZERO);
        if let Ok(Sought::AfterAnswer) = sought {
            let lanes = self.lanes.by_number.iter_mut();
            let waiting = lanes.filter(|(number, _)| numbers.contains(number));
            waiting.for_each(|(_, lane)| lane.before = Before::GoBack);
        }
        sought
    }

    /// Moves a topic whose offset is not in the log to where the user wants to go on. Not one that
    /// was revoked meanwhile.
    fn move_to(&mut self, progress: &LaneProgress, partition: &TopicPartition, next: Offset) {
        let mut status = progress.status();
        let topic = status.topics.iter_mut().find(|topic| topic.partition == *partition);
        let Some(topic) = topic else { return };
        // A new epoch, since the offset to commit may go back.
        let epoch = self.committer.begin(partition.clone(), next, None);
        topic.move_to(epoch, next);
    }

    fn start_lane(&mut self, number: i32) -> Result<()> {
        let paused = self.board.control.borrow().is_paused(number) || self.topics.holds(number);
        let Some(lane) = self.lanes.by_number.get_mut(&number) else { return Ok(()) };
        let batcher = match lane.batcher.take() {
            Some(batcher) => batcher,
            None => {
                let queue = self.consumer.queue(number)?;
                let topics = self.settings.topics.clone();
                let batcher = Batcher::new(number, topics, self.settings.batch, queue);
                batcher.with_target(self.goal.clone())
            }
        };
        // New ones: what an aborted task still writes to the old ones is not read.
        let topics = lane.progress.status().topics.clone();
        let (length, changed) = (batcher.queue_length(), self.board.changed.clone());
        lane.progress = Arc::new(LaneProgress::new(number, topics, length, changed));
        lane.commands = watch::Sender::new(if paused { Command::Pause } else { Command::Run });
        self.board.insert(lane.progress.clone());
        let commands = lane.commands.subscribe();
        let span = info_span!("partition", partition = number);
        if let Before::Search(error) = std::mem::replace(&mut lane.before, Before::Nothing) {
            let (consumer, policy) = (self.consumer.clone(), self.settings.out_of_range);
            let position = lane.position(&error.partition).unwrap_or(Offset::new(-1));
            let search = search(consumer, policy, error, position, batcher, commands);
            self.lanes.spawn(number, search.instrument(span));
            return Ok(());
        }
        let suspects = std::mem::take(&mut lane.suspects);
        let environment = LaneEnvironment {
            producer: self.producer.clone(),
            topics: self.settings.topics.clone(),
            board: self.board.clone(),
            name: self.settings.name.clone(),
            metrics: self.metrics.clone(),
            limits: self.settings.in_flight,
            ticks: self.settings.tick_interval.map_or(TickSource::None, TickSource::Every),
            drain_deadline: self.settings.drain_deadline,
            letters: self.settings.letters.clone(),
            suspects,
        };
        let progress = lane.progress.clone();
        let partition_processor = PartitionProcessor::new(batcher, progress, commands, environment);
        let run = partition_processor.run(self.factory.clone());
        self.lanes.spawn(number, run.instrument(span));
        Ok(())
    }

    pub(super) async fn lane_ended(&mut self, end: TaskEnd) {
        let taken_over = self.lanes.take_over(end);
        self.note(taken_over);
        let started = self.start_lanes().await;
        self.note(started);
    }

    /// Ends these lanes with what they have finished: their partitions are lost.
    pub(super) async fn stop_lanes(&mut self, numbers: &[i32]) {
        self.end_lanes(numbers, Command::Stop, Instant::now() + LOST_DEADLINE).await;
    }

    /// Ends these lanes when what is in flight has finished, at the drain deadline at the latest.
    pub(super) async fn drain_lanes(&mut self, numbers: &[i32]) {
        let deadline = Instant::now() + self.settings.drain_deadline;
        self.end_lanes(numbers, Command::Drain(Some(deadline)), deadline).await;
    }

    async fn end_lanes(&mut self, numbers: &[i32], command: Command, deadline: Instant) {
        let superseded = self.events.superseded();
        let note = |error| note_failure(&mut self.failure, &self.metrics, &self.board, error);
        self.lanes.end(numbers, command, deadline, superseded, note).await;
    }
}
