//! What becomes of a message of the dead letter topic.

use std::fmt;

use kasper::{OutgoingMessage, OwnedMessage};

use crate::filter::FilterArgs;
use crate::letter::{Letter, REDRIVEN, REDRIVEN_FROM};

/// What the command asks for.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) filter: FilterArgs,
    /// In place of the source topics.
    pub(crate) to: Option<String>,
    pub(crate) repartition: bool,
    pub(crate) max_replays: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Replay(Target),
    FilteredOut,
    /// Replayed as often as is allowed.
    Exhausted,
    /// The message itself is not in the letter.
    Reference,
    NotALetter,
}

/// Where a letter's original message goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) topic: String,
    /// `None`: the key chooses.
    pub(crate) partition: Option<i32>,
    /// Where the message was when it was rejected first.
    from: Option<String>,
    /// The headers before this index are the original ones.
    block: usize,
    /// How often the message was replayed, this time included.
    replays: u64,
}

/// A letter that cannot be replayed, and so stops the replay.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl Rules {
    pub(crate) fn judge(&self, message: &OwnedMessage) -> Result<Verdict, Refused> {
        let Some(letter) = Letter::of(message) else { return Ok(Verdict::NotALetter) };
        if !self.filter.fits(message, &letter) {
            return Ok(Verdict::FilteredOut);
        }
        if letter.replayed >= self.max_replays && letter.kind.as_deref() != Some(QUARANTINED) {
            return Ok(Verdict::Exhausted);
        }
        if letter.is_reference(message) {
            return Ok(Verdict::Reference);
        }
        let key_chooses = self.to.is_some() || self.repartition;
        if !key_chooses && letter.partition.is_none() {
            return Err(Refused(format!(
                "letter {}:{} does not say which partition of `{}` it came from: let its key choose one with \
                 --repartition, or send it elsewhere with --to",
                message.partition, message.offset, letter.topic
            )));
        }
        Ok(Verdict::Replay(Target {
            from: letter.first_position(),
            partition: letter.partition.filter(|_| !key_chooses),
            topic: self.to.clone().unwrap_or(letter.topic),
            block: letter.block,
            replays: letter.replayed + 1,
        }))
    }
}

impl Target {
    /// The original message, byte for byte, with the number of its replays and where it came from.
    pub(crate) fn message<'a>(&'a self, letter: &'a OwnedMessage) -> OutgoingMessage<'a> {
        let mut message = OutgoingMessage::new(self.topic.as_str())
            .key(letter.key.as_ref())
            .value(letter.value.as_ref());
        let original = letter.headers[..self.block].iter();
        for (name, value) in original.filter(|(name, _)| name != REDRIVEN && name != REDRIVEN_FROM)
        {
            message = message.header(name.as_str(), value.as_ref());
        }
        message = message.header(REDRIVEN, self.replays.to_string());
        if let Some(from) = &self.from {
            message = message.header(REDRIVEN_FROM, from.as_str());
        }
        if let Some(timestamp) = letter.timestamp {
            message = message.timestamp(timestamp);
        }
        match self.partition {
            Some(partition) => message.partition(partition),
            None => message,
        }
    }
}

/// Whether a topic that has so many partitions can take a message for this one; `None`: there is no such topic, or the
/// key chooses.
pub(crate) fn check(
    topic: &str,
    partition: Option<i32>,
    count: Option<i32>,
) -> Result<(), Refused> {
    let Some(count) = count else {
        return Err(Refused(format!(
            "topic `{topic}` does not exist: create it, or send its messages elsewhere with --source-topic {topic} --to"
        )));
    };
    match partition {
        Some(partition) if partition >= count || partition < 0 => Err(Refused(format!(
            "topic `{topic}` has no partition {partition} any more (it has {count}): let keys choose the partitions \
             with --repartition"
        ))),
        _ => Ok(()),
    }
}

/// The kind of letters that only follow another one of their key.
const QUARANTINED: &str = "quarantined";

#[cfg(test)]
mod tests {
    use kasper::testkit::TestMessage;

