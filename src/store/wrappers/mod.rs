//! Stores around a store: they keep the rules of [`Store`](super::Store) and add something.

mod cache;
mod cached;
mod retry;

pub use cached::{CacheStats, Cached};
pub use retry::Retry;
