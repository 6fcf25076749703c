//! Finds bytes that would overflow the stack or fill the memory, before `apache-avro` decodes them.
//!
//! Decoding calls itself for each nested value, and a schema that contains itself lets two bytes ask for one level more: a
//! short message could end the process. And values without bytes, such as nulls, can be announced in an array by the
//! million in a few bytes. Only such schemas need the check; others bound both by themselves.

use std::collections::{HashMap, HashSet};

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, InnerDecimalSchema, Name, UuidSchema};
use kasper::BoxError;

/// How many records, arrays and maps may be nested. An optimized build needs about 1 MiB of stack for it, half of what a
/// thread of tokio's has; a debug build needs ten times as much.
const DEEPEST: usize = 128;

/// How many values without bytes a message may hold, beyond one for each of its bytes.
const MOST_EMPTY: usize = 65_536;

type Names<'a> = HashMap<Name, &'a Schema>;

/// Whether bytes of this schema need the check.
pub(super) fn is_needed(schema: &Schema, names: &Names<'_>) -> bool {
    let (path, empty) = (HashSet::new(), HashMap::new());
    let mut survey = Survey { names, path, empty, needed: false };
    survey.is_empty(schema);
    survey.needed
}

struct Survey<'a> {
    names: &'a Names<'a>,
    /// The records around the current schema.
    path: HashSet<&'a Name>,
    /// Whether values of a record take no bytes.
    empty: HashMap<&'a Name, bool>,
    needed: bool,
}

impl<'a> Survey<'a> {
    /// Whether values of the schema take no bytes.
    fn is_empty(&mut self, schema: &'a Schema) -> bool {
        match schema {
            Schema::Null => true,
            Schema::Fixed(fixed)
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. }) => {
                fixed.size == 0
            }
            Schema::Array(array) => {
                self.needed |= self.is_empty(&array.items);
                false
            }
            Schema::Map(map) => {
                self.is_empty(&map.types);
                false
            }
            Schema::Union(union) => {
                for variant in union.variants() {
                    self.is_empty(variant);
                }
                false
            }
            Schema::Record(record) => {
                self.path.insert(&record.name);
                let mut empty = true;
                for field in &record.fields {
                    empty &= self.is_empty(&field.schema);
                }
                self.path.remove(&record.name);
                self.empty.insert(&record.name, empty);
                empty
            }
            Schema::Ref { name } if self.path.contains(name) => {
                self.needed = true;
                false
            }
            Schema::Ref { name } => match (self.empty.get(name), self.names.get(name)) {
                (Some(empty), _) => *empty,
                (None, Some(schema)) => self.is_empty(schema),
                (None, None) => false,
            },
            _ => false,
        }
    }
}

/// Walks over a value without decoding it.
///
/// # Errors
/// The value is nested too deeply, holds too many values without bytes, or is cut off.
pub(super) fn check(bytes: &[u8], schema: &Schema, names: &Names<'_>) -> Result<(), BoxError> {
    Walk { rest: bytes, names, empty: bytes.len() + MOST_EMPTY }.value(schema, 0)
}

struct Walk<'a> {
    rest: &'a [u8],
    names: &'a Names<'a>,
    /// How many more values may take no bytes.
    empty: usize,
}

impl Walk<'_> {
    fn value(&mut self, schema: &Schema, depth: usize) -> Result<(), BoxError> {
        let before = self.rest.len();
        self.content(schema, depth)?;
        if self.rest.len() == before {
            let left = self.empty.checked_sub(1);
            self.empty = left.ok_or("the value holds too many values that take no bytes")?;
        }
        Ok(())
    }

    fn content(&mut self, schema: &Schema, depth: usize) -> Result<(), BoxError> {
        match schema {
            Schema::Null => Ok(()),
            Schema::Boolean => self.skip(1),
            Schema::Float => self.skip(4),
            Schema::Double => self.skip(8),
            Schema::Fixed(fixed)
            | Schema::Duration(fixed)
            | Schema::Uuid(UuidSchema::Fixed(fixed))
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. }) => {
                self.skip(fixed.size)
            }
            Schema::Bytes
            | Schema::String
            | Schema::BigDecimal
            | Schema::Uuid(UuidSchema::Bytes | UuidSchema::String)
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. }) => {
                let length = self.long()?;
                self.skip(usize::try_from(length)?)
            }
            Schema::Array(array) => {
                let depth = deeper(depth)?;
                self.blocks(|walk| walk.value(&array.items, depth))
            }
            Schema::Map(map) => {
                let depth = deeper(depth)?;
                self.blocks(|walk| {
                    walk.content(&Schema::String, depth)?;
                    walk.content(&map.types, depth)
                })
            }
            Schema::Union(union) => {
                let variant = usize::try_from(self.long()?)?;
                let variant = union.variants().get(variant);
                self.content(variant.ok_or("the union has no such variant")?, depth)
            }
            Schema::Record(record) => {
                let depth = deeper(depth)?;
                record.fields.iter().try_for_each(|field| self.value(&field.schema, depth))
            }
            Schema::Ref { name } => {
                let schema = self.names.get(name).copied();
                self.content(schema.ok_or_else(|| format!("`{name}` is not defined"))?, depth)
            }
            // Numbers and enums.
            _ => self.long().map(drop),
        }
    }

    /// The items of an array or map: blocks, each after the number of its items, until an empty one.
    fn blocks(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        loop {
            let number = self.long()?;
            if number == 0 {
                return Ok(());
            }
            if number < 0 {
                // The number of bytes follows.
                self.long()?;
            }
            for _ in 0..number.unsigned_abs() {
                item(self)?;
            }
        }
    }

    fn long(&mut self) -> Result<i64, BoxError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or("the value is cut off")?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // Zigzag: the lowest bit is the sign.
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err("a number is too long".into())
    }

    fn skip(&mut self, length: usize) -> Result<(), BoxError> {
        self.rest = self.rest.get(length..).ok_or("the value is cut off")?;
        Ok(())
    }
}

fn deeper(depth: usize) -> Result<usize, BoxError> {
    match depth + 1 {
        depth if depth <= DEEPEST => Ok(depth),
        _ => Err(format!("the value is nested more than {DEEPEST} deep").into()),
    }
}
