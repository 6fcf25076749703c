//! The one error type of the library.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::message::undelivered::Fault;
use crate::on_error::ProcessError;

/// The error type that a [`Processor`](crate::Processor) returns: any error.
///
/// `?` converts every error type into it, and strings too.
///
/// ```
/// use kasper::BoxError;
///
/// fn amount(text: &str) -> Result<u64, BoxError> {
///     match text.parse()? {
///         0 => Err("the amount is 0".into()),
///         amount => Ok(amount),
///     }
/// }
///
/// assert_eq!(amount("0").unwrap_err().to_string(), "the amount is 0");
/// assert!(amount("1.5").unwrap_err().is::<std::num::ParseIntError>());
/// ```
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A result whose error is the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in categories that a program can act on.
///
/// `{}` prints the name that errors begin with, and that metrics have as the label `kind`.
///
/// ```
/// use kasper::ErrorKind;
///
/// assert_eq!(ErrorKind::Timeout.to_string(), "timed out");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration is wrong; the message lists every fault found. Also: input topics have
    /// different numbers of partitions, or this member was assigned a partition number of only some of them.
    Config,
    /// A topic does not exist on the cluster, or no longer exists.
    UnknownTopic,
    /// No input topic has this partition number.
    UnknownPartition,
    /// No broker, or no server of a store, could be reached.
    Unavailable,
    /// An operation did not finish within its time limit.
    Timeout,
    /// The server refused the credentials or the operation, there are no credentials, or the server's
    /// certificate is not trusted.
    Unauthorized,
    /// The offset to read from is no longer, or not yet, in the partition's log.
    OffsetOutOfRange,
    /// The user's [`Processor`](crate::Processor) or its factory returned an error.
    Process,
    /// The user's [`Processor`](crate::Processor), its factory, or the
    /// [`on_rebalance`](crate::Builder::on_rebalance) hook panicked.
    Panic,
    /// An outgoing message could not be delivered.
    Delivery,
    /// The offsets of finished batches could not be committed.
    Commit,
    /// Too many messages were rejected: see [`Circuit`](crate::Circuit).
    CircuitOpen,
    /// The input of a call is not acceptable, for example an empty key, or a value over a limit.
    InvalidInput,
    /// Bytes of a message or of a store cannot be decoded as the requested type.
    Decode,
    /// A table, index or keyspace of a store does not exist.
    NotFound,
    /// A store's server has no space for a write.
    NoSpace,
    /// The Kafka client or a store's driver failed in a way that no other kind describes.
    Backend,
    /// A fault in the library itself.
    Internal,
}

impl ErrorKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Config => "configuration",
            Self::UnknownTopic => "unknown topic",
            Self::UnknownPartition => "unknown partition",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timed out",
            Self::Unauthorized => "unauthorized",
            Self::OffsetOutOfRange => "offset out of range",
            Self::Process => "process failed",
            Self::Panic => "process panicked",
            Self::Delivery => "delivery failed",
            Self::Commit => "commit failed",
            Self::CircuitOpen => "circuit open",
            Self::InvalidInput => "invalid input",
            Self::Decode => "not decodable",
            Self::NotFound => "not found",
            Self::NoSpace => "no space",
            Self::Backend => "backend",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error of the library, or of a store written by a user.
///
/// It carries a [kind](ErrorKind), a message, whether the same call may succeed when it is made again, context as
/// pairs of name and value (`topic`, `partition`, `offset`, `tenant`, `operation`, …), and the error that caused it.
///
/// It is one opaque type instead of an enum with a variant for each fault, because its causes belong to others: to a
/// Kafka client, to the stores' drivers, to your code. You ask it questions ([`kind`](Error::kind),
/// [`is_retryable`](Error::is_retryable), [`get`](Error::get)), so a driver can be replaced without breaking your
/// `match`. Your own error stays inside: get it back with [`find`](Error::find).
///
/// ```
/// use kasper::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Unavailable, "connection refused")
///     .retryable()
///     .with("operation", "get_many")
///     .with("server", "10.0.0.7:6379");
/// assert_eq!(error.kind(), ErrorKind::Unavailable);
/// assert!(error.is_retryable());
/// assert_eq!(error.get("operation"), Some("get_many"));
/// assert_eq!(
///     error.to_string(),
///     "unavailable: connection refused (operation=get_many, server=10.0.0.7:6379)"
/// );
/// ```
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    retryable: bool,
    fault: Fault,
    context: Vec<(&'static str, String)>,
    source: Option<BoxError>,
}

