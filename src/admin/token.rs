//! The token that commands to processors need.

use subtle::ConstantTimeEq;

use crate::error::{Error, ErrorKind, Result};

/// Shorter ones can be guessed.
const LEAST: usize = 16;

#[derive(Clone)]
pub(super) struct Token(String);

impl Token {
    pub(super) fn new(token: String) -> Self {
        Self(token)
    }

    pub(super) fn check(&self) -> Result<()> {
        self.fault().map_or(Ok(()), |fault| Err(Error::new(ErrorKind::Config, fault)))
    }

    pub(super) fn fault(&self) -> Option<String> {
        // What else there is could not be sent in a header, or not be told from the space around it.
        let is_good = self.0.len() >= LEAST && self.0.bytes().all(|byte| byte.is_ascii_graphic());
        (!is_good).then(|| {
            format!(
                "the admin server's token is too short or has other characters than printable ASCII: \
                 choose at least {LEAST} of them, without spaces"
            )
        })
    }

    /// In constant time: it does not tell how much of the token is right.
    pub(super) fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}
