//! [`Retry`]: repeats a call that failed with a transient error.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::backoff::{Waits, deadline};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;
use crate::metrics::store::{Operation, RetryMetrics};
use crate::multitenant::{MultiStore, TenantKey, TenantMap};
use crate::store::Store;

/// Repeats the calls of a store, or of a multitenant store, that fail with a transient error.
///
/// A call is repeated while its error is [retryable](Error::is_retryable) and the [deadline](Retry::deadline) is not
/// over. The waits between the attempts double, and each is shortened at random, so that many processors don't come
/// back at the same moment. The error that is returned in the end is the store's own last error, or a
/// [`Timeout`](crate::ErrorKind::Timeout) if the store never answered within the deadline. It has the number of
/// attempts as `attempts`, and it stays retryable if it was. Each failure that is followed by another attempt is
/// logged as a warning.
///
/// Rule 9 of the [rules](Store#rules) allows repeating a write. Meanwhile the batch waits, and the partition with it.
/// Choose a deadline well below the topic processor's drain deadline (30 s by default), because a revocation waits no
/// longer than that.
///
/// # Cancel safety
/// As that of the wrapped store: a dropped write may have written any part of its changes.
///
/// ```
/// # use std::sync::atomic::{AtomicU32, Ordering};
/// # use kasper::{Bytes, Error, ErrorKind, Result};
/// use std::time::Duration;
///
/// use kasper::store::{Retry, Store};
///
/// /// Its server is away for the first calls.
/// struct Remote(AtomicU32);
/// # impl Store for Remote {
/// #     async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
/// #         match self.0.fetch_sub(1, Ordering::Relaxed) {
/// #             0 => Ok(vec![Some("1".into()); keys.len()]),
/// #             _ => Err(Error::new(ErrorKind::Unavailable, "connection refused").retryable()),
/// #         }
/// #     }
/// #     async fn write_many(&self, _: &[(&str, Option<Bytes>)]) -> Result<()> {
/// #         Err(Error::new(ErrorKind::Unauthorized, "may only read"))
/// #     }
/// # }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<()> {
/// let store = Retry::new(Remote(3.into())).deadline(Duration::from_secs(5));
/// assert_eq!(store.get("a").await?, Some("1".into())); // at the fourth attempt
///
/// let error = Retry::new(Remote(1000.into())).get("a").await.unwrap_err();
/// assert!(error.get("attempts").unwrap().parse::<u32>().unwrap() > 5);
/// // An error that is not retryable ends the call at once.
/// let error = store.put("a", "1").await.unwrap_err();
/// assert_eq!((error.kind(), error.get("attempts")), (ErrorKind::Unauthorized, Some("1")));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Retry<S> {
    store: S,
    policy: Policy,
    metrics: RetryMetrics,
}

/// A call that hangs should be made at least this often.
const FEW: u32 = 3;

#[derive(Debug, Clone, Copy)]
struct Policy {
    deadline: Duration,
    first_wait: Duration,
    longest_wait: Duration,
}

impl<S> Retry<S> {
    /// Wraps a store, with a deadline of 20 s and waits from 50 ms to 2 s.
    pub fn new(store: S) -> Self {
        let policy = Policy {
            deadline: Duration::from_secs(20),
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(2),
        };
        Self { store, policy, metrics: RetryMetrics::off() }
    }

    /// How long a call may take, with all its attempts. Default: 20 s, which leaves room for three requests to a Redis or
    /// a Cassandra that hangs, with their own default time-outs.
    ///
    /// An attempt that is still running at the deadline is dropped. With a longer deadline, the processor survives a
    /// longer outage, but the batch is held up for as long. A call that times out after fewer than three attempts is
    /// logged as a warning: the wrapped store's own time-out is then too long for the deadline.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use kasper::{Bytes, ErrorKind, Result, store::{Retry, Store}};
    /// /// Never answers.
    /// struct Hanging;
    /// # impl Store for Hanging {
    /// #     async fn get_many(&self, _: &[&str]) -> Result<Vec<Option<Bytes>>> { std::future::pending().await }
    /// #     async fn write_many(&self, _: &[(&str, Option<Bytes>)]) -> Result<()> { std::future::pending().await }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let begun = tokio::time::Instant::now(); // of a paused clock
    /// let error = Retry::new(Hanging).deadline(Duration::from_secs(5)).get("a").await.unwrap_err();
    /// assert_eq!((error.kind(), error.get("attempts")), (ErrorKind::Timeout, Some("1")));
    /// assert_eq!(begun.elapsed().as_secs(), 5);
    /// # }
    /// ```
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.policy.deadline = deadline;
        self
    }

    /// The wait before the second attempt, which doubles with each further attempt, and the longest wait. Each wait
    /// is shortened by up to half at random. Less than a millisecond counts as one. Default: 50 ms and 2 s.
    #[must_use]
    pub fn waits(mut self, first: Duration, longest: Duration) -> Self {
        self.policy.first_wait = first;
        self.policy.longest_wait = longest;
        self
    }

    /// Also counts repeated calls in these [metrics](crate::metrics), with `name` as the label `store`. Default: only
    /// the log has them.
    #[must_use]
    pub fn metered(mut self, name: &str, metrics: &Metrics) -> Self {
        self.metrics = RetryMetrics::new(metrics, name);
        self
    }

    /// The wrapped store, without retries.
    pub fn inner(&self) -> &S {
        &self.store
    }
}

