//! [`RedisStore`] and [`MultiRedisStore`]: state in Redis, one server or a Redis Cluster.
//!
//! A call of a store goes through `requests` (which commands, in which chunks) to `connection` (one
//! shared connection, made anew when it breaks), in a cluster by `cluster` (a pipeline to each server); what
//! fails becomes an error of the library in `error`.

mod client;
mod cluster;
mod command;
mod config;
mod connection;
mod driver;
mod error;
mod in_use;
mod multi;
mod requests;
mod store;
mod thread;
mod url;

pub use client::RedisClient;
pub use config::RedisConfig;
pub use multi::MultiRedisStore;
pub use store::RedisStore;
#[cfg(test)]
pub(super) use url::URL_SETTINGS;
