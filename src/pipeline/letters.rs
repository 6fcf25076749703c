//! [`Post`]: sends letters, and sends them again when they are not delivered.
//!
//! Place in the data path: the [`in_flight`](super::in_flight) queue hands it the letters of its calls. A rejected message
//! is finished when its letter is acknowledged; a letter that is not delivered in the end fails the lane, so no message
//! is dropped.
//!
//! Invariant: after [`Command::Stop`], or past a drain deadline, nothing is produced.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::backoff::{Backoff, Retries};
use crate::broker::{Handover, Producer};
use crate::command::{Command, is_over};
use crate::message::delivery::Delivery;
use crate::pipeline::progress::LaneProgress;

pub(crate) struct Post {
    producer: Arc<dyn Producer>,
    commands: watch::Receiver<Command>,
    backoff: Backoff,
    progress: Arc<LaneProgress>,
    /// While letters of the oldest call have failed.
    trouble: Option<Trouble>,
}

struct Trouble {
    attempt: u32,
    since: Instant,
    retries: Retries,
    /// When they are sent again; `None` while they are on the way.
    due: Option<Instant>,
}

impl Post {
    pub(crate) fn new(
        producer: Arc<dyn Producer>,
        commands: watch::Receiver<Command>,
        backoff: Backoff,
        progress: Arc<LaneProgress>,
    ) -> Self {
        Self { producer, commands, backoff, progress, trouble: None }
    }

    /// Hands letters to the producer. Those that it has no room for stay for [`deliver`](Self::deliver).
    pub(super) fn try_send(&self, letters: &Arc<Delivery>) {
        if !is_over(&self.commands) {
            let _later = self.producer.produce(letters);
        }
    }

    /// Waits until the letters are delivered, or the backoff is used up: then they stay failed. Never done when nothing
    /// may be produced any more, and something is left to be. Cancel-safe: what has happened is kept here and in the
    /// letters.
    pub(super) async fn deliver(&mut self, letters: &mut [Arc<Delivery>]) {
        for letters in letters {
            loop {
                self.hand_over(letters).await;
                letters.finished().await;
                let Err(error) = letters.result() else { break };
                let trouble = self.trouble.get_or_insert_with(|| Trouble {
                    attempt: 0,
                    since: Instant::now(),
                    retries: Retries::begin(self.backoff),
                    due: None,
                });
                if trouble.due.is_none() {
                    let Some(wait) = trouble.retries.next() else { return };
                    warn!(
                        ?error,
                        ?wait,
                        "letters of rejected messages were not delivered; sending them again"
                    );
                    trouble.attempt += 1;
                    trouble.due = Some(Instant::now() + wait);
                    self.progress.retrying(trouble.attempt, trouble.since, &error);
                }
                if let Some(due) = trouble.due {
                    sleep_until(due).await;
                }
                trouble.due = None;
                *letters = letters.again();
            }
        }
        if self.trouble.take().is_some() {
            self.progress.recovered();
        }
    }

    async fn hand_over(&self, letters: &Arc<Delivery>) {
        while letters.next() < letters.len() {
            if is_over(&self.commands) {
                return std::future::pending().await;
            }
            if self.producer.produce(letters) == Handover::QueueFull {
                self.producer.room().await;
            }
        }
    }

    /// Nobody comes back for what is not handed over.
    pub(super) fn abandon(&self, letters: &Arc<Delivery>) {
        if letters.next() < letters.len() {
            self.producer.abandon(letters);
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        struct Nowhere;

        impl Producer for Nowhere {
            fn produce(&self, _: &Arc<Delivery>) -> Handover {
                Handover::QueueFull
            }

            fn room(&self) -> futures_util::future::BoxFuture<'_, ()> {
                Box::pin(std::future::pending())
            }
        }

        let commands = watch::Sender::new(Command::Run).subscribe();
        let progress = Arc::new(LaneProgress::for_test());
        Self::new(Arc::new(Nowhere), commands, Backoff::new(), progress)
    }
}
