//! [`AvroEncoder`]: values of a type, written with the type's schema.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::writer::datum::GenericDatumWriter;
use kasper::codec::Encode;
use kasper::{BoxError, Bytes, Result};
use serde::Serialize;

use crate::registry::{AVRO, Registry};
use crate::subject::Subject;
use crate::{avro, frame};

/// Encodes values of the type `T` as Avro, with the id of their schema in front. A codec for
/// [`Context::send_encoded`](kasper::Context::send_encoded), and for keys by [`Encode::encode`].
///
/// Types correspond to schemas as for [`AvroDecoder`](crate::AvroDecoder).
///
/// Clones are cheap: make one, and clone it for each partition.
pub struct AvroEncoder<T: ?Sized> {
    inner: Arc<Inner>,
    value: PhantomData<fn(&T)>,
}

struct Inner {
    schema: Schema,
    id: u32,
}

impl<T: ?Sized> AvroEncoder<T> {
    /// An encoder for the type whose Avro schema this is, as JSON. Looks up the schema's id under the subject, or
    /// registers it there if [`auto_register`](crate::RegistryConfig::auto_register) is set.
    ///
    /// The schema has to define all types that it names: references to other subjects are not supported here.
    ///
    /// # Errors
    /// [`InvalidInput`](kasper::ErrorKind::InvalidInput): the text is not an Avro schema. And those of the
    /// [`Registry`].
    ///
    /// # Cancel safety
    /// Cancel-safe. A schema may have been registered.
    ///
    /// ```no_run
    /// use kasper::codec::Encode;
    /// use kasper_schema::{AvroEncoder, Registry, RegistryConfig, Subject};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), kasper::BoxError> {
    /// let registry = Registry::new(&RegistryConfig::new("http://localhost:8081"))?;
    /// let ages = AvroEncoder::<i32>::new(&registry, Subject::topic_value("ages"), r#""int""#).await?;
    /// let encoded = ages.encode(&-1)?;
    /// assert_eq!(encoded[..], [&[0][..], &ages.schema_id().to_be_bytes(), &[1]].concat());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn new(registry: &Registry, subject: Subject, schema: &str) -> Result<Self> {
        let parsed = avro::parse(schema)?;
        let record = parsed.name().map(|name| name.fullname(None));
        let subject = subject.name(record.as_deref())?;
        let id = registry.id_of(&subject, AVRO, schema).await?;
        Ok(Self { inner: Arc::new(Inner { schema: parsed, id }), value: PhantomData })
    }

    /// The id of the schema.
    pub fn schema_id(&self) -> u32 {
        self.inner.id
    }
}

impl<T: Serialize + ?Sized> Encode<T> for AvroEncoder<T> {
    fn encode(&self, value: &T) -> Result<Bytes, BoxError> {
        let mut bytes = frame::begin(self.inner.id).to_vec();
        let writer = GenericDatumWriter::builder(&self.inner.schema).build()?;
        writer.write_ser(&mut bytes, &value)?;
        Ok(bytes.into())
    }
}

impl<T: ?Sized> Clone for AvroEncoder<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), value: PhantomData }
    }
}

impl<T: ?Sized> fmt::Debug for AvroEncoder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AvroEncoder").field("schema_id", &self.inner.id).finish_non_exhaustive()
    }
}
