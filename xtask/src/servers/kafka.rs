//! Apache Kafka: one node in KRaft mode, broker and controller in one process.

pub(super) mod cluster;
pub(super) mod forgetful;
mod probe;
mod security;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::certificate;
use super::instance::last_lines;
use super::maven::{self, Artifact};
use super::{Launch, Product, Server};
use crate::interrupt;
use crate::tools::Tool;

/// The newest release that runs on Java 17.
const VERSION: &str = "4.4.0";

/// The version of slf4j that this Kafka's jars are made for.
const SLF4J: &str = "1.7.36";

/// What is in Kafka's `bin` scripts. All that it depends on and that our tests use comes with the broker.
const TOOLS: Artifact = Artifact("org.apache.kafka", "kafka-tools", VERSION);

/// The entry for Kafka.
#[derive(Debug)]
pub(crate) struct Kafka;

impl Product for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn version(&self) -> &'static str {
        VERSION
    }

    fn tools(&self) -> &'static [Tool] {
        &[Tool::Java(17)]
    }

    fn fetch_tools(&self) -> &'static [Tool] {
        &[Tool::Maven]
    }

    fn fetch(&self, directory: &Path) -> Result<()> {
        println!("fetching Kafka {VERSION} from Maven Central (45 MB, once)");
        let artifacts = [
            Artifact("org.apache.kafka", "kafka_2.13", VERSION),
            Artifact("org.slf4j", "slf4j-simple", SLF4J),
        ];
        maven::fetch(&artifacts, directory)
    }
}

impl Server for Kafka {
    fn product(&self) -> &dyn Product {
        self
    }

    fn variable(&self) -> &'static str {
        "KASPER_TEST_KAFKA"
    }

    fn otherwise(&self) -> &'static str {
        "Or set KASPER_TEST_KAFKA=host:port to use your own Kafka (compose.yaml starts one with Docker)"
    }

    /// The broker's: unencrypted, `SSL`, `SASL_SSL`; and the controller's.
    fn ports(&self) -> usize {
        4
    }

    fn prepare(&self, launch: &Launch) -> Result<Command> {
        let &[broker, ssl, sasl_ssl, controller] = launch.ports.as_slice() else {
            bail!("Kafka needs four ports");
        };
        let config = launch.run_dir.join("server.properties");
        let ports = Ports { broker, ssl, sasl_ssl, controller };
        fs::write(&config, properties(&ports, &launch.run_dir))
            .with_context(|| format!("cannot write {}", config.display()))?;
        certificate::make(launch, true)?;
        format_storage(launch, &config)?;
        maven::add(TOOLS, &launch.files)?;
        let certificate = certificate::certificate(&launch.run_dir);
        launch.tell(&[
            ("KASPER_TEST_KAFKA_TOOLS", launch.files.join("lib").join("*").display().to_string()),
            ("KASPER_TEST_KAFKA_SSL", format!("127.0.0.1:{ssl}")),
            ("KASPER_TEST_KAFKA_SASL_SSL", format!("127.0.0.1:{sasl_ssl}")),
            ("KASPER_TEST_KAFKA_CA", certificate.display().to_string()),
        ])?;
        let mut command = java(launch, launch.heap_mb);
        command.arg("-XX:+UseG1GC").arg("kafka.Kafka").arg(config);
        Ok(command)
    }

    fn answers(&self, address: &str) -> Result<()> {
        probe::brokers_answer(address, 1)
    }
}

fn java(launch: &Launch, heap_mb: u32) -> Command {
    const LOGGER: &str = "-Dorg.slf4j.simpleLogger";
    let mut command = Command::new("java");
    // The asterisk is for Java, which takes it as "all jars here".
    command
        .arg("-cp")
        .arg(launch.files.join("lib").join("*"))
        .arg(format!("-Xmx{heap_mb}m"))
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
        java(launch, launch.heap_mb)
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", &cluster_id()])
            .args(["--add-scram", &security::scram_user(), "--config"])
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

/// Where a node listens.
struct Ports {
    broker: u16,
    ssl: u16,
    sasl_ssl: u16,
    controller: u16,
}

/// `server.properties` of a broker for tests: small, quick to react, and refusing what a test
/// should say itself.
fn properties(ports: &Ports, run_dir: &Path) -> String {
    let Ports { broker, ssl, sasl_ssl, controller } = ports;
    let clients = format!(
        "PLAINTEXT://127.0.0.1:{broker},SSL://127.0.0.1:{ssl},SASL_SSL://127.0.0.1:{sasl_ssl}"
    );
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={clients},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={clients}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
{security}
{ONE_NODE}
{TUNING}",
        data = run_dir.join("data").display(),
        security = security::properties(run_dir),
    )
}

const ONE_NODE: &str = "\
# One node: nothing can have more than one replica.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# A busy machine may stop the process for seconds: that must not fence the only broker.
broker.session.timeout.ms=60000
";

const TUNING: &str = "\
# Few partitions: the coordinators' topics have 50 by default, each with files to open and load.
num.partitions=4
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4

# A topic that a test did not create is a mistake in the test.
auto.create.topics.enable=false

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

    const PORTS: Ports = Ports { broker: 40001, ssl: 40002, sasl_ssl: 40003, controller: 40004 };

    #[test]
    fn properties_name_ports_and_directory() {
        let text = properties(&PORTS, Path::new("/a b"));
        let clients =
            "PLAINTEXT://127.0.0.1:40001,SSL://127.0.0.1:40002,SASL_SSL://127.0.0.1:40003";
        assert!(
            text.contains(&format!("\nlisteners={clients},CONTROLLER://127.0.0.1:40004\n")),
            "{text}"
        );
        assert!(text.contains(&format!("\nadvertised.listeners={clients}\n")));
        assert!(text.contains("\ncontroller.quorum.voters=1@127.0.0.1:40004\n"));
        assert!(text.contains("\nlog.dirs=/a b/data\n"));
    }

    #[test]
    fn no_property_is_set_twice() {
        let text = properties(&PORTS, Path::new("/run"));
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
        let lines = ONE_NODE.lines().chain(TUNING.lines());
        for line in lines.filter(|line| line.contains('=') && !line.starts_with('#')) {
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
