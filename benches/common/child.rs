//! Runs in processes of their own, of which this one is the parent.

use std::env;
use std::fmt::Display;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::BoxError;
use super::measure::Sample;

/// After so long a run counts as failed.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// This program, asked to run one case, and what it is told besides, as `--name=value`.
pub(crate) fn this_program<'a>(
    case: &impl Display,
    named: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Command, BoxError> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(format!("--case={case}"));
    command.args(named.into_iter().map(|(name, value)| format!("--{name}={value}")));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// What a child prints that ends well.
pub(crate) fn sample(child: &mut Child) -> Result<Sample, BoxError> {
    sample_within(RUN_LIMIT, child)
}

/// The same with a limit of its own.
pub(crate) fn sample_within(limit: Duration, child: &mut Child) -> Result<Sample, BoxError> {
    Ok(Sample::from_json(&wait(limit, child)?).ok_or("no result")?)
}

/// Waits until a child ends whose output has been read.
pub(crate) fn end(child: &mut Child) -> Result<(), BoxError> {
    wait(RUN_LIMIT, child).map(drop)
}

fn wait(limit: Duration, child: &mut Child) -> Result<String, BoxError> {
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(format!("not done after {limit:?}").into());
        }
        thread::sleep(Duration::from_millis(10));
    };
    let mut text = String::new();
    // A line of JSON fits the pipe: the child did not wait for us to read it.
    if let Some(output) = &mut child.stdout {
        output.read_to_string(&mut text)?;
    }
    if status.success() { Ok(text) } else { Err(status.to_string().into()) }
}
