//! `cargo xtask bench`: a benchmark against real servers of its own.

mod check;
mod peers;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::cargo::cargo;
use crate::servers::{Name, Purpose, Session};
use crate::steps::Steps;

/// Run a benchmark against real servers.
///
/// pipeline   the library against raw librdkafka; needs Kafka (with a heap of 1 GB)
/// growth     what the library costs where work grows: partitions, topics, keys, outputs, idle and starting
///            processes; needs Kafka (with a heap of 1 GB)
/// stores     each store against its server's raw driver, and counting messages from Kafka into
///            each; needs Kafka, Redis, a Redis Cluster, Cassandra, Elasticsearch and OpenSearch (heaps
///            of 512 MB each, about 4 GB of memory in all). `--on redis local` uses these and Kafka only
/// peers      the library against raw librdkafka, franz-go, Kafka Streams and goka; needs Kafka (with a heap
///            of 1 GB) and Redis. Compiles what is in Go and Java; without their compilers, and Maven, that is
///            left out
/// target     `target_latency` against fixed limits of batches, while the load changes; needs Kafka (with a heap
///            of 1 GB)
/// check      instructions of a message, counted by valgrind, and ratios of `pipeline --quick`, beside a baseline in
///            benches/baseline.json: marks what moved by more than 5 %. `--save` writes the baseline. Takes
///            `--quick` and `--json FILE` too
///
/// Starts fresh servers and stops them at the end. A server of yours is used instead where its
/// variable is set: KASPER_TEST_KAFKA=host:port, KASPER_TEST_REDIS, KASPER_TEST_REDIS_CLUSTER,
/// KASPER_TEST_CASSANDRA, KASPER_TEST_ELASTICSEARCH, KASPER_TEST_OPENSEARCH. A benchmark removes what it
/// wrote.
///
/// Then runs `cargo bench -p kasper --features … --bench NAME -- ARGS`. What the benchmark prints goes
/// to stdout; `-- --help` behind its name says what it takes.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The benchmark's name
    name: Benchmark,

    /// For the benchmark, such as `--quick` and `--json FILE`; FILE may be relative to where you
    /// are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// The folders of `benches/`, and what compares their figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    Pipeline,
    Growth,
    Stores,
    Peers,
    Target,
    // Runs `pipeline`, and compares.
    Check,
}

impl Benchmark {
    fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Growth => "growth",
            Self::Stores => "stores",
            Self::Peers => "peers",
            Self::Target => "target",
            Self::Check => "check",
        }
    }

    fn features(self) -> &'static str {
        match self {
            Self::Pipeline | Self::Check => "testkit,prometheus",
            Self::Growth => "testkit",
            Self::Stores => "testkit,local,redis-tls,cassandra-tls,elasticsearch-tls",
            Self::Peers => "testkit,redis-tls",
            Self::Target => "testkit",
        }
    }

    fn heap_mb(self) -> u32 {
        match self {
            Self::Pipeline | Self::Growth | Self::Peers | Self::Target | Self::Check => 1024,
            Self::Stores => 512,
        }
    }

    /// What it needs, given its arguments.
    fn servers(self, args: &[String]) -> Vec<Name> {
        let stores = [
            Name::Redis,
            Name::RedisCluster,
            Name::Cassandra,
            Name::Elasticsearch,
            Name::OpenSearch,
        ];
        let on = values_of("--on", args);
        let is_on = |name: &Name| {
            let name = name.to_possible_value();
            on.is_empty() || name.is_some_and(|name| on.contains(&name.get_name()))
        };
        match self {
            Self::Pipeline | Self::Growth | Self::Target | Self::Check => vec![Name::Kafka],
            Self::Peers => vec![Name::Kafka, Name::Redis],
            Self::Stores => {
                [Name::Kafka].into_iter().chain(stores.into_iter().filter(is_on)).collect()
            }
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let here = std::env::current_dir().context("cannot find the current directory")?;
    let benchmark = args.name;
    if benchmark == Benchmark::Check {
        return check::run(&args.args);
    }
    let mut steps = Steps::new(false);
    // Before the servers run: they need not wait, and a mistake is told at once.
    steps.run("build", bench(benchmark).arg("--no-run"))?;
    let asks_for_help = args.args.iter().any(|arg| arg == "--help" || arg == "-h");
    if asks_for_help && !steps.failed() {
        steps.run("help", bench(benchmark).args(["--", "--help"]))?;
        return steps.finish();
    }
    let mut told = Vec::new();
    if benchmark == Benchmark::Peers && !steps.failed() {
        told = peers::build(&mut steps)?;
    }
    if !steps.failed() {
        let session = open(benchmark, &args.args)?;
        let mut command = bench(benchmark);
        command.arg("--").args(absolute_json(&args.args, &here));
        command.envs(told);
        if let Some(version) = session.version(Name::Kafka) {
            command.env("KASPER_BENCH_KAFKA_VERSION", version);
        }
        let name = format!("benchmark {}", benchmark.name());
        steps.run(&name, session.tell(&mut command))?;
        if steps.failed() {
            session.save_logs();
        }
    }
    steps.finish()
}

/// Its servers, given its arguments.
fn open(benchmark: Benchmark, args: &[String]) -> Result<Session> {
    let purpose = Purpose::Bench { heap_mb: benchmark.heap_mb() };
    Session::open_all(purpose, &benchmark.servers(args))
}

fn bench(benchmark: Benchmark) -> Command {
    let (features, name) = (benchmark.features(), benchmark.name());
    cargo(&["bench", "-p", "kasper", "--features", features, "--bench", name])
}

/// What stands behind an option that takes several values.
fn values_of<'a>(option: &str, args: &'a [String]) -> Vec<&'a str> {
    let mut values = Vec::new();
    let mut is_value = false;
    for arg in args {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (arg.as_str(), None),
        };
        if name.starts_with('-') {
            is_value = name == option && value.is_none();
            values.extend(value.filter(|_| name == option));
        } else if is_value {
            values.push(arg);
        }
    }
    values
}

