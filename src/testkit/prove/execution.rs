//! [`execute`]: one run of a processor through a schedule, by the stages of the pipeline.
//!
//! The [`ProcessorTester`] drives the lane. What is committed is decided late: after each finished batch, the offsets that
//! a commit would have are noted, and a fault chooses which of these commits were made.

use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::outcome::{Outcome, Sent, Tally, Trouble};
use super::processes::Processes;
use super::recorder::{Action, Recorder};
use super::schedule::{Fault, Point, Schedule, Step};
use super::story::Teller;
use super::subject::Subject;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Offset;
use crate::metrics::NoopRecorder;
use crate::testkit::{ProcessorTester, TestMessage};

/// How long one batch may take. With paused time this is over at once if nothing else can happen.
const LONGEST: Duration = Duration::from_secs(30);

/// How often a call to the store goes on before the runtime has its turn.
const MOST_AT_ONCE: usize = 64;

/// Runs the processor through the schedule. `topics` are those that the schedule's failures of deliveries are about;
/// `tells`: with a story.
pub(super) async fn execute(
    subject: &Subject,
    inputs: &[TestMessage],
    schedule: &Schedule,
    topics: &[String],
    tells: bool,
) -> Outcome {
    let mut execution = Execution::new(subject, inputs, schedule, topics, tells);
    let trouble = execution.run(schedule).await.err();
    execution.into_outcome(trouble)
}

/// How the driving of a batch ended.
enum Ran {
    /// All that could be done without the execution's help.
    Done,
    /// At the armed point.
    Stopped,
    Failed(Error),
}

struct Execution<'a> {
    subject: &'a Subject,
    /// The names of the output topics.
    topics: &'a [String],
    recorder: Arc<Recorder>,
    processes: Processes,
    tester: ProcessorTester,
    /// The commits that may have been made, the oldest first. The first one was made in any case.
    commits: Vec<Vec<Option<Offset>>>,
    sent: Vec<TestMessage>,
    /// Sent, and not acknowledged.
    unacked: Vec<TestMessage>,
    holds_acks: bool,
    /// Failures of deliveries that have shown. There are no more than were made.
    failed_deliveries: usize,
    /// A call of the store has failed, and held acks keep the lane from telling what came of it.
    store_failed: bool,
    passed_over_error: bool,
    tally: Tally,
    points: usize,
    waits: usize,
    teller: Teller,
}

impl<'a> Execution<'a> {
    fn new(
        subject: &'a Subject,
        inputs: &[TestMessage],
        schedule: &Schedule,
        topics: &'a [String],
        tells: bool,
    ) -> Self {
        let recorder = Recorder::new(subject.atomic_writes, schedule.salt, tells);
        let processes = Processes::new(subject.make.clone(), recorder.clone());
        let mut tester = ProcessorTester::with_factory(&subject.topics, processes.clone())
            .partition(subject.partition)
            .metrics(NoopRecorder);
        for input in schedule.ordered(inputs) {
            tester.push(input);
        }
        Self {
            subject,
            topics,
            commits: vec![tester.committed_by_topic()],
            teller: Teller::new(recorder.clone(), tells),
            recorder,
            processes,
            tester,
            sent: Vec::new(),
            unacked: Vec::new(),
            holds_acks: false,
            failed_deliveries: 0,
            store_failed: false,
            passed_over_error: false,
            tally: Tally::default(),
            points: 0,
            waits: 0,
        }
    }

    fn into_outcome(mut self, trouble: Option<Trouble>) -> Outcome {
        self.tally.batches = self.recorder.batches();
        self.sent.append(&mut self.unacked);
        Outcome {
            store: self.recorder.contents(),
            has_written: self.recorder.has_written(),
            topics: self.sent.iter().map(|message| message.topic.clone()).collect(),
            sent: Sent::new(self.sent, self.subject),
            trouble,
            passed_over_error: self.passed_over_error,
            tally: self.tally,
            points: self.points,
            waits: self.waits,
            story: self.teller.into_lines(),
            attempts: self.recorder.attempts(),
        }
    }

    async fn run(&mut self, schedule: &Schedule) -> Result<(), Trouble> {
        for step in &schedule.steps {
            self.step(step).await?;
        }
        self.finish(schedule.rest).await
    }

