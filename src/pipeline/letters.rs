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
use tracing::{info, warn};

use crate::backoff::{Backoff, Retries};
use crate::broker::{Handover, Producer};
use crate::command::{Command, ending, is_over};
use crate::message::delivery::Delivery;
use crate::message::undelivered::{DeliveryFailure, Fault};
use crate::pipeline::progress::LaneProgress;

pub(crate) struct Post {
    producer: Arc<dyn Producer>,
    commands: watch::Receiver<Command>,
    backoff: Backoff,
    progress: Arc<LaneProgress>,
    /// While letters of the oldest call have failed.
    resending: Option<Resending>,
}

struct Resending {
    attempt: u32,
    since: Instant,
    retries: Retries,
    /// When those that failed are sent again; `None` while they are on the way.
    due: Option<Instant>,
}

/// What became of letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Posted {
    /// All are acknowledged, or it is no use to send those again that failed.
    Done,
    /// Some would have to be sent again, but the partition is about to be given back.
    GivenUp,
}

impl Post {
    pub(crate) fn new(
        producer: Arc<dyn Producer>,
        commands: watch::Receiver<Command>,
        backoff: Backoff,
        progress: Arc<LaneProgress>,
    ) -> Self {
        Self { producer, commands, backoff, progress, resending: None }
    }

    /// Hands letters to the producer. Those that it has no room for stay for [`deliver`](Self::deliver).
    pub(super) fn try_send(&self, letter: &Arc<Delivery>) {
        if !is_over(&self.commands) {
            let _later = self.producer.produce(letter);
        }
    }

    /// Waits until the letters are delivered. Those that are not are sent again, all at the same time, until the backoff is
    /// used up. Never done when nothing may be produced any more, and something is left to be. Cancel-safe: what has
    /// happened is kept here and in the letters.
    pub(super) async fn deliver(&mut self, letters: &mut [Arc<Delivery>]) -> Posted {
        loop {
            for letter in &*letters {
                self.hand_over(letter).await;
            }
            for letter in &*letters {
                letter.finished().await;
            }
            let failures = letters.iter().filter_map(|letter| letter.failure());
            let failures: Vec<DeliveryFailure> = failures.collect();
            let Some(first) = failures.first() else { break };
            // The same letter would be refused for the same reason.
            if failures.iter().any(|failure| matches!(failure.fault(), Fault::Message(_))) {
                break;
            }
            let resending = self.resending.get_or_insert_with(|| Resending {
                attempt: 0,
                since: Instant::now(),
                retries: Retries::begin(self.backoff),
                due: None,
            });
            let due = match resending.due {
                Some(due) => due,
                None => {
                    let Some(wait) = resending.retries.next() else { break };
                    let (error, messages) = (first.error(), failures.len());
                    warn!(
                        ?error,
                        messages,
                        ?wait,
                        "letters of rejected messages were not delivered; sending them again"
                    );
                    resending.attempt += 1;
                    self.progress.sends_again(Some((resending.attempt, resending.since, &error)));
                    *resending.due.insert(Instant::now() + wait)
                }
            };
            tokio::select! {
                biased;
                () = ending(&mut self.commands) => {
                    info!("giving up on letters: the partition is about to be given back");
                    return Posted::GivenUp;
                }
                () = sleep_until(due) => {}
            }
            resending.due = None;
            let failed = letters.iter_mut().filter(|letter| letter.has_failed());
            failed.for_each(|letter| *letter = letter.again());
        }
        if self.resending.take().is_some() {
            self.progress.sends_again(None);
        }
        Posted::Done
    }

    async fn hand_over(&self, letter: &Arc<Delivery>) {
        while letter.next() < letter.len() {
            if is_over(&self.commands) {
                return std::future::pending().await;
            }
            if self.producer.produce(letter) == Handover::QueueFull {
                self.producer.room().await;
            }
        }
    }

    /// Nobody comes back for what is not handed over.
    pub(super) fn abandon(&self, letter: &Arc<Delivery>) {
        if letter.next() < letter.len() {
            self.producer.abandon(letter);
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
