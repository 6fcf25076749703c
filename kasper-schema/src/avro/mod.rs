//! Avro values, by the id of their schema in the registry.

mod decoder;
mod depth;
mod encoder;
mod resolve;
mod single;
mod strict;

pub use decoder::AvroDecoder;
pub use encoder::AvroEncoder;

use std::panic::{AssertUnwindSafe, catch_unwind};

use apache_avro::Schema;
use kasper::{Error, ErrorKind, Result};

/// A type's own schema.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput): it is not an Avro schema, or not one that `apache-avro` can handle.
fn parse(text: &str) -> Result<Schema> {
    let refused = |message| Error::new(ErrorKind::InvalidInput, message);
    let parsed = no_panic(|| Schema::parse_str(text)).map_err(refused)?;
    parsed.map_err(|cause| refused("the text is not an Avro schema").with_source(cause))
}

/// `apache-avro` panics at some schemas that it does not expect, such as one that says `"size": "max"` in a field. They
/// come from the registry: without this, one would stop the processor again and again.
fn no_panic<T>(work: impl FnOnce() -> T) -> Result<T, &'static str> {
    // A closure that has panicked leaves only what it owned.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| "the crate apache-avro panics at the schema")
}
