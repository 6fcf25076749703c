//! librdkafka's handles as owners that cannot be misused: the only `unsafe` code of the crate.
//!
//! Place in the data path: below everything else in this folder. Nothing here decides anything; it
//! only makes three rules of librdkafka impossible to break from outside.
//!
//! - `rd_kafka_destroy` waits for good while a message, a queue or a topic handle lives. Each of
//!   these holds an `Arc<Client>` (or is held together with one, see
//!   [`Keepalive`](crate::batch::Keepalive)) and is released before it.
//! - A message is produced without a copy, so its bytes must stay where they are until its report.
//!   [`hand_over`] keeps the [`Delivery`] alive until the last of its messages is counted down.
//! - Error codes come from brokers too, and may be newer than the bindings' enum; reading such a
//!   value as that enum would be undefined. So they are read as integers: see [`Code`].
#![allow(unsafe_code, reason = "librdkafka is a C library; each block says why it is sound")]

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use tokio::sync::Notify;

use crate::message::Offset;
use crate::pipeline::outgoing::{Delivery, OutgoingRef};

/// The error codes that librdkafka knows by name.
pub(super) use rd::rd_kafka_resp_err_t as Known;

/// The same functions as in the bindings, with error codes as integers: their values may come from
/// a broker that is newer than the bindings.
mod raw {
    use super::{c_char, c_int, rd};

