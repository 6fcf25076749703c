//! `kasper-chaos run`: puts a run together, from the topics to the verdict.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use crate::args::{Fault, PARTITIONS, RATE, Run, WORKERS, Worker, name_of};
use crate::cluster::{Cluster, Read};
use crate::feed::{Feed, Plan};
use crate::id::Id;
use crate::log::Log;
use crate::members::Members;
use crate::nemesis::{Mark, Nemesis};
use crate::oracle::{self, Broken, Evidence, Promise};
use crate::progress::Progress;
use crate::redis_server::{RedisServer, StoreReader};
use crate::report::Report;
use crate::schedule::Schedule;
use crate::timeline;
use crate::watch::{Seen, Watcher, millis};

const KEYS_PER_PARTITION: i32 = 5;

/// How long the workers may take at the end for what is left.
const DRAIN: Duration = Duration::from_secs(180);

/// A fault may find a message on its way more than once: with the old owner, with the next one, and with the
/// worker that comes instead.
const COPIES_PER_FAULT: u64 = 3;

/// Names that no other run has used.
struct Names {
    run: String,
    input: String,
    output: String,
    letters: String,
}

/// Whether all promises were kept.
pub(crate) fn run(arguments: &Run) -> Result<bool> {
    let load = &arguments.load;
    let clock = u64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_nanos() % 1_000_000_000)?;
    let seed = load.seed.unwrap_or(clock);
    let faults = faults(arguments)?;
    println!("{}", again(arguments, seed));
    let names = Names::new()?;
    let directory = std::env::temp_dir().join(&names.run);
    std::fs::create_dir_all(&directory)?;
    let mut stage = Stage::set_up(arguments, names, &directory)?;
    let mut schedule = Schedule::new(seed, &faults);
    if stage.nemesis.wait_for_progress()?.is_none() {
        bail!("the workers do not begin; their logs are in {}", directory.display());
    }
    let limit = Duration::from_secs_f64(load.minutes.clamp(0.05, 10_000.0) * 60.0);
    let begin = Instant::now();
    while begin.elapsed() < limit {
        let Some(step) = schedule.draw() else { break };
        stage.nemesis.strike(&step)?;
    }
    stage.nemesis.progress.tell("finishing");
    let report = stage.finish()?.judge(arguments, seed)?;
    println!("{}", report.table());
    if let Some(file) = &load.json {
        write(file, &serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(file) = &load.svg {
        write(file, &timeline::svg(&report))?;
    }
    let complaints = report.complaints();
    complaints.iter().for_each(|line| println!("{line}"));
    // With a defect, a complaint is what was expected.
    if complaints.is_empty() || arguments.defect.is_some() {
        std::fs::remove_dir_all(&directory)?;
    } else {
        println!("the workers' logs are kept in {}", directory.display());
        println!("{}", report.again);
    }
    Ok(complaints.is_empty())
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| file.display().to_string())
}

fn faults(arguments: &Run) -> Result<Vec<Fault>> {
    let load = &arguments.load;
    let possible: Vec<Fault> = Fault::value_variants()
        .iter()
        .copied()
        .filter(|fault| fault.fits(load.protocol))
        .filter(|fault| *fault != Fault::KillBroker || arguments.kill_script.is_some())
        .collect();
    if let Some(fault) = load.faults.iter().find(|fault| !possible.contains(fault)) {
        let protocol = name_of(&load.protocol);
        bail!(
            "{} cannot be done: protocol {protocol}, or no script to kill a broker",
            name_of(fault)
        );
    }
    Ok(if load.faults.is_empty() { possible } else { load.faults.clone() })
}

