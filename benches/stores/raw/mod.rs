//! The ceiling: each server's driver, used as well as we can, without a layer in between.

mod cassandra;
mod elasticsearch;
mod local;
mod redis_cluster;

use kasper::Bytes;

use crate::case::Server;
use crate::common::BoxError;
use crate::common::counting::Driver;
pub(crate) use crate::common::counting::Values;
use crate::common::redis::Redis;
use crate::place::Place;

#[allow(clippy::large_enum_variant, reason = "there is one for each server")]
pub(crate) enum Raw {
    Redis(Redis),
    RedisCluster(redis_cluster::RedisCluster),
    Cassandra(cassandra::Cassandra),
    Elasticsearch(elasticsearch::Elasticsearch),
    Local(local::Local),
}

impl Raw {
    pub(crate) async fn connect(place: &Place) -> Result<Self, BoxError> {
        Ok(match place.server {
            Server::Redis => Self::Redis(Redis::connect(place.first_address()).await?),
            Server::RedisCluster => {
                Self::RedisCluster(redis_cluster::RedisCluster::connect(place).await?)
            }
            Server::Cassandra => Self::Cassandra(cassandra::Cassandra::connect(place).await?),
            Server::Elasticsearch | Server::OpenSearch => {
                Self::Elasticsearch(elasticsearch::Elasticsearch::new(place))
            }
            Server::Local => Self::Local(local::Local::open(place)?),
        })
    }

    /// The key as the server has it.
    pub(crate) fn full_key(place: &Place, key: &str) -> String {
        match place.server {
            Server::Redis | Server::RedisCluster => format!("{}/{key}", place.name),
            Server::Local => format!("s//{key}"),
            Server::Cassandra | Server::Elasticsearch | Server::OpenSearch => key.to_owned(),
        }
    }
}

impl Driver for Raw {
    async fn get_many(&self, keys: &[&str]) -> Result<Values, BoxError> {
        match self {
            Self::Redis(redis) => redis.get_many(keys).await,
            Self::RedisCluster(cluster) => cluster.get_many(keys).await,
            Self::Cassandra(cassandra) => cassandra.get_many(keys).await,
            Self::Elasticsearch(elasticsearch) => elasticsearch.get_many(keys).await,
            Self::Local(local) => local.get_many(keys),
        }
    }

    async fn write_many(&self, changes: &[(&str, Bytes)]) -> Result<(), BoxError> {
        match self {
            Self::Redis(redis) => redis.write_many(changes).await,
            Self::RedisCluster(cluster) => cluster.write_many(changes).await,
            Self::Cassandra(cassandra) => cassandra.write_many(changes).await,
            Self::Elasticsearch(elasticsearch) => elasticsearch.write_many(changes).await,
            Self::Local(local) => local.write_many(changes),
        }
    }
}
