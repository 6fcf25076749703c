//! What may be configured: servers, credentials, time limits, sizes of requests.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

use super::index::ElasticsearchIndex;
use super::node::Node;
#[allow(unused_imports, reason = "for the documentation")]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::store::faults::Faults;
use crate::store::limits::Limits;
use crate::store::url::without_login;

/// The longest `_id` that the servers take, in bytes.
pub(super) const MAX_ID_BYTES: usize = 512;

/// Where the servers are, which index, and how to speak with them.
///
/// ```
/// use std::time::Duration;
///
/// use kasper::store::{ElasticsearchConfig, ElasticsearchRefresh};
///
/// let config = ElasticsearchConfig::new("http://search-1:9200", "word-count")
///     .node("http://search-2:9200")
///     .basic_auth("kasper", "a password")
///     .deadline(Duration::from_secs(20))
///     .refresh(ElasticsearchRefresh::WaitFor);
/// assert!(!format!("{config:?}").contains("a password"));
/// let same = ElasticsearchConfig::from_url(
///     "elasticsearch+http://kasper:a%20password@search-1:9200,search-2:9200/word-count?deadline=20s&refresh=wait_for",
/// )?;
/// # let _ = same;
/// # Ok::<(), kasper::Error>(())
/// ```
#[derive(Clone)]
pub struct ElasticsearchConfig {
    pub(super) nodes: Vec<String>,
    pub(super) index: ElasticsearchIndex,
    pub(super) authorization: Option<String>,
    pub(super) deadline: Duration,
    pub(super) request_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) max_request_items: usize,
    pub(super) max_request_bytes: usize,
    pub(super) max_value_bytes: usize,
    pub(super) concurrency: usize,
    pub(super) encoding: ElasticsearchEncoding,
    pub(super) refresh: ElasticsearchRefresh,
    pub(super) http: Option<reqwest::Client>,
    #[cfg(feature = "elasticsearch-tls")]
    pub(super) tls_authority: Option<Vec<u8>>,
}

/// How values stand in documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ElasticsearchEncoding {
    /// A value *is* the document: a JSON object, stored and given back byte for byte. What is no JSON
    /// object is refused. The default.
    #[default]
    Json,
    /// A value is any bytes; the document is `{"value":"…"}` with the bytes in base64. A third larger,
    /// and nothing to search for.
    Binary,
}

/// When what was written is visible to *searches*. Reading through the store needs none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ElasticsearchRefresh {
    /// When the index is refreshed next, after a second by default. The default, and the fastest.
    #[default]
    Later,
    /// A write returns when the index has been refreshed: slow, up to the index's refresh interval.
    WaitFor,
    /// A write refreshes the shards concerned: many small segments, which burdens the servers.
    Immediate,
}

impl ElasticsearchRefresh {
    pub(super) fn parameter(self) -> &'static str {
        match self {
            Self::Later => "",
            Self::WaitFor => "?refresh=wait_for",
            Self::Immediate => "?refresh=true",
        }
    }
}

impl ElasticsearchConfig {
    /// This index on one server, such as `http://search-1:9200`. A path is kept, for servers behind a proxy. `https`
    /// needs the feature `elasticsearch-tls`. No user and password here: see
    /// [`basic_auth`](ElasticsearchConfig::basic_auth).
    ///
    /// In a [`MultiElasticsearchStore`](crate::multitenant::MultiElasticsearchStore) each tenant has an index of its own,
    /// `{index}-{tenant}`.
    pub fn new(node: impl Into<String>, index: impl Into<ElasticsearchIndex>) -> Self {
        Self {
            nodes: vec![node.into()],
            index: index.into(),
            authorization: None,
            deadline: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            max_request_items: 1000,
            max_request_bytes: 5 << 20,
            max_value_bytes: 32 << 20,
            concurrency: 4,
            encoding: ElasticsearchEncoding::default(),
            refresh: ElasticsearchRefresh::default(),
            http: None,
            #[cfg(feature = "elasticsearch-tls")]
            tls_authority: None,
        }
    }

