//! Runs a case: members consume while everything goes wrong, then the faults cease, and everything
//! must come to a good end.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::case::Case;
use super::harness::{Member, MemberSetup};
use crate::ErrorKind;
use crate::broker::sim::{Cluster, Faults, Rng};
use crate::error::Result;
use crate::handle::Handle;
use crate::message::TopicPartition;
use crate::status::{PartitionStatus, Report};

/// How long the end may take once the faults have ceased. Virtual time.
const PATIENCE: Duration = Duration::from_secs(300);

/// Until another member takes the place of one that ended, in milliseconds. Not at once: nothing
/// fences a static member's last commit from the next one's first.
const PAUSE: RangeInclusive<u64> = 100..=2000;

/// What came of a seed.
pub(super) struct Outcome {
    /// What happened, and how often.
    pub(super) counts: BTreeMap<&'static str, usize>,
    pub(super) violations: Vec<String>,
    pub(super) story: Vec<String>,
}

/// Runs the case of this seed on a clock of its own.
pub(super) fn run(seed: u64, with_story: bool) -> Outcome {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run_case(seed, with_story))
}

/// Runs the case of this seed on threads and in real time: it never goes the same way twice.
pub(super) fn run_on_threads(seed: u64) -> Outcome {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(run_case(seed, true))
}

async fn run_case(seed: u64, with_story: bool) -> Outcome {
    let mut rng = Rng::new(seed);
    let case = Case::draw(&mut rng);
    let mut storm = Storm::new(case, &mut rng);
    storm.cluster.world().story = with_story.then(Vec::new);
    storm.rage().await;
    storm.calm_down().await;
    storm.outcome()
}

struct Storm {
    case: Case,
    cluster: Cluster,
    topics: Arc<[Arc<str>]>,
    quiet: Arc<AtomicBool>,
    slots: Vec<Slot>,
}

/// A member, and when another one takes its place.
struct Slot {
    member: Option<Member>,
    again: Instant,
}

impl Storm {
    fn new(case: Case, rng: &mut Rng) -> Self {
        let seed = rng.within(0..=u64::MAX - 1);
        let cluster = Cluster::new(seed, case.mode, case.weather.clone());
        {
            let mut world = cluster.world();
            world.group.spread = case.spread.clone();
            world.monitor.answer_limit = Some(case.answer_limit());
            world.monitor.offsets_jump = case.offsets_jump();
            world.monitor.starts_late = case.starts_late();
            world.monitor.poison = case.reaction.poison;
            world.monitor.retries = case.reaction.continues();
            for (topic, partitions) in &case.topics {
                world.create_topic(topic, *partitions);
            }
            for partition in world.partitions() {
                for _ in 0..rng.size(case.messages.clone()) {
                    let size = rng.size(0..=30);
                    world.append(&partition, size);
                }
            }
        }
        let topics = case.topics.iter().map(|(topic, _)| Arc::from(*topic)).collect();
        let slots = (0..case.members)
            .map(|_| Slot { member: None, again: Instant::now() + rng.millis(0..=1000) });
        let slots = slots.collect();
        Self { cluster, topics, quiet: Arc::default(), slots, case }
    }

    async fn rage(&mut self) {
        let end = Instant::now() + self.case.storm;
        while Instant::now() < end {
            self.tend().await;
            self.gust().await;
            if self.cluster.world().rng.chance(self.case.more_cuts) {
                self.cut_log(1..=200);
            }
            self.check_consumed();
            let pause = self.cluster.world().rng.millis(self.case.gusts.clone());
            sleep(pause).await;
        }
    }

    /// Starts members where there is none, after a while.
    async fn tend(&mut self) {
        let setups: Vec<MemberSetup> = (0..self.slots.len()).map(|_| self.setup()).collect();
        for (index, setup) in setups.into_iter().enumerate() {
            let slot = &mut self.slots[index];
            if slot.member.as_ref().is_some_and(|member| member.task.is_finished())
                && let Some(member) = slot.member.take()
            {
                let result = member.end().await;
                judge(&self.cluster, &result);
                slot.again = Instant::now() + self.cluster.world().rng.millis(PAUSE);
            }
            if slot.member.is_none() && slot.again <= Instant::now() {
                slot.member = Some(setup.start());
            }
        }
    }

    fn setup(&self) -> MemberSetup {
        self.case.member(&self.cluster, self.topics.clone(), &self.quiet)
    }

    /// Something happens.
    async fn gust(&mut self) {
        let slot = self.cluster.world().rng.size(0..=self.slots.len() - 1);
        let chance = self.cluster.world().rng.within(0..=99);
        let member = &self.slots[slot].member;
        match (chance, member) {
            (0..40, _) => self.produce(),
            (40..58, _) => {
                let mut world = self.cluster.world();
                world.count("rebalance forced");
                world.rebalance();
            }
            (58..62, Some(member)) => self.cluster.world().throw_out(member.id),
            (62..66, _) => self.rejoin_unanswered(),
            (66..74, Some(_)) => self.crash(slot).await,
            (74..79, Some(member)) => member.handle.close(),
            (79..88, Some(member)) => self.pause(&member.handle.clone()),
            (88..94, Some(member)) => member.handle.resume(),
            (97..100, _) if self.case.cuts_logs => self.cut_log(1..=20),
            (94..97, _) if !self.case.is_static && !self.case.joins => self.grow(),
            _ => {}
        }
    }