    use super::*;
    use crate::filter::tests::filter;
    use crate::letter::tests::{BLOCK, message};

    fn rules(filters: &[&str]) -> Rules {
        Rules { filter: filter(filters), to: None, repartition: false, max_replays: 3 }
    }

    fn target(rules: &Rules, letter: &OwnedMessage) -> Target {
        match rules.judge(letter).unwrap() {
            Verdict::Replay(target) => target,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_original_message_goes_back_where_it_came_from() {
        let mut letter = message(&[&[("via", "a"), ("via", "b"), ("null", "")], BLOCK].concat());
        letter.headers[2].1 = None;
        letter.key = None;
        let target = target(&rules(&[]), &letter);
        let expected = TestMessage::new("orders")
            .value("value")
            .header("via", "a")
            .header("via", "b")
            .null_header("null")
            .header(REDRIVEN, "1")
            .header(REDRIVEN_FROM, "orders/3/1289")
            .partition(3)
            .timestamp(1_700_000_000_000);
        assert_eq!(TestMessage::from(target.message(&letter)), expected);
    }

    #[test]
    fn the_number_of_replays_is_replaced() {
        let letter = message(
            &[&[(REDRIVEN, "1"), (REDRIVEN_FROM, "old/0/1"), ("via", "a")], BLOCK].concat(),
        );
        let sent = TestMessage::from(target(&rules(&[]), &letter).message(&letter));
        let names: Vec<&str> = sent.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            (names, sent.header_text(REDRIVEN)),
            (vec!["via", REDRIVEN, REDRIVEN_FROM], Some("2"))
        );
    }

    #[test]
    fn keys_choose_the_partition_elsewhere_and_on_demand() {
        let letter = message(BLOCK);
        let elsewhere = Rules { to: Some("repair".into()), ..rules(&[]) };
        let sent = TestMessage::from(target(&elsewhere, &letter).message(&letter));
        assert_eq!((sent.topic.as_str(), sent.partition), ("repair", None));
        let again = Rules { repartition: true, ..rules(&[]) };
        let sent = TestMessage::from(target(&again, &letter).message(&letter));
        assert_eq!((sent.topic.as_str(), sent.partition), ("orders", None));
    }

    #[test]
    fn some_letters_are_left() {
        assert_eq!(rules(&[]).judge(&message(&[])).unwrap(), Verdict::NotALetter);
        let judged = rules(&["--kind", "x"]).judge(&message(BLOCK));
        assert_eq!(judged.unwrap(), Verdict::FilteredOut);
        let often = message(&[&[(REDRIVEN, "3")], BLOCK].concat());
        assert_eq!(rules(&[]).judge(&often).unwrap(), Verdict::Exhausted);
        let more = Rules { max_replays: 4, ..rules(&[]) };
        assert!(matches!(more.judge(&often), Ok(Verdict::Replay(_))));
        let mut reference = message(&BLOCK[..6]);
        (reference.key, reference.value) = (None, None);
        assert_eq!(rules(&[]).judge(&reference).unwrap(), Verdict::Reference);
    }

    #[test]
    fn a_letter_without_a_place_stops_the_replay_and_says_what_to_do() {
        let letter = message(&[("__dlq.errors.topic", "orders")]);
        let refused = rules(&[]).judge(&letter).unwrap_err().to_string();
        assert!(refused.contains("letter 0:17") && refused.contains("--repartition"), "{refused}");
        let again = Rules { repartition: true, ..rules(&[]) };
        assert_eq!(target(&again, &letter).partition, None);
    }

    #[test]
    fn a_topic_that_cannot_take_a_message_is_named() {
        assert!(
            check("orders", Some(3), Some(4)).is_ok() && check("orders", None, Some(1)).is_ok()
        );
        let refused = check("orders", Some(3), Some(3)).unwrap_err().to_string();
        assert!(refused.contains("no partition 3 any more (it has 3)"), "{refused}");
        let refused = check("orders", None, None).unwrap_err().to_string();
        assert!(refused.contains("`orders` does not exist"), "{refused}");
    }
}
