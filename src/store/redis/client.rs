//! [`RedisClient`] and the driver's connections: what is sent by them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fmt, io};

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::{AsyncConnectionConfig, Client, RedisError, Value};

use super::cluster::Cluster;
use super::command::{Failed, Request};
use super::thread::Thread;

/// The driver's client, from which connections are made.
#[derive(Clone)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "there is one for each store")]
pub enum RedisClient {
    /// Of one server.
    Standalone(Client),
    /// Of a Redis Cluster.
    Cluster(ClusterClient),
}

impl From<Client> for RedisClient {
    fn from(client: Client) -> Self {
        Self::Standalone(client)
    }
}

impl From<ClusterClient> for RedisClient {
    fn from(client: ClusterClient) -> Self {
        Self::Cluster(client)
    }
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Standalone(_) => "RedisClient::Standalone",
            Self::Cluster(_) => "RedisClient::Cluster",
        };
        f.debug_struct(kind).finish_non_exhaustive()
    }
}

impl RedisClient {
    /// Connects, in this thread: the driver spawns its tasks where it connects.
    pub(super) async fn connect(
        &self,
        thread: &Thread,
        connect_timeout: Duration,
    ) -> Result<Connection, RedisError> {
        let client = self.clone();
        let connected = thread.run(async move { client.connect_here(connect_timeout).await });
        // Nobody ends it before it is connected.
        connected.await.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::BrokenPipe).into()))
    }

    async fn connect_here(&self, connect_timeout: Duration) -> Result<Connection, RedisError> {
        match self {
            Self::Standalone(client) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(connect_timeout))
                    // `Server` has a deadline of its own, and knows which connection to give up.
                    .set_response_timeout(None);
                let connected = client.get_multiplexed_async_connection_with_config(&config);
                connected.await.map(Connection::Standalone)
            }
            Self::Cluster(client) => {
                let connected = client.get_async_connection().await;
                connected.map(|connection| Connection::Cluster(Cluster::new(connection)))
            }
        }
    }
}

/// The driver's connection. Clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Standalone(MultiplexedConnection),
    Cluster(Cluster),
}

impl Connection {
    /// Sets `is_sent` when the driver has the request, or a part of it: before, nothing of it is sent.
    pub(super) async fn run(
        &mut self,
        request: &Request<'_>,
        is_sent: &AtomicBool,
    ) -> Result<Value, Failed> {
        if let Self::Standalone(_) = self {
            is_sent.store(true, Ordering::Relaxed);
        }
        match (self, request) {
            (Self::Standalone(connection), Request::One(command)) => {
                command.query_async(connection).await.map_err(|error| (error, None))
            }
            (Self::Cluster(cluster), Request::One(command)) => {
                cluster.run_one(command, is_sent).await.map_err(|error| (error, None))
            }
            (Self::Standalone(connection), Request::Many(commands)) => {
                commands.pipeline().query_async(connection).await.map_err(first_of_pipeline)
            }
            (Self::Cluster(cluster), Request::Many(commands)) => {
                cluster.run(commands, is_sent).await.map(Value::Array)
            }
        }
    }
}

fn first_of_pipeline(error: RedisError) -> Failed {
    let of_command = error.clone().into_server_errors();
    match of_command.as_deref() {
        Some([(index, first), ..]) => (RedisError::from(first.clone()), Some(*index)),
        _ => (error, None),
    }
}
