//! [`StartContext`]: what a factory is told about the partition number that it makes a processor for.

use std::fmt;
use std::sync::Arc;

use crate::handle::Handle;
use crate::metrics::Metrics;
use crate::store::{Metered, Retry};

/// Tells a factory which partition number it makes a processor for, and of which topic processor.
/// [`Builder::build`](crate::Builder::build) passes it to its closure, and
/// [`ProcessorFactory::create`](crate::ProcessorFactory::create) gets it.
///
/// A clone is cheap: keep one in the processor to have the metrics or the handle later.
///
/// ```
/// use kasper::metrics::Counter;
/// use kasper::store::{MapStore, Metered, Store};
/// use kasper::testkit::{ProcessorTester, TestMessage};
/// use kasper::{Batch, BoxError, Context, Processor};
///
/// struct Count {
///     seen: Metered<MapStore>,
///     large: Counter,
///     key: String,
/// }
///
/// impl Processor for Count {
///     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
///         let sizes = batch.iter().map(|message| message.value().unwrap_or_default().len());
///         self.large.increment(sizes.filter(|size| *size > 1000).count() as u64);
///         Ok(self.seen.put(&self.key, batch.len().to_string()).await?)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// let store = MapStore::new();
/// let shared = store.clone();
/// // The same closure for `TopicProcessor::builder(…).build(…)`. The metrics have the recorder and the name of the
/// // topic processor, so both are given once.
/// let mut tester = ProcessorTester::new(["orders"], move |start| Count {
///     seen: Metered::new(shared.clone(), "seen", start.metrics()),
///     large: start.metrics().counter("orders_large_total", "Orders over 1,000 bytes.", &[]),
///     key: format!("{}-{}", start.name(), start.partition()),
/// });
/// tester.push(TestMessage::new("orders").value("1"));
/// tester.run_batch().await?;
/// assert_eq!(store.snapshot()["tester-0"], "1");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct StartContext {
    partition: i32,
    topics: Arc<[Arc<str>]>,
    handle: Handle,
}

impl StartContext {
    pub(crate) fn new(partition: i32, topics: Arc<[Arc<str>]>, handle: Handle) -> Self {
        Self { partition, topics, handle }
    }

    /// The partition number that the processor is for.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The input topics whose partition of this number is assigned, in the order of
    /// [`builder`](crate::TopicProcessor::builder). Usually all input topics; fewer if the topics have different
    /// numbers of partitions. When the list changes, the processor is dropped and the factory called again.
    ///
    /// ```
    /// # use kasper::testkit::ProcessorTester;
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct Join;
    /// # impl Processor for Join {
    /// #     async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let tester = ProcessorTester::new(["orders", "customers"], |start| {
    ///     assert_eq!(start.partition(), 3);
    ///     assert!(start.topics().eq(["orders", "customers"]));
    ///     Join
    /// });
    /// tester.partition(3).run_batch().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(|topic| &**topic)
    }

    /// The name of the topic processor: the first argument of [`builder`](crate::TopicProcessor::builder).
    pub fn name(&self) -> &str {
        self.handle.name()
    }

    /// Registers metrics with the topic processor's recorder, under its name: metrics of your own, and those of
    /// [metered stores](crate::store::Metered). Each partition that registers the same name and labels gets the same
    /// counter, gauge or histogram.
    pub fn metrics(&self) -> &Metrics {
        self.handle.metrics()
    }

    /// The store with what a service wants around it: calls that fail for a transient reason are [repeated](Retry) for
    /// up to 20 s, and calls and retries are [measured](Metered), with `name` as the label `store`. For other settings,
    /// wrap the store yourself: `Metered::new(Retry::new(store).deadline(…), "orders", start.metrics())`.
    ///
    /// ```
    /// # use kasper::store::{MapStore, Metered, Retry, Store};
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// struct Count(Metered<Retry<MapStore>>);
    ///
    /// impl Processor for Count {
    ///     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    ///         Ok(self.0.put("count", batch.len().to_string()).await?)
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// let store = MapStore::new();
    /// let shared = store.clone();
    /// let mut tester = ProcessorTester::new(["orders"], move |start| {
    ///     Count(start.store("counts", shared.clone()))
    /// });
    /// tester.push(TestMessage::new("orders"));
    /// tester.run_batch().await?;
    /// assert_eq!(store.snapshot()["count"], "1");
    /// # Ok(())
    /// # }
    /// ```
    pub fn store<S>(&self, name: &str, store: S) -> Metered<Retry<S>> {
        let metrics = self.metrics();
        Metered::new(Retry::new(store).metered(name, metrics), name, metrics)
    }

    /// A handle to the topic processor, to pause or close it from other tasks. In `process`,
    /// [`Context::close`](crate::Context::close) is shorter.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl fmt::Debug for StartContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartContext")
            .field("name", &self.name())
            .field("partition", &self.partition)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}