    unsafe extern "C" {
        #[link_name = "rd_kafka_err2name"]
        pub(super) fn err2name(code: c_int) -> *const c_char;
        #[link_name = "rd_kafka_err2str"]
        pub(super) fn err2str(code: c_int) -> *const c_char;
        #[link_name = "rd_kafka_last_error"]
        pub(super) fn last_error() -> c_int;
        #[link_name = "rd_kafka_error_code"]
        pub(super) fn error_code(error: *const rd::rd_kafka_error_t) -> c_int;
        #[link_name = "rd_kafka_event_error"]
        pub(super) fn event_error(event: *mut rd::rd_kafka_event_t) -> c_int;
        #[link_name = "rd_kafka_fatal_error"]
        pub(super) fn fatal_error(
            client: *mut rd::rd_kafka_t,
            text: *mut c_char,
            size: usize,
        ) -> c_int;
        #[link_name = "rd_kafka_assign"]
        pub(super) fn assign(
            client: *mut rd::rd_kafka_t,
            list: *const rd::rd_kafka_topic_partition_list_t,
        ) -> c_int;
        #[link_name = "rd_kafka_subscribe"]
        pub(super) fn subscribe(
            client: *mut rd::rd_kafka_t,
            list: *const rd::rd_kafka_topic_partition_list_t,
        ) -> c_int;
        #[link_name = "rd_kafka_committed"]
        pub(super) fn committed(
            client: *mut rd::rd_kafka_t,
            list: *mut rd::rd_kafka_topic_partition_list_t,
            timeout: c_int,
        ) -> c_int;
        #[link_name = "rd_kafka_offsets_for_times"]
        pub(super) fn offsets_for_times(
            client: *mut rd::rd_kafka_t,
            list: *mut rd::rd_kafka_topic_partition_list_t,
            timeout: c_int,
        ) -> c_int;
        #[link_name = "rd_kafka_metadata"]
        pub(super) fn metadata(
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
pub(super) struct Code(i32);

impl Code {
    /// `None` if the code says that all went well.
    fn check(code: c_int) -> Option<Self> {
        (code != 0).then_some(Self(code))
    }

    /// The code if librdkafka has a name for it.
    pub(super) fn known(self) -> Option<Known> {
        Known::try_from(self.0).ok()
    }

    pub(super) fn is(self, known: Known) -> bool {
        self.0 == known as i32
    }

    /// The name, such as `ILLEGAL_GENERATION`.
    pub(super) fn name(self) -> String {
        // SAFETY: takes any integer and returns a string of this thread, copied at once.
        unsafe { string(raw::err2name(self.0)) }
    }

    /// A sentence for a person.
    pub(super) fn text(self) -> String {
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
unsafe fn string(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A C string; what follows a zero byte in `text` is lost, which no name in Kafka has.
fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// Milliseconds as librdkafka takes them.
fn milliseconds(duration: Duration) -> c_int {
    c_int::try_from(duration.as_millis()).unwrap_or(c_int::MAX)
}

/// Turns librdkafka's error object into a code and a text, and frees it.
fn take_error(error: *mut rd::rd_kafka_error_t) -> Result<(), (Code, String)> {
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
pub(super) fn version() -> String {
    // SAFETY: returns a static string.
    unsafe { string(rd::rd_kafka_version_str()) }
}

// ---------------------------------------------------------------------------------------- client

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Consumer,
    Producer,
}

/// Why there is no client.
#[derive(Debug)]
pub(super) enum CreateError {
    /// A property's name or value was refused, for librdkafka's reason.
    Property { name: String, reason: String },
    /// The properties don't fit together, for librdkafka's reason.
    Client(String),
}

/// A librdkafka client. Whatever points into it holds an `Arc` of it.
///
/// Dropping the last `Arc` never blocks: the client is destroyed on a thread of its own.
pub(super) struct Client {
    handle: ManuallyDrop<ClientHandle>,
    created: Instant,
}

struct ClientHandle(NonNull<rd::rd_kafka_t>);

// SAFETY: librdkafka's client may be used from all threads at once; its own locks see to it.
unsafe impl Send for ClientHandle {}
// SAFETY: as above.
unsafe impl Sync for ClientHandle {}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once. No handle into the client is left: each holds an
        // `Arc<Client>`, and the handle is dropped with the last of those.
        unsafe { rd::rd_kafka_destroy(self.0.as_ptr()) }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: taken once, here; `handle` is not used afterwards.
        let handle = unsafe { ManuallyDrop::take(&mut self.handle) };
        // Destroying waits for requests under way and joins threads. Where no thread can be had,
        // the closure is dropped here, and the handle with it: late but right.
        let thread = thread::Builder::new().name("kasper-destroy".into());
        drop(thread.spawn(move || drop(handle)));
    }
}

impl Client {
    pub(super) fn create(
        role: Role,
        properties: &[(String, String)],
    ) -> Result<Arc<Self>, CreateError> {
        let conf = configuration(role, properties)?;
        let kind = match role {
            Role::Consumer => rd::rd_kafka_type_t::RD_KAFKA_CONSUMER,
            Role::Producer => rd::rd_kafka_type_t::RD_KAFKA_PRODUCER,
        };
        let created = Instant::now();
        let mut text: [c_char; 512] = [0; 512];
        // SAFETY: `conf` is valid. The new client owns it only if there is one, so only then is our
        // ownership given up.
        let client =
            unsafe { rd::rd_kafka_new(kind, conf.0.as_ptr(), text.as_mut_ptr(), text.len()) };
        let Some(client) = NonNull::new(client) else {
            // SAFETY: librdkafka has written a string that ends with a zero byte.
            return Err(CreateError::Client(unsafe { string(text.as_ptr()) }));
        };
        std::mem::forget(conf);
        let handle = ManuallyDrop::new(ClientHandle(client));
        Ok(Arc::new(Self { handle, created }))
    }

    fn raw(&self) -> *mut rd::rd_kafka_t {
        self.handle.0.as_ptr()
    }

    /// A time just before the client began to count its age.
    pub(super) fn created(&self) -> Instant {
        self.created
    }

    /// Joins the group.
    pub(super) fn subscribe(&self, topics: &PartitionList<'_>) -> Result<(), Code> {
        // SAFETY: client and list are valid; the list is copied.
        Code::check(unsafe { raw::subscribe(self.raw(), topics.list.as_ptr()) }).map_or(Ok(()), Err)
    }

    /// Replaces the assignment.
    pub(super) fn assign(&self, partitions: &PartitionList<'_>) -> Result<(), Code> {
        // SAFETY: as in `subscribe`.
        Code::check(unsafe { raw::assign(self.raw(), partitions.list.as_ptr()) })
            .map_or(Ok(()), Err)
    }

    /// Ends the whole assignment.
    pub(super) fn unassign(&self) -> Result<(), Code> {
        // SAFETY: null stands for "unassign".
        Code::check(unsafe { raw::assign(self.raw(), ptr::null()) }).map_or(Ok(()), Err)
    }

    pub(super) fn incremental_assign(
        &self,
        list: &PartitionList<'_>,
    ) -> Result<(), (Code, String)> {
        // SAFETY: as in `subscribe`; the error object, if any, is ours.
        take_error(unsafe { rd::rd_kafka_incremental_assign(self.raw(), list.list.as_ptr()) })
    }

    pub(super) fn incremental_unassign(
        &self,
        list: &PartitionList<'_>,
    ) -> Result<(), (Code, String)> {
        // SAFETY: as in `incremental_assign`.
        take_error(unsafe { rd::rd_kafka_incremental_unassign(self.raw(), list.list.as_ptr()) })
    }

    /// Whether the group changes assignments by parts (KIP-848, cooperative-sticky).
    pub(super) fn is_cooperative(&self) -> bool {
        // SAFETY: returns a static string, or null.
        let protocol = unsafe { string(rd::rd_kafka_rebalance_protocol(self.raw())) };
        protocol == "COOPERATIVE"
    }

    pub(super) fn assignment_lost(&self) -> bool {
        // SAFETY: reads a flag.
        unsafe { rd::rd_kafka_assignment_lost(self.raw()) != 0 }
    }

    /// Sends a commit; its result comes as an event with this `id` on `replies`.
    pub(super) fn commit(
        &self,
        offsets: &PartitionList<'_>,
        replies: &QueueHandle,
        id: usize,
    ) -> Result<(), Code> {
        // SAFETY: all are valid; the list is copied; the opaque is a number that nobody follows.
        let code = unsafe {
            rd::rd_kafka_commit_queue(
                self.raw(),
                offsets.list.as_ptr(),
                replies.queue.as_ptr(),
                None,
                ptr::without_provenance_mut(id),
            )
        };
        Code::check(code as c_int).map_or(Ok(()), Err)
    }

    /// Fills in committed offsets. Blocks.
    pub(super) fn committed(
        &self,
        list: &mut PartitionList<'_>,
        timeout: Duration,
    ) -> Result<(), Code> {
        let timeout = milliseconds(timeout);
        // SAFETY: the list is valid and borrowed alone.
        let code = unsafe { raw::committed(self.raw(), list.list.as_ptr(), timeout) };
        Code::check(code).map_or(Ok(()), Err)
    }

    /// Replaces timestamps by offsets; -1 and -2 ask for end and beginning. Blocks.
    pub(super) fn offsets_for_times(
        &self,
        list: &mut PartitionList<'_>,
        timeout: Duration,
    ) -> Result<(), Code> {
        let timeout = milliseconds(timeout);
        // SAFETY: as in `committed`.
        let code = unsafe { raw::offsets_for_times(self.raw(), list.list.as_ptr(), timeout) };
        Code::check(code).map_or(Ok(()), Err)
    }

    /// Moves the fetch positions. Blocks. Errors of single partitions are in the list.
    pub(super) fn seek(
        &self,
        list: &mut PartitionList<'_>,
        timeout: Duration,
    ) -> Result<(), (Code, String)> {
        let timeout = milliseconds(timeout);
        // SAFETY: as in `committed`.
        take_error(unsafe { rd::rd_kafka_seek_partitions(self.raw(), list.list.as_ptr(), timeout) })
    }

    /// Begins to leave the group; events go on coming on `queue` until [`closed`](Client::closed).
    pub(super) fn close(&self, queue: &QueueHandle) -> Result<(), (Code, String)> {
        // SAFETY: both are valid.
        take_error(unsafe { rd::rd_kafka_consumer_close_queue(self.raw(), queue.queue.as_ptr()) })
    }

    pub(super) fn closed(&self) -> bool {
        // SAFETY: reads a flag.
        unsafe { rd::rd_kafka_consumer_closed(self.raw()) != 0 }
    }

    /// Sends what comes on the main queue (log, errors, statistics) to the consumer queue.
    pub(super) fn poll_set_consumer(&self) {
        // SAFETY: the client is valid; the error says "no consumer", which nothing follows from.
        unsafe { rd::rd_kafka_poll_set_consumer(self.raw()) };
    }

    /// Why the client cannot go on.
    pub(super) fn fatal_error(&self) -> Option<(Code, String)> {
        let mut text: [c_char; 512] = [0; 512];
        // SAFETY: the buffer is as long as said; a string is written when there is an error.
        unsafe {
            let code = Code::check(raw::fatal_error(self.raw(), text.as_mut_ptr(), text.len()))?;
            Some((code, string(text.as_ptr())))
        }
    }

    /// Why a message was not delivered. What was purged or refused after a fatal error failed for
    /// that error's reason.
    fn why(&self, code: Code) -> String {
        let fatal = self.fatal_error().map(|(_, text)| text);
        fatal.unwrap_or_else(|| code.text())
    }

    /// Fails all messages of a producer, queued and under way. Blocks until the client knows.
    pub(super) fn purge(&self) {
        let all = rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_INFLIGHT;
        // SAFETY: the client is valid.
        unsafe { rd::rd_kafka_purge(self.raw(), all) };
    }

    /// Messages without a report that was seen, and events not yet polled.
    pub(super) fn outstanding(&self) -> usize {
        // SAFETY: reads counters.
        usize::try_from(unsafe { rd::rd_kafka_outq_len(self.raw()) }).unwrap_or(0)
    }

    /// The number of partitions of a topic, or the error that the cluster has for it. Blocks.
    pub(super) fn partition_count(
        &self,
        topic: &TopicHandle,
        timeout: Duration,
    ) -> Result<Result<usize, Code>, Code> {
        let mut metadata = ptr::null();
        // SAFETY: client and topic are valid; on success `metadata` is ours and freed below, after
        // it was read within the count it gives.
        unsafe {
            let (topic, timeout) = (topic.topic.as_ptr(), milliseconds(timeout));
            let code = raw::metadata(self.raw(), 0, topic, &raw mut metadata, timeout);
            if let Some(code) = Code::check(code) {
                return Err(code);
            }
            let answer = if (*metadata).topic_cnt < 1 {
                Err(Code::from(Known::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART))
            } else {
                let topic = (*metadata).topics;
                let code = (&raw const (*topic).err).cast::<c_int>().read();
                let count = usize::try_from((*topic).partition_cnt).unwrap_or(0);
                Code::check(code).map_or(Ok(count), Err)
            };
            rd::rd_kafka_metadata_destroy(metadata);
            Ok(answer)
        }
    }

    /// Gives the client a token to authenticate with. `lifetime` is its end in milliseconds since
    /// 1970.
    pub(super) fn set_token(
        &self,
        token: &str,
        lifetime: i64,
        principal: &str,
        extensions: &[(String, String)],
    ) -> Result<(), String> {
        let (token, principal) = (c_string(token), c_string(principal));
        let parts = extensions.iter().flat_map(|(name, value)| [c_string(name), c_string(value)]);
        let parts: Vec<CString> = parts.collect();
        let mut pointers: Vec<*const c_char> = parts.iter().map(|part| part.as_ptr()).collect();
        let mut text: [c_char; 512] = [0; 512];
        // SAFETY: all strings live until the call returns, which copies them.
        let code = unsafe {
            rd::rd_kafka_oauthbearer_set_token(
                self.raw(),
                token.as_ptr(),
                lifetime,
                principal.as_ptr(),
                pointers.as_mut_ptr(),
                pointers.len(),
                text.as_mut_ptr(),
                text.len(),
            )
        };
        match Code::check(code as c_int) {
            None => Ok(()),
            // SAFETY: on an error a string has been written.
            Some(_) => Err(unsafe { string(text.as_ptr()) }),
        }
    }

    /// Tells the client that there is no token; it asks again after a while.
    pub(super) fn set_token_failure(&self, reason: &str) {
        let reason = c_string(reason);
        // SAFETY: the string is copied.
        unsafe { rd::rd_kafka_oauthbearer_set_token_failure(self.raw(), reason.as_ptr()) };
    }
}

struct Conf(NonNull<rd::rd_kafka_conf_t>);

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: ours; forgotten where a client took it over.
        unsafe { rd::rd_kafka_conf_destroy(self.0.as_ptr()) }
    }
}

fn configuration(role: Role, properties: &[(String, String)]) -> Result<Conf, CreateError> {
    // SAFETY: makes an object of ours.
    let conf = Conf(
        NonNull::new(unsafe { rd::rd_kafka_conf_new() })
            .ok_or_else(|| CreateError::Client("there is no memory for a configuration".into()))?,
    );
    for (name, value) in properties {
        let mut text: [c_char; 512] = [0; 512];
        let (c_name, c_value) = (c_string(name), c_string(value));
        // SAFETY: the strings live until the call returns; the buffer is as long as said, and
        // holds a string when the property was refused.
        unsafe {
            let (name_pointer, value_pointer) = (c_name.as_ptr(), c_value.as_ptr());
            let (conf, buffer) = (conf.0.as_ptr(), text.as_mut_ptr());
            let result =
                rd::rd_kafka_conf_set(conf, name_pointer, value_pointer, buffer, text.len());
            if result != rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                let reason = string(text.as_ptr());
                return Err(CreateError::Property { name: name.clone(), reason });
            }
        }
    }
    let events = match role {
        Role::Consumer => rd::RD_KAFKA_EVENT_REBALANCE | rd::RD_KAFKA_EVENT_OFFSET_COMMIT,
        Role::Producer => rd::RD_KAFKA_EVENT_DR,
    };
    let events = events
        | rd::RD_KAFKA_EVENT_ERROR
        | rd::RD_KAFKA_EVENT_STATS
        | rd::RD_KAFKA_EVENT_LOG
        | rd::RD_KAFKA_EVENT_OAUTHBEARER_TOKEN_REFRESH;
    // SAFETY: the configuration is valid.
    unsafe { rd::rd_kafka_conf_set_events(conf.0.as_ptr(), events) };
    Ok(conf)
}

// ---------------------------------------------------------------------------------------- queues

/// A queue of a client.
pub(super) struct QueueHandle {
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
    fn wrap(client: &Arc<Client>, queue: *mut rd::rd_kafka_queue_t) -> Option<Self> {
        NonNull::new(queue).map(|queue| Self { queue, client: Arc::clone(client) })
    }

