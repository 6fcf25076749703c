//! What a stalled job takes, resident, whatever its messages look like: within what `max_buffered_bytes`
//! promises, and about what its metric says. Each job is a process of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

mod common;
mod program;

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{brokers, topic, unique, wait_until};
use kasper::Bytes;
use kasper::testkit::{TestClient, TestMessage};

const PARTITIONS: i32 = 12;
const MIB: u64 = 1 << 20;
const ALL: usize = usize::MAX;

/// What messages look like.
struct Shape {
    name: &'static str,
    /// More than a job fetches with a budget of 64 MiB, and than it may hold with one of 8 MiB.
    messages: u32,
    key: Option<[u8; 20]>,
    value: Option<Vec<u8>>,
    headers: usize,
}

fn shapes() -> [Shape; 4] {
    let shape = |name, messages| Shape { name, messages, key: None, value: None, headers: 0 };
    [
        Shape { value: Some(vec![7; 20]), ..shape("values of 20 bytes", 400_000) },
        Shape { key: Some([7; 20]), ..shape("tombstones", 400_000) },
        Shape { value: Some(vec![7; 1024]), ..shape("values of 1 KiB", 110_000) },
        Shape { value: Some(vec![7; 20]), headers: 10, ..shape("ten headers", 250_000) },
    ]
}

impl Shape {
    async fn filled_topic(&self) -> String {
        let topic = topic("memory", PARTITIONS).await;
        // A broker returns whole batches, which on a busy machine would have ten thousand messages each.
        let batches = ("batch.num.messages", "1000");
        let properties = [("queue.buffering.max.messages", "200000"), ("linger.ms", "20"), batches];
        let client = TestClient::new(brokers(), &properties).unwrap();
        let mut message = TestMessage::new(&topic);
        message.key = self.key.as_ref().map(|key| Bytes::copy_from_slice(key));
        message.value = self.value.clone().map(Bytes::from);
        for number in 0..self.headers {
            message = message.header(format!("header-{number}"), "twenty bytes of text");
        }
        let partitions = (0..PARTITIONS).cycle().take(self.messages as usize);
        let messages = partitions.map(|partition| message.clone().partition(partition));
        client.send_all(messages).await.unwrap();
        topic
    }
}

/// A job that never finishes its first batches.
struct Stalled {
    process: Child,
    log: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    resident: u64,
    /// What its metric says.
    buffered: u64,
}

impl Stalled {
    fn start(input: &str, budget: u64, max_batch_messages: usize) -> Self {
        let name = unique("stalled");
        let log = std::env::temp_dir().join(format!("{name}.log"));
        let mut command = Command::new(program::example("pass_through"));
        command.args(["--brokers", &brokers(), "--name", &name, "--input", input, "--stall"]);
        command.args(["--output", "nothing-is-sent", "--partitions", "0,1,2,3,4,5,6,7,8,9,10,11"]);
        command.args(["--max-buffered-bytes", &budget.to_string()]);
        if max_batch_messages != ALL {
            command.args(["--max-batch-messages", &max_batch_messages.to_string()]);
        }
        let output = File::create(&log).unwrap();
        let errors = output.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(output).stderr(errors).env("RUST_LOG", "warn");
        Self { process: command.spawn().unwrap(), log }
    }

    fn memory(&self) -> Memory {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        let resident = resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
        let log = std::fs::read_to_string(&self.log).unwrap();
        let buffered = log.lines().rev().find_map(|line| line.strip_prefix("buffered "));
        Memory { resident, buffered: buffered.map_or(0, |bytes| bytes.parse().unwrap_or(0)) }
    }

    /// Waits until nothing has changed for two seconds.
    fn steady(self, is_begun: impl Fn(Memory) -> bool) -> Memory {
        let (mut last, mut since) = (self.memory(), Instant::now());
        wait_until(Duration::from_secs(60), || {
            let now = self.memory();
            if now != last || !is_begun(now) {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() > Duration::from_secs(2)
        });
        last
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
        let _log = std::fs::remove_file(&self.log);
    }
}

/// librdkafka's own bound counts values only. Of tombstones it held a million for each partition.
#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_stalled_job_stays_within_its_memory_and_its_metric_says_what_it_holds() {
    let empty = topic("memory", PARTITIONS).await;
    let log_is_there = |memory: Memory| memory.resident > MIB;
    let nothing = Stalled::start(&empty, 64 * MIB, ALL).steady(log_is_there).resident;
    println!("with nothing to read: {} MiB", nothing / MIB);
    for shape in shapes() {
        let (name, input) = (shape.name, shape.filled_topic().await);
        let budgets = [8 * MIB, 64 * MIB];
        let jobs = budgets.map(|budget| Stalled::start(&input, budget, ALL));
        // All but twelve of its messages wait in queues, and none in `process`.
        let queued = Stalled::start(&input, 64 * MIB, 1);
        let has_fetched = |memory: Memory| memory.buffered > 0;
        for (budget, job) in budgets.into_iter().zip(jobs) {
            let Memory { resident, buffered } = job.steady(has_fetched);
            let [b, r, f] = [budget, resident, buffered].map(|bytes| bytes / MIB);
            println!("{name}: a budget of {b} MiB, {r} MiB resident, {f} MiB buffered");
            assert!(resident <= 2 * budget + 64 * MIB, "{name}: {r} MiB with {b}");
        }
        let Memory { resident, buffered } = queued.steady(has_fetched);
        let held = resident - nothing;
        let [h, f] = [held, buffered].map(|bytes| bytes / MIB);
        println!("{name}: {h} MiB in queues, {f} MiB buffered");
        assert!(held.abs_diff(buffered) * 10 <= held * 3, "{name}: {h} MiB held, {f} buffered");
    }
}
