//! What a seed stands for: a cluster, its weather, members with their settings, and what their
//! processors do.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::harness::{Making, MemberSetup, Plan, Step, letters};
use crate::broker::sim::{
    Cluster, Faults, LETTERS, Mode, Poison, Rng, Spread, UNDELIVERABLE, Weather,
};
use crate::settings::{OutOfRange, Settings, StartFrom};
use crate::{Backoff, Batch, Circuit, ErrorPolicy, OnError};

#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) mode: Mode,
    pub(super) spread: Spread,
    pub(super) weather: Weather,
    /// Names and numbers of partitions.
    pub(super) topics: Vec<(&'static str, i32)>,
    pub(super) members: usize,
    /// Partition numbers are to be whole, and always become so again.
    pub(super) joins: bool,
    /// One member with static partitions.
    pub(super) is_static: bool,
    /// In the end a member runs until it has caught up.
    pub(super) catches_up: bool,
    /// Retention deletes messages, also ones that were not read.
    pub(super) cuts_logs: bool,
    /// That often in a hundred, between two events of the storm, besides.
    pub(super) more_cuts: u64,
    start_from: StartFrom,
    out_of_range: OutOfRange,
    /// Messages per partition at the beginning.
    pub(super) messages: RangeInclusive<usize>,
    pub(super) storm: Duration,
    /// Between two events of the storm, in milliseconds.
    pub(super) gusts: RangeInclusive<u64>,
    limits: Limits,
    habits: Habits,
    pub(super) reaction: Reaction,
}

/// What happens when a processor fails.
#[derive(Debug, Clone)]
pub(super) struct Reaction {
    kind: ReactionKind,
    pub(super) poison: Poison,
    cry: Cry,
    retries: u32,
    /// Opens at so many rejected messages in a row, while there is a storm.
    circuit: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReactionKind {
    Stop,
    Retry,
    /// What is not retryable makes letters of messages, or has them skipped.
    Reject,
}

/// How a processor says that it cannot process a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cry {
    Error,
    Name,
    Panic,
    /// It writes the letter itself.
    Letter,
    /// It makes something of it that the client does not take, and says so, or not.
    Refused,
    RefusedUnnamed,
}

impl Reaction {
    fn stop() -> Self {
        let poison = Poison::default();
        Self { kind: ReactionKind::Stop, poison, cry: Cry::Error, retries: 0, circuit: None }
    }

    fn draw(rng: &mut Rng) -> Self {
        let kind = rng.pick(&[ReactionKind::Retry, ReactionKind::Reject, ReactionKind::Reject]);
        if kind == ReactionKind::Retry {
            let retries = u32::try_from(rng.pick(&[1, 3, 1000])).unwrap();
            return Self { kind, retries, ..Self::stop() };
        }
        let skips = rng.chance(30);
        let cries: &[Cry] = match skips {
            true => &[Cry::Error, Cry::Name, Cry::Panic],
            false => {
                &[Cry::Error, Cry::Name, Cry::Panic, Cry::Letter, Cry::Refused, Cry::RefusedUnnamed]
            }
        };
        let every = rng.within(4..=60);
        let poison = Poison {
            every: i64::try_from(every).unwrap(),
            run: i64::try_from(rng.within(1..=every)).unwrap().min(3),
            skips,
            is_named: false,
        };
        let cry = rng.pick(cries);
        let poison = Poison { is_named: cry == Cry::Name, ..poison };
        let circuit = rng.chance(20).then(|| rng.within(2..=5));
        Self { kind, poison, cry, retries: 1000, circuit }
    }

    pub(super) fn continues(&self) -> bool {
        self.kind != ReactionKind::Stop
    }

    fn policy(&self, quiet: bool) -> ErrorPolicy {
        let backoff = Backoff::new()
            .first(Duration::from_millis(10))
            .longest(Duration::from_millis(300))
            // Chance comes from the seed alone.
            .jitter(0.0)
            .max_retries(self.retries);
        let policy = match self.kind {
            ReactionKind::Stop => return ErrorPolicy::default(),
            ReactionKind::Retry => ErrorPolicy::new(OnError::retry(backoff)),
            ReactionKind::Reject if self.poison.skips => ErrorPolicy::new(OnError::skip()),
            ReactionKind::Reject => ErrorPolicy::new(OnError::dead_letter(LETTERS))
                .undeliverable(OnError::dead_letter(LETTERS)),
        };
        let never = Circuit::new().never();
        let circuit = self.circuit.filter(|_| !quiet);
        policy.retryable(backoff).circuit(circuit.map_or(never, |most| never.consecutive(most)))
    }

