//! Tokens for `sasl.mechanism=OAUTHBEARER`, from the user's provider.
//!
//! librdkafka asks for a token by an event, in good time before the old one ends.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ffi::Client;
use super::spawn;
use crate::error::BoxError;

/// librdkafka counts in microseconds, which a longer time would overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A token to authenticate with, for `sasl.mechanism=OAUTHBEARER`; see
/// [`Builder::oauth_token`](crate::Builder::oauth_token).
///
/// Its `Debug` output does not hold the token.
///
/// ```
/// use std::time::Duration;
///
/// use kasper::OauthToken;
///
/// let token = OauthToken::new("eyJhbGciOi...", "service-a", Duration::from_secs(3600))
///     .extension("logicalCluster", "lkc-1");
/// assert!(!format!("{token:?}").contains("eyJhbGciOi"));
/// ```
#[derive(Clone)]
pub struct OauthToken {
    token: String,
    principal: String,
    lifetime: Duration,
    extensions: Vec<(String, String)>,
}

impl OauthToken {
    /// A token for the user `principal`, valid for `lifetime` from the time when the provider returns it. The provider
    /// is asked for the next one after four fifths of that time.
    pub fn new(token: impl Into<String>, principal: impl Into<String>, lifetime: Duration) -> Self {
        let (token, principal) = (token.into(), principal.into());
        Self { token, principal, lifetime, extensions: Vec::new() }
    }

    /// Adds a SASL extension. Default: none.
    #[must_use]
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }
}

impl OauthToken {
    /// What librdkafka checks too; but its messages quote what they complain about, and go to the log.
    fn check(&self) -> Result<(), String> {
        if self.lifetime < Duration::from_millis(1) {
            return Err("the token's lifetime is below 1 ms".to_owned());
        }
        let bad = |text: &str| {
            text.bytes().any(|byte| !matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'))
        };
        if self.token.is_empty() || bad(&self.token) {
            return Err(
                "the token is empty, or has a character that is not printable ASCII".to_owned()
            );
        }
        let wrong = self.extensions.iter().find(|(_, value)| bad(value));
        wrong.map_or(Ok(()), |(name, _)| {
            Err(format!(
                "the value of SASL extension `{name}` has a character that is not printable ASCII"
            ))
        })
    }
}

impl fmt::Debug for OauthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OauthToken")
            .field("principal", &self.principal)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// Gets a token; may block.
pub(crate) type TokenProvider = Arc<dyn Fn() -> Result<OauthToken, BoxError> + Send + Sync>;

/// Answers a token request. On a thread of its own: the provider may ask a server, and the thread
/// that polls must not wait for it.
pub(super) fn refresh(client: &Arc<Client>, provider: Option<&TokenProvider>) {
    let Some(provider) = provider.cloned() else {
        client.set_token_failure("no token provider is set; give one to `oauth_token`");
        return;
    };
    let own = Arc::clone(client);
    let started = spawn("kasper-token", move || {
        let result = catch_unwind(AssertUnwindSafe(|| provider()))
            .unwrap_or_else(|_| Err("the token provider panicked".into()))
            .map_err(|error| reason(&error))
            .and_then(|token| set(&own, &token));
        if let Err(reason) = result {
            tracing::warn!(
                reason,
                "could not get a token for Kafka; the provider is asked again after 10 s"
            );
            own.set_token_failure(&reason);
        }
    });
    if let Err(error) = started {
        client.set_token_failure(&format!("the token provider was not asked: {error}"));
    }
}

/// Never empty: librdkafka would not take an empty reason for a failure, and never ask again.
fn reason(error: &BoxError) -> String {
    match error.to_string().trim_matches(['\0', ' ', '\n']) {
        "" => "the token provider failed and gave no reason".to_owned(),
        text => text.replace('\0', " "),
    }
}

fn set(client: &Client, token: &OauthToken) -> Result<(), String> {
    token.check()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let end = i64::try_from((now + token.lifetime.min(LONGEST)).as_millis()).unwrap_or(i64::MAX);
    client.set_token(&token.token, end, &token.principal, &token.extensions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_always_has_a_reason() {
        let text = |text: &str| reason(&text.into());
        assert_eq!(text("no route"), "no route");
        assert_eq!(text("cut\0off"), "cut off");
        for empty in ["", " ", "\0"] {
            assert!(text(empty).contains("gave no reason"));
        }
    }

    #[test]
    fn what_librdkafka_would_quote_is_refused_before_it_sees_it() {
        let token = |token: &str| OauthToken::new(token, "me", Duration::from_secs(1));
        token("abc.def.").extension("cluster", "a b").check().unwrap();
        for (bad, part) in [
            (token(""), "token"),
            (token("secret\u{e9}"), "token"),
            (token("secret\0"), "token"),
            (token("x").extension("cluster", "secret\u{1}"), "`cluster`"),
            (OauthToken::new("secret", "me", Duration::ZERO), "lifetime"),
        ] {
            let reason = bad.check().unwrap_err();
            assert!(reason.contains(part) && !reason.contains("secret"), "{reason}");
        }
    }
}
