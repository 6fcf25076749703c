//! The Redis of a run, which is killed, frozen and started again; and what is in it, read past the library.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::id::{Aggregate, Id};
use crate::signal;
use crate::worker::PREFIX;

const TIMEOUT: Duration = Duration::from_secs(2);

/// Writes to disk before it answers, so that a kill loses nothing. Ends with the run.
#[derive(Debug)]
pub(crate) struct RedisServer {
    port: u16,
    directory: PathBuf,
    process: Child,
}

impl RedisServer {
    /// Keeps its data in this directory.
    pub(crate) fn start(directory: &Path) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let directory = directory.join("redis");
        std::fs::create_dir_all(&directory)?;
        let process = launch(port, &directory)?;
        let mut server = Self { port, directory, process };
        server.wait_until_ready()?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// With what it had on disk.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.process = launch(self.port, &self.directory)?;
        self.wait_until_ready()
    }

    pub(crate) fn signal(&self, what: Signal) -> Result<()> {
        signal::send(&self.process, what)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        while TcpStream::connect(self.address()).is_err() {
            if let Some(status) = self.process.try_wait()? {
                bail!("redis-server has ended: {status}; see {}", self.directory.display());
            }
            if began.elapsed() > Duration::from_secs(60) {
                bail!("redis-server does not answer at {}", self.address());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn launch(port: u16, directory: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(directory.join("redis.log"))?;
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log)
        .spawn()
        .context("redis-server cannot be started (Debian: apt-get install redis-server)")
}

/// Reads the store; connects again when a call has failed.
pub(crate) struct StoreReader {
    client: redis::Client,
    connection: Option<redis::Connection>,
}

impl StoreReader {
    pub(crate) fn new(address: &str) -> Result<Self> {
        Ok(Self { client: redis::Client::open(format!("redis://{address}"))?, connection: None })
    }

    /// For each id, whether the ledger has it.
    pub(crate) fn has(&mut self, ids: &[Id]) -> Result<Vec<bool>> {
        let mut has = Vec::new();
        for ids in ids.chunks(1000) {
            let keys = ids.iter().map(|id| id.ledger_key());
            has.extend(self.get(keys)?.into_iter().map(|value| value.is_some()));
        }
        Ok(has)
    }

    /// The aggregates of keys 0, 1, …
    pub(crate) fn aggregates(&mut self, keys: u32) -> Result<Vec<Aggregate>> {
        let values = self.get((0..keys).map(Aggregate::store_key))?;
        let parse = |value: Option<Vec<u8>>| value.and_then(|value| Aggregate::parse(&value));
        Ok(values.into_iter().map(|value| parse(value).unwrap_or_default()).collect())
    }

    pub(crate) fn version(&mut self) -> Result<String> {
        let info: String = self.call(redis::cmd("INFO").arg("server"))?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.unwrap_or("unknown").to_owned())
    }

    fn get(&mut self, keys: impl Iterator<Item = String>) -> Result<Vec<Option<Vec<u8>>>> {
        let mut command = redis::cmd("MGET");
        for key in keys {
            command.arg(format!("{PREFIX}/{key}"));
        }
        self.call(&command)
    }

    fn call<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = self.client.get_connection_with_timeout(TIMEOUT)?;
                connection.set_read_timeout(Some(TIMEOUT))?;
                connection.set_write_timeout(Some(TIMEOUT))?;
                connection
            }
        };
        let answer = command.query(&mut connection)?;
        self.connection = Some(connection);
        Ok(answer)
    }
}
