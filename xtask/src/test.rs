//! The whole test run: what a developer and continuous integration run before a change goes in.

use std::io::Write as _;
use std::process::Command;

use anyhow::Result;

use crate::cargo::cargo;
use crate::servers::{Purpose, Session};
use crate::steps::Steps;

/// Run all tests, those against real servers too
///
/// Starts the servers that do not run yet (see `cargo xtask servers`), and stops those it started
/// at the end, also after a failure or Ctrl-C. Then, in this order:
///
///   1. `cargo test -p kasper --features testkit --lib --tests --tests -- --include-ignored`:
///      unit and integration tests. Tests that need a server are ignored in a plain `cargo test`.
///   2. `cargo test -p kasper --features testkit --doc`: the examples in the documentation
///   3. `cargo test -p xtask`: this tool's own tests
///
/// To use a Kafka broker of your own, which is then neither started nor stopped:
///
///   KASPER_TEST_KAFKA=localhost:9092 cargo xtask test
///
/// The tests create topics and groups with names of their own, and leave some behind: take no
/// broker that matters.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Run only tests whose name contains one of these
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,

    /// Go on after a failure
    #[arg(long)]
    no_fail_fast: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let session = Session::open(Purpose::Test)?;
    let mut steps = Steps::new(args.no_fail_fast);
    // As programs: tests start them. `cargo test --examples` would only build their unit tests.
    steps.run("examples", &mut cargo(EXAMPLES))?;
    for (name, arguments, include_ignored) in STEPS {
        let mut command = step(args, arguments, *include_ignored);
        session.tell(&mut command);
        steps.run(name, &mut command)?;
    }
    if steps.failed() {
        session.save_logs();
    }
    // Stopped before the summary, so that the outcome is the last line.
    drop(session);
    // Nothing is lost if the output cannot be flushed.
    let _ = std::io::stdout().flush();
    steps.finish()
}

const EXAMPLES: &[&str] = &["build", "-p", "kasper", "--features", "testkit", "--examples"];

/// A step's name, its arguments for cargo, and whether it includes the tests against real servers.
const STEPS: &[(&str, &[&str], bool)] = &[
    (
        "unit and integration tests",
        &["test", "-p", "kasper", "--features", "testkit", "--lib", "--tests"],
        true,
    ),
    ("documentation tests", &["test", "-p", "kasper", "--features", "testkit", "--doc"], false),
    ("xtask's tests", &["test", "-p", "xtask"], false),
];

fn step(args: &Args, arguments: &[&str], include_ignored: bool) -> Command {
    let mut command = cargo(arguments);
    if args.no_fail_fast {
        command.arg("--no-fail-fast");
    }
    command.arg("--").args(include_ignored.then_some("--include-ignored")).args(&args.filters);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(args: &Args, index: usize) -> String {
        let (_, arguments, include_ignored) = STEPS[index];
        let command = step(args, arguments, include_ignored);
        command.get_args().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_the_first_step_includes_ignored_tests() {
        let args = Args { filters: Vec::new(), no_fail_fast: false };
        assert!(line(&args, 0).ends_with("--tests -- --include-ignored"));
        assert_eq!(line(&args, 1), "test -p kasper --features testkit --doc --");
    }

    #[test]
    fn filters_and_no_fail_fast_go_to_every_step() {
        let args = Args { filters: vec!["a".to_owned(), "b".to_owned()], no_fail_fast: true };
        assert!(line(&args, 0).ends_with("--tests --no-fail-fast -- --include-ignored a b"));
        assert_eq!(line(&args, 2), "test -p xtask --no-fail-fast -- a b");
    }
}
