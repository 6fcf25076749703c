//! Members that consume from the simulated cluster: a coordinator each, with a [`processor`](super::processor).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::processor::{Maker, Planners, TestFactory};
pub(super) use super::processor::{Making, Plan, Planned, Step};
use crate::broker::sim::{Cluster, Mode, Spread, Weather, World};
use crate::coordinator::{Coordinator, Until};
use crate::handle::Handle;
use crate::message::{Offset, TopicPartition};
use crate::metrics::{Metrics, NoopRecorder};
use crate::on_error::{ErrorPolicy, LetterWriter};
use crate::pipeline::progress::Board;
use crate::settings::{BatchLimits, FlightLimits, OutOfRange, Settings, StartFrom};
use crate::status::Report;
use crate::{Batch, Error, Result};

/// A member to be.
pub(super) struct MemberSetup {
    pub(super) cluster: Cluster,
    pub(super) settings: Settings,
    planners: Planners,
    maker: Maker,
    until: Until,
    statics: Option<Vec<TopicPartition>>,
}

impl MemberSetup {
    pub(super) fn new(cluster: &Cluster, topics: Arc<[Arc<str>]>) -> Self {
        Self {
            cluster: cluster.clone(),
            settings: settings(topics),
            planners: Planners::default(),
            maker: Box::new(|_| Making::Good),
            until: Until::Closed,
            statics: None,
        }
    }

    pub(super) fn set(mut self, set: impl FnOnce(&mut Settings)) -> Self {
        set(&mut self.settings);
        self
    }

    /// What the calls of `process` do.
    pub(super) fn plan(mut self, plan: impl FnMut(&Batch) -> Plan + Send + 'static) -> Self {
        self.planners.process = Arc::new(std::sync::Mutex::new(plan));
        self
    }

    /// What the calls of `tick` do, and how often they come.
    pub(super) fn ticks(
        mut self,
        interval: Duration,
        plan: impl FnMut() -> Plan + Send + 'static,
    ) -> Self {
        self.settings.tick_interval = Some(interval);
        self.planners.tick = Arc::new(std::sync::Mutex::new(plan));
        self
    }

    /// What the calls of `closing` do.
    pub(super) fn closes(mut self, plan: impl FnMut() -> Plan + Send + 'static) -> Self {
        self.planners.closing = Arc::new(std::sync::Mutex::new(plan));
        self
    }

    pub(super) fn make(mut self, maker: impl FnMut(i32) -> Making + Send + 'static) -> Self {
        self.maker = Box::new(maker);
        self
    }

    pub(super) fn until_caught_up(mut self) -> Self {
        self.until = Until::CaughtUp;
        self
    }

    pub(super) fn statics(mut self, partitions: Vec<TopicPartition>) -> Self {
        self.settings.is_static = true;
        self.statics = Some(partitions);
        self
    }

    pub(super) fn start(self) -> Member {
        self.start_until(std::future::pending())
    }

    pub(super) fn start_until(self, stop: impl Future<Output = ()> + Send + 'static) -> Member {
        let topics = self.settings.topics.clone();
        let (consumer, events) = self.cluster.consumer(topics, self.statics);
        let id = consumer.id();
        let factory = TestFactory {
            cluster: self.cluster.clone(),
            client: id,
            planners: self.planners,
            maker: self.maker,
        };
        let board = Board::new();
        let (name, metrics) = (self.settings.name.clone(), self.settings.metrics.clone());
        let handle = Handle::new(board.clone(), name, metrics);
        let coordinator = Coordinator::new(
            Arc::new(self.settings),
            Arc::new(consumer),
            Arc::new(self.cluster.producer()),
            events,
            Box::new(factory),
            board,
        );
        let task = tokio::spawn(coordinator.run(self.until, stop));
        Member { id, handle, task }
    }
}

/// Topics for letters have as many partitions as the input topics.
pub(super) fn letters(policy: ErrorPolicy) -> Arc<LetterWriter> {
    Arc::new(LetterWriter::new(policy, "test".into(), "test".into(), BTreeMap::new()))
}

fn settings(topics: Arc<[Arc<str>]>) -> Settings {
    let max_wait = Duration::ZERO;
    Settings {
        name: "test".into(),
        group_id: "kasper-topic-processor-test".into(),
        topics,
        is_static: false,
        batch: BatchLimits { max_messages: 100, max_bytes: 1 << 20, max_wait, is_fixed: false },
        in_flight: FlightLimits { max_batches: 16, max_bytes: 1 << 20 },
        tick_interval: None,
        commit_interval: Duration::from_millis(100),
        target_latency: None,
        offset_refresh_interval: Duration::from_hours(1),
        drain_deadline: Duration::from_secs(2),
        commit_timeout: Duration::from_secs(3),
        stall_timeout: Duration::from_secs(10),
        start_from: StartFrom::Earliest,
        out_of_range: OutOfRange::Fail,
        on_rebalance: None,
        letters: letters(ErrorPolicy::default()),
        metrics: Metrics::new("test", NoopRecorder),
        metrics_interval: Duration::from_secs(1),
        lag_interval: Duration::from_secs(1),
        topic_check_interval: Duration::from_secs(10),
        needs_alignment: false,
    }
}

