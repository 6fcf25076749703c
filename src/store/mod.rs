//! Stores: processors keep their state in them, outside of the process.
//!
//! Place in the data path: beside it. [`Processor::process`](crate::Processor::process) reads what it needs for a
//! batch with one [`get_many`](Store::get_many), and writes what has changed with one
//! [`write_many`](Store::write_many). When it returns `Ok`, its writes are done. Only then are its messages produced
//! and its offsets committed.
//!
//! [`connect`] makes a store from a URL. [`Retry`], [`Cached`] and [`Metered`] wrap a store. [`TypedStore`] has
//! values of a type instead of bytes.
//!
//! All backends are used alike. A configuration is made in code (`RedisConfig::new(server, prefix)`, then setters) or from
//! a URL (`RedisConfig::from_url(url)`). `RedisStore::connect(&config)` connects; `RedisStore::from_client` uses a client
//! that is there already. [Multitenant](crate::multitenant) stores have the same functions. If each tenant may have a
//! table or index that you name, they also have `connect_with` and `from_client_with`. `LocalStore` has `open` instead of
//! `connect`, because it is part of the process.

mod any;
#[cfg(feature = "cassandra")]
pub(crate) mod cassandra;
#[cfg(any(feature = "redis", feature = "cassandra", feature = "elasticsearch"))]
mod changes;
mod connect;
#[cfg(feature = "elasticsearch")]
pub(crate) mod elasticsearch;
#[cfg(any(feature = "redis", feature = "cassandra", feature = "elasticsearch", feature = "local"))]
mod faults;
pub(crate) mod limits;
#[cfg(feature = "local")]
pub(crate) mod local;
mod map;
#[cfg(feature = "redis")]
pub(crate) mod redis;
mod state;
#[cfg(feature = "cassandra")]
mod time;
#[cfg(any(feature = "redis-tls", feature = "cassandra-tls", feature = "elasticsearch-tls"))]
mod tls;
mod typed;
#[cfg(any(feature = "redis", feature = "cassandra", feature = "elasticsearch", feature = "local"))]
mod url;
mod wrappers;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

#[allow(unused_imports, reason = "for the documentation")]
use crate::error::ErrorKind;
use crate::error::Result;

pub use any::AnyStore;
#[cfg(feature = "cassandra")]
pub use cassandra::{CassandraConfig, CassandraConsistency, CassandraStore};
pub use connect::{connect, connect_multi};
#[cfg(feature = "elasticsearch")]
pub use elasticsearch::{
    ElasticsearchClient, ElasticsearchConfig, ElasticsearchEncoding, ElasticsearchIndex,
    ElasticsearchRefresh, ElasticsearchStore,
};
#[cfg(feature = "local")]
pub use local::{LocalConfig, LocalDatabase, LocalStats, LocalStore};
pub use map::MapStore;
#[cfg(feature = "redis")]
pub use redis::{RedisClient, RedisConfig, RedisStore};
pub use state::{State, StateStore};
pub use typed::TypedStore;
pub use wrappers::{CacheStats, Cached, Metered, Retry};

