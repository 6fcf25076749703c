//! What came of a run, and how it differs from what should have.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::recorder::{Attempt, Name};
use super::subject::Subject;
use crate::error::Error;
use crate::testkit::TestMessage;

/// What came of a run.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) store: BTreeMap<Name, Bytes>,
    pub(super) has_written: bool,
    pub(super) sent: Sent,
    /// All that something was sent to.
    pub(super) topics: BTreeSet<String>,
    /// Why the run did not come to its end.
    pub(super) trouble: Option<Trouble>,
    /// A call of the store failed, and `process` returned `Ok`.
    pub(super) passed_over_error: bool,
    pub(super) tally: Tally,
    /// The most points of the store, and the most other waits, in a batch.
    pub(super) points: usize,
    pub(super) waits: usize,
    /// A line for each step; only if they are told.
    pub(super) story: Vec<String>,
    pub(super) attempts: Vec<Attempt>,
}

/// What a run could not go on from.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The processor failed, although nothing was made to fail.
    Failed(Error),
    /// A call waited too long.
    Stuck,
}

/// How often something happened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) batches: usize,
    pub(super) crashes: usize,
    pub(super) losses: usize,
    pub(super) revocations: usize,
    pub(super) store_failures: usize,
    pub(super) delivery_failures: usize,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.batches += other.batches;
        self.crashes += other.crashes;
        self.losses += other.losses;
        self.revocations += other.revocations;
        self.store_failures += other.store_failures;
        self.delivery_failures += other.delivery_failures;
    }
}

/// What was sent, so that it can be compared: how often and in which order messages come is no difference.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// As they were sent.
    in_order: Vec<TestMessage>,
    messages: BTreeSet<Ordered>,
    /// Of compacted topics: by topic and key.
    last: BTreeMap<(String, Option<Bytes>), TestMessage>,
}

impl PartialEq for Sent {
    fn eq(&self, other: &Self) -> bool {
        self.messages == other.messages && self.last == other.last
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Ordered(TestMessage);

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        fn parts(m: &TestMessage) -> impl Ord + '_ {
            (&m.topic, &m.key, &m.value, &m.headers, m.partition, m.timestamp)
        }
        parts(&self.0).cmp(&parts(&other.0))
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Sent {
    pub(super) fn new(messages: Vec<TestMessage>, subject: &Subject) -> Self {
        let mut sent = Self { in_order: messages.clone(), ..Self::default() };
        for message in messages {
            if subject.ignored.contains(&message.topic) {
                continue;
            }
            if subject.compacted.contains(&message.topic) {
                sent.last.insert((message.topic.clone(), message.key.clone()), message);
            } else {
                sent.messages.insert(Ordered(message));
            }
        }
        sent
    }

    /// Whether the last message of each key of this topic is the same, if all have a key.
    fn ends_as(&self, other: &Self, topic: &str) -> bool {
        let last = |sent: &Self| {
            let of_topic = sent.in_order.iter().filter(|message| message.topic == topic).cloned();
            of_topic.map(|message| (message.key.clone(), message)).collect::<BTreeMap<_, _>>()
        };
        let last_of_self = last(self);
        !last_of_self.contains_key(&None) && last_of_self == last(other)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.last.is_empty()
    }
}

/// How a run differs from another one.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// The first key with another value.
    pub(super) key: Option<Name>,
    pub(super) lines: Vec<String>,
}

/// More are counted, not shown.
const MOST_LINES: usize = 4;

impl Difference {
    /// Nothing, if the runs end alike.
    pub(super) fn between(expected: &Outcome, found: &Outcome) -> Self {
        let mut difference = Self::default();
        difference.compare_stores(&expected.store, &found.store);
        difference.compare_sent(&expected.sent, &found.sent);
        difference
    }

    fn compare_stores(&mut self, expected: &BTreeMap<Name, Bytes>, found: &BTreeMap<Name, Bytes>) {
        let names: BTreeSet<&Name> = expected.keys().chain(found.keys()).collect();
        let differing = names.into_iter().filter(|name| expected.get(*name) != found.get(*name));
        let mut lines = Vec::new();
        for name in differing {
            self.key.get_or_insert_with(|| name.clone());
            let (expected, found) = (shown(expected.get(name)), shown(found.get(name)));
            lines.push(format!("expected `{name}` = {expected}, found {found}"));
        }
        self.add(lines, "keys");
    }

    fn compare_sent(&mut self, expected: &Sent, found: &Sent) {
        let differing = expected.messages.symmetric_difference(&found.messages);
        let topics: BTreeSet<&str> = differing.map(|m| &*m.0.topic).collect();
        let missing = expected.messages.difference(&found.messages);
        self.add(missing.map(|m| format!("never sent: {:?}", m.0)).collect(), "messages");
        let extra = found.messages.difference(&expected.messages);
        self.add(extra.map(|m| format!("sent, not expected: {:?}", m.0)).collect(), "messages");
        let hint = |topic: &&str| {
            format!(
                "if only the last message of each key counts in `{topic}`: `.compacted({topic:?})`"
            )
        };
        let last_is_same = |topic: &&str| expected.ends_as(found, topic);
        self.add(topics.iter().filter(|t| last_is_same(t)).map(hint).collect(), "topics");
        let places: BTreeSet<_> = expected.last.keys().chain(found.last.keys()).collect();
        let differing =
            places.into_iter().filter(|place| expected.last.get(*place) != found.last.get(*place));
        let shown = |message: Option<&TestMessage>| {
            message.map_or_else(|| "nothing".to_owned(), |message| format!("{message:?}"))
        };
        let line = |place: &(String, Option<Bytes>)| {
            let (expected, found) = (shown(expected.last.get(place)), shown(found.last.get(place)));
            format!("last of its key expected: {expected}, found: {found}")
        };
        self.add(differing.map(line).collect(), "keys");
    }

    fn add(&mut self, mut lines: Vec<String>, what: &str) {
        let more = lines.len().saturating_sub(MOST_LINES);
        lines.truncate(MOST_LINES);
        self.lines.append(&mut lines);
        if more > 0 {
            self.lines.push(format!("… and {more} more {what}"));
        }
    }
}

/// A value as it stands in a report.
pub(super) fn shown(value: Option<&Bytes>) -> String {
    const LONGEST: usize = 200;
    let Some(value) = value else { return "nothing".to_owned() };
    let text = match std::str::from_utf8(value) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("b\"{}\"", value.escape_ascii()),
    };
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], value.len()),
    }
}
