//! Raw loops that only read.

use std::hint::black_box;

use rdkafka::bindings as rd;

use super::Input;
use super::client::{Consumer, check_message};
use super::way::Way;
use crate::common::measure::{Mark, Sample};

/// One call and one wait a message.
pub(crate) fn poll(input: Input<'_>, way: Way) -> Sample {
    let consumer = input.consumer(way.ahead());
    let assigned = Mark::now();
    consumer.assign();
    let mut first = None;
    let (mut received, mut bytes) = (0, 0);
    while received < input.messages {
        // SAFETY: the client is valid; a message is ours and destroyed once.
        unsafe {
            let message = rd::rd_kafka_consumer_poll(consumer.client.0, 100);
            if message.is_null() {
                continue;
            }
            check_message(message);
            first.get_or_insert_with(Mark::now);
            bytes += (*message).len + (*message).key_len;
            rd::rd_kafka_message_destroy(message);
        }
        received += 1;
    }
    black_box(bytes);
    Sample::until_now(received, assigned, first)
}

/// One call for up to `way.batch` messages.
pub(crate) fn batches(input: Input<'_>, way: Way) -> Sample {
    all(&input.consumer(way.ahead()), input.messages, way.batch)
}

/// The same with a consumer that is already there.
pub(crate) fn all(consumer: &Consumer, messages: u64, batch: usize) -> Sample {
    let mut buffer = Vec::with_capacity(batch);
    let assigned = Mark::now();
    consumer.assign();
    let mut first = None;
    let (mut received, mut bytes) = (0, 0);
    while received < messages {
        // Never more than are to come, so that the last call does not wait for its time-out.
        let rest = usize::try_from(messages - received).unwrap_or(usize::MAX);
        consumer.take(rest.min(batch), 100, &mut buffer);
        if buffer.is_empty() {
            continue;
        }
        first.get_or_insert_with(Mark::now);
        received += buffer.len() as u64;
        for message in buffer.drain(..) {
            // SAFETY: a valid message, ours, destroyed once.
            unsafe {
                bytes += (*message).len + (*message).key_len;
                rd::rd_kafka_message_destroy(message);
            }
        }
    }
    black_box(bytes);
    Sample::until_now(received, assigned, first)
}
