//! Processors that only this benchmark has.

use std::time::Duration;

use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};

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

/// Waits, as for a store, and does nothing else.
#[derive(Debug, Clone)]
pub(crate) struct Sleeper(pub(crate) Duration);

impl Processor for Sleeper {
    async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
        tokio::time::sleep(self.0).await;
        Ok(())
    }
}
