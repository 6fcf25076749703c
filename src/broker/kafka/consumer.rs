//! The consumer: the seam's calls, each translated into librdkafka's.
//!
//! Place in the data path: the topic processor calls it; messages come from the queues that it
//! hands out.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::assignment::AssignmentContext;
use super::control::{ConsumerShared, ControlThread};
use super::denial::Denial;
use super::errors::{self, no_handle};
use super::ffi::{Client, Known, PartitionList, QueueHandle, Role};
use super::growth::Growth;
use super::log::Repetitions;
use super::metadata;
use super::offsets::{self, Questions};
use super::queue::KafkaQueue;
use super::statistics::{Protocol, Reading};
use super::{KafkaOptions, create_client, spawn};
use crate::broker::{
    Answer, CommitResult, Consumer, Event, OffsetSpec, Queue, RebalanceId, Sought, TopicState,
};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, TopicPartition};

/// How often librdkafka reports fetch positions, unless the user says otherwise.
const STATISTICS: (&str, &str) = ("statistics.interval.ms", "500");

/// A consumer of librdkafka's.
///
/// Dropping it without [`close`](Consumer::close) blocks nobody: its thread leaves the group by
/// itself, with nothing committed, and the client is destroyed when the last message is gone.
pub(crate) struct KafkaConsumer {
    context: AssignmentContext,
    /// librdkafka's queue of the consumer's events; results of commits come there too.
    queue: Arc<QueueHandle>,
    partitions: Option<Vec<TopicPartition>>,
    read_committed: bool,
    shared: Arc<ConsumerShared>,
    /// Apart from the others: a new assignment must not wait behind questions to leaders that are away.
    questions_about_commits: Questions,
    questions_about_logs: Questions,
    growth: Arc<Growth>,
    /// Weak, so that the events end with the thread.
    events: mpsc::WeakUnboundedSender<Event>,
}

impl fmt::Debug for KafkaConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConsumer")
            .field("topics", &self.context.topics)
            .finish_non_exhaustive()
    }
}

impl KafkaConsumer {
    /// A consumer that has not begun, and its events.
    ///
    /// # Errors
    /// A property is refused, or there are no more threads.
    pub(super) fn new(options: KafkaOptions) -> Result<(Self, mpsc::UnboundedReceiver<Event>)> {
        let mut properties = options.consumer_properties;
        if !properties.iter().any(|(name, _)| name == STATISTICS.0) {
            properties.push((STATISTICS.0.into(), STATISTICS.1.into()));
        }
        let client = create_client(Role::Consumer, properties)?;
        let protocol = match &options.partitions {
            Some(_) => Protocol::None,
            None => Protocol::of(&client),
        };
        // It stays in its group when it closes, and comes back in time.
        let is_static_member = !client.property("group.instance.id").is_empty();
        let queue = QueueHandle::consumer(&client).ok_or_else(|| {
            Error::new(ErrorKind::Config, "a consumer needs the property `group.id`")
        })?;
        let queue = Arc::new(queue);
        client.poll_set_consumer();
        queue.take_log();
        let shared = Arc::new(ConsumerShared::default());
        let (sender, receiver) = mpsc::unbounded_channel();
        let control = ControlThread {
            client: Arc::clone(&client),
            queue: Arc::clone(&queue),
            topics: Arc::clone(&options.topics),
            shared: Arc::clone(&shared),
            events: sender.clone(),
            reading: Reading {
                read_committed: options.isolation_read_committed,
                protocol,
                created: client.created(),
            },
            token_provider: options.token_provider,
            repetitions: Repetitions::default(),
            denial: Denial::default(),
            unsubscribes: protocol == Protocol::Cooperative && !is_static_member,
            closing: false,
        };
        spawn("kasper-consumer", move || control.run())?;
        let consumer = Self {
            context: AssignmentContext { client, topics: options.topics },
            queue,
            partitions: options.partitions,
            read_committed: options.isolation_read_committed,
            shared,
            questions_about_commits: Questions::default(),
            questions_about_logs: Questions::default(),
            growth: Arc::default(),
            events: sender.downgrade(),
        };
        Ok((consumer, receiver))
    }

