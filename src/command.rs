//! What a lane is told, and when it has to give up.
//!
//! Place in the data path: beside it. The coordinator sends a [`Command`] to each lane; the lane waits for
//! it wherever it waits, and looks at it before it produces.

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What the topic processor wants of a lane; the latest counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Command {
    Run,
    /// Begin no batch; finish what is in flight.
    Pause,
    /// Begin no batch, finish what is in flight until the deadline, end. `None`: take your time.
    Drain(Option<Instant>),
    /// End now; nothing more may finish.
    Stop,
}

impl Command {
    fn is_over(self) -> bool {
        match self {
            Self::Stop => true,
            Self::Drain(deadline) => deadline.is_some_and(|deadline| deadline <= Instant::now()),
            Self::Run | Self::Pause => false,
        }
    }
}

/// Whether the lane must give up now: told to stop, past its drain deadline, or left by a topic processor
/// that is gone.
///
/// For code that may have blocked its thread: it has seen no command meanwhile, and `over` gets to say so
/// only at the next await.
pub(crate) fn is_over(commands: &watch::Receiver<Command>) -> bool {
    // An error means that the topic processor is gone.
    commands.has_changed().is_err() || commands.borrow().is_over()
}

/// Done when [`is_over`].
pub(crate) async fn over(commands: &mut watch::Receiver<Command>) {
    loop {
        let command = *commands.borrow_and_update();
        let deadline = match command {
            Command::Stop => return,
            Command::Drain(deadline) => deadline,
            Command::Run | Command::Pause => None,
        };
        let passed = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = passed => return,
            // A topic processor that is gone wants nothing finished any more.
            changed = commands.changed() => if changed.is_err() { return },
        }
    }
}

/// Done when the lane is to end, at once or after draining.
pub(crate) async fn ending(commands: &mut watch::Receiver<Command>) {
    let wanted = |command: &Command| matches!(command, Command::Stop | Command::Drain(_));
    // An error means that the topic processor is gone: end as well.
    let _ended = commands.wait_for(wanted).await;
}
