//! The whole test run: what a developer and continuous integration run before a change goes in.

use std::env;
use std::fs;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::cargo::{cargo, workspace};
use crate::servers::{self, Name, Purpose, Session};
use crate::steps::Steps;
use crate::tools::{self, Tool};

/// Run all tests, those against real servers too
///
/// As root on Debian, installs what is missing (see `cargo xtask setup`). Starts the servers that do not run yet (see
/// `cargo xtask servers`), and stops those it started at the end, also after a failure or Ctrl-C. Then, in this order:
///
///   1. unit and integration tests, those of `heavy-tests/` and `kasper-dlq/` too. Tests that need a server, or Chromium, are ignored in
///      a plain `cargo test`
///   2. security: TLS, passwords and tokens, with librdkafka built for them, which takes minutes the
///      first time and needs the headers of OpenSSL and Cyrus SASL
///   3. cluster: three brokers, of which one is killed; and one that soon deletes a group's offsets
///   4. stores: each backend on its own servers
///   5. takeover: with a broker and a Redis, a deployment of Go Kasper is taken over, and a service is killed
///   6. registry: Avro and Protobuf with a schema registry
///   7. the examples in the documentation
///   8. what must not compile; this tool's own tests; the terminal program; the judge of `cargo xtask chaos`
///
/// Filters reach 1, 7 and 8; for the others give `--only` besides, which leaves out unit tests. `--quick` needs no server, only C and C++ compilers and make:
/// 1 without what is ignored, 7 and 8. All but 2 and 8 are built with one set of features.
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
#[derive(clap::Args, Default)]
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

    /// Only what needs no server, for daily work
    #[arg(long, conflicts_with_all = ["only", "without"])]
    quick: bool,

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
    Registry,
}

/// What stands for the name that the user saw fail.
const A_TEST: &str = "NAME_OF_THE_TEST";

impl Part {
    /// What runs one of its tests alone.
    fn again(self) -> String {
        let name =
            self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        format!("cargo xtask test --only {name} {A_TEST}")
    }

    fn servers(self) -> Vec<Name> {
        match self {
            Self::Security => vec![Name::Kafka],
            Self::Cluster => vec![Name::KafkaCluster, Name::KafkaForgetful],
            Self::Stores => BACKENDS.iter().flat_map(|backend| backend.servers).copied().collect(),
            Self::Takeover => vec![Name::Kafka, Name::Redis],
            Self::Registry => vec![Name::Registry],
        }
    }
}

/// Installs what the whole run needs, and what it can do without.
pub(crate) fn set_up() -> Result<()> {
    tools::install(&Args::default().tools()?)?;
    println!("everything that the tests need is installed");
    if let Err(error) = tools::install(&[Tool::Valgrind]) {
        println!("only `cargo xtask bench check` goes without its instructions: {error}");
    }
    Ok(())
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::new(args.no_fail_fast);
    if args.quick {
        tools::install(tools::COMPILE)?;
        build_examples(&mut steps)?;
        let mut command = all(args, &[])?;
        if env::var_os("KASPER_SIM_SEEDS").is_none() {
            command.env("KASPER_SIM_SEEDS", QUICK_SEEDS);
        }
        steps.run("unit and integration tests", &mut command)?;
        without_servers(args, &mut steps)?;
        return steps.finish();
    }
    tools::install(&args.tools()?)?;
    if args.only.is_none() || args.only == Some(Part::Security) {
        with_one_broker(args, &mut steps)?;
    }
    with_cluster(args, &mut steps)?;
    with_stores(args, &mut steps)?;
    with_broker_and_redis(args, &mut steps)?;
    with_registry(args, &mut steps)?;
    if args.only.is_none() {
        without_servers(args, &mut steps)?;
    }
    // Nothing is lost if the output cannot be flushed.
    let _ = std::io::stdout().flush();
    steps.finish()
}

/// How many tests of a program run at a time.
const THREADS: &str = "RUST_TEST_THREADS";

/// Most tests wait, for rebalances and time-outs: with one for each core, as is the default, the cores are idle.
const TESTS_PER_CORE: usize = 3;

