//! What the storage engine's errors mean: a kind, and whether the same call may succeed later.

use std::error::Error as _;
use std::{io, iter};

use crate::error::{Error, ErrorKind};

const AGAIN: bool = true;
const FINAL: bool = false;

/// The table. A write that fails on the disk is final even where the disk may recover: the engine can't
/// know what of it was written, and takes no more writes until the database is opened again.
fn meaning(error: &fjall::Error) -> (ErrorKind, bool, &'static str) {
    match error {
        fjall::Error::Locked => {
            (ErrorKind::Unavailable, AGAIN, "another process has the database open")
        }
        fjall::Error::Poisoned => (
            ErrorKind::Backend,
            FINAL,
            "a write or a sync failed before; the database takes no more writes until it is opened again",
        ),
        fjall::Error::InvalidVersion(_) => {
            (ErrorKind::Config, FINAL, "the directory holds a database of another version")
        }
        fjall::Error::KeyspaceDeleted => (ErrorKind::NotFound, FINAL, "the data was deleted"),
        _ => match of_disk(error) {
            Some(error) => of_io(error),
            None => (ErrorKind::Backend, FINAL, "the database's files are damaged"),
        },
    }
}

/// The disk's own error, if it is behind the engine's, in whichever of its layers.
fn of_disk(error: &fjall::Error) -> Option<&io::Error> {
    iter::successors(error.source(), |error| (**error).source())
        .find_map(|error| error.downcast_ref())
}

fn of_io(error: &io::Error) -> (ErrorKind, bool, &'static str) {
    use io::ErrorKind as Io;
    match error.kind() {
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => {
            (ErrorKind::NoSpace, FINAL, "the disk has no room")
        }
        Io::PermissionDenied | Io::ReadOnlyFilesystem => {
            (ErrorKind::Unauthorized, FINAL, "the files may not be read or written")
        }
        Io::NotFound | Io::NotADirectory | Io::IsADirectory => {
            (ErrorKind::NotFound, FINAL, "a file or directory is not there")
        }
        Io::Interrupted | Io::WouldBlock | Io::TimedOut => {
            (ErrorKind::Unavailable, AGAIN, "the disk did not answer")
        }
        _ if is_out_of_files(error) => (ErrorKind::Unavailable, AGAIN, "too many files are open"),
        _ => (ErrorKind::Backend, FINAL, "the disk failed"),
    }
}

/// ENFILE and EMFILE, which have no kind of their own; the same numbers on all Unix systems.
fn is_out_of_files(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

/// The library's error for one of the engine's.
pub(super) fn of_engine(error: fjall::Error) -> Error {
    let (kind, again, message) = meaning(&error);
    let mapped = Error::new(kind, message).with_source(error);
    if again { mapped.retryable() } else { mapped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_the_engine_has_its_meaning() {
        let io = |kind: io::ErrorKind| fjall::Error::Io(kind.into());
        let in_a_table = |kind: io::ErrorKind| fjall::Error::Storage(io::Error::from(kind).into());
        let errno = |number| fjall::Error::Io(io::Error::from_raw_os_error(number));
        let rows = [
            (fjall::Error::Locked, ErrorKind::Unavailable, AGAIN),
            (fjall::Error::Poisoned, ErrorKind::Backend, FINAL),
            (fjall::Error::InvalidVersion(None), ErrorKind::Config, FINAL),
            (fjall::Error::KeyspaceDeleted, ErrorKind::NotFound, FINAL),
            (fjall::Error::Unrecoverable, ErrorKind::Backend, FINAL),
            (fjall::Error::InvalidTrailer, ErrorKind::Backend, FINAL),
            (io(io::ErrorKind::StorageFull), ErrorKind::NoSpace, FINAL),
            (io(io::ErrorKind::QuotaExceeded), ErrorKind::NoSpace, FINAL),
            (io(io::ErrorKind::FileTooLarge), ErrorKind::NoSpace, FINAL),
            (io(io::ErrorKind::PermissionDenied), ErrorKind::Unauthorized, FINAL),
            (io(io::ErrorKind::ReadOnlyFilesystem), ErrorKind::Unauthorized, FINAL),
            (io(io::ErrorKind::NotFound), ErrorKind::NotFound, FINAL),
            (io(io::ErrorKind::NotADirectory), ErrorKind::NotFound, FINAL),
            (io(io::ErrorKind::Interrupted), ErrorKind::Unavailable, AGAIN),
            (io(io::ErrorKind::TimedOut), ErrorKind::Unavailable, AGAIN),
            (io(io::ErrorKind::InvalidData), ErrorKind::Backend, FINAL),
            (errno(libc::EMFILE), ErrorKind::Unavailable, AGAIN),
            (errno(libc::ENFILE), ErrorKind::Unavailable, AGAIN),
            (errno(libc::EIO), ErrorKind::Backend, FINAL),
            (errno(libc::ENOSPC), ErrorKind::NoSpace, FINAL),
            (in_a_table(io::ErrorKind::StorageFull), ErrorKind::NoSpace, FINAL),
        ];
        for (error, kind, again) in rows {
            let name = format!("{error:?}");
            let mapped = of_engine(error);
            assert_eq!((mapped.kind(), mapped.is_retryable()), (kind, again), "{name}");
            assert!(mapped.find::<fjall::Error>().is_some(), "{name}: the cause is kept");
        }
    }
}
