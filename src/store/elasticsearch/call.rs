//! A call of a store's user, and the requests that it becomes.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use tokio::time::{Instant, sleep};

use crate::backoff::{Waits, deadline};
use crate::error::{Error, ErrorKind};

/// One call of the store's user, which may become many requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) operation: &'static str,
    deadline: Instant,
}

impl Call {
    /// A call that begins now, and may take so long.
    pub(super) fn begin(operation: &'static str, timeout: Duration) -> Self {
        Self { operation, deadline: deadline(timeout) }
    }

    /// `None` when the deadline is over.
    pub(super) fn remaining(self) -> Option<Duration> {
        self.deadline.checked_duration_since(Instant::now()).filter(|time| !time.is_zero())
    }

    /// The deadline ended the attempt that failed so.
    pub(super) fn is_cut_short(self, error: &Error) -> bool {
        error.kind() == ErrorKind::Timeout && self.remaining().is_none()
    }

    /// The waits before a server that is busy is asked again.
    pub(super) fn waits() -> Waits {
        Waits::new(Duration::from_millis(50), Duration::from_secs(2))
    }

    /// Waits. False, and at once where that can be known, if the deadline is over then.
    pub(super) async fn wait(self, waits: &mut Waits) -> bool {
        match waits.next(self.deadline) {
            Some(wait) => {
                sleep(wait).await;
                self.remaining().is_some()
            }
            None => false,
        }
    }
}

/// What is sent. Cloned for each attempt, which copies no body.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    /// Made twice at the same time, or late, it does no harm.
    pub(super) reads: bool,
}

/// What a server has answered.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) body: Bytes,
    /// Its address, for errors.
    pub(super) server: &'a str,
}

pub(super) const JSON: &str = "application/json";
pub(super) const LINES: &str = "application/x-ndjson";
