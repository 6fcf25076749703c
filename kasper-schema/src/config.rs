//! [`RegistryConfig`]: where the registry is, who logs in, time limits.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kasper::{Error, ErrorKind, Result};
use reqwest::Url;
use reqwest::header::HeaderValue;

/// Where the schema registry is and how it is asked. The password is in no output of `Debug`.
///
/// A setting with a value that it cannot have is refused by [`Registry::new`](crate::Registry::new), with an error of
/// kind [`Config`](ErrorKind::Config) that lists all faults.
///
/// ```
/// use kasper_schema::{Registry, RegistryConfig};
///
/// let config = RegistryConfig::new("http://registry-1:8081")
///     .url("http://registry-2:8081")
///     .user("kasper")
///     .password("a password");
/// assert!(!format!("{config:?}").contains("a password"));
/// let registry = Registry::new(&config)?;
/// # let _ = registry;
/// # Ok::<(), kasper::Error>(())
/// ```
#[derive(Clone)]
pub struct RegistryConfig {
    urls: Vec<String>,
    user: Option<String>,
    password: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) ask_again_after: Duration,
    pub(crate) auto_register: bool,
    pub(crate) http: Option<reqwest::Client>,
}

impl RegistryConfig {
    /// The registry at this URL, such as `http://registry:8081`, or `http://registry:8080/apis/ccompat/v7` for
    /// Apicurio. `https` needs the feature `tls`, or an [`http_client`](Self::http_client). No user and password here:
    /// see [`user`](Self::user).
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            user: None,
            password: None,
            timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            ask_again_after: Duration::from_secs(30),
            auto_register: false,
            http: None,
        }
    }

    /// One more server of the same registry. Default: none. Requests go to the server that answered last; if it can't
    /// be reached, or fails, the next one is asked.
    #[must_use]
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// The name of the user to log in as (HTTP basic authentication), with a [`password`](Self::password). Default:
    /// nobody logs in.
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

    /// The longest time that one question to the registry may take, with everything that is tried again. Default:
    /// 30 s. Zero is refused.
    ///
    /// While the registry is away, it is asked again until this time is over. Batches wait meanwhile. Choose less than
    /// the drain deadline of your topic processor.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// The longest time that one HTTP request may take. Default: 5 s. Zero is refused.
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

    /// How long an id that the registry does not know is not asked for again. Default: 30 s; with zero, every batch
    /// asks again.
    ///
    /// A short time finds schemas sooner that another server of the registry learns of later. With a long time,
    /// messages with ids that don't exist cost fewer requests. Schemas that were found are kept for good: an id
    /// never changes its meaning.
    #[must_use]
    pub fn ask_again_after(mut self, time: Duration) -> Self {
        self.ask_again_after = time;
        self
    }

    /// Whether encoders register their schema if the subject does not have it. Default: `false`: a schema that is not
    /// registered is an error. Encoders look for the schema first, so schemas that are there need no right to register.
    ///
    /// `true` is convenient for development. In production, a deployment that registers schemas, and programs that
    /// only look them up, keep a mistake in one program from becoming everybody's schema.
    #[must_use]
    pub fn auto_register(mut self, yes: bool) -> Self {
        self.auto_register = yes;
        self
    }

    /// The HTTP client to use: with certificates or headers of your own, or a proxy. Default: one of the registry's
    /// own, without a proxy, that follows no redirects. The time limit for connecting is then the client's.
    ///
    /// The type is the crate reqwest's on purpose: a program that needs this has that crate already.
    #[must_use]
    pub fn http_client(mut self, client: reqwest::Client) -> Self {
        self.http = Some(client);
        self
    }

    /// The servers, and what requests have as `authorization`.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): all faults.
    pub(crate) fn check(&self) -> Result<(Vec<Url>, Option<HeaderValue>)> {
        let mut faults = Vec::new();
        let mut urls = Vec::new();
        for url in &self.urls {
            match self.server(url) {
                Ok(url) => urls.push(url),
                Err(fault) => faults.push(fault),
            }
        }
        let login = self.login().unwrap_or_else(|fault| {
            faults.push(fault.to_owned());
            None
        });
        let limits = [
            ("timeout", self.timeout),
            ("request_timeout", self.request_timeout),
            ("connect_timeout", self.connect_timeout),
        ];
        for (name, _) in limits.into_iter().filter(|(_, time)| time.is_zero()) {
            faults.push(format!("`{name}` is zero, which leaves no time for an answer"));
        }
        if faults.is_empty() {
            return Ok((urls, login));
        }
        Err(Error::new(ErrorKind::Config, faults.join("; ")))
    }

    fn server(&self, text: &str) -> Result<Url, String> {
        let shown = shown(text);
        let not_one = || format!("`{shown}` is not the address of a schema registry");
        let url = Url::parse(text).map_err(|_| not_one())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!(
                "the URL of `{shown}` holds credentials: use `user` and `password`"
            ));
        }
        match url.scheme() {
            "http" => {}
            "https" if cfg!(feature = "tls") || self.http.is_some() => {}
            "https" => {
                return Err(format!(
                    "`{shown}` needs the feature `tls` of the crate kasper-schema"
                ));
            }
            _ => return Err(format!("`{shown}` does not begin with `http://` or `https://`")),
        }
        if url.host_str().is_none() || url.query().is_some() || url.fragment().is_some() {
            return Err(not_one());
        }
        Ok(url)
    }

    fn login(&self) -> Result<Option<HeaderValue>, &'static str> {
        let (user, password) = match (&self.user, &self.password) {
            (None, None) => return Ok(None),
            (Some(_), None) => return Err("there is a user but no password"),
            (None, Some(_)) => return Err("there is a password but no user"),
            (Some(user), Some(password)) => (user, password),
        };
        let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let value = HeaderValue::from_str(&text);
        let mut value = value.map_err(|_| "user and password don't fit into a header")?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// A URL as errors and logs show it: without user, password and query, which may hold secrets.
