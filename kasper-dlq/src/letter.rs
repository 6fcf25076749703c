//! A letter: what the headers of a message in a dead letter topic say of it.
//!
//! Behind the original headers follows one block of headers about the error. Kasper's begins with
//! `__dlq.errors.topic`; Kafka's share groups write the names that begin with `__dlq.errors.` alone, in an order of
//! their own.

use std::fmt;

use kasper::OwnedMessage;

use crate::time::Time;

/// Names as in Kafka's KIP-1191.
const KAFKAS: &str = "__dlq.errors.";
/// Names that Kasper adds.
const KASPERS: &str = "kasper.error.";
const TOPIC: &str = "__dlq.errors.topic";

/// How often a message was replayed: on the replayed message, and so among the original headers of a later letter.
pub(crate) const REDRIVEN: &str = "kasper.redriven";
/// Where the replayed message was when it was rejected first: `TOPIC/PARTITION/OFFSET`. A quarantine goes by it.
pub(crate) const REDRIVEN_FROM: &str = "kasper.redriven.from";

/// Headers with their values, as messages own them.
pub(crate) type Headers = [(String, Option<Vec<u8>>)];

/// What a letter says. What it does not say is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Letter {
    pub(crate) topic: String,
    pub(crate) partition: Option<i32>,
    pub(crate) offset: Option<i64>,
    pub(crate) group: Option<String>,
    /// How often the message was tried before it was given up.
    pub(crate) attempts: Option<u64>,
    pub(crate) message: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) causes: Vec<String>,
    pub(crate) processor: Option<String>,
    pub(crate) time: Option<Time>,
    /// How often the message had been replayed when it failed.
    pub(crate) replayed: u64,
    /// Where a replayed message said that it came from.
    pub(crate) replayed_from: Option<String>,
    /// The headers before this index are the original message's.
    pub(crate) block: usize,
    /// It has headers of Kasper's.
    pub(crate) is_kaspers: bool,
}

impl Letter {
    /// `None` if the message is not a letter.
    pub(crate) fn of(message: &OwnedMessage) -> Option<Self> {
        Self::read(&message.headers)
    }

    /// `TOPIC/PARTITION/OFFSET` of the message when it was rejected first; each replay has had another offset.
    pub(crate) fn first_position(&self) -> Option<String> {
        let partition = format!("{}/{}", self.topic, self.partition?);
        let first = self
            .replayed_from
            .clone()
            .filter(|from| from.rsplit_once('/').is_some_and(|(before, _)| before == partition));
        first.or_else(|| Some(format!("{partition}/{}", self.offset?)))
    }

    fn read(headers: &Headers) -> Option<Self> {
        let block = block(headers)?;
        let (original, about) = headers.split_at(block);
        // The last one counts, as for Kafka's own clients.
        let text = |headers: &Headers, name: &str| {
            let value = headers.iter().rev().find(|(known, _)| known == name)?.1.as_ref()?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let about = |name: &str| text(about, name);
        let number = |text: Option<String>| text.and_then(|text| text.trim().parse::<u64>().ok());
        let replays = [about("kasper.error.replayed"), text(original, REDRIVEN)];
        let causes = about("kasper.error.causes").unwrap_or_default();
        Some(Self {
            topic: about(TOPIC)?,
            partition: about("__dlq.errors.partition").and_then(|text| text.trim().parse().ok()),
            offset: about("__dlq.errors.offset").and_then(|text| text.trim().parse().ok()),
            group: about("__dlq.errors.group"),
            attempts: number(about("__dlq.errors.delivery.count")),
            message: about("__dlq.errors.message"),
            kind: about("kasper.error.kind"),
            causes: causes.lines().map(str::to_owned).collect(),
            processor: about("kasper.error.processor"),
            time: about("kasper.error.time").and_then(|text| text.trim().parse().ok()),
            replayed_from: text(original, REDRIVEN_FROM),
            replayed: replays.into_iter().filter_map(number).max().unwrap_or(0),
            block,
            is_kaspers: headers[block..].iter().any(|(name, _)| name.starts_with(KASPERS)),
        })
    }

    /// Whether the message itself is not in the letter. Share groups copy it only with the setting
    /// `errors.deadletterqueue.copy.record.enable`; otherwise key and value are null, and there are no other headers.
    pub(crate) fn is_reference(&self, message: &OwnedMessage) -> bool {
        !self.is_kaspers && self.block == 0 && message.key.is_none() && message.value.is_none()
    }

    /// Where the message came from, as `orders/3@1289`.
    pub(crate) fn source(&self) -> Source<'_> {
        Source(self)
    }
}

/// Where the block begins: at the last `__dlq.errors.topic`, or before, where Kafka has written it in another order. A
/// name that comes again belongs to the block of an earlier letter, which the message was then.
fn block(headers: &Headers) -> Option<usize> {
    let mut begin = headers.iter().rposition(|(name, _)| name == TOPIC)?;
    if headers[begin..].iter().any(|(name, _)| name.starts_with(KASPERS)) {
        return Some(begin);
    }
    while let Some((name, _)) = begin.checked_sub(1).map(|before| &headers[before]) {
        let is_new = headers[begin..].iter().all(|(known, _)| known != name);
        if !(name.starts_with(KAFKAS) && is_new) {
            break;
        }
        begin -= 1;
    }
    Some(begin)
}

