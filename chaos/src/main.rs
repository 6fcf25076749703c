//! `kasper-chaos`: runs processors under faults, and checks from outside that the library's promises hold.
//!
//! From top to bottom: the [arguments](args); [run], which puts a run together: the [feed], the [members], the
//! [watch], and the [nemesis] with its [schedule]; the [oracle], which judges; and the [report] with its [timeline].
//! A [worker] is a process of its own.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to its user"
)]

mod args;
mod cluster;
mod feed;
mod id;
mod log;
mod members;
mod nemesis;
mod oracle;
mod progress;
mod redis_server;
mod report;
mod run;
mod schedule;
mod self_test;
mod signal;
mod timeline;
mod watch;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::SelfTest(arguments) => self_test::run(&arguments),
        Command::Worker(arguments) => worker::run(&arguments).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("kasper-chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}
