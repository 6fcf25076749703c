//! What `--json` prints of a letter.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kasper::OwnedMessage;
use serde::Serialize;

use crate::letter::{Headers, Letter};
use crate::time::Time;

/// A message of the dead letter topic, shortly: a line of `list --letters --json`.
#[derive(Serialize)]
pub(crate) struct Entry<'a> {
    partition: i32,
    offset: i64,
    #[serde(flatten)]
    letter: About<'a>,
    key: Option<Bytes>,
}

/// A message of the dead letter topic with all that it has: a line of `show --json`.
#[derive(Serialize)]
pub(crate) struct Whole<'a> {
    partition: i32,
    offset: i64,
    timestamp: Option<String>,
    /// Null if the message is not a letter.
    letter: Option<About<'a>>,
    /// The original message's.
    headers: Vec<Header<'a>>,
    /// The letter's own.
    error_headers: Vec<Header<'a>>,
    key: Option<Bytes>,
    value: Option<Bytes>,
}

/// What a letter says.
#[derive(Serialize)]
struct About<'a> {
    time: Option<String>,
    source: Source<'a>,
    kind: Option<&'a str>,
    processor: Option<&'a str>,
    group: Option<&'a str>,
    message: Option<&'a str>,
    causes: &'a [String],
    attempts: Option<u64>,
    replayed: u64,
}

#[derive(Serialize)]
struct Source<'a> {
    topic: &'a str,
    partition: Option<i32>,
    offset: Option<i64>,
}

#[derive(Serialize)]
struct Header<'a> {
    name: &'a str,
    value: Option<Bytes>,
}

/// Bytes, as text if they are UTF-8.
#[derive(Serialize)]
struct Bytes {
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).ok().map(str::to_owned);
        let base64 = text.is_none().then(|| STANDARD.encode(bytes));
        Self { bytes: bytes.len(), text, base64 }
    }
}

impl<'a> About<'a> {
    fn of(letter: &'a Letter) -> Self {
        Self {
            time: letter.time.map(|time| time.to_string()),
            source: Source {
                topic: &letter.topic,
                partition: letter.partition,
                offset: letter.offset,
            },
            kind: letter.kind.as_deref(),
            processor: letter.processor.as_deref(),
            group: letter.group.as_deref(),
            message: letter.message.as_deref(),
            causes: &letter.causes,
            attempts: letter.attempts,
            replayed: letter.replayed,
        }
    }
}

impl<'a> Entry<'a> {
    pub(crate) fn of(message: &OwnedMessage, letter: &'a Letter) -> Self {
        Self {
            partition: message.partition,
            offset: message.offset.get(),
            letter: About::of(letter),
            key: message.key.as_deref().map(Bytes::of),
        }
    }
}

impl<'a> Whole<'a> {
    pub(crate) fn of(message: &'a OwnedMessage, letter: Option<&'a Letter>) -> Self {
        let block = letter.map_or(message.headers.len(), |letter| letter.block);
        let (own, about) = message.headers.split_at(block);
        Self {
            partition: message.partition,
            offset: message.offset.get(),
            timestamp: message.timestamp.map(|time| Time::from_millis(time).to_string()),
            letter: letter.map(About::of),
            headers: headers(own),
            error_headers: headers(about),
            key: message.key.as_deref().map(Bytes::of),
            value: message.value.as_deref().map(Bytes::of),
        }
    }
}

fn headers(headers: &Headers) -> Vec<Header<'_>> {
    let value = |value: &Option<Vec<u8>>| value.as_deref().map(Bytes::of);
    headers.iter().map(|(name, bytes)| Header { name, value: value(bytes) }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::letter::tests::{BLOCK, message};

    #[test]
    fn a_letter_has_all_in_json() {
        let mut message = message(&[&[("via", "web")], BLOCK].concat());
        message.value = Some(vec![0xff, 0]);
        message.headers[0].1 = None;
        let letter = Letter::of(&message).unwrap();
        let json = serde_json::to_value(Whole::of(&message, Some(&letter))).unwrap();
        assert_eq!(json["value"], json!({ "bytes": 2, "base64": "/wA=" }));
        assert_eq!(json["key"], json!({ "bytes": 3, "text": "key" }));
        assert_eq!(json["headers"], json!([{ "name": "via", "value": null }]));
        assert_eq!(json["error_headers"].as_array().unwrap().len(), BLOCK.len());
        assert_eq!(json["timestamp"], "2023-11-14T22:13:20.000Z");
        let source = json!({ "topic": "orders", "partition": 3, "offset": 1289 });
        assert_eq!(json["letter"]["source"], source);
        assert_eq!(json["letter"]["causes"], json!(["no such currency", "XYZ"]));
        let entry = serde_json::to_value(Entry::of(&message, &letter)).unwrap();
        assert_eq!((&entry["offset"], &entry["kind"]), (&json!(17), &json!("process failed")));
    }

    #[test]
    fn another_message_has_no_letter() {
        let message = message(&[("via", "web")]);
        let json = serde_json::to_value(Whole::of(&message, None)).unwrap();
        assert_eq!((&json["letter"], &json["error_headers"]), (&Value::Null, &json!([])));
        assert_eq!(
            json["headers"],
            json!([{ "name": "via", "value": { "bytes": 3, "text": "web" } }])
        );
    }
}
