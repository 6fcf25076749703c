//! [`RedisConfig`]: where the servers are, and how the store behaves.

use std::fmt;
use std::time::Duration;

use redis::ConnectionAddr;

use super::RedisClient;
use super::error::ServerName;
use crate::error::Result;
use crate::store::faults::{Faults, NO_PASSWORD};
use crate::store::url::{is_url, without_login};

const DEFAULT_PORT: u16 = 6379;

/// 100 million years. Redis adds the time since 1970 to it, in milliseconds and 63 bits.
const MAX_TTL: Duration = Duration::from_secs(100_000_000 * 365 * 86_400);

/// Where Redis is, and how a store in it behaves. Passwords are in no output of `Debug`.
///
/// A setting with a value that it cannot have is refused when the store connects, with an error of kind
/// [`Config`](crate::ErrorKind::Config) that lists all faults.
///
/// # As a URL
///
/// ```text
/// redis://[[USER]:PASSWORD@]HOST[:PORT]/PREFIX[?database=N&request_timeout=5s&connect_timeout=3s&ttl=24h]
/// redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/PREFIX[?…]
/// ```
///
/// `rediss` and `rediss+cluster` use TLS (feature `redis-tls`). The path is the prefix of the keys. The driver's own
/// URLs have the number of the database there; here it is a setting, `?database=3`, and a prefix that is a number is
/// refused in a URL, because it was most likely meant for the database. In user, password and prefix, write `%40` for
/// `@` and the like. An address of IPv6 is in brackets.
///
/// ```
/// use kasper::store::RedisConfig;
///
/// # fn main() -> kasper::Result<()> {
/// RedisConfig::from_url("redis://:open%40sesame@10.0.0.7:6379/word-counts?database=3&ttl=60s")?;
/// RedisConfig::from_url("redis+cluster://10.0.0.7,10.0.0.8/word-counts")?;
/// assert!(RedisConfig::from_url("redis://10.0.0.7/3").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisConfig {
    servers: String,
    is_cluster: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: u32,
    pub(super) tls: Option<Tls>,
    pub(super) prefix: String,
    pub(super) request_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) ttl: Option<Duration>,
}

/// PEM files' contents.
#[derive(Clone, Default)]
#[cfg_attr(not(feature = "redis-tls"), allow(dead_code, reason = "read where there is TLS"))]
pub(super) struct Tls {
    pub(super) authority: Option<Vec<u8>>,
    pub(super) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl RedisConfig {
    /// The server `host` or `host:port` (6379 is the default), and what keys begin with, before a `/`. The prefix must
    /// not be empty, and have no `/`: `{tenant}/{prefix}` of one store and `{prefix}` of another could be the same.
    pub fn new(server: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            servers: server.into(),
            is_cluster: false,
            user: None,
            password: None,
            database: 0,
            tls: None,
            prefix: prefix.into(),
            request_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            ttl: None,
        }
    }

    /// A Redis Cluster, some of whose servers are these, separated by commas; they tell of the others.
    /// Several, so that one may be away when the program starts.
    pub fn cluster(servers: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { is_cluster: true, ..Self::new(servers, prefix) }
    }

    /// The name of the user to log in as, with a [`password`](Self::password). Default: the server's default user.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The password of the [`user`](Self::user), or of the server's default user (`requirepass`). Default: none.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The number of the database. Default: 0. A cluster has no other.
    #[must_use]
    pub fn database(mut self, number: u32) -> Self {
        self.database = number;
        self
    }

