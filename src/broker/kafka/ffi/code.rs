//! Error codes, and the texts, times and errors that pass between Rust and C.

use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

use rdkafka::bindings as rd;

/// The error codes that librdkafka knows by name.
pub(crate) use rd::rd_kafka_resp_err_t as Known;

/// The same functions as in the bindings, with error codes as integers: their values may come from
/// a broker that is newer than the bindings.
pub(super) mod raw {
    use super::{c_char, c_int, rd};

    unsafe extern "C" {
        #[link_name = "rd_kafka_err2name"]
        pub(crate) fn err2name(code: c_int) -> *const c_char;
        #[link_name = "rd_kafka_err2str"]
        pub(crate) fn err2str(code: c_int) -> *const c_char;
        #[link_name = "rd_kafka_last_error"]
        pub(crate) fn last_error() -> c_int;
        #[link_name = "rd_kafka_error_code"]
        pub(crate) fn error_code(error: *const rd::rd_kafka_error_t) -> c_int;
        #[link_name = "rd_kafka_event_error"]
        pub(crate) fn event_error(event: *mut rd::rd_kafka_event_t) -> c_int;
        #[link_name = "rd_kafka_fatal_error"]
        pub(crate) fn fatal_error(
            client: *mut rd::rd_kafka_t,
            text: *mut c_char,
            size: usize,
        ) -> c_int;
        #[link_name = "rd_kafka_assign"]
        pub(crate) fn assign(
            client: *mut rd::rd_kafka_t,
            list: *const rd::rd_kafka_topic_partition_list_t,
        ) -> c_int;
        #[link_name = "rd_kafka_subscribe"]
        pub(crate) fn subscribe(
            client: *mut rd::rd_kafka_t,
            list: *const rd::rd_kafka_topic_partition_list_t,
        ) -> c_int;
        #[link_name = "rd_kafka_unsubscribe"]
        pub(crate) fn unsubscribe(client: *mut rd::rd_kafka_t) -> c_int;
        #[link_name = "rd_kafka_committed"]
        pub(crate) fn committed(
            client: *mut rd::rd_kafka_t,
            list: *mut rd::rd_kafka_topic_partition_list_t,
            timeout: c_int,
        ) -> c_int;
        #[link_name = "rd_kafka_metadata"]
        pub(crate) fn metadata(
            client: *mut rd::rd_kafka_t,
            all_topics: c_int,
            topic: *mut rd::rd_kafka_topic_t,
            metadata: *mut *const rd::rd_kafka_metadata,
            timeout: c_int,
        ) -> c_int;
    }
}

/// An error code of librdkafka or of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Code(pub(super) i32);

impl Code {
    /// `None` if the code says that all went well.
    pub(super) fn of(code: c_int) -> Option<Self> {
        (code != 0).then_some(Self(code))
    }

    #[cfg(feature = "testkit")]
    pub(crate) fn of_crate(code: rdkafka::types::RDKafkaErrorCode) -> Self {
        Self(code as i32)
    }

    /// An error, unless the code says that all went well.
    pub(super) fn check(code: c_int) -> Result<(), Self> {
        Self::of(code).map_or(Ok(()), Err)
    }

    /// The code if librdkafka has a name for it.
    pub(crate) fn known(self) -> Option<Known> {
        Known::try_from(self.0).ok()
    }

    /// Whether librdkafka made it; brokers' codes are positive, or -1.
    pub(crate) fn is_local(self) -> bool {
        self.0 < Known::RD_KAFKA_RESP_ERR_UNKNOWN as i32
    }

    pub(crate) fn is(self, known: Known) -> bool {
        self.0 == known as i32
    }

    /// The name, such as `ILLEGAL_GENERATION`.
    pub(crate) fn name(self) -> String {
        // SAFETY: takes any integer and returns a string of this thread, copied at once.
        unsafe { string(raw::err2name(self.0)) }
    }

    /// A sentence for a person.
    pub(crate) fn text(self) -> String {
        // SAFETY: as in `name`.
        unsafe { string(raw::err2str(self.0)) }
    }
}

impl From<Known> for Code {
    fn from(known: Known) -> Self {
        Self(known as i32)
    }
}

/// A copy of a C string; empty for null.
///
/// # Safety
/// `text` is null or points to a string that ends with a zero byte and is not changed meanwhile.
pub(super) unsafe fn string(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A C string; what follows a zero byte in `text` is lost, which no name in Kafka has.
pub(super) fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// Milliseconds as librdkafka takes them.
pub(super) fn milliseconds(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX)
}

/// Turns librdkafka's error object into a code and a text, and frees it.
pub(super) fn take_error(error: *mut rd::rd_kafka_error_t) -> Result<(), (Code, String)> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null error object is ours; it is freed once, after its parts are copied.
    unsafe {
        let code = Code(raw::error_code(error));
        let text = string(rd::rd_kafka_error_string(error));
        rd::rd_kafka_error_destroy(error);
        Err((code, text))
    }
}

/// The version of librdkafka that is linked in.
pub(crate) fn version() -> String {
    // SAFETY: returns a static string.
    unsafe { string(rd::rd_kafka_version_str()) }
}
