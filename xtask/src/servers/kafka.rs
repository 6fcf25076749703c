//! Apache Kafka: one node in KRaft mode, broker and controller in one process.

mod probe;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::instance::last_lines;
use super::maven::{self, Artifact};
use super::{Launch, Server};
use crate::interrupt;
use crate::tools::Tool;

/// The newest release that runs on Java 17.
const VERSION: &str = "4.4.0";

/// The version of slf4j that this Kafka's jars are made for.
const SLF4J: &str = "1.7.36";

/// The entry for Kafka.
#[derive(Debug)]
pub(crate) struct Kafka;

impl Server for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn version(&self) -> &'static str {
        VERSION
    }

    fn variable(&self) -> &'static str {
        "KASPER_TEST_KAFKA"
    }

    fn tools(&self) -> &'static [Tool] {
        &[Tool::Java(17)]
    }

    fn fetch_tools(&self) -> &'static [Tool] {
        &[Tool::Maven]
    }

    /// The broker's and the controller's.
    fn ports(&self) -> usize {
        2
    }

    fn fetch(&self, directory: &Path) -> Result<()> {
        println!("fetching Kafka {VERSION} from Maven Central (45 MB, once)");
        let artifacts = [
            Artifact("org.apache.kafka", "kafka_2.13", VERSION),
            Artifact("org.slf4j", "slf4j-simple", SLF4J),
        ];
        maven::fetch(&artifacts, directory)
    }

    fn prepare(&self, launch: &Launch) -> Result<Command> {
        let &[broker, controller] = launch.ports.as_slice() else {
            bail!("Kafka needs two ports");
        };
        let config = launch.run_dir.join("server.properties");
        fs::write(&config, properties(broker, controller, &launch.run_dir.join("data")))
            .with_context(|| format!("cannot write {}", config.display()))?;
        format_storage(launch, &config)?;

        let mut command = java(launch);
        command
            .arg(format!("-Xmx{}m", launch.heap_mb))
            .arg("-XX:+UseG1GC")
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .args([
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
            ])
            .arg("kafka.Kafka")
            .arg(config);
        Ok(command)
    }

    fn answers(&self, address: &str) -> Result<()> {
        probe::broker_answers(address)
    }
}

fn java(launch: &Launch) -> Command {
    const LOGGER: &str = "-Dorg.slf4j.simpleLogger";
    let mut command = Command::new("java");
    // The asterisk is for Java, which takes it as "all jars here".
    command
        .arg("-cp")
        .arg(launch.files.join("lib").join("*"))
        .arg(format!("-Xmx{}m", launch.heap_mb))
        .arg(format!("{LOGGER}.defaultLogLevel=warn"))
        .arg(format!("{LOGGER}.showDateTime=true"))
        .arg(format!("{LOGGER}.dateTimeFormat=HH:mm:ss.SSS"));
    command
}

/// Writes the cluster's id into the data directory, without which Kafka 4 does not start.
fn format_storage(launch: &Launch, config: &Path) -> Result<()> {
    let log = launch.log();
    let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let errors = output.try_clone().context("cannot share the log")?;
    let status = interrupt::run(
        java(launch)
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", &cluster_id(), "--config"])
            .arg(config)
            .stdout(output)
            .stderr(errors),
    )?;
    if !status.success() {
        bail!("formatting its storage ended with {status}:\n{}", last_lines(&log, 20));
    }
    Ok(())
}

/// Kafka takes any 22 characters of URL-safe base64 (16 bytes) as a cluster's id; ours tells when
/// it was made.
fn cluster_id() -> String {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    // The last character stands for 4 bits only: the decoder wants its other 2 to be zero, which
    // `A` is.
    format!("kasper{millis:0>15}A")
}

/// `server.properties` of a broker for tests: small, quick to react, and refusing what a test
/// should say itself.
fn properties(broker: u16, controller: u16, data: &Path) -> String {
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
{TUNING}",
        data = data.display()
    )
}

const TUNING: &str = "\
# One node: nothing can have more than one replica.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# Few partitions: the coordinators' topics have 50 by default, each with files to open and load.
num.partitions=4
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4

# A topic that a test did not create is a mistake in the test.
auto.create.topics.enable=false

# A busy machine may stop the process for seconds: that must not fence the only broker.
broker.session.timeout.ms=60000

# Groups, classic protocol: no wait for further members, short sessions allowed.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000

# Groups, consumer protocol (KIP-848): the broker sets sessions and heartbeats for all members.
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=500
group.consumer.assignment.interval.ms=0

# Retention and compaction act within a second or so on topics that ask for it.
log.initial.task.delay.ms=500
log.retention.check.interval.ms=1000
log.segment.delete.delay.ms=1000
log.cleaner.backoff.ms=200
log.cleaner.min.cleanable.ratio=0.01
# The default of 128 MiB is a quarter of the heap.
log.cleaner.dedupe.buffer.size=16777216
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_name_ports_and_directory() {
        let text = properties(40001, 40002, Path::new("/a b/data"));
        assert!(
            text.contains("\nlisteners=PLAINTEXT://127.0.0.1:40001,CONTROLLER://127.0.0.1:40002\n")
        );
        assert!(text.contains("\nadvertised.listeners=PLAINTEXT://127.0.0.1:40001\n"));
        assert!(text.contains("\ncontroller.quorum.voters=1@127.0.0.1:40002\n"));
        assert!(text.contains("\nlog.dirs=/a b/data\n"));
    }

    #[test]
    fn no_property_is_set_twice() {
        let text = properties(1, 2, Path::new("/data"));
        let mut keys: Vec<&str> = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split_once('=').expect("key=value").0)
            .collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn the_compose_file_starts_the_same_kafka() {
        let compose = include_str!("../../../compose.yaml");
        assert!(compose.contains(&format!("image: apache/kafka:{VERSION}\n")));
        for line in TUNING.lines().filter(|line| line.contains('=') && !line.starts_with('#')) {
            let (key, value) = line.split_once('=').expect("key=value");
            let variable = key.to_uppercase().replace('.', "_");
            let expected = format!("KAFKA_{variable}: \"{value}\"\n");
            assert!(compose.contains(&expected), "compose.yaml lacks {expected}");
        }
    }

    #[test]
    fn a_cluster_id_has_the_length_kafka_wants() {
        assert_eq!(cluster_id().len(), 22);
    }
}
