//! Members come, go and are killed while messages flow: nothing is lost.
//!
//! `KASPER_CHURN_SECONDS` makes the churn tests longer than their 15 s.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

mod common;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Sender, brokers, committed_of, group_of, read_all, topic, wait_until};
use kasper::testkit::TestMessage;
use kasper::{Batch, BoxError, Context, Processor, RebalanceEvent};
use rdkafka::consumer::{BaseConsumer, Consumer as _};

const PARTITIONS: i32 = 4;

/// Tests that load the machine run one after the other: each is to see its own load.
static LOAD: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A `pass_through` process; its output goes to a file.
struct Member {
    process: Child,
    log: PathBuf,
}

impl Member {
    fn start(job: &Job) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = std::env::temp_dir().join(format!("{}-{number}.log", job.name));
        let mut command = Command::new(program::example("pass_through"));
        command.args(["--brokers", &brokers(), "--name", &job.name, "--output", &job.output]);
        command.args(job.inputs.iter().flat_map(|input| ["--input", input]));
        command.args(&job.arguments);
        let output = File::create(&log).unwrap();
        let errors = output.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(output).stderr(errors).env("RUST_LOG", "warn");
        Self { process: command.spawn().unwrap(), log }
    }

    fn kill(mut self) -> PathBuf {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.log.clone()
    }

    /// Ends it as an orchestrator does, and checks that it ends well.
    fn terminate(mut self) -> PathBuf {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let status = self.process.wait().unwrap();
        let log = std::fs::read_to_string(&self.log).unwrap();
        assert!(status.success(), "{status}\n{log}");
        self.log.clone()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

struct Job {
    name: String,
    inputs: Vec<String>,
    output: String,
    arguments: Vec<String>,
}

impl Job {
    async fn new(name: &str, inputs: usize, arguments: &[&str]) -> Self {
        let mut topics = Vec::new();
        for _ in 0..inputs {
            topics.push(topic("in", PARTITIONS).await);
        }
        Self {
            name: common::unique(name),
            inputs: topics,
            output: topic("out", PARTITIONS).await,
            arguments: arguments.iter().map(ToString::to_string).collect(),
        }
    }

    /// Messages flow until the returned flag is set; then the number sent per topic-partition.
    fn feed(&self, stop: Arc<AtomicBool>) -> thread::JoinHandle<u32> {
        let inputs = self.inputs.clone();
        thread::spawn(move || {
            let sender = Sender::new();
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..10 {
                    for (input, partition) in pairs(&inputs) {
                        let value = format!("{input}/{partition}/{number}");
                        sender.send(input, partition, &value);
                    }
                    number += 1;
                }
                thread::sleep(Duration::from_millis(5));
            }
            sender.flush();
            number
        })
    }

    fn committed(&self) -> BTreeMap<(String, i32), i64> {
        let pairs = pairs(&self.inputs).map(|(input, partition)| (input.as_str(), partition));
        committed_of(&group_of(&self.name), pairs)
    }

    fn wait_until_all_committed(&self, sent: u32) {
        wait_until(Duration::from_secs(60), || {
            let committed = self.committed();
            let mut pairs = pairs(&self.inputs);
            pairs.all(|(input, p)| committed.get(&(input.clone(), p)) == Some(&i64::from(sent)))
        });
    }

    /// Kills a member. What it had processed without a commit may come again: of its partitions, what lay between
    /// the offset that was committed before and the end of the log after. However long the two take to be asked
    /// for, nothing else can: neither goes back.
    fn kill(&self, member: Member) -> Killed {
        let committed = self.committed();
        let log = member.kill();
        let consumer: BaseConsumer = common::config_of(&[]).create().unwrap();
        let mut uncommitted = BTreeMap::new();
        for (partition, topics) in owned(&std::fs::read_to_string(&log).unwrap()) {
            for topic in topics {
                let limit = Duration::from_secs(10);
                let (_, end) = consumer.fetch_watermarks(&topic, partition, limit).unwrap();
                let name = format!("{topic}/{partition}");
                let start = committed.get(&(topic, partition)).copied().unwrap_or(0);
                uncommitted.insert(name, start..end);
            }
        }
        Killed { uncommitted, log }
    }

    /// Every message that was sent is in the output: once, and once more for each kill that found it
    /// processed without a commit. Members that lost their partitions, or whose last commit was refused, say
    /// so in their logs; each may repeat a message too.
    async fn check_output(&self, sent: u32, killed: &[Killed], logs: &[PathBuf]) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for message in read_all(&self.output).await {
            *counts.entry(message.value_text().unwrap().to_owned()).or_default() += 1;
        }
        let disturbed: usize = logs.iter().map(disturbances).sum();
        let expected = pairs(&self.inputs).count() * sent as usize;
        let duplicates: usize = counts.values().map(|count| count - 1).sum();
        let allowed: i64 = killed
            .iter()
            .flat_map(|killed| killed.uncommitted.values())
            .map(|o| o.end - o.start)
            .sum();
        println!(
            "{}: {expected} sent, {duplicates} duplicates of {allowed} that {} kills allow, {disturbed} \
             disturbances",
            self.name,
            killed.len()
        );
        let missing: Vec<_> = pairs(&self.inputs)
            .flat_map(|(input, p)| (0..sent).map(move |n| format!("{input}/{p}/{n}")))
            .filter(|value| !counts.contains_key(value))
            .collect();
        assert!(missing.is_empty(), "{} lost, such as {:?}", missing.len(), missing.first());
        for (value, count) in counts {
            // Numbers are offsets: one sender fills topics that were empty.
            let (partition, offset) = value.rsplit_once('/').unwrap();
            let offset: i64 = offset.parse().unwrap();
            let uncommitted = killed.iter().filter_map(|killed| killed.uncommitted.get(partition));
            let allowed = 1 + disturbed + uncommitted.filter(|o| o.contains(&offset)).count();
            assert!(
                count <= allowed,
                "{value} was sent on {count} times; {allowed} would be right"
            );
        }
    }
}

