//! The raw pass-through: consume, produce the same, count the acks, commit what is acked.
//!
//! One thread, no locks: delivery reports are called back inside `rd_kafka_poll`.

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use super::client::{Client, Consumer, check, check_message};
use super::way::Way;
use super::{Input, Topic};
use crate::common::measure::{Mark, Sample};
use crate::common::topics::WARM_UP;

const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Passes messages of one topic on until so many as the input says are acknowledged, or until `stop`.
pub(crate) fn forward(input: Input<'_>, output: &str, way: Way, stop: impl Fn() -> bool) -> Sample {
    let mut forwarder = Forwarder::new(input, output, way);
    std::thread::sleep(WARM_UP);
    let assigned = Mark::now();
    forwarder.consumer.assign();
    let mut first = None;
    while forwarder.acked < input.messages && !stop() {
        forwarder.finish_acked();
        let rest = input.messages - forwarder.received;
        let taken = forwarder.pass_on(usize::try_from(rest).unwrap_or(usize::MAX));
        if taken > 0 {
            first.get_or_insert_with(Mark::now);
        }
    }
    let sample = Sample::until_now(forwarder.acked, assigned, first);
    forwarder.finish();
    sample
}

/// A batch whose messages wait for their acks. Boxed: librdkafka has its address.
struct Batch {
    taken: usize,
    waiting: usize,
    /// Where the next batch begins, by partition; below 0 where that is not known.
    next: Vec<i64>,
    /// Kept for their memory, unless librdkafka has copied them.
    messages: Vec<*mut rd::rd_kafka_message_t>,
}

/// The last fields are dropped last.
struct Forwarder {
    way: Way,
    flying: VecDeque<Box<Batch>>,
    #[allow(clippy::vec_box, reason = "boxes move between the two")]
    spare: Vec<Box<Batch>>,
    received: u64,
    acked: u64,
    next: Vec<i64>,
    last_commit: Instant,
    /// Empty between calls; kept for its memory.
    together: Vec<rd::rd_kafka_message_t>,
    consumer: Consumer,
    topic: Topic,
    producer: Client,
}

unsafe extern "C" fn report(
    _: *mut rd::rd_kafka_t,
    message: *const rd::rd_kafka_message_t,
    _: *mut c_void,
) {
    // SAFETY: the message is valid in the callback, and its batch is alive until all its messages
    // are counted. The callback runs inside `rd_kafka_poll`, on the only thread there is.
    unsafe {
        check_message(message);
        (*(*message)._private.cast::<Batch>()).waiting -= 1;
    }
}

impl Forwarder {
    fn new(input: Input<'_>, output: &str, way: Way) -> Self {
        let linger = way.linger_ms.to_string();
        let properties = [
            ("bootstrap.servers", input.brokers),
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("message.timeout.ms", "0"),
            ("partitioner", "murmur2_random"),
            ("linger.ms", &linger),
            ("compression.type", if way.lz4 { "lz4" } else { "none" }),
            ("queue.buffering.max.messages", "2000000"),
            ("reconnect.backoff.max.ms", "2000"),
        ];
        let kind = rd::rd_kafka_type_t::RD_KAFKA_PRODUCER;
        let producer = Client::new(kind, &properties, Some(report));
        Self {
            way,
            flying: VecDeque::new(),
            spare: Vec::new(),
            received: 0,
            acked: 0,
            next: vec![-1; input.partitions],
            last_commit: Instant::now(),
            together: Vec::new(),
            consumer: input.consumer(way.ahead()),
            topic: Topic::new(&producer, output),
            producer,
        }
    }

    /// Takes a batch, if there is room for one, produces it, and looks for delivery reports; waits
    /// if there is nothing to do. Returns how many messages were taken.
    fn pass_on(&mut self, rest: usize) -> usize {
        if self.flying.len() >= self.way.in_flight || rest == 0 {
            self.poll_reports(10);
            return 0;
        }
        let mut batch = self.take(rest.min(self.way.batch));
        let taken = batch.messages.len();
        if taken == 0 {
            self.spare.push(batch);
        } else {
            batch.taken = taken;
            self.flying.push_back(batch);
            self.produce_last();
            self.received += taken as u64;
        }
        self.poll_reports(0);
        taken
    }

