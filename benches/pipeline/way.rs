//! How a raw loop works: what `--sweep` tries, and the best that it found.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::case::{Case, Who, Work};
use crate::common::raw::Ahead;
use crate::common::runs::Size;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Way {
    /// The most messages of one call. With 1 it is `rd_kafka_consumer_poll`.
    pub(crate) batch: usize,
    /// Batches that may wait for their acks.
    pub(crate) in_flight: usize,
    /// librdkafka copies values, and what was consumed is freed at once. Otherwise values are produced from the memory
    /// that they were fetched into, which is kept until the acks.
    pub(crate) copies: bool,
    /// The partitioner chooses by the key. Otherwise messages keep the number of their partition.
    pub(crate) partitioner: bool,
    /// Messages keep their timestamps.
    pub(crate) timestamps: bool,
    /// Fetched ahead for all partitions together.
    pub(crate) ahead_kib: usize,
    /// One fetch of a partition.
    pub(crate) fetch_kib: usize,
    /// How long the producer waits for more messages of a request.
    pub(crate) linger_ms: u32,
}

impl Way {
    /// Where a sweep begins.
    pub(crate) const FIRST: Self = Self {
        batch: 1000,
        in_flight: 1,
        copies: true,
        partitioner: false,
        timestamps: false,
        ahead_kib: 65_536,
        fetch_kib: 1024,
        linger_ms: 1,
    };

    /// The fastest, as `--sweep` found it. Fetching less ahead than the library does costs the raw loops nothing, and
    /// saves memory.
    pub(crate) fn of(case: Case) -> Self {
        let first = Self { ahead_kib: 4096, ..Self::FIRST };
        let pass_through = match case.size {
            Size::Small => Self { in_flight: 64, ..first },
            Size::Large => Self { batch: 500, in_flight: 32, copies: false, ..first },
        };
        match (case.work, case.who) {
            (Work::Consume | Work::Drain, Who::RawPoll) => Self { batch: 1, ..first },
            (Work::Consume | Work::Drain, _) => first,
            // As many as the library takes of four partitions.
            (_, Who::RawOneInFlight) => Self { batch: 4000, in_flight: 1, ..pass_through },
            // What the work is.
            (Work::Forward, _) => Self { partitioner: true, timestamps: true, ..pass_through },
            _ => pass_through,
        }
    }

    pub(crate) fn ahead(self) -> Ahead {
        Ahead { queued_kib: self.ahead_kib, fetch_kib: self.fetch_kib }
    }

    /// What a sweep tries after it has found `self`: one thing is other than in `self`, and the best of them is
    /// where the sweep goes on.
    pub(crate) fn neighbours(self, work: Work, dimension: usize) -> Option<Vec<Self>> {
        let passes_on = work.has_output();
        let ways = match dimension {
            0 if passes_on => {
                [4, 8, 16, 32, 64].map(|in_flight| Self { in_flight, ..self }).to_vec()
            }
            0 => [1, 100, 1000, 10_000].map(|batch| Self { batch, ..self }).to_vec(),
            1 => [1024, 4096, 16_384, 65_536].map(|ahead_kib| Self { ahead_kib, ..self }).to_vec(),
            2 => [64, 256, 1024].map(|fetch_kib| Self { fetch_kib, ..self }).to_vec(),
            3 if passes_on => {
                [250, 500, 1000, 2000, 4000].map(|batch| Self { batch, ..self }).to_vec()
            }
            4 if passes_on => [true, false].map(|copies| Self { copies, ..self }).to_vec(),
            5 if passes_on => {
                [false, true].map(|partitioner| Self { partitioner, ..self }).to_vec()
            }
            6 if passes_on => [1, 5, 10].map(|linger_ms| Self { linger_ms, ..self }).to_vec(),
            7 if passes_on => [false, true].map(|timestamps| Self { timestamps, ..self }).to_vec(),
            _ => return None,
        };
        Some(ways)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}, ", self.batch, self.in_flight)?;
        write!(f, "{} KiB ahead by {}, ", self.ahead_kib, self.fetch_kib)?;
        write!(f, "linger {}", self.linger_ms)?;
        let told = [
            (self.copies, "copied"),
            (self.partitioner, "partitioned"),
            (self.timestamps, "with timestamps"),
        ];
        told.iter().filter(|(is_so, _)| *is_so).try_for_each(|(_, word)| write!(f, ", {word}"))
    }
}
