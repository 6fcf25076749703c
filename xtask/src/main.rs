//! The project's own commands, run as `cargo xtask …`: the servers that tests need, the whole test
//! run, the benchmarks.
//!
//! Works on Unix (Linux, macOS): it handles process groups and signals.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to its user"
)]

mod bench;
mod cargo;
mod chaos;
mod interrupt;
mod process;
mod servers;
mod steps;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The project's own commands",
    version
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Servers(servers::Args),
    /// Install what `test` and `bench check` need (as root on Debian), or say what is missing
    Setup,
    Test(test::Args),
    Bench(bench::Args),
    Chaos(chaos::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = interrupt::install().and_then(|()| match cli.command {
        Command::Servers(args) => servers::run(&args),
        Command::Setup => test::set_up(),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Chaos(args) => chaos::run(&args),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            interrupt::exit_code().unwrap_or(ExitCode::FAILURE)
        }
    }
}
