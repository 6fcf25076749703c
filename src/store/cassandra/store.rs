//! [`CassandraStore`]: a table of Cassandra or Scylla as a store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::try_join_all;
use scylla::client::session::Session;
use scylla::serialize::value::SerializeValue;
use scylla::value::CqlTimeuuid;

use super::clock::{Clock, MAX_LEAD, Moment, ServersTime, micros_of_uuid};
use super::config::CassandraConfig;
use super::error;
use super::table::{Layout, Table};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;
use crate::store::changes::last_of_each_key;
use crate::store::limits::{Limits, shortened};

/// A table of Apache Cassandra or ScyllaDB, a row for each key:
///
/// ```sql
/// CREATE TABLE shop.counts (key text PRIMARY KEY, value blob);
/// ```
///
/// Clones share the session. One session and its connections do for a whole process: make one store and
/// move a clone into each processor.
///
/// A call is one prepared statement for each key, sent to a node that has it, so many
/// ([`concurrency`](CassandraConfig::concurrency)) at a time. There is no batch over several keys: in
/// Cassandra that makes one node do the work of many.
///
/// # Limits
/// Keys are 65,535 bytes long at most, values 8 MiB
/// ([`max_value_bytes`](CassandraConfig::max_value_bytes)).
///
/// # Which write wins
/// Cassandra keeps the write with the later timestamp, whichever came first. All statements of one call
/// carry one timestamp, later than those of every earlier call of this store and its clones, so the
/// last call wins, even if a statement of an earlier one arrives late: a write that was given up after a
/// time-out, or whose future was dropped, may be made at any later time and loses to every write that was
/// made since. Between processes:
/// timestamps follow the servers' clocks, not this machine's, and are later than those of all values
/// that were read before. So after a partition has moved, the new owner's writes win
/// over the old owner's, however their machines' clocks are set, if
/// - it had read the key and found a value (of a deletion nothing tells when it was), or
/// - the clocks of the *servers* differ by less than the hand-over took, and the old owner had met no
///   value that was ahead of them. (The servers' time is known to half of the time that their answer took. They are asked up
///   to three times for an answer within 100 ms.)
///
/// A value over ten minutes ahead of the servers' clocks (written by something else, in other units,
/// say) is an error of kind [`Backend`](ErrorKind::Backend) when it is read: no write could win over
/// it. Two writes at the same microsecond from two processes are no order: a deletion wins, then the
/// greater value.
///
/// # Deletions
/// leave tombstones for the table's `gc_grace_seconds`, and so does what a
/// [`ttl`](CassandraConfig::ttl) ends. A table whose keys come and go wants a compaction strategy for
/// that.
#[doc(alias("NewCassandra", "Cassandra", "Scylla"))]
#[derive(Clone)]
pub struct CassandraStore {
    shared: Arc<SharedSession>,
    table: Arc<Table>,
    tenant: Option<Arc<str>>,
}

/// How often the servers are asked for their time, until an answer is prompt.
const TIME_ATTEMPTS: usize = 3;

/// What all stores on one session have in common.
pub(super) struct SharedSession {
    session: Arc<Session>,
    clock: Clock,
    pub(super) config: CassandraConfig,
}

/// A key of a store, and what to do with it when it is written: set a value or delete.
pub(super) struct Item<'a> {
    pub(super) store: &'a CassandraStore,
    pub(super) key: &'a str,
    pub(super) value: Option<&'a Bytes>,
}