    /// What has arrived. Waits a millisecond for the first message: acks are to be looked at too.
    fn take(&mut self, max: usize) -> Box<Batch> {
        let mut batch = self.spare.pop().unwrap_or_else(|| {
            let messages = Vec::with_capacity(max);
            Box::new(Batch { taken: 0, waiting: 0, next: self.next.clone(), messages })
        });
        batch.next.fill(-1);
        self.consumer.take(max, 0, &mut batch.messages);
        if batch.messages.is_empty() {
            batch.messages.extend(self.consumer.wait(1));
        }
        batch
    }

    fn produce_last(&mut self) {
        let Some(batch) = self.flying.back_mut() else { return };
        let Way { every, times, .. } = self.way;
        // Before the first report can come.
        let last = self.received + batch.taken as u64;
        let chosen = last.div_ceil(every) - self.received.div_ceil(every);
        batch.waiting = usize::try_from(chosen).unwrap_or(0) * times;
        let opaque = (&raw mut **batch).cast();
        for (number, message) in (self.received..).zip(&batch.messages) {
            let times = if number.is_multiple_of(every) { times } else { 0 };
            // SAFETY: the message is valid, and is kept until all of its batch are acknowledged if it is not copied.
            unsafe {
                for _ in 0..times {
                    match self.way.keeps_all {
                        true => produce(&self.producer, &self.topic, *message, opaque, self.way),
                        false => {
                            let message = **message;
                            self.together
                                .push(rd::rd_kafka_message_t { _private: opaque, ..message });
                        }
                    }
                }
                let partition = usize::try_from((**message).partition).unwrap_or(0);
                batch.next[partition] = (**message).offset + 1;
            }
        }
        // SAFETY: as above.
        unsafe { produce_all(&self.producer, &self.topic, &mut self.together, self.way) };
        if self.way.copies {
            for message in batch.messages.drain(..) {
                // SAFETY: valid, ours, destroyed once; the producer has its own copy.
                unsafe { rd::rd_kafka_message_destroy(message) };
            }
        }
    }

    /// Waits for what is in flight, then commits.
    fn finish(&mut self) {
        while !self.flying.is_empty() {
            self.poll_reports(10);
            self.finish_acked();
        }
        self.consumer.commit(&self.next, true);
    }

    fn poll_reports(&self, timeout: c_int) {
        // SAFETY: the client is valid.
        unsafe { rd::rd_kafka_poll(self.producer.0, timeout) };
    }

    /// Ends the batches that are acknowledged, in order, and commits once a second.
    fn finish_acked(&mut self) {
        while let Some(mut batch) = self.flying.pop_front_if(|batch| batch.waiting == 0) {
            self.acked += batch.taken as u64;
            for (next, finished) in self.next.iter_mut().zip(&batch.next) {
                *next = (*finished).max(*next);
            }
            for message in batch.messages.drain(..) {
                // SAFETY: valid, ours, destroyed once; the producer has done with its memory.
                unsafe { rd::rd_kafka_message_destroy(message) };
            }
            self.spare.push(batch);
        }
        if self.last_commit.elapsed() >= COMMIT_INTERVAL {
            self.consumer.commit(&self.next, false);
            self.last_commit = Instant::now();
        }
    }
}

