//! The consumer and its queues, as the library calls them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};

use super::client::{Client, Life, Next};
use super::fetch::QueueState;
use super::{Cluster, World};
use crate::broker::{
    Answer, CommitError, CommitRefusal, CommitResult, Consumer, Event, OffsetSpec, Queue,
    QueueLength, RebalanceId, Sought, Taken, TopicState,
};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Keepalive, Offset, Record, TopicPartition};
use futures_util::future::BoxFuture;

pub(crate) struct SimConsumer {
    cluster: Cluster,
    id: u32,
}

impl Cluster {
    /// A client that will subscribe to these topics or, where `statics` names partitions, read those.
    pub(crate) fn consumer(
        &self,
        topics: Arc<[Arc<str>]>,
        statics: Option<Vec<TopicPartition>>,
    ) -> (SimConsumer, mpsc::UnboundedReceiver<Event>) {
        let (sender, events) = mpsc::unbounded_channel();
        let mut world = self.world();
        let id = u32::try_from(world.clients.len()).unwrap();
        world.clients.insert(id, Client::new(topics, sender, statics));
        (SimConsumer { cluster: self.clone(), id }, events)
    }
}

impl SimConsumer {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Asks the cluster something; the answer comes two ways later.
    fn ask<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&mut World) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let (sender, receiver) = oneshot::channel();
        self.cluster.world().after_latency(|world| {
            let failed = world.rng.chance(world.weather.faults.lookup_failed);
            let refused = world.rng.chance(world.weather.faults.lookup_refused);
            let result = match (failed, refused) {
                (true, _) => Err(no_leader()),
                (false, true) => Err(final_error()),
                (false, false) => answer(world),
            };
            world.after_latency(|_| {
                // Whoever is gone does not want to know.
                let _ = sender.send(result);
            });
        });
        Box::pin(async { receiver.await.unwrap_or_else(|_| Err(no_leader())) })
    }
}

impl World {
    fn is_added(&mut self, partition: &TopicPartition) -> bool {
        let all = self.partitions().into_iter().filter(|p| p.topic == partition.topic);
        let all: Vec<_> = all.collect();
        let committed = all.iter().filter(|p| self.committed(p).is_some());
        let begun_with = committed.map(|p| self.begun_with.get(p).copied().unwrap_or(0)).min();
        self.begun_with.insert(partition.clone(), all.len());
        let number = usize::try_from(partition.number).unwrap();
        begun_with.is_some_and(|begun_with| begun_with <= number)
    }

    fn list(&mut self, partition: &TopicPartition, spec: OffsetSpec) -> Result<Offset> {
        if self.leaderless.contains(partition) {
            return Err(no_leader());
        }
        if let Some(kind) = self.refused.get(partition) {
            let error = Error::new(*kind, "refused").with("topic", &partition.topic);
            return Err(error.with("partition", partition.number));
        }
        // One leader of several fails.
        let faults = &self.weather.faults;
        if self.rng.chance(faults.lookup_failed / 4) {
            return Err(no_leader());
        }
        let log = self.log(partition);
        Ok(Offset::new(match spec {
            OffsetSpec::Earliest => log.start,
            OffsetSpec::End => log.end,
            OffsetSpec::Timestamp(time) => log.since(time),
        }))
    }
}

fn no_leader() -> Error {
    Error::new(ErrorKind::Unavailable, "no leader").retryable()
}

/// An error that nobody doubts.
fn final_error() -> Error {
    Error::new(ErrorKind::Backend, "the question is refused")
}

fn replaced() -> CommitError {
    let error = Error::new(ErrorKind::Commit, "the assignment was replaced")
        .with("code", "REBALANCE_IN_PROGRESS")
        .retryable();
    CommitError { refusal: CommitRefusal::Rebalancing, error }
}

impl Drop for SimConsumer {
    /// Without a close before, a crash: the group notices at once, or when the session is over.
    fn drop(&mut self) {
        let mut world = self.cluster.world();
        let id = self.id;
        if world.client(id).life != Life::Active {
            return;
        }
        world.tell_story(|| format!("client {id}: crashes"));
        world.end_client(id);
        let session = world.weather.session_timeout;
        let delay = if world.rng.chance(50) { Duration::from_millis(1) } else { session };
        world.after(delay, move |world| world.leave(id));
    }
}

impl Consumer for SimConsumer {
    fn start(&self) -> Result<()> {
        self.cluster.world().start_client(self.id);
        Ok(())
    }

    fn assign(
        &self,
        id: RebalanceId,
        starts: &[(TopicPartition, Option<Offset>)],
    ) -> Result<Answer> {
        Ok(self.cluster.world().answer_assigned(self.id, id, starts))
    }

    fn unassign(&self, id: RebalanceId, partitions: &[TopicPartition]) -> Result<()> {
        self.cluster.world().answer_revoked(self.id, id, partitions);
        Ok(())
    }