    /// Adds a server of the same cluster. Requests go to all in turn; a server that can't be reached
    /// is left out for a while.
    #[must_use]
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.nodes.push(node.into());
        self
    }

    /// Authenticates with user name and password.
    #[must_use]
    pub fn basic_auth(mut self, user: &str, password: &str) -> Self {
        self.authorization =
            Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
        self
    }

    /// Authenticates with an API key, in the form that the server calls `encoded` (base64 of `id:key`).
    #[must_use]
    pub fn api_key(mut self, encoded: &str) -> Self {
        self.authorization = Some(format!("ApiKey {encoded}"));
        self
    }

    /// How long a call may take at most, with everything that it tries again. 30 s by default; raise it
    /// where one call writes hundreds of thousands of keys.
    #[must_use]
    pub fn deadline(mut self, time: Duration) -> Self {
        self.deadline = time;
        self
    }

    /// How long one request may take, until the server is taken for hung: a read goes to another server
    /// then, a write is an error. 10 s by default.
    #[must_use]
    pub fn request_timeout(mut self, time: Duration) -> Self {
        self.request_timeout = time;
        self
    }

    /// How long connecting to a server may take. 3 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// How many keys go into one request at most. 1,000 by default. Answers to reads hold as many
    /// values: lower it where values are large.
    #[must_use]
    pub fn max_request_items(mut self, items: usize) -> Self {
        self.max_request_items = items.max(1);
        self
    }

    /// How large one request is at most, in bytes; a single larger value has a request of its own. 5 MiB
    /// by default; the servers take 100 MB (`http.max_content_length`) unless configured otherwise, a proxy before them
    /// often 1 MB (in nginx, `client_max_body_size`). What they refuse (413) is divided, which costs a round trip each
    /// time: the log warns of it.
    #[must_use]
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.max_request_bytes = bytes.max(1);
        self
    }

    /// The longest value, in bytes. 32 MiB by default: OpenSearch takes texts of 50 MB in a document.
    #[must_use]
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// How many requests of one call are under way at a time. 4 by default.
    #[must_use]
    pub fn concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests.max(1);
        self
    }

    /// How values stand in documents. [`ElasticsearchEncoding::Json`] by default.
    #[must_use]
    pub fn encoding(mut self, encoding: ElasticsearchEncoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// When searches see what was written. [`ElasticsearchRefresh::Later`] by default.
    #[must_use]
    pub fn refresh(mut self, refresh: ElasticsearchRefresh) -> Self {
        self.refresh = refresh;
        self
    }

    /// For `https`, trusts these certificates (PEM) and no others. By default the system's authorities.
    #[cfg(feature = "elasticsearch-tls")]
    #[must_use]
    pub fn tls_authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls_authority = Some(pem.into());
        self
    }

    /// Uses this HTTP client: with certificates of your own, a proxy, a pool of another size. Time limits
    /// for requests are set by this configuration; those for connecting, and whom to trust, by the client.
    ///
    /// Its connections are closed, but not reset, when a request is given up: for as long as its `tcp_user_timeout`, 30 s
    /// by default, the operating system goes on delivering a write that had no answer, perhaps over a newer one. Set it
    /// to less than the [`request_timeout`](ElasticsearchConfig::request_timeout).
    ///
    /// The type is the crate reqwest's on purpose: whoever needs this has that crate already.
    #[must_use]
    pub fn http_client(mut self, client: reqwest::Client) -> Self {
        self.http = Some(client);
        self
    }

    /// The servers, and what requests have as `authorization`.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): all faults.
    pub(super) fn check(&self) -> Result<(Vec<Node>, Option<HeaderValue>)> {
        let mut faults = Faults::default();
        let has_tls = self.http.is_some() || cfg!(feature = "elasticsearch-tls");
        let nodes = self.nodes.iter().filter_map(|node| faults.take(Node::new(node, has_tls)));
        let nodes = nodes.collect();
        let authorization = self.authorization.as_deref().map(authorization);
        let authorization = authorization.and_then(|value| faults.take(value));
        faults.take(self.index.valid());
        faults.time_limit("deadline", self.deadline);
        faults.time_limit("request_timeout", self.request_timeout);
        faults.time_limit("connect_timeout", self.connect_timeout);
        faults.refuse()?;
        Ok((nodes, authorization))
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { key_bytes: MAX_ID_BYTES, value_bytes: self.max_value_bytes }
    }
}

fn authorization(text: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| "an API key has characters that no header can hold")?;
    value.set_sensitive(true);
    Ok(value)
}

/// Without credentials.
impl fmt::Debug for ElasticsearchConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<&str> = self.nodes.iter().map(|node| without_login(node)).collect();
        f.debug_struct("ElasticsearchConfig")
            .field("nodes", &nodes)
            .field("index", &self.index)
            .field("encoding", &self.encoding)
            .field("refresh", &self.refresh)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