    fn add_to(&self, plan: Plan) -> Plan {
        match self.kind {
            ReactionKind::Reject => std::iter::once(Step::Poison(self.cry)).chain(plan).collect(),
            ReactionKind::Stop | ReactionKind::Retry => plan,
        }
    }
}

#[derive(Debug, Clone)]
struct Limits {
    batch_messages: usize,
    batch_bytes: usize,
    batch_wait: Duration,
    in_flight: usize,
    in_flight_bytes: usize,
    commit_interval: Duration,
    target_latency: Option<Duration>,
    drain_deadline: Duration,
    commit_timeout: Duration,
    tick_interval: Option<Duration>,
}

/// What processors do, how many times in a hundred.
#[derive(Debug, Clone)]
struct Habits {
    sends: u64,
    sleeps: u64,
    /// Sleeps longer than the drain deadline.
    oversleeps: u64,
    fails: u64,
    panics: u64,
    undeliverable: u64,
    flushes: u64,
    closes: u64,
    /// The factory takes its time.
    slow_start: u64,
    factory_fails: u64,
}

/// Half of the time nothing, else up to `most`.
fn sometimes(rng: &mut Rng, most: u64) -> u64 {
    if rng.chance(50) { 0 } else { rng.within(1..=most) }
}

fn up_to(rng: &mut Rng, most: u64) -> RangeInclusive<u64> {
    1..=rng.within(1..=most)
}

