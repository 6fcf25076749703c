//! Lists of partitions, which most calls take or fill in.

use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use rdkafka::bindings as rd;

use super::{Client, Code, c_string, string};

/// One entry of a list of partitions.
#[derive(Debug, Clone)]
pub(crate) struct ListEntry {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// What was committed with the offset.
    pub(crate) metadata: String,
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
        self.add_with(topic, partition, offset, "");
    }

    /// Adds an entry with what is committed beside its offset.
    pub(crate) fn add_with(&mut self, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let topic = c_string(topic);
        // SAFETY: the list is ours; the string is copied; the new entry is valid until the next. The
        // entry frees its metadata as what librdkafka itself has allocated; there is room for all bytes.
        unsafe {
            let list = self.list.as_ptr();
            let entry = rd::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), partition);
            (*entry).offset = offset;
            if !metadata.is_empty() {
                let copy = rd::rd_kafka_mem_malloc(ptr::null_mut(), metadata.len());
                if !copy.is_null() {
                    ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast(), metadata.len());
                    (*entry).metadata = copy;
                    (*entry).metadata_size = metadata.len();
                }
            }
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
    // SAFETY: the caller's promise; the metadata is null or as long as said; the error code is read as
    // the integer that it may be.
    unsafe {
        let metadata = (*partition).metadata.cast::<u8>();
        let metadata = match metadata.is_null() {
            true => &[],
            false => std::slice::from_raw_parts(metadata, (*partition).metadata_size),
        };
        ListEntry {
            metadata: String::from_utf8_lossy(metadata).into_owned(),
            topic: string((*partition).topic),
            partition: (*partition).partition,
            offset: (*partition).offset,
            error: Code::of((&raw const (*partition).err).cast::<c_int>().read()),
        }
    }
}
