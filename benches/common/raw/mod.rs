//! The ceiling: loops on librdkafka's C functions, without a layer in between.
#![allow(unsafe_code, reason = "the raw loops are the ceiling: librdkafka as it is")]

pub(crate) mod client;
pub(crate) mod consume;
pub(crate) mod forward;
pub(crate) mod way;

use std::{panic, process, ptr};

use rdkafka::bindings as rd;

use self::client::{Ahead, Client, Consumer, c_string};

/// To be called before a loop: unwinding would destroy clients while messages of theirs are alive, and wait for good.
pub(crate) fn exit_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        report(info);
        process::exit(101);
    }));
}

/// A loop's work: where to read, from the beginning, and how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) brokers: &'a str,
    pub(crate) topics: &'a [String],
    /// Of each topic.
    pub(crate) partitions: usize,
    /// The loop ends with the last of so many.
    pub(crate) messages: u64,
}

impl Input<'_> {
    pub(crate) fn consumer(self, ahead: Ahead) -> Consumer {
        Consumer::new(self.brokers, self.topics, self.partitions, ahead)
    }
}

/// A topic handle of a producer.
struct Topic(*mut rd::rd_kafka_topic_t);

impl Topic {
    fn new(producer: &Client, name: &str) -> Self {
        let name = c_string(name);
        // SAFETY: the client is valid, the name is copied.
        let topic = unsafe { rd::rd_kafka_topic_new(producer.0, name.as_ptr(), ptr::null_mut()) };
        assert!(!topic.is_null(), "no topic handle");
        Self(topic)
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once, before its client.
        unsafe { rd::rd_kafka_topic_destroy(self.0) }
    }
}
