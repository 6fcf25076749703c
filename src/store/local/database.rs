//! [`LocalDatabase`]: the database behind local stores. All that touches the disk goes through here, on
//! threads that may block, except what is done [at once](super::at_once).

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tokio::runtime::Handle;
use tokio::task::coop::consume_budget;

use super::at_once::{self, Reading};
use super::config::LocalConfig;
use super::error::of_engine;
use super::keys::{Change, Keys};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::Mutex;

/// An open database: the client that [`LocalStore`](super::LocalStore)s and
/// [`MultiLocalStore`](super::MultiLocalStore)s share. Clones are the same database.
///
/// It closes when the last clone, and the last store made from it, is dropped. That takes no time of
/// the one who drops it; opening the directory again, in this process, waits for it.
///
/// ```
/// use kasper::multitenant::MultiLocalStore;
/// use kasper::store::{LocalConfig, LocalDatabase, LocalStore, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// # let directory = std::env::temp_dir().join(format!("kasper-doc-d-{}", std::process::id()));
/// let database = LocalDatabase::open(&LocalConfig::new(&directory)).await?;
/// let counts = LocalStore::from_client(&database, "counts")?;
/// let tenants = MultiLocalStore::from_client(&database, "counts")?;
/// counts.put("a", "1").await?;
/// println!("{} bytes on disk", database.stats().await?.disk_bytes);
/// drop((counts, tenants));
/// database.close().await?;
/// # std::fs::remove_dir_all(directory).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LocalDatabase {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) database: Database,
    pub(super) keyspace: Keyspace,
    directory: PathBuf,
    pub(super) config: LocalConfig,
    /// Writes take turns, and a turn is over when the write is. Otherwise a write whose future was dropped
    /// could still wait for its thread while a later write is done, and then overwrite it.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The last small write was held up by something.
    pub(super) is_slow: AtomicBool,
    /// Syncs that are under way. Writers wait for them.
    pub(super) syncs: AtomicUsize,
    /// Tells the keeper's thread that nobody uses the database any more. Last, so that the keeper's is the
    /// last handle when it hears of it.
    _in_use: mpsc::Sender<()>,
}

/// The databases that this process has open, by directory.
static OPEN: Mutex<BTreeMap<PathBuf, Opened>> = Mutex::new(BTreeMap::new());

struct Opened {
    inner: Weak<Inner>,
    /// Ends when the database is closed. Closing waits for a compaction that is under way, so it is no
    /// work for whoever happens to drop the last store.
    keeper: JoinHandle<()>,
}

/// What a database takes on disk and in memory, and what it does in the background; see
/// [`LocalDatabase::stats`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalStats {
    /// Everything on disk, in bytes: tables and journals.
    pub disk_bytes: u64,
    /// The journals' part of it: what was written since the tables it belongs to were last written.
    pub journal_bytes: u64,
    /// Files with sorted data.
    pub tables: usize,
    /// Tables that were written from memory and not yet merged. Writes slow down from 20 on and wait at 30.
    pub unmerged_tables: usize,
    /// What waits in memory to become a table, in bytes.
    pub memtable_bytes: u64,
    /// Compactions under way.
    pub compactions_running: usize,
    /// Compactions that were finished since the database was opened.
    pub compactions: usize,
    /// What those took, together.
    pub compacting: Duration,
}

impl LocalDatabase {
    /// Opens the database in the configuration's directory, or makes a new one. What this process has open
    /// already is shared. After a process that ended in whatever way, this reads the journals (64 MiB each,
    /// 512 MiB at most), so that it may take seconds.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable), retryable: another process has it open.
    /// [`Config`](ErrorKind::Config): this process has it open with other options. And what keeps the
    /// disk from it. The `directory` is named.
    ///
    /// # Cancel safety
    /// The future may be dropped; a database that is being opened is closed again.
    pub async fn open(config: &LocalConfig) -> Result<Self> {
        let (owned, timeout) = (config.clone(), config.timeout);
        let named = |error: Error| {
            error.with("operation", "open").with("directory", config.directory().display())
        };
        config.check_database().map_err(named)?;
        let opened = on_thread(timeout, None, move || open(&owned)).await;
        opened.map(|inner| Self { inner }).map_err(named)
    }