pub(crate) struct Source<'a>(&'a Letter);

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<i64>| number.map_or_else(|| "?".into(), |n| n.to_string());
        let (partition, offset) = (number(self.0.partition.map(i64::from)), number(self.0.offset));
        f.pad(&format!("{}/{partition}@{offset}", self.0.topic))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use kasper::Offset;

    use super::*;

    pub(crate) fn headers(pairs: &[(&str, &str)]) -> Vec<(String, Option<Vec<u8>>)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec())))
            .collect()
    }

    /// The block that Kasper writes.
    pub(crate) const BLOCK: &[(&str, &str)] = &[
        ("__dlq.errors.topic", "orders"),
        ("__dlq.errors.partition", "3"),
        ("__dlq.errors.offset", "1289"),
        ("__dlq.errors.group", "billing-group"),
        ("__dlq.errors.delivery.count", "2"),
        ("__dlq.errors.message", "process failed: no such currency"),
        ("kasper.error.kind", "process failed"),
        ("kasper.error.causes", "no such currency\nXYZ"),
        ("kasper.error.processor", "billing"),
        ("kasper.error.time", "2026-12-01T03:33:22.123Z"),
        ("kasper.error.replayed", "0"),
    ];

    pub(crate) fn message(pairs: &[(&str, &str)]) -> OwnedMessage {
        OwnedMessage {
            topic: "dlq".into(),
            partition: 0,
            offset: Offset::new(17),
            key: Some(b"key".to_vec()),
            value: Some(b"value".to_vec()),
            headers: headers(pairs),
            timestamp: Some(1_700_000_000_000),
        }
    }

    fn read(pairs: &[(&str, &str)]) -> Option<Letter> {
        Letter::read(&headers(pairs))
    }

    #[test]
    fn a_letter_is_read() {
        let all = [&[("via", "web"), ("via", "app")], BLOCK, &[("kafka_dlt-original-topic", "x")]];
        let letter = read(&all.concat()).unwrap();
        let expected = Letter {
            topic: "orders".into(),
            partition: Some(3),
            offset: Some(1289),
            group: Some("billing-group".into()),
            attempts: Some(2),
            message: Some("process failed: no such currency".into()),
            kind: Some("process failed".into()),
            causes: vec!["no such currency".into(), "XYZ".into()],
            processor: Some("billing".into()),
            time: "2026-12-01T03:33:22.123Z".parse().ok(),
            replayed: 0,
            replayed_from: None,
            block: 2,
            is_kaspers: true,
        };
        assert_eq!(letter, expected);
        assert_eq!(letter.source().to_string(), "orders/3@1289");
    }

    #[test]
    fn the_block_of_an_earlier_letter_stays_with_the_original_headers() {
        let twice = [&[("via", "web")], BLOCK, BLOCK].concat();
        assert_eq!(read(&twice).unwrap().block, 1 + BLOCK.len());
        // Of share groups, whose order differs.
        let topic = ("__dlq.errors.topic", "a");
        let (partition, offset) = (("__dlq.errors.partition", "0"), ("__dlq.errors.offset", "1"));
        assert_eq!(read(&[topic, partition, offset, partition, topic, offset]).unwrap().block, 3);
        assert_eq!(read(&[BLOCK, &[offset, topic]].concat()).unwrap().block, BLOCK.len());
    }

    #[test]
    fn letters_of_share_groups_are_read_in_any_order() {
        let letter = read(&[
            ("via", "web"),
            ("__dlq.errors.group", "g"),
            ("__dlq.errors.offset", "5"),
            ("__dlq.errors.topic", "orders"),
            ("__dlq.errors.partition", "1"),
        ]);
        let expected = Letter {
            topic: "orders".into(),
            partition: Some(1),
            offset: Some(5),
            group: Some("g".into()),
            block: 1,
            ..Letter::default()
        };
        assert_eq!(letter, Some(expected));
    }

    #[test]
    fn a_letter_without_the_message_is_known_as_such() {
        let is_reference = |pairs: &[(&str, &str)], value: Option<&str>| {
            let mut message = message(pairs);
            (message.key, message.value) = (None, value.map(|text| text.as_bytes().to_vec()));
            Letter::of(&message).unwrap().is_reference(&message)
        };
        assert!(is_reference(&BLOCK[..6], None));
        assert!(!is_reference(&BLOCK[..6], Some("")));
        assert!(!is_reference(&[&[("via", "web")], &BLOCK[..6]].concat(), None));
        assert!(!is_reference(BLOCK, None));
    }

    #[test]
    fn the_highest_number_of_replays_counts() {
        let kafkas = &BLOCK[..6];
        assert_eq!(read(&[&[(REDRIVEN, "2")], kafkas].concat()).unwrap().replayed, 2);
        assert_eq!(read(&[&[(REDRIVEN, "4")], BLOCK].concat()).unwrap().replayed, 4);
        assert_eq!(read(&[&[(REDRIVEN, "many")], BLOCK].concat()).unwrap().replayed, 0);
    }

    #[test]
    fn other_messages_are_no_letters() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("via", "web"), ("kasper.error.kind", "process failed")]), None);
        assert_eq!(Letter::read(&[(TOPIC.to_owned(), None)]), None);
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        let letter = read(&[
            (TOPIC, "a"),
            ("__dlq.errors.partition", "x"),
            ("__dlq.errors.offset", ""),
            ("kasper.error.time", "noon"),
        ]);
        let letter = letter.unwrap();
        assert_eq!((letter.partition, letter.offset, letter.time), (None, None, None));
        assert_eq!(letter.source().to_string(), "a/?@?");
    }
}
