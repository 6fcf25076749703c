//! How a raw loop works.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::client::Ahead;

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
    /// Messages keep their timestamps and headers.
    pub(crate) keeps_all: bool,
    /// Of so many messages, one is produced …
    pub(crate) every: u64,
    /// … so many times.
    pub(crate) times: usize,
    /// The producer compresses.
    pub(crate) lz4: bool,
    /// Fetched ahead for all partitions together.
    pub(crate) ahead_kib: usize,
    /// One fetch of a partition.
    pub(crate) fetch_kib: usize,
    /// How long the producer waits for more messages of a request.
    pub(crate) linger_ms: u32,
}

impl Way {
    /// Reading: batches of 1,000. More fetched ahead than this costs memory, and is no faster.
    pub(crate) const READ: Self = Self {
        batch: 1000,
        in_flight: 1,
        copies: true,
        partitioner: false,
        keeps_all: false,
        every: 1,
        times: 1,
        lz4: false,
        ahead_kib: 4096,
        fetch_kib: 1024,
        linger_ms: 1,
    };
    /// Passing on values of 100 B.
    pub(crate) const PASS_SMALL: Self = Self { in_flight: 64, ..Self::READ };
    /// Passing on values of 1 KiB.
    pub(crate) const PASS_LARGE: Self =
        Self { batch: 500, in_flight: 32, copies: false, ..Self::READ };

    /// As `forward` passes on.
    pub(crate) const fn forwarding(self) -> Self {
        Self { partitioner: true, keeps_all: true, ..self }
    }

    /// For so many partitions of all topics together. Found by trying: with 256, fetches of 256 KiB are faster than
    /// those of 16, 64 or 1024.
    pub(crate) fn over(self, partitions: usize) -> Self {
        Self { fetch_kib: (65_536 / partitions).min(self.fetch_kib), ..self }
    }

    pub(crate) fn ahead(self) -> Ahead {
        Ahead { queued_kib: self.ahead_kib, fetch_kib: self.fetch_kib }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}, ", self.batch, self.in_flight)?;
        write!(f, "{} KiB ahead by {}, ", self.ahead_kib, self.fetch_kib)?;
        write!(f, "linger {}", self.linger_ms)?;
        if (self.every, self.times) != (1, 1) {
            write!(f, ", of {} one {} times", self.every, self.times)?;
        }
        let told = [
            (self.copies, "copied"),
            (self.partitioner, "partitioned"),
            (self.keeps_all, "with timestamps and headers"),
            (self.lz4, "lz4"),
        ];
        told.iter().filter(|(is_so, _)| *is_so).try_for_each(|(_, word)| write!(f, ", {word}"))
    }
}
