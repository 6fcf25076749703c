//! Messages that are sent: how long a delivery's bytes stay.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::bindings as rd;

use super::{Client, Code, Known, c_string, raw, take_error};
use crate::broker::kafka::refusals;
use crate::message::delivery::{Delivery, OutgoingRef};

/// A topic of a client.
pub(crate) struct TopicHandle {
    topic: NonNull<rd::rd_kafka_topic_t>,
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
            Ok(Self { topic, client: Arc::clone(client) })
        }
    }

    /// Puts a message into the client's queue, without copying its value.
    ///
    /// # Safety
    /// The message's bytes stay where they are until its report, and `opaque` is what
    /// [`ClientEvent::settle_deliveries`] may follow.
    unsafe fn enqueue(&self, message: &OutgoingRef<'_>, opaque: *const Delivery) -> Option<Code> {
        let opaque = opaque.cast_mut().cast::<c_void>();
        if message.timestamp.is_some() || message.headers().len() > 0 {
            // SAFETY: the caller's promise.
            return unsafe { self.enqueue_with_all(message, opaque) };
        }
        let (key, key_size) = parts(message.key);
        let (value, value_size) = parts(message.value);
        let partition = message.partition.unwrap_or(-1);
        // SAFETY: the topic is valid; the key is copied; for the value, the caller's promise.
        unsafe {
            let topic = self.topic.as_ptr();
            let result =
                rd::rd_kafka_produce(topic, partition, 0, value, value_size, key, key_size, opaque);
            (result != 0).then(|| Code(raw::last_error()))
        }
    }

    /// # Safety
    /// As in [`enqueue`](TopicHandle::enqueue).
    unsafe fn enqueue_with_all(
        &self,
        message: &OutgoingRef<'_>,
        opaque: *mut c_void,
    ) -> Option<Code> {
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
            let (code, _) = take_error(error).err()?;
            if !headers.is_null() {
                rd::rd_kafka_headers_destroy(headers);
            }
            Some(code)
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
    for index in first..end {
        let message = delivery.message(index);
        // SAFETY: the message's bytes are in the delivery, which is never changed and which the
        // kept reference keeps until this message, too, is counted down.
        let Some(code) = (unsafe { topics[message.topic].enqueue(&message, kept) }) else {
            continue;
        };
        if code.is(Known::RD_KAFKA_RESP_ERR__QUEUE_FULL) {
            delivery.handed_over(index);
            if index == 0 {
                // SAFETY: the reference taken above; the client has not seen the delivery.
                drop(unsafe { Arc::from_raw(kept) });
            }
            return HandedOver::QueueFull;
        }
        let client = &topics[message.topic].client;
        let fatal = client.fatal_text();
        let limit = || client.property("message.max.bytes");
        let reason = fatal.unwrap_or_else(|| refusals::not_taken(code, limit));
        let failure = delivery.failure_of(index, message.partition, reason);
        delivery.fail(failure.with("code", code.name()));
        delivery.handed_over(end);
        // SAFETY: these messages are not with the client, so nobody else counts them.
        unsafe { settle(kept, end - index) };
        return HandedOver::Refused;
    }
    delivery.handed_over(end);
    HandedOver::All
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
