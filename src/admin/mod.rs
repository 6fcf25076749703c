//! Status, health and a live page over HTTP, for the team on call. Feature `admin`.
//!
//! For one processor, call [`Builder::admin`](crate::Builder::admin). For several processors in one process, or to
//! mount the routes in a server of yours, give an [`Admin`] the [`Handle`]s of the processors.
//!
//! | path | |
//! | --- | --- |
//! | `/` | a page that shows all of it, live |
//! | `/status` | the same as JSON, see below |
//! | `/events` | the same as server-sent events: `history` (of `rate` and `lag`) once, then `status` once a second |
//! | `/health/live` | 200 while the process can answer |
//! | `/health/ready` | 200 if each processor runs, has its partitions (or is known to get none), has no [stalled](crate::PartitionStatus::stalled) or [retrying](crate::PartitionStatus::retrying) partition and no input topic whose [change](crate::TopicChange::stops) will stop it, and nothing has failed; otherwise 503, with a line for each processor that is not ready, which gives the first reason |
//! | `/metrics` | the metrics of the processors' `Prometheus` recorder, or the text of [`Admin::metrics`]; 404 if there is neither |
//! | `/processors/{id}/…` | with [`Admin::control`] only: `POST` to `pause`, `resume`, `close`, `partitions/{number}/pause` and `…/resume`, with `Authorization: Bearer {token}` |
//!
//! While the group rebalances, `/health/ready` answers 503, so a rolling restart waits for each step.
//!
//! # `/status`, version 1
//!
//! A version may get new fields; existing names and meanings stay. Counts are numbers, times are milliseconds.
//!
//! | field | |
//! | --- | --- |
//! | `version` | 1 |
//! | `at_ms` | the time of this status, since 1970 |
//! | `control` | whether pause, resume and close are offered |
//! | `processors` | one entry for each processor, in the order in which they were given |
//! | `….id` | the processor's position in the list, for `/processors/{id}/…` |
//! | `….name` | the processor's name; two processors may have the same name |
//! | `….state` | `starting`, `running`, `closing`, `closed` |
//! | `….ready` | whether `/health/ready` counts the processor as ready |
//! | `….paused` | whether all of its partitions are paused |
//! | `….failure` | the error that stopped it, or null |
//! | `….target_missed_ms` | for how long [`target_latency`](crate::Builder::target_latency) has not been met, or null |
//! | `….lag` | the sum of the lags of its partitions |
//! | `….rate` | messages finished per second, over the last five seconds; null in the first second |
//! | `….messages`, `….batches`, `….bytes` | finished since it began to run |
//! | `….rejected` | messages that were [rejected](crate::Status::rejected) since it began to run |
//! | `….topics` | input topics that are not as they should be; usually none |
//! | `….topics.topic`, `….topics.message` | the topic, and what was seen and what to do about it |
//! | `….topics.change` | `deleted`, `recreated`, `unaligned`, `incomplete`, `partitions added`: see [`TopicChange`](crate::TopicChange) |
//! | `….topics.since_ms` | the time since the change was first seen |
//! | `….partitions` | sorted by topic and number |
//! | `….partitions.topic`, `….partitions.partition` | |
//! | `….partitions.state` | `starting`, `running`, `paused`, `retrying`, `draining`, `failed` |
//! | `….partitions.epoch` | numbers the assignments of the process |
//! | `….partitions.next_offset` | the next offset after the finished messages |
//! | `….partitions.end_offset` | the end of the log as last reported |
//! | `….partitions.lag` | offsets between `next_offset` and `end_offset` |
//! | `….partitions.committed_offset`, `….partitions.committed_lag` | the offset that is committed in the group, or null, and the offsets from there to the end |
//! | `….partitions.rate` | offsets finished per second, over the last five seconds; null in the first second |
//! | `….partitions.quarantined_keys` | keys whose messages [become letters until they are replayed](crate::Quarantine) |
//! | `….partitions.in_flight` | batches in `process` or waiting for acks |
//! | `….partitions.buffered_bytes` | bytes fetched and waiting for `process`, for all topics of the partition number together |
//! | `….partitions.last_progress_ms` | the time since a batch last finished |
//! | `….partitions.stalled` | whether there has been lag and no progress for longer than [`stall_timeout`](crate::Builder::stall_timeout) allows |
//! | `….partitions.last_error` | the error that the partition failed with, or null |
//! | `….partitions.retrying` | null, or why the processor [fails and is called again](crate::PartitionStatus::retrying): `attempt`, `since_ms`, `error` |
//!
//! # Who may look
//!
//! Anyone who can connect can read everything. That includes names of topics, offsets and errors, but no messages. So
//! the server listens on loopback addresses only, unless [`Admin::allow_remote`] is called. In that case, put a proxy
//! with authentication before it.

