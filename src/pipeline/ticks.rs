//! When a lane calls [`Processor::tick`](crate::Processor::tick).
//!
//! Place in the data path: beside it. The lane waits for a tick where it waits for a batch.

use std::future::pending;
#[cfg(feature = "testkit")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "testkit")]
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

/// What makes a lane tick.
#[derive(Debug, Clone)]
pub(crate) enum TickSource {
    /// Nothing does.
    None,
    /// Time does.
    Every(Duration),
    /// The processor tester does: each permit is a tick.
    #[cfg(feature = "testkit")]
    Test(Arc<Semaphore>),
}

impl TickSource {
    /// Waits until a tick is due; `since` is when the processor began, or when its last tick was finished. Cancel-safe.
    ///
    /// Finished, and not called: else a tick whose call or whose acks take longer than the interval would be followed by
    /// the next one, and no batch would ever come between them.
    pub(crate) async fn due(&self, since: Instant) {
        match self {
            Self::None => pending().await,
            Self::Every(interval) => match since.checked_add(*interval) {
                Some(time) => sleep_until(time).await,
                // Beyond what the clock can tell.
                None => pending().await,
            },
            #[cfg(feature = "testkit")]
            Self::Test(asked) => match asked.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => pending().await,
            },
        }
    }
}
