//! [`Processes`]: the two processes of a run, each with a factory of its own; and the processors that they make.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync;

use super::recorder::Recorder;
use super::store::ProofStore;
use crate::context::Context;
use crate::error::BoxError;
use crate::lock::Mutex;
use crate::message::Batch;
use crate::processor::{DynFactory, DynProcessor, Processor, ProcessorFactory};
use crate::start_context::StartContext;

/// The user's closure: what a process does when it begins.
pub(super) type Make = dyn FnMut(ProofStore) -> Box<dyn DynFactory> + Send;

/// The factory of the tester: it asks the process that has the partition.
#[derive(Clone)]
pub(super) struct Processes {
    make: Arc<Mutex<Box<Make>>>,
    recorder: Arc<Recorder>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Which process has the partition.
    current: usize,
    /// Those that run.
    running: [Option<Process>; 2],
}

struct Process {
    factory: Arc<sync::Mutex<Box<dyn DynFactory>>>,
    is_dead: Arc<AtomicBool>,
}

impl Processes {
    pub(super) fn new(make: Arc<Mutex<Box<Make>>>, recorder: Arc<Recorder>) -> Self {
        Self { make, recorder, state: Arc::default() }
    }

    /// The process that has the partition ends: what it has in memory is gone, and its tasks write nothing more. It
    /// begins again when it gets the partition again.
    pub(super) fn kill(&self) {
        let mut state = self.state.lock();
        let current = state.current;
        if let Some(process) = state.running[current].take() {
            process.is_dead.store(true, Ordering::Relaxed);
        }
    }

    /// The other process gets the partition.
    pub(super) fn hand_over(&self) {
        let mut state = self.state.lock();
        state.current = 1 - state.current;
    }

    /// The factory of the process that has the partition, which begins now if it does not run.
    fn factory(&self) -> Arc<sync::Mutex<Box<dyn DynFactory>>> {
        let mut state = self.state.lock();
        let current = state.current;
        let process = state.running[current].get_or_insert_with(|| {
            let is_dead = Arc::<AtomicBool>::default();
            let store = ProofStore::new(self.recorder.clone(), is_dead.clone());
            let factory = (self.make.lock())(store);
            Process { factory: Arc::new(sync::Mutex::new(factory)), is_dead }
        });
        process.factory.clone()
    }
}

impl ProcessorFactory for Processes {
    type Processor = ProofProcessor;

    async fn create(&mut self, start: &StartContext) -> Result<ProofProcessor, BoxError> {
        self.recorder.end_attempt();
        let factory = self.factory();
        let processor = factory.lock().await.create_dyn(start).await?;
        Ok(ProofProcessor { processor, recorder: self.recorder.clone() })
    }
}

/// The user's processor, watched.
pub(super) struct ProofProcessor {
    processor: Box<dyn DynProcessor>,
    recorder: Arc<Recorder>,
}

impl Processor for ProofProcessor {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        self.recorder.begin_attempt(batch);
        self.processor.process_dyn(batch, context).await
    }

    async fn tick(&mut self, context: &mut Context) -> Result<(), BoxError> {
        self.recorder.end_attempt();
        self.processor.tick_dyn(context).await
    }

    async fn closing(&mut self, context: &mut Context) -> Result<(), BoxError> {
        self.recorder.end_attempt();
        self.processor.closing_dyn(context).await
    }
}
