//! What came of the runs of a [`ProcessorTester`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Attempt, ProcessorTester};
use crate::message::{Offset, TopicPartition};
use crate::testkit::TestMessage;

impl ProcessorTester {
    /// The messages that were sent and reached the broker, in order. Includes replays and messages that are not
    /// acknowledged yet, but not messages that [could not be delivered](Self::fail_delivery).
    ///
    /// A message has a partition if the processor chose one, and a timestamp if the processor set one. It has no offset.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};
    /// # struct Greet;
    /// # impl Processor for Greet {
    /// #     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    /// #         for message in batch.iter() {
    /// #             let greeting = OutgoingMessage::like("greetings", &message).value("hello");
    /// #             context.send(greeting.header("lang", "en"));
    /// #         }
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let mut tester = ProcessorTester::new(["guests"], |_partition| Greet);
    /// tester.push(TestMessage::new("guests").key("Zoë"));
    /// tester.run_batch().await?;
    /// let sent = tester.outgoing();
    /// assert_eq!(sent, [TestMessage::new("greetings").key("Zoë").value("hello").header("lang", "en")]);
    /// assert_eq!((sent[0].key_text(), sent[0].header_text("lang")), (Some("Zoë"), Some("en")));
    /// # Ok(())
    /// # }
    /// ```
    pub fn outgoing(&self) -> Vec<TestMessage> {
        self.producer.outgoing()
    }

    /// Like [`outgoing`](Self::outgoing), but also forgets the messages: the next call returns only what is sent from
    /// now on.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Copy;
    /// # impl Processor for Copy {
    /// #     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    /// #         Ok(batch.iter().for_each(|message| context.forward("copies", &message)))
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let mut tester = ProcessorTester::new(["orders"], |_partition| Copy);
    /// tester.push(TestMessage::new("orders").value("1"));
    /// tester.run_batch().await?;
    /// assert_eq!(tester.take_outgoing(), [TestMessage::new("copies").value("1")]);
    /// tester.push(TestMessage::new("orders").value("2"));
    /// tester.run_batch().await?;
    /// assert_eq!(tester.take_outgoing(), [TestMessage::new("copies").value("2")]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_outgoing(&mut self) -> Vec<TestMessage> {
        self.producer.take_outgoing()
    }

    /// The next offset that is committed for this topic; `None` if nothing is committed. For all topics at once, see
    /// [`committed_offsets`](Self::committed_offsets).
    ///
    /// ```
    /// # use kasper::Offset;
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Copy;
    /// # impl Processor for Copy {
    /// #     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    /// #         Ok(batch.iter().for_each(|message| context.forward("copies", &message)))
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let mut tester = ProcessorTester::new(["orders"], |_partition| Copy);
    /// tester.push(TestMessage::new("orders"));
    /// assert_eq!(tester.committed("orders"), None);
    /// tester.run_batch().await?;
    /// assert_eq!(tester.committed("orders"), Some(Offset::new(1)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// The topic is not an input topic.
    #[track_caller]
    pub fn committed(&self, topic: &str) -> Option<Offset> {
        self.log.committed()[usize::from(self.topic_index(topic))]
    }

    /// All that is committed: the next offset of each topic-partition that has one, as
    /// [`Report::next_offsets`](crate::Report::next_offsets).
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Ignore;
    /// # impl Processor for Ignore {
    /// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// use kasper::{Offset, TopicPartition};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let mut tester = ProcessorTester::new(["orders", "profiles"], |_| Ignore).partition(3);
    /// tester.push(TestMessage::new("orders").offset(7));
    /// tester.run_batch().await?;
    /// let committed = tester.committed_offsets();
    /// assert_eq!(committed[&TopicPartition::new("orders", 3)], Offset::new(8));
    /// assert_eq!(committed.len(), 1); // nothing of `profiles` was read
    /// # Ok(())
    /// # }
    /// ```
    pub fn committed_offsets(&self) -> BTreeMap<TopicPartition, Offset> {
        let committed = self.topics.iter().zip(self.log.committed());
        let partition = |topic: &Arc<str>| TopicPartition::new(topic.clone(), self.partition);
        committed.filter_map(|(topic, next)| Some((partition(topic), next?))).collect()
    }

    /// How each call of `process` ended that was given the message at this offset, in the order of the calls, replays
    /// included. Empty if the message was not delivered yet. The position of
    /// [`Succeeded`](Attempt::Succeeded) says in which attempt the message was processed.
    ///
    /// ```
    /// use kasper::testkit::{Attempt, ProcessorTester, TestMessage};
    /// use kasper::{Batch, BoxError, Context, Processor};
    ///
    /// /// A service that can't be reached at first.
    /// struct Flaky {
    ///     calls: usize,
    /// }
    ///
    /// impl Processor for Flaky {
    ///     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
    ///         self.calls += 1;
    ///         if self.calls == 2 { Err("the service can't be reached".into()) } else { Ok(()) }
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let mut tester = ProcessorTester::new(["orders"], |_partition| Flaky { calls: 0 });
    /// tester.push(TestMessage::new("orders"));
    /// tester.run_batch().await?;
    /// let order = tester.push(TestMessage::new("orders"));
    /// assert_eq!(tester.attempts("orders", order), []);
    ///
    /// assert!(tester.run_batch().await.is_err());
    /// tester.assign();
    /// tester.run_batch().await?;
    /// assert_eq!(tester.attempts("orders", order), [Attempt::Failed, Attempt::Succeeded]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// The topic is not an input topic.
    #[track_caller]
    pub fn attempts(&self, topic: &str, offset: Offset) -> Vec<Attempt> {
        self.calls.attempts(self.topic_index(topic), offset)
    }

    /// The number of messages that the next runs deliver.
    pub fn pending(&self) -> usize {
        self.log.pending()
    }

    /// The number of batches that were begun but are not finished, because [acks are held](Self::hold_acks), or
    /// because a run was dropped within `process`.
    pub fn in_flight(&self) -> usize {
        self.lane.as_ref().map_or(0, |lane| lane.progress.status().in_flight)
    }

    /// How often `process` was called, replays included.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Copy;
    /// # impl Processor for Copy {
    /// #     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    /// #         Ok(batch.iter().for_each(|message| context.forward("copies", &message)))
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let mut tester = ProcessorTester::new(["orders"], |_partition| Copy);
    /// tester.push(TestMessage::new("orders"));
    /// tester.push(TestMessage::new("orders"));
    /// assert_eq!((tester.batches(), tester.pending()), (0, 2));
    /// tester.run_batch().await?;
    /// assert_eq!((tester.batches(), tester.pending()), (1, 0));
    /// tester.replay_cut(1).await?;
    /// assert_eq!(tester.batches(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn batches(&self) -> usize {
        self.calls.given().1
    }

    /// Whether the processor has called [`Context::close`](crate::Context::close). The run in which it did so ended
    /// like a [revocation](Self::revoke).
    pub fn has_asked_to_close(&self) -> bool {
        self.board.control.borrow().close
    }
}
