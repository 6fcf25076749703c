//! What a test does with a [`ProcessorTester`]: it pushes messages, runs batches, takes the partition away.

use tokio::time::Instant;

use super::ProcessorTester;
use crate::command::Command;
use crate::error::Result;
use crate::message::Offset;
use crate::settings::addable;
use crate::testkit::TestMessage;

impl ProcessorTester {
    /// Adds a message to its topic, and returns its offset. The next run delivers the message.
    ///
    /// Messages are delivered in the order in which they are pushed, across all topics, in the tester's
    /// [partition](Self::partition), whatever partition they name.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Offset, Processor};
    /// # struct Ignore;
    /// # impl Processor for Ignore {
    /// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// let mut tester = ProcessorTester::new(["orders", "profiles"], |_| Ignore);
    /// assert_eq!(tester.push(TestMessage::new("orders").value("1")), Offset::new(0));
    /// assert_eq!(tester.push(TestMessage::new("orders").value("2").offset(7)), Offset::new(7));
    /// assert_eq!(tester.push(TestMessage::new("orders").value("3")), Offset::new(8));
    /// assert_eq!(tester.push(TestMessage::new("profiles").key("42")), Offset::new(0));
    /// assert_eq!(tester.pending(), 4);
    /// ```
    ///
    /// # Panics
    /// The topic is not an input topic, or the message's [own offset](TestMessage::offset) is not after those already
    /// in the topic.
    #[track_caller]
    pub fn push(&mut self, message: impl Into<TestMessage>) -> Offset {
        let message = message.into();
        let topic = self.topic_index(&message.topic);
        let end = self.log.end(topic);
        let offset = message.offset.unwrap_or(end);
        assert!(offset >= end, "offset {offset} in `{}`, where the next is {end}", message.topic);
        self.log.push(topic, offset, message);
        offset
    }

    /// Delivers pushed messages as one batch: all of them or, if there are more than
    /// [`max_batch_messages`](Self::max_batch_messages), the first ones. Returns when the batch is finished and its
    /// offsets are committed. The result is the number of messages given to `process`.
    ///
    /// Without messages, `process` is not called, and the result is 0. While [acks are held](Self::hold_acks), this
    /// returns as soon as the batch waits for them, and begins no batch if [`max_in_flight`](Self::max_in_flight)
    /// batches already wait. If an earlier run was dropped within `process`, this one finishes that batch and begins
    /// no other.
    ///
    /// # Errors
    /// The error that [`run`](crate::TopicProcessor::run) would return. As when `run` ends, what finished before is
    /// committed, and the processor is dropped. To continue, [`assign`](Self::assign) or [`replay`](Self::replay).
    /// Without an assignment, the error's kind is [`InvalidInput`](crate::ErrorKind::InvalidInput).
    pub async fn run_batch(&mut self) -> Result<usize> {
        self.begin_run()?;
        let (before, _) = self.calls.given();
        self.step(self.max_batch_messages).await?;
        Ok(self.calls.given().0 - before)
    }

    /// Delivers everything that was pushed, in batches of at most [`max_batch_messages`](Self::max_batch_messages),
    /// and returns the number of messages given to `process`. While [acks are held](Self::hold_acks), it returns when
    /// [`max_in_flight`](Self::max_in_flight) batches wait for them.
    ///
    /// # Errors
    /// Those of [`run_batch`](Self::run_batch).
    pub async fn run_all(&mut self) -> Result<usize> {
        self.run_in_batches(self.max_batch_messages).await
    }

