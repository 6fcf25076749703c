//! What a lane does when the user's code fails: as the [`ErrorPolicy`](crate::ErrorPolicy) says.
//!
//! Place in the data path: instead of the straight path, for a batch whose call returned an error or panicked. It is
//! processed again, as a whole or in parts ([`division`](super::division)); messages that fail by themselves are
//! rejected; or the lane stops. Nothing else of the partition begins meanwhile, so everything stays in order.
//!
//! Invariants:
//! - A part is finished like a batch: `process` returned `Ok`, and everything that it sent is acknowledged.
//! - From the first rejected message on, the rest of the batch is finished together, when all parts were processed:
//!   the circuit is asked before the first letter is sent.
//! - While a batch is tried again it counts as in flight: nobody may take its messages for processed.

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::{info, warn};

use crate::command::over;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Batch;
use crate::message::delivery::Delivery;
use crate::message::rejected::{Letters, Rejected, Rejection};
use crate::on_error::{Budget, Reason, Then};
use crate::pipeline::attempts::Attempts;
use crate::pipeline::call::Call;
use crate::pipeline::division::{Division, Part, Work};
use crate::pipeline::in_flight::InFlight;
use crate::pipeline::partition_processor::{Factory, Interrupt, PartitionProcessor, guarded};
use crate::pipeline::suspects::Suspicion;
use crate::processor::DynProcessor;

/// What of a batch waits until the circuit has been asked: everything from the first rejected message on.
#[derive(Default)]
struct Held {
    /// The index of its first message.
    start: Option<usize>,
    deliveries: VecDeque<Arc<Delivery>>,
    letters: Letters,
}

impl Held {
    fn reject(&mut self, letters: Letters) {
        self.letters.extend(letters);
        let first = self.letters.rejections.first().map(|rejection| rejection.index);
        self.start = self.start.or(first);
    }

    /// How many messages in a row are rejected up to now, and whether the first of them is the batch's first. Those that are
    /// held in a quarantine are in the row, and do not count.
    fn run(&self) -> (u64, bool) {
        let rejections = &self.letters.rejections;
        let last = rejections.len();
        let pairs = rejections.windows(2).rev();
        let before = pairs.take_while(|pair| pair[0].index + 1 == pair[1].index).count();
        let run = before + usize::from(last > 0);
        let first = rejections.get(last - run);
        let failed =
            rejections[last - run..].iter().filter(|rejection| !rejection.reason.is_held());
        (failed.count() as u64, first.is_some_and(|rejection| rejection.index == 0))
    }
}

/// What is left to do of a batch.
struct Recovery {
    division: Division<(Reason, Then)>,
    failed: Option<(Part, Error)>,
    attempts: Attempts,
    held: Held,
    /// A part succeeds when what it sent is acknowledged.
    awaits_acks: bool,
}

impl Recovery {
    fn new() -> Self {
        let (division, attempts, held) = (Division::new(), Attempts::new(), Held::default());
        Self { division, failed: None, attempts, held, awaits_acks: false }
    }
}

impl PartitionProcessor {
    /// The user's code failed for this batch. Returns when all its messages are processed or rejected.
    pub(super) async fn recover(
        &mut self,
        factory: &Factory,
        processor: &mut Box<dyn DynProcessor>,
        batch: &Arc<Batch>,
        error: Error,
    ) -> Result<(), Interrupt> {
        let whole = Part { range: 0..batch.len(), calls: 1, is_whole: true };
        let work = Recovery { failed: Some((whole, error)), ..Recovery::new() };
        self.work_off(factory, processor, batch, work).await
    }

    /// Something that an earlier call for messages of this batch has sent cannot be produced.
    pub(super) async fn process_suspect(
        &mut self,
        factory: &Factory,
        processor: &mut Box<dyn DynProcessor>,
        batch: &Arc<Batch>,
        suspicion: Suspicion,
    ) -> Result<(), Interrupt> {
        self.progress.begin_batch();
        let mut work = Recovery::new();
        let then = self.letters.policy.undeliverable_action().clone();
        match suspicion {
            Suspicion::Of(culprits) => {
                let culprits =
                    culprits.into_iter().map(|(index, reason)| (index, (reason, then.clone())));
                let whole = Part { range: 0..batch.len(), calls: 1, is_whole: false };
                work.division.around(&whole, culprits);
            }
            Suspicion::Unknown(reason) => {
                let whole = Part { range: 0..batch.len(), calls: 1, is_whole: true };
                work.division.divide(&whole, None, (reason, then));
                work.awaits_acks = true;
            }
        }
        self.work_off(factory, processor, batch, work).await
    }

    /// These messages of the batch are held in the quarantine: they become letters, and the others are processed.
    pub(super) async fn process_unheld(
        &mut self,
        factory: &Factory,
        processor: &mut Box<dyn DynProcessor>,
        batch: &Arc<Batch>,
        held: Vec<(usize, (Reason, Then))>,
    ) -> Result<(), Interrupt> {
        self.progress.begin_batch();
        let mut work = Recovery::new();
        let whole = Part { range: 0..batch.len(), calls: 0, is_whole: true };
        work.division.around(&whole, held.into_iter());
        self.work_off(factory, processor, batch, work).await
    }

