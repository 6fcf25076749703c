//! What is measured: the table of all cases.

use std::fmt;

use crate::common::runs;

/// Of each topic.
pub(crate) const PARTITIONS: usize = 4;

/// Of each message.
pub(crate) const VALUE_BYTES: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    /// Read everything, sum up the sizes.
    Consume,
    /// Produce each message again, to another topic; all acked; offsets committed.
    PassThrough,
    /// Count the messages by their keys, with the counts in a store.
    Count,
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Ours,
    /// A loop on librdkafka's C functions.
    Raw,
    /// A loop in Go on franz-go.
    FranzGo,
    KafkaStreams,
    /// A processor in Go.
    Goka,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) work: Work,
    pub(crate) who: Who,
}

impl Case {
    /// Every case, those with the same work one after the other.
    pub(crate) fn all() -> Vec<Self> {
        let of = |work| Who::ALL.map(|who| Self { work, who });
        Work::ALL.into_iter().flat_map(of).filter(|case| case.who.does(case.work)).collect()
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|case| case.to_string() == name)
    }
}

impl runs::Case for Case {
    /// Here everybody is measured against the library.
    fn ceiling(self) -> Option<Self> {
        (self.who != Who::Ours).then_some(Self { who: Who::Ours, ..self })
    }

    fn is_like(self, other: Self) -> bool {
        self.work == other.work
    }
}

impl Work {
    pub(crate) const ALL: [Self; 3] = [Self::Consume, Self::PassThrough, Self::Count];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Consume => "consume",
            Self::PassThrough => "pass-through",
            Self::Count => "count",
        }
    }

    /// How many messages a run takes: enough for seconds, or a fifth of that.
    pub(crate) fn messages(self, quick: bool) -> u64 {
        let full = match self {
            Self::Consume => 5_000_000,
            Self::PassThrough => 1_500_000,
            Self::Count => 3_000_000,
        };
        if quick { full / 5 } else { full }
    }
}

impl Who {
    pub(crate) const ALL: [Self; 5] =
        [Self::Raw, Self::Ours, Self::FranzGo, Self::KafkaStreams, Self::Goka];

    /// goka's processors emit or keep a table: it does not take part where messages are only read.
    pub(crate) fn does(self, work: Work) -> bool {
        (self, work) != (Self::Goka, Work::Consume)
    }

    /// How often a run does the work before it counts: a JVM compiles a program while it runs, which takes seconds,
    /// and a service runs for long.
    pub(crate) fn warm_ups(self, quick: bool) -> u64 {
        match self {
            Self::KafkaStreams if quick => 3,
            Self::KafkaStreams => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.work.label(), self.who)
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "ours",
            Self::Raw => "raw",
            Self::FranzGo => "franz-go",
            Self::KafkaStreams => "kafka-streams",
            Self::Goka => "goka",
        })
    }
}