/// A key-value store: keys are text, values are bytes.
///
/// A store has to implement two methods, which both take many keys at once: a store is fast if a batch takes one
/// round trip instead of one per message. `Arc<S>` and `&S` are stores if `S` is a store.
///
/// # Sometimes you want to…
/// - read the values of a whole batch in one call: [`get_many`](Store::get_many);
/// - set some keys and delete others in one call: [`write_many`](Store::write_many);
/// - read, set or delete a single key: [`get`](Store::get), [`put`](Store::put), [`delete`](Store::delete);
/// - let a URL choose the kind of store: [`connect`];
/// - store values of your own types instead of bytes: [`TypedStore::new`];
/// - read and write what a batch works on, each in one call: [`TypedStore::load`];
/// - repeat calls that fail, or keep hot keys in memory: [`Retry::new`], [`Cached::new`].
///
/// # Rules
/// 1. [`get_many`](Store::get_many) answers by position: one entry for each key, in the order of the keys. A key may
///    be requested more than once.
/// 2. A key that was never written, or that was deleted, is `None`. That is not an error.
/// 3. When [`write_many`](Store::write_many) has returned `Ok`, every `get_many` that begins later, on this value or
///    on a clone of it, finds what was written.
/// 4. In `write_many`, `Some` sets a key's value, whether or not the key had one; `None` deletes the key, whether or
///    not it existed.
/// 5. If a key appears more than once in a `write_many`, its last change counts.
/// 6. A call without keys or changes returns `Ok` and does no I/O.
/// 7. Any text except the empty one is a key: letter case, spaces, `/` and control characters are significant and are
///    kept. An empty key is an error of kind [`InvalidInput`](ErrorKind::InvalidInput) that names the `operation`,
///    found before anything is read or written. So is a key over the limit that a backend states; that error names
///    the `key` (its beginning, if the key is long) and the `limit`.
/// 8. Any bytes are a value, up to the limit that a backend states. The empty value is a value, not a deletion. A
///    backend that accepts only some values (JSON documents, say) says so in its documentation. It refuses other
///    values, and values that are too long, in the way in which rule 7 refuses keys.
/// 9. A `write_many` that failed, or whose future was dropped, may have written any part of its changes. Repeating
///    the call leads to the same result as if the first attempt had succeeded.
/// 10. Calls may be made at the same time, from many tasks. If two writes of a key run at the same time, one of them
///     wins. A `get_many` that runs at the same time finds, for each key, the value before or after the write.
/// 11. An error says whether [the same call may succeed again](crate::Error::is_retryable), and names the
///     `operation`. Every call ends: if a server does not answer, the error is of kind
///     [`Timeout`](ErrorKind::Timeout) or [`Unavailable`](ErrorKind::Unavailable).
/// 12. A call may be as large as memory allows: 100,000 keys work. If a backend accepts less in one request, the
///     store makes several requests, a few at a time.
/// 13. `get`, `put` and `delete` have the same effect as `get_many` and `write_many` with one key; `flush` changes no
///     value.
/// 14. A write that was given up (it failed by a time-out or a broken connection, or its future was dropped) may
///     still be on its way. The backend's documentation says whether such a write can take effect after a later write
///     of the same key; the table below compares the backends.
///
/// `testkit::conformance` checks rules 1 to 13, also for a store of your own (feature `testkit`).
///
/// # Writes that were given up
/// A processor's call times out and is repeated, and the next batch writes a newer value of the same key. Then the
/// network delivers the first attempt. Each backend promises:
///
/// | store | a write that was given up |
/// | --- | --- |
/// | [`MapStore`] | takes effect at once, or not at all |
/// | `LocalStore` | takes effect before any later write, or not at all: later writes wait for it, in any store of the database |
/// | `RedisStore`, one server or a cluster | takes effect before any later write of this store, or not at all: its connection is reset, for all calls that use it, before a new connection is made. The exception is a proxy that has received the write and passes it on after the reset |
/// | `CassandraStore` | may take effect later, and loses: the write with the later timestamp stays |
/// | `ElasticsearchStore` | **may take effect later, and overwrite a newer value**, if the server or a proxy had received it. Otherwise its connection is reset, which takes effect when the runtime next runs the connection's task; until then, and with TLS while the connection is shut down, the write may still be delivered |
///
/// "Later" means later in this process and, once the call here has returned or was dropped, in any other process too.
///
/// # A store of your own
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// use kasper::store::Store;
/// use kasper::{Bytes, Error, ErrorKind, Result};
///
/// #[derive(Default)]
/// struct Table(Mutex<HashMap<String, Bytes>>);
///
/// fn check(key: &str, operation: &str) -> Result<()> {
///     match key {
///         "" => Err(Error::new(ErrorKind::InvalidInput, "a key is empty").with("operation", operation)),
///         _ => Ok(()),
///     }
/// }
///
/// impl Store for Table {
///     async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
///         keys.iter().try_for_each(|key| check(key, "get_many"))?;
///         let table = self.0.lock().unwrap();
///         Ok(keys.iter().map(|key| table.get(*key).cloned()).collect())
///     }
///
///     async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
///         changes.iter().try_for_each(|(key, _)| check(key, "write_many"))?;
///         let mut table = self.0.lock().unwrap();
///         for (key, value) in changes {
///             match value {
///                 Some(value) => table.insert(key.to_string(), value.clone()),
///                 None => table.remove(*key),
///             };
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// let table = Table::default();
/// table.put("a", "1").await?;
/// assert_eq!(table.get_many(&["b", "a"]).await?, [None, Some("1".into())]);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a Kasper store",
    label = "needs `impl kasper::store::Store for {Self}`"
)]
pub trait Store: Send + Sync {
    /// Reads the values of these keys: one entry for each key, in the order of the keys.
    ///
    /// # Errors
    /// An empty key ([`InvalidInput`](ErrorKind::InvalidInput)), or any reason why the backend can't answer. There
    /// are no partial answers.
    ///
    /// # Cancel safety
    /// The call only reads, so its future may be dropped at any time.
    ///
    /// ```
    /// # use kasper::store::{MapStore, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let store: MapStore = [("a", "1"), ("c", "3")].into_iter().collect();
    /// let values = store.get_many(&["c", "b", "c"]).await?;
    /// assert_eq!(values, [Some("3".into()), None, Some("3".into())]);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "GetAll")]
    fn get_many(&self, keys: &[&str]) -> impl Future<Output = Result<Vec<Option<Bytes>>>> + Send;

