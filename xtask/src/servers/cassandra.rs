//! Apache Cassandra: one node, which wants a password and comes back by itself when it is killed.
//!
//! A shell script runs it, as an orchestrator would: a test can kill it in mid-write and find it again,
//! with its data. Another script kills.

mod probe;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::certificate::{self, STORE_PASSWORD};
use super::maven::{self, Artifact};
use super::{Launch, Product, Server, script};
use crate::tools::Tool;

const VERSION: &str = "5.0.5";

/// The jar that measures objects in memory, without which Cassandra does not start.
const JAMM: &str = "jamm-0.4.0.jar";

/// What the server makes by itself when it wants passwords. The tests know them too.
const USER: &str = "cassandra";
const PASSWORD: &str = "cassandra";

/// The entry for Cassandra.
#[derive(Debug)]
pub(crate) struct Cassandra;

impl Product for Cassandra {
    fn name(&self) -> &'static str {
        "cassandra"
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
        println!("fetching Cassandra {VERSION} from Maven Central (66 MB, once)");
        let artifact = Artifact("org.apache.cassandra", "cassandra-all", VERSION);
        maven::fetch(&[artifact], directory)
    }
}

impl Server for Cassandra {
    fn product(&self) -> &dyn Product {
        self
    }

    fn variable(&self) -> &'static str {
        "KASPER_TEST_CASSANDRA"
    }

    fn otherwise(&self) -> &'static str {
        "Or set KASPER_TEST_CASSANDRA=host:port to use your own Cassandra"
    }

    /// For clients, and for other nodes.
    fn ports(&self) -> usize {
        2
    }

    fn prepare(&self, launch: &Launch) -> Result<Command> {
        let &[clients, nodes] = launch.ports.as_slice() else {
            bail!("Cassandra needs two ports");
        };
        certificate::make(launch, false)?;
        let conf = launch.run_dir.join("conf");
        fs::create_dir(&conf).with_context(|| format!("cannot create {}", conf.display()))?;
        launch.write("conf/cassandra.yaml", &settings(clients, nodes, &launch.run_dir))?;
        launch.write("conf/logback.xml", LOGGING)?;
        launch.write("cassandra.sh", &script::again_when_killed(&script::line(&java(launch))))?;
        launch.write("kill.sh", script::KILL)?;
        let kill = launch.run_dir.join("kill.sh").display().to_string();
        launch.tell(&[
            (self.variable(), format!("127.0.0.1:{clients}")),
            ("KASPER_TEST_CASSANDRA_KILL", kill),
            (
                "KASPER_TEST_CASSANDRA_CA",
                certificate::certificate(&launch.run_dir).display().to_string(),
            ),
        ])?;
        let mut command = Command::new("sh");
        command.arg("cassandra.sh");
        Ok(command)
    }

    fn answers(&self, address: &str) -> Result<()> {
        probe::lets_in(address, USER, PASSWORD)
    }
}

fn java(launch: &Launch) -> Command {
    let mut command = Command::new("java");
    let lib = launch.files.join("lib");
    let conf = launch.run_dir.join("conf");
    command.arg(format!("-Xmx{}m", launch.heap_mb)).args(["-XX:+UseSerialGC", "-Xss512k"]);
    for (module, packages) in OPENED {
        for package in packages.split_whitespace() {
            command.args(["--add-exports".to_owned(), format!("{module}/{package}=ALL-UNNAMED")]);
            command.args(["--add-opens".to_owned(), format!("{module}/{package}=ALL-UNNAMED")]);
        }
    }
    command
        .arg(format!("-Dcassandra.config=file://{}", conf.join("cassandra.yaml").display()))
        .arg(format!("-Dcassandra.storagedir={}", launch.run_dir.join("data").display()))
        .args(PROPERTIES)
        .arg(format!("-javaagent:{}", lib.join(JAMM).display()))
        .arg("-cp")
        // The asterisk is for Java, which takes it as "all jars here".
        .arg(format!("{}:{}", conf.display(), lib.join("*").display()))
        .arg("org.apache.cassandra.service.CassandraDaemon");
    command
}

/// Parts of Java's own that Cassandra reaches into.
const OPENED: &[(&str, &str)] = &[
    (
        "java.base",
        "java.io java.lang java.lang.reflect java.net java.nio java.nio.file.attribute java.util \
         java.util.concurrent java.util.concurrent.atomic jdk.internal.misc jdk.internal.ref \
         jdk.internal.reflect jdk.internal.math jdk.internal.module jdk.internal.util.jar sun.nio.ch",
    ),
    ("java.logging", "java.util.logging"),
    ("java.management.rmi", "com.sun.jmx.remote.internal.rmi"),
    ("java.management", "com.sun.jmx.remote.security"),
    ("java.rmi", "sun.rmi.registry sun.rmi.server sun.rmi.transport sun.rmi.transport.tcp"),
    ("java.sql", "java.sql"),
    ("jdk.management", "com.sun.management.internal"),
    ("jdk.unsupported", "sun.misc"),
];

/// A node alone need not wait for others, and passwords need not be hard to guess.
const PROPERTIES: &[&str] = &[
    "-Djdk.attach.allowAttachSelf=true",
    "-Dcassandra-foreground=yes",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.ring_delay_ms=1000",
    "-Dcassandra.superuser_setup_delay_ms=0",
    "-Dcassandra.auth_bcrypt_gensalt_log2_rounds=4",
];

/// `cassandra.yaml` of a node for tests. Limits are the defaults: tests meet those of production.
fn settings(clients: u16, nodes: u16, run_dir: &Path) -> String {
    let data = run_dir.join("data");
    let data = data.display();
    let store = certificate::key_store(run_dir);
    let store = store.display();
    format!(
        "\
cluster_name: kasper
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: \"127.0.0.1:{nodes}\"
endpoint_snitch: SimpleSnitch
listen_address: 127.0.0.1
storage_port: {nodes}
rpc_address: 127.0.0.1
start_native_transport: true
native_transport_port: {clients}
authenticator: PasswordAuthenticator
authorizer: CassandraAuthorizer
role_manager: CassandraRoleManager
# With TLS and without it, on the same port.
client_encryption_options:
  enabled: true
  optional: true
  keystore: \"{store}\"
  keystore_password: {STORE_PASSWORD}
  store_type: PKCS12
commitlog_sync: periodic
commitlog_sync_period: 10000ms
commitlog_total_space: 512MiB
auto_snapshot: false
data_file_directories: [\"{data}/data\"]
commitlog_directory: \"{data}/commitlog\"
saved_caches_directory: \"{data}/saved_caches\"
hints_directory: \"{data}/hints\"
cdc_raw_directory: \"{data}/cdc_raw\"
"
    )
}

const LOGGING: &str = r#"<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{HH:mm:ss.SSS} %-5level %logger{0}: %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="out"/></root>
</configuration>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_ports_and_directory() {
        let text = settings(40001, 40002, Path::new("/a b"));
        assert!(text.contains("\nnative_transport_port: 40001\n"), "{text}");
        assert!(text.contains("\nstorage_port: 40002\n"));
        assert!(text.contains("- seeds: \"127.0.0.1:40002\"\n"));
        assert!(text.contains("\ncommitlog_directory: \"/a b/data/commitlog\"\n"));
    }
}
