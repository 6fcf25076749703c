//! Input topics that change while the processor runs: deleted, created again, with more partitions, or given out so
//! that this member has a part of a partition number only.
//!
//! Place in the data path: beside it. The cluster is asked at intervals. There is one question at a time, nobody
//! waits for its answer, and its failure changes nothing.
//!
//! Brokers hear of a change one after the other, and an operator changes one topic after the other. So what stops the
//! processor must be seen in several answers. Until then, partition numbers whose messages would be processed
//! without those that they belong to are paused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{Instrument as _, debug, info, warn};

use crate::broker::TopicState;
use crate::coordinator::Coordinator;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, TopicPartition};
use crate::settings::Settings;
use crate::status::{TopicChange, TopicWarning};

/// What the cluster says of the input topics, in their order.
pub(super) type Answer = Result<Vec<TopicState>>;

/// A topic, by its index, and what is wrong with it.
type Key = (usize, TopicChange);

/// The topics, by their indexes, of which a partition number is ours.
type Owned = BTreeMap<i32, BTreeSet<usize>>;

/// How often, and how soon, the first question is asked again while the cluster does not say how all topics are.
const FIRST_ATTEMPTS: usize = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Topics {
    /// As they were when they were first heard of.
    before: BTreeMap<usize, Topic>,
    /// As they were when they were last heard of; not there while one is missing.
    now: BTreeMap<usize, Topic>,
    missing: BTreeSet<usize>,
    seen: BTreeMap<Key, Seen>,
    /// Partition numbers of which nothing new is to be processed.
    held: BTreeSet<i32>,
    recreated: Vec<Arc<str>>,
    /// That topics were recreated has stopped the processor.
    is_certain: bool,
    /// The cluster has said how they are, or has failed to for a while.
    is_heard: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Topic {
    id: Option<String>,
    partitions: i32,
}

struct Seen {
    first: Instant,
    answers: u32,
    message: String,
}

impl Topics {
    pub(super) fn is_heard(&self) -> bool {
        self.is_heard
    }

    pub(super) fn holds(&self, number: i32) -> bool {
        self.held.contains(&number)
    }

    /// What is finished of a recreated topic has offsets of the old one: to commit them would have the next start
    /// skip messages of the new one.
    pub(super) fn may_commit(&self, partition: &TopicPartition) -> bool {
        !self.recreated.contains(&partition.topic)
    }

    /// Recreated topics, once that is certain: their ids are others. From now on they may be committed.
    pub(super) fn take_recreated(&mut self, settings: &Settings) -> Vec<Arc<str>> {
        let has_another_id = |name: &Arc<str>| {
            let index = settings.topics.iter().position(|topic| topic == name);
            let topic = |topics: &BTreeMap<usize, Topic>| topics.get(&index?)?.id.clone();
            topic(&self.before)
                .is_some_and(|before| topic(&self.now).is_some_and(|now| now != before))
        };
        if !self.is_certain {
            return Vec::new();
        }
        let certain: Vec<_> =
            self.recreated.iter().filter(|name| has_another_id(name)).cloned().collect();
        self.recreated.retain(|name| !certain.contains(name));
        certain
    }

    fn note(&mut self, answer: &[TopicState], settings: &Settings) {
        for (index, state) in answer.iter().enumerate() {
            match state {
                TopicState::Unknown => {}
                TopicState::Missing => {
                    self.now.remove(&index);
                    self.missing.insert(index);
                }
                TopicState::Exists { id, partitions } => {
                    self.missing.remove(&index);
                    let topic = Topic { id: id.clone(), partitions: *partitions };
                    let before = self.before.entry(index).or_insert_with(|| topic.clone());
                    let is_same = before.id.is_some() && before.id == *id;
                    if is_same && *partitions < before.partitions {
                        // Said by a broker that has not heard of the added ones.
                        continue;
                    }
                    if !settings.is_static && before.id == *id && before.partitions < *partitions {
                        let topic = &settings.topics[index];
                        let was = before.partitions;
                        info!(%topic, was, partitions, "partitions were added; the group gives them out");
                        before.partitions = *partitions;
                    }
                    self.now.insert(index, topic);
                }
            }
        }
    }

    /// Compares what is with what should be.
    fn judge(&mut self, settings: &Settings, owned: &Owned) {
        let found = self.find(settings, owned);
        for (index, change) in self.seen.keys().filter(|key| !found.contains_key(key)) {
            let topic = &settings.topics[*index];
            info!(%topic, change = change.as_str(), "no longer so");
        }
        self.seen.retain(|key, _| found.contains_key(key));
        for ((index, change), message) in found {
            let seen = self.seen.entry((index, change)).or_insert_with(|| {
                let topic = &settings.topics[index];
                warn!(%topic, change = change.as_str(), "{message}");
                Seen { first: Instant::now(), answers: 0, message: String::new() }
            });
            seen.message = message;
        }
        self.hold(settings, owned);
    }

    fn find(&self, settings: &Settings, owned: &Owned) -> BTreeMap<Key, String> {
        let deleted = |index: &usize| ((*index, TopicChange::Deleted), DELETED.to_owned());
        let mut found: BTreeMap<Key, String> = self.missing.iter().map(deleted).collect();
        for (index, now) in &self.now {
            let Some(before) = self.before.get(index) else { continue };
            if is_another(before, now) {
                found.insert((*index, TopicChange::Recreated), recreated(before, now));
            } else if before.partitions < now.partitions {
                found.insert((*index, TopicChange::PartitionsAdded), added(before, now));
            }
        }
        if settings.needs_alignment {
            if let Some(index) = self.shortest() {
                let counts = self.now.iter().map(|(index, topic)| {
                    format!("{}: {}", settings.topics[*index], topic.partitions)
                });
                let message = unaligned(&counts.collect::<Vec<_>>());
                found.insert((index, TopicChange::Unaligned), message);
            }
            for (index, numbers) in self.incomplete(owned) {
                found.insert((index, TopicChange::Incomplete), incomplete(&numbers));
            }
        }
        found
    }

    /// The topic with the fewest partitions, if another one has more.
    fn shortest(&self) -> Option<usize> {
        let (index, shortest) = self.now.iter().min_by_key(|(_, topic)| topic.partitions)?;
        let is_shorter = self.now.values().any(|topic| topic.partitions > shortest.partitions);
        is_shorter.then_some(*index)
    }

    /// The partition numbers that each topic has, and that are ours of other topics only.
    fn incomplete(&self, owned: &Owned) -> BTreeMap<usize, Vec<i32>> {
        let mut incomplete: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
        for (number, topics) in owned {
            let has_number = self.now.iter().filter(|(_, topic)| topic.partitions > *number);
            for (index, _) in has_number.filter(|(index, _)| !topics.contains(index)) {
                incomplete.entry(*index).or_default().push(*number);
            }
        }
        incomplete
    }

    fn hold(&mut self, settings: &Settings, owned: &Owned) {
        self.held.clear();
        self.recreated.clear();
        for (index, change) in self.seen.keys() {
            match change {
                TopicChange::Unaligned => self.held.extend(owned.keys()),
                TopicChange::Recreated => {
                    self.recreated.push(settings.topics[*index].clone());
                    let with = owned.iter().filter(|(_, topics)| topics.contains(index));
                    self.held.extend(with.map(|(number, _)| *number));
                }
                TopicChange::Deleted | TopicChange::Incomplete | TopicChange::PartitionsAdded => {}
            }
        }
        if settings.needs_alignment {
            self.held.extend(self.incomplete(owned).into_values().flatten());
        }
    }

    /// Counts an answer that all this was seen in, and returns what has now been seen for long enough.
    fn confirm(&mut self, answer: &[TopicState], settings: &Settings) -> Result<()> {
        let mut first = Ok(());
        for ((index, change), seen) in &mut self.seen {
            if answer.get(*index).is_none_or(|state| *state == TopicState::Unknown) {
                continue;
            }
            seen.answers += 1;
            let Some((kind, answers)) = failure(*change) else { continue };
            if seen.answers >= answers {
                self.is_certain |= *change == TopicChange::Recreated;
                let error = Error::new(kind, seen.message.clone());
                first = first.and(Err(error.with("topic", &settings.topics[*index])));
            }
        }
        first
    }

    fn warnings(&self, settings: &Settings) -> Vec<(TopicWarning, Instant)> {
        let seen = self.seen.iter().map(|((index, change), seen)| {
            let warning = TopicWarning {
                topic: settings.topics[*index].clone(),
                change: *change,
                message: seen.message.clone(),
                since: seen.first.elapsed(),
            };
            (warning, seen.first)
        });
        seen.collect()
    }
}

/// The error that stops the processor, and how many answers must have seen its reason: the first, and one for each
/// interval that it must last.
fn failure(change: TopicChange) -> Option<(ErrorKind, u32)> {
    match change {
        TopicChange::Deleted => Some((ErrorKind::UnknownTopic, 4)),
        // Another id is another topic, unless the answer came from a broker that lags behind.
        TopicChange::Recreated => Some((ErrorKind::OffsetOutOfRange, 2)),
        TopicChange::Unaligned | TopicChange::Incomplete => Some((ErrorKind::Config, 4)),
        TopicChange::PartitionsAdded => None,
    }
}

fn says_all(answer: &Answer) -> bool {
    answer.as_ref().is_ok_and(|states| !states.contains(&TopicState::Unknown))
}

/// The id says so. Without one, of an old broker: partitions are never taken away from a topic.
fn is_another(before: &Topic, now: &Topic) -> bool {
    match (&before.id, &now.id) {
        (Some(before), Some(now)) => before != now,
        _ => now.partitions < before.partitions,
    }
}

const DELETED: &str = "the topic no longer exists on the cluster: create it again, or take it out of the processor's \
    input topics, and start again";

fn recreated(before: &Topic, now: &Topic) -> String {
    let id = |topic: &Topic| topic.id.clone().unwrap_or_else(|| "not known".to_owned());
    format!(
        "the topic was deleted and created again (its id was {}, and is {}), so its offsets begin anew: start again to \
         process the new one from offset 0, to which this process has set back what the group has committed for its \
         partitions; or set the group's offsets of the topic yourself before",
        id(before),
        id(now)
    )
}

fn added(before: &Topic, now: &Topic) -> String {
    format!(
        "the topic had {} partitions and has {}: the new ones are not processed unless `partitions` names them",
        before.partitions, now.partitions
    )
}

fn unaligned(counts: &[String]) -> String {
    format!(
        "the input topics have differing partition counts ({}), so the group gives the same partition number of two \
         topics to different members: give them the same count, or call `allow_unaligned_topics` if there is nothing \
         to join",
        counts.join(", ")
    )
}

fn incomplete(numbers: &[i32]) -> String {
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    format!(
        "this member has partition {} of other input topics, and not of this one: members of the group have different \
         input topics, or there is another assignor than `range`; stop all members and start them with the same \
         topics, or call `allow_unaligned_topics` if there is nothing to join",
        numbers.join(", ")
    )
}

impl Coordinator {
    /// Asks how the input topics are, unless the last question is still on its way.
    pub(super) fn ask_for_topics(&mut self) {
        if self.topic_states.is_none() {
            let (consumer, is_first) = (self.consumer.clone(), !self.topics.is_heard);
            let ask = async move {
                let mut answer = consumer.topics().await;
                for _ in 1..FIRST_ATTEMPTS {
                    if !is_first || says_all(&answer) {
                        break;
                    }
                    sleep(FIRST_PAUSE).await;
                    answer = consumer.topics().await;
                }
                answer
            };
            self.topic_states = Some(Box::pin(ask.in_current_span()));
        }
    }

    pub(super) fn note_topics(&mut self, answer: Answer) {
        self.topic_states = None;
        self.topics.is_heard = true;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                debug!(?error, "the state of the input topics is not known; asking again later");
                return;
            }
        };
        self.topics.note(&answer, &self.settings);
        self.judge();
        let confirmed = self.topics.confirm(&answer, &self.settings);
        self.note(confirmed);
    }

    /// Before the last commit. Messages of a recreated topic may have been taken from the old one's offset on until that
    /// was noticed, and that offset was committed: the next start would skip what is before it.
    pub(super) fn set_back_recreated(&mut self) {
        let recreated = self.topics.take_recreated(&self.settings);
        let owned: Vec<TopicPartition> = self.committer.owned().cloned().collect();
        for partition in owned.into_iter().filter(|p| recreated.contains(&p.topic)) {
            warn!(%partition, "what the group has committed is set back to offset 0 of the new topic");
            self.committer.begin(partition, Offset::new(0), None);
        }
    }

    /// When partitions have come or gone: whether numbers are whole, and what is to be paused.
    pub(super) fn judge_alignment(&mut self) {
        if self.settings.needs_alignment || !self.topics.seen.is_empty() {
            self.judge();
        }
    }

    fn judge(&mut self) {
        let mut owned = Owned::new();
        let running = self.lanes.iter().flat_map(|(number, lane)| {
            let status = lane.progress().status();
            let topics = status.topics.iter().map(|topic| (number, usize::from(topic.topic)));
            topics.collect::<Vec<_>>()
        });
        let late = self.starts.late().filter_map(|partition| {
            let topic = self.settings.topic_index(&partition.topic)?;
            Some((partition.number, usize::from(topic)))
        });
        for (number, topic) in running.chain(late) {
            owned.entry(number).or_default().insert(topic);
        }
        self.topics.judge(&self.settings, &owned);
        let warnings = self.topics.warnings(&self.settings);
        let changes: Vec<_> =
            warnings.iter().map(|(warning, _)| (warning.topic.clone(), warning.change)).collect();
        self.topic_gauges.set(&changes);
        self.board.set_topic_warnings(warnings);
    }
}
