//! Calls of the user's code that are made again after an error: waits between them, and when to give up.
//!
//! Place in the data path: behind a failed call of `process`, `tick` or the factory. What becomes of a batch when its
//! budget is used up is the business of [`recovery`](super::recovery).

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::backoff::Retries;
use crate::command::{Command, ending};
use crate::context::Context;
use crate::error::{BoxError, Error, ErrorKind, Result, panic_error};
use crate::message::Batch;
use crate::on_error::{Budget, Verdict};
use crate::pipeline::call::{Call, process_error};
use crate::pipeline::partition_processor::{Factory, Interrupt, PartitionProcessor};
use crate::processor::{DynProcessor, Processor};
use crate::status::PartitionState;

/// The attempts of one call, or of one batch, without a success.
pub(super) struct Attempts {
    pub(super) made: u32,
    pub(super) since: Instant,
    budgets: Vec<(Budget, Retries)>,
}

impl Attempts {
    /// One was made, and failed.
    pub(super) fn new() -> Self {
        Self { made: 1, since: Instant::now(), budgets: Vec::new() }
    }

    /// How long to wait before the next attempt; `None` if there is none.
    pub(super) fn next(&mut self, verdict: &Verdict) -> Option<Duration> {
        let (budget, backoff) = verdict.retries?;
        let index = self.budgets.iter().position(|(of, _)| *of == budget).unwrap_or_else(|| {
            self.budgets.push((budget, Retries::begin(backoff)));
            self.budgets.len() - 1
        });
        self.budgets[index].1.next()
    }

    fn extend(&mut self, time: Duration) {
        self.budgets.iter_mut().for_each(|(_, retries)| retries.extend(time));
    }

    /// The error that is given up on.
    pub(super) fn told(&self, error: Error) -> Error {
        if self.made > 1 { error.with("attempts", self.made) } else { error }
    }
}

/// Stands for a processor that panicked, until there is another.
struct Gone;

impl Processor for Gone {
    async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
        Err("the processor panicked, and there is no other".into())
    }
}

impl PartitionProcessor {
    /// Makes the processor, again and again if the policy says so.
    pub(super) async fn create(
        &mut self,
        factory: &Factory,
    ) -> Result<Box<dyn DynProcessor>, Interrupt> {
        let mut attempts = Attempts::new();
        loop {
            let error = match self.try_create(factory).await? {
                Ok(processor) => return Ok(processor),
                Err(error) => error,
            };
            self.wait_to_retry(&mut attempts, error).await?;
        }
    }

    async fn try_create(
        &mut self,
        factory: &Factory,
    ) -> Result<Result<Box<dyn DynProcessor>>, Interrupt> {
        let start = &self.start;
        let create = AssertUnwindSafe(async { factory.lock().await.create_dyn(start).await });
        let mut create = pin!(create.catch_unwind());
        let created = loop {
            tokio::select! {
                biased;
                () = ending(&mut self.commands) => return Err(Interrupt::GaveUpRetrying),
                created = &mut create => break created,
                finished = self.in_flight.front_finished() => finished?,
            }
        };
        let failure = match created {
            Ok(Ok(processor)) => return Ok(Ok(processor)),
            Ok(Err(error)) => process_error("the processor factory returned an error", error),
            Err(panic) => panic_error("the processor factory panicked", &*panic),
        };
        Ok(Err(failure.with("partition", self.progress.partition)))
    }

    /// Calls `tick`, again and again if the policy says so.
    pub(super) async fn tick(
        &mut self,
        factory: &Factory,
        processor: &mut Box<dyn DynProcessor>,
    ) -> Result<(), Interrupt> {
        let mut attempts = Attempts::new();
        loop {
            let Err(error) = self.call(&mut **processor, &Call::Tick, attempts.made).await? else {
                self.progress.recovered();
                return self.finish(&Call::Tick).await;
            };
            let error = self.context.discard(error);
            let is_panic = error.kind() == ErrorKind::Panic;
            self.wait_to_retry(&mut attempts, error).await?;
            if is_panic {
                self.replace(processor, factory).await?;
            }
        }
    }

    /// Makes another processor after a panic, when the old one is gone.
    pub(super) async fn replace(
        &mut self,
        processor: &mut Box<dyn DynProcessor>,
        factory: &Factory,
    ) -> Result<(), Interrupt> {
        *processor = Box::new(Gone);
        *processor = self.create(factory).await?;
        Ok(())
    }

    /// What is not about a batch failed: waits until it may be tried again.
    ///
    /// # Errors
    /// It may not, or the lane is told to end.
    pub(super) async fn wait_to_retry(
        &mut self,
        attempts: &mut Attempts,
        error: Error,
    ) -> Result<(), Interrupt> {
        let verdict = self.letters.policy.judge(&error)?;
        match attempts.next(&verdict) {
            Some(wait) => self.wait_for_attempt(attempts, &error, wait).await,
            None => Err(Interrupt::Failed(attempts.told(error))),
        }
    }

    /// Waits, while batches in flight finish. While the partition is paused nothing is tried; when it is to be given up,
    /// the wait ends at once.
    pub(super) async fn wait_for_attempt(
        &mut self,
        attempts: &mut Attempts,
        error: &Error,
        wait: Duration,
    ) -> Result<(), Interrupt> {
        let attempt = attempts.made;
        warn!(?error, attempt, ?wait, "the processor failed; trying again");
        self.progress.retrying(attempt, attempts.since, error);
        self.context.lane_metrics().tries_again();
        self.batcher.drop_used();
        attempts.made += 1;
        let due = Instant::now() + wait;
        let mut paused = None;
        loop {
            let command = *self.commands.borrow_and_update();
            match command {
                Command::Run => {
                    self.progress.set_state(PartitionState::Retrying);
                    // Time in which nothing was tried is not counted.
                    if let Some(since) = paused.take() {
                        attempts.extend(Instant::now() - since);
                    }
                }
                Command::Pause => {
                    paused.get_or_insert_with(Instant::now);
                    self.progress.set_state(PartitionState::Paused);
                }
                Command::Drain(_) => {
                    info!("giving up on the retries: the partition is about to be given back");
                    return Err(Interrupt::GaveUpRetrying);
                }
                Command::Stop => return Err(Interrupt::Abandoned),
            }
            tokio::select! {
                biased;
                changed = self.commands.changed() => {
                    if changed.is_err() {
                        return Err(Interrupt::Abandoned);
                    }
                }
                finished = self.in_flight.front_finished() => finished?,
                () = sleep_until(due), if command == Command::Run => return Ok(()),
            }
        }
    }
}