    /// Makes these changes: `Some` sets a value, `None` deletes the key. If a key appears more than once, its last
    /// change counts.
    ///
    /// # Errors
    /// An empty key ([`InvalidInput`](ErrorKind::InvalidInput)), before anything is written. Or a failure of the
    /// backend: then any part of the changes may be written.
    ///
    /// # Cancel safety
    /// Dropping the future is like an error: any part of the changes may be written. Make the same call again.
    ///
    /// ```
    /// # use kasper::store::{MapStore, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let store: MapStore = [("a", "1"), ("b", "2")].into_iter().collect();
    /// store.write_many(&[("b", None), ("c", Some("0".into())), ("c", Some("3".into()))]).await?;
    /// assert_eq!(store.snapshot(), [("a", "1"), ("c", "3")].map(|(k, v)| (k.into(), v.into())).into());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "PutAll")]
    fn write_many(
        &self,
        changes: &[(&str, Option<Bytes>)],
    ) -> impl Future<Output = Result<()>> + Send;

    /// Reads one value. For the keys of a batch use [`get_many`](Store::get_many), which takes the time of one call
    /// instead of one call per key.
    ///
    /// # Errors
    /// Those of [`get_many`](Store::get_many).
    ///
    /// ```
    /// # use kasper::store::{MapStore, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let store = MapStore::new();
    /// assert_eq!(store.get("never written").await?, None);
    ///
    /// let error = store.get("").await.unwrap_err();
    /// assert_eq!(error.kind(), kasper::ErrorKind::InvalidInput);
    /// assert_eq!(error.get("operation"), Some("get_many"));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "Get")]
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Bytes>>> + Send {
        async move { Ok(self.get_many(&[key]).await?.pop().flatten()) }
    }

    /// Sets one value. For the keys of a batch use [`write_many`](Store::write_many).
    ///
    /// # Errors
    /// Those of [`write_many`](Store::write_many).
    ///
    /// ```
    /// # use kasper::store::{MapStore, Store};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let store = MapStore::new();
    /// store.put("a", "").await?;
    /// // The empty value is a value.
    /// assert_eq!(store.get("a").await?, Some("".into()));
    /// store.delete("a").await?;
    /// assert_eq!(store.get("a").await?, None);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "Put")]
    fn put(
        &self,
        key: &str,
        value: impl Into<Bytes> + Send,
    ) -> impl Future<Output = Result<()>> + Send {
        async move { self.write_many(&[(key, Some(value.into()))]).await }
    }

    /// Deletes one key, which need not exist.
    ///
    /// # Errors
    /// Those of [`write_many`](Store::write_many).
    #[doc(alias = "Delete")]
    fn delete(&self, key: &str) -> impl Future<Output = Result<()>> + Send {
        async move { self.write_many(&[(key, None)]).await }
    }

    /// Makes what was written through this store durable, and visible to searches in the backend, if the backend
    /// does not already do so at each write. It promises this for the data of this store only; some backends flush
    /// more. Kasper never calls it, and no rule depends on it. Does nothing by default.
    ///
    /// # Errors
    /// Any reason why the backend can't flush.
    #[doc(alias = "Flush")]
    fn flush(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

macro_rules! store_behind {
    ($($pointer:ty),*) => {$(
        impl<S: Store + ?Sized> Store for $pointer {
            fn get_many(
                &self,
                keys: &[&str],
            ) -> impl Future<Output = Result<Vec<Option<Bytes>>>> + Send {
                (**self).get_many(keys)
            }

            fn write_many(
                &self,
                changes: &[(&str, Option<Bytes>)],
            ) -> impl Future<Output = Result<()>> + Send {
                (**self).write_many(changes)
            }

            fn get(&self, key: &str) -> impl Future<Output = Result<Option<Bytes>>> + Send {
                (**self).get(key)
            }

            fn put(
                &self,
                key: &str,
                value: impl Into<Bytes> + Send,
            ) -> impl Future<Output = Result<()>> + Send {
                (**self).put(key, value)
            }

            fn delete(&self, key: &str) -> impl Future<Output = Result<()>> + Send {
                (**self).delete(key)
            }

            fn flush(&self) -> impl Future<Output = Result<()>> + Send {
                (**self).flush()
            }
        }
    )*};
}

store_behind!(&S, Arc<S>);
