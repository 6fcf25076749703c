//! What was measured: the version of everything that takes part.

use std::env;

use rdkafka::util::get_rdkafka_version;
use tokio::runtime::Runtime;

use crate::case::{Case, Who, Work};
use crate::common::BoxError;
use crate::common::redis::connect;
use crate::programs;

/// The broker's version, which its protocol does not tell; set where the benchmark's own broker runs.
const BROKER: &str = "KASPER_BENCH_KAFKA_VERSION";

/// A line for each.
pub(crate) struct Versions(pub(crate) Vec<String>);

impl Versions {
    pub(crate) fn of(cases: &[Case], redis: &str) -> Result<Self, BoxError> {
        let broker = env::var(BROKER).unwrap_or_else(|_| "of unknown version".to_owned());
        let mut servers = format!("servers: Kafka {broker}");
        if cases.iter().any(|case| case.work == Work::Count) {
            servers.push_str(&format!(", Redis {}", redis_version(redis)?));
        }
        let (_, librdkafka) = get_rdkafka_version();
        let kasper = env!("CARGO_PKG_VERSION");
        let mut lines = vec![servers, format!("ours: Kasper {kasper}, librdkafka {librdkafka}")];
        for who in [Who::Raw, Who::FranzGo, Who::KafkaStreams, Who::Goka] {
            let takes_part = cases.iter().any(|case| case.who == who);
            let versions = match who {
                _ if !takes_part => None,
                Who::Raw => Some(format!("librdkafka {librdkafka}")),
                _ => programs::versions(who)?,
            };
            lines.extend(versions.map(|versions| format!("{who}: {versions}")));
        }
        Ok(Self(lines))
    }
}

fn redis_version(address: &str) -> Result<String, BoxError> {
    Runtime::new()?.block_on(async {
        let mut connection = connect(address).await?;
        let text: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let version = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.ok_or("no version in Redis's INFO")?.trim().to_owned())
    })
}
