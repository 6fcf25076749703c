//! A feeder of a running processor's input.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::message::TestMessage;
use super::writer::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use crate::message::Offset;

/// How much one partition may hold unread: well below what the embedded broker keeps.
const WINDOW_BYTES: usize = 2 << 20;
const WINDOW_MESSAGES: usize = 20_000;

/// Writes messages to the partitions of one topic, and waits for the reader if it falls too far behind.
///
/// It must be the topic's only writer, from the beginning, because it counts the offsets itself. A
/// [`TestClient`](super::TestClient) has no reader to wait for and awaits each ack instead: use it to write the messages
/// of a test, and a feeder for more than the [embedded broker](super::EmbeddedBroker) keeps.
///
/// ```
/// # use kasper::{Batch, BoxError, Context, Processor};
/// # struct Count;
/// # impl Processor for Count {
/// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
/// # }
/// use kasper::testkit::{EmbeddedBroker, Feeder};
/// use kasper::{Offset, TopicPartition, TopicProcessor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// let broker = EmbeddedBroker::start()?;
/// broker.create_topic("orders", 2)?;
/// let processor = TopicProcessor::builder("count-orders", ["orders"])
///     .brokers(broker.brokers())
///     .partitions(0..2)
///     .build(|_partition| Count)
///     .await?;
/// let handle = processor.handle();
/// let mut feeder = Feeder::new(&broker.brokers(), "orders", 2, handle.clone())?;
/// let running = tokio::spawn(processor.run());
/// for order in ["1", "2", "3"] {
///     feeder.send(order.as_bytes()).await?;
/// }
/// assert_eq!(feeder.finish().await?, 3);
///
/// handle.close();
/// let report = running.await.unwrap()?;
/// assert_eq!(report.messages, 3);
/// assert_eq!(report.next_offsets[&TopicPartition::new("orders", 0)], Offset::new(2));
/// # Ok(())
/// # }
/// ```
pub struct Feeder {
    writer: Writer,
    topic: Arc<str>,
    partitions: Vec<FedPartition>,
    next: usize,
    reader: Handle,
}

#[derive(Default)]
struct FedPartition {
    number: i32,
    sent: i64,
    /// Offset and size of each message that the reader has not finished.
    unread: VecDeque<(i64, usize)>,
    unread_bytes: usize,
}

impl FedPartition {
    fn is_full(&self) -> bool {
        self.unread.len() >= WINDOW_MESSAGES || self.unread_bytes >= WINDOW_BYTES
    }

    fn read_up_to(&mut self, next: Offset) {
        while let Some((_, size)) = self.unread.pop_front_if(|(offset, _)| *offset < next.get()) {
            self.unread_bytes -= size;
        }
    }
}

impl Feeder {
    /// A feeder of `topic`, which has this many partitions. The processor behind the handle `reader` reads the topic.
    ///
    /// # Errors
    /// The number of partitions is below 1, or the Kafka client can't be created.
    pub fn new(brokers: &str, topic: &str, partitions: i32, reader: Handle) -> Result<Self> {
        if partitions < 1 {
            let message = "a feeder needs at least one partition";
            return Err(Error::new(ErrorKind::InvalidInput, message).with("topic", topic));
        }
        let writer = Writer::new(brokers, &[])?;
        let partitions =
            (0..partitions).map(|number| FedPartition { number, ..Default::default() });
        Ok(Self { writer, topic: topic.into(), partitions: partitions.collect(), next: 0, reader })
    }

    /// Writes one message, without a key, to the next partition.
    ///
    /// # Errors
    /// The client refuses the message, an earlier message could not be delivered, or the reader is closed.
    pub async fn send(&mut self, value: &[u8]) -> Result<()> {
        let topic = self.topic.clone();
        self.send_message(TestMessage::new(&*topic).value(value)).await
    }

    /// Writes one message with all its parts, to its [partition](TestMessage::partition) or, if it names none, to
    /// the next one. The key does not choose the partition, and the offset is not looked at.
    ///
    /// # Errors
    /// The message is for a topic or a partition that is not the feeder's, the client refuses it, an earlier message
    /// could not be delivered, or the reader is closed.
    pub async fn send_message(&mut self, message: impl Into<TestMessage>) -> Result<()> {
        let mut message = message.into();
        let index = self.place(&message)?;
        self.wait_until(|feeder| !feeder.partitions[index].is_full()).await?;
        let partition = &mut self.partitions[index];
        message.partition = Some(partition.number);
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let size = length(&message.key) + length(&message.value);
        // The first one that fails is remembered: see `wait_until`.
        let _ack = self.writer.write(&message).await?;
        partition.unread.push_back((partition.sent, size));
        partition.unread_bytes += size;
        partition.sent += 1;
        Ok(())
    }

    /// The index of the partition that the message goes to.
    fn place(&mut self, message: &TestMessage) -> Result<usize> {
        let refused = |fault: &str| {
            Err(Error::new(ErrorKind::InvalidInput, fault).with("topic", &message.topic))
        };
        if *message.topic != *self.topic {
            return refused("the message is for another topic than the feeder's");
        }
        match message.partition {
            None => {
                let index = self.next;
                self.next = (self.next + 1) % self.partitions.len();
                Ok(index)
            }
            Some(number) => match usize::try_from(number) {
                Ok(index) if index < self.partitions.len() => Ok(index),
                _ => refused("the message is for a partition that the feeder does not have"),
            },
        }
    }

    /// Waits until the reader has finished everything, and returns the number of messages.
    ///
    /// # Errors
    /// A message could not be delivered, or the reader closes before it has finished everything.
    pub async fn finish(mut self) -> Result<u64> {
        self.wait_until(|feeder| feeder.partitions.iter().all(|p| p.unread.is_empty())).await?;
        self.writer.flush()?;
        Ok(self.partitions.iter().map(|partition| partition.sent.unsigned_abs()).sum())
    }

    async fn wait_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<()> {
        while !done(self) {
            self.look();
            if done(self) {
                break;
            }
            if let Some(reason) = self.writer.failure() {
                return Err(Error::new(ErrorKind::Delivery, reason).with("topic", &self.topic));
            }
            tokio::select! {
                () = self.reader.closed() => {
                    let message = "the processor closed before it had read everything";
                    return Err(Error::new(ErrorKind::Backend, message).with("topic", &self.topic));
                }
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
        Ok(())
    }

    fn look(&mut self) {
        for status in self.reader.status().partitions {
            let fed = self.partitions.iter_mut();
            let fed = fed.filter(|_| *status.partition.topic == *self.topic);
            let mut fed = fed.filter(|fed| fed.number == status.partition.number);
            if let Some(fed) = fed.next() {
                fed.read_up_to(status.next_offset);
            }
        }
    }
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder").field("topic", &self.topic).finish_non_exhaustive()
    }
}
