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

/// Where the servers are, which index, and how they are asked. Credentials are in no output of `Debug`.
///
/// A setting with a value that it cannot have is refused when the store connects, with an error of kind
/// [`Config`](ErrorKind::Config) that lists all faults.
///
/// ```
/// use std::time::Duration;
///
/// use kasper::store::{ElasticsearchConfig, ElasticsearchRefresh};
///
/// let config = ElasticsearchConfig::new("http://search-1:9200", "word-count")
///     .node("http://search-2:9200")
///     .user("kasper")
///     .password("a password")
///     .timeout(Duration::from_secs(20))
///     .refresh(ElasticsearchRefresh::WaitFor);
/// assert!(!format!("{config:?}").contains("a password"));
/// let same = ElasticsearchConfig::from_url(
///     "elasticsearch+http://kasper:a%20password@search-1:9200,search-2:9200/word-count?timeout=20s&refresh=wait_for",
/// )?;
/// # let _ = same;
/// # Ok::<(), kasper::Error>(())
/// ```
#[derive(Clone)]
pub struct ElasticsearchConfig {
    pub(super) nodes: Vec<String>,
    pub(super) index: ElasticsearchIndex,
    user: Option<String>,
    password: Option<String>,
    api_key: Option<String>,
    pub(super) timeout: Duration,
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
    /// [`user`](ElasticsearchConfig::user).
    ///
    /// In a [`MultiElasticsearchStore`](crate::multitenant::MultiElasticsearchStore) each tenant has an index of its own,
    /// `{index}-{tenant}`.
    pub fn new(node: impl Into<String>, index: impl Into<ElasticsearchIndex>) -> Self {
        Self {
            nodes: vec![node.into()],
            index: index.into(),
            user: None,
            password: None,
            api_key: None,
            timeout: Duration::from_secs(30),
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

    /// One more server of the same cluster. Default: none. Requests go to all in turn; a server that can't be reached is
    /// left out for a while.
    #[must_use]
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.nodes.push(node.into());
        self
    }

    /// The name of the user to log in as, with a [`password`](Self::password). Default: nobody logs in.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The password of the [`user`](Self::user). Default: none.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The API key to log in with, in the form that the server calls `encoded` (base64 of `id:key`). Default: none. It is
    /// used instead of user and password.
    #[must_use]
    pub fn api_key(mut self, encoded: impl Into<String>) -> Self {
        self.api_key = Some(encoded.into());
        self
    }

    /// The longest time that one call may take, with everything that it tries again. Default: 30 s. Zero is refused.
    ///
    /// Choose a longer time if one call writes hundreds of thousands of keys.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// The longest time that one request may take. Default: 10 s. Zero is refused.
    ///
    /// A server that takes longer counts as hung: a read goes to another server then, a write is an error.
    #[must_use]
    pub fn request_timeout(mut self, time: Duration) -> Self {
        self.request_timeout = time;
        self
    }

    /// The longest time that connecting to a server may take. Default: 3 s. Zero is refused.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// The most keys in one request. Default: 1,000. Zero is refused.
    ///
    /// Answers to reads hold as many values: choose a lower number if values are large.
    #[must_use]
    pub fn max_request_items(mut self, items: usize) -> Self {
        self.max_request_items = items;
        self
    }

    /// The most bytes in one request. Default: 5 MiB. Zero is refused.
    ///
    /// A single larger value has a request of its own. The servers take 100 MB (`http.max_content_length`) unless
    /// configured otherwise, a proxy before them often 1 MB (in nginx, `client_max_body_size`). What they refuse (413) is
    /// divided, which costs a round trip each time: the log warns of it.
    #[must_use]
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.max_request_bytes = bytes;
        self
    }

    /// The longest value, in bytes. Default: 32 MiB. With zero, only the empty value is accepted, which is not JSON.
    ///
    /// OpenSearch takes texts of 50 MB in a document.
    #[must_use]
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// The most requests of one call that are under way at a time. Default: 4. Zero is refused.
    #[must_use]
    pub fn concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests;
        self
    }

    /// How values stand in documents. Default: [`ElasticsearchEncoding::Json`].
    #[must_use]
    pub fn encoding(mut self, encoding: ElasticsearchEncoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// When searches see what was written. Default: [`ElasticsearchRefresh::Later`].
    #[must_use]
    pub fn refresh(mut self, refresh: ElasticsearchRefresh) -> Self {
        self.refresh = refresh;
        self
    }

    /// The certificates to trust (PEM), and no others. Default: the system's certificate authorities. Only for `https`;
    /// text without a certificate is refused.
    #[cfg(feature = "elasticsearch-tls")]
    #[must_use]
    pub fn tls_authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls_authority = Some(pem.into());
        self
    }

    /// The HTTP client to use: with certificates of your own, a proxy, a pool of another size. Default: one of the
    /// store's own. Time limits for requests are set by this configuration; those for connecting, and whom to trust, by
    /// the client.
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
        faults.take(self.index.valid());
        faults.login(self.user.as_deref(), self.password.as_deref());
        let authorization = self.authorization().map(|text| faults.take(sensitive(&text)));
        faults.time_limit("timeout", self.timeout);
        faults.time_limit("request_timeout", self.request_timeout);
        faults.time_limit("connect_timeout", self.connect_timeout);
        faults.at_least_one("max_request_items", self.max_request_items);
        faults.at_least_one("max_request_bytes", self.max_request_bytes);
        faults.at_least_one("concurrency", self.concurrency);
        #[cfg(feature = "elasticsearch-tls")]
        if let Some(pem) = &self.tls_authority {
            faults.take(crate::store::tls::trusted(pem));
        }
        faults.refuse()?;
        Ok((nodes, authorization.flatten()))
    }

    pub(super) fn authorization(&self) -> Option<String> {
        match (&self.api_key, &self.user, &self.password) {
            (Some(key), ..) => Some(format!("ApiKey {key}")),
            (None, Some(user), Some(password)) => {
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            _ => None,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { key_bytes: MAX_ID_BYTES, value_bytes: self.max_value_bytes }
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| "`api_key` has characters that no header can hold")?;
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
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
