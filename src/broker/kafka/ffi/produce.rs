//! Messages that are sent: how long a delivery's bytes stay.

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::bindings as rd;

use super::{Client, Code, Known, c_string, raw, take_error};
use crate::broker::kafka::refusals;
use crate::message::delivery::Delivery;
use crate::message::outbox::OutgoingRef;

/// The most messages that are handed over in one call: meanwhile the client holds a lock that the thread which learns of
/// new partitions waits for.
const AT_ONCE: usize = 256;

/// More than what librdkafka adds to a key and a value before it compares with `message.max.bytes`.
const ROOM_FOR_REST: usize = 128;

/// Messages that the client did not take, of those that it was handed together.
struct Refused {
    /// The index of the first one.
    first: usize,
    count: usize,
    /// Why the first one was refused.
    code: Code,
}

/// A topic of a client.
pub(crate) struct TopicHandle {
    topic: NonNull<rd::rd_kafka_topic_t>,
    /// A key and value with at most so many bytes are surely not too large for the client.
    surely_fits: usize,
    /// Released after the topic: see `drop`, which runs before fields are dropped.
    client: Arc<Client>,
}

// SAFETY: librdkafka's topics may be used from all threads at once.
unsafe impl Send for TopicHandle {}
// SAFETY: as above.
unsafe impl Sync for TopicHandle {}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once; the client is still held.
        unsafe { rd::rd_kafka_topic_destroy(self.topic.as_ptr()) }
    }
}

impl TopicHandle {
    pub(super) fn raw(&self) -> *mut rd::rd_kafka_topic_t {
        self.topic.as_ptr()
    }

    pub(crate) fn new(client: &Arc<Client>, topic: &str) -> Result<Self, Code> {
        // librdkafka would take what is before it for the name, which may be another topic's.
        if topic.contains('\0') {
            return Err(Known::RD_KAFKA_RESP_ERR__INVALID_ARG.into());
        }
        let name = c_string(topic);
        // SAFETY: the client is valid, the string is copied, null stands for the client's own
        // topic settings; the handle is ours.
        unsafe {
            let topic = rd::rd_kafka_topic_new(client.raw(), name.as_ptr(), ptr::null_mut());
            let topic = NonNull::new(topic).ok_or_else(|| Code(raw::last_error()))?;
            let most = client.property("message.max.bytes").parse::<usize>().unwrap_or(0);
            let surely_fits = most.saturating_sub(ROOM_FOR_REST);
            Ok(Self { topic, surely_fits, client: Arc::clone(client) })
        }
    }

    /// Puts messages into the client's queue, without copying their values, all in one call: per message, the client then
    /// looks up neither its partition nor the time. If some are refused, the client may have taken others behind them.
    ///
    /// # Safety
    /// The messages' bytes stay where they are until their reports, and their `_private` is what
    /// [`ClientEvent::settle_deliveries`] may follow.
    unsafe fn enqueue_all(
        &self,
        partition: Option<i32>,
        messages: &mut [rd::rd_kafka_message_t],
    ) -> Result<(), Refused> {
        let (partition, count) = (partition.unwrap_or(-1), c_int::try_from(messages.len()));
        let count = count.unwrap_or(c_int::MAX);
        // SAFETY: the topic is valid; the messages' keys are copied; for their values, the caller's promise.
        let taken = unsafe {
            let topic = self.topic.as_ptr();
            rd::rd_kafka_produce_batch(topic, partition, 0, messages.as_mut_ptr(), count)
        };
        if taken == count {
            return Ok(());
        }
        let first = messages.as_ptr();
        // SAFETY: within the slice, and the call has set all codes. As numbers: a broker's error may be newer than the bindings.
        let code =
            |index| unsafe { Code((&raw const (*first.add(index)).err).cast::<c_int>().read()) };
        let codes = (0..messages.len()).map(code);
        let mut refused =
            codes.enumerate().filter(|(_, code)| !code.is(Known::RD_KAFKA_RESP_ERR_NO_ERROR));
        match refused.next() {
            Some((first, code)) => Err(Refused { first, count: 1 + refused.count(), code }),
            None => Ok(()),
        }
    }

    /// Whether a message can be handed over together with those behind it. The call for many takes no headers and no
    /// timestamps; and if one is too large, those behind it must not go out.
    fn takes_with_others(&self, message: &OutgoingRef<'_>) -> bool {
        message.timestamp.is_none()
            && message.headers().len() == 0
            && message.size() <= self.surely_fits
    }

