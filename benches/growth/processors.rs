//! Processors that only this benchmark has.

use std::time::Duration;

use kasper::{Batch, BoxError, Context, Message, OutgoingMessage, ProcessError, Processor};

use crate::series::Rejects;

/// Of `every` messages, sends one `times` times to the same partition of a topic.
#[derive(Debug, Clone)]
pub(crate) struct Multiplier {
    pub(crate) topic: String,
    pub(crate) every: u64,
    pub(crate) times: usize,
    /// Sends values that are made for it; otherwise those of the input.
    pub(crate) owned: bool,
    pub(crate) taken: u64,
}

impl Processor for Multiplier {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for (number, message) in (self.taken..).zip(batch.iter()) {
            if !number.is_multiple_of(self.every) {
                continue;
            }
            for _ in 0..self.times {
                let outgoing = OutgoingMessage::new(&self.topic).partition(message.partition());
                let outgoing = outgoing.key(message.key());
                context.send(match self.owned {
                    true => outgoing.value(message.value().map(<[u8]>::to_vec)),
                    false => outgoing.value(message.value()),
                });
            }
        }
        self.taken += batch.len() as u64;
        Ok(())
    }
}

/// Sends messages to the same partition of a topic, but those that it rejects.
#[derive(Debug, Clone)]
pub(crate) struct Rejecter {
    pub(crate) topic: String,
    pub(crate) rejects: Rejects,
}

impl Rejecter {
    /// One in a thousand, by its random key.
    fn is_bad(&self, message: &Message<'_>) -> bool {
        let key = message.key().and_then(|key| key.first_chunk()).copied().unwrap_or_default();
        u64::from_le_bytes(key).is_multiple_of(1000) && self.rejects != Rejects::Nothing
    }
}

impl Processor for Rejecter {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for message in batch.iter() {
            if self.is_bad(&message) {
                match self.rejects {
                    Rejects::Letters => context.dead_letter(&message, "malformed")?,
                    Rejects::Named => {
                        return Err(ProcessError::poison(&message, "malformed").into());
                    }
                    _ => return Err("malformed".into()),
                }
                continue;
            }
            let outgoing = OutgoingMessage::new(&self.topic).partition(message.partition());
            context.send(outgoing.key(message.key()).value(message.value()));
        }
        Ok(())
    }
}

/// Waits, as for a store, and does nothing else.
#[derive(Debug, Clone)]
pub(crate) struct Sleeper(pub(crate) Duration);

impl Processor for Sleeper {
    async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
        tokio::time::sleep(self.0).await;
        Ok(())
    }
}