    /// Does what is left to do of the batch.
    async fn work_off(
        &mut self,
        factory: &Factory,
        processor: &mut Box<dyn DynProcessor>,
        batch: &Arc<Batch>,
        mut work: Recovery,
    ) -> Result<(), Interrupt> {
        self.is_in_parts = true;
        let worked_off = self.process_parts(factory, processor, batch, &mut work).await;
        self.is_in_parts = false;
        let finished = match worked_off {
            Ok(()) => self.finish_held(&mut work.held, batch).await,
            Err(interrupt) => Err(interrupt),
        };
        if finished.is_err() {
            // The batch comes again, and must not overtake what is still on the way.
            let deliveries = std::mem::take(&mut work.held.deliveries);
            self.in_flight.push(InFlight::abandoned(deliveries));
            return finished;
        }
        // The batch itself, besides its parts.
        self.progress.end_attempt();
        self.progress.recovered();
        Ok(())
    }

    async fn process_parts(
        &mut self,
        factory: &Factory,
        processor: &mut Box<dyn DynProcessor>,
        batch: &Arc<Batch>,
        work: &mut Recovery,
    ) -> Result<(), Interrupt> {
        loop {
            if let Some((part, error)) = work.failed.take() {
                let is_panic = error.kind() == ErrorKind::Panic;
                self.after_failure(work, batch, part, error).await?;
                if is_panic {
                    self.replace(processor, factory).await?;
                }
            }
            match work.division.next() {
                None => return Ok(()),
                Some(Work::Reject(index, (reason, then))) => {
                    self.reject(&mut work.held, batch, index, &reason, &then)?;
                    work.attempts = Attempts::new();
                }
                Some(Work::Process(mut part)) => {
                    let held = self.quarantine.of_part(batch, part.range.clone());
                    if !held.is_empty() {
                        work.division.around(&part, held.into_iter());
                        continue;
                    }
                    self.room().await?;
                    part.calls += 1;
                    match self.process_part(&mut **processor, work, batch, &part).await? {
                        Ok(()) => work.attempts = Attempts::new(),
                        Err(error) => work.failed = Some((part, error)),
                    }
                }
            }
        }
    }

    /// Waits until there is room for another batch in flight.
    async fn room(&mut self) -> Result<(), Interrupt> {
        while !self.in_flight.has_room() {
            tokio::select! {
                biased;
                () = over(&mut self.commands) => return Err(Interrupt::Abandoned),
                finished = self.in_flight.front_finished() => finished?,
            }
        }
        Ok(())
    }

    /// Decides what becomes of a part that failed, and waits if it is processed again.
    ///
    /// # Errors
    /// The lane stops, or is told to end.
    async fn after_failure(
        &mut self,
        Recovery { division, attempts, .. }: &mut Recovery,
        batch: &Arc<Batch>,
        part: Part,
        error: Error,
    ) -> Result<(), Interrupt> {
        let error = self.context.discard(error);
        let mut verdict = self.letters.policy.judge(&error)?;
        // A part of a batch runs once, unless the error may go away by itself.
        let is_rule = matches!(verdict.retries, Some((Budget::Rule(_), _)));
        let is_alone = matches!(verdict.retries, Some((Budget::Alone, _)));
        if (!part.is_whole && is_rule && verdict.then != Then::Stop)
            || (is_alone && part.range.len() > 1)
        {
            verdict.retries = None;
        }
        if let Some(wait) = attempts.next(&verdict) {
            self.wait_for_attempt(attempts, &error, wait).await?;
            division.again(part);
            return Ok(());
        }
        if verdict.then == Then::Stop {
            return Err(Interrupt::Failed(attempts.told(error)));
        }
        let culprit = verdict.culprit.and_then(|culprit| {
            let is_here = culprit.partition == batch.partition();
            batch.position(&culprit.topic, culprit.offset).filter(|_| is_here)
        });
        if part.is_whole {
            info!(
                ?error,
                messages = batch.len(),
                "looking for the message that cannot be processed"
            );
            self.progress.retrying(attempts.made, attempts.since, &error);
        }
        let reason = Reason::of(&error, part.calls);
        division.divide(&part, culprit, (reason, verdict.then));
        Ok(())
    }

