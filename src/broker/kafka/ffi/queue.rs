//! Queues: of a client's events, and of messages.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rd;
use tokio::sync::Notify;

use super::{Client, ClientEvent, KafkaMessage, c_string, milliseconds};

/// A queue of a client.
pub(crate) struct QueueHandle {
    queue: NonNull<rd::rd_kafka_queue_t>,
    /// Released after the queue: see `drop`, which runs before fields are dropped.
    client: Arc<Client>,
}

// SAFETY: librdkafka's queues have their own lock.
unsafe impl Send for QueueHandle {}
// SAFETY: as above.
unsafe impl Sync for QueueHandle {}

impl Drop for QueueHandle {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once; the client is still held.
        unsafe { rd::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

impl QueueHandle {
    pub(super) fn raw(&self) -> *mut rd::rd_kafka_queue_t {
        self.queue.as_ptr()
    }

    fn wrap(client: &Arc<Client>, queue: *mut rd::rd_kafka_queue_t) -> Option<Self> {
        NonNull::new(queue).map(|queue| Self { queue, client: Arc::clone(client) })
    }

    /// A queue for the answer to one request.
    pub(crate) fn new(client: &Arc<Client>) -> Option<Self> {
        // SAFETY: the client is valid; the handle is ours.
        Self::wrap(client, unsafe { rd::rd_kafka_queue_new(client.raw()) })
    }

    /// The queue of a consumer's events.
    pub(crate) fn consumer(client: &Arc<Client>) -> Option<Self> {
        // SAFETY: the client is valid; the handle is ours.
        Self::wrap(client, unsafe { rd::rd_kafka_queue_get_consumer(client.raw()) })
    }

    /// The queue of a producer's events.
    pub(crate) fn main(client: &Arc<Client>) -> Option<Self> {
        // SAFETY: as in `consumer`.
        Self::wrap(client, unsafe { rd::rd_kafka_queue_get_main(client.raw()) })
    }

    /// The queue that the messages of a partition are fetched into.
    pub(crate) fn of_partition(client: &Arc<Client>, topic: &str, partition: i32) -> Option<Self> {
        let topic = c_string(topic);
        // SAFETY: the client is valid, the string lives until the call returns; the handle is ours.
        Self::wrap(client, unsafe {
            rd::rd_kafka_queue_get_partition(client.raw(), topic.as_ptr(), partition)
        })
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Has the client's log come on this queue.
    pub(crate) fn take_log(&self) {
        // SAFETY: client and queue are valid. The error says that `log.queue` is off: no log then.
        unsafe { rd::rd_kafka_set_log_queue(self.client.raw(), self.queue.as_ptr()) };
    }

    /// Sends what comes on this queue to another one.
    pub(crate) fn forward(&self, to: &ArrivalQueue) {
        // SAFETY: both are valid; librdkafka counts its own reference to the target.
        unsafe { rd::rd_kafka_queue_forward(self.queue.as_ptr(), to.handle.raw()) }
    }

    pub(crate) fn stop_forwarding(&self) {
        // SAFETY: null ends the forwarding.
        unsafe { rd::rd_kafka_queue_forward(self.queue.as_ptr(), ptr::null_mut()) }
    }

    /// Waits for an event.
    pub(crate) fn poll(&self, timeout: Duration) -> Option<ClientEvent<'_>> {
        // SAFETY: the queue is valid; the event, if there is one, is ours.
        unsafe {
            let event = rd::rd_kafka_queue_poll(self.raw(), milliseconds(timeout));
            NonNull::new(event).map(|event| ClientEvent::new(event, self))
        }
    }

    /// How many entries wait in it.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: the queue is valid.
        unsafe { rd::rd_kafka_queue_length(self.raw()) }
    }

    /// Ends a [`poll`](QueueHandle::poll) that waits, or the next one.
    pub(crate) fn wake(&self) {
        // SAFETY: the queue is valid.
        unsafe { rd::rd_kafka_queue_yield(self.queue.as_ptr()) }
    }
}

/// A queue for messages that wakes a task when it is no longer empty.
pub(crate) struct ArrivalQueue {
    handle: QueueHandle,
    /// What the callback points to; released after the callback is taken off, see `drop`.
    arrived: Arc<Notify>,
}

/// Runs under the queue's lock, so it must not call librdkafka; waking a task does not.
unsafe extern "C" fn wake_reader(_: *mut rd::rd_kafka_t, notify: *mut c_void) {
    // SAFETY: `ArrivalQueue` owns the `Notify` and takes this callback off before it lets go.
    unsafe { &*notify.cast::<Notify>() }.notify_one();
}

impl ArrivalQueue {
    pub(crate) fn new(client: &Arc<Client>) -> Option<Self> {
        let handle = QueueHandle::new(client)?;
        let arrived = Arc::new(Notify::new());
        let opaque = Arc::as_ptr(&arrived).cast_mut().cast();
        // SAFETY: `arrived` lives as long as the callback, see `drop`.
        unsafe {
            let queue = handle.raw();
            rd::rd_kafka_queue_cb_event_enable(queue, Some(wake_reader), opaque);
        }
        Some(Self { handle, arrived })
    }

    pub(crate) fn arrived(&self) -> &Arc<Notify> {
        &self.arrived
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.handle.client
    }

    pub(crate) fn len(&self) -> usize {
        self.handle.len()
    }

    /// Moves up to `max` entries that are there into `into`, without waiting; returns how many.
    pub(crate) fn take(&self, max: usize, into: &mut Vec<KafkaMessage>) -> usize {
        into.reserve(max);
        // SAFETY: a `KafkaMessage` is one pointer, and there is room for `max` of them behind the
        // last; librdkafka fills the first `count` with messages that are ours.
        unsafe {
            let room = into.spare_capacity_mut().as_mut_ptr().cast();
            let queue = self.handle.raw();
            let count = rd::rd_kafka_consume_batch_queue(queue, 0, room, max);
            let count = usize::try_from(count).unwrap_or(0);
            into.set_len(into.len() + count);
            count
        }
    }
}

impl Drop for ArrivalQueue {
    fn drop(&mut self) {
        // SAFETY: the queue is valid. The call takes the queue's lock, under which the callback
        // runs: when it returns, no callback runs or will.
        unsafe {
            let queue = self.handle.raw();
            rd::rd_kafka_queue_cb_event_enable(queue, None, ptr::null_mut());
        }
    }
}