    async fn step(&mut self, step: &Step) -> Result<(), Trouble> {
        self.tester.assign();
        // A flush that waits for acks would keep the next batch from beginning.
        if self.holds_acks && (!step.hold || self.tester.is_within_call()) {
            self.release_acks().await?;
            self.tester.assign();
        }
        if step.hold && !self.holds_acks {
            self.tester.hold_acks();
            self.holds_acks = true;
        }
        if let (Fault::DeliveryFails(topic), false) = (step.fault, self.topics.is_empty()) {
            let topic = &self.topics[topic % self.topics.len()];
            self.tester.fail_delivery(topic, "the schedule of `kasper::testkit::prove`");
            self.teller.delivery_fails(topic);
            self.tally.delivery_failures += 1;
        }
        let (armed, wait) = match step.fault {
            Fault::Crash(Point::Store(at)) | Fault::Lost(Point::Store(at)) => {
                (Some((at, Action::Stop)), None)
            }
            Fault::Crash(Point::Wait(at)) | Fault::Lost(Point::Wait(at)) => (None, Some(at)),
            Fault::StoreFails(at) => (Some((at, Action::Fail)), None),
            _ => (None, None),
        };
        self.recorder.arm(armed);
        let ran = self.drive(step.messages, wait).await;
        let (reached, points) = self.recorder.disarm();
        self.points = self.points.max(points);
        self.collect_sent();
        let ran = ran.inspect_err(|_| self.teller.stuck())?;
        let waits = self.tester.is_within_call();
        self.teller.batch(step, reached.as_ref(), matches!(ran, Ran::Stopped), waits);
        self.after(step, ran, reached.is_some()).await
    }

    /// The fault of the step, or what it has led to.
    async fn after(&mut self, step: &Step, ran: Ran, reached: bool) -> Result<(), Trouble> {
        if reached && matches!(step.fault, Fault::StoreFails(_)) {
            self.store_failed = true;
            self.tally.store_failures += 1;
        }
        if let Ran::Failed(error) = ran {
            self.check_expected(error)?;
            self.teller.fails(step);
            self.restart(step.elsewhere);
            return Ok(());
        }
        match step.fault {
            Fault::Crash(_) => self.crash(step),
            Fault::Lost(_) => self.lose(step).await,
            Fault::Revoked => {
                self.note_commit();
                self.revoke().await?;
                self.tally.revocations += 1;
                if step.elsewhere {
                    self.processes.hand_over();
                }
            }
            Fault::Tick => {
                self.note_commit();
                self.tester.assign();
                let ticked = timed(self.tester.tick()).await?;
                self.collect_sent();
                self.expect_delivery(ticked)?;
            }
            Fault::StoreFails(_) => {
                if !self.holds_acks {
                    self.passed_over_error |= mem::take(&mut self.store_failed);
                }
                self.note_commit();
            }
            Fault::None | Fault::DeliveryFails(_) => self.note_commit(),
        }
        Ok(())
    }

    /// Drives a batch until the tester is still, or the processor reaches the armed point or this wait.
    async fn drive(&mut self, messages: usize, stop_at: Option<usize>) -> Result<Ran, Trouble> {
        let recorder = &self.recorder;
        let mut run = pin!(self.tester.run_batch_of(messages));
        let (mut waits, mut calls) = (0, 0);
        let driven = poll_fn(|task| {
            loop {
                recorder.begin_poll(task.waker());
                match run.as_mut().poll(task) {
                    Poll::Ready(Ok(_)) => return Poll::Ready(Ran::Done),
                    Poll::Ready(Err(error)) => return Poll::Ready(Ran::Failed(error)),
                    Poll::Pending if recorder.is_stopped() => return Poll::Ready(Ran::Stopped),
                    Poll::Pending => {}
                }
                // The call of the store can go on at once. Polling by way of the runtime takes longer than all the rest.
                // Now and then the runtime gets its turn, for the clock of the time-out.
                if recorder.waits_in_store() {
                    calls += 1;
                    if calls % MOST_AT_ONCE == 0 {
                        return Poll::Pending;
                    }
                    continue;
                }
                if stop_at == Some(waits) {
                    return Poll::Ready(Ran::Stopped);
                }
                waits += 1;
                return Poll::Pending;
            }
        });
        let ran = timed(driven).await;
        self.waits = self.waits.max(waits);
        ran
    }

    /// The process dies where it stands.
    fn crash(&mut self, step: &Step) {
        self.tally.crashes += 1;
        self.processes.kill();
        self.go_back(step);
    }

    /// The lane drops the processor where it stands. The process lives on.
    async fn lose(&mut self, step: &Step) {
        self.tally.losses += 1;
        self.tester.lose().await;
        self.collect_sent();
        self.go_back(step);
    }

