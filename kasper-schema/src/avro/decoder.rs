//! [`AvroDecoder`]: values written with any schema, read with the type's own.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::ResolvedSchema;
use apache_avro::writer::datum::GenericDatumWriter;
use kasper::codec::Decode;
use kasper::{BoxError, Error, ErrorKind, Message, Result};
use serde::de::DeserializeOwned;

use super::depth;
use super::resolve::{self, Names};
use super::strict::Strict;
use crate::loaded::Loaded;
use crate::registry::{AVRO, Registered, Registry};
use crate::{avro, frame};

/// Decodes values of the type `T` that were written as Avro, with the id of their schema in front. A codec for
/// [`Message::decode`] and [`Message::decode_key`].
///
/// [Load](AvroDecoder::load_values) the schemas that a batch needs first. A value that was written with another
/// schema than the type's own is resolved by Avro's rules: fields that the type's schema lacks are dropped, those that
/// the writer's lacks get their default (fields are found by their aliases too), numbers are widened, and a symbol that
/// an enum lacks becomes the enum's default.
///
/// Types correspond to schemas [as in the crate `apache-avro`][mapping]: an Avro `long` is an `i64`, an `int` an `i32`. A
/// struct has the name of its record, if need be by `#[serde(rename = "…")]`. The variants of an enum stand in the order
/// of the schema's.
///
/// A value may be nested 128 deep, if its schema contains itself: more could overflow the stack, and is an error.
///
/// [mapping]: https://docs.rs/apache-avro/0.22/apache_avro/documentation/serde_data_model_to_avro/
///
/// Clones share what is loaded: make one, and clone it for each partition.
pub struct AvroDecoder<T> {
    reader: Arc<Reader>,
    loaded: Loaded<Writer>,
    value: PhantomData<fn() -> T>,
}

/// The type's own schema.
struct Reader {
    schema: Schema,
    canonical: String,
    /// Whether bytes of it are checked by [`depth::check`].
    is_checked: bool,
}

/// A schema of the registry.
struct Writer {
    schema: Schema,
    /// The schemas that it refers to.
    references: Vec<Schema>,
    /// Whether it writes the same bytes as the reader's schema.
    is_readers: bool,
    /// As in [`Reader`].
    is_checked: bool,
}

impl<T> AvroDecoder<T> {
    /// A decoder for the type whose Avro schema this is, as JSON. No I/O.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput): the text is not an Avro schema, names types that it does not define, or
    /// is one that the crate `apache-avro` cannot handle.
    pub fn new(registry: &Registry, schema: &str) -> Result<Self> {
        let reader = Arc::new(Reader::new(avro::parse(schema)?)?);
        let loaded = Loaded::new(registry);
        Ok(Self { reader, loaded, value: PhantomData })
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
        self.loaded.fetch(missing, |schema| {
            avro::no_panic(|| self.reader.prepare(schema)).map_err(str::to_owned).flatten()
        })
    }
}

impl<T: DeserializeOwned> Decode<'_, T> for AvroDecoder<T> {
    fn decode(&self, bytes: &[u8]) -> Result<T, BoxError> {
        let (id, rest) = frame::split(bytes)?;
        let writer = self.loaded.get(id)?;
        self.reader.read(&writer, rest).map_err(|cause| {
            let error = Error::new(ErrorKind::Decode, "the value does not fit the type's schema");
            error.with("schema_id", id).with_source(cause).into()
        })
    }
}

impl Reader {
    fn new(schema: Schema) -> Result<Self> {
        let unfit = |message| Error::new(ErrorKind::InvalidInput, message);
        let canonical = avro::no_panic(|| schema.canonical_form()).map_err(unfit)?;
        let is_checked = {
            let names = ResolvedSchema::new(&schema)
                .map_err(|cause| unfit("the schema's names are unclear").with_source(cause))?;
            depth::is_needed(&schema, names.get_names())
        };
        Ok(Self { schema, canonical, is_checked })
    }

    fn prepare(&self, registered: &Registered) -> Result<Writer, String> {
        if registered.kind != AVRO {
            return Err(format!("the schema is not Avro but {}", registered.kind));
        }
        let parsed = Schema::parse_str_with_list(&registered.text, &registered.references);
        let (schema, references) =
            parsed.map_err(|error| format!("the schema can't be understood: {error}"))?;
        let is_readers = references.is_empty() && schema.canonical_form() == self.canonical;
        let is_checked = {
            let names = ResolvedSchema::new_with_schemata(all(&schema, &references))
                .map_err(|error| format!("the schema's names are unclear: {error}"))?;
            depth::is_needed(&schema, names.get_names())
        };
        Ok(Writer { schema, references, is_readers, is_checked })
    }

    /// A value is always read with the type's schema. If it was written with another one, it is written again first,
    /// so that values of all versions reach `T` in the same way.
    fn read<T: DeserializeOwned>(&self, writer: &Writer, bytes: &[u8]) -> Result<T, BoxError> {
        if writer.is_readers {
            if self.is_checked {
                let names = ResolvedSchema::new(&self.schema)?;
                depth::check(bytes, &self.schema, names.get_names())?;
            }
            return self.read_own(bytes);
        }
        let schemata = all(&writer.schema, &writer.references);
        let written_names = ResolvedSchema::new_with_schemata(schemata.clone())?;
        if writer.is_checked {
            depth::check(bytes, &writer.schema, written_names.get_names())?;
        }
        let mut bytes = Strict::new(bytes);
        let written = GenericDatumReader::builder(&writer.schema)
            .writer_schemata(schemata)?
            .build()?
            .read_value(&mut bytes)?;
        nothing_left(&bytes)?;
        let own_names = ResolvedSchema::new(&self.schema)?;
        let names = Names { writer: written_names.get_names(), reader: own_names.get_names() };
        let value = resolve::resolve(written, &writer.schema, &self.schema, &names)?;
        let own = GenericDatumWriter::builder(&self.schema).build()?.write_value_to_vec(value)?;
        self.read_own(&own)
    }

    fn read_own<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, BoxError> {
        let mut bytes = Strict::new(bytes);
        let value = GenericDatumReader::builder(&self.schema).build()?.read_deser(&mut bytes)?;
        nothing_left(&bytes)?;
        Ok(value)
    }
}

/// A schema, after those that it refers to.
fn all<'a>(schema: &'a Schema, references: &'a [Schema]) -> Vec<&'a Schema> {
    references.iter().chain([schema]).collect()
}

/// Bytes after a value show that it was written with another schema than its id says.
fn nothing_left(rest: &Strict<'_>) -> Result<(), BoxError> {
    match rest.left() {
        0 => Ok(()),
        bytes => Err(format!("{bytes} bytes are left after the value").into()),
    }
}

impl<T> Clone for AvroDecoder<T> {
    fn clone(&self) -> Self {
        Self { reader: self.reader.clone(), loaded: self.loaded.clone(), value: PhantomData }
    }
}

impl<T> fmt::Debug for AvroDecoder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AvroDecoder").field("loaded", &self.loaded).finish_non_exhaustive()
    }
}
