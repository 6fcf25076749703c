//! The schemas that a decoder has loaded, in the form in which it uses them.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use kasper::{Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::frame;
use crate::registry::{Registered, Registry};

/// How many schemas are fetched at a time.
const CONCURRENCY: usize = 8;

/// How long an unknown id is remembered after it may be asked for again. Longer than a batch may take.
const KEPT: Duration = Duration::from_secs(3600);

/// By id, what a decoder has made of the schema. Clones share it.
pub(crate) struct Loaded<W> {
    inner: Arc<Inner<W>>,
}

struct Inner<W> {
    registry: Registry,
    entries: RwLock<HashMap<u32, Entry<W>>>,
}

enum Entry<W> {
    Ready(Arc<W>),
    /// The schema exists, but not for this decoder; why.
    Unusable(String),
    /// The registry gave no schema for the id, when it was asked; its words, if there were any.
    Unknown(Instant, Option<String>),
}

impl<W> Loaded<W> {
    pub(crate) fn new(registry: &Registry) -> Self {
        let (registry, entries) = (registry.clone(), RwLock::default());
        Self { inner: Arc::new(Inner { registry, entries }) }
    }

    /// The ids that these values were written with, and that have to be asked for. Values that begin otherwise are left
    /// out: decoding them is an error.
    pub(crate) fn missing<'a>(&self, values: impl IntoIterator<Item = &'a [u8]>) -> BTreeSet<u32> {
        let mut ids = BTreeSet::new();
        let mut last = None;
        for (id, _) in values.into_iter().filter_map(|value| frame::split(value).ok()) {
            // Nearly always, all messages of a batch have the same one.
            if last.replace(id) != Some(id) {
                ids.insert(id);
            }
        }
        let again = self.inner.registry.config().ask_again_after;
        let older = |entry: &Entry<W>, age| matches!(entry, Entry::Unknown(when, _) if when.elapsed() >= age);
        {
            let entries = self.read();
            ids.retain(|id| entries.get(id).is_none_or(|entry| older(entry, again)));
        }
        if !ids.is_empty() {
            // Ids that don't exist take no memory for good. An entry stays until there is a new answer: another partition may
            // have loaded it, and not have decoded its message yet, which would then count as not loaded.
            let age = again.saturating_add(KEPT);
            self.write().retain(|_, entry| !older(entry, age));
        }
        ids
    }

    /// Fetches the schemas with these ids.
    ///
    /// Ids that the registry does not know, and schemas that cannot be used, are no errors here, but when a value with
    /// such an id is decoded: so they concern one message, and not its batch.
    ///
    /// # Errors
    /// Those of the registry, without `NotFound`.
    pub(crate) async fn fetch(
        &self,
        ids: BTreeSet<u32>,
        prepare: impl Fn(&Registered) -> Result<W, String>,
    ) -> Result<()> {
        let registry = &self.inner.registry;
        let fetches = ids.into_iter().map(|id| async move { (id, registry.schema(id).await) });
        let mut fetches = stream::iter(fetches).buffer_unordered(CONCURRENCY);
        while let Some((id, fetched)) = fetches.next().await {
            let entry = match fetched {
                Ok(schema) => prepare(&schema)
                    .map_or_else(Entry::Unusable, |writer| Entry::Ready(Arc::new(writer))),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    tracing::warn!(target: "kasper", ?error, "messages have the id of an unknown schema");
                    Entry::Unknown(Instant::now(), error.get("reason").map(str::to_owned))
                }
                Err(error) => return Err(error),
            };
            self.write().insert(id, entry);
        }
        Ok(())
    }

    /// What was made of the schema with this id.
    ///
    /// # Errors
    /// It is not loaded, unknown, or cannot be used.
    pub(crate) fn get(&self, id: u32) -> Result<Arc<W>> {
        let told = |kind, message: &str| Error::new(kind, message).with("schema_id", id);
        Err(match self.read().get(&id) {
            Some(Entry::Ready(writer)) => return Ok(writer.clone()),
            Some(Entry::Unusable(reason)) => told(ErrorKind::Decode, reason),
            Some(Entry::Unknown(_, reason)) => {
                let message = "the registry has no schema with this id";
                let error = told(ErrorKind::NotFound, message);
                reason.iter().fold(error, |error, reason| error.with("reason", reason))
            }
            None => told(
                ErrorKind::InvalidInput,
                "the schema is not loaded: call `load_values` or `load_keys` first",
            ),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<u32, Entry<W>>> {
        self.inner.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<u32, Entry<W>>> {
        self.inner.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W> Clone for Loaded<W> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<W> fmt::Debug for Loaded<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ids: Vec<u32> = self.read().keys().copied().collect();
        ids.sort_unstable();
        f.debug_struct("Loaded").field("registry", &self.inner.registry).field("ids", &ids).finish()
    }
}