    /// The queue of a consumer's events.
    pub(super) fn consumer(client: &Arc<Client>) -> Option<Self> {
        // SAFETY: the client is valid; the handle is ours.
        Self::wrap(client, unsafe { rd::rd_kafka_queue_get_consumer(client.raw()) })
    }

    /// The queue of a producer's events.
    pub(super) fn main(client: &Arc<Client>) -> Option<Self> {
        // SAFETY: as in `consumer`.
        Self::wrap(client, unsafe { rd::rd_kafka_queue_get_main(client.raw()) })
    }

    /// The queue that the messages of a partition are fetched into.
    pub(super) fn of_partition(client: &Arc<Client>, topic: &str, partition: i32) -> Option<Self> {
        let topic = c_string(topic);
        // SAFETY: the client is valid, the string lives until the call returns; the handle is ours.
        Self::wrap(client, unsafe {
            rd::rd_kafka_queue_get_partition(client.raw(), topic.as_ptr(), partition)
        })
    }

    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Has the client's log come on this queue.
    pub(super) fn take_log(&self) {
        // SAFETY: client and queue are valid. The error says that `log.queue` is off: no log then.
        unsafe { rd::rd_kafka_set_log_queue(self.client.raw(), self.queue.as_ptr()) };
    }

    /// Sends what comes on this queue to another one.
    pub(super) fn forward(&self, to: &ArrivalQueue) {
        // SAFETY: both are valid; librdkafka counts its own reference to the target.
        unsafe { rd::rd_kafka_queue_forward(self.queue.as_ptr(), to.handle.queue.as_ptr()) }
    }

