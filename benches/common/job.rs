//! A job of the library's, run until it has processed everything.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kasper::{Handle, ProcessorState, TopicProcessor};

use super::BoxError;
use super::measure::{Mark, Sample};

/// Set with the first message.
pub(crate) type First = Arc<OnceLock<Mark>>;

/// Processes everything there is. The last message is finished when its batch is: processed and,
/// where something was produced, acknowledged.
pub(crate) async fn run_to_end(
    processor: TopicProcessor,
    messages: u64,
    first: &First,
) -> Result<Sample, BoxError> {
    let handle = processor.handle();
    let start = Mark::now();
    let running = tokio::spawn(processor.run_until_caught_up());
    while handle.status().messages < messages && !has_ended(&handle) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let end = Mark::now();
    let report = running.await??;
    if report.messages != messages {
        return Err(format!("{} messages instead of {messages}", report.messages).into());
    }
    let sample = Sample::until(messages, start, first.get().copied(), end);
    Ok(Sample { seconds_to_return: start.elapsed(), ..sample })
}

fn has_ended(handle: &Handle) -> bool {
    matches!(handle.status().state, ProcessorState::Closing | ProcessorState::Closed)
}