    /// Puts a message into the client's queue, without copying its value.
    ///
    /// # Safety
    /// The message's bytes stay where they are until its report, and `opaque` is what
    /// [`ClientEvent::settle_deliveries`] may follow.
    unsafe fn enqueue(
        &self,
        message: &OutgoingRef<'_>,
        opaque: *mut c_void,
    ) -> Result<(), Refused> {
        use rd::rd_kafka_vtype_t as Type;
        type Union = rd::rd_kafka_vu_s__bindgen_ty_1;

        let memory = |bytes| {
            let (ptr, size) = parts(bytes);
            Union { mem: rd::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size } }
        };
        // Most messages have none, and a list is an allocation.
        let headers = match message.headers().len() {
            0 => ptr::null_mut(),
            // SAFETY: the list is ours; names and values are copied into it.
            _ => unsafe { header_list(message) },
        };
        let (partition, timestamp) = (message.partition.unwrap_or(-1), message.timestamp);
        let argument = |vtype, u| rd::rd_kafka_vu_t { vtype, u };
        // Made in place: an array that is mapped is copied, for every message.
        let arguments = [
            argument(Type::RD_KAFKA_VTYPE_RKT, Union { rkt: self.topic.as_ptr() }),
            argument(Type::RD_KAFKA_VTYPE_PARTITION, Union { i32_: partition }),
            argument(Type::RD_KAFKA_VTYPE_VALUE, memory(message.value)),
            argument(Type::RD_KAFKA_VTYPE_KEY, memory(message.key)),
            argument(Type::RD_KAFKA_VTYPE_OPAQUE, Union { ptr: opaque }),
            // 0 stands for "now".
            argument(Type::RD_KAFKA_VTYPE_TIMESTAMP, Union { i64_: timestamp.unwrap_or(0) }),
            argument(Type::RD_KAFKA_VTYPE_HEADERS, Union { headers }),
        ];
        // SAFETY: each argument has the member that its type says; for the value, the caller's
        // promise. The headers belong to the message if it was taken, else they are still ours.
        unsafe {
            // The headers come last.
            let count = arguments.len() - usize::from(headers.is_null());
            let error = rd::rd_kafka_produceva(self.client.raw(), arguments.as_ptr(), count);
            let Err((code, _)) = take_error(error) else { return Ok(()) };
            if !headers.is_null() {
                rd::rd_kafka_headers_destroy(headers);
            }
            Err(Refused { first: 0, count: 1, code })
        }
    }
}

/// Pointer and size; null for `None`, never null for `Some`, however short: librdkafka tells an
/// empty value from a tombstone by it.
fn parts(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    bytes.map_or((ptr::null_mut(), 0), |bytes| (bytes.as_ptr().cast_mut().cast(), bytes.len()))
}

/// A new list of headers, owned by the caller.
///
/// # Safety
/// None beyond that the list has to be freed or given away.
unsafe fn header_list(message: &OutgoingRef<'_>) -> *mut rd::rd_kafka_headers_t {
    let headers = message.headers();
    // SAFETY: the list is new and ours; names and values are valid for the sizes given and copied.
    unsafe {
        let list = rd::rd_kafka_headers_new(headers.len());
        for (name, value) in headers {
            let (value, size) = parts(value);
            let (name, name_size) = (name.as_ptr().cast(), name.len().cast_signed());
            rd::rd_kafka_header_add(list, name, name_size, value, size.cast_signed());
        }
        list
    }
}

/// How far [`hand_over`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandedOver {
    All,
    QueueFull,
    /// The client refused a message; it and those behind it are counted down.
    Refused,
}

