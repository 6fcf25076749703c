//! The quarantine of a lane: later messages of a key follow one that was rejected to the dead letter topic.
//!
//! Place in the data path: before a call, where messages that are [held](held_keys) are taken out of the batch, and behind
//! it, where those that were rejected hold their keys. What is held is written to the user's store before the letters are sent
//! and the offsets committed.
//!
//! Invariant: when a letter is sent, the store knows that its key is held. So whoever processes the partition next holds
//! what comes behind it.

mod entry;
mod held_keys;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tracing::{info, warn};

use self::held_keys::{Freed, HeldKeys};
use crate::command::ending;
use crate::error::{Error, ErrorKind};
use crate::message::Batch;
use crate::message::rejected::Rejected;
use crate::on_error::{Quarantine, Reason, Then};
use crate::pipeline::attempts::Attempts;
use crate::pipeline::partition_processor::{Interrupt, PartitionProcessor, guarded};
use crate::store::Store;

/// What a lane holds; nothing if the policy has no quarantine.
pub(super) struct LaneQuarantine {
    settings: Option<Quarantine>,
    held: HeldKeys,
}

impl LaneQuarantine {
    pub(super) fn new(settings: Option<Quarantine>) -> Self {
        Self { settings, held: HeldKeys::default() }
    }

    /// Those of a part of the batch that are not to be processed, in order.
    pub(super) fn of_part(
        &self,
        batch: &Batch,
        range: Range<usize>,
    ) -> Vec<(usize, (Reason, Then))> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let mut freed = Freed::default();
        let of_message = |index| {
            let (reason, letters) = self.held.holds(&batch.get(index), &mut freed)?;
            Some((index, (reason, Then::DeadLetter(letters))))
        };
        range.filter_map(of_message).collect()
    }

    /// # Errors
    /// More messages are held than may be.
    fn check(&self) -> Result<(), Error> {
        let most = self.settings.as_ref().map_or(usize::MAX, |settings| settings.max_messages);
        let count = self.held.pending();
        if count <= most {
            return Ok(());
        }
        let message = format!(
            "{count} messages are in a quarantine by key, which holds at most {most} of a partition number; the letters \
             of the last batch were not sent. Allow more with `Quarantine::max_messages`, start again, and replay the letters \
             with `kasper-dlq replay`"
        );
        Err(Error::new(ErrorKind::CircuitOpen, message))
    }
}

impl PartitionProcessor {
    /// Reads which keys are held, again and again if the policy says so. Once, before the first batch.
    pub(super) async fn load_quarantine(&mut self) -> Result<(), Interrupt> {
        let Some(Quarantine { store, .. }) = self.quarantine.settings.clone() else {
            return Ok(());
        };
        let topics = self.progress.topics();
        let entries: Vec<String> = topics.iter().map(|topic| self.entry(topic)).collect();
        let names: Vec<&str> = entries.iter().map(String::as_str).collect();
        let mut attempts = Attempts::new();
        loop {
            let read = tokio::select! {
                biased;
                () = ending(&mut self.commands) => return Err(Interrupt::GaveUpRetrying),
                read = store.get_many(&names) => read,
            };
            match read.and_then(|found| decode_all(&topics, &names, found)) {
                Ok(held) => {
                    self.quarantine.held = held;
                    break;
                }
                Err(error) => {
                    let error = self.failed_store("reading", error);
                    self.wait_to_retry(&mut attempts, error).await?;
                }
            }
        }
        self.forget_released();
        self.show_quarantine();
        let keys: usize = topics.iter().map(|topic| self.quarantine.held.count(topic)).sum();
        if keys > 0 {
            info!(keys, "keys are held: their messages become letters until they are replayed");
        }
        Ok(())
    }

    /// Writes which keys are held, if that has changed, again and again if the policy says so. If this is given up,
    /// nothing of what was held since the last time may be finished. Nor if more messages are held than may be.
    pub(super) async fn save_quarantine(&mut self) -> Result<(), Interrupt> {
        let topics = self.quarantine.held.topics.iter().filter(|(_, topic)| topic.is_changed);
        let changes: Vec<_> =
            topics.map(|(name, topic)| (self.entry(name), entry::encode(topic))).collect();
        if changes.is_empty() {
            return Ok(());
        }
        self.quarantine.check()?;
        let Some(Quarantine { store, .. }) = self.quarantine.settings.clone() else {
            return Ok(());
        };
        let changes: Vec<_> =
            changes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let mut attempts = Attempts::new();
        loop {
            let write = store.write_many(&changes);
            match guarded(&mut self.commands, &mut self.in_flight, write).await? {
                Ok(()) => break,
                Err(error) => {
                    let error = self.failed_store("writing", error);
                    self.wait_to_retry(&mut attempts, error).await?;
                }
            }
        }
        if attempts.made > 1 {
            self.progress.recovered();
        }
        self.quarantine.held.topics.values_mut().for_each(|topic| topic.is_changed = false);
        self.show_quarantine();
        Ok(())
    }

