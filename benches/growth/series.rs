//! What grows: the table of all series and their steps.

use std::time::Duration;

/// Of each message.
pub(crate) const VALUE_BYTES: usize = 100;

/// The library's default of `max_batch_messages`.
pub(crate) const MAX_BATCH_MESSAGES: usize = 10_000;

/// One thing that grows, step by step, while everything else stays.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) told: Told,
    pub(crate) contestants: &'static [Who],
    pub(crate) steps: &'static [Step],
}

/// Which figures are told of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// CPU, beside that of the first step.
    Growth,
    /// Throughput and CPU, beside raw.
    BesideRaw,
    /// Throughput and CPU, beside those of the first step.
    Rejected,
    /// Throughput, beside what is possible.
    Sleep,
    /// CPU of a process that has nothing to do.
    Idle,
    /// How long it takes to begin.
    Start,
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// A loop on librdkafka's C functions.
    Raw,
    /// The library, with static partitions.
    Ours,
    /// The same, sending values that are made for it.
    OursOwned,
    /// The library in a group.
    OursGroup,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) label: &'static str,
    pub(crate) input: Input,
    pub(crate) act: Act,
}

/// What is read. Cases with the same input read the same topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Input {
    pub(crate) topics: usize,
    /// Of each topic.
    pub(crate) partitions: usize,
    /// Of all topics together.
    messages: u64,
    /// A quick run has a fifth of them.
    shrinks: bool,
    pub(crate) key_bytes: usize,
    pub(crate) headers: usize,
    /// Compressible values, in batches that the producer has compressed.
    pub(crate) lz4: bool,
}

/// What is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Read,
    /// Send each message to the same partition of another topic.
    PassThrough,
    /// The same with headers and timestamps kept, to the partition that its key says.
    Forward,
    /// Of so many messages, send one so many times.
    Multiply {
        every: u64,
        times: usize,
    },
    /// Pass through, with a dead letter topic; one message in a thousand is rejected.
    Reject(Rejects),
    /// Sleep for each batch.
    Sleep(Duration),
    /// Be there for some seconds.
    Idle,
    /// Read, with the time that it takes to connect.
    Start,
}

/// How a processor rejects messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejects {
    Nothing,
    /// It writes the letters.
    Letters,
    /// Its errors name the messages.
    Named,
    /// Its errors name nothing: the library looks for the messages.
    Unnamed,
}

impl Act {
    pub(crate) fn has_output(self) -> bool {
        matches!(self, Self::PassThrough | Self::Forward | Self::Multiply { .. } | Self::Reject(_))
    }
}

impl Input {
    /// Of all topics together.
    pub(crate) fn messages(self, quick: bool) -> u64 {
        if quick && self.shrinks { self.messages / 5 } else { self.messages }
    }

    /// How many messages go out where so many come in.
    pub(crate) fn outputs(self, act: Act, quick: bool) -> u64 {
        match act {
            Act::Multiply { every, times } => self.messages(quick) / every * times as u64,
            _ => self.messages(quick),
        }
    }
}

impl Series {
    pub(crate) const ALL: &[Self] = &[
        PARTITIONS_CONSUME,
        PARTITIONS_PASS,
        TOPICS,
        KEYS,
        HEADERS,
        OUTPUTS,
        LZ4,
        REJECTED,
        SLEEP,
        IDLE,
        START,
    ];
}

const RAW_AND_OURS: &[Who] = &[Who::Raw, Who::Ours];
const ALSO_GROUP: &[Who] = &[Who::Raw, Who::Ours, Who::OursGroup];

/// Enough for a second.
const READ: Input = Input {
    topics: 1,
    partitions: 4,
    messages: 4_000_000,
    shrinks: true,
    key_bytes: 8,
    headers: 0,
    lz4: false,
};
/// The same where each is passed on. The partitions of all steps divide it.
const PASS: Input = Input { messages: 1_024_000, ..READ };
/// As many as take seconds: what a process takes once, such as the first use of its memory, is a small part.
const PASS_MANY: Input = Input { messages: 4_096_000, ..READ };

const fn step(label: &'static str, input: Input, act: Act) -> Step {
    Step { label, input, act }
}

const PARTITIONS_CONSUME: Series = Series {
    name: "partitions/consume",
    title: "consume, by partitions",
    told: Told::Growth,
    contestants: RAW_AND_OURS,
    steps: &[
        step("4", READ, Act::Read),
        step("32", Input { partitions: 32, ..READ }, Act::Read),
        step("256", Input { partitions: 256, ..READ }, Act::Read),
    ],
};