    pub(super) fn stop_forwarding(&self) {
        // SAFETY: null ends the forwarding.
        unsafe { rd::rd_kafka_queue_forward(self.queue.as_ptr(), ptr::null_mut()) }
    }

    /// Waits for an event.
    pub(super) fn poll(&self, timeout: Duration) -> Option<ClientEvent<'_>> {
        // SAFETY: the queue is valid; the event is ours.
        let event = unsafe { rd::rd_kafka_queue_poll(self.queue.as_ptr(), milliseconds(timeout)) };
        NonNull::new(event).map(|event| ClientEvent { event, queue: PhantomData })
    }

    /// Ends a [`poll`](QueueHandle::poll) that waits, or the next one.
    pub(super) fn wake(&self) {
        // SAFETY: the queue is valid.
        unsafe { rd::rd_kafka_queue_yield(self.queue.as_ptr()) }
    }
}

/// A queue for messages that wakes a task when it is no longer empty.
pub(super) struct ArrivalQueue {
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
    pub(super) fn new(client: &Arc<Client>) -> Option<Self> {
        // SAFETY: the client is valid; the handle is ours.
        let handle = QueueHandle::wrap(client, unsafe { rd::rd_kafka_queue_new(client.raw()) })?;
        let arrived = Arc::new(Notify::new());
        let opaque = Arc::as_ptr(&arrived).cast_mut().cast();
        // SAFETY: `arrived` lives as long as the callback, see `drop`.
        unsafe {
            let queue = handle.queue.as_ptr();
            rd::rd_kafka_queue_cb_event_enable(queue, Some(wake_reader), opaque);
        }
        Some(Self { handle, arrived })
    }

