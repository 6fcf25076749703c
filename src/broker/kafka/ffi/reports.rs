//! Delivery reports: they count a delivery's messages down, and say whose fault it is when a request is
//! refused.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use rdkafka::bindings as rd;

use super::message::bytes;
use super::produce::settle;
use super::{Client, ClientEvent, Code, EventKind, Known, string};
use crate::broker::kafka::refusals;
use crate::message::delivery::Delivery;
use crate::message::undelivered::DeliveryFailure;

/// A message that was not delivered, from its report. Its delivery is kept alive until it is counted.
#[derive(Clone, Copy)]
struct Undelivered {
    message: *const rd::rd_kafka_message_t,
    code: Code,
}

impl Undelivered {
    fn delivery(&self) -> *const Delivery {
        // SAFETY: the message lives as long as its event, or the call that it was given to.
        unsafe { (*self.message)._private.cast() }
    }

    fn topic(&self) -> String {
        // SAFETY: the topic lives as long as the message; its name is copied.
        unsafe { string(rd::rd_kafka_topic_name((*self.message).rkt)) }
    }

    fn partition(&self) -> i32 {
        // SAFETY: as in `delivery`.
        unsafe { (*self.message).partition }
    }

    fn size(&self) -> usize {
        // SAFETY: as in `delivery`.
        unsafe { (*self.message).len + (*self.message).key_len }
    }

    /// Which message of its delivery it is, and why it failed.
    ///
    /// # Safety
    /// It is not counted down yet.
    unsafe fn failure(&self, reason: String, is_named: bool) -> DeliveryFailure {
        // SAFETY: the delivery is kept until the message is counted; pointers and lengths belong together,
        // the value is in the delivery and the key in the message.
        unsafe {
            let delivery = &*self.delivery();
            let key = bytes((*self.message).key, (*self.message).key_len);
            let value = bytes((*self.message).payload, (*self.message).len);
            let partition = Some(self.partition()).filter(|partition| *partition >= 0);
            let failure = match delivery.index_of(&self.topic(), key, value) {
                Some(index) => {
                    let fault = refusals::fault(self.code, index, is_named);
                    delivery.failure_of(index, partition, reason).at_fault(fault)
                }
                None => DeliveryFailure::new(&self.topic(), &reason),
            };
            failure.with("code", self.code.name())
        }
    }
}

/// Lets [`note_refusal`] see each message of a producer before its report.
///
/// # Safety
/// The configuration is valid.
pub(super) unsafe fn note_refusals(conf: *mut rd::rd_kafka_conf_t) {
    let name = c"kasper".as_ptr();
    // SAFETY: the caller's promise; the name is copied, and the function needs no data of its own.
    unsafe {
        rd::rd_kafka_conf_interceptor_add_on_new(conf, name, Some(begin), ptr::null_mut());
    }
}

/// Called while a producer is made.
///
/// # Safety
/// librdkafka calls it with a client that is being made.
unsafe extern "C" fn begin(
    client: *mut rd::rd_kafka_t,
    _conf: *const rd::rd_kafka_conf_t,
    _opaque: *mut c_void,
    _error: *mut c_char,
    _size: usize,
) -> Known {
    let (name, none) = (c"kasper".as_ptr(), ptr::null_mut());
    // SAFETY: the client is valid, and this is where librdkafka allows the call; the name is copied.
    unsafe {
        rd::rd_kafka_interceptor_add_on_acknowledgement(client, name, Some(note_refusal), none)
    }
}

/// How librdkafka describes a message that was only in the same request as one that the broker refused.
const IN_SAME_REQUEST: &str = "Failed to append record because it was part of a batch";

