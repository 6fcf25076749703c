//! `cargo xtask bench check`: what moved since the baseline, in instructions of a message and ratios to the raw loop.

mod compare;
mod figures;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::Value;

use self::compare::Comparison;
use self::figures::{Figures, instructions, ratios};
use super::{Benchmark, bench, open};
use crate::cargo::{target, workspace};
use crate::servers::Session;
use crate::steps::Steps;
use crate::tools::{self, Tool};

/// Where the baseline is, in the workspace.
const BASELINE: &str = "benches/baseline.json";

/// The cases whose ratios are compared.
const RATIOS: &[&str] = &[
    "consume/100B/ours-static",
    "consume/1KiB/ours-static",
    "pass-through/100B/ours-static",
    "pass-through/1KiB/ours-static",
];

/// Compares instructions per message, and ratios to the raw loop, with benches/baseline.json, and marks what moved by
/// more than 5 %. That is information: nothing that moved is an error.
///
/// Instructions are the client's and the library's together, counted by `cargo xtask bench pipeline --instructions`,
/// which needs valgrind; without it, they are left out. They depend on compilers, and hardly on what else the machine
/// does. Ratios are of three rounds of `cargo xtask bench pipeline --quick`. They are noisy, and moved only if the
/// range of the rounds does not overlap the baseline's either.
#[derive(Parser)]
#[command(name = "cargo xtask bench check", verbatim_doc_comment)]
struct Options {
    /// Count instructions on shorter topics, which takes less than half of the time; they repeat to about 1 %
    #[arg(long)]
    quick: bool,

    /// Write the baseline from this run
    #[arg(long)]
    save: bool,

    /// Write the comparison to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) fn run(args: &[String]) -> Result<()> {
    let name = "cargo xtask bench check".to_owned();
    let options = Options::parse_from([&name].into_iter().chain(args));
    let missing = tools::problem(&[Tool::Valgrind]);
    if let Some(problem) = missing.as_ref().filter(|_| options.save) {
        bail!("--save needs all figures, and {problem}");
    }
    let mut steps = Steps::new(false);
    steps.run("build", bench(Benchmark::Pipeline).arg("--no-run"))?;
    if steps.failed() {
        return steps.finish();
    }
    let session = open(Benchmark::Pipeline, &[])?;
    let mut now = Figures::new(versions()?);
    if let Some(problem) = missing {
        steps.skip("instructions", &format!("{problem}; as root, `cargo xtask setup` installs it"));
    } else {
        let quick: &[&str] = if options.quick { &["--quick"] } else { &[] };
        let args = [&["--instructions"], quick].concat();
        if let Some(json) = measure(&mut steps, &session, "instructions", &args)? {
            now.add(&json, instructions)?;
        }
    }
    let args = [&["--quick", "--only"], RATIOS].concat();
    if let Some(json) = measure(&mut steps, &session, "ratios", &args)? {
        now.add(&json, ratios)?;
    }
    if steps.failed() {
        session.save_logs();
    }
    steps.finish()?;
    tell(&options, &now)
}

/// Runs the benchmark with these arguments. `None` if it failed.
fn measure(
    steps: &mut Steps,
    session: &Session,
    name: &str,
    args: &[&str],
) -> Result<Option<Value>> {
    let folder = target().join("bench-check");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = folder.join(format!("{name}.json"));
    let mut command = bench(Benchmark::Pipeline);
    command.arg("--").args(args).arg("--json").arg(&file);
    steps.run(name, session.tell(&mut command))?;
    if steps.failed() { Ok(None) } else { read(&file) }
}

/// A file of JSON, if there is one.
fn read(file: &Path) -> Result<Option<Value>> {
    let context = || format!("cannot read {}", file.display());
    if !file.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(file).with_context(context)?;
    serde_json::from_str(&text).map(Some).with_context(context)
}

/// Prints the comparison, writes what is asked for.
fn tell(options: &Options, now: &Figures) -> Result<()> {
    let file = workspace().join(BASELINE);
    let baseline = read(&file)?.map(|json| Figures::from_json(&json)).transpose()?;
    let comparison = Comparison { baseline: baseline.as_ref(), now };
    println!("\n{}", comparison.table());
    let write = |file: &Path, json: Value| {
        fs::write(file, format!("{json:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))
    };
    if let Some(file) = &options.json {
        write(file, comparison.json())?;
    }
    if options.save {
        write(&file, now.to_json())?;
        println!("written to {BASELINE}");
    }
    Ok(())
}

/// The date, and the version of the compiler; the benchmark tells the others.
fn versions() -> Result<Vec<(String, String)>> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = output(Command::new(rustc).arg("-vV").current_dir(workspace()))?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let (version, host) = field("rustc ").zip(field("host: ")).context("rustc has no version")?;
    let date = output(Command::new("date").args(["-u", "+%F"]))?;
    Ok(vec![
        ("date".to_owned(), date.trim().to_owned()),
        ("rustc".to_owned(), format!("{version}, {host}")),
    ])
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