impl Case {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let mut case = Self::draw_any(rng);
        match rng.within(0..=9) {
            0..2 => case.favour_partial_revocations(rng),
            2 => case.favour_backlogs(rng),
            _ => {}
        }
        if rng.chance(15) {
            case.cuts_logs = true;
            case.out_of_range = rng.pick(&[OutOfRange::Fail, OutOfRange::Earliest]);
            if rng.chance(50) {
                case.favour_late_failures(rng);
            }
        } else if rng.chance(15) {
            case.start_from = rng.pick(&[StartFrom::Latest, StartFrom::Timestamp(5000)]);
        }
        let is_aligned = case.topics.iter().all(|(_, partitions)| *partitions == case.topics[0].1);
        if rng.chance(25) {
            case.limits.batch_wait = Duration::ZERO;
            case.limits.target_latency = Some(rng.millis(10..=2000));
        }
        if rng.chance(25) {
            case.reaction = Reaction::draw(rng);
        }
        if case.reaction.kind == ReactionKind::Reject {
            // It could reject any message.
            case.habits.panics = 0;
            case.habits.fails = case.habits.fails.max(8);
        }
        case.joins = is_aligned && case.topics.len() > 1 && case.spread == Spread::Range;
        case
    }

    /// The rarest of schedules: part of a lane's topics goes while a batch takes too long.
    fn favour_partial_revocations(&mut self, rng: &mut Rng) {
        self.mode = Mode::Incremental;
        self.spread = Spread::Scattered;
        self.is_static = false;
        self.members = rng.size(2..=3);
        let partitions = i32::try_from(rng.within(1..=2)).unwrap();
        self.topics = vec![("a", partitions), ("b", partitions), ("c", partitions)];
        self.gusts = 10..=300;
        self.limits.drain_deadline = rng.millis(20..=200);
        self.habits.oversleeps = rng.within(5..=40);
        self.habits.fails = 0;
        self.habits.panics = 0;
    }

    /// Everything is fetched long before it is processed, and partitions move meanwhile.
    fn favour_backlogs(&mut self, rng: &mut Rng) {
        self.mode = Mode::Incremental;
        self.is_static = false;
        self.members = rng.size(2..=3);
        self.messages = 20..=40;
        self.gusts = 10..=200;
        self.weather.queue_limit = 1000;
        self.weather.report = 1..=rng.within(1..=50);
        self.weather.fetch = 1..=rng.within(1..=400);
        self.limits.batch_messages = rng.size(1..=3);
        self.habits.sleeps = 100;
        self.habits.fails = 0;
        self.habits.panics = 0;
    }

    /// Batches wait long for their acks, and some for nothing, and what is behind them is deleted meanwhile.
    fn favour_late_failures(&mut self, rng: &mut Rng) {
        self.more_cuts = rng.within(10..=50);
        self.out_of_range = OutOfRange::Earliest;
        self.gusts = 10..=rng.within(20..=200);
        // Little else happens, or they would be given up before they fail.
        self.members = 1;
        self.habits.oversleeps = 0;
        self.habits.closes = 0;
        self.habits.factory_fails = 0;
        self.messages = 20..=40;
        self.weather.ack = 1..=rng.within(100..=1000);
        self.weather.fetch = 1..=rng.within(1..=400);
        self.limits.in_flight_bytes = 1000;
        self.limits.in_flight = 16;
        self.habits.sends = 100;
        self.habits.undeliverable = rng.within(2..=30);
        self.habits.fails = 0;
        self.habits.panics = 0;
    }

    fn draw_any(rng: &mut Rng) -> Self {
        let drain_deadline = rng.millis(50..=2000);
        let names = ["a", "b", "c"];
        let partitions = rng.within(1..=4);
        let topics = names[..rng.size(1..=3)].iter().map(|name| {
            let partitions = if rng.chance(80) { partitions } else { rng.within(1..=4) };
            (*name, i32::try_from(partitions).unwrap())
        });
        let topics = topics.collect();
        let is_static = rng.chance(8);
        Self {
            reaction: Reaction::stop(),
            topics,
            is_static,
            joins: false,
            catches_up: rng.chance(30),
            cuts_logs: false,
            more_cuts: 0,
            start_from: StartFrom::Earliest,
            out_of_range: OutOfRange::Fail,
            mode: rng.pick(&[Mode::Eager, Mode::Incremental]),
            spread: if rng.chance(40) { Spread::Range } else { Spread::Scattered },
            weather: weather(rng, drain_deadline),
            members: if is_static { 1 } else { rng.size(1..=3) },
            messages: 0..=rng.size(0..=40),
            storm: rng.millis(500..=8000),
            gusts: 10..=rng.within(50..=1500),
            limits: Limits {
                batch_messages: rng.size(1..=20),
                batch_bytes: rng.size(10..=500),
                batch_wait: Duration::from_millis(sometimes(rng, 200)),
                in_flight: rng.size(1..=16),
                in_flight_bytes: rng.size(1..=1000),
                commit_interval: rng.millis(20..=1000),
                target_latency: None,
                drain_deadline,
                commit_timeout: rng.millis(20..=3000),
                tick_interval: rng.chance(25).then(|| rng.millis(20..=1000)),
            },
            habits: Habits {
                sends: rng.pick(&[0, 50, 100, 100]),
                sleeps: rng.within(0..=80),
                oversleeps: sometimes(rng, 12),
                fails: sometimes(rng, 3),
                panics: sometimes(rng, 2),
                undeliverable: sometimes(rng, 3),
                flushes: sometimes(rng, 30),
                closes: sometimes(rng, 1),
                slow_start: sometimes(rng, 30),
                factory_fails: sometimes(rng, 2),
            },
        }
    }

    /// A member whose processors follow the case's habits, until `quiet`.
    pub(super) fn member(
        &self,
        cluster: &Cluster,
        topics: Arc<[Arc<str>]>,
        quiet: &Arc<AtomicBool>,
    ) -> MemberSetup {
        let (case, world, calm) = (self.clone(), cluster.clone(), quiet.clone());
        let plan = move || {
            let rng = &mut world.world().rng;
            if calm.load(Ordering::SeqCst) { case.habits.calm(rng) } else { case.plan(rng) }
        };
        let (process, tick, calm) = (plan.clone(), plan.clone(), quiet.clone());
        let reaction = self.reaction.clone();
        // In the end there must be moments in which nothing is under way.
        let mut ticks = 0;
        let tick = move || {
            ticks += 1;
            if calm.load(Ordering::SeqCst) && ticks % 8 > 0 { Plan::new() } else { tick() }
        };
        let (case, world, calm) = (self.clone(), cluster.clone(), quiet.clone());
        let make = move |_| {
            let rng = &mut world.world().rng;
            match calm.load(Ordering::SeqCst) {
                false if rng.chance(case.habits.factory_fails) => {
                    rng.pick(&[Making::Fails, Making::Panics])
                }
                false if rng.chance(case.habits.slow_start) => Making::Slow(rng.millis(1..=1500)),
                _ => Making::Good,
            }
        };
        let member = MemberSetup::new(cluster, topics).set(|s| {
            self.limits.set(s);
            s.letters = letters(self.reaction.policy(quiet.load(Ordering::SeqCst)));
            s.needs_alignment = self.joins && !self.is_static;
        });
        let quiet = quiet.load(Ordering::SeqCst);
        let member = member.set(|s| {
            s.start_from = self.start_from;
            // In the end all is well, so somebody has decided where to go on.
            let fails = self.out_of_range == OutOfRange::Fail && quiet;
            s.out_of_range = if fails { OutOfRange::Earliest } else { self.out_of_range };
        });
        let process = move |_: &Batch| reaction.add_to(process());
        let member = member.plan(process).closes(plan).make(make);
        let member = match self.limits.tick_interval {
            Some(interval) => member.ticks(interval, tick),
            None => member,
        };
        let partitions = cluster.world().partitions();
        if self.is_static { member.statics(partitions) } else { member }
    }

    /// Messages may be skipped, or come again, because the log or a setting says so.
    pub(super) fn offsets_jump(&self) -> bool {
        self.cuts_logs
    }

    pub(super) fn starts_late(&self) -> bool {
        self.start_from != StartFrom::Earliest
    }

    /// How long the answer to a revocation may take: the drain, the last commit, and what else the
    /// coordinator may be about.
    pub(super) fn answer_limit(&self) -> Duration {
        self.limits.drain_deadline + self.limits.commit_timeout + Duration::from_secs(1)
    }

    fn plan(&self, rng: &mut Rng) -> Plan {
        let Habits { sends, flushes, .. } = self.habits;
        let mut plan = Plan::new();
        for _ in 0..rng.size(1..=2) {
            if rng.chance(sends) {
                plan.push(Step::Send(self.habits.topic(rng)));
            }
            if rng.chance(self.habits.sleeps) {
                plan.push(Step::Sleep(rng.millis(1..=50)));
            }
            if rng.chance(self.habits.oversleeps) {
                let deadlines = u32::try_from(rng.within(1..=3)).unwrap();
                plan.push(Step::Sleep(self.limits.drain_deadline * deadlines));
            }
            if rng.chance(flushes) {
                let patience = rng.millis(1..=30);
                plan.push(match rng.within(0..=2) {
                    0 => Step::Flush,
                    1 => Step::FlushBlindly,
                    _ => Step::FlushFor(patience),
                });
            }
        }
        if rng.chance(self.habits.closes) {
            plan.push(Step::Close);
        }
        if rng.chance(self.habits.fails) {
            let rejects = self.reaction.kind == ReactionKind::Reject;
            plan.push(if rejects { Step::FailForNow } else { Step::Fail });
        }
        if rng.chance(self.habits.panics) {
            plan.push(Step::Panic);
        }
        plan
    }
}