/// A member of the group: `run`, in a task.
pub(super) struct Member {
    pub(super) id: u32,
    pub(super) handle: Handle,
    pub(super) task: JoinHandle<Result<Report>>,
}

impl Member {
    /// What `run` returns; waits for it at most some minutes.
    pub(super) async fn end(self) -> Result<Report> {
        timeout(Duration::from_secs(300), self.task).await.expect("run does not end").unwrap()
    }

    pub(super) async fn close(self) -> Result<Report> {
        self.handle.close();
        self.end().await
    }

    pub(super) async fn error(self) -> Error {
        self.end().await.expect_err("run ends with an error")
    }

    /// For so long, it never says that everything is consumed.
    pub(super) async fn has_not_consumed_all_for(&self, milliseconds: u64) {
        let limit = Instant::now() + millis(milliseconds);
        while Instant::now() < limit {
            assert!(!self.handle.has_consumed_all());
            sleep(millis(10)).await;
        }
    }

    /// Drops the future of `run`.
    pub(super) async fn crash(self) {
        assert!(self.abort().await.is_none(), "`run` had ended");
    }

    /// Drops the future of `run`. What it returned, if it ended at the same moment, which it can on several threads.
    pub(super) async fn abort(self) -> Option<Result<Report>> {
        self.task.abort();
        match self.task.await {
            Ok(result) => Some(result),
            Err(error) => {
                assert!(error.is_cancelled(), "{error}");
                None
            }
        }
    }
}

/// A scenario: a cluster where nothing goes wrong but what the test is about. At its end the
/// monitor's verdict is asked for.
pub(super) struct Sim {
    pub(super) cluster: Cluster,
    topics: Arc<[Arc<str>]>,
}

impl Sim {
    pub(super) fn new(mode: Mode, topics: &[&str], partitions: i32) -> Self {
        let cluster = Cluster::new(1, mode, Weather::calm());
        cluster.world().story = Some(Vec::new());
        for topic in topics {
            cluster.world().create_topic(topic, partitions);
        }
        Self { cluster, topics: topics.iter().map(|topic| Arc::from(*topic)).collect() }
    }

    pub(super) fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.cluster.world()
    }

    /// Appends so many messages of 10 bytes.
    pub(super) fn produce(&self, partition: &TopicPartition, messages: usize) {
        for _ in 0..messages {
            self.world().append(partition, 10);
        }
    }

    /// From now on these members own these partitions, and nobody the others.
    pub(super) fn give(&self, owners: &[(TopicPartition, u32)]) {
        let mut world = self.world();
        world.group.spread = Spread::Pinned(owners.iter().cloned().collect());
        world.rebalance();
    }

    /// Waits until every member has its partitions.
    pub(super) async fn settled(&self) {
        self.until("the group is settled", |world| world.is_settled()).await;
    }

    pub(super) fn member(&self) -> MemberSetup {
        MemberSetup::new(&self.cluster, self.topics.clone())
    }

    pub(super) fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.world().committed(partition).map(Offset::get)
    }

    pub(super) fn processed(&self, partition: &TopicPartition) -> Vec<i64> {
        self.world().monitor.processed(partition)
    }

    /// Waits until the world is so.
    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&mut World) -> bool) {
        let limit = Instant::now() + Duration::from_secs(120);
        while !is_so(&mut self.world()) {
            assert!(Instant::now() < limit, "never: {what}\n{}", self.story());
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until everything that is in the logs is committed.
    pub(super) async fn all_committed(&self) {
        self.until("all is committed", |world| world.uncommitted().is_empty()).await;
    }

    pub(super) fn story(&self) -> String {
        self.world().story.as_ref().map_or_else(String::new, |story| story.join("\n"))
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let violations = std::mem::take(&mut self.world().monitor.violations);
            assert!(violations.is_empty(), "{violations:#?}\n{}", self.story());
        }
    }
}

/// What each call of `process` does: waits for a permit.
pub(super) fn waits_at(gate: &Arc<Semaphore>) -> impl FnMut(&Batch) -> Plan + Send + use<> {
    waits_at_then(gate, Plan::new())
}

/// As [`waits_at`], and then this.
pub(super) fn waits_at_then(
    gate: &Arc<Semaphore>,
    then: Plan,
) -> impl FnMut(&Batch) -> Plan + Send + use<> {
    let gate = gate.clone();
    move |_| [vec![Step::Gate(gate.clone())], then.clone()].concat()
}

/// Stays closed until permits are added.
pub(super) fn gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

pub(super) fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

pub(super) fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