impl Error {
    /// Makes an error of this kind, with a message for people. It is not retryable.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                message: message.into(),
                retryable: false,
                fault: Fault::None,
                context: Vec::new(),
                source: None,
            }),
        }
    }

    /// One error of kind [`Config`](ErrorKind::Config) for all that is wrong with a configuration.
    #[cfg(any(
        feature = "kafka",
        feature = "redis",
        feature = "cassandra",
        feature = "elasticsearch",
        feature = "local"
    ))]
    pub(crate) fn faults(faults: &[String]) -> Self {
        Self::new(ErrorKind::Config, faults.join("; "))
    }

    /// Marks the error as retryable: the same call may succeed when it is made again.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.inner.retryable = true;
        self
    }

    /// Adds a pair of name and value that says where the error happened.
    ///
    /// ```
    /// use kasper::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::InvalidInput, "a key is too long").with("limit", 100).with("limit", 50);
    /// assert_eq!(error.to_string(), "invalid input: a key is too long (limit=100, limit=50)");
    /// // Of several pairs with the same name, `get` returns the first.
    /// assert_eq!(error.get("limit"), Some("100"));
    /// assert_eq!(error.get("key"), None);
    /// ```
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.inner.context.push((name, value.to_string()));
        self
    }

    /// Sets the error that caused this one. `{}` does not print it; `{:#}` prints the whole chain of causes.
    ///
    /// ```
    /// use kasper::{Error, ErrorKind};
    ///
    /// let cause = std::io::Error::other("connection reset");
    /// let error = Error::new(ErrorKind::Unavailable, "the store is gone").with_source(cause);
    /// assert_eq!(format!("{error}"), "unavailable: the store is gone");
    /// assert_eq!(format!("{error:#}"), "unavailable: the store is gone: connection reset");
    /// ```
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether the same call may succeed when it is made again.
    ///
    /// True if this error, or a library [`Error`] or [`ProcessError`] anywhere in its chain of causes, is marked as
    /// retryable. So a store's retryable error stays retryable when the user wraps it in an error of their own.
    ///
    /// ```
    /// use kasper::{Error, ErrorKind};
    ///
    /// let store = Error::new(ErrorKind::Timeout, "no answer in 5 s").retryable();
    /// let outer = Error::new(ErrorKind::Process, "process returned an error").with_source(store);
    /// assert!(outer.is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        self.chain().any(is_retryable)
    }

    /// Says whether an outgoing message is at fault.
    pub(crate) fn at_fault(mut self, fault: Fault) -> Self {
        self.inner.fault = fault;
        self
    }

    /// Of this very error.
    pub(crate) fn fault(&self) -> Fault {
        self.inner.fault
    }

    /// Whether this very error says so, whatever its causes are.
    pub(crate) fn is_marked_retryable(&self) -> bool {
        self.inner.retryable
    }

    /// Whether this error, or a library error in its chain of causes, is of this kind.
    pub(crate) fn has_kind(&self, kind: ErrorKind) -> bool {
        let mut errors = self.chain().filter_map(|error| error.downcast_ref::<Error>());
        errors.any(|error| error.kind() == kind)
    }

    /// This error and its causes, from the outside.
    pub(crate) fn chain(&self) -> impl Iterator<Item = &(dyn StdError + 'static)> {
        chain(self)
    }

    /// How long the same call is repeated before this error counts, because its information may be out of date. A
    /// broker that has just become a leader may not know a topic yet, and a right that was granted a moment ago takes
    /// a while to reach all brokers.
    pub(crate) fn doubted_for(&self) -> Duration {
        match self.kind() {
            ErrorKind::UnknownTopic | ErrorKind::UnknownPartition => Duration::from_secs(30),
            ErrorKind::Unauthorized => Duration::from_secs(10),
            _ => Duration::ZERO,
        }
    }

    /// The value of the first pair with this name in the error's context. The contexts of its causes are not searched:
    /// [`find`](Error::find) the cause first.
    ///
    /// ```
    /// use kasper::{Error, ErrorKind};
    ///
    /// let cause = Error::new(ErrorKind::Timeout, "no answer").with("operation", "push");
    /// let error = Error::new(ErrorKind::Process, "process returned an error").with_source(cause);
    /// assert_eq!(error.get("operation"), None);
    /// assert_eq!(error.find::<Error>().unwrap().get("operation"), Some("push"));
    /// ```
    pub fn get(&self, name: &str) -> Option<&str> {
        let pair = self.inner.context.iter().find(|(n, _)| *n == name);
        pair.map(|(_, value)| value.as_str())
    }

    /// The first error of type `E` in the chain of causes, which does not include this error itself.
    ///
    /// ```
    /// use kasper::{Error, ErrorKind};
    ///
    /// let cause = "12x".parse::<u32>().unwrap_err();
    /// let error = Error::new(ErrorKind::Process, "process returned an error").with_source(cause);
    /// assert!(error.find::<std::num::ParseIntError>().is_some());
    /// ```
    pub fn find<E: StdError + 'static>(&self) -> Option<&E> {
        self.chain().skip(1).find_map(|error| error.downcast_ref())
    }
}

