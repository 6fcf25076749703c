//! [`CassandraConfig`]: where the servers are and how they are asked.

use std::fmt;
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;

use super::error;
use crate::error::Result;
use crate::store::faults::Faults;
use crate::store::limits::Limits;
use crate::store::time::in_time;
use crate::store::url::{is_url, without_login};

/// The longest partition key that Cassandra takes, in bytes.
pub(super) const KEY_BYTES: usize = 65_535;

/// The longest tenant's name, and the longest key beside one: together they are a partition key, with six
/// bytes around them.
pub(super) const TENANT_BYTES: usize = 1_024;
pub(super) const KEY_BESIDE_TENANT_BYTES: usize = 64_000;

/// 20 years, what Cassandra takes.
const MAX_TTL: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);

/// How many nodes have to answer a read or have to have a write, of those that hold the key.
///
/// What was written is found by whoever reads later (rule 3 of [`Store`](crate::store::Store)) if the
/// nodes that have the write and those that are read overlap: with the quorums and with `All`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CassandraConsistency {
    /// Most of the replicas in the data center of the node that is asked. The default: one node of
    /// three may be away, and other data centers are not waited for. A group whose members are in
    /// several data centers needs [`Quorum`](CassandraConsistency::Quorum).
    #[default]
    LocalQuorum,
    /// Most of all replicas: right across data centers, at their distance.
    Quorum,
    /// All replicas: any node that is away makes calls fail.
    All,
    /// One replica in the data center of the node that is asked: fast, and **a read may miss what was
    /// written**, so that state is computed from old state. For data that may be.
    LocalOne,
    /// One replica anywhere; as [`LocalOne`](CassandraConsistency::LocalOne).
    One,
}

impl From<CassandraConsistency> for scylla::statement::Consistency {
    fn from(consistency: CassandraConsistency) -> Self {
        match consistency {
            CassandraConsistency::LocalQuorum => Self::LocalQuorum,
            CassandraConsistency::Quorum => Self::Quorum,
            CassandraConsistency::All => Self::All,
            CassandraConsistency::LocalOne => Self::LocalOne,
            CassandraConsistency::One => Self::One,
        }
    }
}

/// Where the servers are, which table, and how they are asked. The password is in no output of `Debug`.
///
/// A setting with a value that it cannot have is refused when the store connects, with an error of kind
/// [`Config`](crate::ErrorKind::Config) that lists all faults.
///
/// ```
/// use std::time::Duration;
///
/// use kasper::store::{CassandraConfig, CassandraConsistency};
///
/// let config = CassandraConfig::new(["10.0.0.7", "10.0.0.8:9042"], "shop", "counts")
///     .user("kasper")
///     .password("secret")
///     .consistency(CassandraConsistency::Quorum)
///     .ttl(Duration::from_secs(30 * 24 * 60 * 60));
/// # let _ = config;
/// let same = CassandraConfig::from_url(
///     "cassandra://kasper:secret@10.0.0.7,10.0.0.8:9042/shop/counts?consistency=quorum&ttl=30days",
/// )?;
/// # let _ = same;
/// # Ok::<(), kasper::Error>(())
/// ```
#[derive(Clone)]
pub struct CassandraConfig {
    pub(super) nodes: Vec<String>,
    pub(super) keyspace: String,
    pub(super) table: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) consistency: CassandraConsistency,
    pub(super) local_datacenter: Option<String>,
    pub(super) ttl: Option<Duration>,
    pub(super) request_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) concurrency: usize,
    pub(super) max_value_bytes: usize,
    pub(super) create_table_if_missing: bool,
    #[cfg(feature = "cassandra-tls")]
    tls_authority: Option<Vec<u8>>,
}

