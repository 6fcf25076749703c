//! The user's factory and processors, watched: the tester must know whether it waits for their code.

use std::sync::{Arc, MutexGuard};

use futures_util::future::BoxFuture;

use super::broker::TestProducer;
use crate::context::Context;
use crate::error::BoxError;
use crate::lock::Mutex;
use crate::message::{Batch, Offset};
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
    batches: Vec<Given>,
}

/// A batch that `process` was called with.
struct Given {
    /// Index of the topic, and offset.
    messages: Vec<(u16, Offset)>,
    attempt: Attempt,
}

/// What became of one call of `process` that was given a message; see
/// [`ProcessorTester::attempts`](super::ProcessorTester::attempts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attempt {
    /// `process` has not returned: a run was dropped, or it waits in a [`flush`](Context::flush) whose acks are held.
    Running,
    /// `process` returned `Ok`. What it sent may still fail to be delivered, and its offsets not be committed.
    Succeeded,
    /// `process` returned an error.
    Failed,
    /// `process` panicked.
    Panicked,
    /// `process` was dropped at an `await`: the partition was lost, a drain took too long, an earlier batch failed, or
    /// the test simulated a crash.
    Dropped,
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
        (state.messages, state.batches.len())
    }

    /// The calls of `process` that were given this message.
    pub(super) fn attempts(&self, topic: u16, offset: Offset) -> Vec<Attempt> {
        let state = self.state();
        let given = state.batches.iter().filter(|given| given.messages.contains(&(topic, offset)));
        given.map(|given| given.attempt).collect()
    }

    fn enter(&self, batch: Option<&Batch>) -> Busy<'_> {
        let mut state = self.state();
        state.busy = true;
        state.deliveries_before = self.producer.deliveries();
        if let Some(batch) = batch {
            state.messages += batch.len();
            let messages = batch.iter().map(|m| (m.record().topic, m.offset())).collect();
            state.batches.push(Given { messages, attempt: Attempt::Running });
        }
        Busy { calls: self, in_process: batch.is_some(), returned: None }
    }
}

/// Ends with the call, whether it returns, panics or is dropped.
struct Busy<'a> {
    calls: &'a Calls,
    /// Else in the factory.
    in_process: bool,
    returned: Option<Attempt>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let unwinding = std::thread::panicking();
        let ended = if unwinding { Attempt::Panicked } else { Attempt::Dropped };
        let mut state = self.calls.state();
        state.busy = false;
        if let (true, Some(given)) = (self.in_process, state.batches.last_mut()) {
            given.attempt = self.returned.unwrap_or(ended);
        }
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
            let mut busy = self.calls.enter(Some(batch));
            let result = self.processor.process_dyn(batch, context).await;
            let succeeded = result.is_ok();
            busy.returned = Some(if succeeded { Attempt::Succeeded } else { Attempt::Failed });
            result
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
