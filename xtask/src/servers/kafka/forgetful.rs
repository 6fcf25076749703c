//! One broker that keeps a group's offsets for a minute, for tests that want to see them expire.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::super::{Launch, Product, Server};
use super::{Kafka, ONE_NODE, TUNING, format_storage, java, probe};

/// The entry for the broker.
#[derive(Debug)]
pub(crate) struct Forgetful;

impl Server for Forgetful {
    fn name(&self) -> &'static str {
        "kafka-forgetful"
    }

    fn product(&self) -> &dyn Product {
        &Kafka
    }

    fn variable(&self) -> &'static str {
        "KASPER_TEST_KAFKA_FORGETFUL"
    }

    fn otherwise(&self) -> &'static str {
        "Or leave the tests with a cluster out: cargo xtask test --without cluster"
    }

    /// The broker's and the controller's.
    fn ports(&self) -> usize {
        2
    }

    fn prepare(&self, launch: &Launch) -> Result<Command> {
        let &[broker, controller] = launch.ports.as_slice() else {
            bail!("the broker needs two ports");
        };
        launch.write("server.properties", &properties(broker, controller, &launch.run_dir))?;
        let config = launch.run_dir.join("server.properties");
        format_storage(launch, &config)?;
        let mut command = java(launch, HEAP_MB);
        command.arg("-XX:+UseSerialGC").arg("kafka.Kafka").arg(config);
        Ok(command)
    }

    fn answers(&self, address: &str) -> Result<()> {
        probe::brokers_answer(address, 1)
    }
}

const HEAP_MB: u32 = 256;

fn properties(broker: u16, controller: u16, run_dir: &Path) -> String {
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
{ONE_NODE}
{TUNING}
offsets.retention.minutes=1
offsets.retention.check.interval.ms=5000
",
        data = run_dir.join("data").display(),
    )
}
