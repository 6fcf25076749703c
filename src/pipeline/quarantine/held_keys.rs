//! [`HeldKeys`]: the keys of which a message was rejected, and which messages that concerns.
//!
//! Place in the data path: beside a lane, which asks before each call and tells what came of it.
//!
//! Everything is decided by offsets, so that it comes out the same when messages are processed again after a crash. A message
//! that is replayed counts as the offset that it had when it was rejected first:
//! - a message is held while an earlier one of its key is `pending`;
//! - the key is released at the message with which nothing is pending any more;
//! - until that is committed, the messages from `since` to there are held when they come again, but for replayed ones.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::message::{Message, Offset};
use crate::on_error::Reason;

/// A key that is held in one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeldKey {
    /// Where its letters go.
    pub(super) letters: Arc<str>,
    /// The position of the message that was rejected by itself, the last one, and why.
    pub(super) failed: Offset,
    pub(super) message: String,
    /// Where it began.
    pub(super) since: Offset,
    /// Where it ended: what comes behind is not held. Kept until everything before is committed.
    pub(super) released: Option<Offset>,
    /// The messages that became letters, and were not processed since then.
    pub(super) pending: BTreeSet<Offset>,
}

impl HeldKey {
    /// Whether this message is held, if those that are pending up to `freed` are processed before it.
    fn holds(&self, message: &Message<'_>, freed: Option<Offset>) -> bool {
        let offset = message.offset();
        let is_pending_before = |offset: Offset| {
            let behind = freed.map_or(Bound::Unbounded, Bound::Excluded);
            self.pending.range((behind, Bound::Unbounded)).next().is_some_and(|&one| one < offset)
        };
        match (self.released, replayed_from(message)) {
            (Some(released), _) if offset > released => false,
            (Some(_), None) => offset >= self.since,
            (_, Some(from)) => is_pending_before(from),
            (None, None) => is_pending_before(offset),
        }
    }

    /// Why a message behind the one that failed is held, and where its letter goes.
    fn why(&self) -> (Reason, Arc<str>) {
        let Self { letters, message, failed, .. } = self;
        let told =
            format!("an earlier message of its key was rejected, at offset {failed}: {message}");
        (Reason::held(told), letters.clone())
    }
}

/// The held keys of a topic.
#[derive(Debug, Default)]
pub(super) struct TopicKeys {
    pub(super) keys: HashMap<Vec<u8>, HeldKey>,
    /// Not as it stands in the store.
    pub(super) is_changed: bool,
}

/// By topic; those of which no key is held may be missing.
#[derive(Debug, Default)]
pub(super) struct HeldKeys {
    pub(super) topics: HashMap<Arc<str>, TopicKeys>,
}

/// The offset that a replayed message had when it was rejected first, in the same topic and partition: `kasper-dlq` says so.
fn replayed_from(message: &Message<'_>) -> Option<Offset> {
    let text = message.header_str(REDRIVEN_FROM).ok()??;
    let (topic_partition, offset) = text.rsplit_once('/')?;
    let (topic, partition) = topic_partition.rsplit_once('/')?;
    let is_here = topic == message.topic() && partition.parse() == Ok(message.partition());
    let from = Offset::new(offset.parse().ok()?);
    // Forwarded messages may have it, too.
    (is_here && from < message.offset()).then_some(from)
}

/// `TOPIC/PARTITION/OFFSET`.
const REDRIVEN_FROM: &str = "kasper.redriven.from";

/// The offset that the message counts as.
fn counts_as(message: &Message<'_>) -> Offset {
    replayed_from(message).unwrap_or_else(|| message.offset())
}

/// Of a call: up to which message nothing is pending any more if it succeeds, by topic and key.
#[derive(Debug, Default)]
pub(super) struct Freed<'a>(HashMap<(&'a str, &'a [u8]), Offset>);

impl HeldKeys {
    pub(super) fn is_empty(&self) -> bool {
        self.topics.values().all(|topic| topic.keys.is_empty())
    }

    /// How many keys of the topic are held now.
    pub(super) fn count(&self, topic: &str) -> usize {
        let keys = self.topics.get(topic).into_iter().flat_map(|topic| topic.keys.values());
        keys.filter(|key| key.released.is_none()).count()
    }

    /// How many messages are pending, of all keys.
    pub(super) fn pending(&self) -> usize {
        let keys = self.topics.values().flat_map(|topic| topic.keys.values());
        keys.map(|key| key.pending.len()).sum()
    }

    fn get(&self, message: &Message<'_>) -> Option<&HeldKey> {
        self.topics.get(message.topic())?.keys.get(message.key()?)
    }

