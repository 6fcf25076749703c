//! Stores that wrap a store: they keep the rules of [`Store`](super::Store) and add something.

mod cache;
mod cached;
mod metered;
mod retry;

pub use cached::{CacheStats, Cached};
pub use metered::Metered;
pub use retry::Retry;
