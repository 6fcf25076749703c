//! `kasper-dlq`: lists, shows and replays the letters of a dead letter topic.
//!
//! From top to bottom: the [arguments](args); the [letter], which is read out of a message's headers; the [filter];
//! the [cluster], which reads topics without joining a group; and a module for each command: [list], [show], and
//! [replay], which sends through the library, so that an offset is committed after the acks.

mod args;
mod cluster;
mod connection;
mod filter;
mod json;
mod letter;
mod list;
mod render;
mod replay;
mod show;
mod text;
mod time;

use std::io;
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = args.start_log().and_then(|()| match &args.command {
        Command::List(list) => list::run(&args.connection, list),
        Command::Show(show) => show::run(&args.connection, show),
        Command::Replay(replay) => replay::run(&args.connection, replay),
    });
    match outcome {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            text::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The reader of the output, `head` say, has what it wants.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
