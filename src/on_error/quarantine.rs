//! [`Quarantine`]: that messages follow a rejected one of their key.
//!
//! Place in the data path: a setting of the [`ErrorPolicy`](super::ErrorPolicy). What a lane does with it is in
//! `pipeline/quarantine`.

use std::fmt;

use crate::store::{AnyStore, Store};

/// Keeps the order of each key across rejections: once a message is rejected, the later messages of its key follow it
/// to the dead letter topic, until they were replayed. Set with
/// [`ErrorPolicy::quarantine_by_key`](crate::ErrorPolicy::quarantine_by_key).
///
/// With a plain dead letter topic, the message behind a rejected one is processed before it: an order is cancelled
/// that is created later, when its letter is replayed.
///
/// # What happens
/// - A message becomes a letter. From then on its key is *held* in that topic and partition: its later messages become
///   letters, too, without a call of `process`. Their `kasper.error.kind` is `quarantined`, and the
///   [circuit](crate::Circuit) does not count them. Messages without a key hold nothing, and neither do
///   [skipped](crate::OnError::skip) ones.
/// - `kasper-dlq replay` sends the letters of a key in their order. A replayed message is processed when nothing before
///   it is left; other messages of the key are still held. When nothing is left of the key, it is released.
/// - A replayed message that is rejected again becomes a letter again, and so do those behind it, until the next replay.
/// - A key that gets messages while it is replayed needs a second replay, for these. A key that gets one more often than
///   a replay takes (some milliseconds) is not released until there is a pause.
/// - While a key is held, what stands between its messages in a batch is processed in a call for each stretch.
///
/// # Where it is kept
/// In the store, in one entry for each topic and partition: `kasper.quarantine/GROUP/TOPIC/PARTITION`. It is read when
/// a partition is assigned, and written when it changes, before letters are sent and offsets committed. So it survives
/// restarts, crashes and rebalances. While no key is held, it costs nothing.
///
/// To release a key without a replay, stop the processes of the group and remove its line from the entry, which is text.
/// That is needed, too, if letters of the key can't come back: they were deleted, or replayed to another topic.
///
/// A process that lost its partition without noticing it (a pause of minutes) may overwrite the entry with an older one:
/// a key that was held since then is released too early after the next restart.
///
/// ```
/// use kasper::store::MapStore;
/// use kasper::{ErrorPolicy, OnError, Quarantine};
///
/// # let store = MapStore::new();
/// let quarantine = Quarantine::new(store).max_messages(1000);
/// let policy = ErrorPolicy::new(OnError::dead_letter("orders-dead")).quarantine_by_key(quarantine);
/// # let _ = policy;
/// ```
#[derive(Clone)]
#[must_use]
pub struct Quarantine {
    pub(crate) store: AnyStore,
    pub(crate) max_messages: usize,
}

impl Quarantine {
    /// Keeps the held keys in this store. It may be the one that your processor uses, if no other key begins with
    /// `kasper.quarantine/`, and if it takes any text as a value (Elasticsearch: `ElasticsearchEncoding::Binary`). An
    /// error that is retryable is tried again as [`ErrorPolicy::retryable`](crate::ErrorPolicy::retryable) says; then
    /// the topic processor stops.
    pub fn new(store: impl Store + 'static) -> Self {
        Self { store: AnyStore::new(store), max_messages: 10_000 }
    }

    /// How many messages of a partition number may be held at the same time, of all keys together: rejected, or behind
    /// a rejected one, and not yet replayed. With one more, the topic processor stops, with an error of kind
    /// [`CircuitOpen`](crate::ErrorKind::CircuitOpen). Allow more then, start again, and replay the letters. Default:
    /// 10,000; an entry has some 10 bytes for each message, and some hundred for each key.
    pub fn max_messages(mut self, messages: usize) -> Self {
        self.max_messages = messages;
        self
    }
}

impl fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quarantine")
            .field("max_messages", &self.max_messages)
            .finish_non_exhaustive()
    }
}
