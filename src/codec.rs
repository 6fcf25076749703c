//! Codecs: from values to bytes and back, for stores and for messages.
//!
//! Place in the data path: [`Message::decode`] where a batch comes in, [`Context::send_encoded`] where
//! messages go out, [`TypedStore`](crate::store::TypedStore) in between. [`Text`], [`Raw`] and [`Json`] (feature
//! `json`) are built in. A codec of your own consists of two functions:
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
//! impl Decode<'_, u64> for Decimal {
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

/// Turns values of the type `T` into bytes.
pub trait Encode<T: ?Sized>: Send + Sync {
    /// Encodes the value.
    ///
    /// # Errors
    /// The codec can't represent the value. For example, a JSON object can't have a list as a key.
    fn encode(&self, value: &T) -> Result<Bytes, BoxError>;

    /// Appends the encoded value to `into`, whose memory may be used for many values. By default, a copy of what
    /// [`encode`](Encode::encode) returns.
    ///
    /// # Errors
    /// Those of [`encode`](Encode::encode). A part of the value may have been appended.
    fn encode_into(&self, value: &T, into: &mut Vec<u8>) -> Result<(), BoxError> {
        into.extend_from_slice(&self.encode(value)?);
        Ok(())
    }
}

/// Turns bytes into values of the type `T`, which may borrow from the bytes.
pub trait Decode<'a, T>: Send + Sync {
    /// Decodes the value.
    ///
    /// # Errors
    /// The bytes are not an encoded `T`.
    fn decode(&self, bytes: &'a [u8]) -> Result<T, BoxError>;

    /// Decodes a value that came from a store. Does the same as [`decode`](Decode::decode), unless the codec can share
    /// the memory of the bytes instead of copying them, as [`Raw`] does for [`Bytes`].
    ///
    /// # Errors
    /// Those of [`decode`](Decode::decode).
    fn decode_shared(&self, bytes: &'a Bytes) -> Result<T, BoxError> {
        self.decode(bytes)
    }
}

/// Encodes values, and decodes values that borrow nothing. Every type that implements [`Encode`] and [`Decode`] is a
/// codec.
///
/// Decoding an encoded value must return an equal value.
pub trait Codec<T>: Encode<T> + for<'a> Decode<'a, T> {}

impl<T, C: Encode<T> + for<'a> Decode<'a, T>> Codec<T> for C {}

impl<T: ?Sized, C: Encode<T> + ?Sized> Encode<T> for &C {
    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        (**self).encode(value)
    }

    fn encode_into(&self, value: &T, into: &mut Vec<u8>) -> Result<(), BoxError> {
        (**self).encode_into(value, into)
    }
}

impl<'a, T, C: Decode<'a, T> + ?Sized> Decode<'a, T> for &C {
    fn decode(&self, bytes: &'a [u8]) -> Result<T, BoxError> {
        (**self).decode(bytes)
    }

    fn decode_shared(&self, bytes: &'a Bytes) -> Result<T, BoxError> {
        (**self).decode_shared(bytes)
    }
}

/// Text in UTF-8: `str` and `String`.
///
/// ```
/// use kasper::codec::{Decode, Encode, Text};
///
/// let bytes = Text.encode("Zoë")?;
/// let borrowed: &str = Text.decode(&bytes)?;
/// assert_eq!(borrowed, "Zoë");
/// let no_text: Result<String, _> = Text.decode(b"\xff");
/// assert!(no_text.is_err());
/// # Ok::<(), kasper::BoxError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Text;

impl<T: AsRef<str> + ?Sized> Encode<T> for Text {
    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        Ok(Bytes::copy_from_slice(value.as_ref().as_bytes()))
    }

    fn encode_into(&self, value: &T, into: &mut Vec<u8>) -> Result<(), BoxError> {
        into.extend_from_slice(value.as_ref().as_bytes());
        Ok(())
    }
}

