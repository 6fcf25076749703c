//! Runs in processes of their own, of which this one is the parent.

use std::io::Read as _;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use super::BoxError;

/// After so long a run counts as failed.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// The output of a child that ended well.
pub(crate) fn wait(child: &mut Child) -> Result<String, BoxError> {
    let deadline = Instant::now() + RUN_LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(format!("not done after {RUN_LIMIT:?}").into());
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
