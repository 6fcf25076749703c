//! A Redis Cluster of three servers without replicas, run by a shell script.

use std::process::Command;

use anyhow::{Result, bail};

use super::super::{Launch, Product, Server, script};
use super::{Redis, ask, server};

const NODES: usize = 3;

/// The entry for the cluster.
#[derive(Debug)]
pub(crate) struct Cluster;

impl Server for Cluster {
    fn name(&self) -> &'static str {
        "redis-cluster"
    }

    fn product(&self) -> &dyn Product {
        &Redis
    }

    fn variable(&self) -> &'static str {
        "KASPER_TEST_REDIS_CLUSTER"
    }

    fn otherwise(&self) -> &'static str {
        Redis.otherwise()
    }

    /// For clients, and among themselves.
    fn ports(&self) -> usize {
        2 * NODES
    }

    fn prepare(&self, launch: &Launch) -> Result<Command> {
        let Some((ports, bus_ports)) = launch.ports.split_at_checked(NODES) else {
            bail!("the cluster needs {} ports", self.ports());
        };
        for (index, (port, bus_port)) in ports.iter().zip(bus_ports).enumerate() {
            launch.write(
                &format!("node-{}.sh", index + 1),
                &node_script(index + 1, *port, *bus_port),
            )?;
        }
        let addresses: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        launch.write("cluster.sh", &CLUSTER_SCRIPT.replace("ADDRESSES", &addresses.join(" ")))?;
        launch.tell(&[(self.variable(), addresses.join(","))])?;
        let mut command = Command::new("sh");
        command.arg("cluster.sh");
        Ok(command)
    }

    fn answers(&self, address: &str) -> Result<()> {
        let answer = ask(address, "CLUSTER INFO")?;
        let all = format!("cluster_known_nodes:{NODES}\r");
        match answer.contains("cluster_state:ok") && answer.contains(&all) {
            true => Ok(()),
            false => bail!("the answer to CLUSTER INFO is {answer:?}"),
        }
    }
}

/// Becomes the server.
fn node_script(node: usize, port: u16, bus_port: u16) -> String {
    let mut command = server(port);
    let file = format!("nodes-{node}.conf");
    command.args(["--cluster-enabled", "yes", "--cluster-config-file", &file]);
    command.args(["--cluster-port", &bus_port.to_string()]);
    format!("exec {}\n", script::line(&command))
}

/// A server that ends, ends everything, so that whoever waits for it need not wait in vain.
const CLUSTER_SCRIPT: &str = "\
for node in 1 2 3; do
  { sh node-$node.sh; kill -KILL 0; } &
done
until redis-cli --cluster create ADDRESSES --cluster-yes; do
  sleep 0.2
done
wait
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_its_ports_and_its_file() {
        let script = node_script(2, 7001, 7101);
        for part in ["'--port' '7001'", "'--cluster-port' '7101'", "'nodes-2.conf'", "'--save' ''"]
        {
            assert!(script.contains(part), "{part} in {script}");
        }
    }
}
