//! [`State`]: the values that a batch works on, read at once and written at once.
//!
//! Place in the data path: within [`Processor::process`](crate::Processor::process). Nothing is written before
//! [`State::save`].

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;

use bytes::Bytes;

use super::limits::shortened;
use super::{Store, TypedStore};
use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::message::{Batch, Message};
use crate::multitenant::{MultiStore, TenantKey, TenantMap};

/// A store that [`State`] can be loaded from, with keys of the type `K`.
///
/// | store | keys |
/// | --- | --- |
/// | [`Store`] | `String`, `&str` |
/// | [`MultiStore`] | [`TenantKey`], or a pair of tenant and key: `(String, String)`, `(&str, String)`, `(&str, &str)` |
pub trait StateStore<K>: Send + Sync {
    /// The name of [`read`](StateStore::read) in errors.
    const READ: &'static str;
    /// The name of [`write`](StateStore::write) in errors.
    const WRITE: &'static str;

    /// The values of these keys, by position.
    ///
    /// # Errors
    /// Those of [`Store::get_many`] or [`MultiStore::fetch`].
    fn read(&self, keys: &[K]) -> impl Future<Output = Result<Vec<Option<Bytes>>>> + Send;

    /// Sets values and, where there is none, deletes keys.
    ///
    /// # Errors
    /// Those of [`Store::write_many`] or [`MultiStore::push`].
    fn write(&self, changes: &[(&K, Option<Bytes>)]) -> impl Future<Output = Result<()>> + Send;

    /// The error, with the key that it is about.
    fn about(error: Error, key: &K) -> Error;
}

macro_rules! state_in_a_store {
    ($($key:ty),*) => {$(
        impl<S: Store> StateStore<$key> for S {
            const READ: &'static str = "get_many";
            const WRITE: &'static str = "write_many";

            async fn read(&self, keys: &[$key]) -> Result<Vec<Option<Bytes>>> {
                let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
                self.get_many(&keys).await
            }

            async fn write(&self, changes: &[(&$key, Option<Bytes>)]) -> Result<()> {
                let changes: Vec<(&str, Option<Bytes>)> =
                    changes.iter().map(|(key, value)| (&***key, value.clone())).collect();
                self.write_many(&changes).await
            }

            fn about(error: Error, key: &$key) -> Error {
                error.with("key", shortened(key))
            }
        }
    )*};
}

state_in_a_store!(String, &str);

macro_rules! state_in_a_multi_store {
    ($($key:ty => |$name:ident| $parts:expr),* $(,)?) => {$(
        impl<M: MultiStore> StateStore<$key> for M {
            const READ: &'static str = "fetch";
            const WRITE: &'static str = "push";

            async fn read(&self, keys: &[$key]) -> Result<Vec<Option<Bytes>>> {
                let wanted: Vec<TenantKey<'_>> = keys
                    .iter()
                    .map(|$name| {
                        let (tenant, key) = $parts;
                        TenantKey::new(tenant, key)
                    })
                    .collect();
                let found = self.fetch(&wanted).await?;
                let values = wanted.iter().map(|key| found.get(key.tenant, key.key).cloned());
                Ok(values.collect())
            }

            async fn write(&self, changes: &[(&$key, Option<Bytes>)]) -> Result<()> {
                let changes: TenantMap = changes
                    .iter()
                    .map(|($name, value)| {
                        let (tenant, key) = $parts;
                        (tenant, key, value.clone())
                    })
                    .collect();
                self.push(&changes).await
            }

            fn about(error: Error, $name: &$key) -> Error {
                let (tenant, key) = $parts;
                error.with("tenant", tenant).with("key", shortened(key))
            }
        }
    )*};
}

state_in_a_multi_store! {
    (String, String) => |pair| (pair.0.as_str(), pair.1.as_str()),
    (&str, String) => |pair| (pair.0, pair.1.as_str()),
    (&str, &str) => |pair| (pair.0, pair.1),
    TenantKey<'_> => |key| (key.tenant, key.key),
}

/// What a [`TypedStore`] has for the keys of a batch: read in one call, changed in memory, written in one call.
///
/// Made by [`TypedStore::load`]. Changes are in memory until [`save`](State::save); without it they are lost, which is
/// right when `process` fails. `save` writes the keys that were set, removed, or borrowed to be changed, and no others.
///
/// ```
/// use kasper::codec::Json;
/// use kasper::store::{MapStore, TypedStore};
/// use kasper::testkit::{ProcessorTester, TestMessage};
/// use kasper::{Batch, BoxError, Context, Processor};
///
/// /// The last order of each customer. Right also when a batch comes again.
/// struct LastOrder(TypedStore<MapStore, Json, u64>);
///
/// impl Processor for LastOrder {
///     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
///         let mut last = self.0.load(batch, |message| message.key_str()).await?;
///         for message in batch.iter() {
///             match message.decode(Json)? {
///                 Some(order) => last.insert(message.key_str()?, order),
///                 None => last.remove(message.key_str()?),
///             };
///         }
///         Ok(last.save().await?)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// let store = TypedStore::new(MapStore::new(), Json);
/// store.put("bob", &1).await?;
/// # let processor = store.clone();
/// # let mut tester = ProcessorTester::new(["orders"], move |_| LastOrder(processor.clone()));
/// tester.push(TestMessage::new("orders").key("ann").value("7"));
/// tester.push(TestMessage::new("orders").key("ann").value("8"));
/// tester.push(TestMessage::tombstone("orders", "bob"));
/// tester.run_batch().await?;
/// assert_eq!(store.get_many(&["ann", "bob"]).await?, [Some(8), None]);
/// # Ok(())
/// # }
/// ```
#[must_use = "changes are written by `save`"]
pub struct State<'s, S, C, T, K> {
    store: &'s TypedStore<S, C, T>,
    slots: HashMap<K, Slot<T>>,
}