#[cfg(feature = "kafka")]
mod builder;
mod control;
mod events;
mod health;
mod metrics;
mod page;
mod sampler;
mod server;
mod shared;
mod status;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;

#[cfg(feature = "kafka")]
pub(crate) use builder::AdminSettings;
pub use server::AdminServer;

use self::metrics::MetricsText;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Handle;
use server::Listener;
use shared::ServerState;
use token::Token;

/// Serves the status of a list of processors; see [the module](self).
///
/// ```no_run
/// # #[cfg(feature = "kafka")]
/// # async fn example(orders: kasper::TopicProcessor, bills: kasper::TopicProcessor) -> kasper::Result<()> {
/// use kasper::admin::Admin;
///
/// let admin = Admin::new().processor(orders.handle()).processor(bills.handle());
/// // It serves until it is dropped.
/// let server = admin.serve("127.0.0.1:9400").await?;
/// tokio::try_join!(orders.run(), bills.run())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use = "nothing is served before `serve` or `router`"]
pub struct Admin {
    processors: Vec<Handle>,
    metrics: Option<MetricsText>,
    token: Option<Token>,
    allow_remote: bool,
}

impl Admin {
    /// An `Admin` without processors, metrics and control.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a processor to those that are shown.
    pub fn processor(mut self, handle: Handle) -> Self {
        self.processors.push(handle);
        self
    }

    /// Serves this text at `/metrics`, in Prometheus' text format. The function is called at each scrape, on the
    /// runtime's threads, so it must be quick.
    ///
    /// Default: the metrics of the recorder that was passed to [`Builder::metrics`](crate::Builder::metrics), if it is
    /// a `metrics::Prometheus` (feature `prometheus`). If the processors have several, or recorders of other kinds, or
    /// report to the global recorder, `/metrics` is not found.
    ///
    /// ```
    /// # #[cfg(feature = "prometheus")] {
    /// // The global recorder also has the metrics of other libraries.
    /// let prometheus = kasper::metrics::prometheus()?;
    /// metrics::set_global_recorder(prometheus.clone()).expect("none is installed yet");
    /// let admin = kasper::admin::Admin::new().metrics(move || prometheus.render());
    /// # }
    /// # Ok::<(), kasper::Error>(())
    /// ```
    pub fn metrics(mut self, text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Some(Arc::new(text));
        self
    }

