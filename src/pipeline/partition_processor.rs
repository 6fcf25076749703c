//! The partition processor, or *lane*: drives the batches of one partition number through the user's
//! processor and past their acks. Nothing is shared with other lanes.
//!
//! Place in the data path: from the [`batcher`](super::batcher) to the finished next offsets in
//! [`LaneProgress`], from where the [`committer`](super::committer) commits them.
//!
//! A lane lives as long as its set of topics stays the same. When a topic comes or goes it ends, and
//! the next lane takes over its queue and the buffered messages of the topics that stay.
//!
//! Invariants:
//! - Batches finish in the order in which they were processed. A batch is finished when `process`
//!   returned `Ok` and every message that it sent is acknowledged; only then do its next offsets
//!   become visible.
//! - After [`Command::Stop`], or past a drain deadline, nothing is produced and nothing finishes: also where
//!   `process` blocked its thread until then. The context looks before it produces.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::broker::{Producer, QueueError};
use crate::command::{Command, is_over, over};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::message::delivery::Delivery;
use crate::message::rejected::Letters;
use crate::message::{Batch, Offset, TopicPartition};
use crate::metrics::lane::LaneMetrics;
use crate::metrics::processor::ProcessorMetrics;
use crate::on_error::{CircuitState, LetterWriter};
use crate::pipeline::batcher::Batcher;
use crate::pipeline::call::Call;
use crate::pipeline::in_flight::{InFlight, InFlightQueue, NotFinished};
use crate::pipeline::letters::Post;
use crate::pipeline::progress::{Board, LaneProgress};
use crate::pipeline::quarantine::LaneQuarantine;
use crate::pipeline::suspects::{Suspect, Suspects};
use crate::pipeline::ticks::TickSource;
use crate::processor::{DynFactory, DynProcessor};
use crate::settings::FlightLimits;
use crate::start_context::StartContext;
use crate::status::PartitionState;

/// How a lane ended.
pub(crate) struct LaneEnd {
    pub(crate) partition: i32,
    pub(crate) batcher: Batcher,
    /// For the next lane.
    pub(crate) suspects: Suspects,
    pub(crate) ending: Ending,
}

/// What a lane's task leaves to do.
pub(crate) enum Ending {
    /// Nothing was given up: the buffered messages follow the finished ones without a gap.
    Complete,
    /// Messages were given up: what comes next begins at the finished ones.
    Abandoned,
    /// An offset is not in the log.
    OutOfRange(QueueError),
    /// Messages were given up because the output of some of them cannot be produced.
    Suspect,
    /// After such an offset, this partition goes on here, and the others at the finished messages.
    GoOnAt(TopicPartition, Offset),
    /// The processor is to stop.
    Failed(Error),
}

/// Why a lane stops before it is done.
pub(super) enum Interrupt {
    /// Told to stop, or past its drain deadline.
    Abandoned,
    /// Told to drain while a batch, or the factory, is tried again: that one is given up, those before it are not.
    GaveUpRetrying,
    /// Messages are to be rejected because of what they sent.
    Suspect(Box<Suspect>),
    OutOfRange(QueueError),
    Failed(Error),
}

impl From<NotFinished> for Interrupt {
    fn from(not_finished: NotFinished) -> Self {
        match not_finished {
            NotFinished::Failed(error) => Self::Failed(error),
            NotFinished::Suspect(suspect) => Self::Suspect(suspect),
            NotFinished::GaveUpLetters => Self::GaveUpRetrying,
        }
    }
}

impl From<Error> for Interrupt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<QueueError> for Interrupt {
    fn from(error: QueueError) -> Self {
        match error.is_out_of_range() {
            true => Self::OutOfRange(error),
            false => Self::Failed(error.error),
        }
    }
}

enum Step {
    Batch(Batch),
    Tick,
    Drain,
}

/// What a lane gets from its topic processor, or from the processor tester.
pub(crate) struct LaneEnvironment {
    pub(crate) producer: Arc<dyn Producer>,
    pub(crate) topics: Arc<[Arc<str>]>,
    pub(crate) board: Arc<Board>,
    /// The topic processor's name.
    pub(crate) name: Arc<str>,
    pub(crate) metrics: Arc<ProcessorMetrics>,
    pub(crate) limits: FlightLimits,
    pub(crate) ticks: TickSource,
    pub(crate) drain_deadline: Duration,
    pub(crate) letters: Arc<LetterWriter>,
    /// Of the lane before.
    pub(crate) suspects: Suspects,
}

/// The user's factory, which all lanes share.
pub(crate) type Factory = Mutex<Box<dyn DynFactory>>;

