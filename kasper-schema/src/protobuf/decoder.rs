//! [`ProtobufDecoder`]: messages of one type, by the name that the schema of their id gives them.

use std::fmt;
use std::marker::PhantomData;

use kasper::codec::Decode;
use kasper::{BoxError, Error, ErrorKind, Message, Result};
use prost::Name;

use super::proto;
use crate::frame;
use crate::loaded::Loaded;
use crate::registry::{PROTOBUF, Registered, Registry};

/// Decodes Protobuf messages with the id of their schema and their place in it in front. A codec for
/// [`Message::decode`] and [`Message::decode_key`].
///
/// [Load](ProtobufDecoder::load_values) the schemas that a batch needs first. They say which message was written: another one
/// than `M` is an error, where Protobuf itself would often decode it, as nonsense. Fields are found by their numbers, so
/// that older and newer versions of the message can be decoded.
///
/// Clones share what is loaded: make one, and clone it for each partition.
pub struct ProtobufDecoder<M> {
    loaded: Loaded<Places>,
    message: PhantomData<fn() -> M>,
}

/// Where a schema defines the message.
type Places = Vec<Vec<usize>>;

impl<M: Name> ProtobufDecoder<M> {
    /// A decoder for the message with the full name of `M`. No I/O. `prost-build` implements [`Name`] for messages
    /// with `enable_type_names`.
    pub fn new(registry: &Registry) -> Self {
        Self { loaded: Loaded::new(registry), message: PhantomData }
    }

    /// Loads the schemas that the values of these messages were written with. Asks the registry only about ids that
    /// are not known yet.
    ///
    /// # Errors
    /// Those of the [`Registry`], without `NotFound`: an unknown id is an error when the message is decoded.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub fn load_values<'a>(
        &self,
        messages: impl IntoIterator<Item = Message<'a>>,
    ) -> impl Future<Output = Result<()>> + Send {
        self.load(messages.into_iter().filter_map(|message| message.value()))
    }

    /// As [`load_values`](Self::load_values), for the keys of these messages.
    ///
    /// # Errors
    /// As [`load_values`](Self::load_values).
    pub fn load_keys<'a>(
        &self,
        messages: impl IntoIterator<Item = Message<'a>>,
    ) -> impl Future<Output = Result<()>> + Send {
        self.load(messages.into_iter().filter_map(|message| message.key()))
    }

    /// As [`load_values`](Self::load_values), for encoded values from anywhere.
    ///
    /// # Errors
    /// As [`load_values`](Self::load_values).
    pub fn load<'a>(
        &self,
        encoded: impl IntoIterator<Item = &'a [u8]>,
    ) -> impl Future<Output = Result<()>> + Send {
        // Before the future, which then needs no `Send` of the iterator.
        let missing = self.loaded.missing(encoded);
        self.loaded.fetch(missing, places_of::<M>)
    }
}

fn places_of<M: Name>(registered: &Registered) -> Result<Places, String> {
    if registered.kind != PROTOBUF {
        return Err(format!("the schema is not Protobuf but {}", registered.kind));
    }
    let name = M::full_name();
    match proto::places(&registered.text, &name) {
        places if places.is_empty() => Err(format!("the schema does not define `{name}`")),
        places => Ok(places),
    }
}

impl<M: Name + Default> Decode<'_, M> for ProtobufDecoder<M> {
    fn decode(&self, bytes: &[u8]) -> Result<M, BoxError> {
        let (id, rest) = frame::split(bytes)?;
        let places = self.loaded.get(id)?;
        let told = |message: &str| Error::new(ErrorKind::Decode, message).with("schema_id", id);
        let (place, message) = proto::split_place(rest)
            .ok_or_else(|| told("the bytes don't say which message of the schema this is"))?;
        if !places.contains(&place) {
            let error = told("this is another message of the schema");
            return Err(error.with("expected", M::full_name()).into());
        }
        M::decode(message)
            .map_err(|cause| told("the bytes are not an encoded message").with_source(cause).into())
    }
}

impl<M> Clone for ProtobufDecoder<M> {
    fn clone(&self) -> Self {
        Self { loaded: self.loaded.clone(), message: PhantomData }
    }
}

impl<M> fmt::Debug for ProtobufDecoder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtobufDecoder").field("loaded", &self.loaded).finish_non_exhaustive()
    }
}
