//! A request that is under way on a connection: what becomes of the connection when its call is dropped.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::Mutex;

/// How long requests of a connection have waited since one was answered. Time without requests does not count.
#[derive(Default)]
pub(super) struct Silence {
    under_way: usize,
    /// Before the present wait.
    waited: Duration,
    /// When the present wait began: with the first request under way, or the last answer.
    since: Option<Instant>,
}

/// Whose connection it is.
pub(super) trait Owner: Sync {
    /// How long a request may take.
    fn timeout(&self) -> Duration;

    /// Ends this connection for all calls that use it, and makes the next call connect, unless that has happened
    /// already.
    fn give_up(&self, number: u64);
}

/// A request that is under way. Dropped without [`end`](InUse::end), it may give the connection up.
pub(super) struct InUse<'a> {
    owner: &'a dyn Owner,
    silence: Arc<Mutex<Silence>>,
    number: u64,
    writes: bool,
    /// The driver has it. Before, it waits for room, and nothing of it is sent.
    pub(super) is_sent: AtomicBool,
    is_over: bool,
}

impl<'a> InUse<'a> {
    pub(super) fn begin(
        owner: &'a dyn Owner,
        silence: Arc<Mutex<Silence>>,
        number: u64,
        writes: bool,
    ) -> Self {
        let is_sent = AtomicBool::new(false);
        let in_use = Self { owner, silence, number, writes, is_sent, is_over: false };
        let mut silence = in_use.silence();
        silence.under_way += 1;
        silence.since.get_or_insert_with(Instant::now);
        drop(silence);
        in_use
    }

    /// The call has its outcome.
    pub(super) fn end(mut self) {
        self.is_over = true;
    }

    fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock()
    }

    /// How long nothing was answered, when this request is under way no more.
    fn leave(&self) -> Duration {
        let now = Instant::now();
        let mut silence = self.silence();
        silence.under_way -= 1;
        let present = silence.since.map_or(Duration::ZERO, |since| now - since);
        silence.waited = if self.is_over { Duration::ZERO } else { silence.waited + present };
        silence.since = (silence.under_way > 0).then_some(now);
        silence.waited
    }
}

/// A call that is dropped leaves its request under way.
///
/// - A *write* that nobody waits for may be overtaken: after the call that was dropped comes another, perhaps from
///   another process, while the network still has this one.
/// - A connection that does not answer is found by waiting. If all calls are dropped sooner, by a
///   [`Retry`](crate::store::Retry) with a deadline not longer than the time-out, say, none would ever wait long
///   enough, and all would use that connection. So it is given up when nothing was answered for half of the time.
impl Drop for InUse<'_> {
    fn drop(&mut self) {
        let silent = self.leave();
        if self.is_over || !*self.is_sent.get_mut() {
            return;
        }
        if self.writes || silent >= self.owner.timeout() / 2 {
            self.owner.give_up(self.number);
        }
    }
}
