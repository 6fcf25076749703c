//! [`ProcessError`]: how the user's code marks its errors.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::error::BoxError;
use crate::message::{Message, Offset};

/// An error with a mark that says what the [`ErrorPolicy`](crate::ErrorPolicy) should do about it.
///
/// `?` converts it into the [`BoxError`] that [`process`](crate::Processor::process) returns. Your own error stays its
/// source, where [`Error::find`](crate::Error::find) finds it.
///
/// ```
/// use kasper::{Batch, BoxError, Context, ProcessError, Processor};
/// # async fn charge(_: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
///
/// struct Charge;
///
/// impl Processor for Charge {
///     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
///         for message in batch.iter() {
///             let order = message.value().ok_or_else(|| ProcessError::poison(&message, "an order without a value"))?;
///             charge(order).await.map_err(ProcessError::retryable)?;
///         }
///         Ok(())
///     }
/// }
/// ```
#[derive(Debug)]
pub struct ProcessError {
    mark: Mark,
    source: BoxError,
}

#[derive(Debug)]
enum Mark {
    Retryable,
    Fatal,
    Poison(Position),
}

/// A message, by where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: Offset,
}

impl ProcessError {
    /// The same call may succeed when it is made again. The batch is processed again as
    /// [`ErrorPolicy::retryable`](crate::ErrorPolicy::retryable) says; no message is rejected because of this error.
    pub fn retryable(source: impl Into<BoxError>) -> Self {
        Self { mark: Mark::Retryable, source: source.into() }
    }

    /// The topic processor stops at once, whatever the policy says.
    pub fn fatal(source: impl Into<BoxError>) -> Self {
        Self { mark: Mark::Fatal, source: source.into() }
    }

    /// This message is the culprit: if the policy rejects messages, it is rejected, without retries and without looking
    /// for another. It counts as retryable if its source is, so that a store's outage does not reject anything.
    pub fn poison(message: &Message<'_>, source: impl Into<BoxError>) -> Self {
        let position = Position {
            topic: message.topic().into(),
            partition: message.partition(),
            offset: message.offset(),
        };
        Self { mark: Mark::Poison(position), source: source.into() }
    }

    pub(crate) fn is_retryable(&self) -> bool {
        matches!(self.mark, Mark::Retryable)
    }

    pub(super) fn is_fatal(&self) -> bool {
        matches!(self.mark, Mark::Fatal)
    }

    pub(super) fn culprit(&self) -> Option<&Position> {
        match &self.mark {
            Mark::Poison(position) => Some(position),
            Mark::Retryable | Mark::Fatal => None,
        }
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mark {
            Mark::Retryable => f.write_str("marked as retryable"),
            Mark::Fatal => f.write_str("marked as fatal"),
            Mark::Poison(Position { topic, partition, offset }) => {
                write!(f, "the message {topic}/{partition} at offset {offset} cannot be processed")
            }
        }
    }
}

impl StdError for ProcessError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}