/// Hands the messages of a delivery from [`Delivery::next`] on to the client; `topics` has a handle
/// for each of [`Delivery::topics`].
///
/// While any message of the delivery is not counted down, one strong reference to it is kept for
/// the client. It is taken with the first message, and released by whoever counts the last one.
/// One reference a delivery instead of one a message: an atomic count per message would be a
/// noticeable part of the cost of producing it.
pub(crate) fn hand_over(delivery: &Arc<Delivery>, topics: &[Arc<TopicHandle>]) -> HandedOver {
    let (first, end) = (delivery.next(), delivery.len());
    if first >= end {
        return HandedOver::All;
    }
    let kept = Arc::as_ptr(delivery);
    if first == 0 {
        // Before the first message is handed over: its report may be there before we go on.
        std::mem::forget(Arc::clone(delivery));
    }
    let mut together = Vec::with_capacity(AT_ONCE.min(end - first));
    let mut index = first;
    while index < end {
        // SAFETY: the messages' bytes are in the delivery, which is never changed and which the
        // kept reference keeps until these messages, too, are counted down.
        let (count, outcome) = unsafe { enqueue_next(delivery, index, topics, &mut together) };
        let Err(Refused { first: refused_first, count: refused, code }) = outcome else {
            index += count;
            continue;
        };
        let refused_first = index + refused_first;
        if code.is(Known::RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            // Nothing behind it was taken either.
            delivery.handed_over(refused_first);
            if refused_first == 0 {
                // SAFETY: the reference taken above; the client has not seen the delivery.
                drop(unsafe { Arc::from_raw(kept) });
            }
            return HandedOver::QueueFull;
        }
        let message = delivery.message(refused_first);
        let client = &topics[message.topic].client;
        let fatal = client.fatal_text();
        let limit = || client.property("message.max.bytes");
        let reason = fatal.unwrap_or_else(|| refusals::not_taken(code, limit));
        let failure = delivery.failure_of(refused_first, message.partition, reason);
        let failure = failure.at_fault(refusals::fault(code, refused_first, true));
        delivery.fail(failure.with("code", code.name()));
        delivery.handed_over(end);
        let behind = end - (index + count);
        // SAFETY: these messages are not with the client, so nobody else counts them.
        unsafe { settle(kept, refused + behind) };
        return HandedOver::Refused;
    }
    delivery.handed_over(end);
    HandedOver::All
}

/// Puts the message of this index into the client's queue, and with it those behind it that go to the same partition.
/// Returns how many those are, and whether the client has taken them.
///
/// # Safety
/// The delivery is kept until all of them are counted down.
unsafe fn enqueue_next(
    delivery: &Arc<Delivery>,
    index: usize,
    topics: &[Arc<TopicHandle>],
    together: &mut Vec<rd::rd_kafka_message_t>,
) -> (usize, Result<(), Refused>) {
    let opaque = Arc::as_ptr(delivery).cast_mut().cast::<c_void>();
    let first = delivery.message(index);
    let topic = &topics[first.topic];
    if !topic.takes_with_others(&first) {
        // SAFETY: the caller's promise.
        return (1, unsafe { topic.enqueue(&first, opaque) });
    }
    together.clear();
    together.push(entry(&first, opaque));
    let most = delivery.len().min(index + AT_ONCE);
    for message in delivery.messages(index + 1..most) {
        let is_like = (message.topic, message.partition) == (first.topic, first.partition);
        if !is_like || !topic.takes_with_others(&message) {
            break;
        }
        together.push(entry(&message, opaque));
    }
    // SAFETY: the caller's promise.
    (together.len(), unsafe { topic.enqueue_all(first.partition, together) })
}

/// A message as the call for many takes it. It has no topic: `note_refusal` knows it by that.
fn entry(message: &OutgoingRef<'_>, opaque: *mut c_void) -> rd::rd_kafka_message_t {
    let (key, key_len) = parts(message.key);
    let (payload, len) = parts(message.value);
    rd::rd_kafka_message_t {
        err: Known::RD_KAFKA_RESP_ERR_NO_ERROR,
        rkt: ptr::null_mut(),
        partition: 0,
        payload,
        len,
        key,
        key_len,
        offset: 0,
        _private: opaque,
    }
}

/// Fails a delivery whose messages from [`Delivery::next`] on cannot be handed over.
pub(crate) fn refuse(delivery: &Arc<Delivery>, topic: &str, reason: &str) {
    let is_kept = delivery.next() > 0;
    if delivery.refuse_rest(topic, reason) && is_kept {
        // SAFETY: the reference that `hand_over` kept with the first message; these were the last.
        drop(unsafe { Arc::from_raw(Arc::as_ptr(delivery)) });
    }
}

/// Counts messages of a delivery down and, with the last one, releases the client's reference.
///
/// # Safety
/// `delivery` is null with a `count` of 0, or was kept by [`hand_over`] and has at least `count`
/// messages that nobody else counts.
pub(super) unsafe fn settle(delivery: *const Delivery, count: usize) {
    if count == 0 {
        return;
    }
    // SAFETY: kept alive until the last message is counted, and that is told to one caller only.
    unsafe {
        if (*delivery).count_down(count) {
            drop(Arc::from_raw(delivery));
        }
    }
}
