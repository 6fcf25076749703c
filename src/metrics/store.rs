//! What is counted of a store.
//!
//! Place in the data path: beside the stores, once a call.

use std::time::Duration;

use ::metrics::{Counter, Histogram};

use super::catalogue;
use super::recorder::Metrics;
use crate::error::{Error, Result};

/// The operations of stores and multitenant stores.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    GetMany,
    WriteMany,
    Fetch,
    Push,
    Flush,
}

impl Operation {
    const ALL: [Self; 5] = [Self::GetMany, Self::WriteMany, Self::Fetch, Self::Push, Self::Flush];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GetMany => "get_many",
            Self::WriteMany => "write_many",
            Self::Fetch => "fetch",
            Self::Push => "push",
            Self::Flush => "flush",
        }
    }
}

/// The calls of one store.
pub(crate) struct CallMetrics {
    metrics: Metrics,
    store: String,
    operations: [OperationMetrics; Operation::ALL.len()],
}

struct OperationMetrics {
    calls: Counter,
    keys: Counter,
    bytes: Counter,
    time: Histogram,
}

impl CallMetrics {
    pub(crate) fn new(metrics: &Metrics, store: &str) -> Self {
        let operations = Operation::ALL.map(|operation| {
            let labels = [store, operation.name()];
            OperationMetrics {
                calls: metrics.counter_of(&catalogue::STORE_CALLS, &labels),
                keys: metrics.counter_of(&catalogue::STORE_KEYS, &labels),
                bytes: metrics.counter_of(&catalogue::STORE_BYTES, &labels),
                time: metrics.histogram_of(&catalogue::STORE_TIME, &labels),
            }
        });
        Self { metrics: metrics.clone(), store: store.to_owned(), operations }
    }

    /// A call for so many keys, whose values have so many bytes.
    pub(crate) fn ended(
        &self,
        operation: Operation,
        keys: usize,
        bytes: &Result<usize, &Error>,
        time: Duration,
    ) {
        let metrics = &self.operations[operation as usize];
        metrics.calls.increment(1);
        metrics.keys.increment(keys as u64);
        metrics.time.record(time);
        match bytes {
            Ok(bytes) => metrics.bytes.increment(*bytes as u64),
            Err(error) => {
                let labels = [&*self.store, operation.name(), &error.kind().to_string()];
                self.metrics.counter_of(&catalogue::STORE_ERRORS, &labels).increment(1);
            }
        }
    }
}

/// The retries of one store, by operation.
#[derive(Clone)]
pub(crate) struct RetryMetrics([Counter; Operation::ALL.len()]);

impl RetryMetrics {
    pub(crate) fn new(metrics: &Metrics, store: &str) -> Self {
        let retries = &catalogue::STORE_RETRIES;
        Self(
            Operation::ALL.map(|operation| metrics.counter_of(retries, &[store, operation.name()])),
        )
    }

    pub(crate) fn off() -> Self {
        Self(Operation::ALL.map(|_| Counter::noop()))
    }

    pub(crate) fn tries_again(&self, operation: Operation) {
        self.0[operation as usize].increment(1);
    }
}

/// The cache in front of one store.
pub(crate) struct CacheMetrics {
    hits: Counter,
    misses: Counter,
}

impl CacheMetrics {
    pub(crate) fn new(metrics: &Metrics, store: &str) -> Self {
        Self {
            hits: metrics.counter_of(&catalogue::CACHE_HITS, &[store]),
            misses: metrics.counter_of(&catalogue::CACHE_MISSES, &[store]),
        }
    }

    pub(crate) fn off() -> Self {
        Self { hits: Counter::noop(), misses: Counter::noop() }
    }

    pub(crate) fn looked_up(&self, hits: u64, misses: u64) {
        self.hits.increment(hits);
        self.misses.increment(misses);
    }
}