impl CassandraConfig {
    /// This table in this keyspace; `nodes` are some of the cluster's, as `host` or `host:port` (the
    /// port is 9042 where none is given). The others are found through them.
    ///
    /// Names are 1 to 48 letters (a to z, in either case), digits and underscores. Letter case counts:
    /// what was made in CQL without quotes has a name in small letters.
    pub fn new<N: Into<String>>(
        nodes: impl IntoIterator<Item = N>,
        keyspace: impl Into<String>,
        table: impl Into<String>,
    ) -> Self {
        Self {
            nodes: nodes.into_iter().map(Into::into).collect(),
            keyspace: keyspace.into(),
            table: table.into(),
            user: None,
            password: None,
            consistency: CassandraConsistency::default(),
            local_datacenter: None,
            ttl: None,
            request_timeout: Duration::from_secs(6),
            connect_timeout: Duration::from_secs(10),
            concurrency: 256,
            max_value_bytes: 8 << 20,
            create_table_if_missing: false,
            #[cfg(feature = "cassandra-tls")]
            tls_authority: None,
        }
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

    /// How many replicas have to answer. Default: [`CassandraConsistency::LocalQuorum`].
    #[must_use]
    pub fn consistency(mut self, consistency: CassandraConsistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// The name of the data center whose nodes are asked, and no others. Default: any node is.
    ///
    /// With several data centers, name the one where this process runs. Not used with a session of your own.
    #[must_use]
    pub fn local_datacenter(mut self, name: impl Into<String>) -> Self {
        self.local_datacenter = Some(name.into());
        self
    }

    /// How long a value stays after it was last written, in whole seconds up to 20 years. Default: as long as the table
    /// says, which is for ever unless it has a `default_time_to_live`. Zero is refused.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The longest time that one request (a statement) may take, with the driver's own attempts on other nodes. Default:
    /// 6 s, more than the 5 s that a server allows itself for a read. Zero is refused.
    ///
    /// The first statement that takes longer ends the call.
    #[must_use]
    pub fn request_timeout(mut self, time: Duration) -> Self {
        self.request_timeout = time;
        self
    }

    /// The longest time that connecting may take: opening the session in all. Default: 10 s. Zero is refused.
    ///
    /// Each request that prepares a statement afterwards has the [`request_timeout`](Self::request_timeout).
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// The most requests (statements) of one call that are under way at a time. Default: 256. Zero is refused.
    ///
    /// More use a large cluster better, and overload a small one sooner.
    #[must_use]
    pub fn concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests;
        self
    }

    /// The longest value, in bytes. Default: 8 MiB. With zero, only the empty value is accepted.
    ///
    /// Cassandra refuses a value that is longer than half a segment of its commit log (`commitlog_segment_size`, 32 MiB by
    /// default) or than a frame (`native_transport_max_frame_size`, 16 MiB), and works best with values below 1 MiB.
    #[must_use]
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// Whether to make the table if it is missing. Default: no; a missing table is an error.
    ///
    /// The keyspace has to exist: its operator decides how many copies it keeps. For tests and small clusters: with more
    /// than one node, servers before Cassandra 6 may end with two versions of a table that several processes make at the same time.
    #[must_use]
    pub fn create_table_if_missing(mut self, create: bool) -> Self {
        self.create_table_if_missing = create;
        self
    }

    /// The certificates to trust (PEM), and no others. Default: connections are not encrypted. Connects with TLS; text
    /// without a certificate is refused.
    ///
    /// Nodes have to show certificates for their IP addresses: the driver knows no other names of them. For anything
    /// else (client certificates, say), make the session yourself:
    /// [`CassandraStore::from_client`](super::CassandraStore::from_client).
    #[cfg(feature = "cassandra-tls")]
    #[must_use]
    pub fn tls_authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls_authority = Some(pem.into());
        self
    }

    /// What may be written by key alone.
    pub(super) fn limits(&self) -> Limits {
        Limits { key_bytes: KEY_BYTES, value_bytes: self.max_value_bytes }
    }

    /// What may be written by tenant and key.
    pub(super) fn limits_beside_tenant(&self) -> Limits {
        Limits { key_bytes: KEY_BESIDE_TENANT_BYTES, value_bytes: self.max_value_bytes }
    }

