//! The processor of the simulated members: it does as it is told, and tells the monitor what it does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::case::Cry;
use crate::broker::sim::{CallId, Cluster, REFUSED};
use crate::message::TopicPartition;
use crate::{
    Batch, BoxError, Context, OutgoingMessage, ProcessError, Processor, ProcessorFactory,
    StartContext,
};

/// What one call of the user's code does, in order.
pub(super) type Plan = Vec<Step>;

#[derive(Clone)]
pub(super) enum Step {
    Sleep(Duration),
    /// Waits for a permit.
    Gate(Arc<Semaphore>),
    /// Sends one message for each of the batch, or one if there is no batch, to this topic.
    Send(&'static str),
    Flush,
    /// Flushes and goes on as if that had gone well.
    FlushBlindly,
    /// Flushes and drops the future after this time.
    FlushFor(Duration),
    Close,
    Fail,
    /// With an error that is retryable.
    FailForNow,
    /// Cries out if there is a message in the batch that cannot be processed.
    Poison(Cry),
    Panic,
    /// Blocks the thread until the sender is dropped.
    Block(Blockade),
}

pub(super) type Blockade = Arc<std::sync::Mutex<std::sync::mpsc::Receiver<()>>>;

/// What comes of making a processor.
#[derive(Clone, Copy)]
pub(super) enum Making {
    Good,
    Slow(Duration),
    Fails,
    Panics,
}

/// The error that a planned failure returns.
#[derive(Debug, thiserror::Error)]
#[error("as planned")]
pub(super) struct Planned;

pub(super) type Planner = Arc<std::sync::Mutex<dyn FnMut(&Batch) -> Plan + Send>>;
/// Of calls without a batch.
pub(super) type BatchlessPlanner = Arc<std::sync::Mutex<dyn FnMut() -> Plan + Send>>;
pub(super) type Maker = Box<dyn FnMut(i32) -> Making + Send>;

pub(super) struct TestProcessor {
    cluster: Cluster,
    client: u32,
    incarnation: u64,
    planners: Planners,
}

/// What the calls of each method do.
#[derive(Clone)]
pub(super) struct Planners {
    pub(super) process: Planner,
    pub(super) tick: BatchlessPlanner,
    pub(super) closing: BatchlessPlanner,
}

impl Default for Planners {
    fn default() -> Self {
        Self {
            process: Arc::new(std::sync::Mutex::new(|_: &Batch| Plan::new())),
            tick: Arc::new(std::sync::Mutex::new(Plan::new)),
            closing: Arc::new(std::sync::Mutex::new(Plan::new)),
        }
    }
}

/// A call of the user's code under way; dropped before [`CallGuard::ok`], it did not succeed.
struct CallGuard {
    cluster: Cluster,
    id: CallId,
    ok: bool,
}

impl CallGuard {
    fn ok(mut self) {
        self.ok = true;
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.cluster.world().process_ends(self.id, self.ok);
    }
}

impl TestProcessor {
    fn begin(&self, batch: &Batch) -> CallGuard {
        let messages: Vec<_> = batch
            .iter()
            .map(|m| (TopicPartition::new(m.topic(), m.partition()), m.offset().get()))
            .collect();
        let number = batch.partition();
        let mut world = self.cluster.world();
        let id = world.process_begins(self.client, self.incarnation, number, &messages);
        drop(world);
        CallGuard { cluster: self.cluster.clone(), id, ok: false }
    }

    fn begin_without_batch(&self, number: i32, is_last: bool) -> CallGuard {
        let mut world = self.cluster.world();
        let id = world.batchless_begins(self.client, self.incarnation, number, is_last);
        drop(world);
        CallGuard { cluster: self.cluster.clone(), id, ok: false }
    }

