//! Values without parts: numbers, texts, bytes, and the logical types that stand for them.
//!
//! Avro's rules of resolution know only the physical types: `timestamp-millis` is a `long` to them. The crate `apache-avro`
//! refuses most logical types where the other schema has none, and decimals with fewer bytes than their precision allows,
//! which is how Java writes them.

use apache_avro::schema::{DecimalSchema, InnerDecimalSchema, UuidSchema};
use apache_avro::types::Value;
use apache_avro::{Decimal, Schema};
use kasper::BoxError;

/// The types that are promoted, or stay what they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed,
    /// Values with parts, and enums.
    Other,
}

impl Kind {
    /// Without the logical type.
    pub(super) fn of(schema: &Schema) -> Self {
        match schema {
            Schema::Null => Self::Null,
            Schema::Boolean => Self::Boolean,
            Schema::Int | Schema::Date | Schema::TimeMillis => Self::Int,
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Self::Long,
            Schema::Float => Self::Float,
            Schema::Double => Self::Double,
            Schema::Bytes
            | Schema::BigDecimal
            | Schema::Uuid(UuidSchema::Bytes)
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. }) => {
                Self::Bytes
            }
            Schema::String | Schema::Uuid(UuidSchema::String) => Self::String,
            Schema::Fixed(_)
            | Schema::Duration(_)
            | Schema::Uuid(UuidSchema::Fixed(_))
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(_), .. }) => {
                Self::Fixed
            }
            _ => Self::Other,
        }
    }

    fn becomes(self, reader: Self) -> bool {
        match (self, reader) {
            (Self::Other, _) | (_, Self::Other) => false,
            (Self::Int, Self::Long | Self::Float | Self::Double)
            | (Self::Long, Self::Float | Self::Double)
            | (Self::Float, Self::Double)
            | (Self::String, Self::Bytes)
            | (Self::Bytes, Self::String) => true,
            (writer, reader) => writer == reader,
        }
    }
}

/// The value, as the reader's schema has it.
///
/// # Errors
/// The schemas do not match, or the value has no such form.
pub(super) fn resolve(value: Value, writer: &Schema, reader: &Schema) -> Result<Value, BoxError> {
    let (from, to) = (Kind::of(writer), Kind::of(reader));
    if !from.becomes(to) {
        return Err(format!("{from:?} does not become {to:?}").into());
    }
    if let (Schema::Decimal(writer), Schema::Decimal(reader)) = (writer, reader)
        && (writer.precision, writer.scale) != (reader.precision, reader.scale)
    {
        return Err("the decimals have another precision or scale".into());
    }
    // Its bytes are not to be had from `apache-avro`.
    if matches!((&value, reader), (Value::BigDecimal(_), Schema::BigDecimal)) {
        return Ok(value);
    }
    let value = match (physical(value, writer)?, to) {
        (Value::Int(number), Kind::Long) => Value::Long(number.into()),
        (Value::String(text), Kind::Bytes) => Value::Bytes(text.into_bytes()),
        (Value::Bytes(bytes), Kind::String) => Value::String(String::from_utf8(bytes)?),
        (value, _) => value,
    };
    match (value, reader) {
        (Value::Fixed(size, bytes), Schema::Decimal(decimal)) => match &decimal.inner {
            InnerDecimalSchema::Fixed(fixed) if fixed.size == size => decimal_of(bytes),
            _ => Err("the decimals have another size".into()),
        },
        (Value::Bytes(bytes), Schema::Decimal(_)) => decimal_of(bytes),
        (value, reader) => Ok(value.resolve(reader)?),
    }
}

fn decimal_of(bytes: Vec<u8>) -> Result<Value, BoxError> {
    match bytes.len() {
        0 => Err("a decimal has no bytes".into()),
        _ => Ok(Value::Decimal(Decimal::from(bytes))),
    }
}

/// The value that was written, without the logical type.
fn physical(value: Value, writer: &Schema) -> Result<Value, BoxError> {
    let bytes = match value {
        Value::Date(number) | Value::TimeMillis(number) => return Ok(Value::Int(number)),
        Value::TimeMicros(number)
        | Value::TimestampMillis(number)
        | Value::TimestampMicros(number)
        | Value::TimestampNanos(number)
        | Value::LocalTimestampMillis(number)
        | Value::LocalTimestampMicros(number)
        | Value::LocalTimestampNanos(number) => return Ok(Value::Long(number)),
        Value::Uuid(uuid) if Kind::of(writer) == Kind::String => {
            return Ok(Value::String(uuid.to_string()));
        }
        Value::Uuid(uuid) => uuid.as_bytes().to_vec(),
        Value::Decimal(decimal) => decimal.try_into()?,
        Value::Duration(duration) => <[u8; 12]>::from(duration).to_vec(),
        Value::BigDecimal(_) => return Err("a big decimal becomes nothing else".into()),
        value => return Ok(value),
    };
    Ok(match Kind::of(writer) {
        Kind::Fixed => Value::Fixed(bytes.len(), bytes),
        _ => Value::Bytes(bytes),
    })
}