    /// The directory, with symbolic links followed.
    pub fn directory(&self) -> &Path {
        &self.inner.directory
    }

    /// Flushes, and lets go of this handle. If it was the last, the database is closed when this returns:
    /// another process may open it.
    ///
    /// A database is closed without it, too, when its last handle is dropped, some time later; and at the
    /// end of the process, however it ends, nothing is lost that had been written.
    ///
    /// # Errors
    /// The disk's.
    ///
    /// # Cancel safety
    /// If the future is dropped, the database is closed as if the handle had been dropped.
    pub async fn close(self) -> Result<()> {
        self.sync().await?;
        let (directory, timeout) = (self.inner.directory.clone(), self.inner.config.timeout);
        drop(self);
        let named = directory.display().to_string();
        let closed = on_thread(timeout, None, move || {
            wait_until_closed(&directory);
            Ok(())
        });
        closed.await.map_err(|error| error.with("operation", "close").with("directory", named))
    }

    /// Sizes and background work of the whole database, all prefixes together.
    ///
    /// # Errors
    /// The disk's.
    pub async fn stats(&self) -> Result<LocalStats> {
        let task = self.on_thread("stats", None, |inner| {
            let (database, keyspace) = (&inner.database, &inner.keyspace);
            Ok(LocalStats {
                disk_bytes: database.disk_space()?,
                journal_bytes: database.journal_disk_space()?,
                tables: keyspace.table_count(),
                unmerged_tables: keyspace.l0_table_count(),
                memtable_bytes: database.write_buffer_size(),
                compactions_running: database.active_compactions(),
                compactions: database.compactions_completed(),
                compacting: database.time_compacting(),
            })
        });
        task.await
    }

    /// What was written is on the disk when it returns, of all prefixes: they share the journal.
    pub(super) async fn sync(&self) -> Result<()> {
        let sync = |inner: &Inner| {
            inner.syncs.fetch_add(1, Ordering::Relaxed);
            let synced = inner.database.persist(PersistMode::SyncData);
            inner.syncs.fetch_sub(1, Ordering::Relaxed);
            synced
        };
        self.on_thread("flush", None, sync).await
    }

    /// The values of these keys, all as they were at one moment.
    ///
    /// Begins on the caller's thread: a few keys from memory are read sooner than a thread is woken. What
    /// takes longer goes on, from the key where it was, on one that may block.
    pub(super) async fn read(
        &self,
        operation: &'static str,
        keys: Keys,
    ) -> Result<Vec<Option<Bytes>>> {
        consume_budget().await;
        let mut reading = Reading::new(self.inner.database.snapshot(), keys);
        let until = Some(Instant::now() + at_once::READING);
        match reading.go_on(&self.inner.keyspace, until) {
            Ok(true) => return Ok(reading.into_values()),
            Ok(false) => {}
            Err(error) => return Err(self.named(of_engine(error), operation)),
        }
        let task = self.on_thread(operation, None, move |inner| {
            reading.go_on(&inner.keyspace, None)?;
            Ok(reading.into_values())
        });
        task.await
    }

    /// Makes these changes, all of them or none. Each key must stand there once: the engine gives all of a
    /// batch the same age, so that of two changes of a key either could win.
    ///
    /// A few changes are written on the caller's thread, sooner than another one is woken, if they have to wait for
    /// nothing that can be known before.
    pub(super) async fn write(&self, operation: &'static str, changes: Vec<Change>) -> Result<()> {
        consume_budget().await;
        if self.inner.is_quick(&changes)
            && let Ok(_turn) = self.inner.turn.try_lock()
        {
            let written = catch_unwind(AssertUnwindSafe(|| self.inner.write(changes)));
            let written = written.map_or_else(|_| Err(panicked()), |done| done.map_err(of_engine));
            return written.map_err(|error| self.named(error, operation));
        }
        let turn = Some(Arc::clone(&self.inner.turn));
        self.on_thread(operation, turn, move |inner| inner.write(changes)).await
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        operation: &'static str,
        turn: Option<Arc<tokio::sync::Mutex<()>>>,
        work: impl FnOnce(&Inner) -> fjall::Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let task = move || work(&inner).map_err(of_engine);
        let done = on_thread(self.inner.config.timeout, turn, task).await;
        done.map_err(|error| self.named(error, operation))
    }