    pub(super) fn arrived(&self) -> &Arc<Notify> {
        &self.arrived
    }

    pub(super) fn client(&self) -> &Arc<Client> {
        &self.handle.client
    }

    pub(super) fn len(&self) -> usize {
        // SAFETY: the queue is valid.
        unsafe { rd::rd_kafka_queue_length(self.handle.queue.as_ptr()) }
    }

    /// Moves up to `max` entries that are there into `into`, without waiting; returns how many.
    pub(super) fn take(&self, max: usize, into: &mut Vec<KafkaMessage>) -> usize {
        into.reserve(max);
        // SAFETY: a `KafkaMessage` is one pointer, and there is room for `max` of them behind the
        // last; librdkafka fills the first `count` with messages that are ours.
        unsafe {
            let room = into.spare_capacity_mut().as_mut_ptr().cast();
            let queue = self.handle.queue.as_ptr();
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
            let queue = self.handle.queue.as_ptr();
            rd::rd_kafka_queue_cb_event_enable(queue, None, ptr::null_mut());
        }
    }
}

// ---------------------------------------------------------------------------------------- events

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventKind {
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
pub(super) struct ClientEvent<'q> {
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

impl ClientEvent<'_> {
    pub(super) fn kind(&self) -> EventKind {
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

    pub(super) fn error(&self) -> Option<Code> {
        // SAFETY: the event is valid.
        Code::check(unsafe { raw::event_error(self.event.as_ptr()) })
    }

    pub(super) fn error_text(&self) -> String {
        // SAFETY: the string lives as long as the event and is copied.
        unsafe { string(rd::rd_kafka_event_error_string(self.event.as_ptr())) }
    }

    /// Of an error event: whether the client cannot go on.
    pub(super) fn is_fatal(&self) -> bool {
        // SAFETY: read only of error events, which have the field.
        self.kind() == EventKind::Error
            && unsafe { rd::rd_kafka_event_error_is_fatal(self.event.as_ptr()) != 0 }
    }

    /// Of a commit's result: the commit's id.
    pub(super) fn commit_id(&self) -> usize {
        // SAFETY: the event is valid; the opaque is a number.
        unsafe { rd::rd_kafka_event_opaque(self.event.as_ptr()) }.addr()
    }

    /// The partitions of a rebalance or a commit.
    pub(super) fn partitions(&self) -> Vec<ListEntry> {
        // SAFETY: null, or a list that lives as long as the event and is copied.
        unsafe {
            let list = rd::rd_kafka_event_topic_partition_list(self.event.as_ptr());
            NonNull::new(list).map_or_else(Vec::new, |list| list_entries(list))
        }
    }

    /// The statistics, as JSON.
    pub(super) fn statistics(&self) -> Cow<'_, str> {
        if self.kind() != EventKind::Statistics {
            return Cow::Borrowed("");
        }
        // SAFETY: a statistics event has a string that lives as long as the event.
        unsafe { CStr::from_ptr(rd::rd_kafka_event_stats(self.event.as_ptr())) }.to_string_lossy()
    }

    /// A line of the log: syslog level, facility, text.
    pub(super) fn log_line(&self) -> Option<(i32, String, String)> {
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

    /// Of delivery reports: counts down the deliveries that the messages belong to, and releases
    /// those that are finished. Returns how many reports there were.
    pub(super) fn settle_deliveries(&mut self, client: &Client) -> usize {
        if self.kind() != EventKind::Deliveries {
            return 0;
        }
        let (mut reports, mut same) = (0, 0);
        let mut last: *const Delivery = ptr::null();
        // SAFETY: each message's opaque is the delivery that `hand_over` kept alive for it. That
        // lasts until the message is counted, which happens here, after the last use of it.
        unsafe {
            loop {
                let message = rd::rd_kafka_event_message_next(self.event.as_ptr());
                if message.is_null() {
                    break;
                }
                let delivery: *const Delivery = (*message)._private.cast();
                if delivery != last {
                    settle(last, same);
                    (last, same) = (delivery, 0);
                }
                let code = (&raw const (*message).err).cast::<c_int>().read();
                if let Some(code) = Code::check(code) {
                    let topic = string(rd::rd_kafka_topic_name((*message).rkt));
                    (*delivery).fail(&topic, &client.why(code));
                }
                (reports, same) = (reports + 1, same + 1);
            }
            settle(last, same);
        }
        reports
    }
}

// ---------------------------------------------------------------------------------------- lists

/// One entry of a list of partitions.
#[derive(Debug, Clone)]
pub(super) struct ListEntry {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) error: Option<Code>,
}

