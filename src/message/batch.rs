//! A batch: the messages of one partition number, across all input topics.
//!
//! Place in the data path: the [batcher](crate::pipeline) fills it from the partition's queue,
//! [`Processor::process`](crate::Processor::process) reads it, and when it is finished, its next offsets are
//! committed.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::{Keepalive, Message, Offset, Record, Tally};
use crate::lock::Mutex;

/// The first and the last offset of one topic in a batch.
///
/// ```
/// use kasper::{Offset, OffsetRange};
///
/// let range = OffsetRange { first: Offset::new(3), last: Offset::new(7) };
/// assert_eq!(range.to_string(), "3..=7");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// The offset of the topic's first message in the batch.
    pub first: Offset,
    /// The offset of the topic's last message in the batch. Offsets between the two may be missing, because
    /// compaction and transactions leave gaps.
    pub last: Offset,
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first, self.last)
    }
}

/// The messages of one partition number, from all input topics. Each call of
/// [`Processor::process`](crate::Processor::process) gets one batch, which is never empty.
///
/// Messages of one topic are in the order of their offsets. Messages of different topics are in the order in which
/// they arrived, which says nothing about when they were produced.
///
/// # Sometimes you want to…
/// - read all messages, whatever their topic: [`iter`](Batch::iter), or `for message in batch`;
/// - read the messages of one input topic: [`topic`](Batch::topic), or of each: [`by_topic`](Batch::by_topic);
/// - know the keys, to read their state in one call: [`distinct_keys`](Batch::distinct_keys);
/// - have the messages of each key together: [`group_by_key`](Batch::group_by_key), or only the last one:
///   [`latest_by_key`](Batch::latest_by_key);
/// - make an asynchronous call for each message: [`map_concurrent`](Batch::map_concurrent);
/// - know which offsets the batch has: [`offsets`](Batch::offsets);
/// - keep a message after `process` has returned: [`Message::to_owned`];
/// - send a message on to another topic: [`Context::forward`](crate::Context::forward).
///
/// # Lifetime
/// References into a batch cannot outlive the call:
///
/// ```compile_fail
/// use kasper::{Batch, BoxError, Context, Message, Processor};
///
/// struct Hoarder<'a>(Vec<Message<'a>>);
///
/// impl Processor for Hoarder<'static> {
///     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
///         self.0.extend(batch.iter());
///         Ok(())
///     }
/// }
/// ```
///
/// # Example
/// ```
/// # use kasper::testkit::{ProcessorTester, TestMessage};
/// # use kasper::{BoxError, Context, Processor};
/// use kasper::Batch;
///
/// fn look_at(batch: &Batch) {
///     assert_eq!((batch.len(), batch.bytes()), (3, 8));
///     let in_order: Vec<_> = batch.iter().map(|message| message.value()).collect();
///     assert_eq!(in_order, [Some(&b"3.50"[..]), Some(b"Ada"), None]);
///     assert_eq!(batch.topic("orders").count(), 2);
///     assert_eq!(batch.topic("returns").count(), 0);
///     let offsets: Vec<_> = batch.offsets().map(|(topic, range)| format!("{topic} {range}")).collect();
///     assert_eq!(offsets, ["orders 0..=6", "profiles 0..=0"]);
/// }
/// # struct LookAt;
/// # impl Processor for LookAt {
/// #     async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
/// #         Ok(look_at(batch))
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// # let mut tester = ProcessorTester::new(["orders", "returns", "profiles"], |_| LookAt);
/// # tester.push(TestMessage::new("orders").value("3.50"));
/// # tester.push(TestMessage::new("profiles").key("7").value("Ada"));
/// # tester.push(TestMessage::new("orders").offset(6));
/// # assert_eq!(tester.run_batch().await?, 3);
/// # Ok(())
/// # }
/// ```
pub struct Batch {
    partition: i32,
    topics: Arc<[Arc<str>]>,
    records: Records,
    ranges: Vec<Option<OffsetRange>>,
    bytes: usize,
    headers_lock: Mutex<()>,
    _keepalive: Keepalive,
}

/// The records of a batch.
enum Records {
    Own(Vec<Record>),
    /// A part of another batch, which has its own.
    Part(Arc<Batch>, Range<usize>),
}

impl Batch {
    pub(crate) fn new(
        partition: i32,
        topics: Arc<[Arc<str>]>,
        records: Vec<Record>,
        bytes: usize,
        keepalive: Keepalive,
    ) -> Self {
        let ranges = ranges_of(&records, topics.len());
        Self {
            partition,
            topics,
            records: Records::Own(records),
            ranges,
            bytes,
            headers_lock: Mutex::new(()),
            _keepalive: keepalive,
        }
    }

    /// The messages with these indexes as a batch of their own, which keeps this one alive.
    pub(crate) fn part(self: &Arc<Self>, range: Range<usize>) -> Self {
        let (whole, start) = match &self.records {
            Records::Own(_) => (self, 0),
            Records::Part(whole, range) => (whole, range.start),
        };
        let records = &self.records()[range.clone()];
        Self {
            partition: self.partition,
            topics: self.topics.clone(),
            ranges: ranges_of(records, self.topics.len()),
            bytes: records.iter().map(Record::size).sum(),
            records: Records::Part(whole.clone(), start + range.start..start + range.end),
            headers_lock: Mutex::new(()),
            _keepalive: None,
        }
    }