/// The line that does the same faults again.
fn again(arguments: &Run, seed: u64) -> String {
    let load = &arguments.load;
    let mut line = format!("again: cargo xtask chaos --seed {seed} --minutes {}", load.minutes);
    if !load.faults.is_empty() {
        let names: Vec<String> = load.faults.iter().map(name_of).collect();
        line = format!("{line} --faults {}", names.join(","));
    }
    line = format!("{line} --protocol {}", name_of(&load.protocol));
    let more = [
        (load.workers != WORKERS).then(|| format!(" --workers {}", load.workers)),
        (load.partitions != PARTITIONS).then(|| format!(" --partitions {}", load.partitions)),
        (load.rate != RATE).then(|| format!(" --rate {}", load.rate)),
        arguments.defect.map(|defect| format!(" --break {}", name_of(&defect))),
    ];
    let more: String = more.into_iter().flatten().collect();
    if more.is_empty() { line } else { format!("{line} --{more}") }
}

impl Names {
    fn new() -> Result<Self> {
        let now = std::time::UNIX_EPOCH.elapsed()?.as_millis();
        let run = format!("kasper-chaos-{now}-{}", std::process::id());
        let name = |part: &str| format!("{run}-{part}");
        Ok(Self { input: name("in"), output: name("out"), letters: name("letters"), run })
    }
}

/// A run that goes on.
struct Stage {
    names: Names,
    partitions: i32,
    keys: u32,
    feed: Feed,
    nemesis: Nemesis,
}

impl Stage {
    fn set_up(arguments: &Run, names: Names, directory: &Path) -> Result<Self> {
        let (load, brokers) = (&arguments.load, &arguments.brokers);
        let group = format!("kasper-topic-processor-{}", names.run);
        let cluster = Cluster::connect(brokers, &group)?;
        let topics = [&names.input, &names.output, &names.letters];
        let partitions = load.partitions;
        cluster.create_topics(&topics.map(|topic| (topic.as_str(), partitions)))?;
        let redis = RedisServer::start(directory)?;
        let log = Arc::new(Log::new(partitions));
        let keys = u32::try_from(partitions * KEYS_PER_PARTITION)?;
        let mut members = members(arguments, &names, &redis, directory);
        for _ in 0..load.workers {
            members.start()?;
        }
        let plan = Plan {
            brokers: brokers.clone(),
            topic: names.input.clone(),
            partitions,
            keys,
            rate: load.rate,
        };
        let feed = Feed::start(plan, &log)?;
        let began = Instant::now();
        let store = StoreReader::new(&redis.address())?;
        let watching = Cluster::connect(brokers, &group)?;
        let watcher = Watcher::start(watching, store, &names.input, &log, began)?;
        let mut topics: Vec<String> = topics.into_iter().cloned().collect();
        topics.push("__consumer_offsets".to_owned());
        let nemesis = Nemesis {
            brokers: cluster.broker_count()?,
            cluster,
            topics,
            kill_script: arguments.kill_script.clone(),
            redis,
            members,
            workers: usize::try_from(load.workers)?,
            watcher,
            log,
            began,
            progress_within: Duration::from_secs(load.progress_within),
            progress: Progress::new(Duration::from_secs_f64(load.minutes * 60.0)),
            marks: Vec::new(),
            broken: Vec::new(),
        };
        Ok(Self { names, partitions, keys, feed, nemesis })
    }

    /// Stops the producer, lets the workers finish, and ends them.
    fn finish(self) -> Result<Finished> {
        let Self { names, partitions, keys, feed, mut nemesis } = self;
        feed.stop()?;
        nemesis.progress_within = DRAIN;
        // If it takes too long, the judge finds what is left.
        nemesis.wait_for_progress()?;
        while nemesis.members.count() > 0 {
            nemesis.members.end(0)?;
        }
        nemesis.wait_for_brokers()?;
        // The last commits are those of the workers' ends.
        nemesis.wait(Duration::from_secs(2))?;
        nemesis.progress.end();
        let Nemesis { cluster, redis, members, watcher, log, marks, broken, .. } = nemesis;
        let seen = watcher.stop()?;
        Ok(Finished { names, partitions, keys, cluster, redis, members, seen, log, marks, broken })
    }
}

/// A run in which nothing moves any more.
struct Finished {
    names: Names,
    partitions: i32,
    keys: u32,
    cluster: Cluster,
    redis: RedisServer,
    members: Members,
    seen: Seen,
    log: Arc<Log>,
    marks: Vec<Mark>,
    broken: Vec<Broken>,
}

