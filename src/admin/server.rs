//! The server: where it listens, and how long it waits for anybody.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tokio_io_timeout::TimeoutStream;
use tracing::{debug, info, warn};

use crate::error::{Error, ErrorKind, Result};

/// How long the head of a request may take; a connection that is kept for the next one ends after this, too.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take nothing of what is sent to it.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Those who connect further wait until one of these has ended.
const MAX_CONNECTIONS: usize = 64;

const MAX_HEAD_BYTES: usize = 32 << 10;

/// Listens, and serves nobody yet.
pub(crate) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    pub(super) async fn bind(address: &str, allow_remote: bool) -> Result<Self> {
        let refused = |message: &str, cause: io::Error| {
            Error::new(ErrorKind::Config, message).with("address", address).with_source(cause)
        };
        let no_address = "the admin server needs `host:port`, such as 127.0.0.1:9400";
        let found = lookup_host(address).await.map_err(|error| refused(no_address, error))?;
        let found: Vec<SocketAddr> = found.collect();
        if !allow_remote && let Some(remote) = found.iter().find(|a| !a.ip().is_loopback()) {
            let message = "other machines can reach this address, and the admin server has no login for readers: \
                use a loopback address, or call `Admin::allow_remote` (in a configuration, `admin_allow_remote`)";
            return Err(Error::new(ErrorKind::Config, message).with("address", remote));
        }
        let occupied = "the admin server can't listen at this address; choose a free port";
        let bound = TcpListener::bind(&found[..]).await;
        let listener = bound.map_err(|error| refused(occupied, error))?;
        let address = listener.local_addr().map_err(|error| refused(occupied, error))?;
        Ok(Self { listener, address })
    }

    pub(super) fn serve(self, router: Router) -> AdminServer {
        let Self { listener, address } = self;
        info!(%address, "admin server");
        AdminServer { address, task: tokio::spawn(accept(listener, router)) }
    }
}

/// A running server. When it is dropped, it stops, and all its connections end at once.
#[must_use = "the server ends when this is dropped"]
pub struct AdminServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// The address that it listens at.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        // The connections are tasks of this one.
        self.task.abort();
    }
}

impl fmt::Debug for AdminServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminServer").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    no_waiting(&stream);
                    connections.spawn(serve_connection(stream, router.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, perhaps: at once it would be so again.
                    warn!(%error, "the admin server could not accept a connection; it tries again in a second");
                    sleep(Duration::from_secs(1)).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

/// What is sent to a client that is gone would lie in the system's buffer for a quarter of an hour, and the client
/// keep its place.
fn no_waiting(stream: &TcpStream) {
    let set = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let set = set.and_then(|()| SockRef::from(stream).set_tcp_user_timeout(Some(WRITE_TIMEOUT)));
    if let Err(error) = set {
        debug!(%error, "a connection to the admin server is as the system makes it");
    }
}

pub(super) async fn serve_connection<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    let stream = TokioIo::new(Box::pin(stream));
    if let Err(error) = server.serve_connection(stream, TowerToHyperService::new(router)).await {
        debug!(%error, "a connection to the admin server ended");
    }
}
