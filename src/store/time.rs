//! Deadlines of calls.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// The result, if it comes in this time.
///
/// # Errors
/// It took longer.
pub(crate) async fn in_time<T>(time: Duration, future: impl Future<Output = T>) -> Result<T> {
    let late = |_| Error::new(ErrorKind::Timeout, format!("no answer within {time:?}")).retryable();
    tokio::time::timeout(time, future).await.map_err(late)
}
