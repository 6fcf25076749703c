//! The user's factory and processors, watched: the tester must know whether it waits for their code.

use std::sync::{Arc, MutexGuard};

use futures_util::future::BoxFuture;

use super::broker::TestProducer;
use crate::context::Context;
use crate::error::BoxError;
use crate::lock::Mutex;
use crate::message::Batch;
use crate::processor::{DynFactory, DynProcessor};
use crate::start_context::StartContext;

/// What the user's code is doing.
pub(super) struct Calls {
    producer: Arc<TestProducer>,
    state: Mutex<CallsState>,
}

#[derive(Default)]
struct CallsState {
    /// Within the factory or `process`.
    busy: bool,
    /// Deliveries before it went in.
    deliveries_before: usize,
    messages: usize,
    batches: usize,
}

impl Calls {
    pub(super) fn new(producer: Arc<TestProducer>) -> Arc<Self> {
        Arc::new(Self { producer, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, CallsState> {
        self.state.lock()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.state().busy
    }

    /// Whether a lane that waits will wait until the test does something. Within the user's code it
    /// does so only in a `flush` whose acks are held: what else that code waits for is its own.
    pub(super) fn is_still(&self) -> bool {
        let state = self.state();
        !state.busy || self.producer.holds_after(state.deliveries_before)
    }

    /// Messages and batches given to `process`, replays included.
    pub(super) fn given(&self) -> (usize, usize) {
        let state = self.state();
        (state.messages, state.batches)
    }

    fn enter(&self, batch: Option<&Batch>) -> Busy<'_> {
        let mut state = self.state();
        state.busy = true;
        state.deliveries_before = self.producer.deliveries();
        if let Some(batch) = batch {
            state.messages += batch.len();
            state.batches += 1;
        }
        Busy(self)
    }
}

/// Ends with the call, whether it returns, panics or is dropped.
struct Busy<'a>(&'a Calls);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.state().busy = false;
    }
}

pub(super) struct WatchedFactory {
    pub(super) factory: Box<dyn DynFactory>,
    pub(super) calls: Arc<Calls>,
}

impl DynFactory for WatchedFactory {
    fn create_dyn<'a>(
        &'a mut self,
        start: &'a StartContext,
    ) -> BoxFuture<'a, Result<Box<dyn DynProcessor>, BoxError>> {
        Box::pin(async move {
            let _busy = self.calls.enter(None);
            let processor = self.factory.create_dyn(start).await?;
            let watched = Watched { processor, calls: self.calls.clone() };
            Ok(Box::new(watched) as Box<dyn DynProcessor>)
        })
    }
}

struct Watched {
    processor: Box<dyn DynProcessor>,
    calls: Arc<Calls>,
}

impl DynProcessor for Watched {
    fn process_dyn<'a>(
        &'a mut self,
        batch: &'a Batch,
        context: &'a mut Context,
    ) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async move {
            let _busy = self.calls.enter(Some(batch));
            self.processor.process_dyn(batch, context).await
        })
    }

    fn tick_dyn<'a>(&'a mut self, context: &'a mut Context) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async move {
            let _busy = self.calls.enter(None);
            self.processor.tick_dyn(context).await
        })
    }

    fn closing_dyn<'a>(
        &'a mut self,
        context: &'a mut Context,
    ) -> BoxFuture<'a, Result<(), BoxError>> {
        Box::pin(async move {
            let _busy = self.calls.enter(None);
            self.processor.closing_dyn(context).await
        })
    }
}
