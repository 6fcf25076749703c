//! librdkafka's C functions, without a layer in between.
//!
//! Clients get the same properties as the library sets (`src/builder/properties.rs`), but for how much is fetched ahead, and the
//! pipeline's loops the fastest values that were found. Left out is what only the library has a use for: statistics.
#![allow(unsafe_code, reason = "the raw loops are the ceiling: librdkafka as it is")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use rdkafka::bindings as rd;

pub(crate) type DeliveryCallback =
    unsafe extern "C" fn(*mut rd::rd_kafka_t, *const rd::rd_kafka_message_t, *mut c_void);

/// A client that is destroyed when dropped: last, after everything that points into it.
pub(crate) struct Client(pub(crate) *mut rd::rd_kafka_t);

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once; those who hold messages or queues drop them before.
        unsafe { rd::rd_kafka_destroy(self.0) }
    }
}

impl Client {
    pub(crate) fn new(
        kind: rd::rd_kafka_type_t,
        properties: &[(&str, &str)],
        reports: Option<DeliveryCallback>,
    ) -> Self {
        let mut text: [c_char; 512] = [0; 512];
        // SAFETY: all strings live through their calls; the configuration belongs to the client
        // afterwards. On an error a string is in `text`.
        unsafe {
            let conf = rd::rd_kafka_conf_new();
            for (name, value) in properties {
                let (name, value) = (c_string(name), c_string(value));
                let (buffer, size) = (text.as_mut_ptr(), text.len());
                let set = rd::rd_kafka_conf_set(conf, name.as_ptr(), value.as_ptr(), buffer, size);
                assert!(set == rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK, "{}", string(buffer));
            }
            if reports.is_some() {
                rd::rd_kafka_conf_set_dr_msg_cb(conf, reports);
            }
            let client = rd::rd_kafka_new(kind, conf, text.as_mut_ptr(), text.len());
            assert!(!client.is_null(), "{}", string(text.as_ptr()));
            Self(client)
        }
    }
}

/// How much a consumer fetches ahead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead {
    /// Values of all partitions together.
    pub(crate) queued_kib: usize,
    /// One fetch of a partition.
    pub(crate) fetch_kib: usize,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { queued_kib: 65_536, fetch_kib: 1024 }
    }
}

/// A consumer of so many partitions of each topic, and the one queue that all of them arrive in.
pub(crate) struct Consumer {
    pub(crate) client: Client,
    queue: *mut rd::rd_kafka_queue_t,
    topics: Vec<CString>,
    partitions: usize,
}

impl Consumer {
    pub(crate) fn new<T: AsRef<str>>(
        brokers: &str,
        topics: &[T],
        partitions: usize,
        ahead: Ahead,
    ) -> Self {
        let queued = ahead.queued_kib.to_string();
        let fetched = (ahead.fetch_kib << 10).to_string();
        let first = topics.first().map_or("", AsRef::as_ref);
        let group = format!("raw-{first}-{}", std::process::id());
        let properties = [
            ("bootstrap.servers", brokers),
            ("group.id", &group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "false"),
            ("auto.offset.reset", "error"),
            // Of all partitions: they have one queue.
            ("queued.max.messages.kbytes", &queued),
            ("queued.min.messages", "1000000"),
            ("fetch.message.max.bytes", &fetched),
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.wait.max.ms", "50"),
            ("reconnect.backoff.max.ms", "2000"),
        ];
        let client = Client::new(rd::rd_kafka_type_t::RD_KAFKA_CONSUMER, &properties, None);
        // SAFETY: the client is valid; the queue is ours.
        let queue = unsafe {
            rd::rd_kafka_poll_set_consumer(client.0);
            rd::rd_kafka_queue_get_consumer(client.0)
        };
        let topics = topics.iter().map(|topic| c_string(topic.as_ref())).collect();
        Self { client, queue, topics, partitions }
    }

    /// Begins to fetch all partitions from their beginning.
    pub(crate) fn assign(&self) {
        // The beginning of a new topic; asking the broker for it would take half a second more.
        let offsets = vec![0; self.topics.len() * self.partitions];
        // SAFETY: client and list are valid.
        let code =
            self.with_list(&offsets, |list| unsafe { rd::rd_kafka_assign(self.client.0, list) });
        check(code, "assign");
    }

    /// Records these next offsets, of one topic's partitions after the other's; those below 0 stand for "nothing yet".
    pub(crate) fn commit(&self, next: &[i64], wait: bool) {
        // SAFETY: client and list are valid.
        let code = self.with_list(next, |list| unsafe {
            if (*list).cnt == 0 {
                return rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            }
            rd::rd_kafka_commit(self.client.0, list, c_int::from(!wait))
        });
        check(code, "commit");
    }

    fn with_list<T>(
        &self,
        offsets: &[i64],
        use_it: impl FnOnce(*mut rd::rd_kafka_topic_partition_list_t) -> T,
    ) -> T {
        let of_topics = self.topics.iter().zip(offsets.chunks(self.partitions));
        let of_partitions =
            of_topics.flat_map(|(topic, offsets)| (0..).zip(offsets).map(move |it| (topic, it)));
        // SAFETY: the list is ours; an entry is valid until the next is added.
        unsafe {
            let list = rd::rd_kafka_topic_partition_list_new(0);
            for (topic, (partition, offset)) in of_partitions {
                if *offset >= 0 {
                    let topic = topic.as_ptr();
                    let entry = rd::rd_kafka_topic_partition_list_add(list, topic, partition);
                    (*entry).offset = *offset;
                }
            }
            let result = use_it(list);
            rd::rd_kafka_topic_partition_list_destroy(list);
            result
        }
    }

    /// Moves up to `max` messages into the buffer, which is empty. Waits until there are so many,
    /// but no longer than `timeout`.
    pub(crate) fn take(
        &self,
        max: usize,
        timeout: c_int,
        into: &mut Vec<*mut rd::rd_kafka_message_t>,
    ) {
        into.reserve(max);
        // SAFETY: there is room for `max`; as many are filled in as the result says.
        unsafe {
            let taken =
                rd::rd_kafka_consume_batch_queue(self.queue, timeout, into.as_mut_ptr(), max);
            into.set_len(usize::try_from(taken).unwrap_or(0));
        }
        for message in into.iter() {
            // SAFETY: a valid message.
            unsafe { check_message(*message) };
        }
    }

    /// Waits for one message.
    pub(crate) fn wait(&self, timeout: c_int) -> Option<*mut rd::rd_kafka_message_t> {
        // SAFETY: the queue is valid; the message is ours.
        let message = unsafe { rd::rd_kafka_consume_queue(self.queue, timeout) };
        if message.is_null() {
            return None;
        }
        // SAFETY: a valid message.
        unsafe { check_message(message) };
        Some(message)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: the queue is ours and released once, before the client is closed and destroyed.
        unsafe {
            rd::rd_kafka_queue_destroy(self.queue);
            rd::rd_kafka_consumer_close(self.client.0);
        }
    }
}

pub(crate) fn check(code: rd::rd_kafka_resp_err_t, operation: &str) {
    assert!(code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, "{operation}: {code:?}");
}

/// # Safety
/// A valid message.
pub(crate) unsafe fn check_message(message: *const rd::rd_kafka_message_t) {
    // SAFETY: the caller's promise.
    check(unsafe { (*message).err }, "message");
}

pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// # Safety
/// A C string.
unsafe fn string(text: *const c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
