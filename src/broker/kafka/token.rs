//! Tokens for `sasl.mechanism=OAUTHBEARER`, from the user's provider.
//!
//! librdkafka asks for a token by an event, in good time before the old one ends.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ffi::Client;
use crate::error::BoxError;

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
    /// A token that is valid for `lifetime` from now on, and whom it is for. The next one is asked
    /// for when four fifths of that time are over.
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
        client.set_token_failure("no token provider is set");
        return;
    };
    let own = Arc::clone(client);
    let thread = thread::Builder::new().name("kasper-token".into());
    let started = thread.spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(|| provider()))
            .unwrap_or_else(|_| Err("the token provider panicked".into()))
            .map_err(|error| error.to_string())
            .and_then(|token| set(&own, &token));
        if let Err(reason) = result {
            tracing::warn!(reason, "no token for Kafka");
            own.set_token_failure(&reason);
        }
    });
    if let Err(error) = started {
        client.set_token_failure(&format!("no thread for the token provider: {error}"));
    }
}

fn set(client: &Client, token: &OauthToken) -> Result<(), String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let end = i64::try_from((now + token.lifetime).as_millis()).unwrap_or(i64::MAX);
    client.set_token(&token.token, end, &token.principal, &token.extensions)
}
