//! What is measured: the table of all cases.

use std::fmt;

use clap::ValueEnum;

use crate::common::runs::{self, Size};

/// Where the state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    Redis,
    RedisCluster,
    Cassandra,
    Elasticsearch,
    #[value(name = "opensearch")]
    OpenSearch,
    /// No server: a database in a directory
    Local,
}

impl Server {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::RedisCluster => "redis-cluster",
            Self::Cassandra => "cassandra",
            Self::Elasticsearch => "elasticsearch",
            Self::OpenSearch => "opensearch",
            Self::Local => "local",
        }
    }

    /// The variable that tells its address.
    pub(crate) fn variable(self) -> Option<&'static str> {
        Some(match self {
            Self::Redis => "KASPER_TEST_REDIS",
            Self::RedisCluster => "KASPER_TEST_REDIS_CLUSTER",
            Self::Cassandra => "KASPER_TEST_CASSANDRA",
            Self::Elasticsearch => "KASPER_TEST_ELASTICSEARCH",
            Self::OpenSearch => "KASPER_TEST_OPENSEARCH",
            Self::Local => return None,
        })
    }
}

/// What is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// One call of `get_many` or `write_many` after the other.
    Calls { call: Call, keys: usize, size: Size },
    /// The whole job: count the messages of a topic by their keys.
    Count { partitions: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Get,
    Write,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Raw,
    Ours,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) server: Server,
    pub(crate) work: Work,
    pub(crate) who: Who,
}

/// Partitions of the counting job, where they are several.
pub(crate) const SEVERAL: usize = 4;

impl Case {
    /// Every case, raw and ours one after the other.
    pub(crate) fn all(servers: &[Server]) -> Vec<Self> {
        let mut works = Vec::new();
        for call in [Call::Get, Call::Write] {
            for size in [Size::Small, Size::Large] {
                works.extend([1, 100, 1000, 10_000].map(|keys| Work::Calls { call, keys, size }));
            }
        }
        let mut all = Vec::new();
        for server in Server::value_variants().iter().filter(|server| servers.contains(server)) {
            // With one partition nothing overlaps: how well that goes does not depend on the server.
            let one = (*server == Server::Redis).then_some(Work::Count { partitions: 1 });
            let several = [Work::Count { partitions: SEVERAL }];
            for work in works.iter().copied().chain(one).chain(several) {
                let case = |who| Self { server: *server, work, who };
                all.extend([case(Who::Raw), case(Who::Ours)]);
            }
        }
        all
    }

    /// At least this share of the raw one's throughput, if a bar is set.
    pub(crate) fn bar(self) -> Option<f64> {
        match (self.who, self.work) {
            (Who::Raw, _) | (_, Work::Calls { keys: 1, .. }) => None,
            (_, Work::Count { partitions }) if self.server == Server::Redis => {
                Some(if partitions == 1 { 1.0 } else { 1.5 })
            }
            _ => Some(0.9),
        }
    }

    /// How many messages a counting run takes.
    pub(crate) fn messages(self, quick: bool) -> u64 {
        let full = match self.server {
            Server::Redis => 3_000_000,
            Server::RedisCluster | Server::Local => 1_500_000,
            Server::Cassandra | Server::Elasticsearch | Server::OpenSearch => 200_000,
        };
        if quick { full / 4 } else { full }
    }
}

impl runs::Case for Case {
    fn ceiling(self) -> Option<Self> {
        (self.who == Who::Ours).then_some(Self { who: Who::Raw, ..self })
    }

    fn is_like(self, other: Self) -> bool {
        (self.server, self.work) == (other.server, other.work)
    }
}

impl Call {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Get => "get_many",
            Self::Write => "write_many",
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.server.label(), self.work, self.who)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calls { call, keys, size } => {
                write!(f, "{}/{keys}/{}", call.label(), size.label())
            }
            Self::Count { partitions } => write!(f, "count/{partitions}"),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Ours => "ours",
        })
    }
}
