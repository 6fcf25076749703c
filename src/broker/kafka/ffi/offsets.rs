//! Offsets of logs, with an answer for each partition.

use std::ffi::c_char;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rd;

use super::event::ClientEvent;
use super::list::entry;
use super::{Client, Code, Known, ListEntry, PartitionList, QueueHandle, milliseconds};

/// Settings of one request.
struct Options(NonNull<rd::rd_kafka_AdminOptions_t>);

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once.
        unsafe { rd::rd_kafka_AdminOptions_destroy(self.0.as_ptr()) }
    }
}

impl Options {
    fn new(client: &Client, read_committed: bool, timeout: Duration) -> Option<Self> {
        use rd::rd_kafka_IsolationLevel_t as Level;
        let level = match read_committed {
            true => Level::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
            false => Level::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
        };
        let kind = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
        let mut text: [c_char; 512] = [0; 512];
        // SAFETY: the client is valid; the options are ours; the buffer is as long as said. The time-out
        // is within its bounds, and `read_committed` is known: what is refused would leave a default.
        unsafe {
            let options = Self(NonNull::new(rd::rd_kafka_AdminOptions_new(client.raw(), kind))?);
            let raw = options.0.as_ptr();
            let (timeout, text, size) = (milliseconds(timeout), text.as_mut_ptr(), text.len());
            rd::rd_kafka_AdminOptions_set_request_timeout(raw, timeout, text, size);
            let refused = rd::rd_kafka_AdminOptions_set_isolation_level(raw, level);
            super::take_error(refused).ok()?;
            Some(options)
        }
    }
}

impl Client {
    /// Asks the partitions' leaders for offsets: -1 stands for the end, -2 for the beginning, other
    /// numbers for times. Blocks for at most twice the time-out, which librdkafka takes for finding the
    /// leaders, and again for their answers.
    ///
    /// An entry without an error and with an offset below -1 had no answer in time; -1: no message is
    /// that young.
    ///
    /// # Errors
    /// For all entries. `_NOENT`: no broker leads any of the partitions.
    pub(crate) fn list_offsets(
        self: &Arc<Self>,
        list: &PartitionList<'_>,
        read_committed: bool,
        timeout: Duration,
    ) -> Result<Vec<ListEntry>, Code> {
        let failed = || Code::from(Known::RD_KAFKA_RESP_ERR__FAIL);
        let options = Options::new(self, read_committed, timeout).ok_or_else(failed)?;
        let queue = QueueHandle::new(self).ok_or_else(failed)?;
        // SAFETY: all are valid; list and options are copied; librdkafka holds its own reference to
        // the queue until it has answered.
        unsafe {
            let options = options.0.as_ptr();
            rd::rd_kafka_ListOffsets(self.raw(), list.raw(), options, queue.raw());
        }
        let answer = queue.poll(timeout * 2 + Duration::from_secs(1));
        let answer = answer.ok_or(Known::RD_KAFKA_RESP_ERR__TIMED_OUT)?;
        match answer.error() {
            Some(code) => Err(code),
            None => Ok(answer.listed_offsets()),
        }
    }
}

impl ClientEvent<'_> {
    fn listed_offsets(&self) -> Vec<ListEntry> {
        // SAFETY: null unless the event is such an answer; it has as many entries as it says, which
        // live as long as the event, and are copied.
        unsafe {
            let result = rd::rd_kafka_event_ListOffsets_result(self.raw());
            if result.is_null() {
                return Vec::new();
            }
            let mut count = 0;
            let infos = rd::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            let infos = (0..count).map(|index| *infos.add(index));
            let entries =
                infos.map(|info| rd::rd_kafka_ListOffsetsResultInfo_topic_partition(info));
            entries.map(|partition| entry(partition)).collect()
        }
    }
}