    /// Makes the processor [tick](crate::Processor::tick), and commits what is finished then. Ticks come only from here,
    /// never from time. While an earlier tick waits for held acks, or as many batches as [may be in
    /// flight](Self::max_in_flight), the tick waits too. A tick is not a run: a [replay](Self::replay) begins where the
    /// last run did.
    ///
    /// # Errors
    /// Those of [`run_batch`](Self::run_batch), and the error of `tick`.
    ///
    /// ```
    /// use kasper::testkit::{ProcessorTester, TestMessage};
    /// use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};
    ///
    /// struct Heartbeat;
    ///
    /// impl Processor for Heartbeat {
    ///     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
    ///         Ok(())
    ///     }
    ///
    ///     async fn tick(&mut self, context: &mut Context) -> Result<(), BoxError> {
    ///         context.send(OutgoingMessage::new("heartbeats").value(context.partition().to_string()));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let mut tester = ProcessorTester::new(["orders"], |_| Heartbeat).partition(3);
    /// tester.tick().await?;
    /// assert_eq!(tester.take_outgoing(), [TestMessage::new("heartbeats").value("3")]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn tick(&mut self) -> Result<()> {
        self.begin()?;
        if let Some(lane) = &self.lane {
            lane.ticks.add_permits(1);
        }
        self.settle().await
    }

    /// Simulates a crash, and processes everything since the beginning of the last run once more:
    /// [`crash`](Self::crash), [`assign`](Self::assign), [`run_all`](Self::run_all).
    ///
    /// # Errors
    /// Those of [`run_batch`](Self::run_batch).
    pub async fn replay(&mut self) -> Result<usize> {
        self.replay_cut(self.max_batch_messages).await
    }

    /// Like [`replay`](Self::replay), in batches of at most `max_batch_messages`.
    ///
    /// # Errors
    /// Those of [`run_batch`](Self::run_batch).
    ///
    /// # Panics
    /// The number is 0.
    pub async fn replay_cut(&mut self, max_batch_messages: usize) -> Result<usize> {
        assert!(max_batch_messages > 0, "a batch has at least one message");
        self.crash();
        self.assign();
        self.run_in_batches(max_batch_messages).await
    }

    /// The process dies at the worst moment: everything of the last run is processed and sent, but its offsets are
    /// not committed. The processor is dropped where it stands. The committed offsets go back to where they were when
    /// the last run began.
    ///
    /// A [revocation](Self::revoke), and a run that ended with an error, commit what finished. A crash after them
    /// takes nothing back.
    pub fn crash(&mut self) {
        let committed = std::mem::take(&mut self.committed_before);
        self.log.set_committed(&committed);
        self.committed_before = committed;
        self.unassign();
    }

    /// The group revokes the partition: batches in flight finish (until the [drain deadline](Self::drain_deadline),
    /// and unless their acks are [held](Self::hold_acks)), [`closing`](crate::Processor::closing) is called, the finished
    /// prefix is committed, and the processor is dropped.
    ///
    /// # Errors
    /// A batch in flight failed, or `closing`.
    pub async fn revoke(&mut self) -> Result<()> {
        let Some(lane) = &self.lane else {
            self.unassign();
            return Ok(());
        };
        self.log.open(0);
        let deadline = Instant::now() + addable(self.drain_deadline);
        lane.commands.send_replace(Command::Drain(Some(deadline)));
        // A lane that does not end waits for acks that the test holds: then the deadline may as well
        // have passed, and what is in flight is dropped.
        let end = self.drive().await;
        self.end_lane(end).await
    }

    /// The partition is lost, as after a session time-out: the processor is dropped where it stands, and nothing more
    /// is committed. The offsets of the last run count as not committed, either.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// use std::time::Duration;
    ///
    /// struct Slow;
    ///
    /// impl Processor for Slow {
    ///     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
    ///         tokio::time::sleep(Duration::from_secs(60)).await;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let mut tester = ProcessorTester::new(["orders"], |_partition| Slow);
    /// tester.push(TestMessage::new("orders"));
    /// let run = tokio::time::timeout(Duration::from_secs(1), tester.run_batch()).await;
    /// assert!(run.is_err()); // still within `process`
    /// tester.lose().await; // drops `process` at its `await`
    /// assert_eq!((tester.in_flight(), tester.pending(), tester.committed("orders")), (0, 1, None));
    /// # }
    /// ```
    pub async fn lose(&mut self) {
        if let Some(lane) = &self.lane {
            lane.commands.send_replace(Command::Stop);
            let _nothing_of_it_counts = self.drive().await;
        }
        self.crash();
    }

    /// The partition is assigned again, after [`revoke`](Self::revoke), [`lose`](Self::lose), [`crash`](Self::crash),
    /// an error, or [`Context::close`](crate::Context::close). The next run makes a fresh processor and continues at
    /// the committed offsets. Does nothing if the partition is already assigned.
    pub fn assign(&mut self) {
        if !self.assigned {
            self.assigned = true;
            self.board.control.send_modify(|control| control.close = false);
        }
    }

    /// Makes the next undelivered message to this topic fail with this reason, as a message that is too large does.
    /// Two calls make two messages fail.
    pub fn fail_delivery(&mut self, topic: impl Into<String>, reason: impl Into<String>) {
        self.producer.fail_next(topic.into(), reason.into());
    }

    /// Holds acks back from now on: batches that send something stay in flight until
    /// [`release_acks`](Self::release_acks). That call also returns the error of a later batch, because a failed
    /// processor first waits for the batches in flight.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Offset, Processor};
    /// # struct Forward;
    /// # impl Processor for Forward {
    /// #     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    /// #         Ok(batch.iter().for_each(|message| context.forward("audit", &message)))
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let mut tester = ProcessorTester::new(["orders"], |_partition| Forward);
    /// tester.hold_acks();
    /// tester.push(TestMessage::new("orders").value("1"));
    /// tester.run_batch().await?;
    /// assert_eq!((tester.in_flight(), tester.committed("orders")), (1, None));
    /// tester.release_acks().await?;
    /// assert_eq!((tester.in_flight(), tester.committed("orders")), (0, Some(Offset::new(1))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn hold_acks(&mut self) {
        self.producer.hold_acks();
    }

    /// Releases all acks that were held, and holds none any more. Batches that waited for acks finish and are
    /// committed; no other batch begins.
    ///
    /// # Errors
    /// A delivery had failed, or a `process` that waited in [`flush`](crate::Context::flush) continued and failed.
    pub async fn release_acks(&mut self) -> Result<()> {
        self.producer.release_acks();
        match &self.lane {
            Some(_) => self.settle().await,
            None => Ok(()),
        }
    }
}
