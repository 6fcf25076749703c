//! Where the state of a benchmark is: made before it, removed behind it. Raw loops and stores have a place each,
//! laid out alike.

use std::fs;
use std::path::PathBuf;

use kasper::store::{AnyStore, ElasticsearchConfig, ElasticsearchStore, Store, connect};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

use crate::case::{Server, Who};
use crate::common::BoxError;
use crate::common::options::address;

/// What a Cassandra has that asks for passwords and was not told others. One that does not, takes these.
const USER: &str = "cassandra";
const PASSWORD: &str = "cassandra";

pub(crate) const KEYSPACE: &str = "kasper_bench";

#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) server: Server,
    /// `host:port`, several separated by commas; none for a local store.
    pub(crate) address: String,
    /// Prefix, table, index or directory.
    pub(crate) name: String,
}

impl Place {
    /// # Errors
    /// The server's address is not known.
    pub(crate) fn new(server: Server, who: Who, benchmark: &str) -> Result<Self, BoxError> {
        let address = match server.variable() {
            Some(variable) => address("stores", variable)?,
            None => String::new(),
        };
        Ok(Self { server, address, name: format!("kasper_bench_{benchmark}_{who}") })
    }

    pub(crate) fn first_address(&self) -> &str {
        self.address.split(',').next().unwrap_or_default()
    }

    pub(crate) fn directory(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&self.name)
    }

    /// The store here, connected.
    pub(crate) async fn store(&self) -> Result<AnyStore, BoxError> {
        Ok(connect(&self.url()).await?)
    }

    fn url(&self) -> String {
        let Self { address, name, .. } = self;
        match self.server {
            Server::Redis => format!("redis://{address}/{name}"),
            Server::RedisCluster => format!("redis+cluster://{address}/{name}"),
            Server::Cassandra => format!(
                "cassandra://{USER}:{PASSWORD}@{address}/{KEYSPACE}/{name}?create_table_if_missing=true"
            ),
            Server::Elasticsearch | Server::OpenSearch => {
                format!("elasticsearch+http://{address}/{name}")
            }
            Server::Local => format!("local:{}", self.directory().display()),
        }
    }

    /// A session with Cassandra.
    pub(crate) async fn session(&self) -> Result<Session, BoxError> {
        let nodes = SessionBuilder::new().known_nodes(self.address.split(','));
        Ok(Box::pin(nodes.user(USER, PASSWORD).build()).await?)
    }

    /// Makes what has to be there before a store can connect or is fast.
    pub(crate) async fn make(&self) -> Result<(), BoxError> {
        match self.server {
            Server::Redis | Server::RedisCluster => {}
            Server::Cassandra => {
                let text = format!(
                    "CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = \
                     {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
                );
                self.session().await?.query_unpaged(text, ()).await?;
                self.store().await?;
            }
            Server::Elasticsearch | Server::OpenSearch => {
                let config = ElasticsearchConfig::from_url(&self.url())?;
                ElasticsearchStore::connect(&config).await?.create_index_if_missing().await?;
            }
            Server::Local => fs::create_dir_all(self.directory())?,
        }
        Ok(())
    }

    /// Removes everything; `keys` are all that were written.
    pub(crate) async fn remove(&self, keys: &[&str]) -> Result<(), BoxError> {
        match self.server {
            Server::Redis | Server::RedisCluster => {
                let changes: Vec<_> = keys.iter().map(|key| (*key, None)).collect();
                self.store().await?.write_many(&changes).await?;
            }
            Server::Cassandra => {
                let text = format!("DROP TABLE IF EXISTS {KEYSPACE}.\"{}\"", self.name);
                self.session().await?.query_unpaged(text, ()).await?;
            }
            Server::Elasticsearch | Server::OpenSearch => {
                let url = format!("http://{}/{}", self.first_address(), self.name);
                reqwest::Client::new().delete(url).send().await?.error_for_status()?;
            }
            Server::Local => fs::remove_dir_all(self.directory())?,
        }
        Ok(())
    }
}
