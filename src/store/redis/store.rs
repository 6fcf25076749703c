//! [`RedisStore`]: keys `{prefix}/{key}` in Redis.

use std::sync::Arc;

use bytes::Bytes;

use super::requests::{FullKey, Requests};
use super::{RedisClient, RedisConfig};
use crate::error::Result;
use crate::store::Store;
use crate::store::changes::last_of_each_key;

/// A store in Redis 6 or later: one server, or a Redis Cluster.
///
/// Its keys are `{prefix}/{key}`, as Go Kasper's. Values are Redis strings. Clones share one
/// connection.
///
/// A `get_many` is one `MGET` (one key: a `GET`), a `write_many` one `MSET` and one `DEL`, sent at the same time; both in
/// chunks of 1,000 keys (10,000 in a cluster) and 4 MiB of writes, four under way at a time. With a [time to live](RedisConfig::ttl) a write is
/// a pipeline of `SET`s. In a cluster each key is a command of its own, and each server gets a pipeline of
/// those whose keys it has.
///
/// # Beyond the [rules](Store#rules)
/// - Keys, prefix included, and values are at most 512 MiB each, Redis's own limit. Redis is made for
///   values of some KiB.
/// - Redis's `MSET` is atomic; a `write_many` is not, since it may be several commands.
/// - A key of the prefix that holds something else than a string (a list, say) is an error where it is
///   read alone, and in a cluster. Among others `MGET` calls it missing, and a write replaces it.
/// - `flush` does nothing: how durable a write is, is the server's configuration (`appendfsync`), and
///   Redis replicates asynchronously: a failover may lose the last writes that were acknowledged.
///   Go's `SAVE` stops the whole server, and is never sent.
///
/// # Errors
/// | what | kind | retryable |
/// | --- | --- | --- |
/// | the server is away, restarts, loads its data, fails over; a cluster is incomplete | [`Unavailable`](crate::ErrorKind::Unavailable) | yes |
/// | no answer within the [request time-out](RedisConfig::request_timeout) | [`Timeout`](crate::ErrorKind::Timeout) | yes |
/// | `maxmemory` is reached, or the server can't write its data to disk | [`NoSpace`](crate::ErrorKind::NoSpace) | yes: memory is freed by what expires, or by who looks after it |
/// | user, password or their permissions; a certificate that is not trusted | [`Unauthorized`](crate::ErrorKind::Unauthorized) | no |
/// | no such database; a member of a cluster that is used as a single server | [`Config`](crate::ErrorKind::Config) | no |
/// | a key or value over the server's `proto-max-bulk-len` | [`InvalidInput`](crate::ErrorKind::InvalidInput) | no |
/// | anything else the server refuses | [`Backend`](crate::ErrorKind::Backend) | no |
///
/// Errors name the `operation`, the `server`, and the `key` where one is at fault. A connection that
/// broke, or did not answer in time, is given up, and the next call makes a new one. One that broke
/// since the call before, as by a restart of the server, is replaced within the call.
///
/// # Writes that were given up
/// A write that had no answer in time, or whose future was dropped, ends the connection: all calls that use it fail
/// at once, or go on by a new one as if it had broken, and the sockets are closed with a reset before that is made, and
/// before the error of the write is returned. So what was not delivered never is, and no later write of this store is
/// overtaken. The same holds in a cluster, for the connections to all of its servers. A read that was dropped leaves
/// the connection as it is, unless nothing was answered for half of the time-out.
///
/// Not covered:
/// - A server that hangs with the write taken in makes it when it goes on, before it answers anything newer.
/// - A proxy that has taken the write in, and passes it on although its client reset the connection, may bring it
///   over a newer one.
/// - A [client of your own](RedisStore::from_client) without a linger time of zero, or, in a cluster, with a time-out
///   of its own that is shorter than the [configuration's](RedisConfig::request_timeout): the driver then sends a command again while
///   the first attempt is under way, and may make it later.
///
/// Each store has a thread for its connection, called `kasper-redis`, which clones share.
///
/// ```no_run
/// use kasper::store::{RedisConfig, RedisStore, Store};
///
/// # async fn example() -> kasper::Result<()> {
/// let store = RedisStore::connect(&RedisConfig::new("localhost:6379", "word-counts")).await?;
/// store.put("the", "7").await?; // the key `word-counts/the` in Redis
/// # Ok(())
/// # }
/// ```
#[doc(alias("Redis", "NewRedis"))]
#[derive(Debug, Clone)]
pub struct RedisStore {
    requests: Requests,
    tenant: Option<Arc<str>>,
}

impl RedisStore {
    /// Connects.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config): all faults of the configuration. Those of the table
    /// above, if the server can't be reached or refuses.
    pub async fn connect(config: &RedisConfig) -> Result<Self> {
        Ok(Self::new(Requests::connect(config).await?, None))
    }

    /// As [`connect`](RedisStore::connect), with a client that is there already. Connects at the first call. Servers,
    /// user, password, database and TLS of `config` are not used then, nor is `connect_timeout` with a cluster's client.
    ///
    /// The client says how to connect, so see to `TCP_NODELAY`
    /// ([`TcpSettings`](redis::io::tcp::TcpSettings)): without it small requests may wait for 40 ms. And to a
    /// linger time of zero: without it a write that had no answer in time may be delivered later.
    /// A cluster client's own time-outs hold besides `request_timeout`; they should be longer.
    ///
    /// ```
    /// use kasper::store::{RedisConfig, RedisStore};
    ///
    /// # fn main() -> Result<(), kasper::BoxError> {
    /// let client = redis::Client::open("redis://localhost/3")?;
    /// let store = RedisStore::from_client(client, &RedisConfig::new("localhost", "word-counts"))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config): all faults of what is used.
    pub fn from_client(client: impl Into<RedisClient>, config: &RedisConfig) -> Result<Self> {
        Ok(Self::new(Requests::from_client(client.into(), config)?, None))
    }

    pub(super) fn new(requests: Requests, tenant: Option<&str>) -> Self {
        Self { requests, tenant: tenant.map(Arc::from) }
    }

    /// The driver's client, to open connections of one's own.
    pub fn client(&self) -> &RedisClient {
        self.requests.client()
    }

    fn full<'a>(&'a self, key: &'a str) -> FullKey<'a> {
        FullKey { tenant: self.tenant.as_deref(), key }
    }
}

impl Store for RedisStore {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        let operation = "get_many";
        let limits = self.requests.limits(self.tenant.as_deref());
        limits.check_keys(operation, keys.iter().copied())?;
        let keys: Vec<FullKey<'_>> = keys.iter().map(|key| self.full(key)).collect();
        self.requests.read(operation, &keys).await
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        let operation = "write_many";
        let limits = self.requests.limits(self.tenant.as_deref());
        limits.check_changes(operation, changes.iter().map(|(key, v)| (*key, v.as_ref())))?;
        let changes = last_of_each_key(changes).into_iter();
        let changes: Vec<_> = changes.map(|(key, value)| (self.full(key), value)).collect();
        self.requests.write(operation, &changes).await
    }
}
