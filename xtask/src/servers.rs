//! Real servers for tests and benchmarks, started here, without Docker.
//!
//! [`Name`] has one entry per kind of server; an entry (one file in `servers/`) says what
//! to fetch, how to lay out a run and how to tell that it answers. The rest is the same for all:
//! ports, state files, starting, stopping.

mod cassandra;
mod certificate;
mod elasticsearch;
mod home;
mod http;
mod instance;
mod kafka;
mod maven;
mod redis;
mod registry;
mod script;
mod session;
mod state;

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};

use crate::tools::Tool;
use home::Home;
pub(crate) use instance::Purpose;
pub(crate) use maven::{Artifact, fetch as fetch_jars};
pub(crate) use session::Session;

/// Start, stop and list the servers that tests need.
///
/// They listen on free ports of 127.0.0.1 and keep everything under `.servers/` (or the directory
/// that KASPER_SERVERS_DIR names). A started server runs until it is stopped; `stop` removes its
/// data.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Fetch what is missing, start, wait until the server answers, print its address
    Start {
        /// Which ones
        #[arg(default_value = "kafka")]
        names: Vec<Name>,
    },
    /// Kill, and remove the data
    Stop {
        /// Which ones; all if none is named
        names: Vec<Name>,
    },
    /// A line for each
    Status {
        /// Which ones; all if none is named
        names: Vec<Name>,
    },
}

/// The servers there are, as the command line names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// One broker, with listeners of every kind of security
    Kafka,
    /// Three brokers, each of which comes back by itself when it is killed
    KafkaCluster,
    /// One broker that keeps a group's offsets for a minute
    KafkaForgetful,
    /// One Redis server, with an unencrypted port and one with TLS
    Redis,
    /// Three Redis servers that divide the keys among them
    RedisCluster,
    /// One node, which wants a password and comes back by itself when it is killed
    Cassandra,
    /// One node of version 7
    Elasticsearch,
    /// One node of version 2
    #[value(name = "opensearch")]
    OpenSearch,
    /// OpenSearch that speaks TLS only and wants a password
    #[value(name = "opensearch-secured")]
    OpenSearchSecured,
    /// A schema registry, Apicurio's
    Registry,
}

impl Name {
    fn server(self) -> &'static dyn Server {
        match self {
            Self::Kafka => &kafka::Kafka,
            Self::KafkaCluster => &kafka::cluster::Cluster,
            Self::KafkaForgetful => &kafka::forgetful::Forgetful,
            Self::Redis => &redis::Redis,
            Self::RedisCluster => &redis::cluster::Cluster,
            Self::Cassandra => &cassandra::Cassandra,
            Self::Elasticsearch => &elasticsearch::ELASTICSEARCH,
            Self::OpenSearch => &elasticsearch::OPENSEARCH,
            Self::OpenSearchSecured => &elasticsearch::secured::Secured,
            Self::Registry => &registry::Registry,
        }
    }
}

/// What servers, or programs of a benchmark, run from; several kinds of servers can have one product, which is
/// fetched once.
pub(crate) trait Product: Sync {
    /// The folder that it is kept in.
    fn name(&self) -> &'static str;

    /// The version that is fetched.
    fn version(&self) -> &'static str;

    /// What must be installed to start it.
    fn tools(&self) -> &'static [Tool];

    /// What must be installed besides to [`fetch`](Self::fetch) it.
    fn fetch_tools(&self) -> &'static [Tool];

    /// Fetches it into `directory`, which is empty and is thrown away if this fails.
    fn fetch(&self, directory: &Path) -> Result<()>;
}

/// One kind of server.
pub(crate) trait Server: Sync {
    /// What it runs from.
    fn product(&self) -> &dyn Product;

    /// What the command line and the state files call it.
    fn name(&self) -> &'static str {
        self.product().name()
    }

    /// The environment variable that tells tests its address.
    fn variable(&self) -> &'static str;

    /// What must be installed to start it, besides what the product needs.
    fn more_tools(&self) -> &'static [Tool] {
        &[]
    }

    /// How to do without it where a tool is missing.
    fn otherwise(&self) -> &'static str;

    /// How many ports it listens on. The first is its address.
    fn ports(&self) -> usize;

    /// Where its first port must lie; any will do by default.
    fn first_port(&self) -> RangeInclusive<u16> {
        0..=0
    }

    /// Writes configuration and data into `launch.run_dir`, and returns the command that runs the
    /// server in the foreground. It may leave variables for tests there, with
    /// [`Launch::tell`].
    fn prepare(&self, launch: &Launch) -> Result<Command>;

    /// Whether the server at `address` works: not that something listens there, but that it gives a
    /// sane answer.
    fn answers(&self, address: &str) -> Result<()>;
}

/// Where and how to start one server.
#[derive(Debug)]
pub(crate) struct Launch {
    /// What [`Product::fetch`] fetched.
    pub(crate) files: PathBuf,
    /// Empty, for this run alone, removed with it.
    pub(crate) run_dir: PathBuf,
    /// As many as [`Server::ports`]; free a moment ago.
    pub(crate) ports: Vec<u16>,
    /// For servers on the JVM.
    pub(crate) heap_mb: u32,
}

impl Launch {
    /// The log: output of the steps before the server runs, then the server's own.
    pub(crate) fn log(&self) -> PathBuf {
        self.run_dir.join("log")
    }

    /// Writes a file of the run's directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.run_dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Tells tests these variables besides the address, or another value for it.
    pub(crate) fn tell(&self, variables: &[(&str, String)]) -> Result<()> {
        let lines: String =
            variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        self.write(state::VARIABLES, &lines)
    }
}

/// What must be installed to start these, but for those that the user has.
pub(crate) fn tools_for(names: &[Name]) -> Result<Vec<Tool>> {
    let home = Home::open()?;
    let mut tools = Vec::new();
    for server in names.iter().map(|name| name.server()) {
        if session::from_env(server.variable())?.is_none() {
            tools.extend(tools_of(&home, server));
        }
    }
    Ok(tools)
}

/// What must be installed to fetch a product, nothing if it is there.
pub(crate) fn missing_tools(product: &dyn Product) -> Result<&'static [Tool]> {
    Ok(if Home::open()?.has_files(product) { &[] } else { product.fetch_tools() })
}

/// Where a product is, fetched now unless it is there.
pub(crate) fn fetched(product: &dyn Product) -> Result<PathBuf> {
    let home = Home::open()?;
    let lock = home.lock()?;
    home.files(product, &lock)
}

fn tools_of(home: &Home, server: &dyn Server) -> Vec<Tool> {
    let product = server.product();
    let mut tools = [product.tools(), server.more_tools()].concat();
    if !home.has_files(product) {
        tools.extend(product.fetch_tools());
    }
    tools
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let home = Home::open()?;
    match &args.action {
        Action::Start { names } => {
            let lock = home.lock()?;
            for server in chosen(names) {
                instance::start_shared(&home, &lock, server)?;
            }
        }
        Action::Stop { names } => {
            let lock = home.lock()?;
            for server in chosen(names) {
                instance::stop_all(&home, &lock, server)?;
            }
        }
        Action::Status { names } => {
            for server in chosen(names) {
                instance::print_status(&home, server)?;
            }
        }
    }
    Ok(())
}

fn chosen(names: &[Name]) -> Vec<&'static dyn Server> {
    let mut names = names.to_vec();
    names.dedup();
    if names.is_empty() {
        names = Name::value_variants().to_vec();
    }
    names.into_iter().map(Name::server).collect()
}
