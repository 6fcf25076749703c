//! The connection to a server or a cluster: one, shared by all calls, made anew when it breaks.
//!
//! Giving a connection up ends it for all calls at once, and resets its sockets before the next one is made
//! (`thread`): a write that had no answer must not be delivered over a later one.
//!
//! The driver's own connection manager is not used: it keeps a connection that does not answer, and in
//! an outage makes callers wait for its attempts, whatever their deadline.

use std::fmt;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use redis::{ConnectionAddr, RedisError, Value};
use tokio::time::{Instant, timeout_at};

use super::client::Connection;
use super::command::{Failed, Request};
use super::error::{self, ServerName};
use super::in_use::{InUse, Owner, Silence};
use super::thread::{Ended, Thread};
use super::{RedisClient, RedisConfig};
use crate::backoff::deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::Mutex;

/// A connection, the thread that its tasks run on, and how many were made before it.
#[derive(Clone)]
struct Numbered {
    connection: Connection,
    thread: Arc<Thread>,
    silence: Arc<Mutex<Silence>>,
    number: u64,
}

/// The last connection that was made.
#[derive(Default)]
struct Made {
    number: u64,
    /// When all of it is gone.
    ended: Option<Ended>,
}

/// A server or a cluster, with the connection to it.
pub(super) struct Server {
    client: RedisClient,
    place: ServerName,
    timeout: Duration,
    connect_timeout: Duration,
    current: Mutex<Option<Numbered>>,
    /// Held by who connects, so that the others wait for that connection instead of making their own.
    connecting: tokio::sync::Mutex<Made>,
}

impl Server {
    /// Connects.
    pub(super) async fn connect(config: &RedisConfig) -> Result<Self> {
        let server = Self::new(config.client()?, config.place(), config);
        // Some refusals only come with the first command.
        match server.read("connect", &Request::One(redis::cmd("PING"))).await {
            Ok(_) => Ok(server),
            Err((error, _)) => Err(error),
        }
    }

    /// Connects later, when it has to.
    pub(super) fn from_client(client: RedisClient, config: &RedisConfig) -> Result<Self> {
        let place = match &client {
            RedisClient::Standalone(client) => {
                ServerName::standalone(address(client.get_connection_info().addr()))
            }
            // The driver does not tell.
            RedisClient::Cluster(_) => ServerName::cluster("a cluster"),
        };
        config.check_store()?;
        Ok(Self::new(client, place, config))
    }

    fn new(client: RedisClient, place: ServerName, config: &RedisConfig) -> Self {
        Self {
            client,
            place,
            timeout: config.request_timeout,
            connect_timeout: config.connect_timeout,
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn client(&self) -> &RedisClient {
        &self.client
    }

    /// Reads, as [`send`](Server::send) says.
    pub(super) async fn read(
        &self,
        operation: &'static str,
        request: &Request<'_>,
    ) -> Result<Value, (Error, Option<usize>)> {
        self.send(operation, request, false).await
    }

    /// Writes, as [`send`](Server::send) says.
    pub(super) async fn write(
        &self,
        operation: &'static str,
        request: &Request<'_>,
    ) -> Result<Value, (Error, Option<usize>)> {
        self.send(operation, request, true).await
    }

    /// Sends a request and waits for the answer, connecting before if need be, all of it until the
    /// deadline. The error comes with the index of the command that is at fault, if one of a pipeline is.
    async fn send(
        &self,
        operation: &'static str,
        request: &Request<'_>,
        writes: bool,
    ) -> Result<Value, (Error, Option<usize>)> {
        let deadline = deadline(self.timeout);
        let (failed, was_connected) = match self.attempt(request, writes, deadline).await {
            Ok(value) => return Ok(value),
            Err(attempt) => attempt,
        };
        // The connection broke, perhaps long before this call, or another call gave it up. That one may have made the
        // connection after this call began. Each request may be made twice.
        let failed = match failed {
            Some((error, _)) if was_connected && error.is_connection_dropped() => {
                match self.attempt(request, writes, deadline).await {
                    Ok(value) => return Ok(value),
                    Err((failed, _)) => failed,
                }
            }
            failed => failed,
        };
        Err(match failed {
            None => (self.late(operation), None),
            Some((error, index)) => (self.place.error(operation, error), index),
        })
    }

    /// The error says what the driver said, or `None` for "too late", and whether there was a connection. If that was
    /// given up, its sockets are closed when this returns.
    async fn attempt(
        &self,
        request: &Request<'_>,
        writes: bool,
        deadline: Instant,
    ) -> Result<Value, (Option<Failed>, bool)> {
        let connected = timeout_at(deadline, self.connection()).await;
        let Numbered { mut connection, thread, silence, number } = match connected {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Err((Some((error, None)), false)),
            Err(_) => return Err((None, false)),
        };
        let in_use = InUse::begin(self, silence, number, writes);
        let outcome = timeout_at(deadline, connection.run(request, &in_use.is_sent)).await;
        in_use.end();
        let failed = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(failed)) => Some(failed),
            Err(_) => None,
        };
        if failed.as_ref().is_none_or(|(error, _)| error::ends_connection(error)) {
            self.give_up(number);
            // Whoever hears of the error may write elsewhere, from another process.
            thread.ended().wait().await;
        }
        Err((failed, true))
    }

