//! Where a local store is and how it works: [`LocalConfig`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::store::faults::Faults;
use crate::store::url::{Wrong, decoded, settings};

/// What may stand behind the `?` of a URL.
pub(in crate::store) const URL_SETTINGS: &[&str] = &["prefix", "sync", "timeout"];

/// The longest prefix, in bytes.
pub(super) const MAX_PREFIX_BYTES: usize = 500;

/// Where a [`LocalStore`](super::LocalStore) is and how it works.
///
/// A setting with a value that it cannot have is refused when the store is opened, with an error of kind
/// [`Config`](ErrorKind::Config) that lists all faults.
///
/// ```
/// use kasper::store::LocalConfig;
///
/// let config = LocalConfig::new("/var/lib/my-job").prefix("counts").sync(true);
/// assert_eq!(config.directory(), std::path::Path::new("/var/lib/my-job"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalConfig {
    directory: PathBuf,
    pub(super) prefix: String,
    pub(super) sync: bool,
    pub(super) timeout: Duration,
    pub(super) cache_bytes: u64,
    pub(super) memtable_bytes: u64,
}

impl LocalConfig {
    /// A database in this directory, which is made if it is missing.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            prefix: String::new(),
            sync: false,
            timeout: Duration::from_secs(60),
            cache_bytes: 32 << 20,
            memtable_bytes: 64 << 20,
        }
    }

    /// The store's name within the database, of at most 500 bytes and without `/`. Default: empty, which is a prefix like
    /// any other. Stores of other prefixes don't see its keys.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Whether each write waits until the disk has it. Default: no.
    ///
    /// Without it, a write that has returned survives the end of the process, however sudden, and what was
    /// [flushed](crate::store::Store::flush) survives a power failure, too. With it every write does, and
    /// takes the time that the disk needs: some tenths of a millisecond to some tens.
    #[must_use]
    pub fn sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// The longest time that one call may take, opening included. Default: 60 s. Zero is refused.
    ///
    /// It does not end what is done on the caller's thread: the first four reads of a call, and a write of up to 200 changes and
    /// 200 KiB that nothing seemed to hold up. They take longer than some tenths of a millisecond only where the disk, the engine or the operating system makes them wait.
    ///
    /// Choose it long enough for a disk that is slow for a moment, and for a compaction that writes have to wait for.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// The most memory that holds what was read from the disk, in bytes. Default: 32 MiB. With zero, nothing is kept.
    ///
    /// More makes reads faster as long as the keys in use don't fit.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// The size at which what was written is sorted from memory into a table on disk, in bytes. Default: 64 MiB. With
    /// zero, every write makes a table.
    ///
    /// Less takes less memory (up to five times this much is in use at once) and more work on disk. The size is stored in
    /// the database when it is created, and does not change afterwards.
    #[must_use]
    pub fn memtable_bytes(mut self, bytes: u64) -> Self {
        self.memtable_bytes = bytes;
        self
    }

    /// The database's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `local:PATH`, then `?`, then `prefix=…`, `sync=true` and `timeout=60s`, with `&` in between. As in any URL, `%3F` is
    /// a `?`.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): it is not such a URL. What the settings say is checked when the store is opened.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::parse(url).map_err(|wrong| {
            let message = format!("the URL of a local store is wrong: {wrong}");
            Error::new(ErrorKind::Config, message).with("url", url)
        })
    }

    fn parse(url: &str) -> Result<Self, Wrong> {
        let rest = url.strip_prefix("local:").ok_or("it begins with `local:`")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() {
            return Err("it names its directory: `local:PATH`".to_owned());
        }
        let mut config = Self::new(decoded("the directory", path)?);
        for setting in settings(query) {
            let setting = setting?;
            config = match setting.name {
                "prefix" => config.prefix(setting.value),
                "sync" => config.sync(setting.parsed("`true` or `false`")?),
                "timeout" => config.timeout(setting.duration()?),
                _ => return Err(setting.unknown(URL_SETTINGS)),
            };
        }
        Ok(config)
    }

    /// # Errors
    /// [`Config`](ErrorKind::Config): all faults of what is about a store.
    pub(super) fn check(&self) -> Result<()> {
        let mut faults = self.database_faults();
        faults.take(prefix_fault(&self.prefix));
        faults.refuse().map_err(|error| error.with("prefix", &self.prefix))
    }

    /// # Errors
    /// [`Config`](ErrorKind::Config): all faults of what is about the database.
    pub(super) fn check_database(&self) -> Result<()> {
        self.database_faults().refuse()
    }

    fn database_faults(&self) -> Faults {
        let mut faults = Faults::default();
        faults.time_limit("timeout", self.timeout);
        faults
    }

    /// Whether a database that is open with this configuration is what `other` asks for. The prefix is a
    /// store's and not the database's.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        let alike = |config: &Self| Self { prefix: String::new(), ..config.clone() };
        let directory = self.directory.clone();
        alike(self) == Self { directory, ..alike(other) }
    }
}

/// # Errors
/// [`Config`](ErrorKind::Config): a prefix that is too long or has a `/`, with which the keys of two stores
/// could be the same.
pub(super) fn check_prefix(prefix: &str) -> Result<()> {
    let mut faults = Faults::default();
    faults.take(prefix_fault(prefix));
    faults.refuse().map_err(|error| error.with("prefix", prefix))
}

fn prefix_fault(prefix: &str) -> Result<(), String> {
    if prefix.contains('/') {
        return Err("the prefix has a `/`, which would make keys collide".to_owned());
    }
    if prefix.len() > MAX_PREFIX_BYTES {
        return Err(format!("the prefix is longer than the limit of {MAX_PREFIX_BYTES} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_the_same_as_the_methods() {
        let url = |url: &str| LocalConfig::from_url(url).unwrap();
        assert_eq!(url("local:a/b"), LocalConfig::new("a/b"));
        assert_eq!(url("local:///a"), LocalConfig::new("/a"));
        assert_eq!(url("local:a?prefix=p&sync=true"), LocalConfig::new("a").prefix("p").sync(true));
        assert_eq!(url("local:a?sync=false"), LocalConfig::new("a"));
    }

    #[test]
    fn other_urls_are_refused_with_the_fault() {
        for (url, fault) in [
            ("local:", "names its directory"),
            ("local:?prefix=a", "names its directory"),
            ("local:a?prefx=b", "no setting `prefx`, only `prefix`"),
            ("local:a?sync=yes", "`sync` is `true` or `false`"),
            ("local:a?timeout=60", "`timeout` is a duration with its unit"),
            ("local:a%", "the directory has a `%`"),
            ("map:", "begins with"),
        ] {
            let error = LocalConfig::from_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(fault), "{error}");
        }
    }

    #[test]
    fn a_prefix_that_could_collide_is_refused() {
        check_prefix("").unwrap();
        check_prefix(&"p".repeat(500)).unwrap();
        for prefix in ["a/b", "/", &"p".repeat(501)] {
            assert_eq!(check_prefix(prefix).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