/// A value in the place of a `?`.
type Bound<'a> = &'a (dyn SerializeValue + Sync + 'a);

impl CassandraStore {
    /// Connects, and finds the table or makes it.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): every fault in the configuration, or the table has other columns.
    /// [`NotFound`](ErrorKind::NotFound): no such keyspace or table.
    /// [`Unauthorized`](ErrorKind::Unauthorized): wrong user or password, or the user may not read and
    /// write the table. [`Unavailable`](ErrorKind::Unavailable) or [`Timeout`](ErrorKind::Timeout): no
    /// node can be reached, or none answers in time; these two are retryable.
    ///
    /// ```no_run
    /// # async fn example() -> kasper::Result<()> {
    /// use kasper::store::{CassandraConfig, CassandraStore, Store};
    ///
    /// let config = CassandraConfig::new(["10.0.0.7", "10.0.0.8"], "shop", "counts");
    /// let store = CassandraStore::connect(&config).await?;
    /// store.put("a", "1").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(config: &CassandraConfig) -> Result<Self> {
        let session = Box::pin(config.connect()).await?;
        Self::from_client(Arc::new(session), config).await
    }

    /// As [`connect`](CassandraStore::connect), with a session that is there already. The nodes, the user
    /// and the data center of `config` are not used then.
    ///
    /// # Errors
    /// Those of [`connect`](CassandraStore::connect).
    pub async fn from_client(session: Arc<Session>, config: &CassandraConfig) -> Result<Self> {
        config.check()?;
        let table = Table::new(&config.keyspace, &config.table, Layout::ByKey);
        let shared = SharedSession::new(session, config).await?;
        let store = Self::new(&shared, &Arc::new(table), None);
        store.table.statements(&shared.session, &shared.config).await.map_err(|error| {
            error.with("operation", "connect").with("server", shared.config.server())
        })?;
        Ok(store)
    }

    pub(super) fn new(
        shared: &Arc<SharedSession>,
        table: &Arc<Table>,
        tenant: Option<&str>,
    ) -> Self {
        let (shared, table) = (Arc::clone(shared), Arc::clone(table));
        Self { shared, table, tenant: tenant.map(Arc::from) }
    }

    /// The session, for whatever else is to be done with it.
    pub fn client(&self) -> &Arc<Session> {
        &self.shared.session
    }

    fn limits(&self) -> Limits {
        match self.tenant {
            Some(_) => self.shared.config.limits_beside_tenant(),
            None => self.shared.config.limits(),
        }
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>> {
        let session = &self.shared.session;
        let statements = self.table.statements(session, &self.shared.config).await?;
        let mut values: Vec<Bound<'_>> = Vec::with_capacity(2);
        if let Some(tenant) = &self.tenant {
            values.push(tenant);
        }
        values.push(&key);
        let result = session.execute_unpaged(&statements.read, values.as_slice()).await;
        let rows = result.map_err(error::of_execution)?.into_rows_result().map_err(unreadable)?;
        let row = rows.maybe_first_row::<(Option<Bytes>, Option<i64>)>().map_err(unreadable)?;
        let Some((Some(value), written)) = row else { return Ok(None) };
        self.shared.saw(written.unwrap_or_default()).await?;
        Ok(Some(released(value)))
    }

    async fn write(&self, key: &str, value: Option<&Bytes>, stamp: i64) -> Result<()> {
        let session = &self.shared.session;
        let statements = self.table.statements(session, &self.shared.config).await?;
        let mut values: Vec<Bound<'_>> = Vec::with_capacity(4);
        if value.is_none() {
            values.push(&stamp);
        }
        if let Some(tenant) = &self.tenant {
            values.push(tenant);
        }
        values.push(&key);
        if let Some(value) = &value {
            values.push(value);
            values.push(&stamp);
        }
        let statement = if value.is_some() { &statements.put } else { &statements.delete };
        let result = session.execute_unpaged(statement, values.as_slice()).await;
        result.map(drop).map_err(error::of_execution)
    }

    /// What an error about one key says besides.
    fn at(&self, error: Error, operation: &'static str, key: &str) -> Error {
        let error = error.with("operation", operation).with("key", shortened(key));
        let error = match &self.tenant {
            Some(tenant) => error.with("tenant", tenant),
            None => error,
        };
        error.with("table", &self.table).with("server", self.shared.config.server())
    }
}

impl SharedSession {
    /// # Errors
    /// The servers do not tell their time.
    pub(super) async fn new(session: Arc<Session>, config: &CassandraConfig) -> Result<Arc<Self>> {
        let shared = Self { session, clock: Clock::default(), config: config.clone() };
        shared.ask_time().await.map_err(|error| {
            error.with("operation", "connect").with("server", shared.config.server())
        })?;
        Ok(Arc::new(shared))
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The values of the items' keys, in their order.
    ///
    /// # Errors
    /// The first statement's that fails.
    pub(super) async fn read(
        &self,
        operation: &'static str,
        items: &[Item<'_>],
    ) -> Result<Vec<Option<Bytes>>> {
        let next = AtomicUsize::new(0);
        let mut workers = Vec::new();
        for _ in 0..self.config.concurrency.min(items.len()) {
            workers.push(read_some(operation, items, &next));
        }
        let mut values = vec![None; items.len()];
        for (index, value) in try_join_all(workers).await?.into_iter().flatten() {
            values[index] = value;
        }
        Ok(values)
    }

    /// Makes the items' changes.
    ///
    /// # Errors
    /// The first statement's that fails.
    pub(super) async fn write(&self, operation: &'static str, items: &[Item<'_>]) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        if self.clock.is_due(Moment::now()) {
            let asked = self.ask_time().await;
            asked.map_err(|error| {
                error.with("operation", operation).with("server", self.config.server())
            })?;
        }
        let stamp = self.clock.stamp(Moment::now());
        let next = AtomicUsize::new(0);
        let mut workers = Vec::new();
        for _ in 0..self.config.concurrency.min(items.len()) {
            workers.push(write_some(operation, items, stamp, &next));
        }
        try_join_all(workers).await.map(drop)
    }

    async fn saw(&self, written: i64) -> Result<()> {
        if self.clock.saw(written, Moment::now()).is_ok() {
            return Ok(());
        }
        // Reads alone never ask, and this machine may have slept.
        self.ask_time().await?;
        self.clock.saw(written, Moment::now()).map_err(|lead| {
            let message = format!(
                "the value was written {lead:?} ahead of the servers' clocks; more than {MAX_LEAD:?} \
                 is taken for a fault, since writes would be lost to it"
            );
            Error::new(ErrorKind::Backend, message)
        })
    }

    async fn ask_time(&self) -> Result<()> {
        let mut best = self.servers_time().await?;
        for _ in 1..TIME_ATTEMPTS {
            if best.is_prompt() {
                break;
            }
            match self.servers_time().await {
                Ok(again) => best = best.or_better(again),
                // The machine slept, so the connection is gone, and the time that was told is of before.
                Err(error) if best.slept_meanwhile() => return Err(error),
                Err(_) => break,
            }
        }
        self.clock.set(best);
        Ok(())
    }

    async fn servers_time(&self) -> Result<ServersTime> {
        let asked = Moment::now();
        let mut query =
            scylla::statement::unprepared::Statement::new("SELECT now() FROM system.local");
        query.set_consistency(scylla::statement::Consistency::One);
        query.set_request_timeout(Some(self.config.request_timeout));
        query.set_is_idempotent(true);
        let result = self.session.query_unpaged(query, ()).await.map_err(error::of_execution)?;
        let rows = result.into_rows_result().map_err(unreadable)?;
        let (now,) = rows.single_row::<(CqlTimeuuid,)>().map_err(unreadable)?;
        let micros = micros_of_uuid(u128::from_be_bytes(*now.as_bytes()));
        Ok(ServersTime { micros, asked, came: Moment::now() })
    }
}

/// Takes one item after the other, until none is left.
async fn read_some(
    operation: &'static str,
    items: &[Item<'_>],
    next: &AtomicUsize,
) -> Result<Vec<(usize, Option<Bytes>)>> {
    let mut values = Vec::new();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(Item { store, key, .. }) = items.get(index) else { return Ok(values) };
        let value = store.read(key).await;
        values.push((index, value.map_err(|error| store.at(error, operation, key))?));
    }
}

/// As [`read_some`].
async fn write_some(
    operation: &'static str,
    items: &[Item<'_>],
    stamp: i64,
    next: &AtomicUsize,
) -> Result<()> {
    while let Some(Item { store, key, value }) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
        let written = store.write(key, *value, stamp).await;
        written.map_err(|error| store.at(error, operation, key))?;
    }
    Ok(())
}

/// The value without the frame that it came in, which has about a hundred bytes more: names of columns, the write
/// time. To keep them with a small value would multiply what a cache of many takes; to a large one they add little,
/// and copying it costs more.
fn released(value: Bytes) -> Bytes {
    const LARGE: usize = 2048;
    if value.len() < LARGE { Bytes::copy_from_slice(&value) } else { value }
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Backend, format!("an answer cannot be read: {error}")).with_source(error)
}

impl Store for CassandraStore {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        self.limits().check_keys("get_many", keys.iter().copied())?;
        let items: Vec<Item<'_>> =
            keys.iter().map(|key| Item { store: self, key, value: None }).collect();
        self.shared.read("get_many", &items).await
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        let each = changes.iter().map(|(key, value)| (*key, value.as_ref()));
        self.limits().check_changes("write_many", each)?;
        // With one timestamp for all, of two changes of a key the greater would win, not the later.
        let items: Vec<Item<'_>> = last_of_each_key(changes)
            .into_iter()
            .map(|(key, value)| Item { store: self, key, value })
            .collect();
        self.shared.write("write_many", &items).await
    }
}

impl fmt::Debug for CassandraStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CassandraStore")
            .field("config", &self.shared.config)
            .field("table", &format_args!("{}", self.table))
            .field("tenant", &self.tenant)
            .finish_non_exhaustive()
    }
}
