//! Checks for the rules of [`Store`] and [`MultiStore`], by number. Run them on a store of your own.
//!
//! Like tests, the checks panic: with the number of the rule, and with what was found. The store need not be empty,
//! because every key that the checks use contains a text that differs in each run.
//!
//! ```
//! use kasper::store::MapStore;
//! use kasper::testkit::conformance::{Profile, check_store};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! check_store(&MapStore::new(), &Profile::default()).await;
//! # }
//! ```
//!
//! The rules about failures (9 and 11 of `Store`, 7 and 8 of `MultiStore`) are checked only to the extent that is
//! possible without making the backend fail.
#![allow(clippy::expect_used, reason = "checks fail by panicking")]

mod multi;
mod store;

use std::time::UNIX_EPOCH;

use bytes::Bytes;

#[allow(unused_imports, reason = "for the documentation")]
use crate::multitenant::MultiStore;
#[allow(unused_imports, reason = "for the documentation")]
use crate::store::Store;

pub use multi::check_multi_store;
pub use store::check_store;

/// What a backend accepts, and how much of it is tried.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Profile {
    /// The longest key in bytes, 32 or more; by default there is no limit, and keys of 10,000 bytes are tried.
    pub max_key_bytes: Option<usize>,
    /// The longest value in bytes; by default there is no limit, and values of 1 MB are tried. A limit
    /// over 100 MB is not tried.
    pub max_value_bytes: Option<usize>,
    /// Whether values must be JSON documents, so that others are refused (rule 8). False by default.
    pub json_values: bool,
    /// How many keys the check of large calls reads and writes at once. 100,000 by default.
    pub many_keys: usize,
}

impl Default for Profile {
    fn default() -> Self {
        Self { max_key_bytes: None, max_value_bytes: None, json_values: false, many_keys: 100_000 }
    }
}

impl Profile {
    /// Sets [`max_key_bytes`](Profile::max_key_bytes).
    #[must_use]
    pub fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.max_key_bytes = Some(bytes);
        self
    }

    /// Sets [`max_value_bytes`](Profile::max_value_bytes).
    #[must_use]
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = Some(bytes);
        self
    }

    /// Sets [`json_values`](Profile::json_values).
    #[must_use]
    pub fn json_values(mut self) -> Self {
        self.json_values = true;
        self
    }

    /// Sets [`many_keys`](Profile::many_keys).
    #[must_use]
    pub fn many_keys(mut self, keys: usize) -> Self {
        self.many_keys = keys;
        self
    }

    /// A value that the backend accepts, different for each text.
    fn value(&self, text: &str) -> Bytes {
        match self.json_values {
            // The space is to come back, too: a document is stored byte for byte.
            true => format!("{{\"text\": {text:?} }}").into(),
            false => text.to_owned().into(),
        }
    }

    fn some(&self, text: &str) -> Option<Bytes> {
        Some(self.value(text))
    }
}

/// Makes keys that no other check and no other run uses.
struct Names(String);

impl Names {
    fn new(check: &str) -> Self {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        Self(format!("{check}-{now:x}-"))
    }

    fn get(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }
}