    /// Becomes true when the client is destroyed.
    #[cfg(test)]
    pub(super) fn destroyed(&self) -> Arc<std::sync::atomic::AtomicBool> {
        self.client().destroyed()
    }

    /// Does something while it is as during a seek, which may wait for librdkafka for seconds.
    #[cfg(test)]
    pub(super) fn as_during_a_seek<T>(&self, act: impl FnOnce() -> T) -> T {
        let _slots = self.shared.slots();
        act()
    }

    /// Keeps the thread from finishing with what it has in hand, until the sender is dropped.
    #[cfg(test)]
    pub(super) fn hold_thread(&self) -> std::sync::mpsc::Sender<()> {
        let shared = Arc::clone(&self.shared);
        let (held, is_held) = std::sync::mpsc::channel();
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            let _assigned = shared.assigned();
            held.send(()).unwrap();
            let _ = receiver.recv();
        });
        is_held.recv().unwrap();
        sender
    }

    /// Grows while the thread is not held up.
    #[cfg(test)]
    pub(super) fn turns(&self) -> u64 {
        self.shared.turns()
    }

    #[cfg(test)]
    pub(super) fn raise_fatal_error(&self) {
        self.client().raise_fatal_error();
    }

    fn client(&self) -> &Arc<Client> {
        &self.context.client
    }
}

impl Consumer for KafkaConsumer {
    fn start(&self) -> Result<()> {
        // Held while librdkafka is asked: it must not be closed meanwhile.
        let slots = self.shared.slots();
        if slots.is_closed() {
            return Ok(());
        }
        self.shared.start();
        if let Some(partitions) = &self.partitions {
            if let Some(events) = self.events.upgrade() {
                // The receiver may be gone; then nobody waits for the answer either.
                let partitions = partitions.clone();
                let _ = events.send(Event::Assigned { id: 0, partitions, replaces: true });
            }
            return Ok(());
        }
        let mut list = PartitionList::new(self.client()).ok_or_else(|| no_handle("topic list"))?;
        for topic in &*self.context.topics {
            list.add(topic, -1, 0);
        }
        let subscribed = self.client().subscribe(&list);
        subscribed.map_err(|code| errors::plain(code).with("operation", "subscribe"))
    }

    fn assign(
        &self,
        id: RebalanceId,
        starts: &[(TopicPartition, Option<Offset>)],
    ) -> Result<Answer> {
        let mut slots = self.shared.slots();
        if slots.is_closed() {
            return Ok(Answer::Taken);
        }
        // Now it would be taken for the answer to the later one.
        if self.shared.is_superseded(id) {
            return Ok(Answer::Superseded);
        }
        let assigns = slots.assign(&self.context, starts)?;
        self.shared.answered(id);
        if assigns.is_read {
            let (mut assigned, now) = (self.shared.assigned(), Instant::now());
            if assigns.replaces {
                assigned.clear();
            } else {
                assigned.all_purged(now);
            }
            // One without an offset counts from its seek on.
            let begun = starts.iter().filter(|(_, offset)| offset.is_some());
            begun.for_each(|(partition, _)| assigned.add(partition, now));
        }
        Ok(Answer::Taken)
    }

    fn unassign(&self, id: RebalanceId, partitions: &[TopicPartition]) -> Result<()> {
        let mut slots = self.shared.slots();
        if slots.is_closed() {
            return Ok(());
        }
        let mut assigned = self.shared.assigned();
        partitions.iter().for_each(|partition| assigned.remove(partition));
        drop(assigned);
        slots.unassign(&self.context, partitions)?;
        self.shared.answered(id);
        self.shared.assigned().all_purged(Instant::now());
        Ok(())
    }

    fn queue(&self, partition: i32) -> Result<Box<dyn Queue>> {
        let slots = self.shared.slots();
        let queue = slots.queue(partition).ok_or_else(|| {
            let message = "no topic has this partition number assigned";
            Error::new(ErrorKind::UnknownPartition, message).with("partition", partition)
        })?;
        let topics = Arc::clone(&self.context.topics);
        let beside_values = self.shared.beside_values(partition);
        Ok(Box::new(KafkaQueue::new(Arc::clone(queue), topics, partition, beside_values)))
    }