/// A list of partitions for one call. It may come to hold references into the client, so it
/// borrows it.
pub(super) struct PartitionList<'c> {
    list: NonNull<rd::rd_kafka_topic_partition_list_t>,
    client: PhantomData<&'c Client>,
}

impl<'c> PartitionList<'c> {
    pub(super) fn new(_client: &'c Client) -> Option<Self> {
        // SAFETY: makes an object of ours.
        let list = NonNull::new(unsafe { rd::rd_kafka_topic_partition_list_new(0) })?;
        Some(Self { list, client: PhantomData })
    }

    pub(super) fn add(&mut self, topic: &str, partition: i32, offset: i64) {
        let topic = c_string(topic);
        // SAFETY: the list is ours; the string is copied; the new entry is valid until the next.
        unsafe {
            let list = self.list.as_ptr();
            let entry = rd::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), partition);
            (*entry).offset = offset;
        }
    }

    /// A copy of the entries, in the order in which they were added.
    pub(super) fn entries(&self) -> Vec<ListEntry> {
        // SAFETY: the list is ours.
        unsafe { list_entries(self.list) }
    }
}

impl Drop for PartitionList<'_> {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.list.as_ptr()) }
    }
}

/// # Safety
/// `list` is valid and not changed meanwhile.
unsafe fn list_entries(list: NonNull<rd::rd_kafka_topic_partition_list_t>) -> Vec<ListEntry> {
    // SAFETY: the caller's promise; a list has as many entries as it says.
    unsafe {
        let list = list.as_ptr();
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        let entries = (0..count).map(|index| (*list).elems.add(index));
        let copy = entries.map(|entry| ListEntry {
            topic: string((*entry).topic),
            partition: (*entry).partition,
            offset: (*entry).offset,
            error: Code::check((&raw const (*entry).err).cast::<c_int>().read()),
        });
        copy.collect()
    }
}

