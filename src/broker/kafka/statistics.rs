//! What librdkafka's statistics say about the fetch positions.
//!
//! Place in the data path: beside it. The control thread turns each statistics event into an
//! [`Event::Positions`] and an [`Event::Settled`].
//!
//! librdkafka's `next_offset` is copied from the fetcher's position between two fetches. The
//! fetcher moves that position only after the messages below it have been put into the queue, so
//! a position never runs ahead of its messages. But the copy may be *old*: after an assignment or a
//! seek it stays as it was until the fetcher's next round, and so would say "at the end" of a
//! partition that has just been sent back. Hence [`Freshness`]: a position counts only with
//! evidence that it belongs to the current assignment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ffi::Client;
use super::report::{Partition, Statistics};
use crate::broker::{Event, FetchPosition, POSITIONS_SETTLE};
use crate::message::{Offset, TopicPartition};

/// Twice the brokers' default heartbeat interval: others had the time to give partitions up for us.
const MAY_GET_SOME: Duration = Duration::from_secs(10);

/// The assigned partitions, and since when they are read from where they are read.
#[derive(Default)]
pub(super) struct Assigned {
    partitions: HashMap<Arc<str>, HashMap<i32, Freshness>>,
    count: usize,
}

#[derive(Clone, Copy)]
struct Freshness {
    since: Instant,
    began: Began,
}

/// How fetching of a partition began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Began {
    Assigned,
    Sought,
    /// What had been fetched was dropped, to be fetched again from what the reader had.
    Purged,
}

impl Assigned {
    pub(super) fn add(&mut self, partition: &TopicPartition, since: Instant) {
        self.set(partition, Freshness { since, began: Began::Assigned });
    }

    pub(super) fn remove(&mut self, partition: &TopicPartition) {
        if let Some(topic) = self.partitions.get_mut(&partition.topic) {
            self.count -= usize::from(topic.remove(&partition.number).is_some());
        }
    }

    pub(super) fn clear(&mut self) {
        self.partitions.clear();
        self.count = 0;
    }

    pub(super) fn sought(&mut self, partition: &TopicPartition, since: Instant) {
        self.set(partition, Freshness { since, began: Began::Sought });
    }

    /// All that are assigned.
    pub(super) fn all_sought(&mut self, since: Instant) {
        self.set_all(Freshness { since, began: Began::Sought });
    }

    /// What was fetched of all partitions is dropped.
    pub(super) fn all_purged(&mut self, since: Instant) {
        self.set_all(Freshness { since, began: Began::Purged });
    }

    fn set_all(&mut self, freshness: Freshness) {
        self.partitions.values_mut().flat_map(HashMap::values_mut).for_each(|f| *f = freshness);
    }

    fn set(&mut self, partition: &TopicPartition, freshness: Freshness) {
        let topic = self.partitions.entry(Arc::clone(&partition.topic)).or_default();
        self.count += usize::from(topic.insert(partition.number, freshness).is_none());
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }
}

impl Freshness {
    /// Whether a position seen at `taken` belongs to the current assignment.
    ///
    /// librdkafka forgets `app_offset` when a partition is stopped or sought, and sets it when it
    /// hands a message out; and it forgets `eof_offset` when a partition is started, and sets it
    /// when a fetch finds the end. Either proves that the fetcher has been at work since.
    /// Where only time has passed, the fetcher must have had its rounds: of a partition without a broker it has none,
    /// nor while its broker's thread waits for a connection or a name server. `heard` is when each broker that is
    /// connected has last answered.
    fn holds(
        self,
        partition: &Partition<'_>,
        heard: &HashMap<i32, Instant>,
        taken: Instant,
    ) -> bool {
        if taken < self.since {
            return false;
        }
        let is_fetched = partition.fetch_state == "active"
            && partition.broker >= 0
            && heard.get(&partition.broker).is_some_and(|heard| *heard > self.since);
        let settled = taken - self.since >= POSITIONS_SETTLE && is_fetched;
        let (app, end) = (partition.app_offset >= 0, partition.eof_offset >= 0);
        match self.began {
            Began::Assigned => app || end,
            Began::Sought => app || (settled && end),
            Began::Purged => settled && (app || end),
        }
    }
}

/// How partitions change hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Nobody's: the partitions are static.
    None,
    /// At a rebalance everything is given back.
    Eager,
    /// Only what moves is given back.
    Cooperative,
    /// KIP-848.
    Consumer,
}

impl Protocol {
    pub(super) fn of(client: &Client) -> Self {
        let assignors = client.property("partition.assignment.strategy");
        if client.property("group.protocol") == "consumer" {
            Self::Consumer
        } else if assignors.split(',').any(|one| one.trim() == "cooperative-sticky") {
            Self::Cooperative
        } else {
            Self::Eager
        }
    }
}

/// How to read the statistics of this client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) read_committed: bool,
    pub(super) protocol: Protocol,
    /// Just before the client began to count its age.
    pub(super) created: Instant,
}

