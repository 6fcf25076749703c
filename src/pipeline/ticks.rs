//! When a lane calls [`Processor::tick`](crate::Processor::tick).
//!
//! Place in the data path: beside it. The lane waits for a tick where it waits for a batch.

use std::future::pending;
#[cfg(feature = "testkit")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "testkit")]
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What makes a lane tick.
#[derive(Debug, Clone)]
pub(crate) enum TickSource {
    /// Nothing does.
    None,
    /// Time does.
    Every(Duration),
    /// The processor tester does: each notification is a tick.
    #[cfg(feature = "testkit")]
    Test(Arc<Notify>),
}

/// The ticks of one processor.
pub(crate) struct Ticks {
    source: TickSource,
    /// For [`TickSource::Every`]; `None` beyond what the clock can tell.
    next: Option<Instant>,
}

impl Ticks {
    pub(crate) fn new(source: TickSource) -> Self {
        Self { source, next: None }
    }

    /// A processor begins, or a tick has ended: the next one is due an interval later.
    ///
    /// Counted from the beginning of a tick, one that takes longer than the interval would be followed by the next, and
    /// no batch would ever come between them.
    pub(crate) fn restart(&mut self) {
        if let TickSource::Every(interval) = self.source {
            self.next = Instant::now().checked_add(interval);
        }
    }

    /// Waits until a tick is due. Cancel-safe.
    pub(crate) async fn due(&self) {
        match &self.source {
            #[cfg(feature = "testkit")]
            TickSource::Test(asked) => asked.notified().await,
            TickSource::None | TickSource::Every(_) => match self.next {
                Some(next) => sleep_until(next).await,
                None => pending().await,
            },
        }
    }
}