/// Notes the broker's own words about a message that it refused. Called by librdkafka for each message that
/// is done with, before its report.
///
/// The report comes too late for that: `rd_kafka_message_produce_errstr` gives a pointer into the response,
/// which librdkafka 2.12 frees as soon as the report is in its queue. And if the broker named one message
/// only, all others of the request have its code by then.
///
/// # Safety
/// librdkafka calls it, with a message that [`hand_over`](super::hand_over) has sent and that is not counted yet, or that it
/// hands over without a topic.
unsafe extern "C" fn note_refusal(
    _client: *mut rd::rd_kafka_t,
    message: *mut rd::rd_kafka_message_t,
    _opaque: *mut c_void,
) -> Known {
    // SAFETY: the message is valid; the field is a C enum, which is an integer.
    let code = Code::of(unsafe { (&raw const (*message).err).cast::<c_int>().read() });
    // Of many that are handed over at once, one that is refused comes as it was handed over (see `entry`), and not as the larger
    // structure of librdkafka's own that the broker's text is read from. It is told from that by its topic.
    // SAFETY: the message is valid.
    let is_librdkafkas = unsafe { !(*message).rkt.is_null() };
    if let Some(code) = code.filter(|_| is_librdkafkas) {
        // SAFETY: the message is a producer's and failed; the text is null, or lives until this returns. The
        // delivery is kept until the message is counted, which comes after this.
        unsafe {
            let text = rd::rd_kafka_message_produce_errstr(message);
            let delivery: *const Delivery = (*message)._private.cast();
            if !text.is_null() && !delivery.is_null() && !(*delivery).has_failed() {
                let text = string(text);
                if !text.starts_with(IN_SAME_REQUEST) {
                    let reason = refusals::not_delivered(code, Some(&text));
                    let failure = Undelivered { message, code }.failure(reason, true);
                    (*delivery).fail(failure.named_by_broker());
                }
            }
        }
    }
    Known::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// Fails the deliveries of messages from one report, and says whose fault it was: a request is refused as a
/// whole, so the messages behind each other in it may be those of several batches.
///
/// # Safety
/// None of the messages is counted down yet.
unsafe fn fail_all(messages: &[Undelivered], client: &Client) {
    // SAFETY: the caller's promise: each delivery is alive.
    unsafe {
        let named = messages.iter().find_map(|message| {
            let delivery = &*message.delivery();
            let failure = delivery.failure()?;
            let is_named = failure.was_named(&message.topic(), message.partition());
            is_named.then_some((failure, delivery.origin()))
        });
        let too_large = Known::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
        let largest = messages.iter().filter(|message| message.code.is(too_large));
        let largest = largest.max_by_key(|message| message.size());
        // A request's messages are reported together: one that is alone among those of its partition was alone in it.
        let is_alone = |one: &Undelivered| {
            let beside = messages.iter().filter(|other| {
                other.partition() == one.partition() && other.topic() == one.topic()
            });
            beside.count() == 1
        };
        for message in messages {
            let delivery = &*message.delivery();
            if delivery.has_failed() {
                continue;
            }
            if let Some((failure, origin)) = &named {
                delivery.fail(failure.in_same_request(*origin));
                continue;
            }
            let reason = client.fatal_text();
            let reason = reason.unwrap_or_else(|| refusals::not_delivered(message.code, None));
            match largest.filter(|largest| largest.delivery() != message.delivery()) {
                Some(largest) => {
                    let (failure, origin) = (
                        largest.failure(reason, is_alone(largest)),
                        (*largest.delivery()).origin(),
                    );
                    delivery.fail(failure.in_same_request(origin));
                }
                None => {
                    let failed = largest.unwrap_or(message);
                    delivery.fail(failed.failure(reason, is_alone(failed)));
                }
            }
        }
    }
}

impl ClientEvent<'_> {
    /// Of delivery reports: counts down the deliveries that the messages belong to, and releases
    /// those that are finished.
    pub(crate) fn settle_deliveries(&mut self, client: &Client) {
        if self.kind() != EventKind::Deliveries {
            return;
        }
        let (mut same, mut undelivered) = (0, Vec::new());
        let mut last: *const Delivery = ptr::null();
        // SAFETY: each message's opaque is the delivery that `hand_over` kept alive for it. That
        // lasts until the message is counted, which happens here, after the last use of it.
        unsafe {
            loop {
                let message = rd::rd_kafka_event_message_next(self.raw());
                if message.is_null() {
                    break;
                }
                let code = (&raw const (*message).err).cast::<c_int>().read();
                if let Some(code) = Code::of(code) {
                    // Whose fault it is may stand behind it.
                    undelivered.push(Undelivered { message, code });
                    continue;
                }
                let delivery: *const Delivery = (*message)._private.cast();
                if delivery != last {
                    settle(last, same);
                    (last, same) = (delivery, 0);
                }
                same += 1;
            }
            settle(last, same);
            fail_all(&undelivered, client);
            for message in &undelivered {
                settle(message.delivery(), 1);
            }
        }
    }
}
