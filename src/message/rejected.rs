//! [`Rejected`]: messages of one call that the user's code rejects, with their letters.
//!
//! Place in the data path: beside the [`Outbox`]. The letters are sent when the call has returned `Ok` and the circuit
//! has been asked (`on_error/circuit.rs`), not at a flush.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::delivery::Delivery;
use super::outbox::Outbox;
use super::{Message, OutgoingMessage};
#[cfg(test)]
use crate::error::{Error, ErrorKind};
use crate::on_error::{LetterWriter, Reason};

/// A rejected message.
#[derive(Debug, Clone)]
pub(crate) struct Rejection {
    /// Its place in the batch.
    pub(crate) index: usize,
    /// The index of its topic.
    pub(crate) topic: u16,
    /// The topic of its letter; `None` if it is skipped.
    pub(crate) letters: Option<Arc<str>>,
    pub(crate) reason: Reason,
    /// Where it is, and why it was rejected.
    pub(crate) told: String,
}

/// While the call runs.
#[derive(Default)]
pub(crate) struct Rejected {
    /// By index.
    rejections: BTreeMap<usize, Rejection>,
    letters: BTreeMap<usize, Arc<Delivery>>,
    /// With a quarantine: the first index of each key, by the index of its topic.
    keys: HashMap<(u16, Vec<u8>), usize>,
}

/// When the call has returned.
#[derive(Default)]
pub(crate) struct Letters {
    /// In the order of their indexes.
    pub(crate) rejections: Vec<Rejection>,
    /// Each letter is a delivery of its own. Unlike other outgoing messages, those that are not delivered are sent again,
    /// and no others.
    pub(crate) deliveries: Vec<Arc<Delivery>>,
}

impl Rejected {
    pub(crate) fn is_empty(&self) -> bool {
        self.rejections.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        if !self.is_empty() {
            *self = Self::default();
        }
    }

    /// Rejects the message with this index; the second time nothing happens. Without a topic there is no letter.
    pub(crate) fn add(
        &mut self,
        index: usize,
        message: &Message<'_>,
        (topic, letters): (Option<&Arc<str>>, &LetterWriter),
        reason: &Reason,
    ) {
        let Entry::Vacant(vacant) = self.rejections.entry(index) else { return };
        vacant.insert(Rejection {
            index,
            topic: message.record().topic,
            letters: topic.cloned(),
            told: reason.at(message),
            reason: reason.clone(),
        });
        if let Some(topic) = topic {
            self.letters.insert(index, alone(letters.letter(topic, message, reason)));
        }
    }

    /// The key of a rejected message is held.
    pub(crate) fn note_key(&mut self, index: usize, message: &Message<'_>) {
        let Some(key) = message.key() else { return };
        let first = self.keys.entry((message.record().topic, key.to_vec())).or_insert(index);
        *first = index.min(*first);
    }

    /// The index of the first rejected message that has this one's topic and key.
    pub(crate) fn first_of_key(&self, message: &Message<'_>) -> Option<usize> {
        if self.keys.is_empty() {
            return None;
        }
        let key = message.key()?.to_vec();
        self.keys.get(&(message.record().topic, key)).copied()
    }

    /// Why the message with this index is rejected, and where its letter goes.
    pub(crate) fn get(&self, index: usize) -> Option<(&Reason, Option<&Arc<str>>)> {
        let rejection = self.rejections.get(&index)?;
        Some((&rejection.reason, rejection.letters.as_ref()))
    }

    /// Those of a whole batch, of which the call got the part that begins at this index.
    pub(crate) fn into_letters(self, start: usize) -> Letters {
        let rejections = self.rejections.into_values();
        let in_whole =
            |rejection: Rejection| Rejection { index: rejection.index + start, ..rejection };
        Letters {
            rejections: rejections.map(in_whole).collect(),
            deliveries: self.letters.into_values().collect(),
        }
    }
}

impl Letters {
    /// Adds those of a later part.
    pub(crate) fn extend(&mut self, later: Self) {
        self.rejections.extend(later.rejections);
        self.deliveries.extend(later.deliveries);
    }
}

/// The message as a delivery of its own.
fn alone(message: OutgoingMessage<'_>) -> Arc<Delivery> {
    let mut outbox = Outbox::default();
    outbox.push(message);
    outbox.take(Some(Outbox::default()))
}

#[cfg(test)]
impl Rejection {
    pub(crate) fn for_test(index: usize) -> Self {
        let reason = Reason::of(&Error::new(ErrorKind::Process, "failed"), 1);
        let told = format!("message {index}");
        Self { index, topic: 0, letters: Some("dead".into()), reason, told }
    }
}

impl Delivery {
    /// The same messages, to be sent once more.
    pub(crate) fn again(&self) -> Arc<Self> {
        let mut outbox = Outbox::default();
        for message in self.messages(0..self.len()) {
            let topic = &*self.topics()[message.topic];
            let mut again = OutgoingMessage::new(topic).key(message.key).value(message.value);
            again.partition = message.partition;
            again.timestamp = message.timestamp;
            for (name, value) in message.headers() {
                again = again.header(String::from_utf8_lossy(name), value);
            }
            outbox.push(again);
        }
        outbox.take(Some(Outbox::default()))
    }
}
