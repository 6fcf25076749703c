//! Which commands a call becomes, and in which chunks.
//!
//! In a cluster each key has a command of its own; `cluster` sends those for a server together. The driver
//! divides `MGET`, `MSET` and `DEL` by hash slot, but leaves out, without an error, the part of a server that it
//! has no connection to: writes would be lost that were reported as done. It is told of nothing that it has to
//! divide.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use redis::{Cmd, FromRedisValue, RedisWrite as _, Value};

use super::command::{Commands, Request};
use super::connection::Server;
use super::{RedisClient, RedisConfig};
use crate::concurrent::in_order;
use crate::error::{Error, ErrorKind, Result};
use crate::store::limits::{Limits, shortened};

/// Keys of one command. Redis answers nobody else while it works on a command: about a millisecond for
/// these.
const CHUNK_KEYS: usize = 1000;

/// Keys of a chunk in a cluster, where each has a command: it is divided among the servers, and larger chunks make
/// fewer and larger parts.
const CLUSTER_CHUNK_KEYS: usize = 10_000;

/// A chunk of changes ends where its values reach this.
const CHUNK_BYTES: usize = 4 << 20;

/// Chunks of a call under way at a time: enough that the server has the next one when it has answered
/// one, few enough that other callers get in between.
const CONCURRENCY: usize = 4;

/// Redis's own limit for a string, keys as well as values (`proto-max-bulk-len`).
pub(super) const LONGEST: usize = 512 << 20;

/// The lowest limit that a server can have.
const LOWEST_LIMIT: usize = 1 << 20;

/// A key as Redis has it, without the prefix, which all have.
#[derive(Debug, Clone, Copy)]
pub(super) struct FullKey<'a> {
    pub(super) tenant: Option<&'a str>,
    pub(super) key: &'a str,
}

type Change<'a> = (FullKey<'a>, Option<&'a Bytes>);

/// Reads and writes keys of any tenants.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    server: Arc<Server>,
    prefix: Arc<str>,
    ttl: Option<Duration>,
}

impl Requests {
    pub(super) async fn connect(config: &RedisConfig) -> Result<Self> {
        Ok(Self::new(Server::connect(config).await?, config))
    }

    pub(super) fn from_client(client: RedisClient, config: &RedisConfig) -> Result<Self> {
        Ok(Self::new(Server::from_client(client, config)?, config))
    }

    fn new(server: Server, config: &RedisConfig) -> Self {
        Self { server: Arc::new(server), prefix: Arc::from(&*config.prefix), ttl: config.ttl }
    }

    pub(super) fn client(&self) -> &RedisClient {
        self.server.client()
    }

    /// Limits for the keys of this tenant, of which prefix and slashes take a part.
    pub(super) fn limits(&self, tenant: Option<&str>) -> Limits {
        let around = self.prefix.len() + 1 + tenant.map_or(0, |tenant| tenant.len() + 1);
        Limits { key_bytes: LONGEST.saturating_sub(around), value_bytes: LONGEST }
    }

    fn chunk_keys(&self) -> usize {
        if self.server.is_cluster() { CLUSTER_CHUNK_KEYS } else { CHUNK_KEYS }
    }