/// The file after `--json` made absolute: cargo runs a benchmark in the package's directory, not
/// where the user is.
fn absolute_json(args: &[String], here: &Path) -> Vec<String> {
    let absolute = |file: &str| here.join(file).to_string_lossy().into_owned();
    let mut is_file = false;
    args.iter()
        .map(|arg| {
            if std::mem::replace(&mut is_file, arg == "--json") {
                return absolute(arg);
            }
            match arg.strip_prefix("--json=") {
                Some(file) => format!("--json={}", absolute(file)),
                None => arg.clone(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_absolute(args: &[&str]) -> Vec<String> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        absolute_json(&args, Path::new("/here"))
    }

    #[test]
    fn the_json_file_is_made_absolute() {
        assert_eq!(
            made_absolute(&["--json", "a.json", "--quick"]),
            ["--json", "/here/a.json", "--quick"]
        );
        assert_eq!(made_absolute(&["--json=b/a.json"]), ["--json=/here/b/a.json"]);
        assert_eq!(made_absolute(&["--json", "/tmp/a.json"]), ["--json", "/tmp/a.json"]);
    }

    #[test]
    fn other_arguments_are_left_alone() {
        assert_eq!(made_absolute(&["--quick", "json", "--json"]), ["--quick", "json", "--json"]);
    }

    #[test]
    fn the_servers_of_a_benchmark_are_those_it_is_told() {
        let servers = |args: &str| {
            let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
            Benchmark::Stores.servers(&args)
        };
        assert_eq!(servers("--quick").len(), 6);
        assert_eq!(servers("--on local --quick"), [Name::Kafka]);
        let two = [Name::Kafka, Name::Redis, Name::OpenSearch];
        assert_eq!(servers("--quick --on redis opensearch local --json x"), two);
        assert_eq!(servers("--on=redis --on opensearch"), two);
        assert_eq!(Benchmark::Pipeline.servers(&[]), [Name::Kafka]);
        assert_eq!(Benchmark::Growth.servers(&[]), [Name::Kafka]);
        assert_eq!(Benchmark::Peers.servers(&[]), [Name::Kafka, Name::Redis]);
    }

    #[test]
    fn continuous_integration_lints_the_benchmarks() {
        let script = include_str!("../../.ci/checks");
        let main = script.lines().find(|line| line.contains("-p heavy-tests"));
        let (_, features) = main.and_then(|line| line.rsplit_once(' ')).expect("the main set");
        for benchmark in Benchmark::value_variants() {
            for feature in benchmark.features().split(',') {
                assert!(features.split(',').any(|of_main| of_main == feature), "{feature}");
            }
        }
    }
}
