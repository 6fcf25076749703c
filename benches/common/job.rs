//! A job of the library's, run until it has processed everything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kasper::{Batch, TopicProcessor};

use super::BoxError;
use super::measure::{Mark, Sample};

/// What processors of a job have seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    first: OnceLock<Mark>,
    messages: AtomicU64,
}

impl Seen {
    /// To be called as a batch begins.
    pub(crate) fn begin(&self, batch: &Batch) {
        self.0.first.get_or_init(Mark::now);
        self.0.messages.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }

    /// When the first batch began.
    pub(crate) fn first(&self) -> Option<Mark> {
        self.0.first.get().copied()
    }

    fn messages(&self) -> u64 {
        self.0.messages.load(Ordering::Relaxed)
    }
}

/// Processes everything there is. The last message is finished when its batch is: processed and,
/// where something was produced, acknowledged.
pub(crate) async fn run_to_end(
    processor: TopicProcessor,
    messages: u64,
    seen: &Seen,
) -> Result<Sample, BoxError> {
    let handle = processor.handle();
    let start = Mark::now();
    let running = tokio::spawn(processor.run_until_caught_up());
    // A status has every partition, and would cost much if it were asked for all the time.
    while (seen.messages() < messages || handle.status().messages < messages)
        && !running.is_finished()
    {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let end = Mark::now();
    let report = running.await??;
    if report.messages != messages {
        return Err(format!("{} messages instead of {messages}", report.messages).into());
    }
    let sample = Sample::until(messages, start, seen.first(), end);
    Ok(Sample { seconds_to_return: start.elapsed(), ..sample })
}