pub(crate) struct PartitionProcessor {
    pub(super) batcher: Batcher,
    /// For the factory.
    pub(super) start: StartContext,
    pub(super) context: Context,
    pub(super) in_flight: InFlightQueue,
    pub(super) letters: Arc<LetterWriter>,
    pub(super) circuit: CircuitState,
    pub(super) suspects: Suspects,
    pub(super) quarantine: LaneQuarantine,
    ticks: TickSource,
    /// When the processor began.
    began: Instant,
    drain_deadline: Duration,
    /// A batch is processed in parts, which say nothing of how large batches may be.
    pub(super) is_in_parts: bool,
    /// The next batch had to wait for the acks of an earlier one.
    waited_for_room: bool,
    pub(super) progress: Arc<LaneProgress>,
    board: Arc<Board>,
    pub(super) commands: watch::Receiver<Command>,
}

impl PartitionProcessor {
    /// A lane that has not begun. `progress` and `commands` are how it is watched and told what to do.
    pub(crate) fn new(
        batcher: Batcher,
        progress: Arc<LaneProgress>,
        commands: watch::Receiver<Command>,
        environment: LaneEnvironment,
    ) -> Self {
        let LaneEnvironment {
            producer,
            topics,
            board,
            name,
            metrics,
            limits,
            ticks,
            drain_deadline,
            letters,
            suspects,
        } = environment;
        let handle = Handle::new(board.clone(), name, metrics.metrics.clone());
        let start = StartContext::new(progress.partition, progress.topics(), handle);
        let metrics = LaneMetrics::new(metrics, &topics, progress.partition);
        let closing = board.clone();
        let close = Arc::new(move || closing.request_close());
        let backoff = letters.policy.letter_backoff();
        let post = Post::new(producer.clone(), commands.clone(), backoff, progress.clone());
        let context = Context::new(
            progress.partition,
            producer,
            letters.clone(),
            close,
            metrics.clone(),
            commands.clone(),
        );
        let rejects = letters.policy.rejects_undeliverable();
        let held = letters.policy.quarantine().cloned();
        let quarantine = LaneQuarantine::new(held);
        let in_flight =
            InFlightQueue::new(limits, post, rejects, progress.clone(), board.clone(), metrics);
        Self {
            batcher,
            start,
            context,
            in_flight,
            suspects,
            quarantine,
            circuit: CircuitState::new(letters.policy.circuit_settings()),
            letters,
            ticks,
            began: Instant::now(),
            drain_deadline,
            is_in_parts: false,
            waited_for_room: false,
            progress,
            board,
            commands,
        }
    }

    /// Runs the lane to its end. Dropping the future is a crash: nothing more finishes.
    pub(crate) async fn run(mut self, factory: Arc<Factory>) -> LaneEnd {
        let outcome = self.drive(&factory).await;
        self.progress.abandon_batches();
        let ending = match outcome {
            Ok(()) => Ending::Complete,
            Err(Interrupt::Abandoned | Interrupt::GaveUpRetrying) => Ending::Abandoned,
            Err(Interrupt::Suspect(suspect)) => {
                warn!(
                    error = suspect.reason.message(),
                    "going back to reject messages whose output cannot be produced"
                );
                self.suspects.add(*suspect);
                Ending::Suspect
            }
            Err(Interrupt::OutOfRange(error)) => {
                self.progress.fail(&error.error);
                Ending::OutOfRange(error)
            }
            Err(Interrupt::Failed(error)) => {
                self.progress.fail(&error);
                Ending::Failed(error)
            }
        };
        let Self { progress, batcher, suspects, .. } = self;
        LaneEnd { partition: progress.partition, batcher, suspects, ending }
    }

    async fn drive(&mut self, factory: &Factory) -> Result<(), Interrupt> {
        let loaded = self.load_quarantine().await;
        let created = match loaded {
            Ok(()) => self.create(factory).await,
            Err(failed) => Err(failed),
        };
        let mut processor = match created {
            Ok(processor) => processor,
            // Nothing had begun.
            Err(Interrupt::GaveUpRetrying) => return Ok(()),
            Err(failed) => return Err(failed),
        };
        self.progress.recovered();
        let ended = self.process_batches(factory, &mut processor).await;
        self.batcher.drop_used();
        match &ended {
            Err(Interrupt::Abandoned) => return ended,
            // At once: waiting for acks may take long, and the coordinator limits it.
            Err(Interrupt::Failed(error)) => self.fail(error),
            // It may turn out to be no failure.
            Err(Interrupt::OutOfRange(_) | Interrupt::GaveUpRetrying | Interrupt::Suspect(_))
            | Ok(()) => {}
        }
        // After a failure too: what was finished before the failed batch is to be committed, and its
        // replay must not overtake what is still on the way.
        let settled = self.settle(matches!(ended, Err(Interrupt::Failed(_)))).await;
        if let (Err(_), Err(Interrupt::Failed(error))) = (&ended, &settled) {
            warn!(?error, "a batch before the failed one could not be delivered either");
        }
        let closed = match (&ended, settled) {
            (Err(Interrupt::Failed(_)), _) => return ended,
            // It holds what came of a batch that is not finished.
            (Err(Interrupt::GaveUpRetrying | Interrupt::Suspect(_)), Ok(())) => Ok(()),
            (_, Ok(())) => self.close(&mut *processor).await,
            (_, _) if fault!(CloseAfterFailure) => self.close(&mut *processor).await,
            // To go on elsewhere would pass over a batch that was not delivered.
            (_, failed) => failed,
        };
        closed.and(ended)
    }

