//! [`ProtobufEncoder`]: messages with the id of their schema, and their place in it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use kasper::codec::Encode;
use kasper::{BoxError, Bytes, Error, ErrorKind, Result};
use prost::{Message, Name};

use super::proto;
use crate::frame;
use crate::registry::{PROTOBUF, Registry};
use crate::subject::Subject;

/// Encodes Protobuf messages, with the id of their schema and their place in it in front. A codec for
/// [`Context::send_encoded`](kasper::Context::send_encoded), and for keys by [`Encode::encode`].
///
/// Clones are cheap: make one, and clone it for each partition.
pub struct ProtobufEncoder<M> {
    inner: Arc<Inner>,
    message: PhantomData<fn(&M)>,
}

struct Inner {
    id: u32,
    /// What stands before each message.
    front: Vec<u8>,
}

impl<M: Name> ProtobufEncoder<M> {
    /// An encoder for the message, which is defined in this `.proto` file. Looks up the file's id under the subject, or
    /// registers it there if [`auto_register`](crate::RegistryConfig::auto_register) is set.
    ///
    /// The file may import only what every registry has (`google/protobuf/…`): references to other subjects are not
    /// supported here. `prost-build` implements [`Name`] for messages with `enable_type_names`.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput): the file does not define the message. And those of the
    /// [`Registry`].
    ///
    /// # Cancel safety
    /// Cancel-safe. A schema may have been registered.
    ///
    /// ```no_run
    /// use kasper_schema::{ProtobufEncoder, Registry, RegistryConfig, Subject};
    ///
    /// #[derive(Clone, PartialEq, prost::Message)]
    /// struct Order {
    ///     #[prost(int64, tag = "1")]
    ///     amount: i64,
    /// }
    ///
    /// impl prost::Name for Order {
    ///     const NAME: &'static str = "Order";
    ///     const PACKAGE: &'static str = "shop";
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let registry = Registry::new(&RegistryConfig::new("http://localhost:8081"))?;
    /// let file = r#"syntax = "proto3"; package shop; message Order { int64 amount = 1; }"#;
    /// let orders = ProtobufEncoder::<Order>::new(&registry, Subject::topic_value("orders"), file).await?;
    /// # let _ = orders;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn new(registry: &Registry, subject: Subject, file: &str) -> Result<Self> {
        let name = M::full_name();
        let place = proto::places(file, &name).into_iter().next().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "the file does not define the message")
                .with("message", &name)
        })?;
        let subject = subject.name(Some(&name))?;
        let id = registry.id_of(&subject, PROTOBUF, file).await?;
        let front = [&frame::begin(id)[..], &proto::encode_place(&place)].concat();
        Ok(Self { inner: Arc::new(Inner { id, front }), message: PhantomData })
    }
}

impl<M> ProtobufEncoder<M> {
    /// The id of the schema.
    pub fn schema_id(&self) -> u32 {
        self.inner.id
    }
}

impl<M: Message> Encode<M> for ProtobufEncoder<M> {
    fn encode(&self, message: &M) -> Result<Bytes, BoxError> {
        let front = &self.inner.front;
        let mut bytes = Vec::with_capacity(front.len() + message.encoded_len());
        bytes.extend_from_slice(front);
        message.encode(&mut bytes)?;
        Ok(bytes.into())
    }
}

impl<M> Clone for ProtobufEncoder<M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), message: PhantomData }
    }
}

impl<M> fmt::Debug for ProtobufEncoder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtobufEncoder").field("schema_id", &self.inner.id).finish_non_exhaustive()
    }
}
