//! [`FaultProxy`]: a TCP proxy in front of a server, which makes the network as bad as a test wants.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::error::{Error, ErrorKind, Result};

const CHUNK: usize = 16 * 1024;

/// What a [`FaultProxy`] does with the data that passes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// No fault: all data is passed on.
    None,
    /// Each piece of data is passed on this much later, in both directions.
    Delay(Duration),
    /// At most this many bytes a second for each connection, in each direction. Less than 10 counts as 10.
    Throttle(usize),
    /// Connections stay open, but no data passes through: what is sent is lost. Like a server that hangs, or a
    /// firewall that has forgotten the connection.
    HalfOpen,
    /// Data on connections that are open now is held back, and is passed on when another fault is set. New
    /// connections work. If a client resets a connection in the meantime, the connection is closed and its data is
    /// lost: the reset overtakes the data, as on a network that delivers late.
    Hold,
    /// Open connections are closed, and new ones are closed as soon as they are made.
    Refuse,
    /// After this many more bytes of answers, over all connections, every connection is closed, as with
    /// [`Refuse`](Fault::Refuse). The piece of data that would go over the limit is not passed on.
    CutAfter(usize),
}

/// A TCP proxy in front of a server, which makes the network as bad as a test wants.
///
/// Dropping it closes all connections.
///
/// ```
/// use kasper::testkit::{Fault, FaultProxy};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::net::{TcpListener, TcpStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), kasper::BoxError> {
/// let server = TcpListener::bind("127.0.0.1:0").await?;
/// let proxy = FaultProxy::start(server.local_addr()?.to_string()).await?;
/// let mut client = TcpStream::connect(proxy.address()).await?;
/// let (mut served, _) = server.accept().await?;
/// served.write_all(b"+").await?;
/// assert_eq!(client.read_u8().await?, b'+');
///
/// proxy.set(Fault::Refuse);
/// assert!(client.read_u8().await.is_err()); // closed
/// assert_eq!(proxy.connections(), 1);
/// # Ok(())
/// # }
/// ```
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    target: String,
    fault: watch::Sender<Fault>,
    /// How many connections there had been when the fault was set.
    connections_then: AtomicUsize,
    /// Counts the cuts; a connection ends when it changes.
    cuts: watch::Sender<usize>,
    answered: AtomicUsize,
    connections: AtomicUsize,
}

impl FaultProxy {
    /// Starts a proxy on a free port of this machine, in front of `target`, a `host:port`.
    ///
    /// # Errors
    /// The proxy can't listen on a loopback port.
    pub async fn start(target: impl Into<String>) -> Result<Self> {
        let failed = |error| {
            Error::new(ErrorKind::Unavailable, "the proxy could not listen on a loopback port")
                .with_source(error)
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let state = Arc::new(State {
            target: target.into(),
            fault: watch::Sender::new(Fault::None),
            connections_then: AtomicUsize::new(0),
            cuts: watch::Sender::new(0),
            answered: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, accepting })
    }

    /// The address to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the fault from now on, also for connections that are already open.
    pub fn set(&self, fault: Fault) {
        self.state.answered.store(0, Ordering::SeqCst);
        self.state.connections_then.store(self.connections(), Ordering::SeqCst);
        self.state.fault.send_replace(fault);
        if fault == Fault::Refuse {
            self.cut();
        }
    }

    /// Closes all connections once. New connections get the fault that was [`set`](FaultProxy::set).
    pub fn cut(&self) {
        self.state.cut();
    }

    /// How many connections have been made so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy")
            .field("address", &self.address)
            .field("target", &self.state.target)
            .field("fault", &self.state.fault())
            .finish_non_exhaustive()
    }
}

impl State {
    fn fault(&self) -> Fault {
        *self.fault.borrow()
    }

    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Waits while this connection is held.
    async fn released(&self, connection: usize) {
        let is_released = |fault: &Fault| {
            *fault != Fault::Hold || connection >= self.connections_then.load(Ordering::SeqCst)
        };
        // The sender is here, so there is no error.
        let _ = self.fault.subscribe().wait_for(is_released).await;
    }

    /// Counts bytes of an answer. Says whether they may be passed on.
    fn count(&self, bytes: usize) -> bool {
        let answered = self.answered.fetch_add(bytes, Ordering::SeqCst) + bytes;
        match self.fault() {
            Fault::CutAfter(limit) => answered <= limit,
            _ => true,
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = state.connections.fetch_add(1, Ordering::SeqCst);
        if state.fault() != Fault::Refuse {
            tokio::spawn(serve(client, number, Arc::clone(&state)));
        }
    }
}

/// One connection, until one side ends it or it is cut.
async fn serve(client: TcpStream, number: usize, state: Arc<State>) {
    let mut cuts = state.cuts.subscribe();
    let Ok(server) = TcpStream::connect(&state.target).await else { return };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let asks = Pump { state: &state, number, is_answer: false };
    let answers = Pump { is_answer: true, ..asks };
    tokio::select! {
        _cut = cuts.changed() => {}
        () = asks.run(client_reads, server_writes) => {}
        () = answers.run(server_reads, client_writes) => {}
    }
}

/// One direction of a connection.
#[derive(Clone, Copy)]
struct Pump<'a> {
    state: &'a State,
    number: usize,
    is_answer: bool,
}

impl Pump<'_> {
    async fn run(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let state = self.state;
        let mut buffer = vec![0; CHUNK];
        loop {
            let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
            state.released(self.number).await;
            // A reset while it was held.
            if from.as_ref().take_error().is_ok_and(|error| error.is_some()) {
                return;
            }
            // As it is when the data is there: reading may have taken long.
            let (piece, pause) = match state.fault() {
                Fault::HalfOpen => continue,
                Fault::Delay(time) => (read, time),
                // A tenth of a second's worth at a time.
                Fault::Throttle(rate) => ((rate / 10).max(1), Duration::from_millis(100)),
                _ => (read, Duration::ZERO),
            };
            if self.is_answer && !state.count(read) {
                state.fault.send_replace(Fault::Refuse);
                state.cut();
                return;
            }
            for piece in buffer[..read].chunks(piece) {
                if !pause.is_zero() {
                    sleep(pause).await;
                }
                if to.write_all(piece).await.is_err() {
                    return;
                }
            }
        }
    }
}