    pub(super) async fn read(
        &self,
        operation: &'static str,
        keys: &[FullKey<'_>],
    ) -> Result<Vec<Option<Bytes>>> {
        let mut chunks = Vec::new();
        for chunk in keys.chunks(self.chunk_keys()) {
            chunks.push(self.read_chunk(operation, chunk));
        }
        let mut chunks = in_order(CONCURRENCY, chunks).await?;
        // The usual case: what the driver gave is what the caller gets.
        match chunks.len() {
            1 => Ok(chunks.remove(0)),
            _ => Ok(chunks.into_iter().flatten().collect()),
        }
    }

    /// Keys must differ.
    pub(super) async fn write(
        &self,
        operation: &'static str,
        changes: &[Change<'_>],
    ) -> Result<()> {
        let (puts, deletes): (Vec<Change<'_>>, Vec<Change<'_>>) =
            changes.iter().partition(|(_, value)| value.is_some());
        let mut chunks = Vec::new();
        let most = self.chunk_keys();
        for chunk in by_size(&puts, most).into_iter().chain(by_size(&deletes, most)) {
            chunks.push(self.write_chunk(operation, chunk));
        }
        in_order(CONCURRENCY, chunks).await?;
        Ok(())
    }

    // Commands are made when a chunk's turn comes, so that those of a large call are not all there at once.

    async fn read_chunk(
        &self,
        operation: &'static str,
        keys: &[FullKey<'_>],
    ) -> Result<Vec<Option<Bytes>>> {
        // `GET` for one: it is an error where the key holds no string, which `MGET` passes over.
        let request = match self.server.is_cluster() || keys.len() == 1 {
            true => each(keys.len(), |index| self.command("GET", [(keys[index], None)])),
            false => Request::One(self.command("MGET", keys.iter().map(|key| (*key, None)))),
        };
        let sent = self.server.read(operation, &request).await;
        let value =
            sent.map_err(|(error, index)| named(error, index.and_then(|index| keys.get(index))))?;
        let values = match value {
            Value::Array(values) if values.len() == keys.len() => values,
            _ => return Err(self.server.odd_answer(operation)),
        };
        let values = values.into_iter().map(Option::<Bytes>::from_redis_value);
        values.collect::<Result<_, _>>().map_err(|_| self.server.odd_answer(operation))
    }

    async fn write_chunk(&self, operation: &'static str, changes: &[Change<'_>]) -> Result<()> {
        let are_puts = changes.first().is_some_and(|(_, value)| value.is_some());
        let one_by_one = self.server.is_cluster() || (are_puts && self.ttl.is_some());
        let request = match (are_puts, one_by_one) {
            (true, true) => each(changes.len(), |index| self.set(changes[index])),
            (true, false) => Request::One(self.command("MSET", changes.iter().copied())),
            (false, true) => each(changes.len(), |index| self.command("DEL", [changes[index]])),
            (false, false) => Request::One(self.command("DEL", changes.iter().copied())),
        };
        let Err((error, index)) = self.server.write(operation, &request).await else {
            return Ok(());
        };
        let error = self.refused_as_too_long(operation, changes, &error).await.unwrap_or(error);
        let index = index.or_else(|| match error.kind() {
            // The server does not tell which it was, only that it was too long.
            ErrorKind::InvalidInput => longest(changes),
            _ => (changes.len() == 1).then_some(0),
        });
        Err(named(error, index.and_then(|index| changes.get(index)).map(|(key, _)| key)))
    }

    /// A server that refuses a string says why and closes the connection, while the client still sends the string. The
    /// connection may be reset before the client has read the reason; then the server is asked for its limit.
    async fn refused_as_too_long(
        &self,
        operation: &'static str,
        changes: &[Change<'_>],
        error: &Error,
    ) -> Option<Error> {
        let length = longest(changes).map_or(0, |index| length(changes[index]));
        let may_be = error.kind() == ErrorKind::Unavailable && length > LOWEST_LIMIT;
        // The servers of a cluster may differ.
        if !may_be || self.server.is_cluster() {
            return None;
        }
        self.server.too_long(operation, length).await
    }

    fn set(&self, change: Change<'_>) -> Cmd {
        let mut command = self.command("SET", [change]);
        if let Some(ttl) = self.ttl {
            command.arg("PX").arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        }
        command
    }

    /// A command with these keys, each followed by its value if it has one.
    fn command<'a>(
        &self,
        name: &str,
        changes: impl IntoIterator<Item = Change<'a>, IntoIter: Clone>,
    ) -> Cmd {
        let changes = changes.into_iter();
        // The command's memory in one piece: growing, it would be copied as often as a large one is long.
        let (mut count, mut bytes) = (3, name.len() + 24);
        for (key, value) in changes.clone() {
            count += 2;
            bytes += self.prefix.len() + 1 + key.tenant.map_or(0, |tenant| tenant.len() + 1);
            bytes += key.key.len() + value.map_or(0, Bytes::len);
        }
        let mut command = Cmd::with_capacity(count, bytes);
        command.arg(name);
        for (key, value) in changes {
            self.key(&mut command, key);
            if let Some(value) = value {
                command.arg(&value[..]);
            }
        }
        command
    }

    /// `{tenant}/{prefix}/{key}`, written right into the command.
    fn key(&self, command: &mut Cmd, FullKey { tenant, key }: FullKey<'_>) {
        let mut argument = command.bufmut_for_next_arg(0);
        if let Some(tenant) = tenant {
            argument.put_slice(tenant.as_bytes());
            argument.put_u8(b'/');
        }
        argument.put_slice(self.prefix.as_bytes());
        argument.put_u8(b'/');
        argument.put_slice(key.as_bytes());
    }
}

fn each<'a>(count: usize, make: impl Fn(usize) -> Cmd + Send + Sync + 'a) -> Request<'a> {
    Request::Many(Commands::new(count, make))
}

