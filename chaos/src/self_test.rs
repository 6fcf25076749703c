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

/// Whether all were found, and nothing was found in workers without a defect.
pub(crate) fn run(arguments: &SelfTest) -> Result<bool> {
    let defects = match &*arguments.only {
        [] => Defect::value_variants(),
        only => only,
    };
    let (status, text) = short_run(&arguments.brokers, &[])?;
    let mut all = status == 0;
    match all {
        true => println!("no defect: nothing found"),
        false => println!("no defect: SOMETHING FOUND\n{text}"),
    }
    for defect in defects {
        let name = name_of(defect);
        let (status, text) = short_run(&arguments.brokers, &["--break", &name])?;
        let found = status == 1 && text.contains(&expected(*defect).to_string());
        println!("{name}: {}", if found { "found" } else { "NOT FOUND" });
        all &= found;
    }
    Ok(all)
}

/// How it ended: with 0 or 1; and what it said.
fn short_run(brokers: &str, more: &[&str]) -> Result<(i32, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--brokers", brokers, "--minutes", "0.3", "--seed", "1"]);
    command.args(["--faults", "kill-worker"]).args(more);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.code() {
        Some(code @ (0 | 1)) => Ok((code, text)),
        _ => bail!("the run has failed: {}\n{text}", output.status),
    }
}
