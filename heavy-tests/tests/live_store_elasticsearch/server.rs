//! The server under test, and ways to look into it from outside.

use std::env;
use std::time::{Duration, UNIX_EPOCH};

use kasper::store::{
    ElasticsearchConfig, ElasticsearchEncoding, ElasticsearchIndex, ElasticsearchStore,
};
use serde_json::Value;

pub(crate) struct Server {
    /// `host:port`
    pub(crate) address: String,
    /// A script that kills the server, which then starts again.
    pub(crate) kill: Option<String>,
    pub(crate) is_opensearch: bool,
}

pub(crate) fn variable(name: &str) -> String {
    let value = env::var(name).ok().filter(|value| !value.is_empty());
    value.unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask test --only stores`"))
}

impl Server {
    pub(crate) fn elasticsearch() -> Self {
        Self {
            address: variable("KASPER_TEST_ELASTICSEARCH"),
            kill: env::var("KASPER_TEST_ELASTICSEARCH_KILL").ok(),
            is_opensearch: false,
        }
    }

    pub(crate) fn opensearch() -> Self {
        Self {
            address: variable("KASPER_TEST_OPENSEARCH"),
            kill: env::var("KASPER_TEST_OPENSEARCH_KILL").ok(),
            is_opensearch: true,
        }
    }

    /// A new index on this server.
    pub(crate) fn config(&self) -> ElasticsearchConfig {
        self.config_of(new_index("store"))
    }

    pub(crate) fn config_of(&self, index: impl Into<ElasticsearchIndex>) -> ElasticsearchConfig {
        config(&self.address, index)
    }

    /// A store in this index, which is made to hold any JSON.
    pub(crate) async fn store(&self, config: ElasticsearchConfig) -> ElasticsearchStore {
        let store = ElasticsearchStore::connect(&config).await.unwrap();
        store.create_index_if_missing().await.unwrap();
        store
    }

    pub(crate) async fn bytes_store(&self) -> ElasticsearchStore {
        self.store(self.config().encoding(ElasticsearchEncoding::Binary)).await
    }

    /// Asks the server itself.
    pub(crate) async fn ask(&self, method: reqwest::Method, path: &str, body: &str) -> Value {
        let url = format!("http://{}{path}", self.address);
        let request = reqwest::Client::new().request(method, url).body(body.to_owned());
        let request = request.header("content-type", "application/json");
        let answer = request.send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice(&answer).unwrap()
    }
}

/// The calls of tests may wait for a busy machine, and for the restart of another test.
pub(crate) fn config(address: &str, index: impl Into<ElasticsearchIndex>) -> ElasticsearchConfig {
    ElasticsearchConfig::new(format!("http://{address}"), index)
        .timeout(Duration::from_secs(120))
        .request_timeout(Duration::from_secs(60))
}

/// A name that no other test and no other run uses.
pub(crate) fn new_index(name: &str) -> ElasticsearchIndex {
    ElasticsearchIndex::new(new_name(name))
}

pub(crate) fn new_name(name: &str) -> String {
    format!("kasper-{name}-{:x}", UNIX_EPOCH.elapsed().unwrap().as_nanos())
}
