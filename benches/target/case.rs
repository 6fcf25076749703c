//! What is compared.

use std::fmt;
use std::time::Duration;

use kasper::Builder;

pub(crate) const PARTITIONS: usize = 4;

/// Commits this often where a target does not say it.
const COMMIT_INTERVAL: Duration = Duration::from_millis(25);

/// How batches are limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    Default,
    Commits,
    Wait(Duration),
    Messages(usize),
    Target(Duration),
}

impl Limits {
    pub(crate) const ALL: [Self; 6] = [
        Self::Default,
        Self::Commits,
        Self::Wait(Duration::from_millis(50)),
        Self::Messages(100),
        Self::Target(Duration::from_millis(100)),
        Self::Target(Duration::from_millis(250)),
    ];

    pub(crate) fn set(self, builder: Builder) -> Builder {
        match self {
            Self::Default => builder,
            Self::Commits => builder.commit_interval(COMMIT_INTERVAL),
            Self::Wait(wait) => builder.commit_interval(COMMIT_INTERVAL).max_batch_wait(wait),
            Self::Messages(most) => {
                builder.commit_interval(COMMIT_INTERVAL).max_batch_messages(most)
            }
            Self::Target(target) => builder.target_latency(target),
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Commits => f.write_str("commit-25ms"),
            Self::Wait(wait) => write!(f, "wait-{}ms", wait.as_millis()),
            Self::Messages(most) => write!(f, "{most}-messages"),
            Self::Target(target) => write!(f, "target-{}ms", target.as_millis()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    /// What a call of the store takes, besides its keys.
    pub(crate) call: Duration,
    pub(crate) limits: Limits,
}

impl Case {
    pub(crate) fn all() -> Vec<Self> {
        let calls = [2, 20].map(Duration::from_millis);
        let of = |call| Limits::ALL.into_iter().map(move |limits| Self { call, limits });
        calls.into_iter().flat_map(of).collect()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms/{}", self.call.as_millis(), self.limits)
    }
}