const PARTITIONS_PASS: Series = Series {
    name: "partitions/pass-through",
    title: "pass-through, by partitions",
    told: Told::Growth,
    contestants: RAW_AND_OURS,
    steps: &[
        step("4", PASS_MANY, Act::PassThrough),
        step("32", Input { partitions: 32, ..PASS_MANY }, Act::PassThrough),
        step("256", Input { partitions: 256, ..PASS_MANY }, Act::PassThrough),
    ],
};

const TOPICS: Series = Series {
    name: "topics",
    title: "consume, by input topics of 4 partitions",
    told: Told::Growth,
    contestants: RAW_AND_OURS,
    steps: &[
        step("1", READ, Act::Read),
        step("4", Input { topics: 4, ..READ }, Act::Read),
        step("16", Input { topics: 16, ..READ }, Act::Read),
    ],
};

const KEYS: Series = Series {
    name: "keys",
    title: "pass-through, by size of the keys",
    told: Told::BesideRaw,
    contestants: RAW_AND_OURS,
    steps: &[
        step("10B", Input { key_bytes: 10, messages: 1_000_000, ..PASS }, Act::PassThrough),
        step("100B", Input { key_bytes: 100, messages: 1_000_000, ..PASS }, Act::PassThrough),
        step("1KiB", Input { key_bytes: 1024, messages: 400_000, ..PASS }, Act::PassThrough),
    ],
};

const HEADERS: Series = Series {
    name: "headers",
    title: "forward, by headers of 20 B",
    told: Told::BesideRaw,
    contestants: RAW_AND_OURS,
    steps: &[
        step("0", PASS, Act::Forward),
        step("5", Input { headers: 5, messages: 800_000, ..PASS }, Act::Forward),
    ],
};

const OUTPUTS: Series = Series {
    name: "outputs",
    title: "send, by messages out for each message in",
    told: Told::BesideRaw,
    contestants: &[Who::Raw, Who::Ours, Who::OursOwned],
    steps: &[
        step("0.1", READ, Act::Multiply { every: 10, times: 1 }),
        step("1", PASS, Act::Multiply { every: 1, times: 1 }),
        step("10", Input { messages: 200_000, ..PASS }, Act::Multiply { every: 1, times: 10 }),
    ],
};

const LZ4: Series = Series {
    name: "compression",
    title: "pass-through, compressed",
    told: Told::BesideRaw,
    contestants: RAW_AND_OURS,
    steps: &[step("lz4", Input { lz4: true, ..PASS }, Act::PassThrough)],
};

const REJECTED: Series = Series {
    name: "rejected",
    title: "pass-through, where one message in 1,000 cannot be processed",
    told: Told::Rejected,
    contestants: &[Who::Ours],
    steps: &[
        step("none", PASS_MANY, Act::Reject(Rejects::Nothing)),
        step("dead_letter", PASS_MANY, Act::Reject(Rejects::Letters)),
        step("poison", PASS_MANY, Act::Reject(Rejects::Named)),
        step("error", PASS_MANY, Act::Reject(Rejects::Unnamed)),
    ],
};

const SLEEP: Series = Series {
    name: "sleep",
    title: "consume, by the time that `process` sleeps for a batch",
    told: Told::Sleep,
    contestants: &[Who::Ours],
    steps: &[
        step("1ms", READ, Act::Sleep(Duration::from_millis(1))),
        step("10ms", READ, Act::Sleep(Duration::from_millis(10))),
        // Most of the time is for batches that have grown, in a quick run, too.
        step(
            "100ms",
            Input { messages: 1_000_000, shrinks: false, ..READ },
            Act::Sleep(Duration::from_millis(100)),
        ),
    ],
};

const IDLE: Series = Series {
    name: "idle",
    title: "1,000 partitions without messages",
    told: Told::Idle,
    contestants: ALSO_GROUP,
    steps: &[step("1000", Input { partitions: 1000, messages: 0, ..READ }, Act::Idle)],
};

const START: Series = Series {
    name: "start",
    title: "1,000 partitions with a message each",
    told: Told::Start,
    contestants: ALSO_GROUP,
    steps: &[step(
        "1000",
        Input { partitions: 1000, messages: 1000, shrinks: false, ..READ },
        Act::Start,
    )],
};