    async fn process_part(
        &mut self,
        processor: &mut dyn DynProcessor,
        Recovery { held, awaits_acks, .. }: &mut Recovery,
        batch: &Arc<Batch>,
        part: &Part,
    ) -> Result<Result<()>, Interrupt> {
        let messages = match part.range == (0..batch.len()) {
            true => batch.clone(),
            false => Arc::new(batch.part(part.range.clone())),
        };
        let call = Call::Process(messages.clone());
        self.context.lane_metrics().begins(&messages, self.batcher.cut_age());
        if let Err(error) = self.call(processor, &call, part.calls).await? {
            self.progress.end_attempt();
            return Ok(Err(error));
        }
        let rejected = self.context.take_rejected();
        let mut deliveries = VecDeque::new();
        if *awaits_acks {
            deliveries = self.hand_over().await?;
            if let Err(error) = self.acknowledged(&deliveries).await? {
                self.progress.end_attempt();
                return Ok(Err(error));
            }
        }
        let rejected = self.settle_quarantine(&messages, rejected);
        let letters = rejected.into_letters(part.range.start);
        let is_first = held.start.is_none() || fault!(FinishBeforeLetters);
        let is_finished = is_first && letters.rejections.is_empty();
        if is_finished {
            self.save_quarantine().await?;
        }
        if !*awaits_acks {
            deliveries = self.hand_over().await?;
        }
        if is_finished {
            let times = self.batcher.times();
            self.in_flight.push(InFlight::new(&call, deliveries, times).recovered());
            self.circuit.processed(part.range.len());
            return Ok(Ok(()));
        }
        self.progress.end_attempt();
        held.start.get_or_insert(part.range.start);
        held.deliveries.extend(deliveries);
        held.reject(letters);
        Ok(Ok(()))
    }

    /// Waits until these messages are acknowledged, or one of them has failed.
    async fn acknowledged(
        &mut self,
        deliveries: &VecDeque<Arc<Delivery>>,
    ) -> Result<Result<()>, Interrupt> {
        for delivery in deliveries {
            guarded(&mut self.commands, &mut self.in_flight, delivery.finished()).await?;
            if let Err(error) = delivery.result() {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn reject(
        &mut self,
        held: &mut Held,
        batch: &Arc<Batch>,
        index: usize,
        reason: &Reason,
        then: &Then,
    ) -> Result<()> {
        let message = batch.get(index);
        let topic = match then {
            Then::DeadLetter(topic) => Some(topic),
            Then::Skip | Then::Stop => None,
        };
        let mut rejected = Rejected::default();
        rejected.add(index, &message, (topic, &self.letters), reason);
        self.quarantine(batch, index, reason, topic);
        held.reject(rejected.into_letters(0));
        if reason.is_held() {
            return Ok(());
        }
        let (run, from_start) = held.run();
        // The rest would only be processed in vain.
        match self.circuit.is_doomed(run, from_start) {
            true => self.circuit.judge(batch.len(), &held.letters.rejections),
            false => Ok(()),
        }
    }

    /// Puts a batch that was processed as a whole into the queue of those that wait for their acks, if the circuit allows
    /// what the user's code has rejected.
    ///
    /// # Errors
    /// The circuit is open.
    pub(super) fn admit(&mut self, batch: &Batch, rejected: Rejected) -> Result<Letters> {
        if rejected.is_empty() {
            self.circuit.processed(batch.len());
            return Ok(Letters::default());
        }
        let letters = rejected.into_letters(0);
        self.circuit.judge(batch.len(), &letters.rejections)?;
        tell(&letters.rejections);
        Ok(letters)
    }

    /// Everything of the batch was processed or is to be rejected.
    ///
    /// # Errors
    /// The circuit is open.
    async fn finish_held(&mut self, held: &mut Held, batch: &Arc<Batch>) -> Result<(), Interrupt> {
        let Some(start) = held.start else { return Ok(()) };
        let rest = Arc::new(batch.part(start..batch.len()));
        let mut letters = std::mem::take(&mut held.letters);
        letters.rejections.iter_mut().for_each(|rejection| rejection.index -= start);
        self.circuit.judge(rest.len(), &letters.rejections)?;
        tell(&letters.rejections);
        self.save_quarantine().await?;
        self.progress.begin_batch();
        let deliveries = std::mem::take(&mut held.deliveries);
        let in_flight = InFlight::new(&Call::Process(rest), deliveries, self.batcher.times());
        self.in_flight.push(in_flight.recovered().with_letters(letters));
        Ok(())
    }
}

/// A line for each message that is skipped, and one for those with letters.
fn tell(rejections: &[Rejection]) {
    for skipped in rejections.iter().filter(|rejection| rejection.letters.is_none()) {
        warn!(rejected = skipped.told, "a message that cannot be processed is skipped");
    }
    let mut letters = rejections.iter().filter(|rejection| rejection.letters.is_some());
    if let Some(first) = letters.next() {
        let messages = letters.count() + 1;
        warn!(messages, rejected = first.told, "rejecting messages: their letters are being sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_rejections_is_counted_from_its_end() {
        let run = |rejected: &[usize]| {
            let rejections = rejected.iter().map(|index| Rejection::for_test(*index)).collect();
            let letters = Letters { rejections, deliveries: Vec::new() };
            Held { letters, ..Held::default() }.run()
        };
        assert_eq!(run(&[]), (0, false));
        assert_eq!(run(&[0]), (1, true));
        assert_eq!(run(&[0, 1, 2]), (3, true));
        assert_eq!(run(&[0, 2, 3]), (2, false));
        assert_eq!(run(&[4]), (1, false));
    }
}
