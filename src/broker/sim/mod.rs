//! A Kafka cluster in memory: topics, a consumer group, producers, on a paused clock and from one
//! seed, so that what happened once happens again.
//!
//! Place in the data path: below it, where librdkafka and the brokers are otherwise. Each member is a
//! [`consumer`] and a [`producer`] with a coordinator of its own in front.
//!
//! It is as librdkafka and the broker are where that can hurt:
//! - A commit for a partition that is no longer ours succeeds and rewinds its new owner, as long as
//!   we are a member with a current generation.
//! - A client takes no further step in the group while one of its commits is under way, and it may put
//!   a commit off for long.
//! - A revocation that is not answered in time costs the membership; a member that was thrown out goes
//!   on for a while before it hears of it.
//! - A queue wakes its reader only when it was empty. Messages of a partition that is no longer
//!   assigned stay in it, count, and are never handed out.
//! - Reports of fetch positions come at any time, also while a revocation is being answered.
//! - Where assignments change by parts, the client drops what it has fetched of all partitions until the answer, fetches
//!   it again, and reports the old positions for up to a second.
//! - A member of an eager group may join again though it waits for an answer; its next assignment replaces everything.
//! - An error of a partition has no version: one that was queued before a seek is handed out after it.
//!
//! Everything is decided in [`World`], one action after the other, by the [`agenda`](World::after).
//! The [`monitor`] watches the promises that the library makes.

mod asking;
mod client;
mod commit;
mod consumer;
mod eager;
mod fetch;
mod group;
mod incremental;
mod log;
mod monitor;
mod poison;
mod producer;
mod rng;
mod weather;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

pub(crate) use self::commit::CommitFate;
pub(crate) use self::group::Spread;
pub(crate) use self::monitor::CallId;
pub(crate) use self::poison::{LETTERS, Poison};
pub(crate) use self::producer::{REFUSED, UNDELIVERABLE};
pub(crate) use self::rng::Rng;
pub(crate) use self::weather::{Faults, Mode, Weather};

use self::client::Client;
use self::commit::Commit;
use self::group::Group;
use self::log::Log;
use self::monitor::Monitor;
use self::producer::Outgoing;
use crate::error::ErrorKind;
use crate::lock::Mutex;
use crate::message::TopicPartition;

type Action = Box<dyn FnOnce(&mut World) + Send>;

/// The cluster as its users hold it.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Mutex<World>>);

impl Cluster {
    /// Needs a tokio runtime, on whose clock the cluster runs until its last user is gone.
    pub(crate) fn new(seed: u64, mode: Mode, weather: Weather) -> Self {
        let cluster = Self(Arc::new(Mutex::new(World::new(seed, mode, weather))));
        let wake = cluster.world().wake.clone();
        tokio::spawn(drive(Arc::downgrade(&cluster.0), wake));
        cluster
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock()
    }
}

/// Does what is due.
async fn drive(world: Weak<Mutex<World>>, wake: Arc<Notify>) {
    let mut next = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = wake.notified() => {}
            () = sleep_until(next) => {}
        }
        let Some(world) = world.upgrade() else { return };
        let mut world = world.lock();
        while let Some(action) = world.due() {
            action(&mut world);
        }
        // A far day, where nothing is planned.
        let first = world.agenda.first_key_value().map(|((at, _), _)| *at);
        next = first.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400));
    }
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) weather: Weather,
    pub(crate) monitor: Monitor,
    pub(crate) group: Group,
    /// What happened, and how often.
    pub(crate) counts: BTreeMap<&'static str, usize>,
    /// What happened, if anybody wants to read it.
    pub(crate) story: Option<Vec<String>>,
    /// The fates of the next commits; behind them, chance.
    pub(crate) commit_fates: VecDeque<CommitFate>,
    held_commits: Vec<Commit>,
    /// Partitions of which nobody can say where they begin and end.
    pub(crate) leaderless: BTreeSet<TopicPartition>,
    /// How many partitions topics had when members began with these, which they commit.
    begun_with: BTreeMap<TopicPartition, usize>,
    /// Partitions of which brokers say this when they are asked for offsets.
    pub(crate) refused: BTreeMap<TopicPartition, ErrorKind>,
    /// The topics that exist, and their ids.
    topics: BTreeMap<Arc<str>, u64>,
    /// Topics of which a broker tells this number of partitions, whatever there are.
    pub(crate) told_partitions: BTreeMap<Arc<str>, i32>,
    /// Topics that the cluster does not say anything of.
    pub(crate) untold: BTreeSet<Arc<str>>,
    logs: BTreeMap<TopicPartition, Log>,
    outgoing: Outgoing,
    clients: BTreeMap<u32, Client>,
    agenda: BTreeMap<(Instant, u64), Action>,
    wake: Arc<Notify>,
    counter: u64,
    begun: Instant,
}

impl World {
    fn new(seed: u64, mode: Mode, weather: Weather) -> Self {
        Self {
            rng: Rng::new(seed),
            weather,
            monitor: Monitor::default(),
            group: Group::new(mode),
            counts: BTreeMap::new(),
            story: None,
            commit_fates: VecDeque::new(),
            held_commits: Vec::new(),
            leaderless: BTreeSet::new(),
            begun_with: BTreeMap::new(),
            refused: BTreeMap::new(),
            topics: BTreeMap::new(),
            told_partitions: BTreeMap::new(),
            untold: BTreeSet::new(),
            logs: BTreeMap::new(),
            outgoing: Outgoing::default(),
            clients: BTreeMap::new(),
            agenda: BTreeMap::new(),
            wake: Arc::default(),
            counter: 0,
            begun: Instant::now(),
        }
    }

    /// A number that was not there before.
    pub(crate) fn fresh(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Does something later.
    pub(crate) fn after(
        &mut self,
        delay: Duration,
        action: impl FnOnce(&mut Self) + Send + 'static,
    ) {
        self.at(Instant::now() + delay, action);
    }

    fn at(&mut self, at: Instant, action: impl FnOnce(&mut Self) + Send + 'static) {
        if self.agenda.first_key_value().is_none_or(|((first, _), _)| at < *first) {
            self.wake.notify_one();
        }
        let order = self.fresh();
        self.agenda.insert((at, order), Box::new(action));
    }

    /// Does something when a request, or its answer, has arrived.
    fn after_latency(&mut self, action: impl FnOnce(&mut Self) + Send + 'static) {
        let delay = self.rng.millis(self.weather.latency.clone());
        self.after(delay, action);
    }

    fn due(&mut self) -> Option<Action> {
        let first = self.agenda.first_entry().filter(|entry| entry.key().0 <= Instant::now())?;
        Some(first.remove())
    }

    pub(crate) fn tell_story(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let line = format!("{:>8} ms  {}", self.begun.elapsed().as_millis(), line());
            story.push(line);
        }
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A promise was broken.
    pub(crate) fn violation(&mut self, what: impl FnOnce() -> String) {
        let what = what();
        self.tell_story(|| format!("VIOLATION: {what}"));
        self.monitor.violations.push(what);
    }
}
