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

/// A new assignment, and where its partitions begin. `None`: there was no answer in time.
type Assigned = (RebalanceId, Vec<TopicPartition>, Option<Result<Answers>>);

/// Where partitions begin.
pub(super) enum Found {
    /// Of a new assignment, which is to be answered. Partitions without a start begin later.
    Assigned { id: RebalanceId, partitions: Vec<TopicPartition>, starts: Result<Vec<Start>> },
    /// Of partitions that were assigned without a start.
    Late(Result<Vec<Start>>),
}

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

/// The search for the starts of assigned partitions.
pub(super) struct Starts {
    consumer: Arc<dyn Consumer>,
    start_from: StartFrom,
    /// An assignment's, all at once.
    assigned: Option<BoxFuture<'static, Assigned>>,
    late: Late,
}

impl Starts {
    pub(super) fn new(consumer: Arc<dyn Consumer>, start_from: StartFrom) -> Self {
        Self { consumer, start_from, assigned: None, late: Late::default() }
    }

    /// Begins to look up where newly assigned partitions start. Brokers may take their time to answer:
    /// meanwhile the lanes that run are looked after, and only rebalances wait.
    ///
    /// Where assignments change by parts (not `replaces`), the client fetches nothing for these lanes until it has its
    /// answer, so it gets that soon.
    pub(super) fn find(
        &mut self,
        id: RebalanceId,
        partitions: Vec<TopicPartition>,
        replaces: bool,
    ) {
        let (consumer, start_from) = (self.consumer.clone(), self.start_from);
        let find = async move {
            let answers = answers(&*consumer, &partitions, start_from);
            let answers = match replaces {
                true => Some(answers.await),
                false => timeout(ANSWERED_WITHIN, answers).await.ok(),
            };
            (id, partitions, answers)
        };
        self.assigned = Some(Box::pin(find.in_current_span()));
    }

    /// Whether an assignment waits for its answer.
    pub(super) fn is_answering(&self) -> bool {
        self.assigned.is_some()
    }

    /// Another assignment comes: where the partitions of this one begin is of no interest any more.
    pub(super) fn supersede(&mut self) {
        self.assigned = None;
    }

    /// Whether partitions that are ours have not begun, because nobody could say yet where.
    pub(super) fn has_late(&self) -> bool {
        !self.late.waiting.is_empty()
    }

    /// Partitions that are ours and have not begun.
    pub(super) fn late(&self) -> impl Iterator<Item = &TopicPartition> {
        self.late.waiting.keys()
    }

    /// These partitions are not ours any more.
    pub(super) fn end(&mut self, partitions: &[TopicPartition]) {
        partitions.iter().for_each(|partition| drop(self.late.waiting.remove(partition)));
    }

    /// The next starts that are found; never done while none are looked for. Cancel-safe.
    pub(super) async fn next(&mut self) -> Found {
        let found = tokio::select! {
            biased;
            (id, partitions, answers) = answer_of(&mut self.assigned) => {
                self.assigned = None;
                let starts = match answers {
                    Some(answers) => answers.and_then(|answers| self.late.sort(answers)),
                    None => Ok(self.late.add_all(&partitions)),
                };
                Found::Assigned { id, partitions, starts }
            }
            round = answer_of(&mut self.late.round) => {
                self.late.round = None;
                Found::Late(self.late.note(round))
            }
        };
        self.late.ask(&self.consumer, self.start_from);
        found
    }
}

/// Partitions that are ours, and of which nobody could say yet where they begin.
#[derive(Default)]
struct Late {
    waiting: BTreeMap<TopicPartition, Waiting>,
    /// Asks for all that waited when it began.
    round: Option<BoxFuture<'static, Round>>,
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
    fn add(&mut self, partition: TopicPartition, candidate: Option<Candidate>, doubt: Doubt) {
        let number = self.next_number;
        self.next_number += 1;
        self.idle_rounds = 0;
        self.waiting.insert(partition, Waiting { number, candidate, doubt });
    }

    /// Nothing is known in time: they all start later.
    fn add_all(&mut self, partitions: &[TopicPartition]) -> Vec<Start> {
        warn!(late = partitions.len(), "partitions start later, when their offsets are known");
        for partition in partitions {
            self.add(partition.clone(), None, Doubt::default());
        }
        Vec::new()
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
                    self.add(candidate.partition.clone(), Some(candidate), doubt);
                    first.get_or_insert(error);
                }
                Err(error) => return Err(believed(error)),
            }
        }
        if let Some(error) = first {
            let late = self.waiting.len();
            warn!(?error, late, "some partitions start later, when their offsets are known");
        }
        Ok(starts)
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
    /// New partitions: looks up where they begin.
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
        self.starts.find(id, partitions, replaces);
    }

    pub(super) async fn starts_found(&mut self, found: Found) {
        let begun = match found {
            Found::Assigned { id, partitions, starts: Ok(starts) } => {
                self.assign(id, partitions, starts).await
            }
            Found::Late(Ok(starts)) => self.begin_late(starts).await,
            Found::Assigned { starts: Err(error), .. } | Found::Late(Err(error)) => Err(error),
        };
        self.note(begun);
    }
}