impl Finished {
    fn judge(mut self, arguments: &Run, seed: u64) -> Result<Report> {
        let load = &arguments.load;
        let mut store = StoreReader::new(&self.redis.address())?;
        let judgement = oracle::judge(&self.evidence(&mut store)?);
        let assignments = self.members.read_logs()?;
        let mut broken = self.broken;
        broken.extend(judgement.broken);
        broken.append(&mut self.members.broken);
        let peak = self.members.peak_memory / 1024;
        if peak > load.memory {
            let example = format!("{peak} MiB, and {} are allowed", load.memory);
            broken.push(Broken { promise: Promise::Memory, count: 1, example });
        }
        Ok(Report {
            seed,
            minutes: load.minutes,
            protocol: load.protocol,
            workers: load.workers,
            partitions: load.partitions,
            rate: load.rate,
            defect: arguments.defect,
            versions: versions(&mut store)?,
            again: again(arguments, seed),
            counts: judgement.counts,
            workers_started: self.members.started(),
            assignments,
            longest_stall: self.seen.longest,
            slowest_recovery: slowest(&self.marks),
            slowest_end: millis(self.members.slowest_end),
            peak_memory_mib: peak,
            broken,
            faults: self.marks,
            samples: self.seen.samples,
        })
    }

    fn evidence(&self, store: &mut StoreReader) -> Result<Evidence> {
        let read = |topic| self.cluster.read_all(topic, self.partitions);
        let input = read(&self.names.input)?;
        let input: Vec<Id> = input.iter().filter_map(|read| Id::parse_any(&read.value)).collect();
        let has = store.has(&input)?;
        let ledger = input.iter().zip(has).filter(|(_, has)| *has).map(|(id, _)| *id).collect();
        Ok(Evidence {
            acknowledged: self.log.all(),
            input,
            ledger,
            output: ids(&read(&self.names.output)?),
            letters: letters(read(&self.names.letters)?),
            aggregates: store.aggregates(self.keys)?,
            commits: self.seen.commits.clone(),
            ahead: self.seen.ahead.clone(),
            ends: self.cluster.ends(&self.names.input, self.partitions)?,
            most_copies: 1 + COPIES_PER_FAULT * (self.marks.len() as u64 + 1),
        })
    }
}

fn members(arguments: &Run, names: &Names, redis: &RedisServer, directory: &Path) -> Members {
    let load = &arguments.load;
    let worker = Worker {
        brokers: arguments.brokers.clone(),
        name: names.run.clone(),
        input: names.input.clone(),
        output: names.output.clone(),
        letters: names.letters.clone(),
        redis: redis.address(),
        protocol: load.protocol,
        partitions: Vec::new(),
        defect: arguments.defect,
    };
    let places = usize::try_from(load.workers).unwrap_or(1);
    let end_within = Duration::from_secs(load.end_within);
    Members::new(worker, places, load.partitions, directory.to_owned(), end_within)
}

/// What was sent on, if key and value belong together.
fn ids(output: &[Read]) -> Vec<Option<Id>> {
    let id =
        |read: &Read| Id::parse_any(&read.value).filter(|id| id.key_text().as_bytes() == read.key);
    output.iter().map(id).collect()
}

fn letters(read: Vec<Read>) -> Vec<(Vec<u8>, Vec<u8>)> {
    read.into_iter().map(|letter| (letter.key, letter.value)).collect()
}

fn slowest(marks: &[Mark]) -> u64 {
    let recoveries =
        marks.iter().filter_map(|mark| Some(mark.recovered?.saturating_sub(mark.until)));
    recoveries.max().unwrap_or(0)
}

fn versions(store: &mut StoreReader) -> Result<BTreeMap<&'static str, String>> {
    let kafka = std::env::var("KASPER_CHAOS_KAFKA_VERSION").unwrap_or("unknown".to_owned());
    Ok(BTreeMap::from([
        ("kasper", env!("CARGO_PKG_VERSION").to_owned()),
        ("librdkafka", rdkafka::util::get_rdkafka_version().1),
        ("kafka", kafka),
        ("redis", store.version()?),
    ]))
}
