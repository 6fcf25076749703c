//! [`ElasticsearchClient`]: sends a request to one of the servers, and to another where that is right.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio::time::{Instant, sleep};

use super::config::ElasticsearchConfig;
use super::fault::{self, Failure, Fault, Refusal};
use super::node::Node;
use super::transport::Transport;
use crate::error::{Error, ErrorKind, Result};
use crate::store::time::{Waits, deadline};

/// The servers of a cluster, shared by the stores that are made from it. Clones share connections.
#[derive(Clone)]
pub struct ElasticsearchClient {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    /// For requests of the user's own.
    http: reqwest::Client,
    authorization: Option<HeaderValue>,
    nodes: Vec<Node>,
    next: AtomicUsize,
    /// How large a request may be: as configured, and less when a server or a proxy refused one that large.
    request_bytes: AtomicUsize,
    /// How many requests about that large were accepted since it became less.
    accepted: AtomicUsize,
    config: ElasticsearchConfig,
}

/// One call of the store's user, which may become many requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) operation: &'static str,
    deadline: Instant,
}

/// What is sent. Cloned for each attempt, which copies no body.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    /// Made twice at the same time, or late, it does no harm.
    pub(super) reads: bool,
}

/// What a server has answered.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) body: Bytes,
    /// Its address, for errors.
    pub(super) server: &'a str,
}

impl ElasticsearchClient {
    /// A client of these servers. No I/O. The stores that are made from it name their indexes themselves: that of
    /// `config` is not used.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): all faults of the configuration.
    pub fn new(config: &ElasticsearchConfig) -> Result<Self> {
        let (nodes, authorization) = config.check()?;
        let http = match config.http.clone() {
            Some(client) => client,
            None => http_client(config)?,
        };
        let transport = Transport::new(config)?;
        let (next, request_bytes) = (AtomicUsize::new(0), config.max_request_bytes.into());
        let accepted = AtomicUsize::new(0);
        Ok(Self {
            inner: Arc::new(Inner {
                transport,
                http,
                authorization,
                nodes,
                next,
                request_bytes,
                accepted,
                config: config.clone(),
            }),
        })
    }

