//! Signals to processes that this program has started.

use std::process::Child;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// To a process that was not waited for yet.
pub(crate) fn send(process: &Child, signal: Signal) -> Result<()> {
    let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    let id = id.context("a process without a number")?;
    kill_process(id, signal).with_context(|| format!("cannot send {signal:?} to {id:?}"))
}