    /// Connects with TLS, and trusts the system's certificate authorities. Default: connections are not encrypted.
    #[cfg(feature = "redis-tls")]
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls.get_or_insert_default();
        self
    }

    /// The certificates to trust (PEM), and no others. Default: the system's certificate authorities. Connects with TLS;
    /// text without a certificate is refused.
    #[cfg(feature = "redis-tls")]
    #[must_use]
    pub fn tls_authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.get_or_insert_default().authority = Some(pem.into());
        self
    }

    /// The certificate and the key (PEM) to show to the server. Default: none. Connects with TLS.
    #[cfg(feature = "redis-tls")]
    #[must_use]
    pub fn tls_client(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls.get_or_insert_default().client = Some((certificate.into(), key.into()));
        self
    }

    /// The longest time that one request may take, connecting included. Default: 5 s (the driver's own is 500 ms). Zero
    /// is refused.
    ///
    /// A large call makes several requests; the first that fails ends the call. A shorter time finds a server sooner
    /// that hangs. A time that is too short mistakes a busy server for a dead one; values of many MB take their time on
    /// the network.
    #[must_use]
    pub fn request_timeout(mut self, time: Duration) -> Self {
        self.request_timeout = time;
        self
    }

    /// The longest time that connecting may take, password and TLS included. Default: 3 s. Zero is refused.
    ///
    /// It should be shorter than the [`request_timeout`](Self::request_timeout).
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// How long a value stays after it was last written, in whole milliseconds up to 100 million years. Default: for
    /// ever. Zero is refused.
    ///
    /// It costs a command for each key, where otherwise one `MSET` writes many.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// For URLs, whose TLS may be there without the feature.
    pub(super) fn with_tls(mut self) -> Self {
        self.tls.get_or_insert_default();
        self
    }

    pub(super) fn place(&self) -> ServerName {
        match self.is_cluster {
            true => ServerName::cluster(&*self.servers),
            false => ServerName::standalone(self.servers.clone()),
        }
    }

    /// What holds with a client of the user's own, too.
    ///
    /// # Errors
    /// All faults at once.
    pub(super) fn check_store(&self) -> Result<()> {
        self.store_faults().refuse()
    }

    fn store_faults(&self) -> Faults {
        let mut faults = Faults::default();
        let prefix = &self.prefix;
        if prefix.is_empty() {
            faults.push("the prefix is empty");
        }
        if prefix.contains('/') {
            faults.push(format!("the prefix `{prefix}` has a `/`, which would make keys collide"));
        }
        faults.time_limit("request_timeout", self.request_timeout);
        faults.time_limit("connect_timeout", self.connect_timeout);
        let unit = (Duration::from_millis(1), "milliseconds");
        faults.ttl(self.ttl, unit, (MAX_TTL, "100 million years"));
        faults
    }

    /// # Errors
    /// All faults at once.
    pub(super) fn client(&self) -> Result<RedisClient> {
        let mut faults = self.store_faults();
        let servers = self.servers(&mut faults);
        if servers.len() > 1 && !self.is_cluster {
            faults.push("several servers are a cluster (`RedisConfig::cluster`)");
        }
        if self.database != 0 && self.is_cluster {
            faults.push("a cluster has no database but 0");
        }
        // A password alone is that of the server's default user.
        if self.user.is_some() && self.password.is_none() {
            faults.push(NO_PASSWORD);
        }
        if self.tls.is_some() && cfg!(not(feature = "redis-tls")) {
            faults.push("TLS needs the feature `redis-tls` of the crate kasper");
        }
        #[cfg(feature = "redis-tls")]
        if let Some(pem) = self.tls.as_ref().and_then(|tls| tls.authority.as_ref()) {
            faults.take(crate::store::tls::trusted(pem));
        }
        faults.refuse()?;
        let built = match self.is_cluster {
            true => self.cluster_client(servers).map(RedisClient::Cluster),
            false => self.standalone_client(servers).map(RedisClient::Standalone),
        };
        built.map_err(|error| self.place().error("connect", error))
    }

    fn servers(&self, faults: &mut Faults) -> Vec<ConnectionAddr> {
        let mut servers = Vec::new();
        if is_url(&self.servers) {
            // Not shown: there may be a password in it.
            faults.push(
                "a server is a `host` or `host:port`; for URLs there is `RedisConfig::from_url`",
            );
            return servers;
        }
        for server in self.servers.split(',') {
            match host_and_port(server.trim()) {
                Some((host, port)) => servers.push(self.connection_info(host, port)),
                None => faults.push(format!("`{server}` is not a `host` or `host:port`")),
            }
        }
        servers
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("servers", &without_login(&self.servers))
            .field("is_cluster", &self.is_cluster)
            .field("user", &self.user)
            .field("has_password", &self.password.is_some())
            .field("database", &self.database)
            .field("has_tls", &self.tls.is_some())
            .field("prefix", &self.prefix)
            .field("request_timeout", &self.request_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("ttl", &self.ttl)
            .finish()
    }
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
fn host_and_port(server: &str) -> Option<(&str, u16)> {
    let (host, port) = match server.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match server.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        },
    };
    let port = port.map_or(Some(DEFAULT_PORT), |port| port.parse().ok())?;
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn fault(config: &RedisConfig) -> String {
        let error = config.client().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let config =
            RedisConfig::new("host:x", "a/b").request_timeout(Duration::ZERO).ttl(Duration::ZERO);
        let config = config.user("ann").password("secret");
        let text = fault(&config);
        for part in
            ["`a/b` has a `/`", "`request_timeout` is zero", "`ttl` has to be", "`host:x` is not"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("secret"));
        assert!(fault(&RedisConfig::new("h", "")).contains("prefix is empty"));
        assert!(fault(&RedisConfig::new("h", "p").user("ann")).contains("no password"));
        assert!(fault(&RedisConfig::new("h,i", "p")).contains("RedisConfig::cluster"));
        assert!(fault(&RedisConfig::cluster("h,i", "p").database(3)).contains("but 0"));
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(host_and_port("h"), Some(("h", 6379)));
        assert_eq!(host_and_port("h:7000"), Some(("h", 7000)));
        assert_eq!(host_and_port("[::1]"), Some(("::1", 6379)));
        assert_eq!(host_and_port("[::1]:7000"), Some(("::1", 7000)));
        for wrong in ["", ":1", "h:", "h:x", "[::1", "[::1]7000", "::1"] {
            assert_eq!(host_and_port(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        for url in ["redis://:open-sesame@h", "redis://:open,sesame@h", "ann:sesame@h:6379"] {
            let config = RedisConfig::new(url, "p");
            let text = format!("{config:?} {}", fault(&config));
            assert!(!text.contains("sesame") && !text.contains("open"), "{text}");
            assert!(text.contains("RedisConfig::from_url"), "{text}");
        }
        let config = RedisConfig::new("h", "p").user("ann").password("open-sesame");
        assert!(!format!("{config:?}").contains("sesame"));
        let client = config.client().unwrap();
        assert!(!format!("{client:?}").contains("sesame"));
    }
}
