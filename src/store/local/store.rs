//! [`LocalStore`]: a store on the disk of this machine.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::LIMITS;
use super::config::{LocalConfig, check_prefix};
use super::database::{LocalDatabase, LocalStats};
use super::keys::{Change, Keys, change};
use crate::error::Result;
use crate::store::Store;

/// A store on the disk of this machine: a database in a directory, inside this process. No server.
///
/// **State does not follow a partition to another machine.** What a partition's processor wrote stays in
/// this directory when the partition goes elsewhere. Use it with static partitions, with a single member,
/// or in tests; in a group of several members use a store that all of them reach.
///
/// - One process at a time: a second one gets an error that names the directory.
/// - Many stores in one database, by [prefix](LocalConfig::prefix). Within a process, opening a directory
///   again shares what is open.
/// - Beyond the [rules](Store#rules), each call sees or makes all of its changes at once, in the face of a
///   sudden end of the process, too: after that, a `write_many` is there whole or not at all.
/// - What a call has written survives the end of the process when it has returned; a power failure, after
///   [`flush`](Store::flush) or with [`sync`](LocalConfig::sync).
/// - Keys are up to 64,000 bytes long, values up to 64 MiB. The changes of a call are in memory twice while
///   they wait for their turn and are written.
/// - The disk's work is done on tokio's threads for blocking work, so that no task waits for it that need not.
///   But for the first 500 µs of a read, which are the caller's: few keys that are in memory are read sooner
///   than a thread is woken. From a disk, these are four keys at worst. So are writes of up to 200 changes and 200 KiB,
///   unless they are synced or the engine is busy.
///
/// # Cancel safety
/// Of a dropped write, all or nothing is written, maybe after the drop; later writes of this process
/// wait for it, and are not overtaken. The same holds for a write that was given up after its
/// [`timeout`](LocalConfig::timeout): one that had not begun is never made.
///
/// # Disk errors
/// After a write or a sync that failed (the disk is full, say) the database takes no more writes until it
/// is opened again: what of it reached the disk can't be known. Those errors are not retryable, but for what passes: too many open files, an interrupted or timed-out system call.
///
/// ```
/// use kasper::store::{LocalConfig, LocalStore, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// # let directory = std::env::temp_dir().join(format!("kasper-doc-{}", std::process::id()));
/// let config = LocalConfig::new(&directory);
/// let counts = LocalStore::open(&config.clone().prefix("counts")).await?;
/// let names = LocalStore::open(&config.prefix("names")).await?;
/// counts.put("a", "1").await?;
/// assert_eq!(counts.get("a").await?, Some("1".into()));
/// assert_eq!(names.get("a").await?, None);
/// # drop((counts, names));
/// # std::fs::remove_dir_all(directory).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LocalStore {
    database: LocalDatabase,
    /// What stands before each key in the database.
    prefix: Arc<str>,
}

impl LocalStore {
    /// The longest key, in bytes.
    pub const MAX_KEY_BYTES: usize = LIMITS.key_bytes;
    /// The longest value, in bytes.
    pub const MAX_VALUE_BYTES: usize = LIMITS.value_bytes;

    /// Opens the directory's database and, in it, the store of the configuration's prefix.
    ///
    /// # Errors
    /// Those of [`LocalDatabase::open`]; [`Config`](crate::ErrorKind::Config): a prefix that is none.
    ///
    /// # Cancel safety
    /// As [`LocalDatabase::open`].
    pub async fn open(config: &LocalConfig) -> Result<Self> {
        config.check()?;
        Self::from_client(&LocalDatabase::open(config).await?, &config.prefix)
    }

    /// The store of this prefix in a database that is open. No I/O.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config): the prefix has a `/`, or more than 500 bytes.
    pub fn from_client(database: &LocalDatabase, prefix: &str) -> Result<Self> {
        check_prefix(prefix)?;
        // Stores and tenants apart: without the first letter, the prefix `a` with the key `b/c` and the
        // tenant `a` with the prefix `b` and the key `c` would be the same.
        Ok(Self::at(database, format!("s/{prefix}/")))
    }

    pub(super) fn at(database: &LocalDatabase, prefix: String) -> Self {
        Self { database: database.clone(), prefix: prefix.into() }
    }

    /// The database.
    #[doc(alias = "GetClient")]
    pub fn client(&self) -> &LocalDatabase {
        &self.database
    }

    /// As [`LocalDatabase::stats`]: those of the whole database.
    ///
    /// # Errors
    /// The disk's.
    pub async fn stats(&self) -> Result<LocalStats> {
        self.database.stats().await
    }

    /// As [`LocalDatabase::close`].
    ///
    /// # Errors
    /// The disk's.
    pub async fn close(self) -> Result<()> {
        self.database.close().await
    }

    /// What stands before each key in the database.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl Store for LocalStore {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        LIMITS.check_keys("get_many", keys.iter().copied())?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut full = Keys::with_capacity(keys.len());
        keys.iter().for_each(|key| full.push(&self.prefix, key));
        self.database.read("get_many", full).await
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        let checked = changes.iter().map(|(key, value)| (*key, value.as_ref()));
        LIMITS.check_changes("write_many", checked)?;
        if changes.is_empty() {
            return Ok(());
        }
        let changes = sorted(changes).into_iter();
        let changes = changes.map(|(key, value)| change(&self.prefix, key, value.as_ref()));
        let changes: Vec<Change> = changes.collect();
        self.database.write("write_many", changes).await
    }

    /// Waits until the disk has all that was written.
    ///
    /// Stores of one database share its journal, so what others have written is on the disk then, too.
    async fn flush(&self) -> Result<()> {
        self.database.sync().await
    }
}

/// By key, of each the last change: what is sorted needs no look-up to find keys that come twice.
fn sorted<'a, 'k>(changes: &'a [(&'k str, Option<Bytes>)]) -> Vec<&'a (&'k str, Option<Bytes>)> {
    let mut changes: Vec<_> = changes.iter().rev().collect();
    // Stable: of two changes of a key the later one comes first.
    changes.sort_by_key(|(key, _)| *key);
    changes.dedup_by_key(|(key, _)| *key);
    changes
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalStore")
            .field("directory", &self.database.directory())
            .field("prefix", &self.prefix)
            .finish()
    }
}