    /// Those of a batch that has just come that are not to be processed, in order.
    pub(super) fn held_messages(&mut self, batch: &Batch) -> Vec<(usize, (Reason, Then))> {
        if !self.quarantine.held.is_empty() {
            self.forget_released();
        }
        self.quarantine.of_part(batch, 0..batch.len())
    }

    /// The name of the store's entry for a topic.
    fn entry(&self, topic: &str) -> String {
        self.letters.quarantine_entry(topic, self.progress.partition)
    }

    fn failed_store(&self, what: &str, error: Error) -> Error {
        let is_retryable = error.is_retryable();
        let message = format!("{what} the quarantine's entry in its store failed");
        let error = Error::new(error.kind(), message)
            .with("partition", self.progress.partition)
            .with_source(error);
        if is_retryable { error.retryable() } else { error }
    }

    /// Keys that were released, and of which nothing can come again.
    pub(super) fn forget_released(&mut self) {
        let status = self.progress.status();
        for topic in &status.topics {
            if let Some(committed) = topic.epoch.committed() {
                self.quarantine.held.forget(&topic.partition.topic, committed);
            }
        }
    }

    fn show_quarantine(&self) {
        let mut status = self.progress.status();
        for topic in &mut status.topics {
            topic.quarantined = self.quarantine.held.count(&topic.partition.topic);
        }
    }

    /// The call for these messages returned `Ok`. Holds the keys of those that it has rejected, rejects the later ones of
    /// these keys, and releases keys whose last message was processed.
    pub(super) fn settle_quarantine(&mut self, batch: &Batch, mut rejected: Rejected) -> Rejected {
        let held = &mut self.quarantine.held;
        if self.quarantine.settings.is_none() || (rejected.is_empty() && held.is_empty()) {
            return rejected;
        }
        let (mut followed, mut rejected_keys) = (0, HashSet::new());
        for (index, message) in batch.iter().enumerate() {
            if let Some((reason, letters)) = rejected.get(index) {
                if let Some(letters) = letters {
                    held.reject(&message, reason, letters);
                    rejected_keys.insert((message.topic(), message.key()));
                }
                continue;
            }
            let follows = match rejected_keys.contains(&(message.topic(), message.key())) {
                true => held.follows(&message),
                false => held.holds(&message, &mut Freed::default()),
            };
            if let Some((reason, letters)) = follows {
                held.reject(&message, &reason, &letters);
                rejected.add(index, &message, (Some(&letters), &self.letters), &reason);
                followed += 1;
            } else {
                held.processed(&message);
            }
        }
        if followed > 0 {
            warn!(
                messages = followed,
                "messages behind a rejected one of their key were processed in the same call, and become letters, too"
            );
        }
        rejected
    }

    /// A message was rejected because its call failed, or because it is held. Without `letters` it is skipped, and
    /// nothing waits for it.
    pub(super) fn quarantine(
        &mut self,
        batch: &Batch,
        index: usize,
        reason: &Reason,
        letters: Option<&Arc<str>>,
    ) {
        let (held, message) = (&mut self.quarantine.held, batch.get(index));
        match letters {
            _ if self.quarantine.settings.is_none() => {}
            None => held.processed(&message),
            Some(letters) => held.reject(&message, reason, letters),
        }
    }
}

/// What the store has for each topic.
///
/// # Errors
/// An entry cannot be read.
fn decode_all(
    topics: &[Arc<str>],
    entries: &[&str],
    found: Vec<Option<Bytes>>,
) -> Result<HeldKeys, Error> {
    let mut held = HeldKeys::default();
    for ((topic, entry), found) in topics.iter().zip(entries).zip(found) {
        if let Some(found) = found {
            let keys = entry::decode(&found).map_err(|error| error.with("key", entry))?;
            held.topics.insert(topic.clone(), keys);
        }
    }
    Ok(held)
}
