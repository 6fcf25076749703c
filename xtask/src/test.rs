//! The whole test run: what a developer and continuous integration run before a change goes in.

use std::io::Write as _;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::cargo::cargo;
use crate::servers::{Name, Purpose, Session};
use crate::steps::Steps;
use crate::tools;

/// Run all tests, those against real servers too
///
/// Starts the servers that do not run yet (see `cargo xtask servers`), and stops those it started
/// at the end, also after a failure or Ctrl-C. Then, in this order:
///
///   1. `cargo test -p kasper --features testkit,local,json,prometheus,logging,admin --lib --tests -- --include-ignored`:
///      unit and integration tests. Tests that need a server, or Chromium, are ignored in a plain `cargo test`.
///   2. security: TLS, passwords and tokens, with librdkafka built for them, which takes minutes the
///      first time and needs the headers of OpenSSL and Cyrus SASL
///   3. cluster: three brokers, of which one is killed; and one that soon deletes a group's offsets
///   4. stores: each backend built by itself, without librdkafka, on its own servers
///   5. takeover: a deployment of Go Kasper is taken over, with a broker and a Redis
///   6. `cargo test -p kasper --features testkit,local,json,prometheus,logging,admin --doc`: the examples in the documentation
///   7. `cargo test -p xtask`: this tool's own tests
///   8. `cargo test -p kasper-top`: the terminal program
///
/// Filters reach 1 and 6 to 8; for the others give `--only` besides.
///
/// To use a Kafka broker of your own, which is then neither started nor stopped:
///
///   KASPER_TEST_KAFKA=localhost:9092 cargo xtask test --without cluster
///
/// The tests of lag then want Kafka's tools: kafka-consumer-groups.sh on the PATH, or their jars in
/// KASPER_TEST_KAFKA_TOOLS. The security tests are skipped, and the summary says so, unless you name the
/// broker's other listeners: KASPER_TEST_KAFKA_SSL, KASPER_TEST_KAFKA_SASL_SSL, and KASPER_TEST_KAFKA_CA, the file
/// with the certificates to trust (xtask/src/servers/kafka/security.rs says how they are set up).
///
/// The tests create topics and groups with names of their own, and leave some behind: take no
/// broker that matters.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Run only tests whose name contains one of these
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,

    /// Run nothing but this
    #[arg(long, value_name = "PART", conflicts_with = "without")]
    only: Option<Part>,

    /// Leave this out; may be given several times
    #[arg(long, value_name = "PART")]
    without: Vec<Part>,

    /// Go on after a failure
    #[arg(long)]
    no_fail_fast: bool,
}

/// What can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Security,
    Cluster,
    Stores,
    Takeover,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::new(args.no_fail_fast);
    if args.only.is_none() || args.only == Some(Part::Security) {
        with_one_broker(args, &mut steps)?;
    }
    with_cluster(args, &mut steps)?;
    with_stores(args, &mut steps)?;
    with_broker_and_redis(args, &mut steps)?;
    if args.only.is_none() {
        for (name, arguments) in WITHOUT_SERVERS {
            steps.run(name, &mut tests(args, arguments, &[]))?;
        }
    }
    // Nothing is lost if the output cannot be flushed.
    let _ = std::io::stdout().flush();
    steps.finish()
}

/// What needs no server and no C library.
const FEATURES: &str = "testkit,local,json,prometheus,logging,admin";

const EXAMPLES: &[&str] = &["build", "-p", "kasper", "--features", FEATURES, "--examples"];

const MAIN: &[&str] = &["test", "-p", "kasper", "--features", FEATURES, "--lib", "--tests"];

/// The set that `.ci/run` lints with: what Cargo has built of librdkafka for that serves here too.
const SECURITY: &[&str] =
    &["test", "-p", "kasper", "--features", "testkit,ssl,zstd,gssapi", "--test", "live_security"];

const CLUSTER: &[&str] =
    &["test", "-p", "kasper", "--features", "testkit", "--test", "live_cluster"];

const RETENTION: &[&str] =
    &["test", "-p", "kasper", "--features", "testkit", "--test", "live_retention"];

const TAKEOVER: &[&str] =
    &["test", "-p", "kasper", "--features", "testkit,redis", "--test", "live_takeover"];

/// Tests with a cluster are in this module, whose name tells them from all others.
const CLUSTER_TESTS: &str = "cluster::";