impl<'a> Decode<'a, &'a str> for Text {
    fn decode(&self, bytes: &'a [u8]) -> Result<&'a str, BoxError> {
        Ok(std::str::from_utf8(bytes)?)
    }
}

impl Decode<'_, String> for Text {
    fn decode(&self, bytes: &[u8]) -> Result<String, BoxError> {
        Ok(std::str::from_utf8(bytes)?.to_owned())
    }
}

/// Bytes as they are: `[u8]`, `Vec<u8>` and [`Bytes`]. A `TypedStore<S, Raw, Bytes>` does not copy the values that it
/// reads.
///
/// ```
/// use kasper::Bytes;
/// use kasper::codec::{Decode, Encode, Raw};
///
/// let bytes = Raw.encode(&[0, 255])?;
/// let owned: Vec<u8> = Raw.decode(&bytes)?;
/// assert_eq!(owned, [0, 255]);
/// let shared: Bytes = Raw.decode_shared(&bytes)?;
/// assert_eq!(shared.as_ptr(), bytes.as_ptr());
/// # Ok::<(), kasper::BoxError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl<T: AsRef<[u8]> + ?Sized> Encode<T> for Raw {
    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        Ok(Bytes::copy_from_slice(value.as_ref()))
    }

    fn encode_into(&self, value: &T, into: &mut Vec<u8>) -> Result<(), BoxError> {
        into.extend_from_slice(value.as_ref());
        Ok(())
    }
}

impl<'a> Decode<'a, &'a [u8]> for Raw {
    fn decode(&self, bytes: &'a [u8]) -> Result<&'a [u8], BoxError> {
        Ok(bytes)
    }
}

impl Decode<'_, Vec<u8>> for Raw {
    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, BoxError> {
        Ok(bytes.to_vec())
    }
}

impl Decode<'_, Bytes> for Raw {
    fn decode(&self, bytes: &[u8]) -> Result<Bytes, BoxError> {
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn decode_shared(&self, bytes: &Bytes) -> Result<Bytes, BoxError> {
        Ok(bytes.clone())
    }
}

/// JSON, by [serde](https://docs.rs/serde). Feature `json`.
///
/// Values may borrow from the bytes, as serde's do: a `&str` in which nothing is escaped, and types with
/// `#[serde(borrow)]`.
///
/// ```
/// use kasper::codec::{Decode, Encode, Json};
///
/// let bytes = Json.encode(&vec![1, 2])?;
/// assert_eq!(bytes, "[1,2]");
/// let numbers: Vec<u8> = Json.decode(&bytes)?;
/// assert_eq!(numbers, [1, 2]);
/// let borrowed: Vec<&str> = Json.decode(br#"["a", "b"]"#)?;
/// assert_eq!(borrowed, ["a", "b"]);
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

    fn encode_into(&self, value: &T, into: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(serde_json::to_writer(into, value)?)
    }
}

