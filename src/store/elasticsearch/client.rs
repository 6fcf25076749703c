//! [`ElasticsearchClient`]: what stores share, and how large their requests may be.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderValue;

use super::call::{JSON, Request};
use super::config::ElasticsearchConfig;
use super::fault::{self, Failure, Refusal};
use super::node::Node;
use super::transport::Transport;
use crate::error::Result;

/// The servers of a cluster, shared by the stores that are made from it. Clones share connections.
#[derive(Clone)]
pub struct ElasticsearchClient {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) transport: Transport,
    /// For requests of the user's own.
    http: reqwest::Client,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) nodes: Vec<Node>,
    pub(super) next: AtomicUsize,
    /// How large a request may be: as configured, and less when a server or a proxy refused one that large.
    request_bytes: AtomicUsize,
    /// How many requests about that large were accepted since it became less.
    accepted: AtomicUsize,
    pub(super) config: ElasticsearchConfig,
}

impl ElasticsearchClient {
    /// A client of these servers. No I/O. The stores that are made from it name their indexes themselves: that of
    /// `config` is not used, but must be valid.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config): all faults of the configuration.
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
    /// [`Unauthorized`](crate::ErrorKind::Unauthorized), [`Unavailable`](crate::ErrorKind::Unavailable),
    /// [`Timeout`](crate::ErrorKind::Timeout).
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
    pub(super) fn accept(&self, accepted: usize) {
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
}

impl fmt::Debug for ElasticsearchClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElasticsearchClient").field("config", self.config()).finish_non_exhaustive()
    }
}

pub(super) fn http_client(config: &ElasticsearchConfig) -> Result<reqwest::Client> {
    // Redirects would take the credentials elsewhere; a proxy is for what is far away.
    let builder = reqwest::Client::builder()
        .connect_timeout(config.connect_timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    #[cfg(feature = "elasticsearch-tls")]
    if let Some(pem) = &config.tls_authority {
        let certificates = reqwest::Certificate::from_pem_bundle(pem);
        let certificates = certificates.map_err(fault::of_driver)?;
        return builder.tls_certs_only(certificates).build().map_err(fault::of_driver);
    }
    builder.build().map_err(fault::of_driver)
}

/// Few enough that a limit that was raised is found, many enough that a request that is refused again costs little.
pub(super) const ACCEPTED_BEFORE_LARGER: usize = 1000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::{Error, ErrorKind};

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

    #[test]
    #[cfg(feature = "elasticsearch-tls")]
    fn what_is_no_certificate_is_refused() {
        for pem in
            ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            config_error(&config("https://a").tls_authority(pem));
        }
    }
}
