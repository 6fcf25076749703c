//! `RedisStore` and `MultiRedisStore` on real servers: one that is only used (`KASPER_TEST_REDIS`), a
//! cluster (`KASPER_TEST_REDIS_CLUSTER`), and servers of a test's own that may be killed and filled up.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../attempts/mod.rs"]
mod attempts;
mod cluster;
mod faults;
mod moving;
mod network;
mod rules;
mod server;
#[cfg(feature = "redis-tls")]
mod tls;

use std::time::UNIX_EPOCH;

/// The value of an environment variable that names a server.
fn from_env(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `cargo xtask test --only stores`, or set it")
    })
}

/// `host:port` of the server.
fn address() -> String {
    from_env("KASPER_TEST_REDIS")
}

/// A prefix that no other test and no other run uses.
fn prefix(test: &str) -> String {
    format!("{test}-{:x}", UNIX_EPOCH.elapsed().unwrap().as_nanos())
}