    /// Says so before the lane has ended.
    fn fail(&self, error: &Error) {
        self.progress.fail(error);
        self.board.report_failure();
    }

    async fn process_batches(
        &mut self,
        factory: &Factory,
        processor: &mut Box<dyn DynProcessor>,
    ) -> Result<(), Interrupt> {
        self.began = Instant::now();
        loop {
            match self.next_step().await? {
                Step::Batch(batch) => self.process(factory, processor, batch).await?,
                Step::Tick => {
                    self.batcher.look();
                    self.tick(factory, processor).await?;
                }
                Step::Drain => return Ok(()),
            }
        }
    }

    /// Waits for something to do; meanwhile batches in flight finish.
    async fn next_step(&mut self) -> Result<Step, Interrupt> {
        loop {
            let command = *self.commands.borrow_and_update();
            match command {
                Command::Run => self.progress.set_state(PartitionState::Running),
                Command::Pause => {
                    self.batcher.look();
                    self.progress.set_state(PartitionState::Paused);
                }
                Command::Drain(_) => {
                    self.progress.set_state(PartitionState::Draining);
                    return Ok(Step::Drain);
                }
                Command::Stop => return Err(Interrupt::Abandoned),
            }
            self.batcher.note_finished(self.in_flight.most());
            // With larger batches, fewer are in flight.
            self.waited_for_room |= self.in_flight.waits_for_acks();
            let may_begin = command == Command::Run && self.in_flight.has_room();
            let may_tick = may_begin && !self.in_flight.has_tick();
            if !may_begin {
                self.batcher.drop_used();
            }
            let since = self.in_flight.tick_finished().unwrap_or(self.began);
            tokio::select! {
                biased;
                changed = self.commands.changed() => {
                    if changed.is_err() {
                        return Err(Interrupt::Abandoned);
                    }
                }
                finished = self.in_flight.front_finished() => finished?,
                // Before a batch: under load there is always one.
                () = self.ticks.due(since), if may_tick => return Ok(Step::Tick),
                batch = self.batcher.next(&self.progress), if may_begin => {
                    return Ok(Step::Batch(batch?));
                }
            }
        }
    }

    async fn process(
        &mut self,
        factory: &Factory,
        processor: &mut Box<dyn DynProcessor>,
        batch: Batch,
    ) -> Result<(), Interrupt> {
        let batch = Arc::new(batch);
        if let Some(suspicion) = self.suspects.about(&batch, &self.progress) {
            return self.process_suspect(factory, processor, &batch, suspicion).await;
        }
        let held = self.held_messages(&batch);
        if !held.is_empty() {
            return self.process_unheld(factory, processor, &batch, held).await;
        }
        let call = Call::Process(Arc::clone(&batch));
        self.context.lane_metrics().begins(&batch, self.batcher.cut_age());
        let returned = self.call(&mut **processor, &call, 1).await?;
        match returned {
            Ok(()) => self.finish(&call).await?,
            Err(error) => self.recover(factory, processor, &batch, error).await?,
        }
        drop(call);
        // A delivery keeps it if much of it was forwarded.
        if let Some(batch) = Arc::into_inner(batch) {
            self.batcher.recycle(batch);
        }
        Ok(())
    }

    /// The call returned `Ok`: hands over what it sent, and puts it into the queue of those that wait for their acks.
    pub(super) async fn finish(&mut self, call: &Call) -> Result<(), Interrupt> {
        let letters = match call.batch() {
            Some(batch) => {
                let rejected = self.context.take_rejected();
                let rejected = self.settle_quarantine(batch, rejected);
                self.admit(batch, rejected)?
            }
            None => Letters::default(),
        };
        self.save_quarantine().await?;
        let deliveries = self.hand_over().await?;
        let in_flight = InFlight::new(call, deliveries, self.batcher.times());
        self.in_flight.push(in_flight.with_letters(letters));
        Ok(())
    }

