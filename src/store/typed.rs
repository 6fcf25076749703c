//! [`TypedStore`]: a store of values of a type instead of bytes.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;

use super::Store;
use super::limits::shortened;
use crate::codec::Codec;
use crate::error::{Error, ErrorKind, Result};

/// A store of values of the type `T`. The codec `C` turns them into bytes, which the store `S` keeps.
///
/// The methods are those of [`Store`], with a `T` in place of bytes.
///
/// # Errors
/// Those of the store, and:
/// - [`Decode`](ErrorKind::Decode) if the bytes in the store can't be decoded as a `T`. The error has the `key` and
///   the `operation`, and the codec's error as its cause. It is not retryable, and the whole call fails.
/// - [`InvalidInput`](ErrorKind::InvalidInput) with the `key` if the codec refuses a value, before anything is
///   written.
///
/// # Cancel safety
/// As the store's.
///
/// ```
/// # #[cfg(feature = "json")]
/// # async fn example() -> kasper::Result<()> {
/// use kasper::codec::Json;
/// use kasper::store::{MapStore, Store, TypedStore};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, PartialEq, Debug)]
/// struct Profile {
///     name: String,
/// }
///
/// let bytes = MapStore::new();
/// let profiles = TypedStore::new(bytes.clone(), Json);
/// profiles.put("42", &Profile { name: "Ada".into() }).await?;
/// assert_eq!(bytes.get("42").await?, Some(r#"{"name":"Ada"}"#.into()));
/// assert_eq!(profiles.get_many(&["42", "43"]).await?[0].as_ref().unwrap().name, "Ada");
///
/// bytes.put("43", "Grace").await?;
/// let error = profiles.get("43").await.unwrap_err();
/// assert_eq!((error.kind(), error.get("key")), (kasper::ErrorKind::Decode, Some("43")));
/// # Ok(())
/// # }
/// # #[cfg(feature = "json")]
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
pub struct TypedStore<S, C, T> {
    store: S,
    codec: C,
    value: PhantomData<fn(T) -> T>,
}

impl<S, C: Codec<T>, T: Send + Sync> TypedStore<S, C, T> {
    /// Wraps a store, with a codec that converts its values to bytes and back.
    pub fn new(store: S, codec: C) -> Self {
        Self { store, codec, value: PhantomData }
    }

    /// The wrapped store, with its bytes.
    pub fn inner(&self) -> &S {
        &self.store
    }

    pub(super) fn decode(&self, bytes: &Bytes) -> Result<T> {
        self.codec.decode_shared(bytes).map_err(|cause| {
            // Not the bytes: they may be large or confidential.
            Error::new(ErrorKind::Decode, "a value in the store can't be decoded")
                .with_source(cause)
        })
    }

    pub(super) fn encode(&self, value: &T) -> Result<Bytes> {
        self.codec.encode(value).map_err(|cause| {
            Error::new(ErrorKind::InvalidInput, "a value can't be encoded").with_source(cause)
        })
    }
}

impl<S: Store, C: Codec<T>, T: Send + Sync> TypedStore<S, C, T> {
    /// As [`Store::get_many`].
    ///
    /// # Errors
    /// See [the type](TypedStore#errors).
    pub async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<T>>> {
        let values = self.store.get_many(keys).await?;
        let values = keys
            .iter()
            .zip(values)
            .map(|(key, value)| value.map(|value| self.decode_for(key, &value)).transpose());
        values.collect()
    }

    /// As [`Store::write_many`].
    ///
    /// # Errors
    /// See [the type](TypedStore#errors).
    ///
    /// ```
    /// # #[cfg(feature = "json")]
    /// # async fn example() -> kasper::Result<()> {
    /// # use std::collections::BTreeMap;
    /// # use kasper::{ErrorKind, codec::Json, store::{MapStore, TypedStore}};
    /// let bytes: MapStore = [("a", "{}"), ("b", "{}")].into_iter().collect();
    /// let carts = TypedStore::<_, _, BTreeMap<Vec<u8>, u32>>::new(bytes.clone(), Json);
    /// carts.write_many(&[("a", None)]).await?;
    /// assert_eq!(carts.get_many(&["b", "a"]).await?, [Some(BTreeMap::new()), None]);
    ///
    /// // A JSON object can't have a list as a key. One refused value refuses the call.
    /// let refused = BTreeMap::from([(vec![1], 1)]);
    /// let error = carts.write_many(&[("b", None), ("c", Some(refused))]).await.unwrap_err();
    /// assert_eq!((error.kind(), error.get("key")), (ErrorKind::InvalidInput, Some("c")));
    /// assert_eq!(bytes.len(), 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "json")]
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
    /// ```
    pub async fn write_many(&self, changes: &[(&str, Option<T>)]) -> Result<()> {
        let mut encoded = Vec::with_capacity(changes.len());
        for (key, value) in changes {
            let value = value.as_ref().map(|value| self.encode_for(key, value)).transpose()?;
            encoded.push((*key, value));
        }
        self.store.write_many(&encoded).await
    }

    /// As [`Store::get`].
    ///
    /// # Errors
    /// See [the type](TypedStore#errors).
    pub async fn get(&self, key: &str) -> Result<Option<T>> {
        let value = self.store.get(key).await?;
        value.map(|value| self.decode_for(key, &value)).transpose()
    }

    /// As [`Store::put`].
    ///
    /// # Errors
    /// See [the type](TypedStore#errors).
    pub async fn put(&self, key: &str, value: &T) -> Result<()> {
        let value = self.encode_for(key, value)?;
        self.store.put(key, value).await
    }

    /// As [`Store::delete`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.store.delete(key).await
    }

    /// As [`Store::flush`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn flush(&self) -> Result<()> {
        self.store.flush().await
    }

    fn decode_for(&self, key: &str, bytes: &Bytes) -> Result<T> {
        let decoded = self.decode(bytes);
        decoded.map_err(|error| error.with("key", shortened(key)).with("operation", "get_many"))
    }

    fn encode_for(&self, key: &str, value: &T) -> Result<Bytes> {
        let encoded = self.encode(value);
        encoded.map_err(|error| error.with("key", shortened(key)).with("operation", "write_many"))
    }
}

impl<S: Clone, C: Clone, T> Clone for TypedStore<S, C, T> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), codec: self.codec.clone(), value: PhantomData }
    }
}

impl<S: fmt::Debug, C: fmt::Debug, T> fmt::Debug for TypedStore<S, C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedStore")
            .field("store", &self.store)
            .field("codec", &self.codec)
            .finish()
    }
}
