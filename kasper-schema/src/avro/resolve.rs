//! Schema resolution: from a value of the writer's schema to one of the reader's.
//!
//! By the rules of [Avro's specification](https://avro.apache.org/docs/1.12.0/specification/#schema-resolution), which
//! the resolution of the crate `apache-avro` leaves where it looks at the value alone: it takes the first variant of a
//! union that a value fits, so that a record could become another one with similar fields, and it ignores the aliases of
//! fields, so that a renamed field would silently get its default.

use std::collections::HashMap;
use std::mem::discriminant;

use apache_avro::Schema;
use apache_avro::schema::{EnumSchema, Name, RecordField, RecordSchema, UnionSchema};
use apache_avro::types::Value;
use kasper::BoxError;

use super::single::{self, Kind};

/// What names stand for in either schema.
pub(super) struct Names<'a> {
    pub(super) writer: &'a HashMap<Name, &'a Schema>,
    pub(super) reader: &'a HashMap<Name, &'a Schema>,
}

/// The value, as the reader's schema has it.
///
/// # Errors
/// The schemas do not match at this value.
pub(super) fn resolve(
    value: Value,
    writer: &Schema,
    reader: &Schema,
    names: &Names<'_>,
) -> Result<Value, BoxError> {
    let (writer, reader) = (defined(writer, names.writer)?, defined(reader, names.reader)?);
    match (value, writer, reader) {
        (Value::Union(variant, value), Schema::Union(union), _) => {
            let writer = union.variants().get(usize::try_from(variant)?);
            resolve(*value, writer.ok_or("the union has no such variant")?, reader, names)
        }
        (value, _, Schema::Union(union)) => into_union(&value, writer, union, names),
        (Value::Record(fields), Schema::Record(writer), Schema::Record(reader)) => {
            same_name(
                &writer.name,
                &reader.name,
                reader.aliases.iter().flatten().map(|it| it.name()),
            )?;
            record(fields, writer, reader, names)
        }
        (Value::Array(items), Schema::Array(writer), Schema::Array(reader)) => {
            let item = |item| resolve(item, &writer.items, &reader.items, names);
            Ok(Value::Array(items.into_iter().map(item).collect::<Result<_, _>>()?))
        }
        (Value::Map(entries), Schema::Map(writer), Schema::Map(reader)) => {
            let entry =
                |(key, value)| Ok((key, resolve(value, &writer.types, &reader.types, names)?));
            Ok(Value::Map(entries.into_iter().map(entry).collect::<Result<_, BoxError>>()?))
        }
        (Value::Enum(_, symbol), Schema::Enum(writer), Schema::Enum(reader)) => {
            same_name(
                &writer.name,
                &reader.name,
                reader.aliases.iter().flatten().map(|it| it.name()),
            )?;
            enumeration(&symbol, reader)
        }
        (value, writer, reader) => single::resolve(value, writer, reader),
    }
}

/// The schema, or what it refers to.
fn defined<'a>(
    schema: &'a Schema,
    names: &'a HashMap<Name, &'a Schema>,
) -> Result<&'a Schema, BoxError> {
    match schema {
        Schema::Ref { name } => {
            Ok(names.get(name).ok_or_else(|| format!("`{name}` is not defined"))?)
        }
        schema => Ok(schema),
    }
}

/// Without namespaces, as the specification has it.
fn same_name<'a>(
    writer: &Name,
    reader: &Name,
    mut aliases: impl Iterator<Item = &'a str>,
) -> Result<(), BoxError> {
    if writer.name() == reader.name() || aliases.any(|alias| alias == writer.name()) {
        return Ok(());
    }
    Err(format!("`{writer}` is not `{reader}`").into())
}

fn record(
    fields: Vec<(String, Value)>,
    writer: &RecordSchema,
    reader: &RecordSchema,
    names: &Names<'_>,
) -> Result<Value, BoxError> {
    let mut written: HashMap<String, Value> = fields.into_iter().collect();
    let mut field_of = |field: &RecordField| -> Result<Value, BoxError> {
        for name in [&field.name].into_iter().chain(&field.aliases) {
            let schema = writer.lookup.get(name).and_then(|index| writer.fields.get(*index));
            if let (Some(value), Some(schema)) = (written.remove(name), schema) {
                return resolve(value, &schema.schema, &field.schema, names)
                    .map_err(|cause| format!("field `{}`: {cause}", field.name).into());
            }
        }
        let default = field.default.as_ref();
        let default = default
            .ok_or_else(|| format!("field `{}` is missing and has no default", field.name))?;
        default_value(default, &field.schema, names)
    };
    let field = |field: &RecordField| Ok((field.name.clone(), field_of(field)?));
    let fields: Result<_, BoxError> = reader.fields.iter().map(field).collect();
    Ok(Value::Record(fields?))
}

