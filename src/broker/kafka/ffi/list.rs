//! Lists of partitions, which most calls take or fill in.

use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr::NonNull;

use rdkafka::bindings as rd;

use super::{Client, Code, c_string, string};

/// One entry of a list of partitions.
#[derive(Debug, Clone)]
pub(crate) struct ListEntry {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) error: Option<Code>,
}

/// A list of partitions for one call. It may come to hold references into the client, so it
/// borrows it.
pub(crate) struct PartitionList<'c> {
    list: NonNull<rd::rd_kafka_topic_partition_list_t>,
    client: PhantomData<&'c Client>,
}

impl<'c> PartitionList<'c> {
    pub(crate) fn new(_client: &'c Client) -> Option<Self> {
        // SAFETY: makes an object of ours.
        let list = NonNull::new(unsafe { rd::rd_kafka_topic_partition_list_new(0) })?;
        Some(Self { list, client: PhantomData })
    }

    pub(super) fn raw(&self) -> *mut rd::rd_kafka_topic_partition_list_t {
        self.list.as_ptr()
    }

    pub(crate) fn add(&mut self, topic: &str, partition: i32, offset: i64) {
        let topic = c_string(topic);
        // SAFETY: the list is ours; the string is copied; the new entry is valid until the next.
        unsafe {
            let list = self.list.as_ptr();
            let entry = rd::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), partition);
            (*entry).offset = offset;
        }
    }

    /// A copy of the entries, in the order in which they were added.
    pub(crate) fn entries(&self) -> Vec<ListEntry> {
        // SAFETY: the list is ours.
        unsafe { list_entries(self.list) }
    }
}

impl Drop for PartitionList<'_> {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.list.as_ptr()) }
    }
}

/// # Safety
/// `list` is valid and not changed meanwhile.
pub(super) unsafe fn list_entries(
    list: NonNull<rd::rd_kafka_topic_partition_list_t>,
) -> Vec<ListEntry> {
    // SAFETY: the caller's promise; a list has as many entries as it says.
    unsafe {
        let list = list.as_ptr();
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        (0..count).map(|index| entry((*list).elems.add(index))).collect()
    }
}

/// # Safety
/// `partition` is valid and not changed meanwhile.
pub(super) unsafe fn entry(partition: *const rd::rd_kafka_topic_partition_t) -> ListEntry {
    // SAFETY: the caller's promise; the error code is read as the integer that it may be.
    unsafe {
        ListEntry {
            topic: string((*partition).topic),
            partition: (*partition).partition,
            offset: (*partition).offset,
            error: Code::of((&raw const (*partition).err).cast::<c_int>().read()),
        }
    }
}
