//! Events: what librdkafka has to tell.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use rdkafka::bindings as rd;

use super::list::list_entries;
use super::{Code, ListEntry, QueueHandle, raw, string};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    Rebalance,
    Commit,
    Deliveries,
    Error,
    Statistics,
    Log,
    TokenRefresh,
    Other,
}

/// An event taken from a queue.
pub(crate) struct ClientEvent<'q> {
    event: NonNull<rd::rd_kafka_event_t>,
    queue: PhantomData<&'q QueueHandle>,
}

impl Drop for ClientEvent<'_> {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once. Destroying a rebalance event assigns nothing: librdkafka
        // goes on waiting for the answer.
        unsafe { rd::rd_kafka_event_destroy(self.event.as_ptr()) }
    }
}

impl<'q> ClientEvent<'q> {
    /// # Safety
    /// `event` was just polled, and nobody else destroys it.
    pub(super) unsafe fn new(
        event: NonNull<rd::rd_kafka_event_t>,
        _queue: &'q QueueHandle,
    ) -> Self {
        Self { event, queue: PhantomData }
    }

    pub(super) fn raw(&self) -> *mut rd::rd_kafka_event_t {
        self.event.as_ptr()
    }

    pub(crate) fn kind(&self) -> EventKind {
        // SAFETY: the event is valid.
        match unsafe { rd::rd_kafka_event_type(self.event.as_ptr()) } {
            rd::RD_KAFKA_EVENT_REBALANCE => EventKind::Rebalance,
            rd::RD_KAFKA_EVENT_OFFSET_COMMIT => EventKind::Commit,
            rd::RD_KAFKA_EVENT_DR => EventKind::Deliveries,
            rd::RD_KAFKA_EVENT_ERROR => EventKind::Error,
            rd::RD_KAFKA_EVENT_STATS => EventKind::Statistics,
            rd::RD_KAFKA_EVENT_LOG => EventKind::Log,
            rd::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH => EventKind::TokenRefresh,
            _ => EventKind::Other,
        }
    }

    pub(crate) fn error(&self) -> Option<Code> {
        // SAFETY: the event is valid.
        Code::of(unsafe { raw::event_error(self.event.as_ptr()) })
    }

    pub(crate) fn error_text(&self) -> String {
        // SAFETY: the string lives as long as the event and is copied.
        unsafe { string(rd::rd_kafka_event_error_string(self.event.as_ptr())) }
    }

    /// Of an error event: whether the client cannot go on.
    pub(crate) fn is_fatal(&self) -> bool {
        // SAFETY: read only of error events, which have the field.
        self.kind() == EventKind::Error
            && unsafe { rd::rd_kafka_event_error_is_fatal(self.event.as_ptr()) != 0 }
    }

    /// Of a commit's result: the commit's id.
    pub(crate) fn commit_id(&self) -> usize {
        // SAFETY: the event is valid; the opaque is a number.
        unsafe { rd::rd_kafka_event_opaque(self.event.as_ptr()) }.addr()
    }

    /// The partitions of a rebalance or a commit.
    pub(crate) fn partitions(&self) -> Vec<ListEntry> {
        // SAFETY: null, or a list that lives as long as the event and is copied.
        unsafe {
            let list = rd::rd_kafka_event_topic_partition_list(self.event.as_ptr());
            NonNull::new(list).map_or_else(Vec::new, |list| list_entries(list))
        }
    }

    /// The statistics, as JSON.
    pub(crate) fn statistics(&self) -> &[u8] {
        if self.kind() != EventKind::Statistics {
            return &[];
        }
        // SAFETY: a statistics event has a string that lives as long as the event.
        unsafe { CStr::from_ptr(rd::rd_kafka_event_stats(self.event.as_ptr())) }.to_bytes()
    }

    /// A line of the log: syslog level, facility, text.
    pub(crate) fn log_line(&self) -> Option<(i32, String, String)> {
        let (mut facility, mut text, mut level) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the strings live as long as the event and are copied; nothing is set unless the
        // result is 0.
        unsafe {
            let event = self.event.as_ptr();
            let result =
                rd::rd_kafka_event_log(event, &raw mut facility, &raw mut text, &raw mut level);
            (result == 0).then(|| (level, string(facility), string(text)))
        }
    }
}