/// The index of the change with the longest key or value.
fn longest(changes: &[Change<'_>]) -> Option<usize> {
    (0..changes.len()).max_by_key(|index| length(changes[*index]))
}

/// Of the key or the value, whichever is longer.
fn length((key, value): Change<'_>) -> usize {
    key.key.len().max(value.map_or(0, Bytes::len))
}

/// The error with the key that is at fault, if one is.
fn named(error: Error, key: Option<&FullKey<'_>>) -> Error {
    let Some(FullKey { tenant, key }) = key else { return error };
    let error = error.with("key", shortened(key));
    match tenant {
        Some(tenant) => error.with("tenant", tenant),
        None => error,
    }
}

/// Chunks of at most so many changes, each of which is full when its values have [`CHUNK_BYTES`].
fn by_size<'a, 'b>(mut changes: &'a [Change<'b>], most: usize) -> Vec<&'a [Change<'b>]> {
    let mut chunks = Vec::new();
    while !changes.is_empty() {
        let mut bytes = 0;
        let full = changes.iter().take(most).position(|(_, value)| {
            bytes += value.map_or(0, |value| value.len());
            bytes >= CHUNK_BYTES
        });
        let count = full.map_or(most, |index| index + 1).min(changes.len());
        let (chunk, rest) = changes.split_at(count);
        chunks.push(chunk);
        changes = rest;
    }
    chunks
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Reads into `text` until it has `name` `count` times.
    async fn read(connection: &mut TcpStream, text: &mut String, name: &str, count: usize) {
        while text.matches(name).count() < count {
            let mut bytes = vec![0; 100_000];
            let length = connection.read(&mut bytes).await.unwrap();
            assert!(length > 0, "{text}");
            text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
    }

    async fn listening() -> (TcpListener, Requests) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = RedisConfig::new(address, "p");
        (listener, Requests::from_client(config.client().unwrap(), &config).unwrap())
    }

    /// A connection, once the driver has said who it is, and what was read of it.
    async fn accept(listener: &TcpListener) -> (TcpStream, String) {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        read(&mut connection, &mut text, "CLIENT", 2).await;
        connection.write_all(b"+OK\r\n+OK\r\n").await.unwrap();
        (connection, text)
    }

    fn full_key(key: &str) -> FullKey<'_> {
        FullKey { tenant: None, key }
    }

    /// The server refuses the first chunk of a write while the second and another call's read are under way.
    #[tokio::test]
    async fn a_chunk_that_is_refused_gives_up_no_connection() {
        let (listener, requests) = listening().await;
        let answers = async {
            let (mut connection, mut text) = accept(&listener).await;
            read(&mut connection, &mut text, "MSET", 2).await;
            connection.write_all(b"-OOM command not allowed\r\n").await.unwrap();
            let get = "GET\r\n$3\r\np/z";
            read(&mut connection, &mut text, get, 1).await;
            connection.write_all(b"+OK\r\n$1\r\n1\r\n").await.unwrap();
            read(&mut connection, &mut text, get, 2).await;
            connection.write_all(b"$1\r\n2\r\n").await.unwrap();
        };
        let keys: Vec<String> = (0..2 * CHUNK_KEYS).map(|number| number.to_string()).collect();
        let value = Bytes::from("1");
        let changes: Vec<Change<'_>> =
            keys.iter().map(|key| (full_key(key), Some(&value))).collect();
        let reads = async {
            let z = [full_key("z")];
            // Connected by the write; the read comes behind it.
            while !requests.server.is_connected() {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
            let first = requests.read("get", &z).await.unwrap();
            (first, requests.read("get", &z).await.unwrap())
        };
        let (written, read, ()) =
            tokio::join!(requests.write("put_many", &changes), reads, answers);
        assert_eq!(written.unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!(read, (vec![Some("1".into())], vec![Some("2".into())]));
    }

    /// The connection is reset while the string is being sent, twice, so that nobody reads the reason.
    #[tokio::test]
    async fn a_value_over_the_limit_is_named_though_the_connection_is_reset() {
        let (listener, requests) = listening().await;
        let answers = async {
            for attempt in 0..3 {
                let (mut connection, mut text) = accept(&listener).await;
                if attempt == 2 {
                    read(&mut connection, &mut text, "CONFIG", 1).await;
                    let limit = b"*2\r\n$18\r\nproto-max-bulk-len\r\n$7\r\n1048576\r\n";
                    connection.write_all(limit).await.unwrap();
                    // Until the client has read it.
                    return connection;
                }
                read(&mut connection, &mut text, "MSET", 1).await;
            }
            unreachable!()
        };
        let (small, large) = (Bytes::from("1"), Bytes::from(vec![b'0'; 8 << 20]));
        let changes = [(full_key("small"), Some(&small)), (full_key("large"), Some(&large))];
        let (written, _connection) = tokio::join!(requests.write("write_many", &changes), answers);
        let error = written.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::InvalidInput, false),
            "{error}"
        );
        assert_eq!(error.get("key"), Some("large"));
    }

    fn sizes(values: &[Bytes]) -> Vec<usize> {
        let key = full_key("k");
        let changes: Vec<Change<'_>> = values.iter().map(|value| (key, Some(value))).collect();
        by_size(&changes, CHUNK_KEYS).into_iter().map(<[_]>::len).collect()
    }

    #[test]
    fn chunks_end_by_keys_or_by_bytes() {
        assert_eq!(sizes(&vec![Bytes::new(); 2001]), [1000, 1000, 1]);
        let large = Bytes::from(vec![0; CHUNK_BYTES / 2]);
        assert_eq!(sizes(&vec![large; 5]), [2, 2, 1]);
        let huge = Bytes::from(vec![0; CHUNK_BYTES + 1]);
        assert_eq!(sizes(&[huge.clone(), huge]), [1, 1]);
        assert_eq!(sizes(&[]), [0; 0]);
    }
}
