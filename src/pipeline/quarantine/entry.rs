//! The store's entry of a topic partition's held keys: text, a line for each key.
//!
//! Fields are separated by tabs: key, dead letter topic, `failed`, `since`, `released`, `pending`, `message`. Keys are
//! percent-encoded, so that people can read most of them; a `-` stands where there is no offset, and commas are between several.

use std::num::ParseIntError;

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};

use super::held_keys::{HeldKey, TopicKeys};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Offset;

/// The first line: another version may have more fields.
const VERSION: &str = "kasper quarantine 1";

const ESCAPED: &AsciiSet = &CONTROLS.add(b'%').add(b' ');

/// `None` if there is nothing to keep.
pub(super) fn encode(topic: &TopicKeys) -> Option<Bytes> {
    if topic.keys.is_empty() {
        return None;
    }
    let line_of = |(key, held): (&Vec<u8>, &HeldKey)| {
        let released = held.released.map_or("-".to_owned(), |offset| offset.to_string());
        let pending: Vec<_> = held.pending.iter().map(Offset::to_string).collect();
        let fields = [
            percent_encode(key, ESCAPED).to_string(),
            held.letters.to_string(),
            held.failed.to_string(),
            held.since.to_string(),
            released,
            pending.join(","),
            line(&held.message),
        ];
        fields.join("\t")
    };
    let mut lines: Vec<String> = topic.keys.iter().map(line_of).collect();
    lines.sort();
    lines.insert(0, VERSION.to_owned());
    Some(lines.join("\n").into())
}

/// Without characters that end a line or a field.
fn line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// # Errors
/// The entry was not written by [`encode`]: kind `Decode`, and the number of the line.
pub(super) fn decode(entry: &[u8]) -> Result<TopicKeys> {
    let fault = |line: usize, what: &str| {
        let message = format!("the quarantine's entry cannot be read: {what}");
        Error::new(ErrorKind::Decode, message).with("line", line)
    };
    let text = std::str::from_utf8(entry).map_err(|_| fault(1, "it is not UTF-8"))?;
    let mut lines = text.lines().zip(1..);
    if lines.next().map(|(line, _)| line) != Some(VERSION) {
        return Err(fault(1, &format!("it does not begin with `{VERSION}`")));
    }
    let mut topic = TopicKeys::default();
    for (line, number) in lines.filter(|(line, _)| !line.is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [key, letters, failed, since, released, pending, message] = fields[..] else {
            return Err(fault(number, "a line has seven fields"));
        };
        let offset = |text: &str| {
            let number_of = text.parse().map(Offset::new);
            number_of.map_err(|error: ParseIntError| {
                fault(number, "an offset is not a number").with_source(error)
            })
        };
        let pending = pending.split(',').filter(|text| !text.is_empty());
        let one = HeldKey {
            letters: letters.into(),
            failed: offset(failed)?,
            message: message.into(),
            since: offset(since)?,
            released: (released != "-").then(|| offset(released)).transpose()?,
            pending: pending.map(offset).collect::<Result<_>>()?,
        };
        let key = percent_decode_str(key).collect();
        topic.keys.insert(key, one);
    }
    Ok(topic)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offsets() -> impl Strategy<Value = Offset> {
        any::<i64>().prop_map(Offset::new)
    }

    fn held_key() -> impl Strategy<Value = HeldKey> {
        let text = "[^\\p{Cc}]{0,20}";
        let released = proptest::option::of(offsets());
        let pending = proptest::collection::btree_set(offsets(), 0..5);
        (offsets(), offsets(), released, pending, text).prop_map(
            |(failed, since, released, pending, message)| {
                let letters = "dead".into();
                HeldKey { letters, failed, message, since, released, pending }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            keys in proptest::collection::hash_map(any::<Vec<u8>>(), held_key(), 1..5),
        ) {
            let topic = TopicKeys { keys, is_changed: false };
            let entry = encode(&topic).unwrap();
            prop_assert_eq!(decode(&entry).unwrap().keys, topic.keys);
        }

        #[test]
        fn any_bytes_are_read_or_refused(entry in any::<Vec<u8>>(), text in "kasper quarantine 1(\n|\t|-|[0-9a%]){0,60}") {
            let _either = decode(&entry);
            let _either = decode(text.as_bytes());
        }
    }

    #[test]
    fn nothing_is_no_entry() {
        assert!(encode(&TopicKeys::default()).is_none());
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        let error = decode(b"kasper quarantine 1\nk\tdead\t7\tx\t-\t7\twhy").unwrap_err();
        assert_eq!((error.kind(), error.get("line")), (ErrorKind::Decode, Some("2")), "{error}");
    }

    #[test]
    fn an_error_of_many_lines_stays_in_its_line() {
        let mut topic = TopicKeys::default();
        let key = HeldKey {
            letters: "dead".into(),
            failed: Offset::new(1),
            message: "a\tb\nc".into(),
            since: Offset::new(1),
            released: None,
            pending: [Offset::new(1), Offset::new(3)].into(),
        };
        topic.keys.insert(b"k 1%\xff".to_vec(), key);
        let entry = encode(&topic).unwrap();
        let text = std::str::from_utf8(&entry).unwrap();
        let line = "k%201%25%FF\tdead\t1\t1\t-\t1,3\ta b c";
        assert_eq!(text, format!("{VERSION}\n{line}"));
        assert!(decode(&entry).unwrap().keys.contains_key(&b"k 1%\xff"[..]));
    }
}
