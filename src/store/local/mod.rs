//! Local stores: a database on the disk of this machine, inside the process (fjall).
//!
//! One keyspace holds all; `s/{prefix}/{key}` are the keys of stores, `t/{tenant}/{prefix}/{key}` those of
//! multitenant ones.

mod at_once;
mod config;
mod database;
mod error;
mod keys;
mod multi;
mod store;

use super::limits::Limits;

pub use config::LocalConfig;
#[cfg(test)]
pub(super) use config::URL_SETTINGS;
pub use database::{LocalDatabase, LocalStats};
pub use multi::MultiLocalStore;
pub use store::LocalStore;

/// The engine takes keys of up to 65,535 bytes: a prefix, a tenant, and what stands between are in that. It
/// would take values of 4 GiB; but a value is in memory several times while it is written.
const LIMITS: Limits = Limits { key_bytes: 64_000, value_bytes: 64 << 20 };
