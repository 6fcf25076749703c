//! `kasper-chaos self-test`: every defect of a worker is found by a run.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use clap::ValueEnum as _;

use crate::args::{Defect, SelfTest, name_of};
use crate::oracle::Promise;

/// What a run with this defect has to complain of.
fn expected(defect: Defect) -> Promise {
    match defect {
        Defect::LoseOne => Promise::Ledger,
        Defect::OutputMissing => Promise::Output,
        Defect::Disorder => Promise::Order,
        Defect::EarlyOk => Promise::NeverAhead,
        Defect::DropLetters => Promise::Letters,
    }
}

/// Whether all were found.
pub(crate) fn run(arguments: &SelfTest) -> Result<bool> {
    let defects = match &*arguments.only {
        [] => Defect::value_variants(),
        only => only,
    };
    let mut all = true;
    for defect in defects {
        let found = is_found(&arguments.brokers, *defect)?;
        println!("{}: {}", name_of(defect), if found { "found" } else { "NOT FOUND" });
        all &= found;
    }
    Ok(all)
}

fn is_found(brokers: &str, defect: Defect) -> Result<bool> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--brokers", brokers, "--minutes", "0.3", "--seed", "1"]);
    command.args(["--faults", "kill-worker", "--break", &name_of(&defect)]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(0) => Ok(false),
        Some(1) => Ok(text.contains(&expected(defect).to_string())),
        _ => bail!("the run with {} has failed: {}\n{text}", name_of(&defect), output.status),
    }
}