/// So many simulated schedules in a quick run: a tenth, which take seconds instead of minutes.
const QUICK_SEEDS: &str = "1000";

/// What most tests are built with: one set, in which librdkafka and the library are compiled once.
const MAIN: &[&str] = &[
    "-p",
    "kasper",
    "-p",
    "heavy-tests",
    "-p",
    "kasper-schema",
    "-p",
    "kasper-dlq",
    "--features",
    "testkit,local,json,prometheus,logging,admin,config,processor,redis-tls,cassandra-tls,elasticsearch-tls,tls",
];

/// The test programs that need other servers than a broker, or another build: each has its own step.
const WITH_OTHER_SERVERS: &[&str] = &[
    "live_cluster",
    "live_outage",
    "live_registry",
    "live_retention",
    "live_security",
    "live_service",
    "live_store_cassandra",
    "live_store_elasticsearch",
    "live_store_redis",
    "live_takeover",
];

/// The set that `.ci/checks` lints with: what Cargo has built of librdkafka for that serves here too.
const SECURITY: &[&str] =
    &["test", "-p", "kasper", "--features", "testkit,ssl,zstd,gssapi", "--test", "live_security"];

/// A kind of store, and the servers that its tests need. The servers of each are stopped before the next ones start.
struct Backend {
    /// The name of its test program: `live_store_{name}`.
    name: &'static str,
    servers: &'static [Name],
    for_tests: &'static [&'static str],
}

const BACKENDS: &[Backend] = &[
    Backend {
        name: "redis",
        servers: &[Name::Redis, Name::RedisCluster],
        for_tests: &["--include-ignored"],
    },
    Backend { name: "cassandra", servers: &[Name::Cassandra], for_tests: &["--include-ignored"] },
    Backend {
        name: "elasticsearch",
        servers: &[Name::Elasticsearch, Name::OpenSearch, Name::OpenSearchSecured],
        // One of them kills the server that the others use.
        for_tests: &["--include-ignored", "--test-threads=1"],
    },
];

const WITHOUT_SERVERS: &[(&str, &[&str])] = &[
    ("what must not compile", &["test", "-p", "compile-fail"]),
    ("xtask's tests", &["test", "-p", "xtask"]),
    ("kasper-top's tests", &["test", "-p", "kasper-top"]),
    ("the judge of fault runs", &["test", "-p", "kasper-chaos"]),
];

fn without_servers(args: &Args, steps: &mut Steps) -> Result<()> {
    steps.run("documentation tests", &mut main(args, &["--doc"], &[]))?;
    for (name, arguments) in WITHOUT_SERVERS {
        steps.run(name, &mut tests(args, arguments, &[]))?;
    }
    Ok(())
}

fn with_one_broker(args: &Args, steps: &mut Steps) -> Result<()> {
    let session = Session::open(Purpose::Test, Name::Kafka)?;
    if args.only.is_none() {
        steps.set_again(Some(format!("cargo xtask test {A_TEST}")));
        build_examples(steps)?;
        let mut command = all(args, &["--include-ignored"])?;
        steps.run("unit and integration tests", session.tell(&mut command))?;
    }
    let name = "security tests";
    if let Some(reason) = args.leaves_out(Part::Security) {
        steps.skip(name, reason);
    } else if session.value("KASPER_TEST_KAFKA_SASL_SSL").is_none() {
        steps.skip(name, "the broker is yours, and KASPER_TEST_KAFKA_SASL_SSL is not set");
    } else {
        steps.set_again(Some(Part::Security.again()));
        let mut command = tests(args, SECURITY, &["--include-ignored"]);
        steps.run(name, session.tell(&mut command))?;
    }
    steps.set_again(None);
    if steps.failed() {
        session.save_logs();
    }
    Ok(())
}

