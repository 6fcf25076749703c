//! Three brokers, for tests that kill one.
//!
//! A shell script runs them, and starts one again that was killed, as an orchestrator would: so the
//! cluster is whole again for the next test. Another script kills.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::super::{Launch, Product, Server, script};
use super::{Kafka, TUNING, cluster_id, java, probe};

const BROKERS: usize = 3;

/// For each of the three.
const HEAP_MB: u32 = 256;

/// The entry for the cluster.
#[derive(Debug)]
pub(crate) struct Cluster;

impl Server for Cluster {
    fn name(&self) -> &'static str {
        "kafka-cluster"
    }

    fn product(&self) -> &dyn Product {
        &Kafka
    }

    fn variable(&self) -> &'static str {
        "KASPER_TEST_KAFKA_CLUSTER"
    }

    fn otherwise(&self) -> &'static str {
        "Or leave the tests with a cluster out: cargo xtask test --without cluster"
    }

    /// The brokers' and the controllers'.
    fn ports(&self) -> usize {
        2 * BROKERS
    }

    fn prepare(&self, launch: &Launch) -> Result<Command> {
        let Some((brokers, controllers)) = launch.ports.split_at_checked(BROKERS) else {
            bail!("the cluster needs {} ports", self.ports());
        };
        let cluster = cluster_id();
        for node in 1..=BROKERS {
            let properties = properties(node, brokers, controllers, &launch.run_dir)?;
            launch.write(&format!("broker-{node}.properties"), &properties)?;
            launch.write(&format!("broker-{node}.sh"), &broker_script(node, launch, &cluster))?;
        }
        launch.write("cluster.sh", CLUSTER_SCRIPT)?;
        launch.write("kill.sh", KILL_SCRIPT)?;
        let addresses: Vec<String> =
            brokers.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let kill = launch.run_dir.join("kill.sh").display().to_string();
        launch.tell(&[
            (self.variable(), addresses.join(",")),
            ("KASPER_TEST_KAFKA_CLUSTER_KILL", kill),
        ])?;
        let mut command = Command::new("sh");
        command.arg("cluster.sh");
        Ok(command)
    }

    fn answers(&self, address: &str) -> Result<()> {
        probe::brokers_answer(address, i32::try_from(BROKERS).unwrap_or(i32::MAX))
    }
}

/// Formats its storage the first time, and becomes the broker.
fn broker_script(node: usize, launch: &Launch, cluster: &str) -> String {
    let mut java = java(launch, HEAP_MB);
    // Three of them start at once: better to start soon than to compile well.
    java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    let java = script::line(&java);
    format!(
        "\
[ -e data-{node}/meta.properties ] || \\
  {java} kafka.tools.StorageTool format --cluster-id {cluster} --config broker-{node}.properties || exit
exec {java} kafka.Kafka broker-{node}.properties
"
    )
}

/// A broker that was killed (137 is 128 and SIGKILL) starts again, after a while in which the others
/// have to do without it. One that ends otherwise ends everything, so that whoever waits for it need
/// not wait in vain.
const CLUSTER_SCRIPT: &str = "\
for node in 1 2 3; do
  while :; do
    sh broker-$node.sh &
    echo $! > pid-$node
    wait $!
    [ $? = 137 ] || kill -KILL 0
    sleep 5
  done &
done
wait
";

const THREE_NODES: &str = "\
# What is acknowledged is at two brokers at least: any one can go.
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2

# A broker that was killed is missed soon.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
";

/// `sh kill.sh NODE`
const KILL_SCRIPT: &str = "\
kill -KILL \"$(cat \"$(dirname \"$0\")/pid-$1\")\"
";

fn properties(node: usize, brokers: &[u16], controllers: &[u16], run_dir: &Path) -> Result<String> {
    let index = node - 1;
    let (Some(broker), Some(controller)) = (brokers.get(index), controllers.get(index)) else {
        bail!("no ports for broker {node}");
    };
    let mut voters = String::new();
    for (index, port) in controllers.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(voters, "{comma}{}@127.0.0.1:{port}", index + 1);
    }
    Ok(format!(
        "\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
{THREE_NODES}
{TUNING}",
        data = run_dir.join(format!("data-{node}")).display(),
    ))
}