    /// # Errors
    /// Every fault there is, in one error.
    pub(super) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        faults.take(check_name("keyspace", &self.keyspace));
        faults.take(check_name("table", &self.table));
        if self.nodes.iter().any(|node| is_url(node)) {
            // Not shown: there may be a password in it.
            faults.push(
                "a node is a `host` or `host:port`; for URLs there is `CassandraConfig::from_url`",
            );
        }
        faults.login(self.user.as_deref(), self.password.as_deref());
        let unit = (Duration::from_secs(1), "seconds");
        faults.ttl(self.ttl, unit, (MAX_TTL, "20 years"));
        faults.time_limit("request_timeout", self.request_timeout);
        faults.time_limit("connect_timeout", self.connect_timeout);
        faults.at_least_one("concurrency", self.concurrency);
        #[cfg(feature = "cassandra-tls")]
        if let Some(pem) = &self.tls_authority {
            faults.take(crate::store::tls::trusted(pem));
        }
        faults.refuse()
    }

    /// A session of its own.
    ///
    /// # Errors
    /// Whatever keeps the servers from letting it in.
    pub(super) async fn connect(&self) -> Result<Session> {
        self.check()?;
        #[cfg_attr(not(feature = "cassandra-tls"), allow(unused_mut, reason = "TLS is added"))]
        let mut builder = self.session_builder();
        #[cfg(feature = "cassandra-tls")]
        if let Some(authority) = &self.tls_authority {
            builder = builder.tls_context(Some(super::tls::context(authority)?));
        }
        let connected = in_time(self.connect_timeout, Box::pin(builder.build())).await;
        connected
            .and_then(|connected| connected.map_err(error::of_connecting))
            .map_err(|error| error.with("operation", "connect").with("server", self.server()))
    }

    fn session_builder(&self) -> SessionBuilder {
        /// Soon enough that a connection that a firewall has forgotten is noticed by the pool before
        /// many calls have waited for it in vain.
        const KEEPALIVE: Duration = Duration::from_secs(5);
        let mut policy = DefaultPolicy::builder().token_aware(true);
        if let Some(datacenter) = &self.local_datacenter {
            policy = policy.prefer_datacenter(datacenter.clone());
        }
        let profile = ExecutionProfile::builder()
            .load_balancing_policy(policy.build())
            .request_timeout(Some(self.request_timeout))
            .consistency(self.consistency.into())
            .build();
        let mut builder = SessionBuilder::new()
            .known_nodes(&self.nodes)
            .default_execution_profile_handle(profile.into_handle())
            .connection_timeout(self.connect_timeout)
            .metadata_request_clientside_timeout(self.connect_timeout)
            .keepalive_interval(KEEPALIVE)
            .keepalive_timeout(KEEPALIVE);
        if let (Some(user), Some(password)) = (&self.user, &self.password) {
            builder = builder.user(user, password);
        }
        builder
    }

    /// Without what may be a password.
    fn shown_nodes(&self) -> Vec<&str> {
        self.nodes.iter().map(|node| without_login(node)).collect()
    }

    /// The nodes, as errors name them.
    pub(super) fn server(&self) -> String {
        self.shown_nodes().join(",")
    }
}

/// Without the password.
impl fmt::Debug for CassandraConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CassandraConfig")
            .field("nodes", &self.shown_nodes())
            .field("keyspace", &self.keyspace)
            .field("table", &self.table)
            .field("user", &self.user)
            .field("has_password", &self.password.is_some())
            .field("consistency", &self.consistency)
            .field("local_datacenter", &self.local_datacenter)
            .field("ttl", &self.ttl)
            .field("request_timeout", &self.request_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("concurrency", &self.concurrency)
            .field("max_value_bytes", &self.max_value_bytes)
            .field("create_table_if_missing", &self.create_table_if_missing)
            .finish()
    }
}

/// Names go into statements as they are: nothing may stand in them that ends a name.
///
/// # Errors
/// It is not a valid name.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), String> {
    const LONGEST: usize = 48;
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_plain && (1..=LONGEST).contains(&name.len()) {
        return Ok(());
    }
    Err(format!(
        "the name of the {what} has to be 1 to {LONGEST} letters (a to z), digits and underscores, and `{}` is not",
        name.escape_default()
    ))
}
