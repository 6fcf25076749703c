//! A store that counts how often it is called: whether `Retry` around it had to try again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kasper::store::Store;
use kasper::{Bytes, Result};

/// Passes everything on.
#[derive(Debug, Clone)]
pub(crate) struct Attempts<S> {
    store: S,
    writes: Arc<AtomicUsize>,
}

impl<S> Attempts<S> {
    pub(crate) fn new(store: S) -> Self {
        Self { store, writes: Arc::default() }
    }

    /// Calls of `write_many` so far.
    pub(crate) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }
}

impl<S: Store> Store for Attempts<S> {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.store.get_many(keys).await
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.store.write_many(changes).await
    }

    async fn flush(&self) -> Result<()> {
        self.store.flush().await
    }
}
