//! Where newly assigned partitions begin: asked for while the lanes that run are looked after.
//!
//! Place in the data path: before it, between an assignment and its answer. All partitions are asked
//! for at once. Those that have an answer are assigned at it and begin. The others are assigned without
//! a start; one task asks for all of them together, again and again, and whatever it finds at a time
//! begins with one seek. So a thousand partitions start with as many seeks as there were answers that
//! brought something new, and not with one for each partition: a seek may have all others fetched anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};
use tracing::{Instrument as _, warn};

use crate::broker::{Consumer, RebalanceId};
use crate::coordinator::Coordinator;
use crate::error::{Error, Result};
use crate::message::TopicPartition;
use crate::pipeline::start::{Candidate, Doubt, PATIENCE, Start, believed, candidates, starts};
use crate::settings::StartFrom;

/// How long an assignment waits for its partitions' starts while others that stay wait with it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// How long leaders have to answer that have not answered in several rounds.
const LONG_PATIENCE: Duration = Duration::from_secs(10);

/// After so many rounds without an answer, leaders get more time.
const SHORT_ROUNDS: u32 = 3;

/// Where partitions begin, as far as that is known.
type Answers = Vec<(Candidate, Result<Start>)>;

/// An assignment, and where its partitions begin. `None`: there was no answer in time.
pub(super) type Found = (RebalanceId, Vec<TopicPartition>, Option<Result<Answers>>);
pub(super) type Starting = BoxFuture<'static, Found>;

/// The answers of a round; the numbers tell for which assignment each was asked.
type Round = Result<Vec<(u64, Candidate, Result<Start>)>>;

/// What is being looked up; never done while nothing is. Cancel-safe.
pub(super) async fn answer_of<T>(lookup: &mut Option<BoxFuture<'static, T>>) -> T {
    match lookup {
        Some(lookup) => lookup.await,
        None => std::future::pending().await,
    }
}

async fn answers(
    consumer: &dyn Consumer,
    partitions: &[TopicPartition],
    start_from: StartFrom,
) -> Result<Answers> {
    let candidates = candidates(consumer, partitions, start_from).await?;
    let answers = starts(consumer, &candidates, PATIENCE).await;
    Ok(candidates.into_iter().zip(answers).collect())
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
    /// `None` until the group has told what is committed.
    candidate: Option<Candidate>,
    doubt: Doubt,
}

impl Late {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.waiting.keys().cloned()
    }

    pub(super) fn remove(&mut self, partition: &TopicPartition) {
        self.waiting.remove(partition);
    }

    fn add(&mut self, partition: TopicPartition, candidate: Option<Candidate>, doubt: Doubt) {
        let number = self.next_number;
        self.next_number += 1;
        self.idle_rounds = 0;
        self.waiting.insert(partition, Waiting { number, candidate, doubt });
    }

    /// Begins to ask, unless nothing waits or a round is under way.
    fn ask(&mut self, consumer: &Arc<dyn Consumer>, start_from: StartFrom) {
        if self.round.is_some() || self.waiting.is_empty() {
            return;
        }
        let pause = Duration::from_millis(100 << self.idle_rounds.min(3));
        let patience = if self.idle_rounds < SHORT_ROUNDS { PATIENCE } else { LONG_PATIENCE };
        self.idle_rounds += 1;
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        let mut numbers = BTreeMap::new();
        for (partition, waiting) in &self.waiting {
            numbers.insert(partition.clone(), waiting.number);
            match &waiting.candidate {
                Some(candidate) => known.push(candidate.clone()),
                None => unknown.push(partition.clone()),
            }
        }
        let consumer = consumer.clone();
        let round = async move {
            sleep(pause).await;
            known.extend(candidates(&*consumer, &unknown, start_from).await?);
            let answers = starts(&*consumer, &known, patience).await;
            let round = known.into_iter().zip(answers);
            let round = round.filter_map(|(asked, answer)| {
                Some((*numbers.get(&asked.partition)?, asked, answer))
            });
            Ok(round.collect())
        };
        self.round = Some(Box::pin(round.in_current_span()));
    }

    /// Sorts the answers of a round.
    ///
    /// # Errors
    /// One of them is final.
    fn note(&mut self, round: Round) -> Result<Vec<Start>> {
        let mut found = Vec::new();
        for (number, asked, answer) in round? {
            let current = self.waiting.get_mut(&asked.partition).filter(|w| w.number == number);
            let Some(waiting) = current else { continue };
            match answer {
                Ok(start) => {
                    self.waiting.remove(&asked.partition);
                    self.idle_rounds = 0;
                    found.push(start);
                }
                Err(error) if waiting.doubt.asks_again(&error) => {
                    warn!(?error, "a partition cannot start yet, asking again");
                    waiting.candidate = Some(asked);
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
    ///
    /// Where assignments change by parts (not `replaces`), the client fetches nothing for these lanes until it has its
    /// answer, so it gets that soon.
    pub(super) fn find_starts(
        &mut self,
        id: RebalanceId,
        partitions: Vec<TopicPartition>,
        replaces: bool,
    ) {
        if !partitions.is_empty() {
            // Until they are with us: they are not consumed.
            self.board.set_settled(false);
        }
        let (consumer, start_from) = (self.consumer.clone(), self.settings.start_from);
        let find = async move {
            let answers = answers(&*consumer, &partitions, start_from);
            let answers = match replaces {
                true => Some(answers.await),
                false => timeout(ANSWERED_WITHIN, answers).await.ok(),
            };
            (id, partitions, answers)
        };
        self.starting = Some(Box::pin(find.in_current_span()));
    }

    pub(super) async fn starts_found(&mut self, (id, partitions, answers): Found) {
        self.starting = None;
        let starts = match answers {
            Some(answers) => answers.and_then(|answers| self.sort(answers)),
            None => Ok(self.all_late(&partitions)),
        };
        let assigned = match starts {
            Ok(starts) => self.assign(id, partitions, starts).await,
            Err(error) => Err(error),
        };
        self.note(assigned);
    }

    /// Nothing is known in time: they start later.
    fn all_late(&mut self, partitions: &[TopicPartition]) -> Vec<Start> {
        warn!(late = partitions.len(), "partitions start later, when their offsets are known");
        for partition in partitions {
            self.late.add(partition.clone(), None, Doubt::default());
        }
        self.ask_for_late_starts();
        Vec::new()
    }

    fn ask_for_late_starts(&mut self) {
        self.late.ask(&self.consumer, self.settings.start_from);
    }

    /// The starts that are known; the others become late.
    ///
    /// # Errors
    /// One of the answers is final.
    fn sort(&mut self, answers: Answers) -> Result<Vec<Start>> {
        let (mut starts, mut first) = (Vec::new(), None::<Error>);
        for (candidate, answer) in answers {
            let mut doubt = Doubt::default();
            match answer {
                Ok(start) => starts.push(start),
                Err(error) if doubt.asks_again(&error) => {
                    self.late.add(candidate.partition.clone(), Some(candidate), doubt);
                    first.get_or_insert(error);
                }
                Err(error) => return Err(believed(error)),
            }
        }
        if let Some(error) = first {
            let late = self.late.waiting.len();
            warn!(?error, late, "some partitions start later, when their offsets are known");
        }
        self.ask_for_late_starts();
        Ok(starts)
    }

    pub(super) async fn late_starts_found(&mut self, round: Round) {
        self.late.round = None;
        let begun = match self.late.note(round) {
            Ok(found) => self.begin_late(found).await,
            Err(error) => Err(error),
        };
        self.note(begun);
        self.ask_for_late_starts();
    }
}