// ------------------------------------------------------------------------------ incoming messages

/// A message, or a partition's error, in librdkafka's memory. One pointer wide.
///
/// It does not hold its client, to spare an atomic count for each message: whoever holds messages
/// holds a [`Keepalive`](crate::batch::Keepalive) of their client and drops it after them.
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
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the message is valid, and changed by nobody else while the lock is held. The list
        // belongs to the message and never changes afterwards. Any error leaves it null.
        unsafe { rd::rd_kafka_message_headers(self.0.as_ptr(), &raw mut headers) };
        drop(guard);
        Headers { list: NonNull::new(headers), message: PhantomData }
    }

    /// The error, if this is not a message.
    pub(super) fn error(&self) -> Option<Code> {
        // SAFETY: the field is a C enum, which is an integer.
        Code::check(unsafe { (&raw const (*self.0.as_ptr()).err).cast::<c_int>().read() })
    }

    /// Of an error: its text.
    pub(super) fn error_text(&self) -> String {
        // SAFETY: the string lives as long as the message and is copied.
        unsafe { string(rd::rd_kafka_message_errstr(self.0.as_ptr())) }
    }

    pub(super) fn partition(&self) -> i32 {
        // SAFETY: the message is valid.
        unsafe { (*self.fields()).partition }
    }

    /// Tells topics apart among messages that live at the same time, and only among those: the
    /// number may be used again for another topic.
    pub(super) fn topic_id(&self) -> usize {
        // SAFETY: the message is valid.
        unsafe { (*self.fields()).rkt.addr() }
    }

    /// The topic's name; empty if an error belongs to none.
    pub(super) fn topic(&self) -> String {
        // SAFETY: the topic, if there is one, lives as long as the message; the name is copied.
        unsafe {
            let topic = (*self.fields()).rkt;
            if topic.is_null() { String::new() } else { string(rd::rd_kafka_topic_name(topic)) }
        }
    }
}