    #[inline]
    fn records(&self) -> &[Record] {
        match &self.records {
            Records::Own(records) => records,
            Records::Part(whole, range) => match &whole.records {
                Records::Own(records) => &records[range.clone()],
                Records::Part(..) => unreachable!("a part of a part is a part of the whole"),
            },
        }
    }

    /// Where in the batch the message at this offset of a topic is.
    pub(crate) fn position(&self, topic: &str, offset: Offset) -> Option<usize> {
        let topic = (0_u16..).zip(&*self.topics).find(|(_, name)| ***name == *topic)?.0;
        self.position_in(topic, offset)
    }

    /// As [`position`](Self::position), by the topic's index.
    pub(crate) fn position_in(&self, topic: u16, offset: Offset) -> Option<usize> {
        let mut records = self.records().iter();
        records.position(|record| record.topic == topic && record.offset() == offset)
    }

    /// The message with this index.
    pub(crate) fn get(&self, index: usize) -> Message<'_> {
        self.message(self.record(index))
    }

    /// The partition number that all messages of the batch come from.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The number of messages; at least 1.
    #[allow(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.records().len()
    }

    /// The size of all keys and values together, in bytes. Headers do not count.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All messages of the batch, in the order in which they arrived.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Message<'_>> + DoubleEndedIterator {
        self.records().iter().map(|record| self.message(record))
    }

    /// The messages of one input topic, in the order of their offsets. Empty if the topic has no message in this batch,
    /// or is not an input topic.
    pub fn topic<'a>(&'a self, topic: &str) -> impl Iterator<Item = Message<'a>> + use<'a> {
        let index = self.topics.iter().position(|name| &**name == topic);
        let present = index.filter(|index| self.ranges[*index].is_some());
        let records = if present.is_some() { self.records() } else { &[] };
        records
            .iter()
            .filter(move |record| Some(usize::from(record.topic)) == present)
            .map(|record| self.message(record))
    }

    /// The topics that have a message in the batch, each with its first and last offset, in the order in which the
    /// input topics were given.
    pub fn offsets(&self) -> impl Iterator<Item = (&str, OffsetRange)> {
        let ranges = self.topics.iter().zip(&self.ranges);
        ranges.filter_map(|(topic, range)| range.map(|range| (&**topic, range)))
    }

    /// The input topics.
    pub(crate) fn topic_names(&self) -> &Arc<[Arc<str>]> {
        &self.topics
    }

    /// The range of offsets in this batch, by index of the input topic.
    pub(crate) fn ranges(&self) -> &[Option<OffsetRange>] {
        &self.ranges
    }

    /// The messages and bytes of each input topic, by its index.
    pub(crate) fn tally(&self, mut tell: impl FnMut(usize, Tally)) {
        let mut present = (0..).zip(&self.ranges).filter(|(_, range)| range.is_some());
        if let (Some((topic, _)), None) = (present.next(), present.next()) {
            let messages = self.len() as u64;
            return tell(topic, Tally { messages, bytes: self.bytes as u64 });
        }
        let mut tallies = vec![Tally::default(); self.topics.len()];
        for record in self.records() {
            tallies[usize::from(record.topic)].add(record.size());
        }
        let present = tallies.into_iter().enumerate().filter(|(_, tally)| tally.messages > 0);
        present.for_each(|(topic, tally)| tell(topic, tally));
    }

    /// Where in the batch this record is; `None` if it is of another batch.
    pub(crate) fn index_of(&self, record: &Record) -> Option<usize> {
        let records = self.records();
        let bytes = std::ptr::from_ref(record).addr().checked_sub(records.as_ptr().addr())?;
        let index = bytes / size_of::<Record>();
        (index < records.len()).then_some(index)
    }

    pub(crate) fn record(&self, index: usize) -> &Record {
        &self.records()[index]
    }

    /// The memory of the batch, its messages dropped; none of a part.
    pub(crate) fn into_spent(self) -> Vec<Record> {
        match self.records {
            Records::Own(mut records) => {
                records.clear();
                records
            }
            Records::Part(..) => Vec::new(),
        }
    }

    fn message<'a>(&'a self, record: &'a Record) -> Message<'a> {
        let topic = &self.topics[usize::from(record.topic)];
        // A part's messages are the whole's: one lock for them.
        let lock = match &self.records {
            Records::Own(_) => &self.headers_lock,
            Records::Part(whole, _) => &whole.headers_lock,
        };
        Message::new(record, topic, self.partition, lock)
    }
}

/// The first and last offset of each topic.
fn ranges_of(records: &[Record], topics: usize) -> Vec<Option<OffsetRange>> {
    let mut ranges: Vec<Option<OffsetRange>> = vec![None; topics];
    for record in records {
        let offset = record.offset();
        let range = &mut ranges[usize::from(record.topic)];
        match range {
            Some(range) => range.last = offset,
            None => *range = Some(OffsetRange { first: offset, last: offset }),
        }
    }
    ranges
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Message<'a>;
    type IntoIter = Box<dyn Iterator<Item = Message<'a>> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("partition", &self.partition)
            .field("messages", &self.len())
            .field("bytes", &self.bytes)
            .field("offsets", &self.offsets().collect::<Vec<_>>())
            .finish()
    }
}
