//! What [`prove`](crate::testkit::prove()) does with a [`ProcessorTester`] beyond what a test can do: batches of any size,
//! and crashes that take several commits back.

use super::ProcessorTester;
use crate::error::Result;
use crate::message::Offset;

impl ProcessorTester {
    /// As [`run_batch`](Self::run_batch), with this many messages at most.
    pub(in crate::testkit) async fn run_batch_of(&mut self, messages: usize) -> Result<usize> {
        self.begin_run()?;
        let (before, _) = self.calls.given();
        self.step(messages).await?;
        Ok(self.calls.given().0 - before)
    }

    /// The next offset that is committed, by input topic.
    pub(in crate::testkit) fn committed_by_topic(&self) -> Vec<Option<Offset>> {
        self.log.committed()
    }

    /// As [`crash`](Self::crash), with these offsets as those that were committed last.
    pub(in crate::testkit) fn crash_back_to(&mut self, committed: Vec<Option<Offset>>) {
        self.committed_before = committed;
        self.crash();
    }

    /// Whether a call of the user's code has begun and not ended.
    pub(in crate::testkit) fn is_within_call(&self) -> bool {
        self.calls.is_busy()
    }

    /// After the lane has ended: nobody waits for the acks that are held, and none is held any more.
    pub(in crate::testkit) fn forget_held_acks(&mut self) {
        self.producer.release_acks();
    }
}
