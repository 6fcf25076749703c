//! How the cluster has topics: their ids, and their numbers of partitions.

use std::ffi::{CString, c_char};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use super::{Client, Code, Known, QueueHandle, c_string, milliseconds, raw, string};

/// What librdkafka needs on top of the request's own time to give up and say so.
const GIVING_UP: Duration = Duration::from_secs(1);

/// A topic as the cluster describes it.
pub(crate) struct DescribedTopic {
    pub(crate) topic: String,
    /// Its id, if the broker knows of ids, and its number of partitions; or the error that the cluster
    /// has for it.
    pub(crate) state: Result<(Option<String>, i32), Code>,
}

/// Settings of a request.
struct Options(NonNull<rd::rd_kafka_AdminOptions_t>);

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once.
        unsafe { rd::rd_kafka_AdminOptions_destroy(self.0.as_ptr()) }
    }
}

impl Options {
    /// Without a broker, librdkafka would take the controller, which not every cluster names.
    fn new(client: &Client, broker: i32, timeout: Duration) -> Option<Self> {
        let mut text: [c_char; 256] = [0; 256];
        // SAFETY: the client is valid; the options are ours. An error about one of them leaves its
        // default, and nothing follows from it.
        unsafe {
            let operation = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
            let options =
                Self(NonNull::new(rd::rd_kafka_AdminOptions_new(client.raw(), operation))?);
            rd::rd_kafka_AdminOptions_set_request_timeout(
                options.0.as_ptr(),
                milliseconds(timeout),
                text.as_mut_ptr(),
                text.len(),
            );
            let (text, size) = (text.as_mut_ptr(), text.len());
            rd::rd_kafka_AdminOptions_set_broker(options.0.as_ptr(), broker, text, size);
            Some(options)
        }
    }
}

/// Names of topics.
struct Names(NonNull<rd::rd_kafka_TopicCollection_t>);

impl Drop for Names {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once.
        unsafe { rd::rd_kafka_TopicCollection_destroy(self.0.as_ptr()) }
    }
}

impl Names {
    fn new(topics: &[Arc<str>]) -> Option<Self> {
        let names: Vec<CString> = topics.iter().map(|topic| c_string(topic)).collect();
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: there are as many strings as said, and they live until the call has copied them.
        NonNull::new(unsafe {
            rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len())
        })
        .map(Self)
    }
}

impl Client {
    /// Asks a broker how the cluster has these topics. Blocks.
    pub(crate) fn describe_topics(
        self: &Arc<Self>,
        topics: &[Arc<str>],
        timeout: Duration,
    ) -> Result<Vec<DescribedTopic>, (Code, String)> {
        let failed = |known: Known| {
            let code = Code::from(known);
            (code, code.text())
        };
        let none = || failed(Known::RD_KAFKA_RESP_ERR__FAIL);
        let end = Instant::now() + timeout;
        let broker = self.answering_broker(timeout).map_err(|code| (code, code.text()))?;
        let timeout = end.saturating_duration_since(Instant::now());
        let answers = QueueHandle::new(self).ok_or_else(none)?;
        let options = Options::new(self, broker, timeout).ok_or_else(none)?;
        let names = Names::new(topics).ok_or_else(none)?;
        // SAFETY: all are valid; names and options are copied.
        unsafe {
            rd::rd_kafka_DescribeTopics(
                self.raw(),
                names.0.as_ptr(),
                options.0.as_ptr(),
                answers.raw(),
            );
        }
        let event = answers.poll(timeout.saturating_add(GIVING_UP));
        let event = event.ok_or_else(|| failed(Known::RD_KAFKA_RESP_ERR__TIMED_OUT))?;
        if let Some(code) = event.error() {
            return Err((code, event.error_text()));
        }
        // SAFETY: the event lives until the end of this function. The result, if it is one of this kind,
        // and all that is read from it, belong to the event; there are as many entries as said.
        unsafe {
            let result = rd::rd_kafka_event_DescribeTopics_result(event.raw());
            if result.is_null() {
                return Err(none());
            }
            let mut count = 0;
            let entries = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            Ok((0..count).map(|index| described(*entries.add(index))).collect())
        }
    }
}

impl Client {
    /// A broker that answers. Blocks.
    fn answering_broker(&self, timeout: Duration) -> Result<i32, Code> {
        let mut metadata = ptr::null();
        // SAFETY: the client is valid, and null stands for no topic in particular; on success `metadata` is
        // ours and freed after it was read, within the count it gives.
        unsafe {
            let (topic, timeout) = (ptr::null_mut(), milliseconds(timeout));
            let code = raw::metadata(self.raw(), 0, topic, &raw mut metadata, timeout);
            Code::check(code)?;
            // One that was asked by its address only has the number -1.
            let mut broker = (*metadata).orig_broker_id;
            if broker < 0 && (*metadata).broker_cnt > 0 {
                broker = (*(*metadata).brokers).id;
            }
            rd::rd_kafka_metadata_destroy(metadata);
            Ok(broker)
        }
    }
}

/// # Safety
/// `entry` is a valid description.
unsafe fn described(entry: *const rd::rd_kafka_TopicDescription_t) -> DescribedTopic {
    // SAFETY: what is read belongs to the description. An error object without an error has code 0, and
    // the bindings' own function for it is avoided as in `Code`.
    unsafe {
        let topic = string(rd::rd_kafka_TopicDescription_name(entry));
        let error = rd::rd_kafka_TopicDescription_error(entry);
        if let Some(code) = NonNull::new(error.cast_mut())
            .and_then(|error| Code::of(raw::error_code(error.as_ptr())))
        {
            return DescribedTopic { topic, state: Err(code) };
        }
        let mut partitions = 0;
        rd::rd_kafka_TopicDescription_partitions(entry, &raw mut partitions);
        let id = id(rd::rd_kafka_TopicDescription_topic_id(entry));
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        DescribedTopic { topic, state: Ok((id, partitions)) }
    }
}

/// An id as Kafka's tools print it; `None` for zero, which stands for "no id".
///
/// # Safety
/// `id` is null or a valid id.
unsafe fn id(id: *const rd::rd_kafka_Uuid_t) -> Option<String> {
    if id.is_null() {
        return None;
    }
    // SAFETY: reads numbers. The string is made at the first call and kept in the id, which nobody else
    // reads meanwhile.
    unsafe {
        let most = rd::rd_kafka_Uuid_most_significant_bits(id);
        let least = rd::rd_kafka_Uuid_least_significant_bits(id);
        (most != 0 || least != 0).then(|| string(rd::rd_kafka_Uuid_base64str(id)))
    }
}
