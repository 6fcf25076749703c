//! What is measured: the table of all cases.

use std::fmt;

use crate::common::runs::{self, Size};

/// Of each topic.
pub(crate) const PARTITIONS: usize = 4;

/// What the messages go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Read everything, look at each message's size.
    Consume,
    /// Produce each message again, to the same partition of another topic; all acked; offsets committed.
    PassThrough,
    /// The same with timestamps kept, to the partition that the partitioner chooses by the key.
    Forward,
    /// Pass through what a producer sends at a steady rate.
    Latency(PerSecond),
    /// Read to the end where partitions run dry one after the other.
    Drain,
    /// Count the messages by their keys in the memory of the process; only for instructions, and without a raw loop,
    /// whose batches, and with them the number of keys in a batch, depend on how slow valgrind is.
    Count,
}

/// How many messages a producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PerSecond {
    Thousand,
    TenThousand,
    HundredThousand,
}

impl PerSecond {
    pub(crate) fn messages(self) -> u32 {
        match self {
            Self::Thousand => 1_000,
            Self::TenThousand => 10_000,
            Self::HundredThousand => 100_000,
        }
    }
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// `rd_kafka_consumer_poll`, message by message.
    RawPoll,
    /// `rd_kafka_consume_batch_queue`; when passing through, many batches in flight.
    RawBatches,
    /// The same with one batch in flight.
    RawOneInFlight,
    Ours {
        group: bool,
        one_in_flight: bool,
    },
    /// Static partitions, with a recorder for Prometheus; compared with the same without.
    OursWithMetrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) work: Work,
    pub(crate) size: Size,
    pub(crate) who: Who,
}

impl Case {
    /// Every case, in groups of the same work and size: those that are compared run one after the
    /// other.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (work, sizes) in [
            (Work::Consume, &[Size::Small, Size::Large][..]),
            (Work::PassThrough, &[Size::Small, Size::Large]),
            (Work::Forward, &[Size::Small, Size::Large]),
            (Work::Latency(PerSecond::Thousand), &[Size::Small]),
            (Work::Latency(PerSecond::TenThousand), &[Size::Small]),
            (Work::Latency(PerSecond::HundredThousand), &[Size::Small]),
            (Work::Drain, &[Size::Large]),
        ] {
            for size in sizes {
                all.extend(work.contestants().iter().map(|who| Self {
                    work,
                    size: *size,
                    who: *who,
                }));
            }
        }
        all
    }

    /// Those whose instructions are counted, in such groups too.
    pub(crate) fn counted() -> Vec<Self> {
        let ours = Who::Ours { group: false, one_in_flight: false };
        let of_both = |work| [(work, Who::RawBatches), (work, ours)];
        let mut all = vec![(Work::Count, ours)];
        all.extend([Work::Consume, Work::PassThrough, Work::Forward].into_iter().flat_map(of_both));
        all.into_iter().map(|(work, who)| Self { work, size: Size::Small, who }).collect()
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut all = Self::all().into_iter().chain(Self::counted());
        all.find(|case| case.to_string() == name)
    }

    /// How many messages a run takes: enough for 1 to 3 seconds, or a fifth of that.
    pub(crate) fn messages(self, quick: bool) -> u64 {
        let full = match (self.work, self.size) {
            (Work::Consume | Work::Count, Size::Small) => 5_000_000,
            (Work::Consume | Work::Count, Size::Large) => 1_500_000,
            (Work::PassThrough | Work::Forward, Size::Small) => 4_000_000,
            (Work::PassThrough | Work::Forward, Size::Large) => 500_000,
            (Work::Drain, _) => return 40_000,
            (Work::Latency(_), _) => return 0,
        };
        if quick { full / 5 } else { full }
    }

    /// What tells the topics apart that are read: the work, and the size of the values.
    pub(crate) fn input(self) -> (&'static str, &'static str) {
        (self.work.label(), self.size.label())
    }

    /// The messages of each partition.
    pub(crate) fn spread(self, quick: bool) -> [u64; PARTITIONS] {
        let messages = self.messages(quick);
        match self.work {
            Work::Drain => [messages / 2, messages / 10 * 3, messages / 5, 0],
            _ => [messages / PARTITIONS as u64; PARTITIONS],
        }
    }
}

impl runs::Case for Case {
    fn ceiling(self) -> Option<Self> {
        let who = match self.who {
            _ if self.work == Work::Count => return None,
            Who::Ours { one_in_flight: true, .. } if self.work.has_output() => Who::RawOneInFlight,
            Who::Ours { .. } => Who::RawBatches,
            Who::OursWithMetrics => Who::Ours { group: false, one_in_flight: false },
            _ => return None,
        };
        Some(Self { who, ..self })
    }

    fn is_like(self, other: Self) -> bool {
        (self.work, self.size) == (other.work, other.size)
    }
}

impl Work {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Consume => "consume",
            Self::PassThrough => "pass-through",
            Self::Forward => "forward",
            Self::Latency(PerSecond::Thousand) => "latency-1k",
            Self::Latency(PerSecond::TenThousand) => "latency-10k",
            Self::Latency(PerSecond::HundredThousand) => "latency-100k",
            Self::Drain => "drain",
            Self::Count => "count",
        }
    }

    pub(crate) fn has_output(self) -> bool {
        matches!(self, Self::PassThrough | Self::Forward | Self::Latency(_))
    }

    fn contestants(self) -> &'static [Who] {
        const STATIC: Who = Who::Ours { group: false, one_in_flight: false };
        const GROUP: Who = Who::Ours { group: true, one_in_flight: false };
        const STATIC_1: Who = Who::Ours { group: false, one_in_flight: true };
        const GROUP_1: Who = Who::Ours { group: true, one_in_flight: true };
        const METRICS: Who = Who::OursWithMetrics;
        const RAW: Who = Who::RawBatches;
        match self {
            Self::Consume => &[Who::RawPoll, METRICS, STATIC, RAW, GROUP, STATIC_1, GROUP_1],
            Self::PassThrough => {
                &[METRICS, STATIC, RAW, GROUP, STATIC_1, Who::RawOneInFlight, GROUP_1]
            }
            Self::Forward | Self::Latency(_) | Self::Drain => &[STATIC, Who::RawBatches, GROUP],
            Self::Count => &[STATIC],
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.work.label(), self.size.label(), self.who)
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RawPoll => f.write_str("raw-poll"),
            Self::RawBatches => f.write_str("raw"),
            Self::RawOneInFlight => f.write_str("raw-1"),
            Self::OursWithMetrics => f.write_str("ours-metrics"),
            Self::Ours { group, one_in_flight } => {
                f.write_str(if *group { "ours-group" } else { "ours-static" })?;
                f.write_str(if *one_in_flight { "-1" } else { "" })
            }
        }
    }
}