    /// Says as it is planned that messages cannot be processed.
    fn cry(
        &self,
        cry: Cry,
        call: CallId,
        batch: Option<&Batch>,
        context: &mut Context,
    ) -> Result<(), BoxError> {
        let world = self.cluster.world();
        let messages = batch.into_iter().flat_map(Batch::iter);
        let poison = messages.filter(|message| {
            let partition = TopicPartition::new(message.topic(), message.partition());
            world.is_poison(&partition, message.offset().get())
        });
        let poison: Vec<_> = poison.collect();
        drop(world);
        let Some(first) = poison.first() else { return Ok(()) };
        match cry {
            Cry::Error => Err(Planned.into()),
            Cry::Name => Err(ProcessError::poison(first, Planned).into()),
            Cry::Panic => std::panic::resume_unwind(Box::new("a planned panic")),
            Cry::Refused | Cry::RefusedUnnamed => {
                for message in &poison {
                    let value = self.cluster.world().process_sends(call);
                    let refused = OutgoingMessage::new(REFUSED).value(value);
                    let is_named = cry == Cry::Refused;
                    context.send(if is_named { refused.caused_by(message) } else { refused });
                }
                Ok(())
            }
            Cry::Letter => {
                poison.iter().try_for_each(|message| Ok(context.dead_letter(message, Planned)?))
            }
        }
    }

    /// Does what is planned, with a message for each of the batch at each [`Step::Send`], or one if there is no batch.
    async fn follow(
        &self,
        plan: Plan,
        call: CallGuard,
        batch: Option<&Batch>,
        context: &mut Context,
    ) -> Result<(), BoxError> {
        let messages = batch.map_or(1, Batch::len);
        for step in plan {
            match step {
                Step::Sleep(time) => sleep(time).await,
                Step::Gate(gate) => gate.acquire().await?.forget(),
                Step::Send(topic) => {
                    for _ in 0..messages {
                        let value = self.cluster.world().process_sends(call.id);
                        let message = OutgoingMessage::new(topic).value(value);
                        let message = message.partition(context.partition());
                        context.send(message);
                    }
                }
                Step::Flush => context.flush().await?,
                Step::FlushBlindly => drop(context.flush().await),
                Step::FlushFor(time) => drop(timeout(time, context.flush()).await),
                Step::Close => context.close(),
                Step::Fail => return Err(Planned.into()),
                Step::FailForNow => return Err(ProcessError::retryable(Planned).into()),
                Step::Poison(cry) => self.cry(cry, call.id, batch, context)?,
                // Without the noise of the panic hook.
                Step::Panic => std::panic::resume_unwind(Box::new("a planned panic")),
                Step::Block(blockade) => drop(blockade.lock().unwrap().recv()),
            }
        }
        call.ok();
        Ok(())
    }
}

impl Processor for TestProcessor {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        let call = self.begin(batch);
        let plan = (self.planners.process.lock().unwrap())(batch);
        self.follow(plan, call, Some(batch), context).await
    }

    async fn tick(&mut self, context: &mut Context) -> Result<(), BoxError> {
        let call = self.begin_without_batch(context.partition(), false);
        let plan = (self.planners.tick.lock().unwrap())();
        self.follow(plan, call, None, context).await
    }

    async fn closing(&mut self, context: &mut Context) -> Result<(), BoxError> {
        let call = self.begin_without_batch(context.partition(), true);
        let plan = (self.planners.closing.lock().unwrap())();
        self.follow(plan, call, None, context).await
    }
}

pub(super) struct TestFactory {
    pub(super) cluster: Cluster,
    pub(super) client: u32,
    pub(super) planners: Planners,
    pub(super) maker: Maker,
}

impl ProcessorFactory for TestFactory {
    type Processor = TestProcessor;

    async fn create(&mut self, start: &StartContext) -> Result<TestProcessor, BoxError> {
        match (self.maker)(start.partition()) {
            Making::Good => {}
            Making::Slow(time) => sleep(time).await,
            Making::Fails => return Err(Planned.into()),
            Making::Panics => std::panic::resume_unwind(Box::new("a planned panic")),
        }
        Ok(TestProcessor {
            cluster: self.cluster.clone(),
            client: self.client,
            incarnation: self.cluster.world().fresh(),
            planners: self.planners.clone(),
        })
    }
}