/// The attempts of one call.
struct Attempts<'a> {
    policy: Policy,
    metrics: &'a RetryMetrics,
    deadline: Instant,
    waits: Waits,
    operation: Operation,
    number: u32,
    /// The error of the previous attempt.
    before: Option<Error>,
}

impl<'a> Attempts<'a> {
    fn begin(policy: Policy, metrics: &'a RetryMetrics, operation: Operation) -> Self {
        let deadline = deadline(policy.deadline);
        let waits = Waits::new(policy.first_wait, policy.longest_wait);
        Self { policy, metrics, deadline, waits, operation, number: 0, before: None }
    }

    /// The outcome of the next attempt or, at the deadline, that of the previous one.
    async fn attempt<T>(&mut self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.number += 1;
        let outcome = tokio::time::timeout_at(self.deadline, call).await;
        outcome.unwrap_or_else(|_| Err(self.before.take().unwrap_or_else(|| self.timeout())))
    }

    fn timeout(&self) -> Error {
        let message =
            format!("the store did not answer within the `deadline` of {:?}", self.policy.deadline);
        Error::new(ErrorKind::Timeout, message).retryable().with("operation", self.operation.name())
    }

    /// Waits, if another attempt is worthwhile.
    ///
    /// # Errors
    /// This error, with the number of attempts, if it is not worthwhile.
    async fn wait_after(&mut self, error: Error) -> Result<()> {
        let wait = self.waits.next(self.deadline).filter(|_| error.is_retryable());
        let (operation, attempt) = (self.operation.name(), self.number);
        let Some(wait) = wait else {
            if error.kind() == ErrorKind::Timeout && error.is_retryable() && attempt < FEW {
                tracing::warn!(
                    operation,
                    attempt,
                    "a call timed out after few attempts: the store's own time-out leaves no room for more within \
                     the `deadline` of the retries"
                );
            }
            return Err(error.with("attempts", self.number));
        };
        tracing::warn!(operation, attempt, ?wait, ?error, "a store's call failed; trying again");
        self.before = Some(error);
        tokio::time::sleep(wait).await;
        self.metrics.tries_again(self.operation);
        Ok(())
    }
}

/// Makes the call until it succeeds, or until another attempt would not help.
macro_rules! retry {
    ($self:ident, $operation:ident, $call:expr) => {{
        let mut attempts = Attempts::begin($self.policy, &$self.metrics, Operation::$operation);
        loop {
            match attempts.attempt($call).await {
                Ok(value) => break Ok(value),
                Err(error) => attempts.wait_after(error).await?,
            }
        }
    }};
}

impl<S: Store> Store for Retry<S> {
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>> {
        retry!(self, GetMany, self.store.get_many(keys))
    }

    async fn write_many(&self, changes: &[(&str, Option<Bytes>)]) -> Result<()> {
        retry!(self, WriteMany, self.store.write_many(changes))
    }

    async fn flush(&self) -> Result<()> {
        retry!(self, Flush, self.store.flush())
    }
}

/// The tenants' stores repeat calls, too.
impl<M: MultiStore> MultiStore for Retry<M> {
    type Tenant = Retry<M::Tenant>;

    fn tenant(&self, tenant: &str) -> Result<Self::Tenant> {
        let (policy, metrics) = (self.policy, self.metrics.clone());
        Ok(Retry { store: self.store.tenant(tenant)?, policy, metrics })
    }

    fn tenants(&self) -> Vec<String> {
        self.store.tenants()
    }

    async fn fetch(&self, keys: &[TenantKey<'_>]) -> Result<TenantMap> {
        retry!(self, Fetch, self.store.fetch(keys))
    }

    async fn push(&self, changes: &TenantMap) -> Result<()> {
        retry!(self, Push, self.store.push(changes))
    }

    async fn flush(&self) -> Result<()> {
        retry!(self, Flush, self.store.flush())
    }
}

impl<S: fmt::Debug> fmt::Debug for Retry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("store", &self.store).field("policy", &self.policy).finish()
    }
}
