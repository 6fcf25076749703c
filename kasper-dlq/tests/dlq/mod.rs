//! A dead letter topic and its source topics on a real Kafka, and the program that works on them.

use std::collections::BTreeMap;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use kasper::testkit::{TestClient, TestMessage};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::process::{Child, Command};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The brokers to test against. There is no test without them: it fails, and says why.
pub(crate) fn brokers() -> String {
    std::env::var("KASPER_TEST_KAFKA")
        .expect("this test needs a Kafka: run it with `cargo xtask test`, or set KASPER_TEST_KAFKA")
}

/// Topics of one test.
pub(crate) struct Topics {
    pub(crate) client: TestClient,
    /// The dead letter topic, with two partitions.
    pub(crate) letters: String,
    /// What letters came from, with four partitions.
    pub(crate) source: String,
}

impl Topics {
    pub(crate) async fn create(test: &str) -> Self {
        let (letters, source) = (unique(&format!("{test}-dlq")), unique(&format!("{test}-source")));
        let client = TestClient::new(brokers(), &[]).unwrap();
        for (topic, partitions) in [(&letters, 2), (&source, 4)] {
            client.create_topic(topic, partitions).await.unwrap();
            wait_for(topic, partitions).await;
        }
        Self { client, letters, source }
    }

    /// Sends `count` letters whose values are numbers from `first` on, evenly from the partitions of the source.
    pub(crate) async fn send_numbers(&self, first: i32, count: i32) {
        let letter = |number: i32| {
            let original = TestMessage::new("").key(number.to_string()).value(number.to_string());
            self.letter(original, number % 4, "process failed")
        };
        let letters: Vec<TestMessage> = (first..first + count).map(letter).collect();
        self.client.send_all(letters).await.unwrap();
    }

    /// A letter as the library writes it.
    pub(crate) fn letter(&self, original: TestMessage, partition: i32, kind: &str) -> TestMessage {
        let replayed = original.header_text("kasper.redriven").unwrap_or("0").to_owned();
        let mut letter = original;
        letter.topic.clone_from(&self.letters);
        letter
            .partition(partition % 2)
            .header("__dlq.errors.topic", self.source.as_str())
            .header("__dlq.errors.partition", partition.to_string())
            .header("__dlq.errors.offset", "1289")
            .header("__dlq.errors.group", "billing-group")
            .header("__dlq.errors.delivery.count", "2")
            .header("__dlq.errors.message", format!("{kind}: no such currency"))
            .header("kasper.error.kind", kind)
            .header("kasper.error.causes", "no such currency\nXYZ")
            .header("kasper.error.processor", "billing")
            .header("kasper.error.time", format!("2026-12-01T03:33:2{partition}.123Z"))
            .header("kasper.error.replayed", replayed)
            .header("kafka_dlt-original-topic", self.source.as_str())
    }

    pub(crate) async fn read(&self, topic: &str) -> Vec<TestMessage> {
        self.client.read_all(topic).await.unwrap()
    }

    /// The numbers in the source topic, in the order of partitions and offsets.
    pub(crate) async fn numbers(&self) -> Vec<i32> {
        let messages = self.read(&self.source).await;
        messages.iter().map(|message| message.value_text().unwrap().parse().unwrap()).collect()
    }

    /// Waits until so many messages have arrived in the source topic.
    pub(crate) async fn arrived(&self, count: usize) {
        let begun = Instant::now();
        while self.read(&self.source).await.len() < count {
            assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}");
        }
    }

    /// The next offset that a replay without filters has committed, by partition.
    pub(crate) fn committed(&self) -> BTreeMap<i32, i64> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers());
        config.set("group.id", format!("kasper-dlq.{}", self.letters));
        let consumer: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..2 {
            list.add_partition(&self.letters, partition);
        }
        let committed = consumer.committed_offsets(list, Duration::from_secs(10)).unwrap();
        let offset = |partition: i32| match committed.find_partition(&self.letters, partition) {
            Some(element) => match element.offset() {
                Offset::Offset(offset) => offset,
                _ => 0,
            },
            None => 0,
        };
        (0..2).map(|partition| (partition, offset(partition))).collect()
    }

    pub(crate) fn command(&self, command: &str, arguments: &[&str]) -> Command {
        let mut program = program();
        program.args([command, &self.letters]).args(arguments);
        program.env("KASPER_DLQ_BROKERS", brokers());
        program
    }

    /// Runs the program to its end, without a terminal.
    pub(crate) async fn run(&self, command: &str, arguments: &[&str]) -> Ran {
        Ran::of(self.command(command, arguments).output().await.unwrap())
    }

    /// Runs a replay that is not asked for, and succeeds.
    pub(crate) async fn replay(&self, arguments: &[&str]) -> Ran {
        let ran = self.run("replay", &[&["--yes"], arguments].concat()).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran
    }

    pub(crate) fn start(&self, command: &str, arguments: &[&str]) -> Child {
        let mut command = self.command(command, arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().unwrap()
    }
}

pub(crate) fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_kasper-dlq"));
    program.env_remove("KASPER_DLQ_BROKERS").stdin(Stdio::null());
    program
}

/// What the program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    pub(crate) async fn end_of(child: Child) -> Self {
        Self::of(child.wait_with_output().await.unwrap())
    }
}

/// The broker answers before it serves the topic's partitions.
async fn wait_for(topic: &str, partitions: i32) {
    let mut config = ClientConfig::new();
    let consumer: BaseConsumer = config.set("bootstrap.servers", brokers()).create().unwrap();
    let begun = Instant::now();
    let is_served = |partition| consumer.fetch_watermarks(topic, partition, LIMIT).is_ok();
    while !(0..partitions).all(is_served) {
        assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn signal(child: &Child, signal: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
}

/// A name that no other test run has used.
fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = UNIX_EPOCH.elapsed().unwrap().as_millis();
    format!("{name}-{now}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