impl Habits {
    fn topic(&self, rng: &mut Rng) -> &'static str {
        match rng.chance(self.undeliverable) {
            true => UNDELIVERABLE,
            false => rng.pick(&["out", "audit"]),
        }
    }

    fn calm(&self, rng: &mut Rng) -> Plan {
        if rng.chance(self.sends) { vec![Step::Send("out")] } else { Plan::new() }
    }
}

impl Limits {
    fn set(&self, settings: &mut Settings) {
        settings.batch.max_messages = self.batch_messages;
        settings.batch.max_bytes = self.batch_bytes;
        settings.batch.max_wait = self.batch_wait;
        settings.in_flight.max_batches = self.in_flight;
        settings.in_flight.max_bytes = self.in_flight_bytes;
        settings.commit_interval = self.commit_interval;
        settings.target_latency = self.target_latency;
        settings.drain_deadline = self.drain_deadline;
        settings.commit_timeout = self.commit_timeout;
        settings.tick_interval = self.tick_interval;
    }
}

fn weather(rng: &mut Rng, drain_deadline: Duration) -> Weather {
    Weather {
        latency: up_to(rng, 40),
        heartbeat: up_to(rng, 600),
        notice: up_to(rng, 3000),
        report: up_to(rng, 400),
        fetch: up_to(rng, 30),
        fetched: 1..=rng.size(1..=20),
        queue_limit: rng.size(1..=50),
        append: up_to(rng, 50),
        ack: up_to(rng, 100),
        producer_queue: rng.size(1..=100),
        rebalance_timeout: drain_deadline * 2 + rng.millis(0..=3000) - rng.millis(0..=1000) / 8,
        session_timeout: rng.millis(500..=6000),
        faults: Faults {
            commit_refused: sometimes(rng, 20),
            commit_deferred: sometimes(rng, 30),
            deferred_up_to: rng.within(1..=3000),
            answer_lost: sometimes(rng, 10),
            delivery_failed: sometimes(rng, 2),
            message_refused: sometimes(rng, 1),
            queue_full: sometimes(rng, 20),
            lookup_failed: sometimes(rng, 20),
            lookup_refused: sometimes(rng, 1),
            piecemeal: sometimes(rng, 60),
        },
    }
}
