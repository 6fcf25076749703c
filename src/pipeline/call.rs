//! One call of the user's code: of `process`, `tick` or `closing`.
//!
//! Place in the data path: the [`partition_processor`](super::partition_processor) makes the call, produces what was
//! sent in it, and puts it into the [`in_flight`](super::in_flight) queue.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tracing::{Instrument as _, Span, debug_span};

use crate::context::Context;
use crate::error::{BoxError, Error, ErrorKind, Result, panic_error};
use crate::message::Batch;
use crate::processor::DynProcessor;

/// A method of a [`Processor`](crate::Processor), with what it is called with besides the context.
pub(crate) enum Call {
    Process(Arc<Batch>),
    Tick,
    Closing,
}

impl Call {
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Process(_) => "process",
            Self::Tick => "tick",
            Self::Closing => "closing",
        }
    }

    pub(crate) fn batch(&self) -> Option<&Arc<Batch>> {
        match self {
            Self::Process(batch) => Some(batch),
            Self::Tick | Self::Closing => None,
        }
    }

    /// Calls the method, and catches its panic.
    ///
    /// # Errors
    /// Those of the method, with the batch and the partition.
    pub(super) async fn run(
        &self,
        processor: &mut dyn DynProcessor,
        context: &mut Context,
    ) -> Result<()> {
        let partition = context.partition();
        let call = async {
            match self {
                Self::Process(batch) => processor.process_dyn(batch, context).await,
                Self::Tick => processor.tick_dyn(context).await,
                Self::Closing => processor.closing_dyn(context).await,
            }
        };
        let method = self.method();
        let failure = match AssertUnwindSafe(call.instrument(self.span())).catch_unwind().await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => process_error(format!("{method} returned an error"), error),
            Err(panic) => panic_error(&format!("{method} panicked"), &*panic),
        };
        let offsets = self.batch().into_iter().flat_map(|batch| batch.offsets());
        let located = offsets.fold(failure, |error, (topic, range)| {
            error.with("topic", topic).with("offsets", range)
        });
        Err(located.with("partition", partition))
    }

    fn span(&self) -> Span {
        match self {
            Self::Process(batch) => {
                debug_span!("batch", messages = batch.len(), offsets = %Offsets(batch))
            }
            Self::Tick => debug_span!("tick"),
            Self::Closing => debug_span!("closing"),
        }
    }
}

pub(super) fn process_error(message: impl Into<String>, source: BoxError) -> Error {
    Error::new(ErrorKind::Process, message).with_source(source)
}

/// By topic: `orders 7..=9, refunds 3..=3`.
struct Offsets<'a>(&'a Batch);

impl fmt::Display for Offsets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (topic, range)) in self.0.offsets().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{topic} {range}")?;
        }
        Ok(())
    }
}
