//! The consumer's events, in order, with a look at those that wait.
//!
//! Place in the data path: beside it. Whoever is about to answer a rebalance has to know when the client has gone on
//! without the answer.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::broker::Event;

pub(super) struct Events {
    receiver: mpsc::UnboundedReceiver<Event>,
    /// Received and not handled yet.
    waiting: VecDeque<Event>,
}

/// What comes next.
pub(super) enum Next {
    Event(Event),
    /// The client has gone on without the answer that is being looked for.
    Superseded,
    /// The consumer has ended.
    Ended,
}

impl Events {
    pub(super) fn new(receiver: mpsc::UnboundedReceiver<Event>) -> Self {
        Self { receiver, waiting: VecDeque::new() }
    }

    /// The next event. Cancel-safe.
    ///
    /// `answering`: an assignment is being answered. Then rebalances stay where they are, and the others are handled
    /// meanwhile, unless the client has gone on without the answer.
    pub(super) async fn next(&mut self, answering: bool) -> Next {
        loop {
            if answering && self.waiting.iter().any(needs_no_answer_before) {
                return Next::Superseded;
            }
            let next = self.waiting.iter().position(|event| !answering || !is_rebalance(event));
            if let Some(event) = next.and_then(|index| self.waiting.remove(index)) {
                return Next::Event(event);
            }
            match self.receiver.recv().await {
                Some(event) => self.waiting.push_back(event),
                None => return Next::Ended,
            }
        }
    }

    /// Waits until an event has come after which what is ours now is ours no longer: a new assignment of everything,
    /// a loss, or the client's end. Leaves it where it is. Cancel-safe.
    pub(super) async fn superseded(&mut self) {
        while !self.waiting.iter().any(supersedes) {
            match self.receiver.recv().await {
                Some(event) => self.waiting.push_back(event),
                // What the end of the events means is decided where they are handled.
                None => std::future::pending().await,
            }
        }
    }

    /// Whether such an event has come.
    pub(super) fn is_superseded(&mut self) -> bool {
        while let Ok(event) = self.receiver.try_recv() {
            self.waiting.push_back(event);
        }
        self.waiting.iter().any(supersedes)
    }
}

fn is_rebalance(event: &Event) -> bool {
    matches!(event, Event::Assigned { .. } | Event::Revoked { .. })
}

/// What is ours now is ours no longer.
fn supersedes(event: &Event) -> bool {
    needs_no_answer_before(event) || matches!(event, Event::Revoked { lost: true, .. })
}

/// The client no longer waits for the answers to what came before. (It does where partitions were lost: their
/// revocation comes after the answer.)
fn needs_no_answer_before(event: &Event) -> bool {
    matches!(event, Event::Assigned { replaces: true, .. } | Event::Fatal(_))
}