fn shown(text: &str) -> String {
    match Url::parse(text) {
        Ok(mut url) => {
            url.set_query(None);
            url.set_fragment(None);
            // What looks like a user may be a scheme or a part of the path.
            url.as_str().rsplit_once('@').map_or(url.as_str(), |(_, rest)| rest).to_owned()
        }
        // Where its parts begin and end is not known.
        Err(_) if text.contains(['@', '?', '#']) => "(hidden)".to_owned(),
        Err(_) => text.to_owned(),
    }
}

/// Without the password.
impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.urls.iter().map(|url| shown(url)).collect();
        f.debug_struct("RegistryConfig")
            .field("urls", &urls)
            .field("timeout", &self.timeout)
            .field("request_timeout", &self.request_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("ask_again_after", &self.ask_again_after)
            .field("auto_register", &self.auto_register)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn faults(config: &RegistryConfig) -> String {
        let error = config.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn every_fault_is_told_at_once_and_no_password() {
        for bad in ["", "registry:8081", "ftp://a", "http://a?b=c", "http://a#b"] {
            faults(&RegistryConfig::new(bad));
        }
        let told = faults(
            &RegistryConfig::new("http://me:secret@host:1").user("me").timeout(Duration::ZERO),
        );
        assert!(told.contains("holds credentials") && told.contains("no password"), "{told}");
        assert!(told.contains("`timeout`") && !told.contains("secret"), "{told}");
        assert!(faults(&RegistryConfig::new("http://a").password("x")).contains("no user"));
        let config = RegistryConfig::new("http://me:secret@a").user("me").password("secret");
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn secrets_in_any_part_of_a_url_are_shown_nowhere() {
        for url in [
            "http://a?apikey=SECRET",
            "http://a?apikey=x@SECRET",
            "http://a#SECRET",
            "http://me:SECRET@a",
            "me:SECRET@a",
            "http://me:SECRET?x@a",
            "http://a:b?SECRET",
            "http://[?SECRET",
        ] {
            let config = RegistryConfig::new(url);
            let shown = format!("{config:?} {}", faults(&config));
            assert!(!shown.contains("SECRET"), "{url}: {shown}");
        }
    }

    #[test]
    fn https_needs_the_feature_or_a_client() {
        let config = RegistryConfig::new("https://a");
        assert_eq!(config.check().is_ok(), cfg!(feature = "tls"));
        assert!(config.http_client(reqwest::Client::new()).check().is_ok());
    }
}
