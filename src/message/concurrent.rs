//! Asynchronous calls for the messages of a batch, some of them at a time.
//!
//! Place in the data path: within [`Processor::process`](crate::Processor::process).

use std::future::Future;

use super::{Batch, Message};
use crate::concurrent::in_order;

impl Batch {
    /// Calls `call` for each message and returns the results in the order of the messages. At most `concurrency` calls
    /// run at a time; 0 counts as 1. They run in this task, so they share its thread while they don't wait.
    ///
    /// After an error no further call begins. Calls under way run to their end: a request that was dropped might still
    /// reach its server. Then the first error in the order of the messages is returned.
    ///
    /// `stream::iter(batch.iter()).map(…).buffered(n)` of the crate `futures` does not compile in `process`: the compiler
    /// can't show that a future with such a closure in it is `Send`.
    ///
    /// # Errors
    /// Those of `call`.
    ///
    /// # Cancel safety
    /// Dropping the future drops the calls under way.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, OutgoingMessage, Processor};
    /// # async fn look_up(key: &[u8]) -> Result<String, BoxError> {
    /// #     Ok(format!("{} GBP", key.len()))
    /// # }
    /// # struct Price;
    /// # impl Processor for Price {
    /// #     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
    /// let prices = batch
    ///     .map_concurrent(16, |message| async move { look_up(message.key().ok_or("no key")?).await })
    ///     .await?;
    /// for (message, price) in batch.iter().zip(prices) {
    ///     context.send(OutgoingMessage::like("prices", &message).value(price));
    /// }
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # let mut tester = ProcessorTester::new(["orders"], |_| Price);
    /// # ["aaa", "a"].map(|key| tester.push(TestMessage::new("orders").key(key)));
    /// # tester.run_batch().await?;
    /// # let sent = |key, price| TestMessage::new("prices").key(key).value(price);
    /// # assert_eq!(tester.take_outgoing(), [sent("aaa", "3 GBP"), sent("a", "1 GBP")]);
    /// # tester.push(TestMessage::new("orders"));
    /// # assert!(tester.run_batch().await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[allow(
        clippy::manual_async_fn,
        reason = "callers need not show that the closure makes it `Send`"
    )]
    pub fn map_concurrent<'a, T, E, F, C>(
        &'a self,
        concurrency: usize,
        call: C,
    ) -> impl Future<Output = Result<Vec<T>, E>> + Send
    where
        C: Fn(Message<'a>) -> F + Send + Sync,
        F: Future<Output = Result<T, E>> + Send,
        T: Send,
        E: Send,
    {
        async move {
            let call = &call;
            // The closure is called when its turn comes, not now.
            let calls: Vec<_> =
                self.iter().map(|message| async move { call(message).await }).collect();
            in_order(concurrency, calls).await
        }
    }

    /// Calls `call` for each message, at most `concurrency` at a time, and waits for all: as
    /// [`map_concurrent`](Batch::map_concurrent), without results.
    ///
    /// # Errors
    /// Those of `call`.
    ///
    /// # Cancel safety
    /// Dropping the future drops the calls under way.
    pub fn for_each_concurrent<'a, E, F, C>(
        &'a self,
        concurrency: usize,
        call: C,
    ) -> impl Future<Output = Result<(), E>> + Send
    where
        C: Fn(Message<'a>) -> F + Send + Sync,
        F: Future<Output = Result<(), E>> + Send,
        E: Send,
    {
        let all = self.map_concurrent(concurrency, call);
        async move { all.await.map(drop) }
    }
}