/// Whether this very error says that it is retryable.
pub(crate) fn is_retryable(error: &(dyn StdError + 'static)) -> bool {
    let library = error.downcast_ref::<Error>().is_some_and(Error::is_marked_retryable);
    library || error.downcast_ref().is_some_and(ProcessError::is_retryable)
}

/// An error and its causes, from the outside.
pub(crate) fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// `{}` prints the error alone, `{:#}` the whole chain of causes.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            return write!(f, "{self:?}");
        }
        write!(f, "{}: {}", self.inner.kind, self.inner.message)?;
        for (index, (name, value)) in self.inner.context.iter().enumerate() {
            let open = if index == 0 { " (" } else { ", " };
            write!(f, "{open}{name}={value}")?;
        }
        if !self.inner.context.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// Prints the whole chain of causes, so that a `main` that returns an [`Error`] shows all of it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.to_string();
        f.write_str(&last)?;
        let mut next = self.source();
        while let Some(error) = next {
            let cause = error.to_string();
            // Many errors print their cause themselves.
            if last != cause && !last.contains(&format!(": {cause}")) {
                write!(f, ": {cause}")?;
                last = cause;
            }
            next = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Makes an error of what a panic carries.
pub(crate) fn panic_error(message: &str, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("(the panic carries no text)");
    Error::new(ErrorKind::Panic, format!("{message}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_the_chain_of_causes() {
        let inner = Error::new(ErrorKind::Timeout, "no answer").with("operation", "push");
        let error = Error::new(ErrorKind::Process, "process returned an error").with_source(inner);
        assert_eq!(
            format!("{error:?}"),
            "process failed: process returned an error: timed out: no answer (operation=push)"
        );
    }

    #[test]
    fn the_alternate_form_is_the_chain_with_each_cause_once() {
        let broken = std::io::Error::other("broken pipe");
        let told = std::io::Error::other("could not write: broken pipe");
        let inner = Error::new(ErrorKind::Unavailable, "broken pipe").with_source(broken);
        let outer = Error::new(ErrorKind::Process, "process returned an error").with_source(inner);
        assert_eq!(format!("{outer}"), "process failed: process returned an error");
        assert_eq!(
            format!("{outer:#}"),
            "process failed: process returned an error: unavailable: broken pipe"
        );
        let outer = Error::new(ErrorKind::Process, "x").with_source(told);
        assert_eq!(format!("{outer:#}"), "process failed: x: could not write: broken pipe");
    }

    #[test]
    fn a_plain_cause_is_not_retryable() {
        let error = Error::new(ErrorKind::Process, "x").with_source("plain text");
        assert!(!error.is_retryable());
    }
}