    async fn connection(&self) -> Result<Numbered, RedisError> {
        if let Some(current) = &*self.current() {
            return Ok(current.clone());
        }
        let mut made = self.connecting.lock().await;
        if let Some(current) = &*self.current() {
            return Ok(current.clone());
        }
        // A write on the new connection would be done before what the network still has of the old one.
        if let Some(ended) = &mut made.ended {
            ended.wait().await;
        }
        let thread = Thread::start().await?;
        made.ended = Some(thread.ended());
        let connection = self.client.connect(&thread, self.connect_timeout).await?;
        made.number += 1;
        let (thread, silence) = (Arc::new(thread), Arc::default());
        let numbered = Numbered { connection, thread, silence, number: made.number };
        *self.current() = Some(numbered.clone());
        Ok(numbered)
    }

    // Never held across an await.
    fn current(&self) -> MutexGuard<'_, Option<Numbered>> {
        self.current.lock()
    }

    #[cfg(test)]
    pub(super) fn is_connected(&self) -> bool {
        self.current().is_some()
    }

    fn late(&self, operation: &'static str) -> Error {
        let message = format!("no answer within {:?}", self.timeout);
        let error = Error::new(ErrorKind::Timeout, message).retryable();
        self.place.name(error, operation)
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.client, RedisClient::Cluster(_))
    }

    /// The error for a string of this length, if the server says that this is over its limit.
    pub(super) async fn too_long(&self, operation: &'static str, length: usize) -> Option<Error> {
        let ask = redis::cmd("CONFIG").arg("GET").arg("proto-max-bulk-len").take();
        let answer = self.read(operation, &Request::One(ask)).await.ok()?;
        let (_, limit): (String, usize) = redis::from_redis_value(answer).ok()?;
        (length > limit).then(|| self.place.too_long(operation))
    }

    /// An answer that is none to what was asked: what listens there may be no Redis.
    pub(super) fn odd_answer(&self, operation: &'static str) -> Error {
        let error = Error::new(ErrorKind::Backend, "the server's answer is of an unexpected kind");
        self.place.name(error, operation)
    }
}

impl Owner for Server {
    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn give_up(&self, number: u64) {
        let given_up = self.current().take_if(|current| current.number == number);
        if let Some(given_up) = given_up {
            given_up.thread.end();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("place", &self.place).finish_non_exhaustive()
    }
}

fn address(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Unix(path) => path.display().to_string(),
        // `host:port`.
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind as Io;
    use std::sync::atomic::Ordering;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(300);

    /// A server that takes a connection and no request, and a client of it.
    async fn silent() -> (TcpListener, Server) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = RedisConfig::new(address, "p").request_timeout(TIMEOUT);
        (listener, Server::from_client(config.client().unwrap(), &config).unwrap())
    }

    async fn accept(listener: &TcpListener) -> TcpStream {
        let (mut connection, _) = listener.accept().await.unwrap();
        // The driver says who it is, and wants two answers.
        let read = connection.read(&mut [0; 1000]).await.unwrap();
        assert!(read > 0);
        connection.write_all(b"+OK\r\n+OK\r\n").await.unwrap();
        connection
    }

