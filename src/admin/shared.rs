//! What requests share: the processors that are watched, and who listens.

use std::sync::{Arc, MutexGuard};

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::metrics::MetricsText;
use super::sampler::{History, Lately, Rates};
use super::token::Token;
use crate::handle::Handle;
use crate::lock::Mutex;

/// How many clients may listen to `/events`.
pub(super) const MAX_LISTENERS: usize = 16;

/// What requests share.
pub(super) struct ServerState {
    pub(super) processors: Vec<Watched>,
    pub(super) metrics: Option<MetricsText>,
    pub(super) token: Option<Token>,
    /// A permit for each client that listens to `/events`.
    pub(super) places: Arc<Semaphore>,
    /// The status of the last look, as JSON, while anybody listens. A slow listener misses some.
    pub(super) latest: watch::Sender<Arc<str>>,
}

impl ServerState {
    pub(super) fn new(
        processors: Vec<Handle>,
        metrics: Option<MetricsText>,
        token: Option<Token>,
    ) -> Self {
        Self {
            processors: processors.into_iter().map(Watched::new).collect(),
            metrics,
            token,
            places: Arc::new(Semaphore::new(MAX_LISTENERS)),
            latest: watch::Sender::new("".into()),
        }
    }
}

/// A processor, and how it went lately.
pub(super) struct Watched {
    pub(super) handle: Handle,
    lately: Mutex<Lately>,
}

impl Watched {
    fn new(handle: Handle) -> Self {
        Self { handle, lately: Mutex::default() }
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock()
    }

    pub(super) fn look(&self) {
        let status = self.handle.status();
        self.lately().look(&status, Instant::now());
    }

    pub(super) fn rates(&self) -> Rates {
        self.lately().rates.clone()
    }

    pub(super) fn history(&self) -> History {
        self.lately().history.clone()
    }
}