fn enumeration(symbol: &str, reader: &EnumSchema) -> Result<Value, BoxError> {
    let index_of = |symbol: &str| reader.symbols.iter().position(|known| known == symbol);
    let known = |symbol: &str| Some((index_of(symbol)?, symbol.to_owned()));
    let found = known(symbol).or_else(|| known(reader.default.as_deref()?));
    let (index, symbol) = found.ok_or_else(|| format!("the enum has no symbol `{symbol}`"))?;
    Ok(Value::Enum(u32::try_from(index)?, symbol))
}

/// The variant of the same type and, if the type has one, of the same name; then the one of the same physical type;
/// otherwise the first one that the value resolves into.
fn into_union(
    value: &Value,
    writer: &Schema,
    union: &UnionSchema,
    names: &Names<'_>,
) -> Result<Value, BoxError> {
    let mut variants = Vec::new();
    for (index, variant) in union.variants().iter().enumerate() {
        variants.push((distance(writer, defined(variant, names.reader)?), index, variant));
    }
    variants.sort_by_key(|(distance, ..)| *distance);
    for (_, index, variant) in variants {
        if let Ok(value) = resolve(value.clone(), writer, variant, names) {
            return Ok(Value::Union(u32::try_from(index)?, Box::new(value)));
        }
    }
    Err("no variant of the union fits".into())
}

fn distance(writer: &Schema, reader: &Schema) -> u8 {
    if discriminant(writer) == discriminant(reader) && writer.name() == reader.name() {
        return 0;
    }
    u8::from(Kind::of(writer) == Kind::Other || Kind::of(writer) != Kind::of(reader)) + 1
}

/// A field's default, which stands in the schema as JSON.
fn default_value(
    json: &serde_json::Value,
    schema: &Schema,
    names: &Names<'_>,
) -> Result<Value, BoxError> {
    use serde_json::Value as Json;
    let of = |json: &Json, schema: &Schema| default_value(json, schema, names);
    match (json, defined(schema, names.reader)?) {
        (json, Schema::Union(union)) => {
            for (index, variant) in union.variants().iter().enumerate() {
                if let Ok(value) = of(json, variant) {
                    return Ok(Value::Union(u32::try_from(index)?, Box::new(value)));
                }
            }
            Err("the default fits no variant of the union".into())
        }
        (Json::Object(object), Schema::Record(record)) => {
            let field = |field: &RecordField| {
                let json = object.get(&field.name).or(field.default.as_ref());
                let json = json.ok_or_else(|| format!("the default lacks `{}`", field.name))?;
                Ok((field.name.clone(), of(json, &field.schema)?))
            };
            let fields: Result<_, BoxError> = record.fields.iter().map(field).collect();
            Ok(Value::Record(fields?))
        }
        (Json::Array(items), Schema::Array(array)) => {
            let items: Result<_, BoxError> =
                items.iter().map(|item| of(item, &array.items)).collect();
            Ok(Value::Array(items?))
        }
        (Json::Object(object), Schema::Map(map)) => {
            let entry = |(key, json): (&String, &Json)| Ok((key.clone(), of(json, &map.types)?));
            Ok(Value::Map(object.iter().map(entry).collect::<Result<_, BoxError>>()?))
        }
        // Each character is a byte.
        (Json::String(text), Schema::Bytes) => Ok(Value::Bytes(bytes(text)?)),
        (Json::String(text), Schema::Fixed(fixed)) => Ok(Value::Fixed(fixed.size, bytes(text)?)),
        (json, schema) => {
            Ok(Value::try_from(json.clone())?.resolve_with_names(schema, names.reader)?)
        }
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, BoxError> {
    let bytes: Result<_, _> = text.chars().map(|char| u8::try_from(u32::from(char))).collect();
    bytes.map_err(|_| "the default has characters that are not bytes".into())
}