fn with_cluster(args: &Args, steps: &mut Steps) -> Result<()> {
    let name = "tests with a cluster";
    with_servers(args, steps, Part::Cluster, &[Name::KafkaCluster], name, |session, steps| {
        let mut command = main(args, &["--test", "live_cluster"], &["--include-ignored"]);
        // What all tests ask for the brokers.
        let brokers = session.value("KASPER_TEST_KAFKA_CLUSTER");
        command.envs(brokers.map(|all| ("KASPER_TEST_KAFKA", all)));
        steps.run(name, session.tell(&mut command))
    })?;
    let name = "tests with a short retention of offsets";
    with_servers(args, steps, Part::Cluster, &[Name::KafkaForgetful], name, |session, steps| {
        let mut command = main(args, &["--test", "live_retention"], &["--include-ignored"]);
        let broker = session.value("KASPER_TEST_KAFKA_FORGETFUL");
        command.envs(broker.map(|address| ("KASPER_TEST_KAFKA", address)));
        steps.run(name, session.tell(&mut command))
    })
}

fn with_broker_and_redis(args: &Args, steps: &mut Steps) -> Result<()> {
    let name = "taking over from Go Kasper, and a service";
    let servers = Part::Takeover.servers();
    with_servers(args, steps, Part::Takeover, &servers, name, |session, steps| {
        if args.only.is_some() {
            build_examples(steps)?;
        }
        let which = ["--test", "live_takeover", "--test", "live_service", "--test", "live_outage"];
        steps.run(name, session.tell(&mut main(args, &which, &["--include-ignored"])))
    })
}

fn with_registry(args: &Args, steps: &mut Steps) -> Result<()> {
    let name = "tests with a schema registry";
    let servers = Part::Registry.servers();
    with_servers(args, steps, Part::Registry, &servers, name, |session, steps| {
        let which = ["--test", "live_registry"];
        steps.run(name, session.tell(&mut main(args, &which, &["--include-ignored"])))
    })
}