    /// Asks one of the servers who it is: whether it can be reached, and takes the credentials.
    ///
    /// # Errors
    /// [`Unauthorized`](ErrorKind::Unauthorized), [`Unavailable`](ErrorKind::Unavailable),
    /// [`Timeout`](ErrorKind::Timeout).
    pub async fn ping(&self) -> Result<()> {
        let request = Request {
            method: Method::GET,
            path: "/".to_owned(),
            content_type: JSON,
            body: Bytes::new(),
            reads: true,
        };
        match self.send(self.call("connect"), &request).await {
            // Users may be allowed to use their indexes and nothing else.
            Err(Failure { refusal: Some(Refusal::Forbidden), .. }) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// An HTTP client for requests of your own, which trusts whom the store trusts: the one that the
    /// [configuration](ElasticsearchConfig::http_client) has, if it has one. It adds no credentials by itself.
    pub fn http_client(&self) -> &reqwest::Client {
        &self.inner.http
    }

    pub(super) fn config(&self) -> &ElasticsearchConfig {
        &self.inner.config
    }

    /// How large a request may be, in bytes.
    pub(super) fn request_bytes(&self) -> usize {
        self.inner.request_bytes.load(Ordering::Relaxed)
    }

    /// A request with several keys was refused for its size: those of later calls are smaller, down to a floor. One
    /// odd refusal of a small request must not make all later ones tiny.
    pub(super) fn make_requests_smaller_than(&self, refused: usize) {
        const FLOOR: usize = 64 << 10;
        let most = self.config().max_request_bytes;
        let floor = Some(FLOOR.max(most / 64)).filter(|floor| *floor < most).unwrap_or(most / 64);
        let bytes = (refused / 2).max(floor).max(1);
        self.inner.accepted.store(0, Ordering::Relaxed);
        let before = self.inner.request_bytes.fetch_min(bytes, Ordering::Relaxed);
        if bytes < before {
            tracing::warn!(
                target: "kasper",
                refused,
                bytes,
                max_request_bytes = self.config().max_request_bytes,
                "the server, or a proxy before it, refuses requests of this size (413): requests are made smaller; \
                 set `max_request_bytes` to what it takes"
            );
        }
    }

    /// A request of this size was accepted. After many that were about as large as is allowed now, larger ones are
    /// tried again: the refusal may have been an error, or the limit may have been raised.
    fn accept(&self, accepted: usize) {
        let (bytes, most) = (self.request_bytes(), self.config().max_request_bytes);
        if bytes >= most || accepted < bytes / 2 {
            return;
        }
        if self.inner.accepted.fetch_add(1, Ordering::Relaxed) + 1 >= ACCEPTED_BEFORE_LARGER {
            self.inner.accepted.store(0, Ordering::Relaxed);
            let larger = bytes.saturating_mul(2).min(most);
            // If another call has changed it, that holds.
            let _ = self.inner.request_bytes.compare_exchange(
                bytes,
                larger,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    pub(super) fn call(&self, operation: &'static str) -> Call {
        Call { operation, deadline: deadline(self.inner.config.timeout) }
    }

    /// Sends a request until there is an answer, or an error that none of the servers may do better at.
    ///
    /// A server that can't be reached, also because connecting took too long, is one to try the next instead of. So is one whose connection
    /// broke: it is gone, and what it had begun is finished, or not, in that moment. But a *write* that
    /// gets no answer in time is an error: the server may be hung and make the change later, over the
    /// next one of the same key. Whoever makes the call again does so knowing.
    pub(super) async fn send(&self, call: Call, request: &Request) -> Result<Answer<'_>, Failure> {
        let mut waits = Call::waits();
        let mut unreached = 0;
        let mut refused = None;
        loop {
            let node = self.inner.pick();
            let named = |error: Error| {
                error.with("operation", call.operation).with("server", &node.address)
            };
            match self.attempt(call, node, request).await {
                Ok(body) => return Ok(Answer { body, server: &node.address }),
                Err(Attempt::TooLate(error)) => {
                    return Err(refused.unwrap_or_else(|| named(error).into()));
                }
                Err(Attempt::Refused(fault)) => {
                    let error = named(fault.error);
                    let failure = Failure { error, refusal: Some(fault.refusal) };
                    if !fault.verdict.again || !call.wait(&mut waits).await {
                        return Err(failure);
                    }
                    tracing::debug!(target: "kasper", error = ?failure.error, "trying again");
                    refused = Some(failure);
                }
                Err(Attempt::NoAnswer(error)) => {
                    node.set_down();
                    unreached += 1;
                    let error = named(error);
                    // Why there was another attempt says more than that its time was short. Of a write
                    // it has to be said that nobody knows what became of it.
                    if request.reads && call.is_cut_short(&error) {
                        return Err(refused.unwrap_or(error.into()));
                    }
                    let harmless = request.reads || error.kind() != ErrorKind::Timeout;
                    let another = unreached < self.inner.nodes.len() && harmless;
                    if !another || call.remaining().is_none() {
                        return Err(error.into());
                    }
                    tracing::debug!(target: "kasper", ?error, "trying another server");
                }
            }
        }
    }

    async fn attempt(&self, call: Call, node: &Node, request: &Request) -> Result<Bytes, Attempt> {
        let Some(remaining) = call.remaining() else {
            let error = Error::new(ErrorKind::Timeout, "the time for the call is over").retryable();
            return Err(Attempt::TooLate(error));
        };
        let http = self.http_request(node, request).map_err(Attempt::NoAnswer)?;
        let time = remaining.min(self.inner.config.request_timeout);
        let answer = self.inner.transport.send(http, time).await;
        let (status, body) = answer.map_err(Attempt::NoAnswer)?;
        node.set_up();
        if status.is_success() {
            self.accept(request.body.len());
            return Ok(body);
        }
        let mut fault = Fault::of_answer(status.as_u16(), &body);
        fault.error = fault.error.with("status", status.as_u16());
        Err(Attempt::Refused(fault))
    }

    fn http_request(&self, node: &Node, request: &Request) -> Result<hyper::Request<Bytes>> {
        let mut builder = hyper::Request::builder()
            .method(request.method.clone())
            .uri(format!("{}{}", node.address, request.path))
            .header(CONTENT_TYPE, request.content_type);
        if let Some(authorization) = &self.inner.authorization {
            builder = builder.header(AUTHORIZATION, authorization.clone());
        }
        builder.body(request.body.clone()).map_err(|error| {
            Error::new(ErrorKind::Config, "the request cannot be made").with_source(error)
        })
    }
}

impl fmt::Debug for ElasticsearchClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElasticsearchClient").field("config", self.config()).finish_non_exhaustive()
    }
}

fn http_client(config: &ElasticsearchConfig) -> Result<reqwest::Client> {
    // Redirects would take the credentials elsewhere; a proxy is for what is far away.
    let builder = reqwest::Client::builder()
        .connect_timeout(config.connect_timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    #[cfg(feature = "elasticsearch-tls")]
    if let Some(pem) = &config.tls_authority {
        let unusable = || Error::new(ErrorKind::Config, "`tls_authority` is no certificate (PEM)");
        let certificates = reqwest::Certificate::from_pem_bundle(pem)
            .map_err(|error| unusable().with_source(error))?;
        if certificates.is_empty() {
            return Err(unusable());
        }
        let built = builder.tls_certs_only(certificates).build();
        return built.map_err(|error| unusable().with_source(error));
    }
    builder.build().map_err(fault::of_driver)
}

/// Few enough that a limit that was raised is found, many enough that a request that is refused again costs little.
pub(super) const ACCEPTED_BEFORE_LARGER: usize = 1000;

pub(super) const JSON: &str = "application/json";
pub(super) const LINES: &str = "application/x-ndjson";

/// How an attempt failed.
enum Attempt {
    /// The server has answered with an error.
    Refused(Fault),
    /// There is no answer.
    NoAnswer(Error),
    /// The call's time was over before it.
    TooLate(Error),
}

impl Inner {
    /// The next server in turn that is not down; if all are, the next one.
    fn pick(&self) -> &Node {
        let begin = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.nodes.len();
        let up = (0..count).map(|step| &self.nodes[(begin.wrapping_add(step)) % count]);
        up.into_iter().find(|node| node.is_up()).unwrap_or(&self.nodes[begin % count])
    }
}

impl Call {
    /// `None` when the deadline is over.
    fn remaining(self) -> Option<Duration> {
        self.deadline.checked_duration_since(Instant::now()).filter(|time| !time.is_zero())
    }

    /// The deadline ended the attempt that failed so.
    pub(super) fn is_cut_short(self, error: &Error) -> bool {
        error.kind() == ErrorKind::Timeout && self.remaining().is_none()
    }

    /// The waits before a server that is busy is asked again.
    pub(super) fn waits() -> Waits {
        Waits::new(Duration::from_millis(50), Duration::from_secs(2))
    }

    /// Waits. False, and at once where that can be known, if the deadline is over then.
    pub(super) async fn wait(self, waits: &mut Waits) -> bool {
        match waits.next(self.deadline) {
            Some(wait) => {
                sleep(wait).await;
                self.remaining().is_some()
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;

    fn config(node: impl Into<String>) -> ElasticsearchConfig {
        ElasticsearchConfig::new(node, "i")
    }

    fn config_error(config: &ElasticsearchConfig) -> Error {
        let error = ElasticsearchClient::new(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error
    }

    #[test]
    fn addresses_are_checked_and_no_password_is_told() {
        for bad in ["", "localhost:9200", "ftp://a", "http://a?b=c", "http://a#b"] {
            config_error(&config(bad));
        }
        let error = config_error(&config("http://me:secret@host:1"));
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        let secret = config("http://a").user("me").password("secret").api_key("secret");
        let client = ElasticsearchClient::new(&secret).unwrap();
        assert!(!format!("{secret:?} {client:?}").contains("secret"));
        config_error(&config("http://a").api_key("a\nb"));
    }

    #[tokio::test]
    async fn no_time_is_too_long() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let most = Duration::MAX;
        let config = config(address).timeout(most).request_timeout(most).connect_timeout(most);
        let client = ElasticsearchClient::new(&config).unwrap();
        let error = client.ping().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }

    /// The whole request is on its way, in the kernel, when it is given up: the server's window is closed.
    #[tokio::test]
    async fn a_write_that_was_given_up_is_not_delivered_later() {
        const BODY: usize = 200_000;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let config = config(address).timeout(Duration::from_millis(300));
        let client = ElasticsearchClient::new(&config).unwrap();
        let large_put = || Request { body: vec![b'x'; BODY].into(), ..put() };
        for is_dropped in [false, true] {
            let (call, request) = (client.call("put"), large_put());
            let (mut accepted, _) = if is_dropped {
                tokio::select! {
                    _ = client.send(call, &request) => panic!("nobody answers"),
                    accepted = async {
                        let accepted = listener.accept().await.unwrap();
                        // The request is on its way.
                        assert_eq!(accepted.0.peek(&mut [0]).await.unwrap(), 1);
                        accepted
                    } => accepted,
                }
            } else {
                let (sent, accepted) = tokio::join!(client.send(call, &request), listener.accept());
                let error = sent.unwrap_err().error;
                let (kind, retryable) = (error.kind(), error.is_retryable());
                assert_eq!((kind, retryable), (ErrorKind::Timeout, true), "{error:?}");
                accepted.unwrap()
            };
            let mut late = Vec::new();
            let end = accepted.read_to_end(&mut late).await.map_err(|error| error.kind());
            assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "{} bytes came", late.len());
            assert!(late.len() < BODY, "all {} bytes came", late.len());
        }
    }

    #[test]
    fn a_refused_size_makes_requests_smaller_down_to_a_floor() {
        for (most, floor) in [(5 << 20, 5 << 14), (1 << 20, 1 << 16), (1000, 15), (1, 1)] {
            let config = config("http://a").max_request_bytes(most);
            let client = ElasticsearchClient::new(&config).unwrap();
            client.make_requests_smaller_than(most);
            assert_eq!(client.request_bytes(), (most / 2).max(1));
            client.make_requests_smaller_than(2);
            assert_eq!(client.request_bytes(), floor);
        }
    }

    fn put() -> Request {
        Request {
            method: Method::PUT,
            path: "/i/_doc/a".to_owned(),
            content_type: JSON,
            body: "1".into(),
            reads: false,
        }
    }

    /// Nothing of the write was sent to the first server: it drops the packets that ask for a connection.
    #[tokio::test]
    async fn a_write_goes_to_another_server_if_one_does_not_take_connections() {
        let limit = Duration::from_millis(200);
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(1).unwrap();
        let address = full.local_addr().unwrap();
        let mut backlog = Vec::new();
        while let Ok(connected) =
            tokio::time::timeout(limit, tokio::net::TcpStream::connect(address)).await
        {
            backlog.push(connected.unwrap());
        }
        for is_given in [false, true] {
            let second = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let config = config(format!("http://{address}"))
                .node(format!("http://{}", second.local_addr().unwrap()))
                .connect_timeout(limit);
            let config = match is_given {
                true => config.clone().http_client(http_client(&config).unwrap()),
                false => config,
            };
            let client = ElasticsearchClient::new(&config).unwrap();
            let answers = async {
                let (mut connection, _) = second.accept().await.unwrap();
                assert!(connection.read(&mut [0; 1000]).await.unwrap() > 0);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                connection.write_all(answer).await.unwrap();
                connection
            };
            let request = put();
            let (sent, _connection) =
                tokio::join!(client.send(client.call("put"), &request), answers);
            assert_eq!(sent.unwrap().server, client.inner.nodes[1].address);
            assert!(!client.inner.nodes[0].is_up());
        }
    }

    #[test]
    #[cfg(feature = "elasticsearch-tls")]
    fn what_is_no_certificate_is_refused() {
        for pem in
            ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            config_error(&config("https://a").tls_authority(pem));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn servers_take_turns_and_one_that_is_down_is_left_out_for_a_while() {
        let config = config("http://a").node("http://b/").node("http://c/es/");
        let client = ElasticsearchClient::new(&config).unwrap();
        let turn = || client.inner.pick().address.clone();
        assert_eq!(
            [turn(), turn(), turn(), turn()],
            ["http://a", "http://b", "http://c/es", "http://a"]
        );
        client.inner.nodes[1].set_down();
        assert_eq!([turn(), turn(), turn()], ["http://c/es", "http://c/es", "http://a"]);
        tokio::time::advance(super::super::node::DOWN).await;
        assert_eq!(turn(), "http://b");
        client.inner.nodes.iter().for_each(Node::set_down);
        assert_eq!(turn(), "http://c/es");
    }
}
