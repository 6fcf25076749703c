//! `kasper-top`: shows Kasper's topic processors live in a terminal, from the `/status` of one or more processes.
//!
//! From top to bottom: the arguments; a task for each process, which [fetches](fetch) its status at intervals; the
//! [model], which keeps the last answers; the [view], which makes lines of it; and the [screen], which shows them and
//! listens to keys.

mod fetch;
mod keys;
mod model;
mod screen;
mod status;
mod view;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::sync::mpsc;

use fetch::{Address, Answer};
use model::Model;

/// Show Kasper's topic processors live in a terminal
///
/// Reads `/status` of the processes' admin servers (Kasper's feature `admin`), each by itself: one that does not answer
/// holds up none of the others. `?` shows the keys.
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Args {
    /// Where admin servers listen: host:port, or http://host:port/path where one is mounted below a path
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<Address>,

    /// Seconds between two questions to a process
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,

    /// Print all that there is once, without a terminal; fails if a process does not answer
    #[arg(long)]
    once: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if duration < Duration::from_millis(100) {
        return Err("at least 0.1".into());
    }
    Ok(duration)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let Args { addresses, interval, once } = Args::parse();
    if once {
        return Ok(print_once(&addresses).await);
    }
    let (sender, answers) = mpsc::channel(addresses.len());
    for (process, address) in addresses.iter().enumerate() {
        tokio::spawn(fetch::poll(process, address.clone(), interval, sender.clone()));
    }
    screen::show(Model::new(&addresses), answers).await?;
    Ok(ExitCode::SUCCESS)
}

#[allow(clippy::print_stdout, reason = "its output")]
async fn print_once(addresses: &[Address]) -> ExitCode {
    let mut model = Model::new(addresses);
    let client = fetch::client();
    let asked = addresses.iter().map(|address| fetch::status(&client, address));
    let answers = futures_util::future::join_all(asked).await;
    for (process, result) in answers.into_iter().enumerate() {
        model.note(Answer { process, result });
    }
    let all = view::View { width: u16::MAX, ..view::View::default() };
    for line in view::lines(&model, &all) {
        println!("{}", line.to_string().trim_end());
    }
    if model.unreachable() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
