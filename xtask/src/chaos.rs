//! `cargo xtask chaos`: workers under faults, against three brokers of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::cargo::{cargo, target};
use crate::interrupt;
use crate::servers::{self, Name, Purpose, Session};
use crate::tools;

/// Run workers under faults, and check from outside that the library keeps its promises
///
/// Starts three brokers, and a Redis. Some worker processes read a topic, write each message into Redis, and send it
/// on. Meanwhile workers are killed, ended and frozen, and brokers and Redis are killed, one fault at a time. At the
/// end, what is in Redis and in the topics is compared with what was sent: nothing lost, nothing out of order, no
/// offset committed too early. Ends with an error, and a line for each broken promise, if there is one.
///
/// The same seed does the same faults. docs/reliability.md has the promises, and runs that were done.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// For how long faults are done; building, starting and finishing come on top
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    minutes: f64,

    /// Chooses the faults. Default: a random one, which is printed
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// The faults to choose from, separated by commas. Default: all
    ///
    /// kill-worker, end-worker, freeze-worker, kill-broker, kill-redis, freeze-redis, join, leave
    #[arg(long, value_name = "LIST")]
    faults: Option<String>,

    /// How workers get their partitions: classic, consumer (KIP-848), or static
    #[arg(long, default_value = "classic")]
    protocol: String,

    /// A file for the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// A file for a picture of the run
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Give the workers each known defect in turn, in short runs, which have to find it
    #[arg(long, conflicts_with_all = ["seed", "faults", "json", "svg"])]
    self_test: bool,

    /// More arguments for `kasper-chaos run` or `kasper-chaos self-test`, such as `-- --workers 5 --rate 1000`
    #[arg(last = true)]
    more: Vec<String>,
}

/// Beyond the faults: to catch up and to judge, or for all runs of a self-test.
const GRACE: Duration = Duration::from_secs(20 * 60);

pub(crate) fn run(args: &Args) -> Result<()> {
    let here = std::env::current_dir().context("cannot find the current directory")?;
    let mut needed = tools::COMPILE.to_vec();
    needed.extend(servers::tools_for(&[Name::KafkaCluster, Name::Redis])?);
    tools::install(&needed)?;
    if !interrupt::run(&mut cargo(&["build", "-p", "kasper-chaos"]))?.success() {
        bail!("kasper-chaos cannot be built");
    }
    let session = Session::open(Purpose::Test, Name::KafkaCluster)?;
    let mut command = Command::new(target().join("debug/kasper-chaos"));
    command.args(args.told(&here)).args(&args.more);
    if let Some(version) = session.version(Name::KafkaCluster) {
        command.env("KASPER_CHAOS_KAFKA_VERSION", version);
    }
    let faults = Duration::try_from_secs_f64(args.minutes * 60.0).context("--minutes")?;
    let status = interrupt::run_within(session.tell(&mut command), faults + GRACE)?;
    match status.code() {
        Some(0) => return Ok(()),
        Some(2) => session.save_logs(),
        _ => {}
    }
    bail!("kasper-chaos has ended with {status}; see above")
}

impl Args {
    /// What the program is told.
    fn told(&self, here: &Path) -> Vec<String> {
        if self.self_test {
            return vec!["self-test".to_owned()];
        }
        let absolute = |file: &PathBuf| here.join(file).to_string_lossy().into_owned();
        let values = [
            ("--minutes", Some(self.minutes.to_string())),
            ("--protocol", Some(self.protocol.clone())),
            ("--seed", self.seed.map(|seed| seed.to_string())),
            ("--faults", self.faults.clone()),
            ("--json", self.json.as_ref().map(absolute)),
            ("--svg", self.svg.as_ref().map(absolute)),
        ];
        let given = values.into_iter().filter_map(|(name, value)| Some([name.to_owned(), value?]));
        std::iter::once("run".to_owned()).chain(given.flatten()).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn told(args: &[&str]) -> String {
        let all = std::iter::once("chaos").chain(args.iter().copied());
        Cli::try_parse_from(all).expect("valid").args.told(Path::new("/here")).join(" ")
    }

    #[test]
    fn arguments_are_passed_on() {
        assert_eq!(told(&[]), "run --minutes 3 --protocol classic");
        assert_eq!(
            told(&["--seed", "7", "--faults", "join,leave", "--json", "a.json", "--svg", "/b.svg"]),
            "run --minutes 3 --protocol classic --seed 7 --faults join,leave --json /here/a.json --svg /b.svg"
        );
        assert_eq!(told(&["--self-test"]), "self-test");
    }
}