impl Reading {
    pub(super) fn parse(json: &[u8]) -> Option<Statistics<'_>> {
        let statistics = serde_json::from_slice(json);
        let failed = |error| tracing::debug!(%error, "librdkafka's statistics could not be read");
        statistics.map_err(failed).ok()
    }

    /// The events that a statistics event stands for. `memory` says what so many messages of a partition number take,
    /// with values of so many bytes.
    pub(super) fn events(
        self,
        statistics: &Statistics<'_>,
        assigned: &Assigned,
        memory: impl Fn(i32, u64, u64) -> u64,
    ) -> Vec<Event> {
        let age = Duration::from_micros(u64::try_from(statistics.age).unwrap_or(0));
        let taken = self.created + age;
        let positions = self.positions(statistics, assigned, taken, memory);
        let mut events = vec![Event::Positions { taken: taken.into(), positions }];
        events
            .extend(self.settled(statistics, assigned).map(|assigned| Event::Settled { assigned }));
        events
    }

    /// Statistics overtake a rebalance in librdkafka's queue: while one waits for its answer, nothing is known of what
    /// was fetched.
    fn positions(
        self,
        statistics: &Statistics<'_>,
        assigned: &Assigned,
        taken: Instant,
        memory: impl Fn(i32, u64, u64) -> u64,
    ) -> Vec<FetchPosition> {
        let group = statistics.cgrp.as_ref();
        let is_steady = group.is_none_or(|group| group.join_state == "steady");
        let is_steady = self.protocol == Protocol::None || is_steady;
        let heard = last_answers(statistics, taken);
        let mut positions = Vec::with_capacity(assigned.len());
        for (topic, partitions) in &assigned.partitions {
            let Some(seen) = statistics.topics.get(&**topic) else { continue };
            for (number, freshness) in partitions {
                let Some(seen) = seen.partitions.get(number) else { continue };
                if freshness.holds(seen, &heard, taken) {
                    let end = if self.read_committed { seen.ls_offset } else { seen.hi_offset };
                    positions.push(FetchPosition {
                        partition: TopicPartition::new(Arc::clone(topic), *number),
                        fetched: offset(seen.next_offset).filter(|_| is_steady),
                        end: offset(end),
                        // Those of the queue which it is forwarded to.
                        queued_bytes: memory(*number, seen.fetchq_cnt, seen.fetchq_size),
                    });
                }
            }
        }
        positions
    }

    /// The number of assigned partitions, if the assignment stands. A static consumer joins no
    /// group, so librdkafka counts nothing for it.
    fn settled(self, statistics: &Statistics<'_>, assigned: &Assigned) -> Option<usize> {
        if self.protocol == Protocol::None {
            return (assigned.len() > 0).then_some(assigned.len());
        }
        let group = statistics.cgrp.as_ref()?;
        let lasts = |age: i64| u128::try_from(age).is_ok_and(|age| age >= MAY_GET_SOME.as_millis());
        // With KIP-848 a member that never got a partition stays in its first state; so does one
        // that has not been heard by the group yet, but not for long.
        let never_got_any = self.protocol == Protocol::Consumer
            && group.state == "up"
            && group.join_state == "init"
            && lasts(group.stateage);
        // Others may be giving partitions up for this one.
        let since = if group.rebalance_cnt == 0 { group.stateage } else { group.rebalance_age };
        let may_get_some =
            self.protocol != Protocol::Eager && group.assignment_size == 0 && !lasts(since);
        let settled = (group.join_state == "steady" && !may_get_some) || never_got_any;
        settled.then(|| usize::try_from(group.assignment_size).ok()).flatten()
    }
}

/// When each broker that is connected has last answered, by its id. Connections without one (to the group's coordinator,
/// to an address of `brokers`) are not fetched from.
fn last_answers(statistics: &Statistics<'_>, taken: Instant) -> HashMap<i32, Instant> {
    let brokers = statistics.brokers.values();
    let connected = brokers.filter(|broker| broker.state == "UP" && broker.nodeid >= 0);
    let heard = connected.filter_map(|broker| {
        let idle = Duration::from_micros(u64::try_from(broker.rxidle).ok()?);
        Some((broker.nodeid, taken.checked_sub(idle)?))
    });
    heard.collect()
}

/// An offset, unless the number stands for "none".
fn offset(number: i64) -> Option<Offset> {
    (number >= 0).then_some(Offset::new(number))
}

#[cfg(test)]
mod tests {
    use super::super::report::Broker;
    use super::*;

    #[test]
    fn a_position_from_before_is_not_believed_of_a_broker_that_has_not_answered_since() {
        let since = Instant::now();
        let taken = since + 2 * POSITIONS_SETTLE;
        let purged = Freshness { since, began: Began::Purged };
        let partition = Partition {
            broker: 1,
            fetch_state: "active".into(),
            app_offset: 7,
            eof_offset: 8,
            ..Partition::default()
        };
        let holds = |heard: &[(i32, Instant)]| {
            purged.holds(&partition, &heard.iter().copied().collect(), taken)
        };
        assert!(holds(&[(1, taken)]));
        assert!(!holds(&[(1, since)]), "connected, and silent");
        assert!(!holds(&[(2, taken)]), "another one");
        assert!(!holds(&[]), "not connected");
        let partition = Partition { broker: -1, ..partition.clone() };
        let heard = HashMap::from([(-1, taken)]);
        assert!(!purged.holds(&partition, &heard, taken), "nobody's");
    }

    #[test]
    fn a_broker_that_is_not_connected_has_not_answered() {
        let taken = Instant::now() + POSITIONS_SETTLE;
        let broker =
            |nodeid, state: &'static str, rxidle| Broker { nodeid, state: state.into(), rxidle };
        let brokers = [
            broker(1, "UP", 500_000),
            broker(2, "TRY_CONNECT", 500_000),
            broker(3, "UP", -1),
            broker(-1, "UP", 1),
        ];
        let brokers = brokers.map(|broker| (broker.nodeid.to_string(), broker));
        let statistics = Statistics { brokers: HashMap::from(brokers), ..Statistics::default() };
        let heard = last_answers(&statistics, taken);
        assert_eq!(heard, HashMap::from([(1, taken - Duration::from_millis(500))]));
    }
}