    /// Lets those who know this token pause, resume and close processors. Clients send the token with each command,
    /// as clear text: use TLS over a network. Default: nobody can control the processors.
    ///
    /// The token has at least 16 characters of printable ASCII, without spaces. [`router`](Admin::router),
    /// [`serve`](Admin::serve) and [`Builder::build`](crate::Builder::build) refuse others:
    ///
    /// ```
    /// # #[cfg(feature = "kafka")]
    /// # async fn example() -> kasper::Result<()> {
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Count;
    /// # impl Processor for Count {
    /// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// # use kasper::{TopicProcessor, admin::Admin, testkit::EmbeddedBroker};
    /// # let broker = EmbeddedBroker::start()?;
    /// # broker.create_topic("orders", 1)?;
    /// # let builder = TopicProcessor::builder("count-orders", ["orders"]).brokers(broker.brokers());
    /// let processor = builder.build(|_| Count).await?;
    /// let admin = Admin::new().processor(processor.handle());
    /// assert!(admin.clone().control("correct-horse-battery").router().is_ok());
    /// let error = admin.control("correct horse battery").router().unwrap_err();
    /// assert_eq!(error.kind(), kasper::ErrorKind::Config);
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "kafka")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(example()).unwrap();
    /// ```
    pub fn control(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::new(token.into()));
        self
    }

    /// Lets [`serve`](Admin::serve) and [`Builder::admin_with`](crate::Builder::admin_with) listen at addresses that
    /// other machines can reach. Except for [control](Admin::control), clients are not authenticated. Default: an
    /// error.
    ///
    /// ```
    /// # use kasper::admin::Admin;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let error = Admin::new().serve("0.0.0.0:0").await.unwrap_err();
    /// assert!(error.to_string().contains("call `Admin::allow_remote`"));
    /// # }
    /// ```
    pub fn allow_remote(mut self) -> Self {
        self.allow_remote = true;
        self
    }

    /// A router to mount in a server of yours, at its root, or below a path with `nest`. Time-outs and the number of
    /// connections are left to that server. At most 16 clients can listen to `/events`; others get a 503.
    ///
    /// A task of the current tokio runtime looks at the processors once a second, until the router and its clones are
    /// dropped.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): there is no processor, the [token](Admin::control) is not accepted, or the call is
    /// made outside of a tokio runtime.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let error = kasper::admin::Admin::new().router().unwrap_err();
    /// assert_eq!(error.kind(), kasper::ErrorKind::Config);
    /// assert!(error.to_string().contains("no processor to show"));
    /// # }
    /// ```
    pub fn router(self) -> Result<Router> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| {
            let message = "the admin router starts a task: call it inside a tokio runtime";
            Error::new(ErrorKind::Config, message).with_source(error)
        })?;
        if self.processors.is_empty() {
            let message = "the admin server has no processor to show: add a processor's handle";
            return Err(Error::new(ErrorKind::Config, message));
        }
        if let Some(token) = &self.token {
            token.check()?;
        }
        let metrics = self.metrics.or_else(|| metrics::recorded(&self.processors));
        let shared = Arc::new(ServerState::new(self.processors, metrics, self.token));
        runtime.spawn(events::run(Arc::downgrade(&shared)));
        Ok(routes(shared))
    }

    /// Serves at this address, `host:port`, until the returned value is dropped. With port 0 the system chooses a
    /// port, which [`AdminServer::local_addr`] returns.
    ///
    /// At most 64 connections are served at a time. A connection is closed if it takes longer than 10 s to send the
    /// head of a request, or if for 10 s it accepts nothing of a response.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): as for [`router`](Admin::router). Also if the address is not valid, if the
    /// server can't listen at it, or if it is not a loopback address and [`allow_remote`](Admin::allow_remote) was
    /// not called.
    pub async fn serve(self, address: impl Into<String>) -> Result<AdminServer> {
        let listener = self.listen(&address.into()).await?;
        Ok(listener.serve(self.router()?))
    }

    async fn listen(&self, address: &str) -> Result<Listener> {
        Listener::bind(address, self.allow_remote).await
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("processors", &self.processors)
            .field("metrics", &self.metrics.is_some())
            .field("control", &self.token.is_some())
            .field("allow_remote", &self.allow_remote)
            .finish()
    }
}

fn routes(shared: Arc<ServerState>) -> Router {
    let mut router = Router::new()
        .route("/", get(page::page))
        .route("/status", get(status::status))
        .route("/events", get(events::events))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready));
    if shared.metrics.is_some() {
        router = router.route("/metrics", get(metrics::metrics));
    }
    if shared.token.is_some() {
        router = router.merge(control::routes());
    }
    router.layer(map_response(with_headers)).with_state(shared)
}

/// The headers of every response: it is current, it has the type that it states, and it runs and loads nothing.
async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
