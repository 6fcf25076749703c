//! Which letters are meant.

use clap::Args;
use kasper::OwnedMessage;

use crate::letter::Letter;
use crate::time::Time;

/// Letters must fit all that is given; of one that is given several times, one of its values.
#[derive(Debug, Clone, Default, Args)]
#[command(
    next_help_heading = "Filters (all must fit; given several times, one of the values must)"
)]
pub(crate) struct FilterArgs {
    /// Only letters whose message came from this topic
    #[arg(long, value_name = "TOPIC")]
    source_topic: Vec<String>,

    /// Only letters in this partition of the dead letter topic
    #[arg(long, value_name = "NUMBER")]
    partition: Vec<i32>,

    /// Only letters with this kind of error, as `list` shows it: 'process failed', 'not decodable', …
    #[arg(long)]
    kind: Vec<String>,

    /// Only letters of this processor
    #[arg(long, value_name = "NAME")]
    processor: Vec<String>,

    /// Only letters whose message has this key, as text
    #[arg(long)]
    key: Vec<String>,

    /// Only letters whose error happened at this time or later (RFC 3339: 2026-12-01T03:33:22Z). Letters without a
    /// time of error, as share groups write them, never fit --since and --until
    #[arg(long, value_name = "TIME")]
    since: Option<Time>,

    /// Only letters whose error happened before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Time>,

    /// Only letters with this text in the error's message or its causes
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
}

impl FilterArgs {
    /// Whether messages of this partition need to be read at all.
    pub(crate) fn fits_partition(&self, partition: i32) -> bool {
        self.partition.is_empty() || self.partition.contains(&partition)
    }

    pub(crate) fn fits(&self, message: &OwnedMessage, letter: &Letter) -> bool {
        let is_key = |key: &String| message.key.as_deref() == Some(key.as_bytes());
        let is_in = |wanted: &[String], found: Option<&str>| {
            wanted.is_empty() || found.is_some_and(|found| wanted.iter().any(|w| w == found))
        };
        self.fits_partition(message.partition)
            && is_in(&self.source_topic, Some(&letter.topic))
            && is_in(&self.kind, letter.kind.as_deref())
            && is_in(&self.processor, letter.processor.as_deref())
            && (self.key.is_empty() || self.key.iter().any(is_key))
            && self.since.is_none_or(|since| letter.time.is_some_and(|time| time >= since))
            && self.until.is_none_or(|until| letter.time.is_some_and(|time| time < until))
            && self.contains.as_deref().is_none_or(|text| contains(letter, text))
    }

    /// The filters as one text that does not depend on how they were written; empty without a filter.
    pub(crate) fn canonical(&self) -> String {
        let mut parts = Vec::new();
        let partitions: Vec<String> = self.partition.iter().map(i32::to_string).collect();
        for (name, values) in [
            ("source-topic", &self.source_topic),
            ("partition", &partitions),
            ("kind", &self.kind),
            ("processor", &self.processor),
            ("key", &self.key),
        ] {
            let mut values: Vec<&String> = values.iter().collect();
            values.sort();
            values.dedup();
            parts.extend(values.iter().map(|value| format!("{name}={value:?}")));
        }
        parts.extend(self.since.map(|time| format!("since={time}")));
        parts.extend(self.until.map(|time| format!("until={time}")));
        parts.extend(self.contains.as_ref().map(|text| format!("contains={text:?}")));
        parts.join(" ")
    }
}

fn contains(letter: &Letter, text: &str) -> bool {
    let mut texts = letter.message.iter().chain(&letter.causes);
    texts.any(|found| found.contains(text))
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;
    use crate::letter::tests::{BLOCK, message};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: FilterArgs,
    }

    pub(crate) fn filter(arguments: &[&str]) -> FilterArgs {
        Line::try_parse_from([&["x"], arguments].concat()).unwrap().filter
    }

    fn fits(arguments: &[&str]) -> bool {
        let message = message(BLOCK);
        filter(arguments).fits(&message, &Letter::of(&message).unwrap())
    }

    #[test]
    fn each_filter_tells_letters_apart() {
        assert!(fits(&[]));
        for (name, right, wrong) in [
            ("--source-topic", "orders", "order"),
            ("--partition", "0", "1"),
            ("--kind", "process failed", "not decodable"),
            ("--processor", "billing", "Billing"),
            ("--key", "key", "ke"),
            ("--since", "2026-12-01T03:33:22.123Z", "2026-12-01T03:33:22.124Z"),
            ("--until", "2026-12-01T03:33:22.124Z", "2026-12-01T03:33:22.123Z"),
            ("--contains", "such currency", "nosuch"),
            // In a cause.
            ("--contains", "XY", "xy"),
        ] {
            assert!(fits(&[name, right]), "{name} {right}");
            assert!(!fits(&[name, wrong]), "{name} {wrong}");
        }
        assert!(fits(&["--kind", "not decodable", "--kind", "process failed"]));
        assert!(!fits(&["--kind", "process failed", "--key", "other"]));
    }

    #[test]
    fn a_letter_that_does_not_say_does_not_fit() {
        let message = message(&BLOCK[..3]);
        let letter = Letter::of(&message).unwrap();
        for (name, value) in [
            ("--kind", "process failed"),
            ("--processor", "billing"),
            ("--since", "1970-01-01T00:00:00Z"),
            ("--until", "2100-01-01T00:00:00Z"),
            ("--contains", ""),
        ] {
            assert!(!filter(&[name, value]).fits(&message, &letter), "{name}");
        }
    }

    #[test]
    fn the_canonical_text_does_not_depend_on_the_order() {
        let one = filter(&[
            "--kind",
            "b",
            "--key",
            "k",
            "--kind",
            "a",
            "--since",
            "2026-12-01T02:00:00+02:00",
        ]);
        let other = filter(&[
            "--since",
            "2026-12-01T00:00:00Z",
            "--kind",
            "a",
            "--kind",
            "b",
            "--kind",
            "b",
            "--key",
            "k",
        ]);
        assert_eq!(one.canonical(), other.canonical());
        assert_eq!(one.canonical(), r#"kind="a" kind="b" key="k" since=2026-12-01T00:00:00.000Z"#);
        assert_eq!(filter(&[]).canonical(), "");
        assert_ne!(filter(&["--kind", "a"]).canonical(), filter(&["--key", "a"]).canonical());
    }
}