/// A member that was killed.
struct Killed {
    /// By topic-partition, the offsets that it may have processed without a commit.
    uncommitted: BTreeMap<String, Range<i64>>,
    log: PathBuf,
}

/// How often a member says that what it had finished comes again.
fn disturbances(log: &PathBuf) -> usize {
    let text = std::fs::read_to_string(log).unwrap();
    let is_one = |line: &&str| line.starts_with("lost") || line.contains("processed again");
    let lines: Vec<_> = text.lines().filter(is_one).collect();
    lines.iter().for_each(|line| println!("{line}"));
    lines.len()
}

fn pairs(inputs: &[String]) -> impl Iterator<Item = (&String, i32)> {
    inputs.iter().flat_map(|input| (0..PARTITIONS).map(move |partition| (input, partition)))
}

/// Three members join, leave and are killed, one every two seconds.
async fn churn(job: &Job) {
    let seconds = std::env::var("KASPER_CHURN_SECONDS").map_or(15, |text| text.parse().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let feeder = job.feed(stop.clone());
    let mut members = vec![Member::start(job)];
    let (mut logs, mut killed) = (Vec::new(), Vec::new());
    let started = Instant::now();
    for round in 0.. {
        thread::sleep(Duration::from_secs(2));
        if started.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
        match round % 4 {
            0 | 1 if members.len() < 3 => members.push(Member::start(job)),
            2 => logs.push(members.remove(0).terminate()),
            3 => killed.push(job.kill(members.remove(0))),
            _ => {}
        }
        if members.is_empty() {
            members.push(Member::start(job));
        }
    }
    stop.store(true, Ordering::Relaxed);
    let sent = feeder.join().unwrap();
    job.wait_until_all_committed(sent);
    logs.extend(members.into_iter().map(Member::terminate));
    logs.extend(killed.iter().map(|killed| killed.log.clone()));
    job.check_output(sent, &killed, &logs).await;
    let mut assignments = 0;
    for log in &logs {
        assignments += check_alignment(log, &job.inputs);
        std::fs::remove_file(log).unwrap();
    }
    assert!(assignments > 3, "the group was not rebalanced: {assignments} assignments");
    println!("{}: {assignments} assignments", job.name);
}

/// A member that has a partition number of one topic has it of all: joins see both sides.
fn check_alignment(log: &PathBuf, inputs: &[String]) -> usize {
    let text = std::fs::read_to_string(log).unwrap();
    let (mut owned, mut assignments) = (BTreeMap::new(), 0);
    for line in text.lines() {
        assignments += usize::from(follow(line, &mut owned) && line.starts_with("assigned"));
        for (partition, topics) in &owned {
            let complete = topics.is_empty() || topics.len() == inputs.len();
            assert!(complete, "partition {partition} is split after `{line}`: {topics:?}");
        }
    }
    assignments
}

/// Of each partition number, the topics that a member has.
type Owned = BTreeMap<i32, BTreeSet<String>>;

/// What a member has at the end of its log.
fn owned(log: &str) -> Owned {
    let mut owned = Owned::new();
    for line in log.lines() {
        follow(line, &mut owned);
    }
    owned
}

/// Whether the line tells of a rebalance, which changes what the member has.
fn follow(line: &str, owned: &mut Owned) -> bool {
    let mut words = line.split(' ');
    let what = words.next().unwrap_or_default();
    if !["assigned", "revoked", "lost"].contains(&what) {
        return false;
    }
    for name in words.filter(|name| !name.is_empty()) {
        let (topic, partition) = name.rsplit_once('/').unwrap();
        let topics = owned.entry(partition.parse().unwrap()).or_default();
        match what {
            "assigned" => topics.insert(topic.to_owned()),
            _ => topics.remove(topic),
        };
    }
    true
}

const CLASSIC: [&str; 4] =
    ["--kafka", "session.timeout.ms=1000", "--kafka", "heartbeat.interval.ms=300"];
const CONSUMER: [&str; 1] = ["--consumer-protocol"];

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn churn_in_a_classic_group() {
    let _alone = LOAD.lock().await;
    churn(&Job::new("churn-classic", 1, &CLASSIC).await).await;
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn churn_in_a_classic_group_that_joins_two_topics() {
    let _alone = LOAD.lock().await;
    churn(&Job::new("churn-classic-join", 2, &CLASSIC).await).await;
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn churn_in_a_kip_848_group() {
    let _alone = LOAD.lock().await;
    churn(&Job::new("churn-848", 1, &CONSUMER).await).await;
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn churn_in_a_kip_848_group_that_joins_two_topics() {
    let _alone = LOAD.lock().await;
    churn(&Job::new("churn-848-join", 2, &CONSUMER).await).await;
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn churn_in_a_cooperative_group() {
    let _alone = LOAD.lock().await;
    let assignor = ["--kafka", "partition.assignment.strategy=cooperative-sticky"];
    let arguments: Vec<_> = CLASSIC.into_iter().chain(assignor).collect();
    churn(&Job::new("churn-cooperative", 1, &arguments).await).await;
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn killed_ten_times_in_mid_run() {
    let _alone = LOAD.lock().await;
    let job = Job::new("killed", 1, &["--partitions", "0,1,2,3"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let feeder = job.feed(stop.clone());
    let mut killed = Vec::new();
    for round in 0..10 {
        let member = Member::start(&job);
        thread::sleep(Duration::from_millis(300 + 97 * round));
        killed.push(job.kill(member));
    }
    stop.store(true, Ordering::Relaxed);
    let sent = feeder.join().unwrap();
    let member = Member::start(&job);
    job.wait_until_all_committed(sent);
    let mut logs = vec![member.terminate()];
    logs.extend(killed.iter().map(|killed| killed.log.clone()));
    job.check_output(sent, &killed, &logs).await;
    logs.iter().for_each(|log| std::fs::remove_file(log).unwrap());
}

/// Takes 15 s for the batch with the message `slow`.
struct Slow(Arc<AtomicUsize>);

impl Processor for Slow {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        if batch.iter().any(|message| message.value() == Some(b"slow")) {
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
        self.0.fetch_add(batch.len(), Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_batch_longer_than_the_poll_interval_costs_no_partition() {
    let input = topic("slow", 2).await;
    let (name, events, count) =
        (common::unique("slow"), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut running = Vec::new();
    let mut handles = Vec::new();
    let mut owned = Vec::new();
    for _ in 0..2 {
        let (events, count) = (events.clone(), count.clone());
        let own = Arc::new(AtomicUsize::new(0));
        owned.push(own.clone());
        let processor = kasper::TopicProcessor::builder(&name, [&input])
            .brokers(brokers())
            .kafka("max.poll.interval.ms", "6000")
            .kafka("session.timeout.ms", "6000")
            .on_rebalance(move |event| {
                events.fetch_add(1, Ordering::Relaxed);
                let now = match event {
                    RebalanceEvent::Assigned(partitions) => partitions.len(),
                    _ => 0,
                };
                own.store(now, Ordering::Release);
            })
            .build(move |_| Slow(count.clone()))
            .await
            .unwrap();
        handles.push(processor.handle());
        running.push(tokio::spawn(processor.run()));
    }
    // Told by the hook, which comes last: the event is then counted.
    let one_each = || owned.iter().all(|own| own.load(Ordering::Acquire) == 1);
    common::eventually(Duration::from_secs(30), one_each).await;
    let before = events.load(Ordering::Relaxed);
    let slow = |partition| TestMessage::new(&input).partition(partition).value("slow");
    common::client().send_all([slow(0), slow(1)]).await.unwrap();
    let both = || count.load(Ordering::Relaxed) == 2;
    common::eventually(Duration::from_secs(30), both).await;
    assert_eq!(events.load(Ordering::Relaxed), before, "there was a rebalance");
    for handle in &handles {
        handle.close();
    }
    for run in running {
        run.await.unwrap().unwrap();
    }
    assert_eq!(count.load(Ordering::Relaxed), 2, "nothing was processed twice");
}
