//! The directory under which servers keep everything: `.servers/` in the workspace.
//!
//! ```text
//! .servers/lock                      held while servers are fetched, started, stopped
//! .servers/kafka/4.4.0/              what was fetched, whole or not there
//! .servers/kafka-cluster.state       another kind of server, which runs from what `kafka` runs from
//! .servers/kafka.state               the one that `servers start` started
//! .servers/kafka.1234.state          the one that belongs to the test run with process id 1234
//! .servers/run/kafka.…/              a running server's configuration, data and log
//! .servers/kafka.last-failure.log    the log of the last one whose test run failed
//! ```

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs, process, thread};

use anyhow::{Context, Result};

use super::{Product, Server};
use crate::interrupt;

/// The directory, which exists.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    root: PathBuf,
}

/// Only one process at a time starts and stops servers. Released when dropped, or by the end of the
/// process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Home {
    /// `.servers/` in the workspace, or what KASPER_SERVERS_DIR names.
    pub(crate) fn open() -> Result<Self> {
        let root = match env::var_os("KASPER_SERVERS_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => crate::cargo::workspace().join(".servers"),
        };
        Self::at(&root)
    }

    pub(super) fn at(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
        let root =
            root.canonicalize().with_context(|| format!("cannot find {}", root.display()))?;
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Waits until no other process holds the lock.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let path = self.root.join("lock");
        let context = || format!("cannot lock {}", path.display());
        let file = File::options().create(true).append(true).open(&path).with_context(context)?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::Error(error)) => return Err(error).with_context(context),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        println!("another `cargo xtask` starts or stops servers, waiting for it");
                        told = true;
                    }
                    interrupt::check()?;
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    /// Whether [`files`](Self::files) will find what it needs without fetching.
    pub(crate) fn has_files(&self, product: &dyn Product) -> bool {
        self.place(product).is_dir()
    }

    fn place(&self, product: &dyn Product) -> PathBuf {
        self.root.join(product.name()).join(product.version())
    }

    /// Where a product is, fetched now unless it is there.
    ///
    /// It is fetched beside its place and moved there when whole: an interrupted download leaves
    /// nothing that looks like a finished one.
    pub(crate) fn files(&self, product: &dyn Product, _lock: &Lock) -> Result<PathBuf> {
        let place = self.place(product);
        if self.has_files(product) {
            return Ok(place);
        }
        // A name of its own: what an earlier command started may still be writing, if that command
        // was killed.
        let name = format!("{}.unfinished-{}", product.version(), process::id());
        let unfinished = self.root.join(product.name()).join(name);
        for path in entries(&self.root.join(product.name()))? {
            if path.to_string_lossy().contains(".unfinished-") {
                remove_dir(&path)?;
            }
        }
        fs::create_dir_all(&unfinished)
            .with_context(|| format!("cannot create {}", unfinished.display()))?;
        product
            .fetch(&unfinished)
            .with_context(|| format!("cannot fetch {} {}", product.name(), product.version()))?;
        fs::rename(&unfinished, &place)
            .with_context(|| format!("cannot move to {}", place.display()))?;
        Ok(place)
    }

    /// A new, empty directory for one run of a server.
    pub(crate) fn new_run_dir(&self, server: &dyn Server) -> Result<PathBuf> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{}.{}-{}", server.name(), process::id(), now.as_millis());
        let path = self.root.join("run").join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// The directories of a server's runs, the abandoned ones too.
    pub(crate) fn run_dirs(&self, server: &dyn Server) -> Result<Vec<PathBuf>> {
        // The dot keeps those of `kafka` apart from those of `kafka-cluster`.
        let prefix = format!("{}.", server.name());
        let mut runs = entries(&self.root.join("run"))?;
        runs.retain(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        });
        Ok(runs)
    }

    /// Where the log of a failed test run's server is kept.
    pub(crate) fn failure_log(&self, server: &str) -> PathBuf {
        self.root.join(format!("{server}.last-failure.log"))
    }
}

/// What is in a directory. Nothing if it is not there.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot list {}", directory.display());
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry.with_context(context)?.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(context),
    }
}

/// Removes a directory and all in it. Fine if it is not there.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