    fn seek(&self, positions: Vec<(TopicPartition, Offset)>) -> BoxFuture<'static, Result<Sought>> {
        let (context, shared) = (self.context.clone(), Arc::clone(&self.shared));
        let events = Arc::clone(&self.queue);
        Box::pin(async move {
            offsets::blocking(move || {
                let mut slots = shared.slots();
                let is_answer_due = || shared.is_answer_due_now(&events);
                let sought = slots.seek(&context, &positions, is_answer_due)?;
                drop(slots);
                let (mut assigned, now) = (shared.assigned(), Instant::now());
                assigned.all_sought(now);
                if sought == Sought::Done {
                    positions.iter().for_each(|(partition, _)| assigned.sought(partition, now));
                }
                Ok(sought)
            })
            .await
        })
    }

    fn committed(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<'static, Result<Vec<Option<Offset>>>> {
        let (client, growth) = (Arc::clone(self.client()), Arc::clone(&self.growth));
        Box::pin(self.questions_about_commits.ask(move || {
            let entries = offsets::committed_entries(&client, &partitions)?;
            growth.remember(&partitions, &entries);
            Ok(offsets::committed(&partitions, &entries))
        }))
    }

    fn added(&self, partitions: Vec<TopicPartition>) -> BoxFuture<'static, Result<Vec<bool>>> {
        let (client, growth) = (Arc::clone(self.client()), Arc::clone(&self.growth));
        Box::pin(self.questions_about_commits.ask(move || growth.added(&client, &partitions)))
    }

    fn list_offsets(
        &self,
        queries: Vec<(TopicPartition, OffsetSpec)>,
        patience: Duration,
    ) -> BoxFuture<'static, Vec<Result<Offset>>> {
        let (client, read_committed) = (Arc::clone(self.client()), self.read_committed);
        let count = queries.len();
        let list = move || Ok(offsets::list(&client, &queries, read_committed, patience));
        let asked = self.questions_about_logs.ask(list);
        Box::pin(async move {
            asked.await.unwrap_or_else(|error| {
                let same = || Error::new(error.kind(), error.to_string());
                (0..count).map(|_| Err(same())).collect()
            })
        })
    }

    fn topics(&self) -> BoxFuture<'static, Result<Vec<TopicState>>> {
        let (client, topics) = (Arc::clone(self.client()), Arc::clone(&self.context.topics));
        Box::pin(self.questions_about_logs.ask(move || metadata::topic_states(&client, &topics)))
    }

    fn commit(&self, offsets: Vec<(TopicPartition, Offset)>) -> BoxFuture<'static, CommitResult> {
        let gone = || Error::new(ErrorKind::Commit, "the Kafka client was closed").into();
        if offsets.is_empty() {
            return Box::pin(async { Ok(()) });
        }
        if self.shared.is_replaced() {
            let replaced = Known::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS.into();
            let error = errors::commit(replaced, "", self.client());
            return Box::pin(async move { Err(error) });
        }
        let Some((id, result)) = self.shared.expect_commit() else {
            return Box::pin(async move { Err(gone()) });
        };
        match PartitionList::new(self.client()) {
            None => self.shared.finish_commit(id, Err(no_handle("partition list").into())),
            Some(mut list) => {
                for (partition, offset) in &offsets {
                    let metadata = self.growth.metadata(partition);
                    list.add_with(&partition.topic, partition.number, offset.get(), &metadata);
                }
                if let Err(code) = self.client().commit(&list, &self.queue, id) {
                    self.shared.finish_commit(id, Err(errors::commit(code, "", self.client())));
                }
            }
        }
        Box::pin(async move { result.await.unwrap_or_else(|_| Err(gone())) })
    }

    fn assignment_lost(&self) -> bool {
        self.client().assignment_lost()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let closed = self.shared.request_close();
        self.queue.wake();
        Box::pin(async move {
            // An error says that the thread has ended, which is what is waited for.
            let _ = closed.await;
        })
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        drop(self.shared.request_close());
        self.queue.wake();
    }
}