/// # Safety
/// `start` is null, or the start of `len` bytes that live and stay as they are for `'a`.
unsafe fn bytes<'a>(start: *const c_void, len: usize) -> Option<&'a [u8]> {
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

// ------------------------------------------------------------------------------ outgoing messages

/// A topic of a client.
pub(super) struct TopicHandle {
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
    pub(super) fn new(client: &Arc<Client>, topic: &str) -> Result<Self, Code> {
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
            return unsafe { self.enqueue_with_headers(message, opaque) };
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
    unsafe fn enqueue_with_headers(
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
        // SAFETY: the list is ours; names and values are copied into it.
        let headers = unsafe { header_list(message) };
        let (partition, timestamp) = (message.partition.unwrap_or(-1), message.timestamp);
        let arguments = [
            (Type::RD_KAFKA_VTYPE_RKT, Union { rkt: self.topic.as_ptr() }),
            (Type::RD_KAFKA_VTYPE_PARTITION, Union { i32_: partition }),
            (Type::RD_KAFKA_VTYPE_VALUE, memory(message.value)),
            (Type::RD_KAFKA_VTYPE_KEY, memory(message.key)),
            (Type::RD_KAFKA_VTYPE_OPAQUE, Union { ptr: opaque }),
            // 0 stands for "now".
            (Type::RD_KAFKA_VTYPE_TIMESTAMP, Union { i64_: timestamp.unwrap_or(0) }),
            (Type::RD_KAFKA_VTYPE_HEADERS, Union { headers }),
        ]
        .map(|(vtype, u)| rd::rd_kafka_vu_t { vtype, u });
        // SAFETY: each argument has the member that its type says; for the value, the caller's
        // promise. The headers belong to the message if it was taken, else they are still ours.
        unsafe {
            let count = arguments.len();
            let error = rd::rd_kafka_produceva(self.client.raw(), arguments.as_ptr(), count);
            let (code, _) = take_error(error).err()?;
            rd::rd_kafka_headers_destroy(headers);
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
pub(super) enum HandedOver {
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
pub(super) fn hand_over(delivery: &Arc<Delivery>, topics: &[Arc<TopicHandle>]) -> HandedOver {
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
        delivery.fail(&delivery.topics()[message.topic], &topics[message.topic].client.why(code));
        delivery.handed_over(end);
        // SAFETY: these messages are not with the client, so nobody else counts them.
        unsafe { settle(kept, end - index) };
        return HandedOver::Refused;
    }
    delivery.handed_over(end);
    HandedOver::All
}

/// Fails a delivery whose messages from [`Delivery::next`] on cannot be handed over.
pub(super) fn refuse(delivery: &Arc<Delivery>, topic: &str, reason: &str) {
    let (first, end) = (delivery.next(), delivery.len());
    delivery.fail(topic, reason);
    delivery.handed_over(end);
    if first == 0 {
        // No reference is kept for the client.
        delivery.count_down(end);
    } else {
        // SAFETY: as in `hand_over`, which kept a reference with the first message.
        unsafe { settle(Arc::as_ptr(delivery), end - first) };
    }
}

/// Counts messages of a delivery down and, with the last one, releases the client's reference.
///
/// # Safety
/// `delivery` is null with a `count` of 0, or was kept by [`hand_over`] and has at least `count`
/// messages that nobody else counts.
unsafe fn settle(delivery: *const Delivery, count: usize) {
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
