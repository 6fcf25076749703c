//! Messages that were fetched, in librdkafka's memory.

use std::borrow::Cow;
use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use rdkafka::bindings as rd;

use super::{Code, string};
use crate::lock::Mutex;
use crate::message::Offset;

/// A message, or a partition's error, in librdkafka's memory. One pointer wide.
///
/// It does not hold its client, to spare an atomic count for each message: whoever holds messages
/// holds a [`Keepalive`](crate::message::Keepalive) of their client and drops it after them.
#[repr(transparent)]
pub(crate) struct KafkaMessage(NonNull<rd::rd_kafka_message_t>);

// SAFETY: librdkafka ties messages to no thread.
unsafe impl Send for KafkaMessage {}
// SAFETY: what is read through a shared reference never changes, but for the headers, which are
// parsed under a lock: see `headers`.
unsafe impl Sync for KafkaMessage {}

impl Drop for KafkaMessage {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once, before the client: see the type's documentation.
        unsafe { rd::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

impl KafkaMessage {
    /// For reading single fields. Never make a reference to the whole: the error code in it may be
    /// one that its type does not have.
    fn fields(&self) -> *const rd::rd_kafka_message_t {
        self.0.as_ptr()
    }

    /// The key; `None` for Kafka's null.
    pub(crate) fn key(&self) -> Option<&[u8]> {
        let message = self.fields();
        // SAFETY: pointer and length belong together and live as long as the message.
        unsafe { bytes((*message).key, (*message).key_len) }
    }

    /// The value; `None` for Kafka's null.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        let message = self.fields();
        // SAFETY: as in `key`.
        unsafe { bytes((*message).payload, (*message).len) }
    }

    pub(crate) fn offset(&self) -> Offset {
        // SAFETY: the message is valid.
        Offset::new(unsafe { (*self.fields()).offset })
    }

    /// Bytes of key and value.
    pub(crate) fn size(&self) -> usize {
        let message = self.fields();
        // SAFETY: the message is valid.
        unsafe { (*message).len + (*message).key_len }
    }

    /// Bytes of key and headers. Parses the headers, which nobody else may do at the same time.
    pub(crate) fn size_beside_value(&mut self) -> usize {
        let lock = Mutex::new(());
        let headers = self.headers(&lock);
        let sizes = (0..).map_while(|index| headers.get(index));
        let sizes = sizes.map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len) + 2);
        // SAFETY: the message is valid.
        sizes.sum::<usize>() + unsafe { (*self.fields()).key_len }
    }

    /// Milliseconds since 1970.
    pub(crate) fn timestamp(&self) -> Option<i64> {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid.
        let time = unsafe { rd::rd_kafka_message_timestamp(self.0.as_ptr(), &raw mut kind) };
        let none = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        (kind != none && time >= 0).then_some(time)
    }

    /// The headers. librdkafka parses them at the first call and keeps them in the message, so
    /// everybody who shares a message must pass the same lock: its batch's.
    pub(crate) fn headers(&self, lock: &Mutex<()>) -> Headers<'_> {
        let mut headers = ptr::null_mut();
        let guard = lock.lock();
        // SAFETY: the message is valid, and changed by nobody else while the lock is held. The list
        // belongs to the message and never changes afterwards. Any error leaves it null.
        unsafe { rd::rd_kafka_message_headers(self.0.as_ptr(), &raw mut headers) };
        drop(guard);
        Headers { list: NonNull::new(headers), message: PhantomData }
    }

    /// The error, if this is not a message.
    pub(crate) fn error(&self) -> Option<Code> {
        // SAFETY: the field is a C enum, which is an integer.
        Code::of(unsafe { (&raw const (*self.0.as_ptr()).err).cast::<c_int>().read() })
    }

    /// Of an error: its text.
    pub(crate) fn error_text(&self) -> String {
        // SAFETY: the string lives as long as the message and is copied.
        unsafe { string(rd::rd_kafka_message_errstr(self.0.as_ptr())) }
    }

    pub(crate) fn partition(&self) -> i32 {
        // SAFETY: the message is valid.
        unsafe { (*self.fields()).partition }
    }

    /// Tells topics apart among messages that live at the same time, and only among those: the
    /// number may be used again for another topic.
    pub(crate) fn topic_id(&self) -> usize {
        // SAFETY: the message is valid.
        unsafe { (*self.fields()).rkt.addr() }
    }

    /// The topic's name; empty if an error belongs to none.
    pub(crate) fn topic(&self) -> String {
        // SAFETY: the topic, if there is one, lives as long as the message; the name is copied.
        unsafe {
            let topic = (*self.fields()).rkt;
            if topic.is_null() { String::new() } else { string(rd::rd_kafka_topic_name(topic)) }
        }
    }
}

/// # Safety
/// `start` is null, or the start of `len` bytes that live and stay as they are for `'a`.
pub(super) unsafe fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast(), len) })
}

/// The headers of a message.
#[derive(Clone, Copy)]
pub(crate) struct Headers<'m> {
    list: Option<NonNull<rd::rd_kafka_headers_t>>,
    message: PhantomData<&'m KafkaMessage>,
}

// SAFETY: the list is only read.
unsafe impl Send for Headers<'_> {}
// SAFETY: the list is only read.
unsafe impl Sync for Headers<'_> {}

impl<'m> Headers<'m> {
    /// Name and value of a header by its index; `None` behind the last.
    pub(crate) fn get(&self, index: usize) -> Option<(Cow<'m, str>, Option<&'m [u8]>)> {
        let list = self.list?.as_ptr();
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the list, its names and its values live as long as the message.
        unsafe {
            let (name_out, value_out) = (&raw mut name, &raw mut value);
            let code = rd::rd_kafka_header_get_all(list, index, name_out, value_out, &raw mut size);
            if code as c_int != 0 {
                return None;
            }
            Some((CStr::from_ptr(name).to_string_lossy(), bytes(value, size)))
        }
    }
}