    /// Retention deletes the first messages of a log.
    fn cut_log(&self, messages: RangeInclusive<u64>) {
        let world = &mut *self.cluster.world();
        let partitions = world.partitions();
        let partition = partitions[world.rng.size(0..=partitions.len() - 1)].clone();
        let messages = world.rng.within(messages);
        world.count("log cut");
        world.cut(&partition, i64::try_from(messages).unwrap());
    }

    fn produce(&self) {
        let world = &mut *self.cluster.world();
        let partitions = world.partitions();
        for _ in 0..world.rng.size(1..=4) {
            let partition = partitions[world.rng.size(0..=partitions.len() - 1)].clone();
            for _ in 0..world.rng.size(0..=8) {
                let size = world.rng.size(0..=30);
                world.append(&partition, size);
            }
            if world.rng.chance(30) {
                let gap = world.rng.within(1..=3);
                world.append_gap(&partition, i64::try_from(gap).unwrap());
            }
        }
    }

    /// Members that have asked something join again without the answer.
    fn rejoin_unanswered(&self) {
        for member in self.slots.iter().filter_map(|slot| slot.member.as_ref()) {
            self.cluster.world().rejoin_unanswered(member.id);
        }
    }

    /// A topic gets one more partition, and the group gives it to somebody.
    fn grow(&self) {
        let world = &mut *self.cluster.world();
        let topic = world.rng.pick(&self.case.topics).0;
        let count = world.partitions().iter().filter(|p| *p.topic == *topic).count();
        if count < 6 {
            world.grow_topic(topic, i32::try_from(count).unwrap() + 1);
            world.count("partition added");
            world.rebalance();
        }
    }

    async fn crash(&mut self, slot: usize) {
        if let Some(member) = self.slots[slot].member.take() {
            if member.task.is_finished() {
                return judge(&self.cluster, &member.end().await);
            }
            self.cluster.world().count("crash");
            let handle = member.handle.clone();
            if let Some(result) = member.abort().await {
                return judge(&self.cluster, &result);
            }
            check_closed(&self.cluster, &handle).await;
            self.slots[slot].again = Instant::now() + self.cluster.world().rng.millis(PAUSE);
        }
    }

    fn pause(&self, handle: &Handle) {
        let one = self.cluster.world().rng.chance(50);
        self.cluster.world().count("pause");
        if one { handle.pause_partition(0) } else { handle.pause() }
    }

    /// Whoever says that everything is consumed is right. On threads others go on meanwhile: what is claimed is asked for
    /// first, and what is true last, of what was assigned all the time.
    fn check_consumed(&self) {
        for member in self.slots.iter().filter_map(|slot| slot.member.as_ref()) {
            let mut begun = self.begun(member);
            if !member.handle.has_consumed_all() {
                continue;
            }
            let after = self.begun(member);
            let is_same = |a: &PartitionStatus, b: &PartitionStatus| {
                a.partition == b.partition && a.epoch == b.epoch
            };
            begun.retain(|status| after.iter().any(|after| is_same(status, after)));
            let unfinished = self.cluster.world().unfinished();
            let mut world = self.cluster.world();
            world.count("consumed all");
            if world.is_between_assignments(member.id) {
                world.violation(|| format!("client {} has consumed all of nothing", member.id));
            }
            drop(world);
            for status in begun {
                if let Some(left) = left_below_end(&unfinished, &status) {
                    self.cluster.world().violation(|| {
                        format!("client {} has not consumed {}={left}", member.id, status.partition)
                    });
                }
            }
        }
        self.check_lag();
    }

    /// The partitions of a member of which is known where the group begins.
    fn begun(&self, member: &Member) -> Vec<PartitionStatus> {
        let mut all = member.handle.status().partitions;
        let starts_late = self.case.starts_late();
        all.retain(|status| !starts_late || status.committed_offset.is_some());
        all
    }

    /// Without lag, nothing is left below the end.
    fn check_lag(&self) {
        let members = self.slots.iter().filter_map(|slot| slot.member.as_ref());
        let without_lag = members.flat_map(|member| {
            let begun = self.begun(member).into_iter().filter(|status| status.lag == 0);
            begun.map(|status| (member.id, status))
        });
        let without_lag: Vec<_> = without_lag.collect();
        // After that: what has finished in between is no fault.
        let unfinished = self.cluster.world().unfinished();
        for (id, status) in without_lag {
            if let Some(left) = left_below_end(&unfinished, &status) {
                self.cluster.world().violation(|| {
                    format!("client {id} has no lag behind {}={left}: {status:?}", status.partition)
                });
            }
        }
    }

