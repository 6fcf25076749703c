//! Where newly assigned partitions begin: asked for while the lanes that run are looked after.
//!
//! Place in the data path: before it, between an assignment and its answer. All partitions are asked
//! for at once. Those that have an answer are assigned at it and begin. The others are assigned without
//! a start; one task asks for all of them together, again and again, and whatever it finds at a time
//! begins with one seek. So a thousand partitions start with as many seeks as there were answers that
//! brought something new, and not with one for each partition: a seek may have all others fetched anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{Instrument as _, warn};

use crate::broker::{Consumer, Event};
use crate::coordinator::Coordinator;
use crate::error::{Error, Result};
use crate::message::TopicPartition;
use crate::pipeline::start::{Candidate, Doubt, PATIENCE, Start, believed, candidates, starts};
use crate::processor::BoxFuture;

/// How long leaders have to answer that have not answered in several rounds.
const LONG_PATIENCE: Duration = Duration::from_secs(10);

/// After so many rounds without an answer, leaders get more time.
const SHORT_ROUNDS: u32 = 3;

/// An assignment, and what is known of where its partitions begin.
pub(super) type Found = (Vec<TopicPartition>, Result<Vec<(Candidate, Result<Start>)>>);
pub(super) type Starting = BoxFuture<'static, Found>;

/// The answers of a round; the numbers tell for which assignment each was asked.
type Round = Vec<(u64, TopicPartition, Result<Start>)>;

/// What is being looked up; never done while nothing is. Cancel-safe.
pub(super) async fn found<T>(lookup: &mut Option<BoxFuture<'static, T>>) -> T {
    match lookup {
        Some(lookup) => lookup.await,
        None => std::future::pending().await,
    }
}

/// Partitions that are ours, and of which nobody could say yet where they begin.
#[derive(Default)]
pub(super) struct Late {
    waiting: BTreeMap<TopicPartition, Waiting>,
    /// Asks for all that waited when it began.
    pub(super) round: Option<BoxFuture<'static, Round>>,
    /// Rounds since the last one that brought something, or to which something came.
    idle_rounds: u32,
    next_number: u64,
}

struct Waiting {
    /// A partition that was revoked, and came again, is not begun with an answer to the old question:
    /// another member may have committed meanwhile.
    number: u64,
    candidate: Candidate,
    doubt: Doubt,
}

impl Late {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn remove(&mut self, partition: &TopicPartition) {
        self.waiting.remove(partition);
    }

    fn add(&mut self, candidate: Candidate, doubt: Doubt) {
        let number = self.next_number;
        self.next_number += 1;
        self.idle_rounds = 0;
        let partition = candidate.partition.clone();
        self.waiting.insert(partition, Waiting { number, candidate, doubt });
    }

    /// Begins to ask, unless nothing waits or a round is under way.
    fn ask(&mut self, consumer: &Arc<dyn Consumer>) {
        if self.round.is_some() || self.waiting.is_empty() {
            return;
        }
        let pause = Duration::from_millis(100 << self.idle_rounds.min(3));
        let patience = if self.idle_rounds < SHORT_ROUNDS { PATIENCE } else { LONG_PATIENCE };
        self.idle_rounds += 1;
        let waiting = self.waiting.values();
        let (numbers, candidates): (Vec<u64>, Vec<Candidate>) =
            waiting.map(|waiting| (waiting.number, waiting.candidate.clone())).unzip();
        let consumer = consumer.clone();
        let round = async move {
            sleep(pause).await;
            let answers = starts(&*consumer, &candidates, patience).await;
            let asked = numbers.into_iter().zip(candidates);
            let round = asked.zip(answers);
            round.map(|((number, asked), answer)| (number, asked.partition, answer)).collect()
        };
        self.round = Some(Box::pin(round.in_current_span()));
    }

    /// Sorts the answers of a round.
    ///
    /// # Errors
    /// One of them is final.
    fn note(&mut self, round: Round) -> Result<Vec<Start>> {
        let mut found = Vec::new();
        for (number, partition, answer) in round {
            let current = self.waiting.get_mut(&partition).filter(|w| w.number == number);
            let Some(waiting) = current else { continue };
            match answer {
                Ok(start) => {
                    self.waiting.remove(&partition);
                    self.idle_rounds = 0;
                    found.push(start);
                }
                Err(error) if waiting.doubt.asks_again(&error) => {
                    warn!(%error, "a partition cannot start yet, asking again");
                }
                Err(error) => return Err(believed(error)),
            }
        }
        Ok(found)
    }
}

impl Coordinator {
    /// Begins to look up where newly assigned partitions start. Brokers may take their time to answer:
    /// meanwhile the lanes that run are looked after, and only rebalances wait.
    pub(super) fn find_starts(&mut self, partitions: Vec<TopicPartition>) {
        if !partitions.is_empty() {
            // Until they are with us: they are not consumed.
            self.board.settled.store(false, Ordering::SeqCst);
        }
        let (consumer, start_from) = (self.consumer.clone(), self.settings.start_from);
        let find = async move {
            let candidates = match candidates(&*consumer, &partitions, start_from).await {
                Ok(candidates) => candidates,
                Err(error) => return (partitions, Err(error)),
            };
            let answers = starts(&*consumer, &candidates, PATIENCE).await;
            (partitions, Ok(candidates.into_iter().zip(answers).collect()))
        };
        self.starting = Some(Box::pin(find.in_current_span()));
    }

    pub(super) async fn starts_found(&mut self, (partitions, answers): Found) {
        self.starting = None;
        let assigned = match answers.and_then(|answers| self.sort(answers)) {
            Ok(starts) => self.assign(partitions, starts).await,
            Err(error) => Err(error),
        };
        self.note(assigned);
        // Rebalances that came meanwhile. One of them may look up starts, too.
        while self.starting.is_none()
            && self.failure.is_none()
            && let Some(event) = self.put_off.pop_front()
        {
            self.rebalance(event).await;
        }
    }

    /// The starts that are known; the others become late.
    ///
    /// # Errors
    /// One of the answers is final.
    fn sort(&mut self, answers: Vec<(Candidate, Result<Start>)>) -> Result<Vec<Start>> {
        let (mut starts, mut first) = (Vec::new(), None::<Error>);
        for (candidate, answer) in answers {
            let mut doubt = Doubt::default();
            match answer {
                Ok(start) => starts.push(start),
                Err(error) if doubt.asks_again(&error) => {
                    self.late.add(candidate, doubt);
                    first.get_or_insert(error);
                }
                Err(error) => return Err(believed(error)),
            }
        }
        if let Some(error) = first {
            let late = self.late.waiting.len();
            warn!(%error, late, "some partitions start later, when their offsets are known");
        }
        self.late.ask(&self.consumer);
        Ok(starts)
    }

    pub(super) async fn late_starts_found(&mut self, round: Round) {
        self.late.round = None;
        let begun = match self.late.note(round) {
            Ok(found) => self.begin_late(found).await,
            Err(error) => Err(error),
        };
        self.note(begun);
        self.late.ask(&self.consumer);
    }

    /// A rebalance that the group asks for, in its turn.
    pub(super) async fn rebalance(&mut self, event: Event) {
        match event {
            Event::Assigned(partitions) => self.find_starts(partitions),
            Event::Revoked { partitions, lost } => {
                let revoked = self.revoke(&partitions, lost).await;
                self.note(revoked);
            }
            _ => {}
        }
    }
}