    fn named(&self, error: Error, operation: &'static str) -> Error {
        error.with("operation", operation).with("directory", self.inner.directory.display())
    }
}

impl fmt::Debug for LocalDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalDatabase").field("directory", &self.inner.directory).finish()
    }
}

/// Runs this on a thread that may block, when it is its turn. What has begun is done to its end, also if
/// the time is over or the future dropped, and keeps the turn so long.
async fn on_thread<T: Send + 'static>(
    timeout: Duration,
    turn: Option<Arc<tokio::sync::Mutex<()>>>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let Ok(runtime) = Handle::try_current() else {
        return Err(Error::new(
            ErrorKind::Config,
            "a local store is to be used in a tokio runtime",
        ));
    };
    let task = async {
        let turn = match turn {
            Some(turn) => Some(turn.lock_owned().await),
            None => None,
        };
        let work = move || {
            let result = work();
            drop(turn);
            result
        };
        runtime
            .spawn_blocking(work)
            .await
            .unwrap_or_else(|fault| Err(panicked().with_source(fault)))
    };
    tokio::time::timeout(timeout, task).await.unwrap_or_else(|_| {
        let message = format!("the disk did not answer in {timeout:?}");
        Err(Error::new(ErrorKind::Timeout, message).retryable())
    })
}

fn panicked() -> Error {
    Error::new(ErrorKind::Backend, "the storage engine panicked")
}

fn open(config: &LocalConfig) -> Result<Arc<Inner>> {
    let of_disk = |error| of_engine(fjall::Error::Io(error));
    std::fs::create_dir_all(config.directory()).map_err(of_disk)?;
    let directory = config.directory().canonicalize().map_err(of_disk)?;
    // Held until the end: of two that open a directory, the second is to find what the first opened.
    let mut open = OPEN.lock();
    if let Some(inner) = open.get(&directory).and_then(|known| known.inner.upgrade()) {
        let fault = "this process has the database open already, with other options";
        let agrees = inner.config.agrees_with(config);
        return agrees.then_some(inner).ok_or_else(|| Error::new(ErrorKind::Config, fault));
    }
    join_closing(&mut open, &directory);
    let (inner, keeper) = open_engine(directory.clone(), config)?;
    open.insert(directory, Opened { inner: Arc::downgrade(&inner), keeper });
    Ok(inner)
}

/// Returns at once if somebody uses the database still.
fn wait_until_closed(directory: &Path) {
    join_closing(&mut OPEN.lock(), directory);
}

fn join_closing(open: &mut BTreeMap<PathBuf, Opened>, directory: &Path) {
    let is_closing = open.get(directory).is_some_and(|known| known.inner.strong_count() == 0);
    if let Some(closing) = is_closing.then(|| open.remove(directory)).flatten() {
        // An error is a panic of the engine's; opening it shows what came of it.
        let _ = closing.keeper.join();
    }
}