    fn queue(&self, partition: i32) -> Result<Box<dyn Queue>> {
        let mut world = self.cluster.world();
        let reader = world.fresh();
        let Some(queue) = world.client(self.id).queues.get_mut(&partition) else {
            let message = format!("a queue of partition {partition}, which has no assigned topic");
            return Err(Error::new(ErrorKind::Internal, message));
        };
        queue.reader = reader;
        // What is there already wakes nobody else.
        queue.arrived.notify_one();
        let (cluster, arrived) = (self.cluster.clone(), queue.arrived.clone());
        Ok(Box::new(SimQueue { cluster, client: self.id, partition, reader, arrived }))
    }

    fn seek(&self, positions: Vec<(TopicPartition, Offset)>) -> BoxFuture<'static, Result<Sought>> {
        let (sender, receiver) = oneshot::channel();
        let id = self.id;
        self.cluster.world().count("seeks");
        self.cluster.world().after_latency(move |world| {
            let mut result = Sought::Done;
            for (partition, offset) in positions {
                match world.must_answer_first(id, &partition) {
                    true => result = Sought::AfterAnswer,
                    false => world.seek(id, &partition, offset.get()),
                }
            }
            let _ = sender.send(result);
        });
        Box::pin(async {
            // The world goes only when the test ends.
            Ok(receiver.await.unwrap_or(Sought::Done))
        })
    }

    fn committed(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> BoxFuture<'static, Result<Vec<Option<Offset>>>> {
        self.ask(move |world| Ok(partitions.iter().map(|p| world.committed(p)).collect()))
    }

    fn added(&self, partitions: Vec<TopicPartition>) -> BoxFuture<'static, Result<Vec<bool>>> {
        self.ask(move |world| Ok(partitions.iter().map(|p| world.is_added(p)).collect()))
    }

    fn list_offsets(
        &self,
        queries: Vec<(TopicPartition, OffsetSpec)>,
        patience: Duration,
    ) -> BoxFuture<'static, Vec<Result<Offset>>> {
        let count = queries.len();
        let asked = self.ask(move |world| {
            world.count("offsets are listed");
            Ok(queries.iter().map(|(partition, spec)| world.list(partition, *spec)).collect())
        });
        Box::pin(async move {
            match asked.await {
                Ok(answers) => answers,
                Err(_) => {
                    tokio::time::sleep(patience).await;
                    (0..count).map(|_| Err(no_leader())).collect()
                }
            }
        })
    }

    fn topics(&self) -> BoxFuture<'static, Result<Vec<TopicState>>> {
        let (sender, receiver) = oneshot::channel();
        let (id, mut world) = (self.id, self.cluster.world());
        // Asked all the time: without chance where none is needed, scenarios are as without it.
        let delay = Duration::from_millis(*world.weather.latency.end()) * 2;
        world.after(delay, move |world| {
            let lookup_failed = world.weather.faults.lookup_failed;
            let failed = lookup_failed > 0 && world.rng.chance(lookup_failed);
            let topics = world.client(id).topics.clone();
            let states = topics.iter().map(|topic| world.topic_state(topic)).collect();
            // Whoever is gone does not want to know.
            let _ = sender.send(if failed { Err(no_leader()) } else { Ok(states) });
        });
        Box::pin(async { receiver.await.unwrap_or_else(|_| Err(no_leader())) })
    }

    fn commit(&self, offsets: Vec<(TopicPartition, Offset)>) -> BoxFuture<'static, CommitResult> {
        let (sender, receiver) = oneshot::channel();
        let mut world = self.cluster.world();
        if world.is_replaced(self.id) {
            return Box::pin(async { Err(replaced()) });
        }
        world.commit(self.id, offsets, sender);
        Box::pin(async { receiver.await.unwrap_or_else(|_| Err(no_leader().into())) })
    }

    fn assignment_lost(&self) -> bool {
        self.cluster.world().client(self.id).lost
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let (sender, receiver) = oneshot::channel();
        let id = self.id;
        let mut world = self.cluster.world();
        world.tell_story(|| format!("client {id}: closes"));
        world.check_left(id);
        world.end_client(id);
        if world.client(id).commits > 0 {
            // Meanwhile it says nothing to the group.
            let session = world.weather.session_timeout;
            world.after(session, move |world| world.leave(id));
        }
        world.proceed(id, Next::Leave(sender));
        Box::pin(async {
            let _ = receiver.await;
        })
    }
}

struct SimQueue {
    cluster: Cluster,
    client: u32,
    partition: i32,
    reader: u64,
    arrived: Arc<Notify>,
}

impl Queue for SimQueue {
    fn take(&mut self, max: usize, into: &mut Vec<Record>) -> Taken {
        let mut world = self.cluster.world();
        let (client, partition) = (self.client, self.partition);
        let reader = world.client(client).queues.get(&partition).map(|queue| queue.reader);
        if reader.is_some_and(|reader| reader != self.reader) {
            world.violation(|| format!("two readers of partition {partition} of client {client}"));
        }
        world.take(client, partition, max, into)
    }

    fn arrived(&self) -> Arc<Notify> {
        self.arrived.clone()
    }

    fn length(&self) -> QueueLength {
        let (cluster, client, partition) = (self.cluster.clone(), self.client, self.partition);
        Arc::new(move || {
            let mut world = cluster.world();
            world.client(client).queues.get(&partition).map_or(0, QueueState::len)
        })
    }

    fn keepalive(&self) -> Keepalive {
        None
    }
}