    /// To the last commit that was made.
    fn go_back(&mut self, step: &Step) {
        let unsent = step.unsent && !self.unacked.is_empty();
        if unsent {
            self.unacked.clear();
        }
        self.store_failed = false;
        self.sent.append(&mut self.unacked);
        let last = self.commits.len() - 1;
        let made = last.saturating_sub(step.back);
        self.teller.goes_back(step, last - made, unsent);
        self.commits.truncate(made + 1);
        self.tester.crash_back_to(self.commits[made].clone());
        self.forget_held();
        if step.elsewhere {
            self.processes.hand_over();
        }
    }

    /// The lane has ended with an error, and what was finished is committed.
    fn restart(&mut self, elsewhere: bool) {
        self.sent.append(&mut self.unacked);
        self.commits = vec![self.tester.committed_by_topic()];
        self.store_failed = false;
        self.forget_held();
        self.processes.kill();
        if elsewhere {
            self.processes.hand_over();
        }
    }

    /// The lane is gone: nothing waits for these acks any more.
    fn forget_held(&mut self) {
        if mem::take(&mut self.holds_acks) {
            self.tester.forget_held_acks();
        }
    }

    /// In good order.
    async fn revoke(&mut self) -> Result<(), Trouble> {
        if self.holds_acks {
            self.release_acks().await?;
        }
        let revoked = timed(self.tester.revoke()).await?;
        self.collect_sent();
        self.expect_delivery(revoked)?;
        self.commits = vec![self.tester.committed_by_topic()];
        Ok(())
    }

    async fn release_acks(&mut self) -> Result<(), Trouble> {
        self.holds_acks = false;
        let released = timed(self.tester.release_acks()).await?;
        self.sent.append(&mut self.unacked);
        self.collect_sent();
        self.teller.acks_come();
        self.expect_delivery(released)?;
        self.passed_over_error |= mem::take(&mut self.store_failed);
        self.note_commit();
        Ok(())
    }

    /// A batch was finished, or several: a commit may have been made.
    fn note_commit(&mut self) {
        let committed = self.tester.committed_by_topic();
        if self.commits.last() != Some(&committed) {
            self.commits.push(committed);
        }
    }

    fn collect_sent(&mut self) {
        let mut sent = self.tester.take_outgoing();
        match self.holds_acks {
            true => self.unacked.append(&mut sent),
            false => self.sent.append(&mut sent),
        }
    }

    /// # Errors
    /// Nothing was made to fail that this comes from.
    fn check_expected(&mut self, error: Error) -> Result<(), Trouble> {
        let is_delivery = |error: &Error| error.kind() == ErrorKind::Delivery;
        let failed = is_delivery(&error) || error.find().is_some_and(is_delivery);
        if failed && self.failed_deliveries < self.tally.delivery_failures {
            self.failed_deliveries += 1;
            return Ok(());
        }
        if self.store_failed { Ok(()) } else { Err(Trouble::Failed(error)) }
    }

    /// What comes after a call outside of a batch: if it has failed, the processor starts again.
    ///
    /// # Errors
    /// Those of [`check_expected`](Self::check_expected).
    fn expect_delivery(&mut self, result: Result<()>) -> Result<(), Trouble> {
        if let Err(error) = result {
            self.check_expected(error)?;
            self.teller.starts_again();
            self.restart(false);
        }
        Ok(())
    }

    /// Delivers what is left, and gives the partition back.
    async fn finish(&mut self, batch: usize) -> Result<(), Trouble> {
        if self.holds_acks {
            self.release_acks().await?;
        }
        let step = Step { messages: batch, ..Step::PLAIN };
        loop {
            while self.tester.pending() > 0 {
                let before = (self.recorder.batches(), self.failed_deliveries);
                self.step(&step).await?;
                if (self.recorder.batches(), self.failed_deliveries) == before {
                    return Err(Trouble::Stuck);
                }
            }
            self.tester.assign();
            if self.subject.ticks {
                self.step(&Step { fault: Fault::Tick, ..step }).await?;
                self.tester.assign();
            }
            self.revoke().await?;
            // Else a message of the last ones could not be delivered, and what it was made from comes again.
            if self.tester.pending() == 0 {
                return Ok(());
            }
        }
    }
}

/// # Errors
/// It takes too long.
async fn timed<T>(work: impl Future<Output = T>) -> Result<T, Trouble> {
    timeout(LONGEST, work).await.map_err(|_| Trouble::Stuck)
}