fn open_engine(directory: PathBuf, config: &LocalConfig) -> Result<(Arc<Inner>, JoinHandle<()>)> {
    let database = Database::builder(&directory).cache_size(config.cache_bytes).open();
    let database = database.map_err(of_engine)?;
    let options = || KeyspaceCreateOptions::default().max_memtable_size(config.memtable_bytes);
    let keyspace = database.keyspace("kasper", options).map_err(of_engine)?;
    let (in_use, unused) = mpsc::channel::<()>();
    let keeper = thread::Builder::new().name("kasper-local".to_owned());
    let last = (keyspace.clone(), database.clone());
    let keeper = keeper.spawn(move || {
        // Nothing is ever sent: it returns when the other end is gone.
        let _ = unused.recv();
        drop(last);
    });
    let keeper = keeper.map_err(|error| of_engine(fjall::Error::Io(error)))?;
    let inner = Inner {
        database,
        keyspace,
        directory,
        config: config.clone(),
        turn: Arc::default(),
        is_slow: AtomicBool::default(),
        syncs: AtomicUsize::default(),
        _in_use: in_use,
    };
    Ok((Arc::new(inner), keeper))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::store::local::keys::change;

    const SOON: Duration = Duration::from_millis(50);
    const LATE: Duration = Duration::from_secs(60);

    /// A write hangs in the disk. Those behind it end in their time, and are not done later.
    #[tokio::test]
    async fn a_call_behind_one_that_hangs_ends_in_its_time_and_is_never_done() {
        let turn = Some(Arc::default());
        let (disk, hangs) = mpsc::channel::<()>();
        let (tell, done) = mpsc::channel();
        let first = tell.clone();
        let hanging = on_thread(SOON, turn.clone(), move || {
            let _ = hangs.recv();
            Ok(first.send(1).is_ok())
        });
        let error = hanging.await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Timeout, true));
        let second = tell.clone();
        let behind = on_thread(SOON, turn.clone(), move || Ok(second.send(2).is_ok()));
        assert_eq!(behind.await.unwrap_err().kind(), ErrorKind::Timeout);
        drop(disk);
        assert!(on_thread(LATE, turn, move || Ok(tell.send(3).is_ok())).await.unwrap());
        assert_eq!(done.iter().collect::<Vec<_>>(), [1, 3]);
    }

    /// A new database, in a directory of its own.
    async fn open_new(name: &str, sync: bool) -> LocalDatabase {
        let name = format!("kasper-at-once-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        LocalDatabase::open(&LocalConfig::new(directory).sync(sync)).await.unwrap()
    }

    async fn remove(database: LocalDatabase) {
        let directory = database.directory().to_owned();
        database.close().await.unwrap();
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn a_small_write_is_done_at_once_unless_it_may_have_to_wait() {
        let changes = |count: usize| -> Vec<Change> {
            let value = Bytes::from("1");
            (0..count).map(|key| change("s//", &key.to_string(), Some(&value))).collect()
        };
        let database = open_new("not", false).await;
        let inner = &database.inner;
        assert!(inner.is_quick(&changes(100)));
        assert!(database.write("put", changes(100)).now_or_never().is_some());
        assert!(!inner.is_quick(&changes(1000)), "many");
        inner.is_slow.store(true, Ordering::Relaxed);
        assert!(!inner.is_quick(&changes(1)), "after a slow one");
        inner.is_slow.store(false, Ordering::Relaxed);
        inner.syncs.store(1, Ordering::Relaxed);
        assert!(!inner.is_quick(&changes(1)), "during a sync");
        inner.syncs.store(0, Ordering::Relaxed);

        let turn = inner.turn.lock().await;
        let mut behind_another = Box::pin(database.write("put", changes(1)));
        assert!((&mut behind_another).now_or_never().is_none());
        drop(turn);
        behind_another.await.unwrap();

        let synced = open_new("sync", true).await;
        assert!(!synced.inner.is_quick(&changes(1)), "synced");
        remove(database).await;
        remove(synced).await;
    }

    /// Otherwise a loop of them could neither be stopped nor let other tasks run.
    #[tokio::test]
    async fn many_small_calls_let_other_tasks_run() {
        let database = open_new("many", false).await;
        let writer = database.clone();
        let store = async move {
            let value = Bytes::from("1");
            for _ in 0..1000 {
                writer.write("put", vec![change("s//", "key", Some(&value))]).await.unwrap();
            }
        };
        let mut store = Box::pin(store);
        assert!(futures_util::poll!(&mut store).is_pending());
        store.await;
        remove(database).await;
    }

    #[tokio::test]
    async fn a_panic_of_the_engine_is_an_error() {
        let error = on_thread::<()>(LATE, None, || panic!("engine")).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Backend, false));
    }
}