    fn put() -> Request<'static> {
        Request::One(redis::cmd("SET").arg("p/a").arg("1").take())
    }

    async fn assert_reset(connection: &mut TcpStream) {
        let mut read = Vec::new();
        let end = connection.read_to_end(&mut read).await.map_err(|error| error.kind());
        assert_eq!(end, Err(Io::ConnectionReset), "after {:?}", String::from_utf8_lossy(&read));
    }

    /// What has not read a request by then must not make it: a later one may have overtaken it. Another call has
    /// begun later, and has time left.
    #[tokio::test]
    async fn a_connection_that_is_given_up_is_reset_for_all_with_what_it_has_not_delivered() {
        let (listener, server) = silent().await;
        let accepts = async {
            let mut first = accept(&listener).await;
            // What is sent on it stays where it is. The second call goes on by another connection.
            let mut second = accept(&listener).await;
            assert_reset(&mut first).await;
            let _ = second.read(&mut [0; 1000]).await.unwrap();
            second.write_all(b"+OK\r\n").await.unwrap();
        };
        let put = put();
        let other = async {
            // Once the first call has connected.
            while server.current().is_none() {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(TIMEOUT / 2).await;
            let began = Instant::now();
            server.read("get", &Request::One(redis::cmd("GET").arg("p/b").take())).await.unwrap();
            began.elapsed()
        };
        let (sent, took, ()) = tokio::join!(server.write("put", &put), other, accepts);
        let (error, _) = sent.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        assert!(took < TIMEOUT, "{took:?}");
    }

    #[tokio::test]
    async fn a_write_that_is_dropped_is_reset() {
        let (listener, server) = silent().await;
        let put = put();
        let mut connection = tokio::select! {
            _ = server.write("put", &put) => panic!("nobody answers"),
            connection = async {
                let connection = accept(&listener).await;
                while server.current().is_none() {
                    tokio::task::yield_now().await;
                }
                // One more turn, in which the write is sent.
                connection.readable().await.unwrap();
                connection
            } => connection,
        };
        assert_reset(&mut connection).await;
    }

    /// The call itself has made the connection, and has read of none before.
    #[tokio::test]
    async fn a_request_is_made_again_when_a_new_connection_breaks() {
        let (listener, server) = silent().await;
        let put = put();
        let accepts = async {
            let mut first = accept(&listener).await;
            assert!(first.read(&mut [0; 1000]).await.unwrap() > 0);
            drop(first);
            let mut second = accept(&listener).await;
            assert!(second.read(&mut [0; 1000]).await.unwrap() > 0);
            second.write_all(b"+OK\r\n").await.unwrap();
            second
        };
        let (sent, _second) = tokio::join!(server.write("put", &put), accepts);
        sent.unwrap();
    }

    /// It waits for room: nothing of it can be delivered.
    #[tokio::test]
    async fn a_write_that_is_dropped_before_it_is_sent_gives_up_no_connection() {
        let (listener, server) = silent().await;
        let (connected, _connection) = tokio::join!(server.connection(), accept(&listener));
        let Numbered { silence, number, .. } = connected.unwrap();
        for (is_sent, is_kept) in [(false, true), (true, false)] {
            let in_use = InUse::begin(&server, Arc::clone(&silence), number, true);
            in_use.is_sent.store(is_sent, Ordering::Relaxed);
            drop(in_use);
            assert_eq!(server.is_connected(), is_kept);
        }
    }

    /// Between two reads that were dropped nobody used the connection.
    #[tokio::test]
    async fn time_without_requests_is_no_silence() {
        let (listener, server) = silent().await;
        let (connected, _connection) = tokio::join!(server.connection(), accept(&listener));
        let Numbered { silence, number, .. } = connected.unwrap();
        tokio::time::pause();
        for (waited, is_kept) in [(TIMEOUT / 4, true), (TIMEOUT / 4, false)] {
            let in_use = InUse::begin(&server, Arc::clone(&silence), number, false);
            in_use.is_sent.store(true, Ordering::Relaxed);
            tokio::time::advance(waited).await;
            drop(in_use);
            assert_eq!(server.is_connected(), is_kept);
            tokio::time::advance(10 * TIMEOUT).await;
        }
    }

    /// No call waits for as long as the time-out, and so none finds out by itself.
    #[tokio::test]
    async fn a_connection_that_is_silent_for_many_short_calls_is_given_up() {
        let (listener, server) = silent().await;
        let ping = Request::One(redis::cmd("PING"));
        let calls = async {
            let began = Instant::now();
            while began.elapsed() < TIMEOUT {
                let _ = tokio::time::timeout(TIMEOUT / 10, server.read("get", &ping)).await;
            }
        };
        let accepts = async {
            let mut first = accept(&listener).await;
            assert_reset(&mut first).await;
        };
        tokio::join!(calls, accepts);
    }

    #[tokio::test]
    async fn no_time_out_is_too_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let config = RedisConfig::new(address, "p");
        let config = config.request_timeout(Duration::MAX).connect_timeout(Duration::MAX);
        let error = Server::connect(&config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
}