struct Slot<T> {
    /// Where it stands in a write: as the keys came.
    place: usize,
    value: Option<T>,
    /// Set, removed, or borrowed to be changed.
    touched: bool,
}

impl<S, C: Codec<T>, T: Send + Sync> TypedStore<S, C, T> {
    /// Reads the state of a batch: the values of the keys that `key` gives for its messages, each read once, all in one
    /// call.
    ///
    /// The keys may borrow from the batch. With a [`MultiStore`], a key is a tenant and a key: see [`StateStore`].
    ///
    /// # Errors
    /// Those of `key`, those of the store, and [`Decode`](crate::ErrorKind::Decode): a stored value is not a `T`. That
    /// error names the key.
    ///
    /// # Cancel safety
    /// The call only reads, so its future may be dropped at any time.
    ///
    /// ```
    /// # use kasper::codec::Json;
    /// # use kasper::multitenant::{MultiMapStore, MultiStore};
    /// # use kasper::store::{Store, TypedStore};
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Last(TypedStore<MultiMapStore, Json, i64>);
    /// # impl Processor for Last {
    /// #     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    /// let tenant_of = |tenant: Option<&str>| tenant.unwrap_or("nobody").to_owned();
    /// let key = |message: kasper::Message<'_>| {
    ///     Ok((tenant_of(message.header_str("tenant")?), message.key_str()?.to_owned()))
    /// };
    /// let mut last = self.0.load(batch, key).await?;
    /// for message in batch.iter() {
    ///     last.insert(&key(message)?, message.offset().get());
    /// }
    /// last.save().await?;
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # let store = MultiMapStore::new();
    /// # let offsets = store.clone();
    /// # let last = move |_: &kasper::StartContext| Last(TypedStore::new(offsets.clone(), Json));
    /// # let mut tester = ProcessorTester::new(["orders"], last);
    /// # let order = || TestMessage::new("orders").key("a").header("tenant", "acme");
    /// # tester.push(order());
    /// # tester.push(order());
    /// # tester.run_batch().await?;
    /// assert_eq!(store.tenant("acme")?.get("a").await?, Some("1".into()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn load<'s, 'b, K>(
        &'s self,
        batch: &'b Batch,
        key: impl Fn(Message<'b>) -> Result<K>,
    ) -> impl Future<Output = Result<State<'s, S, C, T, K>>> + Send
    where
        S: StateStore<K>,
        K: Hash + Eq + Send + Sync,
    {
        // Called now: a future that held the closure could not be shown to be `Send` where it is awaited.
        let keys: Result<Vec<K>> = batch.iter().map(key).collect();
        async move { self.load_keys(keys?).await }
    }

    /// As [`load`](TypedStore::load), for these keys.
    ///
    /// # Errors
    /// Those of [`load`](TypedStore::load).
    ///
    /// # Cancel safety
    /// The call only reads, so its future may be dropped at any time.
    ///
    /// ```
    /// # use kasper::codec::Json;
    /// # use kasper::store::{MapStore, TypedStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let store = TypedStore::new(MapStore::new(), Json);
    /// store.put("a", &1).await?;
    /// let mut state = store.load_keys(["a", "b", "a"]).await?;
    /// assert_eq!((state.get("a"), state.get("b")), (Some(&1), None));
    /// state.insert("b", 2);
    /// assert_eq!(store.get("b").await?, None);
    /// state.save().await?;
    /// assert_eq!(store.get("b").await?, Some(2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn load_keys<'s, K>(
        &'s self,
        keys: impl IntoIterator<Item = K>,
    ) -> impl Future<Output = Result<State<'s, S, C, T, K>>> + Send
    where
        S: StateStore<K>,
        K: Hash + Eq + Send + Sync,
    {
        // Taken now, as in `load`.
        let keys = distinct(keys);
        self.read(keys)
    }

    async fn read<K>(&self, keys: Vec<K>) -> Result<State<'_, S, C, T, K>>
    where
        S: StateStore<K>,
        K: Hash + Eq + Send + Sync,
    {
        let values = if keys.is_empty() { Vec::new() } else { self.inner().read(&keys).await? };
        let mut slots = HashMap::with_capacity(keys.len());
        for ((place, key), stored) in keys.into_iter().enumerate().zip(values) {
            let value = stored.map(|stored| self.decode(&stored)).transpose();
            let value = value.map_err(|error| S::about(error.with("operation", S::READ), &key))?;
            slots.insert(key, Slot { place, value, touched: false });
        }
        Ok(State { store: self, slots })
    }
}

