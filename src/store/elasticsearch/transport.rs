//! The connections to the servers: reset when a request on them is given up.
//!
//! A write that had no answer in time may be on its way still. Closed in the usual way, the operating system goes on
//! delivering it, over a later write of the same key. reqwest has no setting for that, so these connections are made
//! with hyper's client, which reqwest consists of. hyper's task closes a connection some time after the request was given
//! up, and shuts TLS down before it drops the socket: this makes a late delivery rare, and does not exclude it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower_service::Service;

use super::config::ElasticsearchConfig;
use super::fault;
use crate::error::Result;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// How requests get to the servers.
#[derive(Clone)]
pub(super) enum Transport {
    /// By connections that are reset when they are given up.
    Own(Client<Connector, Full<Bytes>>),
    /// By the client that the user gave.
    Given(reqwest::Client),
}

#[cfg(feature = "elasticsearch-tls")]
type Connector = InTime<hyper_rustls::HttpsConnector<Resetting>>;
#[cfg(not(feature = "elasticsearch-tls"))]
type Connector = InTime<Resetting>;

impl Transport {
    /// # Errors
    /// Certificates to trust that are none.
    pub(super) fn new(config: &ElasticsearchConfig) -> Result<Self> {
        if let Some(client) = &config.http {
            return Ok(Self::Given(client.clone()));
        }
        let inner = Resetting::new(config);
        #[cfg(feature = "elasticsearch-tls")]
        let inner = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(super::tls::config(config)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(inner);
        let connector = InTime { inner, time: config.connect_timeout };
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        Ok(Self::Own(builder.build(connector)))
    }

    /// Sends a request and waits for the whole answer.
    ///
    /// # Cancel safety
    /// If it is dropped, or the time is over, the connection is closed; one of ours with a reset. That happens when the
    /// runtime next runs the connection's task, not before this returns. With TLS, closing may first send what
    /// is encrypted already.
    pub(super) async fn send(
        &self,
        request: Request<Bytes>,
        time: Duration,
    ) -> Result<(StatusCode, Bytes)> {
        match self {
            Self::Own(client) => {
                let answered = tokio::time::timeout(time, exchange(client, request)).await;
                answered.unwrap_or_else(|_| Err(fault::late(time)))
            }
            Self::Given(client) => {
                let mut request = reqwest::Request::try_from(request).map_err(fault::of_driver)?;
                *request.timeout_mut() = Some(time);
                let answer = client.execute(request).await.map_err(fault::of_driver)?;
                let status = answer.status();
                Ok((status, answer.bytes().await.map_err(fault::of_driver)?))
            }
        }
    }
}

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(90);

async fn exchange<C>(
    client: &Client<C, Full<Bytes>>,
    request: Request<Bytes>,
) -> Result<(StatusCode, Bytes)>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let answer = client.request(request.map(Full::new)).await;
    let answer = answer.map_err(|error| {
        let is_connect = error.is_connect();
        fault::of_connection(error, is_connect)
    })?;
    let status = answer.status();
    let body = answer.into_body().collect().await;
    let body = body.map_err(|error| fault::of_connection(error, false))?;
    Ok((status, body.to_bytes()))
}

/// Connects with TCP; the connections are reset when they are closed.
#[derive(Clone)]
pub(super) struct Resetting(HttpConnector);

impl Resetting {
    fn new(config: &ElasticsearchConfig) -> Self {
        const KEEPALIVE: Duration = Duration::from_secs(15);
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(3));
        Self(with_user_timeout(tcp, config.request_timeout))
    }
}

/// What is sent and not acknowledged ends the connection after this time: a server that is gone without a word.
#[cfg_attr(
    not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")),
    allow(unused_mut, unused_variables, reason = "other systems have no such setting")
)]
fn with_user_timeout(mut tcp: HttpConnector, time: Duration) -> HttpConnector {
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    tcp.set_tcp_user_timeout(Some(time));
    tcp
}

impl Service<Uri> for Resetting {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let connection = connecting.await?;
            connection.inner().set_zero_linger()?;
            Ok(connection)
        })
    }
}

/// Connects within a time, TLS included.
#[derive(Clone)]
pub(super) struct InTime<C> {
    inner: C,
    time: Duration,
}

impl<C> Service<Uri> for InTime<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Connecting<C::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, time) = (self.inner.call(uri), self.time);
        Box::pin(async move {
            match tokio::time::timeout(time, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}
