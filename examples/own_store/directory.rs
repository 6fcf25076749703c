//! A store of one's own: a directory with a file for each key. Take it as a template: a network instead of a disk
//! changes what is inside of the two blocking functions, and which errors help to retry.

use std::fs;
use std::io::{self, ErrorKind as Io};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kasper::store::Store;
use kasper::{Bytes, Error, ErrorKind, Result};

/// The longest key: each byte takes two characters of a file's name, which has 255.
pub(crate) const MAX_KEY_BYTES: usize = 100;

/// Keeps each value in a file whose name is its key in hexadecimal.
#[derive(Clone)]
pub(crate) struct DirectoryStore {
    path: Arc<Path>,
    /// For the names of files that are being written.
    written: Arc<AtomicU64>,
}

impl DirectoryStore {
    /// Makes the directory unless it is there. One process at a time may use it.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub(crate) fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path: PathBuf = path.into();
        fs::create_dir_all(&path).map_err(|error| failed("open", &path, error))?;
        Ok(Self { path: path.into(), written: Arc::default() })
    }

    fn file(&self, key: &str) -> PathBuf {
        let name: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.path.join(name)
    }

    fn read(&self, key: &str) -> Result<Option<Bytes>> {
        let file = self.file(key);
        match fs::read(&file) {
            Ok(value) => Ok(Some(value.into())),
            Err(error) if error.kind() == Io::NotFound => Ok(None),
            Err(error) => Err(failed("get_many", &file, error)),
        }
    }

    /// Rule 10: a reader finds the value before or after, never half of one. So a value is written beside its place
    /// and moved there.
    fn change(&self, key: &str, value: Option<&[u8]>) -> Result<()> {
        let file = self.file(key);
        let Some(value) = value else {
            return match fs::remove_file(&file) {
                Err(error) if error.kind() != Io::NotFound => {
                    Err(failed("write_many", &file, error))
                }
                _ => Ok(()),
            };
        };
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let beside = self.path.join(format!("{number}.unfinished"));
        let moved = fs::write(&beside, value).and_then(|()| fs::rename(&beside, &file));
        moved.map_err(|error| failed("write_many", &file, error))
    }
}

impl Store for DirectoryStore {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        keys.iter().try_for_each(|key| check("get_many", key))?;
        let (store, keys) = (self.clone(), owned(keys));
        // Rule 1: by position, also where a key is asked for twice.
        blocking("get_many", move || keys.iter().map(|key| store.read(key)).collect()).await
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        changes.iter().try_for_each(|(key, _)| check("write_many", key))?;
        let store = self.clone();
        let changes: Vec<_> =
            changes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        // Rule 5: in their order, so that a key's last change counts. Rule 9: where one fails, those before it are
        // made, and making all of them again does no harm.
        let write =
            move || changes.iter().try_for_each(|(key, value)| store.change(key, value.as_deref()));
        blocking("write_many", write).await
    }
}

/// Rule 7, before anything is read or written.
fn check(operation: &'static str, key: &str) -> Result<()> {
    let refused = |message: &str| Error::new(ErrorKind::InvalidInput, message);
    let error = match key.len() {
        0 => refused("a key is empty"),
        1..=MAX_KEY_BYTES => return Ok(()),
        _ => {
            let beginning: String = key.chars().take(20).collect();
            refused("a key is too long").with("key", beginning).with("limit", MAX_KEY_BYTES)
        }
    };
    Err(error.with("operation", operation))
}

/// Rule 11: what happened, where, and whether the same call may succeed when it is made again.
fn failed(operation: &'static str, file: &Path, error: io::Error) -> Error {
    let is_full = error.kind() == Io::StorageFull;
    let kind = if is_full { ErrorKind::NoSpace } else { ErrorKind::Backend };
    let told = Error::new(kind, "a file could not be read or written")
        .with("operation", operation)
        .with("file", file.display());
    let may_pass = error.kind() == Io::Interrupted;
    let told = if may_pass { told.retryable() } else { told };
    told.with_source(error)
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

/// Files block, so they are for a thread of their own.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(call).await.unwrap_or_else(|error| {
        let ended = Error::new(ErrorKind::Internal, "the task that reads and writes files ended");
        Err(ended.with("operation", operation).with_source(error))
    })
}
