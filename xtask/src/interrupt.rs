//! Ctrl-C, SIGTERM and SIGHUP: what is running is ended, and the normal way out stops the servers.
//!
//! Every child runs in a process group of its own, so a Ctrl-C at the terminal reaches this process
//! alone. The signal thread ends the child's group; whoever waits for the child sees it end,
//! returns an error, and the guards on the way out do the rest. Nothing is ever cleaned up from the
//! signal thread itself.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::process;

/// How long an interrupted child may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// The first signal received, 0 before any.
static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// The child that [`run`] waits for: the id of its process group.
static CHILD: Mutex<Option<u32>> = Mutex::new(None);

/// Starts the thread that waits for signals.
pub(crate) fn install() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                let first = RECEIVED
                    .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst)
                    .is_ok();
                if first {
                    eprintln!("\nxtask: interrupted, cleaning up");
                    end_child(Signal::TERM);
                    thread::spawn(|| {
                        thread::sleep(GRACE);
                        end_child(Signal::KILL);
                    });
                } else {
                    end_child(Signal::KILL);
                }
            }
        })
        .context("cannot start the signal thread")?;
    Ok(())
}

/// Fails once a signal has been received. Loops that wait for something call it every time round.
pub(crate) fn check() -> Result<()> {
    match RECEIVED.load(Ordering::SeqCst) {
        0 => Ok(()),
        _ => bail!("interrupted"),
    }
}

/// What a shell expects of a process ended by the signal received, if one was.
pub(crate) fn exit_code() -> Option<ExitCode> {
    match RECEIVED.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from)),
    }
}

/// Runs a command to its end, without input. Fails if it cannot be started or a signal ended it on
/// our behalf.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    run_within(command, Duration::MAX)
}

/// As [`run`]; what takes longer than the limit is killed with all that it started, and fails.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    check()?;
    let mut child = start(command)?;
    // A signal that came before `start` had registered the child found nothing to end.
    if check().is_err() {
        end_child(Signal::TERM);
    }
    let status = wait(&mut child, limit);
    let group = registered().take();
    if check().is_err() {
        // A grandchild may handle SIGTERM in its own time; with its parent gone, nobody waits for
        // it.
        if let Some(group) = group {
            process::signal_group(group, Signal::KILL);
        }
        check()?;
    }
    match status {
        Ok(Some(status)) => Ok(status),
        Ok(None) => bail!("{} has hung: ended after {limit:?}", process::program(command)),
        Err(error) => {
            Err(error).with_context(|| format!("cannot wait for {}", process::program(command)))
        }
    }
}

/// `None` if it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() >= limit {
            process::signal_group(child.id(), Signal::KILL);
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn start(command: &mut Command) -> Result<Child> {
    let mut registered = registered();
    let child = command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", process::program(command)))?;
    *registered = Some(child.id());
    Ok(child)
}

fn end_child(signal: Signal) {
    if let Some(group) = *registered() {
        process::signal_group(group, signal);
    }
}

fn registered() -> MutexGuard<'static, Option<u32>> {
    CHILD.lock().unwrap_or_else(PoisonError::into_inner)
}
