//! `cargo xtask bench`: a benchmark against a real Kafka broker of its own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::cargo;
use crate::servers::{Name, Purpose, Session};
use crate::steps::Steps;

/// Run a benchmark against a real Kafka broker.
///
/// Starts a fresh broker with a 1 GB heap and stops it at the end; with KASPER_TEST_KAFKA=host:port
/// that broker is used instead. Then runs `cargo bench -p kasper --features testkit --bench NAME --
/// ARGS`. What the benchmark prints goes to stdout.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The benchmark's name: a file of `benches/`
    name: String,

    /// For the benchmark, such as `--quick` and `--json FILE`; FILE may be relative to where you
    /// are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let here = std::env::current_dir().context("cannot find the current directory")?;
    let mut steps = Steps::new(false);
    // Before the broker runs: it need not wait, and a mistake is told at once.
    steps.run("build", bench(&args.name).arg("--no-run"))?;
    if !steps.failed() {
        let session = Session::open(Purpose::Bench, Name::Kafka)?;
        let mut command = bench(&args.name);
        command.arg("--").args(absolute_json(&args.args, &here));
        steps.run(&format!("benchmark {}", args.name), session.tell(&mut command))?;
        if steps.failed() {
            session.save_logs();
        }
    }
    steps.finish()
}

fn bench(name: &str) -> Command {
    cargo(&["bench", "-p", "kasper", "--features", "testkit", "--bench", name])
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
}
