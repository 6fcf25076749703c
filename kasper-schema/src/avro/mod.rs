//! Avro values, by the id of their schema in the registry.

mod decoder;
mod encoder;
mod resolve;

pub use decoder::AvroDecoder;
pub use encoder::AvroEncoder;

use apache_avro::Schema;
use kasper::{Error, ErrorKind, Result};

/// A type's own schema.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput): it is not an Avro schema.
fn parse(text: &str) -> Result<Schema> {
    Schema::parse_str(text).map_err(|cause| {
        Error::new(ErrorKind::InvalidInput, "the text is not an Avro schema").with_source(cause)
    })
}
