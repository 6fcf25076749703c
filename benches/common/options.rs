//! What the command line asks for, and what it gets.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use super::BoxError;
use super::runs::Case;

// What all benchmarks take. Not a documentation comment: it would take the place of the benchmark's own in the help.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// Write the results to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// How often each case runs [default: 3 with --quick, else 5; growth: 1 and 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Common {
    pub(crate) fn json(&self) -> Option<&Path> {
        self.json.as_deref()
    }

    pub(crate) fn rounds(&self, quick: bool) -> u32 {
        self.rounds_or(if quick { 3 } else { 5 })
    }

    pub(crate) fn rounds_or(&self, default: u32) -> u32 {
        self.rounds.unwrap_or(default)
    }
}

/// How the program ends; says why, if that is an error.
pub(crate) fn exit(result: Result<ExitCode, BoxError>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// The cases asked for, each by its name or by a part of it, and those they are compared with.
pub(crate) fn chosen<C: Case>(all: Vec<C>, only: &[String]) -> Result<Vec<C>, BoxError> {
    let names: Vec<String> = all.iter().map(ToString::to_string).collect();
    let asked = |case: &C| {
        let name = case.to_string();
        // One name may be a part of another.
        let is_meant = |text: &String| match names.contains(text) {
            true => name == *text,
            false => name.contains(text.as_str()),
        };
        only.is_empty() || only.iter().any(is_meant)
    };
    let mut wanted: Vec<C> = all.iter().copied().filter(asked).collect();
    if wanted.is_empty() {
        return Err(format!("no case has such a name; there are\n  {}", names.join("\n  ")).into());
    }
    let bases: Vec<C> = wanted.iter().filter_map(|case| case.base()).collect();
    wanted.extend(bases);
    let ceilings: Vec<C> = wanted.iter().filter_map(|case| case.ceiling()).collect();
    Ok(all.into_iter().filter(|case| wanted.contains(case) || ceilings.contains(case)).collect())
}

/// Prints the table, writes the JSON. Bars missed are information; runs that failed are not.
pub(crate) fn tell(
    table: &str,
    json: &Value,
    file: Option<&Path>,
    failures: &[String],
) -> Result<ExitCode, BoxError> {
    println!("{table}");
    if let Some(file) = file {
        std::fs::write(file, format!("{json:#}\n"))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The address that a server's variable holds.
pub(crate) fn address(benchmark: &str, variable: &str) -> Result<String, BoxError> {
    let address = std::env::var(variable).unwrap_or_default();
    if address.is_empty() {
        return Err(format!(
            "{variable} is not set; `cargo xtask bench {benchmark}` starts a server and sets it"
        )
        .into());
    }
    Ok(address)
}