    pub(super) async fn hand_over(&mut self) -> Result<VecDeque<Arc<Delivery>>, Interrupt> {
        let handed_over = self.context.hand_over();
        if guarded(&mut self.commands, &mut self.in_flight, handed_over).await?.is_err() {
            return Err(Interrupt::Abandoned);
        }
        Ok(self.context.end())
    }

    /// Nothing is in flight any more. What is sent now is acked before the lane ends, and with it before the last
    /// commit, unless that takes too long: longer than a drain, where no revocation or shutdown has set an end.
    async fn close(&mut self, processor: &mut dyn DynProcessor) -> Result<(), Interrupt> {
        // The last batch may have blocked its thread until now.
        if is_over(&self.commands) {
            return Err(Interrupt::Abandoned);
        }
        let limit = self.drain_deadline;
        let closing = async {
            self.call(processor, &Call::Closing, 1).await??;
            self.finish(&Call::Closing).await?;
            self.settle(false).await
        };
        let closed = timeout(limit, closing).await;
        let was_cut_off = match &closed {
            Ok(Err(Interrupt::Abandoned)) => *self.commands.borrow() != Command::Stop,
            Ok(_) => false,
            Err(_) => true,
        };
        if was_cut_off {
            warn!("`closing` took longer than the drain deadline allows, and was given up");
        }
        closed.unwrap_or(Ok(()))
    }

    /// Calls the user's code, for the `attempt`th time. Returns what it returned: what it sent is still in the context.
    pub(super) async fn call(
        &mut self,
        processor: &mut dyn DynProcessor,
        call: &Call,
        attempt: u32,
    ) -> Result<Result<()>, Interrupt> {
        if call.batch().is_some() {
            self.progress.begin_batch();
        }
        let begun = Instant::now();
        self.context.begin(call.batch().cloned(), self.in_flight.take_spent(), attempt);
        let run = call.run(processor, &mut self.context);
        let mut waited = false;
        let run = at_first_wait(run, || {
            waited = true;
            self.batcher.drop_used();
        });
        let returned = guarded(&mut self.commands, &mut self.in_flight, run).await;
        self.context.lane_metrics().called(call, begun);
        // Nor does what is processed again.
        if call.batch().is_some() && attempt == 1 && !self.is_in_parts {
            let had_to_wait = mem::take(&mut self.waited_for_room);
            self.batcher.processed(waited || had_to_wait);
        }
        let returned = returned?;
        // A call that never yielded gets here however late it is. What it returns concerns nobody any more.
        if is_over(&self.commands) {
            return Err(Interrupt::Abandoned);
        }
        Ok(returned)
    }

    /// Waits until everything in flight is finished or, behind a failed batch, at least acked. A failure is reported
    /// at once, unless the lane `has_failed` before, and is what is returned, also where the wait is cut short.
    async fn settle(&mut self, has_failed: bool) -> Result<(), Interrupt> {
        let (mut failure, mut given_up) = (None, None);
        while !self.in_flight.is_empty() {
            let finished = tokio::select! {
                biased;
                () = over(&mut self.commands) => {
                    return Err(failure.map_or(Interrupt::Abandoned, Interrupt::Failed));
                }
                finished = self.in_flight.front_finished() => finished,
            };
            // There is one: the queue tells of its first failure only.
            match finished {
                Ok(()) => {}
                Err(NotFinished::Failed(error)) => {
                    if !has_failed {
                        self.fail(&error);
                    }
                    failure = Some(error);
                }
                Err(other) => given_up = Some(Interrupt::from(other)),
            }
        }
        match (failure, given_up) {
            (Some(error), _) => Err(Interrupt::Failed(error)),
            (None, Some(given_up)) => Err(given_up),
            (None, None) => Ok(()),
        }
    }
}

/// Does something when the future has to wait for the first time.
async fn at_first_wait<T>(work: impl Future<Output = T>, then: impl FnOnce()) -> T {
    let (mut work, mut then) = (pin!(work), Some(then));
    poll_fn(|context| {
        let polled = work.as_mut().poll(context);
        if polled.is_pending()
            && let Some(then) = then.take()
        {
            then();
        }
        polled
    })
    .await
}

/// Drives `work` while batches in flight finish, until told to stop or past the drain deadline; then
/// `work` is dropped where it awaits.
pub(super) async fn guarded<T>(
    commands: &mut watch::Receiver<Command>,
    in_flight: &mut InFlightQueue,
    work: impl Future<Output = T>,
) -> Result<T, Interrupt> {
    let mut work = pin!(work);
    let mut over = pin!(over(commands));
    loop {
        tokio::select! {
            biased;
            () = &mut over => return Err(Interrupt::Abandoned),
            output = &mut work => return Ok(output),
            finished = in_flight.front_finished() => finished?,
        }
    }
}
