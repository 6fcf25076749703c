//! Codecs: from values to bytes and back, for stores and for messages.
//!
//! Place in the data path: [`Message::decode`] where a batch comes in, [`Context::send_encoded`] where
//! messages go out, [`TypedStore`](crate::store::TypedStore) in between. [`Json`] is built in (feature
//! `json`); a codec of your own is two functions:
//!
//! ```
//! use kasper::codec::{Decode, Encode};
//! use kasper::store::{MapStore, TypedStore};
//! use kasper::{BoxError, Bytes};
//!
//! /// Numbers as decimal text.
//! struct Decimal;
//!
//! impl Encode<u64> for Decimal {
//!     fn encode(&self, value: &u64) -> Result<Bytes, BoxError> {
//!         Ok(value.to_string().into())
//!     }
//! }
//!
//! impl Decode<u64> for Decimal {
//!     fn decode(&self, bytes: &[u8]) -> Result<u64, BoxError> {
//!         Ok(std::str::from_utf8(bytes)?.parse()?)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> kasper::Result<()> {
//! let counts = TypedStore::new(MapStore::new(), Decimal);
//! counts.put("a", &41).await?;
//! assert_eq!(counts.get("a").await?, Some(41));
//! # Ok(())
//! # }
//! ```

use bytes::Bytes;

use crate::context::Context;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::message::{Message, OutgoingMessage};

/// Makes bytes of values.
pub trait Encode<T: ?Sized>: Send + Sync {
    /// The value's bytes.
    ///
    /// # Errors
    /// The value has none: a map with keys that JSON can't have, say.
    fn encode(&self, value: &T) -> Result<Bytes, BoxError>;
}

/// Makes values of bytes.
pub trait Decode<T>: Send + Sync {
    /// The value that these bytes mean.
    ///
    /// # Errors
    /// The bytes are not a value of this codec.
    fn decode(&self, bytes: &[u8]) -> Result<T, BoxError>;
}

/// Makes bytes of values and values of bytes; nothing to implement besides [`Encode`] and [`Decode`].
///
/// Decoding an encoded value must give an equal value.
pub trait Codec<T>: Encode<T> + Decode<T> {}

impl<T, C: Encode<T> + Decode<T>> Codec<T> for C {}

impl<T: ?Sized, C: Encode<T> + ?Sized> Encode<T> for &C {
    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        (**self).encode(value)
    }
}

impl<T, C: Decode<T> + ?Sized> Decode<T> for &C {
    fn decode(&self, bytes: &[u8]) -> Result<T, BoxError> {
        (**self).decode(bytes)
    }
}

/// JSON, by serde. Feature `json`.
///
/// ```
/// use kasper::codec::{Decode, Encode, Json};
///
/// let bytes = Json.encode(&vec![1, 2])?;
/// assert_eq!(bytes, "[1,2]");
/// let numbers: Vec<u8> = Json.decode(&bytes)?;
/// assert_eq!(numbers, [1, 2]);
/// # Ok::<(), kasper::BoxError>(())
/// ```
#[cfg(feature = "json")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<T: serde::Serialize + ?Sized> Encode<T> for Json {
    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        Ok(serde_json::to_vec(value)?.into())
    }
}

#[cfg(feature = "json")]
impl<T: serde::de::DeserializeOwned> Decode<T> for Json {
    fn decode(&self, bytes: &[u8]) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl Message<'_> {
    /// The value, decoded; `None` if the message is a tombstone.
    ///
    /// # Errors
    /// [`Decode`](ErrorKind::Decode), not retryable: the value's bytes are no `T`. Names the `topic`,
    /// `partition` and `offset`; the codec's error is the cause. `process` may return it, or go on with the
    /// next message.
    ///
    /// ```
    /// # #[cfg(all(feature = "json", feature = "testkit"))]
    /// # async fn example() -> kasper::Result<()> {
    /// use kasper::codec::Json;
    /// use kasper::testkit::{ProcessorTester, TestMessage};
    /// use kasper::{Batch, BoxError, Context, ErrorKind, OutgoingMessage, Processor};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Deserialize)]
    /// struct Order {
    ///     amount: u64,
    /// }
    ///
    /// #[derive(Serialize)]
    /// struct Invoice {
    ///     total: u64,
    /// }
    ///
    /// struct Bill;
    ///
    /// impl Processor for Bill {
    ///     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    ///         for message in batch.topic("orders") {
    ///             let Some(order) = message.decode::<Order>(Json)? else { continue };
    ///             let invoice = OutgoingMessage::new("invoices").optional_key(message.key());
    ///             context.send_encoded(invoice, &Invoice { total: 2 * order.amount }, Json)?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut tester = ProcessorTester::new(["orders"], |_| Bill);
    /// tester.push(TestMessage::new("orders").key("a").value(r#"{"amount":3}"#));
    /// tester.run_all().await?;
    /// assert_eq!(tester.take_outgoing()[0].value.as_deref(), Some(&br#"{"total":6}"#[..]));
    ///
    /// tester.push(TestMessage::new("orders").value("three"));
    /// let error = tester.run_all().await.unwrap_err();
    /// let cause = error.find::<kasper::Error>().unwrap();
    /// assert_eq!((cause.kind(), cause.get("offset")), (ErrorKind::Decode, Some("1")));
    /// # Ok(())
    /// # }
    /// # #[cfg(all(feature = "json", feature = "testkit"))]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn decode<T>(&self, decoder: impl Decode<T>) -> Result<Option<T>> {
        self.decoded(self.value(), &decoder, "a message's value can't be decoded")
    }

    /// The key, decoded; `None` if the message has none.
    ///
    /// # Errors
    /// As [`decode`](Message::decode), of the key.
    pub fn decode_key<T>(&self, decoder: impl Decode<T>) -> Result<Option<T>> {
        self.decoded(self.key(), &decoder, "a message's key can't be decoded")
    }

    fn decoded<T>(
        &self,
        bytes: Option<&[u8]>,
        decoder: &impl Decode<T>,
        fault: &str,
    ) -> Result<Option<T>> {
        let decoded = bytes.map(|bytes| decoder.decode(bytes)).transpose();
        decoded.map_err(|cause| {
            undecodable(fault, cause)
                .with("topic", self.topic())
                .with("partition", self.partition())
                .with("offset", self.offset())
        })
    }
}

impl Context {
    /// [Sends](Context::send) a message whose value is this one, encoded; a value that the message has
    /// already is replaced. For an example see [`Message::decode`].
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput): the codec refuses the value. Names the `topic` that the
    /// message was to go to, and the `partition` that is processed. Nothing is sent then.
    pub fn send_encoded<T: ?Sized>(
        &mut self,
        message: OutgoingMessage<'_>,
        value: &T,
        encoder: impl Encode<T>,
    ) -> Result<()> {
        let encoded = encoder.encode(value).map_err(|cause| {
            Error::new(ErrorKind::InvalidInput, "the value of an outgoing message can't be encoded")
                .with("topic", message.topic())
                .with("partition", self.partition())
                .with_source(cause)
        })?;
        self.send(message.value(encoded));
        Ok(())
    }
}

/// The error for bytes that a codec can't decode. Without the bytes: they may be large, or nobody's business.
pub(crate) fn undecodable(message: &str, cause: BoxError) -> Error {
    Error::new(ErrorKind::Decode, message).with_source(cause)
}