/// A kind of store, what it is built with, and the servers that its tests need.
struct Backend {
    /// The name of its tests: `tests/live_store_{name}`, and the library's in `store::{name}`.
    name: &'static str,
    features: &'static str,
    servers: &'static [Name],
    for_live_tests: &'static [&'static str],
}

/// One after the other: the servers of each are stopped before the next ones start.
const BACKENDS: &[Backend] = &[
    Backend {
        name: "redis",
        features: "testkit,redis-tls",
        servers: &[Name::Redis, Name::RedisCluster],
        for_live_tests: &["--include-ignored"],
    },
    Backend {
        name: "cassandra",
        features: "testkit,cassandra-tls",
        servers: &[Name::Cassandra],
        for_live_tests: &["--include-ignored"],
    },
    Backend {
        name: "elasticsearch",
        features: "testkit,elasticsearch-tls",
        servers: &[Name::Elasticsearch, Name::OpenSearch, Name::OpenSearchSecured],
        // One of them kills the server that the others use.
        for_live_tests: &["--include-ignored", "--test-threads=1"],
    },
];

const WITHOUT_SERVERS: &[(&str, &[&str])] = &[
    ("documentation tests", &["test", "-p", "kasper", "--features", FEATURES, "--doc"]),
    ("xtask's tests", &["test", "-p", "xtask"]),
    ("kasper-top's tests", &["test", "-p", "kasper-top"]),
];

fn with_one_broker(args: &Args, steps: &mut Steps) -> Result<()> {
    let session = Session::open(Purpose::Test, Name::Kafka)?;
    if args.only.is_none() {
        // As programs: tests start them. `cargo test --examples` would only build their unit tests.
        steps.run("examples", &mut cargo(EXAMPLES))?;
        let mut command = tests(args, MAIN, &["--include-ignored", "--skip", CLUSTER_TESTS]);
        steps.run("unit and integration tests", session.tell(&mut command))?;
    }
    let name = "security tests";
    if let Some(reason) = args.leaves_out(Part::Security) {
        steps.skip(name, reason);
    } else if session.value("KASPER_TEST_KAFKA_SASL_SSL").is_none() {
        steps.skip(name, "the broker is yours, and KASPER_TEST_KAFKA_SASL_SSL is not set");
    } else if let Err(error) = tools::require_headers(
        "Or leave the security tests out: cargo xtask test --without security",
    ) {
        steps.fail(name, &error);
    } else {
        let mut command = tests(args, SECURITY, &["--include-ignored"]);
        steps.run(name, session.tell(&mut command))?;
    }
    if steps.failed() {
        session.save_logs();
    }
    Ok(())
}

fn with_cluster(args: &Args, steps: &mut Steps) -> Result<()> {
    let name = "tests with a cluster";
    with_servers(args, steps, Part::Cluster, &[Name::KafkaCluster], name, |session, steps| {
        let mut command = tests(args, CLUSTER, &["--include-ignored"]);
        // What all tests ask for the brokers.
        let brokers = session.value("KASPER_TEST_KAFKA_CLUSTER");
        command.envs(brokers.map(|all| ("KASPER_TEST_KAFKA", all)));
        steps.run(name, session.tell(&mut command))
    })?;
    let name = "tests with a short retention of offsets";
    with_servers(args, steps, Part::Cluster, &[Name::KafkaForgetful], name, |session, steps| {
        let mut command = tests(args, RETENTION, &["--include-ignored"]);
        let broker = session.value("KASPER_TEST_KAFKA_FORGETFUL");
        command.envs(broker.map(|address| ("KASPER_TEST_KAFKA", address)));
        steps.run(name, session.tell(&mut command))
    })
}

fn with_broker_and_redis(args: &Args, steps: &mut Steps) -> Result<()> {
    let name = "taking over from Go Kasper";
    let servers = [Name::Kafka, Name::Redis];
    with_servers(args, steps, Part::Takeover, &servers, name, |session, steps| {
        let mut command = tests(args, TAKEOVER, &["--include-ignored"]);
        steps.run(name, session.tell(&mut command))
    })
}

fn with_stores(args: &Args, steps: &mut Steps) -> Result<()> {
    for backend in BACKENDS {
        let name = format!("stores in {}", backend.name);
        with_servers(args, steps, Part::Stores, backend.servers, &name, |session, steps| {
            test_backend(args, session, steps, backend, &name)
        })?;
    }
    Ok(())
}