fn with_stores(args: &Args, steps: &mut Steps) -> Result<()> {
    for backend in BACKENDS {
        let name = format!("stores in {}", backend.name);
        with_servers(args, steps, Part::Stores, backend.servers, &name, |session, steps| {
            let program = format!("live_store_{}", backend.name);
            let mut command = main(args, &["--test", &program], backend.for_tests);
            steps.run(&name, session.tell(&mut command))
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
    steps.set_again(Some(part.again()));
    run(&session, steps)?;
    steps.set_again(None);
    if steps.failed() && !failed_before {
        session.save_logs();
    }
    Ok(())
}

impl Args {
    /// What must be installed for what is run.
    fn tools(&self) -> Result<Vec<Tool>> {
        let mut names = Vec::new();
        let mut tools = tools::COMPILE.to_vec();
        if self.only.is_none() {
            names.push(Name::Kafka);
        }
        // A filter may name other tests; the browser's say themselves what they miss.
        if self.only.is_none() && self.filters.is_empty() {
            tools.extend(tools::BROWSER);
        }
        for part in Part::value_variants().iter().filter(|part| self.leaves_out(**part).is_none()) {
            names.extend(part.servers());
            if *part == Part::Security {
                tools.extend(tools::SECURITY);
            }
        }
        tools.extend(servers::tools_for(&names)?);
        Ok(tools)
    }

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

/// As programs: tests start them. `cargo test --examples` would only build their unit tests.
fn build_examples(steps: &mut Steps) -> Result<()> {
    steps.run("examples", &mut cargo(&[&["build"], MAIN, &["--examples"]].concat()))
}

/// Some tests of the main set.
fn main(args: &Args, which: &[&str], for_tests: &[&str]) -> Command {
    tests(args, &[&["test"], MAIN, which].concat(), for_tests)
}

/// The tests of the main set that need a broker at most.
fn all(args: &Args, for_tests: &[&str]) -> Result<Command> {
    let programs = test_programs()?;
    let mut which = vec!["--lib", "--bin", "kasper-dlq"];
    which.extend(programs.iter().flat_map(|program| ["--test", program]));
    let mut command = main(args, &which, for_tests);
    if env::var_os(THREADS).is_none() {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        command.env(THREADS, (TESTS_PER_CORE * cores).to_string());
    }
    Ok(command)
}

/// The folders with the test programs of the main set.
const PROGRAMS: &[&str] =
    &["tests", "heavy-tests/tests", "kasper-schema/tests", "kasper-dlq/tests"];

/// All test programs of the main set but those [`WITH_OTHER_SERVERS`], found as Cargo finds them.
fn test_programs() -> Result<Vec<String>> {
    let mut programs = Vec::new();
    for folder in PROGRAMS.iter().map(|folder| workspace().join(folder)) {
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("cannot look into {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let is_program = match path.extension() {
                Some(extension) => extension == "rs",
                None => path.join("main.rs").is_file(),
            };
            let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
            programs.extend(
                name.filter(|name| is_program && !WITH_OTHER_SERVERS.contains(&name.as_str())),
            );
        }
    }
    programs.sort();
    Ok(programs)
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

    fn line(command: &Command) -> String {
        command.get_args().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn filters_and_no_fail_fast_go_to_a_step() {
        let args = Args {
            filters: vec!["a".to_owned(), "b".to_owned()],
            no_fail_fast: true,
            ..Args::default()
        };
        let line = line(&main(&args, &["--tests"], &["--include-ignored"]));
        assert!(line.ends_with("--tests --no-fail-fast -- --include-ignored a b"), "{line}");
    }

    #[test]
    fn parts_are_left_out_for_a_reason() {
        let all = Args::default();
        assert_eq!(all.leaves_out(Part::Security).or(all.leaves_out(Part::Cluster)), None);
        let without = Args { without: vec![Part::Cluster], ..Args::default() };
        assert!(without.leaves_out(Part::Cluster).is_some());
        assert_eq!(without.leaves_out(Part::Security), None);
        let filtered = Args { filters: vec!["x".to_owned()], ..Args::default() };
        assert!(filtered.leaves_out(Part::Security).is_some());
        let only = Args { only: Some(Part::Security), ..filtered };
        assert_eq!(only.leaves_out(Part::Security), None);
        assert!(only.leaves_out(Part::Cluster).is_some());
    }

    #[test]
    fn what_is_left_out_need_not_be_installed() {
        let tools = |args: &Args| args.tools().expect("read");
        let redis = |tools: &[Tool]| tools.iter().any(|tool| matches!(tool, Tool::Redis(_)));
        let all = tools(&Args::default());
        assert!(redis(&all) || env::var_os("KASPER_TEST_REDIS").is_some());
        assert!(all.contains(&Tool::Chromium) && all.contains(&Tool::PkgConfig));
        let some = tools(&Args { without: vec![Part::Stores, Part::Takeover], ..Args::default() });
        assert!(!redis(&some) && some.contains(&Tool::PkgConfig));
        let filtered = tools(&Args { filters: vec!["sim".to_owned()], ..Args::default() });
        assert!(!filtered.contains(&Tool::Chromium) && !filtered.contains(&Tool::PkgConfig));
    }

    #[test]
    fn each_test_program_has_a_step() {
        let programs = test_programs().expect("read");
        for program in ["embedded", "live_consume", "examples", "admin_page", "hostile", "live_dlq"]
        {
            assert!(programs.iter().any(|name| name == program), "{program} of {programs:?}");
        }
        assert!(!programs.iter().any(|name| name == "common" || name == "live_cluster"));
        for program in WITH_OTHER_SERVERS {
            let file = |folder: &&str| {
                let path = workspace().join(folder).join(program);
                path.with_extension("rs").is_file() || path.join("main.rs").is_file()
            };
            assert!(PROGRAMS.iter().any(file), "{program}");
        }
        for backend in BACKENDS {
            let program = format!("live_store_{}", backend.name);
            assert!(WITH_OTHER_SERVERS.contains(&program.as_str()), "{program}");
        }
    }

    #[test]
    fn continuous_integration_lints_the_main_set() {
        let script = include_str!("../../.ci/checks");
        assert!(script.contains(&format!("lint {}\n", MAIN.join(" "))));
    }

    #[test]
    fn continuous_integration_lints_with_the_features_of_the_security_tests() {
        let features = SECURITY.iter().find(|argument| argument.contains("ssl")).expect("features");
        let script = include_str!("../../.ci/checks");
        assert!(script.contains(&format!("--features {features}\n")));
    }
}