/// Produces keys and values in one call, and again what found the queue full.
///
/// # Safety
/// Their bytes are valid and, if they are not copied, stay until the reports.
unsafe fn produce_all(
    producer: &Client,
    topic: &Topic,
    messages: &mut Vec<rd::rd_kafka_message_t>,
    way: Way,
) {
    let copy = if way.copies { rd::RD_KAFKA_MSG_F_COPY } else { 0 };
    let own = if way.partitioner { 0 } else { rd::RD_KAFKA_MSG_F_PARTITION };
    let mut rest = messages.as_mut_slice();
    while !rest.is_empty() {
        let count = c_int::try_from(rest.len()).unwrap_or(c_int::MAX);
        // SAFETY: the caller's promise.
        let taken = unsafe {
            rd::rd_kafka_produce_batch(topic.0, -1, copy | own, rest.as_mut_ptr(), count)
        };
        rest = &mut rest[usize::try_from(taken).unwrap_or(0)..];
        if let Some(first) = rest.first() {
            is_full(first.err);
            // SAFETY: the client is valid.
            unsafe { rd::rd_kafka_poll(producer.0, 10) };
        }
    }
    messages.clear();
}

/// Produces a message with its timestamp and its headers; waits while the queue is full.
///
/// # Safety
/// The message is valid and, if it is not copied, stays until its report.
unsafe fn produce(
    producer: &Client,
    topic: &Topic,
    message: *mut rd::rd_kafka_message_t,
    opaque: *mut c_void,
    way: Way,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let partition = if way.partitioner { -1 } else { (*message).partition };
        let flags = if way.copies { rd::RD_KAFKA_MSG_F_COPY } else { 0 };
        while !produce_with_all(producer, topic, message, opaque, (partition, flags)) {
            rd::rd_kafka_poll(producer.0, 10);
        }
    }
}

/// # Safety
/// As for [`produce`].
unsafe fn produce_with_all(
    producer: &Client,
    topic: &Topic,
    message: *mut rd::rd_kafka_message_t,
    opaque: *mut c_void,
    (partition, flags): (i32, c_int),
) -> bool {
    use rd::rd_kafka_vtype_t as Type;
    type Union = rd::rd_kafka_vu_s__bindgen_ty_1;

    let memory =
        |ptr, size| Union { mem: rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size } };
    // Made in place: the union is 64 bytes wide, and a copy of the array would show.
    let argument = |vtype, u| rd::rd_kafka_vu_t { vtype, u };
    let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the caller's promise; each argument has the member that its type says.
    unsafe {
        let timestamp = rd::rd_kafka_message_timestamp(message, &raw mut kind);
        let mut headers = ptr::null_mut();
        // The list moves from the one message to the other. Without any, it stays null.
        rd::rd_kafka_message_detach_headers(message, &raw mut headers);
        let arguments = [
            argument(Type::RD_KAFKA_VTYPE_RKT, Union { rkt: topic.0 }),
            argument(Type::RD_KAFKA_VTYPE_PARTITION, Union { i32_: partition }),
            argument(Type::RD_KAFKA_VTYPE_MSGFLAGS, Union { i: flags }),
            argument(Type::RD_KAFKA_VTYPE_VALUE, memory((*message).payload, (*message).len)),
            argument(Type::RD_KAFKA_VTYPE_KEY, memory((*message).key, (*message).key_len)),
            argument(Type::RD_KAFKA_VTYPE_TIMESTAMP, Union { i64_: timestamp }),
            argument(Type::RD_KAFKA_VTYPE_OPAQUE, Union { ptr: opaque }),
            argument(Type::RD_KAFKA_VTYPE_HEADERS, Union { headers }),
        ];
        let count = arguments.len() - usize::from(headers.is_null());
        let error = rd::rd_kafka_produceva(producer.0, arguments.as_ptr(), count);
        if error.is_null() {
            return true;
        }
        let code = rd::rd_kafka_error_code(error);
        rd::rd_kafka_error_destroy(error);
        if !headers.is_null() {
            // For the next try.
            rd::rd_kafka_message_set_headers(message, headers);
        }
        !is_full(code)
    }
}

/// Stops with any other error.
fn is_full(code: rd::rd_kafka_resp_err_t) -> bool {
    let full = rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL;
    if code != full {
        check(code, "produce");
    }
    code == full
}