/// Runs a part with its servers, unless it is left out or a step before it failed.
fn with_servers(
    args: &Args,
    steps: &mut Steps,
    part: Part,
    servers: &[Name],
    name: &str,
    run: impl FnOnce(&Session, &mut Steps) -> Result<()>,
) -> Result<()> {
    if let Some(reason) = args.leaves_out(part) {
        steps.skip(name, reason);
        return Ok(());
    }
    if steps.is_over() {
        steps.skip(name, "a step before it failed");
        return Ok(());
    }
    let session = match Session::open_all(Purpose::Test, servers) {
        Ok(session) => session,
        Err(error) => {
            crate::interrupt::check()?;
            steps.fail(name, &error);
            return Ok(());
        }
    };
    let failed_before = steps.failed();
    run(&session, steps)?;
    if steps.failed() && !failed_before {
        session.save_logs();
    }
    Ok(())
}

fn test_backend(
    args: &Args,
    session: &Session,
    steps: &mut Steps,
    backend: &Backend,
    name: &str,
) -> Result<()> {
    let build = ["test", "-p", "kasper", "--no-default-features", "--features", backend.features];
    let module = format!("store::{}::", backend.name);
    let live = format!("live_store_{}", backend.name);
    let with =
        |more: &[&str], for_tests: &[&str]| tests(args, &[&build[..], more].concat(), for_tests);
    let of_module: &[&str] = if args.filters.is_empty() { &[&module] } else { &[] };
    steps.run(&format!("{name}: unit tests"), &mut with(&["--lib"], of_module))?;
    let mut command = with(&["--test", &live], backend.for_live_tests);
    steps.run(&format!("{name}: on real servers"), session.tell(&mut command))?;
    steps.run(&format!("{name}: documentation"), &mut with(&["--doc"], of_module))
}

impl Args {
    /// Why a part is not run, if it is not.
    fn leaves_out(&self, part: Part) -> Option<&'static str> {
        match self.only {
            Some(only) if only == part => None,
            Some(_) => Some("--only names another part"),
            None if self.without.contains(&part) => Some("--without names it"),
            None if !self.filters.is_empty() => Some("filters reach it with --only"),
            None => None,
        }
    }
}

fn tests(args: &Args, arguments: &[&str], for_tests: &[&str]) -> Command {
    let mut command = cargo(arguments);
    if args.no_fail_fast {
        command.arg("--no-fail-fast");
    }
    command.arg("--").args(for_tests).args(&args.filters);
    command
}

#[cfg(test)]
mod own_tests {
    use super::*;

    fn args() -> Args {
        Args { filters: Vec::new(), only: None, without: Vec::new(), no_fail_fast: false }
    }

    fn line(args: &Args, arguments: &[&str], for_tests: &[&str]) -> String {
        let command = tests(args, arguments, for_tests);
        command.get_args().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn filters_and_no_fail_fast_go_to_a_step() {
        let args =
            Args { filters: vec!["a".to_owned(), "b".to_owned()], no_fail_fast: true, ..args() };
        let line = line(&args, MAIN, &["--include-ignored"]);
        assert!(line.ends_with("--tests --no-fail-fast -- --include-ignored a b"), "{line}");
    }

    #[test]
    fn parts_are_left_out_for_a_reason() {
        let all = args();
        assert_eq!(all.leaves_out(Part::Security).or(all.leaves_out(Part::Cluster)), None);
        let without = Args { without: vec![Part::Cluster], ..args() };
        assert!(without.leaves_out(Part::Cluster).is_some());
        assert_eq!(without.leaves_out(Part::Security), None);
        let filtered = Args { filters: vec!["x".to_owned()], ..args() };
        assert!(filtered.leaves_out(Part::Security).is_some());
        let only = Args { only: Some(Part::Security), ..filtered };
        assert_eq!(only.leaves_out(Part::Security), None);
        assert!(only.leaves_out(Part::Cluster).is_some());
    }

    #[test]
    fn continuous_integration_lints_each_backend() {
        let script = include_str!("../../.ci/run");
        for backend in BACKENDS {
            let line = format!("--no-default-features --features {}\n", backend.features);
            assert!(script.contains(&line), "{line}");
        }
    }

    #[test]
    fn continuous_integration_lints_with_the_features_of_the_security_tests() {
        let features = SECURITY.iter().find(|argument| argument.contains("ssl")).expect("features");
        let script = include_str!("../../.ci/run");
        assert!(script.contains(&format!("--features {features}\n")));
    }
}
