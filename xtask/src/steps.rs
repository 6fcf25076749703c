//! Commands run one after the other, with a heading, the time of each and one last line that says
//! how it went.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::interrupt;

/// The longest that a step may take, building from nothing on two slow cores included: a test that hangs is to fail
/// by its own step's name, not by whoever ends the whole run without one.
const LIMIT: Duration = Duration::from_secs(25 * 60);

/// The steps of a run so far.
#[derive(Debug)]
pub(crate) struct Steps {
    go_on: bool,
    limit: Duration,
    began: Instant,
    again: Option<String>,
    done: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: String,
    outcome: Outcome,
    took: Duration,
    /// What runs it alone.
    again: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// A step before it failed.
    NotRun,
    /// For this reason, which nobody must have to guess.
    Skipped(String),
}

impl Steps {
    /// `go_on`: run the steps after a failed one too.
    pub(crate) fn new(go_on: bool) -> Self {
        Self { go_on, limit: LIMIT, began: Instant::now(), again: None, done: Vec::new() }
    }

    /// What runs the next steps again, each alone, where that is not just their command: they need a server.
    pub(crate) fn set_again(&mut self, command: Option<String>) {
        self.again = command;
    }

    /// Runs the next step, unless one before it failed. Fails only if interrupted; a step's failure
    /// is for [`finish`](Self::finish).
    pub(crate) fn run(&mut self, name: &str, command: &mut Command) -> Result<()> {
        if self.is_over() {
            self.push(name, Outcome::NotRun, Duration::ZERO, "");
            return Ok(());
        }
        let typed = shown(command);
        println!("\n== [{:4} s] {name}: {typed}", self.began.elapsed().as_secs());
        let began = Instant::now();
        let passed = match interrupt::run_within(command, self.limit) {
            Ok(status) => status.success(),
            Err(error) => {
                interrupt::check()?;
                eprintln!("xtask: {error:#}");
                false
            }
        };
        let outcome = if passed { Outcome::Passed } else { Outcome::Failed };
        self.push(name, outcome, began.elapsed(), &typed);
        Ok(())
    }

    /// Notes a step that is not run, and why.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        println!("\n== {name}: SKIPPED: {reason}");
        self.push(name, Outcome::Skipped(reason.to_owned()), Duration::ZERO, "");
    }

    /// Notes a step that cannot be run, which is a failure.
    pub(crate) fn fail(&mut self, name: &str, error: &anyhow::Error) {
        eprintln!("\n== {name}: {error:#}");
        self.push(name, Outcome::Failed, Duration::ZERO, "");
    }

    /// Whether no further step is run.
    pub(crate) fn is_over(&self) -> bool {
        self.failed() && !self.go_on
    }

    pub(crate) fn failed(&self) -> bool {
        self.done.iter().any(|step| step.outcome == Outcome::Failed)
    }

    /// Prints the summary. Fails if a step did, with its name and what runs it alone.
    pub(crate) fn finish(&self) -> Result<()> {
        println!("\n{}", self.summary());
        let failed: Vec<String> = self
            .done
            .iter()
            .filter(|step| step.outcome == Outcome::Failed)
            .map(|step| match step.again.as_str() {
                "" => step.name.clone(),
                again => format!("{}; to run it alone: {again}", step.name),
            })
            .collect();
        if failed.is_empty() {
            match self.done.iter().any(|step| matches!(step.outcome, Outcome::Skipped(_))) {
                true => println!("all passed that were run; see SKIPPED above"),
                false => println!("all passed"),
            }
            return Ok(());
        }
        bail!("FAILED: {}", failed.join("\n              "))
    }

    fn push(&mut self, name: &str, outcome: Outcome, took: Duration, typed: &str) {
        let again = self.again.clone().unwrap_or_else(|| typed.to_owned());
        self.done.push(Step { name: name.to_owned(), outcome, took, again });
    }

    fn summary(&self) -> String {
        let lines: Vec<String> = self.done.iter().map(Step::line).collect();
        lines.join("\n")
    }
}

impl Step {
    fn line(&self) -> String {
        let outcome = match &self.outcome {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::NotRun => return format!("not run          {}", self.name),
            Outcome::Skipped(reason) => return format!("SKIPPED          {}: {reason}", self.name),
        };
        format!("{outcome} {:>7.1} s {}", self.took.as_secs_f32(), self.name)
    }
}

/// The command as one would type it.
fn shown(command: &Command) -> String {
    let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    let words: Vec<String> =
        std::iter::once(crate::process::program(command)).chain(arguments).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_ends_the_run_and_is_named() {
        let mut steps = Steps::new(false);
        steps.run("one", &mut Command::new("true")).expect("not interrupted");
        steps.run("two", &mut Command::new("false")).expect("not interrupted");
        steps.run("three", &mut Command::new("true")).expect("not interrupted");
        let outcomes: Vec<Outcome> = steps.done.iter().map(|step| step.outcome.clone()).collect();
        assert_eq!(outcomes, [Outcome::Passed, Outcome::Failed, Outcome::NotRun]);
        let told = steps.finish().expect_err("failed").to_string();
        assert_eq!(told, "FAILED: two; to run it alone: false");
    }

    #[test]
    fn going_on_names_every_failure() {
        let mut steps = Steps::new(true);
        steps.run("one", &mut Command::new("false")).expect("not interrupted");
        steps.set_again(Some("sh two".to_owned()));
        steps.run("two", &mut Command::new("no-such-program")).expect("not interrupted");
        assert_eq!(
            steps.finish().expect_err("failed").to_string(),
            "FAILED: one; to run it alone: false\n              two; to run it alone: sh two"
        );
    }

    #[test]
    fn a_step_that_hangs_is_ended_and_fails() {
        let mut steps = Steps { limit: Duration::from_millis(100), ..Steps::new(false) };
        // With a child of its own, which would go on without it.
        let mut hangs = Command::new("sh");
        steps.run("one", hangs.args(["-c", "sleep 1000 & wait"])).expect("not interrupted");
        let told = steps.finish().expect_err("failed").to_string();
        assert!(told.starts_with("FAILED: one; "), "{told}");
    }

    #[test]
    fn a_skipped_step_is_no_failure_and_says_why() {
        let mut steps = Steps::new(false);
        steps.skip("one", "nobody wants it");
        steps.finish().expect("nothing failed");
        assert_eq!(steps.summary(), "SKIPPED          one: nobody wants it");
        steps.fail("two", &anyhow::anyhow!("no compiler"));
        assert_eq!(steps.finish().expect_err("failed").to_string(), "FAILED: two");
    }

    #[test]
    fn commands_are_shown_as_typed() {
        assert_eq!(shown(Command::new("/usr/bin/cargo").args(["test", "-p"])), "cargo test -p");
    }
}