    async fn calm_down(&mut self) {
        self.cluster.world().tell_story(|| "the storm is over".into());
        self.cluster.world().weather.faults = Faults::default();
        self.quiet.store(true, Ordering::SeqCst);
        if self.case.catches_up {
            self.catch_up().await;
        }
        let limit = Instant::now() + PATIENCE;
        while !self.is_all_done() {
            if Instant::now() > limit {
                let mut world = self.cluster.world();
                let left = (world.unfinished(), world.uncommitted());
                return world.violation(|| format!("it does not come to an end: {left:?}"));
            }
            self.tend().await;
            let members = self.slots.iter().filter_map(|slot| slot.member.as_ref());
            members.for_each(|member| member.handle.resume());
            self.check_consumed();
            sleep(Duration::from_millis(100)).await;
        }
        for slot in &mut self.slots {
            let Some(member) = slot.member.take() else { continue };
            let handle = member.handle.clone();
            judge(&self.cluster, &member.close().await);
            check_closed(&self.cluster, &handle).await;
        }
    }

    /// All leave; then new members run until they have caught up, over rebalances and losses. What a member has when it
    /// ends, it has processed; and a single one leaves nothing behind.
    async fn catch_up(&mut self) {
        for slot in &mut self.slots {
            let Some(member) = slot.member.take() else { continue };
            judge(&self.cluster, &member.close().await);
        }
        while !self.cluster.world().members().is_empty() {
            sleep(Duration::from_millis(100)).await;
        }
        let count = self.cluster.world().rng.size(1..=self.slots.len());
        let mut members = Vec::new();
        for _ in 0..count {
            let member = self.setup().until_caught_up().start();
            self.cluster.world().monitor.catches_up(member.id);
            members.push(member);
            self.gusts_while_catching_up(&members).await;
        }
        for member in members {
            let id = member.id;
            judge(&self.cluster, &member.end().await);
            let mut world = self.cluster.world();
            world.count(if count == 1 { "caught up" } else { "caught up beside others" });
            let left = world.monitor.left_by(id);
            if !left.is_empty() {
                world.violation(|| format!("client {id} has not caught up: {left:?}"));
            }
        }
        let mut world = self.cluster.world();
        let unfinished = world.unfinished();
        if count == 1 && !unfinished.is_empty() {
            world.violation(|| format!("not caught up: {unfinished:?}"));
        }
    }

    async fn gusts_while_catching_up(&self, members: &[Member]) {
        let gusts = self.cluster.world().rng.size(0..=5);
        for _ in 0..gusts {
            let pause = self.cluster.world().rng.millis(self.case.gusts.clone());
            sleep(pause).await;
            let mut world = self.cluster.world();
            let member = &members[world.rng.size(0..=members.len() - 1)];
            match world.rng.within(0..=9) {
                0..3 => world.throw_out(member.id),
                3 => world.rejoin_unanswered(member.id),
                _ => world.rebalance(),
            }
        }
    }

    fn is_all_done(&self) -> bool {
        let mut members = self.slots.iter().map(|slot| slot.member.as_ref());
        members.all(|member| member.is_some_and(|member| member.handle.has_consumed_all()))
            && self.cluster.world().unfinished().is_empty()
            && self.cluster.world().uncommitted().is_empty()
    }

    fn outcome(self) -> Outcome {
        let mut world = self.cluster.world();
        Outcome {
            counts: std::mem::take(&mut world.counts),
            violations: std::mem::take(&mut world.monitor.violations),
            story: world.story.take().unwrap_or_default(),
        }
    }
}

/// The first message below the end of a partition that nobody has processed.
fn left_below_end(unfinished: &[(TopicPartition, i64)], status: &PartitionStatus) -> Option<i64> {
    let left = unfinished.iter().filter(|(partition, _)| *partition == status.partition);
    left.map(|(_, offset)| *offset).find(|offset| *offset < status.end_offset.get())
}

async fn check_closed(cluster: &Cluster, handle: &Handle) {
    if timeout(Duration::from_secs(1), handle.closed()).await.is_err() {
        cluster.world().violation(|| "closed() waits behind the end".into());
    }
}

/// Only planned errors come out of `run`, and what it reports is so.
fn judge(cluster: &Cluster, result: &Result<Report>) {
    let mut world = cluster.world();
    match result {
        Ok(report) => {
            world.count("run ended well");
            for (partition, next) in &report.next_offsets {
                let committed = world.committed(partition);
                if committed < Some(*next) {
                    world.violation(|| format!("{partition}={next} reported, not committed"));
                }
            }
        }
        Err(error) => {
            world.tell_story(|| format!("run ended with {error:?}"));
            match error.kind() {
                ErrorKind::Process => world.count("process failed"),
                ErrorKind::Panic => world.count("process panicked"),
                ErrorKind::Delivery => world.count("delivery failed"),
                ErrorKind::CircuitOpen => world.count("circuit open"),
                ErrorKind::Commit => world.count("last commit failed"),
                ErrorKind::Backend => world.count("lookup refused"),
                ErrorKind::OffsetOutOfRange if world.monitor.offsets_jump => {
                    world.count("out of range");
                }
                _ => world.violation(|| format!("run ended with {error:?}")),
            }
        }
    }
}