    /// Why this message is not to be processed, and where its letter goes. The messages of a call are asked for in their order.
    pub(super) fn holds<'a>(
        &self,
        message: &Message<'a>,
        freed: &mut Freed<'a>,
    ) -> Option<(Reason, Arc<str>)> {
        let key = self.get(message)?;
        let name = (message.topic(), message.key()?);
        if key.holds(message, freed.0.get(&name).copied()) {
            return Some(key.why());
        }
        let counts_as = counts_as(message);
        if key.pending.contains(&counts_as) {
            let freed = freed.0.entry(name).or_insert(counts_as);
            *freed = counts_as.max(*freed);
        }
        None
    }

    /// As [`holds`](Self::holds), for a message behind one of its key that was rejected in the same call.
    pub(super) fn follows(&self, message: &Message<'_>) -> Option<(Reason, Arc<str>)> {
        self.get(message).map(HeldKey::why)
    }

    /// The message is rejected: by itself, or because it is held.
    pub(super) fn reject(&mut self, message: &Message<'_>, reason: &Reason, letters: &Arc<str>) {
        let Some(name) = message.key() else { return };
        let (offset, counts_as) = (message.offset(), counts_as(message));
        let topic = self.topics.entry(message.topic().into()).or_default();
        let key = topic.keys.entry(name.into()).or_insert_with(|| HeldKey {
            letters: letters.clone(),
            failed: offset,
            message: String::new(),
            since: offset,
            released: None,
            pending: BTreeSet::new(),
        });
        topic.is_changed |= key.pending.insert(counts_as);
        if !reason.is_held() {
            (key.failed, key.message) = (offset, short(reason.message()));
            key.since = key.since.min(offset);
            key.released = None;
            topic.is_changed = true;
        }
    }

    /// The message was processed, or skipped.
    pub(super) fn processed(&mut self, message: &Message<'_>) {
        let Some(topic) = self.topics.get_mut(message.topic()) else { return };
        let Some(key) = message.key().and_then(|key| topic.keys.get_mut(key)) else { return };
        if !key.pending.remove(&counts_as(message)) {
            return;
        }
        topic.is_changed = true;
        if key.pending.is_empty() {
            key.released = key.released.max(Some(message.offset()));
        }
    }

    /// Forgets released keys of a topic of which everything before this offset is committed.
    pub(super) fn forget(&mut self, topic: &str, committed: Offset) {
        let Some(topic) = self.topics.get_mut(topic) else { return };
        let before = topic.keys.len();
        topic.keys.retain(|_, key| key.released.is_none_or(|released| released >= committed));
        topic.is_changed |= topic.keys.len() < before;
    }
}

/// At most so much of an error's text is kept for each key.
const SHORT: usize = 200;

fn short(text: &str) -> String {
    text[..text.floor_char_boundary(SHORT)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Batch, OwnedMessage, Payload, Record};

    /// The messages with these offsets, of one key; those that say where they were first are replayed.
    fn batch(messages: &[(i64, Option<i64>)]) -> Batch {
        let record = |(offset, from): &(i64, Option<i64>)| {
            let header = |from: &i64| {
                ("kasper.redriven.from".into(), Some(format!("orders/0/{from}").into_bytes()))
            };
            let message = OwnedMessage {
                topic: "orders".into(),
                partition: 0,
                offset: Offset::new(*offset),
                key: Some(b"k".to_vec()),
                value: None,
                headers: from.iter().map(header).collect(),
                timestamp: None,
            };
            Record { payload: Payload::Owned(Box::new(message)), topic: 0 }
        };
        let topics: Arc<[Arc<str>]> = ["orders".into()].into();
        Batch::new(0, topics, messages.iter().map(record).collect(), 0, None)
    }

    /// What is held of a call for all of them.
    fn held(keys: &HeldKeys, batch: &Batch) -> Vec<i64> {
        let mut freed = Freed::default();
        let mut held = Vec::new();
        for message in batch.iter() {
            if keys.holds(&message, &mut freed).is_some() {
                held.push(message.offset().get());
            }
        }
        held
    }

    /// 1 was rejected, 2 followed; they were replayed at 3 and 4.
    fn released() -> HeldKeys {
        let mut keys = HeldKeys::default();
        let (failed, follows) = (Reason::told(&"bad".into(), 1), Reason::held("behind".into()));
        let first = batch(&[(1, None), (2, None)]);
        keys.reject(&first.get(0), &failed, &"dead".into());
        keys.reject(&first.get(1), &follows, &"dead".into());
        let replayed = batch(&[(3, Some(1)), (4, Some(2))]);
        assert!(held(&keys, &replayed).is_empty());
        replayed.iter().for_each(|message| keys.processed(&message));
        assert_eq!(keys.count("orders"), 0);
        keys
    }

    /// Nothing of it was committed: 2 would come before 1, if 1 was, and its replay's output was not delivered.
    #[test]
    fn what_comes_again_after_a_crash_waits_for_the_replays_again() {
        let keys = released();
        let again = batch(&[(2, None), (3, Some(1)), (4, Some(2)), (5, None)]);
        assert_eq!(held(&keys, &again), [2]);
        let later = batch(&[(5, None), (6, Some(1))]);
        assert_eq!(held(&keys, &later), [0; 0], "behind the release");
    }

    #[test]
    fn a_released_key_is_forgotten_when_its_release_is_committed() {
        let mut keys = released();
        keys.forget("orders", Offset::new(4));
        assert!(!keys.is_empty());
        keys.forget("orders", Offset::new(5));
        assert!(keys.is_empty());
        assert!(keys.topics["orders"].is_changed, "the store has it still");
    }

    #[test]
    fn a_header_that_was_copied_counts_for_nothing() {
        let copied = batch(&[(3, Some(3)), (2, Some(9))]);
        assert!(copied.iter().all(|message| replayed_from(&message).is_none()));
    }
}
