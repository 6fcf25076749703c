//! Messages that no processor can process, and what is to become of them.

use std::sync::Arc;

use super::World;
use crate::message::outbox::OutgoingRef;
use crate::message::{Offset, TopicPartition};

/// Where letters go.
pub(crate) const LETTERS: &str = "letters";

/// Which messages cannot be processed: `run` of them in a row at the beginning of each `every`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Poison {
    pub(crate) every: i64,
    pub(crate) run: i64,
    /// They are skipped; otherwise they become letters.
    pub(crate) skips: bool,
    /// The first of a batch is named, and need not stand alone to be rejected.
    pub(crate) is_named: bool,
}

impl Poison {
    pub(super) fn has(self, partition: &TopicPartition, offset: i64) -> bool {
        self.run > 0 && (offset + i64::from(partition.number)) % self.every < self.run
    }
}

impl World {
    pub(crate) fn is_poison(&self, partition: &TopicPartition, offset: i64) -> bool {
        self.monitor.poison.has(partition, offset)
    }

    /// What stands for the message is acknowledged, or it was seen to fail and may be skipped.
    pub(super) fn is_rejected(&self, partition: &TopicPartition, offset: i64) -> bool {
        let settled = self.monitor.settled.get(partition);
        settled.is_some_and(|settled| settled.contains(&offset))
    }

    /// A letter is in the log, and its sender knows it.
    pub(super) fn letter_acked(&mut self, letter: &OutgoingRef<'_>) {
        let header = |name: &str| {
            let mut headers = letter.headers();
            let value =
                headers.find(|(header, _)| *header == name.as_bytes()).and_then(|(_, value)| value);
            String::from_utf8(value.unwrap().to_vec()).unwrap()
        };
        let number: i32 = header("__dlq.errors.partition").parse().unwrap();
        let topic: Arc<str> = header("__dlq.errors.topic").into();
        let partition = TopicPartition::new(topic, number);
        let offset: i64 = header("__dlq.errors.offset").parse().unwrap();
        self.count("letter");
        self.tell_story(|| format!("the letter of {partition}={offset} is acknowledged"));
        let is_rejected = self.is_poison(&partition, offset) && !self.monitor.poison.skips;
        if !is_rejected || letter.partition != Some(number) {
            self.violation(|| format!("{partition}={offset} has a letter that it should not have"));
        }
        let message = self.logs.get(&partition).map(|log| log.message(offset));
        if message.is_none_or(|message| message.value.as_deref() != letter.value) {
            self.violation(|| format!("the letter of {partition}={offset} has another value"));
        }
        self.settle(&partition, offset);
    }

    /// These messages were processed without success.
    pub(super) fn failed_for(&mut self, messages: &[(TopicPartition, i64, u64)]) {
        let poison: Vec<(TopicPartition, i64)> = messages
            .iter()
            .filter(|(partition, offset, _)| self.is_poison(partition, *offset))
            .map(|(partition, offset, _)| (partition.clone(), *offset))
            .collect();
        let Poison { skips, is_named, .. } = self.monitor.poison;
        if skips
            && (is_named || messages.len() == 1)
            && let Some((partition, offset)) = poison.first()
        {
            self.count("skip");
            self.settle(partition, *offset);
        }
    }

    fn settle(&mut self, partition: &TopicPartition, offset: i64) {
        self.monitor.settled.entry(partition.clone()).or_default().insert(offset);
        self.monitor.done.entry(partition.clone()).or_default().insert(offset);
    }

    /// Whether everything between these offsets is rejected, so that `process` may get the second one next.
    pub(super) fn is_rejected_up_to(
        &self,
        partition: &TopicPartition,
        from: i64,
        to: Offset,
    ) -> bool {
        let mut between = self.logs[partition].offsets(from, to.get());
        from < to.get() && between.all(|offset| self.is_poison(partition, offset))
    }
}
