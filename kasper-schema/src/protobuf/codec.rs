//! [`Protobuf`]: messages as they are, without a registry.

use kasper::codec::{Decode, Encode};
use kasper::{BoxError, Bytes};
use prost::Message;

/// Protobuf messages, by [prost](https://docs.rs/prost), with nothing in front: for topics and stores that use no
/// schema registry.
///
/// ```
/// use kasper::codec::{Decode, Encode};
/// use kasper_schema::Protobuf;
///
/// #[derive(Clone, PartialEq, prost::Message)]
/// struct Order {
///     #[prost(int64, tag = "1")]
///     amount: i64,
/// }
///
/// let bytes = Protobuf.encode(&Order { amount: 7 })?;
/// assert_eq!(bytes[..], [8, 7]);
/// let order: Order = Protobuf.decode(&bytes)?;
/// assert_eq!(order, Order { amount: 7 });
/// # Ok::<(), kasper::BoxError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Protobuf;

impl<M: Message> Encode<M> for Protobuf {
    fn encode(&self, message: &M) -> Result<Bytes, BoxError> {
        Ok(message.encode_to_vec().into())
    }
}

impl<M: Message + Default> Decode<'_, M> for Protobuf {
    fn decode(&self, bytes: &[u8]) -> Result<M, BoxError> {
        Ok(M::decode(bytes)?)
    }
}
