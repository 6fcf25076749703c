//! What the command line asks for, and what it gets.

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use super::BoxError;
use super::runs::Case;

/// The cases asked for, and those they are compared with.
pub(crate) fn chosen<C: Case>(all: Vec<C>, only: &[String]) -> Result<Vec<C>, BoxError> {
    let asked = |case: &C| {
        let name = case.to_string();
        only.is_empty() || only.iter().any(|text| name.contains(text.as_str()))
    };
    let wanted: Vec<C> = all.iter().copied().filter(asked).collect();
    if wanted.is_empty() {
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        return Err(format!("no case has such a name; there are\n  {}", names.join("\n  ")).into());
    }
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
