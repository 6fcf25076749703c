//! How a processor went lately, from a look once a second: rates, and the last minutes of rate and lag for the charts.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use tokio::time::Instant;

use crate::message::{Offset, TopicPartition};
use crate::status::Status;

/// Rates are over so many intervals: long enough to be read, short enough to show a change.
const WINDOW: usize = 5;

/// What charts begin with: two minutes.
const HISTORY: usize = 120;

/// Its last looks, and what follows from them.
#[derive(Default)]
pub(super) struct Lately {
    looks: VecDeque<Look>,
    pub(super) rates: Rates,
    pub(super) history: History,
}

/// What rates are computed from.
struct Look {
    at: Instant,
    messages: u64,
    next: BTreeMap<TopicPartition, (u64, Offset)>,
}

/// Per second; `None` where only one look has seen it.
#[derive(Default, Clone)]
pub(super) struct Rates {
    pub(super) messages: Option<f64>,
    partitions: BTreeMap<TopicPartition, f64>,
}

impl Rates {
    pub(super) fn of(&self, partition: &TopicPartition) -> Option<f64> {
        self.partitions.get(partition).copied()
    }
}

/// The oldest first, one a second.
#[derive(Default, Clone, Serialize)]
pub(super) struct History {
    pub(super) rate: VecDeque<f64>,
    pub(super) lag: VecDeque<u64>,
}

impl Lately {
    pub(super) fn look(&mut self, status: &Status, at: Instant) {
        let next = status.partitions.iter();
        let next = next.map(|p| (p.partition.clone(), (p.epoch, p.next_offset))).collect();
        let look = Look { at, messages: status.messages, next };
        self.rates = self.rates_until(&look);
        self.looks.push_back(look);
        if self.looks.len() > WINDOW {
            self.looks.pop_front();
        }
        let History { rate, lag } = &mut self.history;
        rate.push_back(self.rates.messages.unwrap_or(0.0));
        lag.push_back(status.partitions.iter().map(|partition| partition.lag).sum());
        if rate.len() > HISTORY {
            rate.pop_front();
            lag.pop_front();
        }
    }

    fn rates_until(&self, now: &Look) -> Rates {
        let per_second = |count: f64, since: &Look| {
            // Two looks at the same moment tell nothing.
            let seconds = now.at.duration_since(since.at).as_secs_f64();
            (seconds > 0.0).then(|| (count / seconds * 10.0).round() / 10.0)
        };
        let messages = self.looks.front().and_then(|first| {
            per_second(now.messages.saturating_sub(first.messages) as f64, first)
        });
        // A partition that came meanwhile, or came again, is compared with its own first look.
        let partitions = now.next.iter().filter_map(|(partition, (epoch, next))| {
            let mut looks = self.looks.iter();
            let (first, from) = looks.find_map(|look| match look.next.get(partition) {
                Some((seen, offset)) if seen == epoch => Some((look, offset)),
                _ => None,
            })?;
            let count = next.get().saturating_sub(from.get()).max(0);
            Some((partition.clone(), per_second(count as f64, first)?))
        });
        Rates { messages, partitions: partitions.collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::status::{PartitionState, PartitionStatus, ProcessorState};

    const INTERVAL: Duration = Duration::from_secs(1);

    fn partition() -> TopicPartition {
        TopicPartition::new("in", 0)
    }

    fn status(messages: u64, epoch: u64, next: i64) -> Status {
        let partition = PartitionStatus {
            partition: partition(),
            state: PartitionState::Running,
            epoch,
            next_offset: Offset::new(next),
            end_offset: Offset::new(1000),
            committed_offset: None,
            committed_lag: 0,
            lag: 7,
            buffered_bytes: 0,
            quarantined_keys: 0,
            in_flight: 0,
            last_progress: Duration::ZERO,
            stalled: false,
            retrying: None,
            last_error: None,
        };
        Status {
            state: ProcessorState::Running,
            settled: true,
            paused: false,
            failure: None,
            topics: Vec::new(),
            target_missed: None,
            partitions: vec![partition],
            messages,
            batches: 0,
            bytes: 0,
            rejected: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_over_the_window_and_within_an_epoch() {
        let (start, mut lately) = (Instant::now(), Lately::default());
        let mut look = |second: u32, messages, epoch, next| {
            lately.look(&status(messages, epoch, next), start + INTERVAL * second);
            (lately.rates.messages, lately.rates.of(&partition()))
        };
        assert_eq!(look(0, 0, 1, 100), (None, None), "one look is not enough");
        assert_eq!(look(1, 10, 1, 120), (Some(10.0), Some(20.0)));
        assert_eq!(look(2, 10, 1, 120), (Some(5.0), Some(10.0)));
        // Assigned again, further back: neither negative nor of what another did meanwhile.
        assert_eq!(look(3, 16, 2, 40), (Some(5.3), None));
        assert_eq!(look(4, 16, 2, 43), (Some(4.0), Some(3.0)));
        assert_eq!(look(5, 20, 2, 44), (Some(4.0), Some(2.0)));
        // The first second is forgotten.
        assert_eq!(look(6, 20, 2, 44), (Some(2.0), Some(1.3)));
        assert_eq!(lately.history.lag, [7; 7]);
    }

    #[tokio::test(start_paused = true)]
    async fn history_is_bounded() {
        let (start, mut lately) = (Instant::now(), Lately::default());
        for second in 0..125 {
            lately.look(&status(u64::from(second), 1, 0), start + INTERVAL * second);
        }
        assert_eq!((lately.history.rate.len(), lately.history.lag.len()), (HISTORY, HISTORY));
        assert_eq!(lately.history.rate.back(), Some(&1.0));
        assert_eq!(lately.looks.len(), WINDOW);
    }
}