/// Each key once, in the order in which they first come.
fn distinct<K: Hash + Eq>(keys: impl IntoIterator<Item = K>) -> Vec<K> {
    let mut places = HashMap::new();
    for key in keys {
        let place = places.len();
        places.entry(key).or_insert(place);
    }
    let mut keys: Vec<(K, usize)> = places.into_iter().collect();
    keys.sort_unstable_by_key(|(_, place)| *place);
    keys.into_iter().map(|(key, _)| key).collect()
}

impl<S, C, T, K: Hash + Eq> State<'_, S, C, T, K> {
    /// The value of a key; `None` if it has none. A change through it (a value with a lock or a cell) is not written: use
    /// [`get_mut`](State::get_mut).
    ///
    /// # Panics
    /// The key was not loaded: what the store has for it is not known.
    #[track_caller]
    pub fn get<Q>(&self, key: &Q) -> Option<&T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + fmt::Debug + ?Sized,
    {
        let slot = self.slots.get(key);
        slot.unwrap_or_else(|| not_loaded(key)).value.as_ref()
    }

    /// The value of a key, to change it; `None` if it has none.
    ///
    /// # Panics
    /// As [`get`](State::get).
    #[track_caller]
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + fmt::Debug + ?Sized,
    {
        self.entry(key).as_mut()
    }

    /// The place of a key's value: `None` stands for no value. With the methods of [`Option`] it can be read, changed,
    /// set and taken, for example `state.entry("a").get_or_insert_default()`. What it has in the end is written.
    ///
    /// # Panics
    /// As [`get`](State::get).
    #[track_caller]
    pub fn entry<Q>(&mut self, key: &Q) -> &mut Option<T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + fmt::Debug + ?Sized,
    {
        let slot = self.slots.get_mut(key);
        let slot = slot.unwrap_or_else(|| not_loaded(key));
        slot.touched = true;
        &mut slot.value
    }

    /// Sets the value of a key and returns the one that it had.
    ///
    /// # Panics
    /// As [`get`](State::get).
    #[track_caller]
    pub fn insert<Q>(&mut self, key: &Q, value: T) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + fmt::Debug + ?Sized,
    {
        self.entry(key).replace(value)
    }

    /// Removes the value of a key and returns it. [`save`](State::save) deletes the key.
    ///
    /// # Panics
    /// As [`get`](State::get).
    #[track_caller]
    pub fn remove<Q>(&mut self, key: &Q) -> Option<T>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + fmt::Debug + ?Sized,
    {
        self.entry(key).take()
    }

    /// The keys that were loaded, with their values, in any order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, Option<&T>)> {
        self.slots.iter().map(|(key, slot)| (key, slot.value.as_ref()))
    }
}

impl<S: StateStore<K>, C: Codec<T>, T: Send + Sync, K: Hash + Eq + Send + Sync>
    State<'_, S, C, T, K>
{
    /// Writes the keys that were set, removed, or borrowed to be changed ([`insert`](State::insert),
    /// [`remove`](State::remove), [`get_mut`](State::get_mut), [`entry`](State::entry)), in one call; none if there are
    /// none.
    ///
    /// They are written also where the value is the same as before. That renews a time to live, and it overtakes a write
    /// of an earlier attempt that was given up and may still be on its way
    /// ([rule 14](Store#writes-that-were-given-up)).
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): a value can't be encoded; nothing is written. The error names
    /// the key. Those of the store: then any part of the changes may be written.
    ///
    /// # Cancel safety
    /// Dropping the future is like an error of the store: any part of the changes may be written. The batch is then
    /// processed again, so processing it twice must give the same result.
    pub async fn save(self) -> Result<()> {
        let mut changed = Vec::new();
        for (key, slot) in self.slots.iter().filter(|(_, slot)| slot.touched) {
            let value = slot.value.as_ref().map(|value| self.store.encode(value)).transpose();
            let value = value.map_err(|error| S::about(error.with("operation", S::WRITE), key))?;
            changed.push((slot.place, (key, value)));
        }
        if changed.is_empty() {
            return Ok(());
        }
        changed.sort_unstable_by_key(|(place, _)| *place);
        let changes: Vec<(&K, Option<Bytes>)> =
            changed.into_iter().map(|(_, change)| change).collect();
        self.store.inner().write(&changes).await
    }
}

impl<S, C, T, K> fmt::Debug for State<'_, S, C, T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("keys", &self.slots.len()).finish_non_exhaustive()
    }
}

#[track_caller]
fn not_loaded<T>(key: &(impl fmt::Debug + ?Sized)) -> T {
    panic!("the key {key:?} was not loaded into this state: let the closure of `load` return it")
}
