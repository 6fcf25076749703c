//! The messages of a batch by key and by topic.
//!
//! Place in the data path: a processor that reads its state once per batch asks for the keys first.

use std::collections::{HashMap, HashSet};

use super::{Batch, Message};

impl Batch {
    /// The keys of the batch, each once, in the order in which they first come. Messages without a key are left out.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct LookAt;
    /// # impl Processor for LookAt {
    /// #     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    /// // The keys are b, a, b, and one message has none.
    /// assert_eq!(batch.distinct_keys(), [b"b", b"a"]);
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # let mut tester = ProcessorTester::new(["orders"], |_| LookAt);
    /// # ["b", "a", "b"].map(|key| tester.push(TestMessage::new("orders").key(key)));
    /// # tester.push(TestMessage::new("orders"));
    /// # assert_eq!(tester.run_batch().await?, 4);
    /// # Ok(())
    /// # }
    /// ```
    pub fn distinct_keys(&self) -> Vec<&[u8]> {
        let mut seen = HashSet::new();
        self.iter().filter_map(|message| message.key()).filter(|key| seen.insert(*key)).collect()
    }

    /// The messages of each key, in order; the keys in the order in which they first come. Messages without a key are
    /// a group of their own, with the key `None`.
    ///
    /// The messages of a key may be of several topics. The order of messages of different topics says nothing about
    /// when they were produced.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct LookAt;
    /// # impl Processor for LookAt {
    /// #     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    /// // The keys are b, a, b.
    /// for (key, messages) in batch.group_by_key() {
    ///     let offsets: Vec<i64> = messages.iter().map(|message| message.offset().get()).collect();
    ///     match key {
    ///         Some(b"b") => assert_eq!(offsets, [0, 2]),
    ///         _ => assert_eq!(offsets, [1]),
    ///     }
    /// }
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # let mut tester = ProcessorTester::new(["orders"], |_| LookAt);
    /// # ["b", "a", "b"].map(|key| tester.push(TestMessage::new("orders").key(key)));
    /// # assert_eq!(tester.run_batch().await?, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn group_by_key(&self) -> Vec<(Option<&[u8]>, Vec<Message<'_>>)> {
        let mut groups: Vec<(Option<&[u8]>, Vec<Message<'_>>)> = Vec::new();
        let mut places = HashMap::new();
        for message in self.iter() {
            let place = *places.entry(message.key()).or_insert_with(|| {
                groups.push((message.key(), Vec::new()));
                groups.len() - 1
            });
            groups[place].1.push(message);
        }
        groups
    }

    /// The last message of each key, in the order of the batch: what is left of a compacted topic. A tombstone is its
    /// key's last message like any other. Messages without a key are left out.
    ///
    /// With several input topics, use it on one: a key's last message of the batch may be of any of them.
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct LookAt;
    /// # impl Processor for LookAt {
    /// #     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    /// // The keys are b, a, b.
    /// let offsets = batch.latest_by_key().map(|message| message.offset().get());
    /// assert_eq!(offsets.collect::<Vec<_>>(), [1, 2]);
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # let mut tester = ProcessorTester::new(["orders"], |_| LookAt);
    /// # ["b", "a", "b"].map(|key| tester.push(TestMessage::new("orders").key(key)));
    /// # assert_eq!(tester.run_batch().await?, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn latest_by_key(&self) -> impl Iterator<Item = Message<'_>> {
        let last: HashMap<&[u8], usize> = (0..)
            .zip(self.iter())
            .filter_map(|(place, message)| Some((message.key()?, place)))
            .collect();
        let messages = (0..).zip(self.iter());
        let latest = messages.filter(move |(place, message)| {
            message.key().is_some_and(|key| last.get(key) == Some(place))
        });
        latest.map(|(_, message)| message)
    }

    /// The input topics that have a message in the batch, each with its messages in order. Each topic's messages are
    /// found by going through the whole batch, as with [`topic`](Batch::topic).
    ///
    /// ```
    /// # use kasper::testkit::{ProcessorTester, TestMessage};
    /// # use kasper::{Batch, BoxError, Context, Processor};
    /// # struct LookAt;
    /// # impl Processor for LookAt {
    /// #     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
    /// let counts = batch.by_topic().map(|(topic, messages)| (topic, messages.count()));
    /// assert_eq!(counts.collect::<Vec<_>>(), [("customers", 1), ("orders", 2)]);
    /// #         Ok(())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kasper::Result<()> {
    /// # let mut tester = ProcessorTester::new(["customers", "orders", "returns"], |_| LookAt);
    /// # ["orders", "customers", "orders"].map(|topic| tester.push(TestMessage::new(topic)));
    /// # assert_eq!(tester.run_batch().await?, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn by_topic(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = Message<'_>>)> {
        self.offsets().map(|(topic, _)| (topic, self.topic(topic)))
    }
}