#[cfg(feature = "json")]
impl<'a, T: serde::Deserialize<'a>> Decode<'a, T> for Json {
    fn decode(&self, bytes: &'a [u8]) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

impl<'a> Message<'a> {
    /// The value, decoded; `None` if the message is a tombstone.
    ///
    /// # Errors
    /// [`Decode`](ErrorKind::Decode): the value can't be decoded as a `T`. The error has the `topic`, `partition` and
    /// `offset`, and the codec's error as its cause. It is not retryable. `process` may return it, or go on with the
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
    ///             let invoice = OutgoingMessage::like("invoices", &message);
    ///             context.send_encoded(invoice, &Invoice { total: 2 * order.amount }, Json)?;
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut tester = ProcessorTester::new(["orders"], |_| Bill);
    /// tester.push(TestMessage::new("orders").key("a").value(r#"{"amount":3}"#));
    /// tester.run_all().await?;
    /// assert_eq!(tester.take_outgoing()[0].value_text(), Some(r#"{"total":6}"#));
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
    pub fn decode<T>(&self, decoder: impl Decode<'a, T>) -> Result<Option<T>> {
        self.decoded(self.value(), &decoder, "a message's value can't be decoded")
    }

    /// The key, decoded; `None` if the message has none.
    ///
    /// # Errors
    /// Those of [`decode`](Message::decode).
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct LookAt;
    /// # impl Processor for LookAt {
    /// #     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    /// # use kasper::codec::Json;
    /// # let mut messages = batch.iter();
    /// # let mut next = move || messages.next().unwrap();
    /// # let (seven, without_key, text) = (next(), next(), next());
    /// assert_eq!(seven.key(), Some(&b"7"[..]));
    /// assert_eq!(seven.decode_key::<u64>(Json)?, Some(7));
    /// assert_eq!(without_key.decode_key::<u64>(Json)?, None);
    ///
    /// assert_eq!(text.key(), Some(&b"seven"[..]));
    /// let error = text.decode_key::<u64>(Json).unwrap_err();
    /// assert_eq!((error.get("topic"), error.get("offset")), (Some("orders"), Some("2")));
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # let mut tester = ProcessorTester::new(["orders"], |_| LookAt);
    /// # tester.push(TestMessage::new("orders").key("7"));
    /// # tester.push(TestMessage::new("orders"));
    /// # tester.push(TestMessage::new("orders").key("seven"));
    /// # assert_eq!(tester.run_batch().await?, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn decode_key<T>(&self, decoder: impl Decode<'a, T>) -> Result<Option<T>> {
        self.decoded(self.key(), &decoder, "a message's key can't be decoded")
    }

    fn decoded<T>(
        &self,
        bytes: Option<&'a [u8]>,
        decoder: &impl Decode<'a, T>,
        fault: &str,
    ) -> Result<Option<T>> {
        let decoded = bytes.map(|bytes| decoder.decode(bytes)).transpose();
        decoded.map_err(|cause| self.undecodable(fault).with_source(cause))
    }
}

impl Context {
    /// Encodes the value, and [sends](Context::send) the message with it. A value that the message already has is
    /// replaced.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput): the codec refuses the value. The error has the `topic` of the
    /// outgoing message, and the `partition` that is being processed. The message is not sent.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, ErrorKind, OutgoingMessage, Processor, codec::Json};
    /// # struct Send;
    /// # impl Processor for Send {
    /// #     async fn process(&mut self, _: &Batch, context: &mut Context) -> Result<(), BoxError> {
    /// context.send_encoded(OutgoingMessage::new("lists").key("a"), &[1, 2], Json)?;
    ///
    /// // A JSON object can't have a list as a key.
    /// let map = std::collections::BTreeMap::from([([1, 2], "x")]);
    /// let error = context.send_encoded(OutgoingMessage::new("maps"), &map, Json).unwrap_err();
    /// assert_eq!((error.kind(), error.get("topic")), (ErrorKind::InvalidInput, Some("maps")));
    /// assert_eq!(context.pending(), 1);
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # let mut tester = ProcessorTester::new(["orders"], |_| Send);
    /// # tester.push(TestMessage::new("orders"));
    /// # tester.run_batch().await?;
    /// # assert_eq!(tester.outgoing(), [TestMessage::new("lists").key("a").value("[1,2]")]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_encoded<T: ?Sized>(
        &mut self,
        message: OutgoingMessage<'_>,
        value: &T,
        encoder: impl Encode<T>,
    ) -> Result<()> {
        let mut encoded = self.take_encoded();
        let outcome = encoder.encode_into(value, &mut encoded).map_err(|cause| {
            Error::new(ErrorKind::InvalidInput, "the value of an outgoing message can't be encoded")
                .with("topic", message.topic())
                .with("partition", self.partition())
                .with_source(cause)
        });
        if outcome.is_ok() {
            self.send(message.value(&encoded));
        }
        self.keep_encoded(encoded);
        outcome
    }
}
