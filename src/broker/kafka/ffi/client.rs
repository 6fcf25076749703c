//! The client itself, and what it is asked for.

use std::ffi::{c_char, c_int};
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;

use super::configuration::{CreateError, Role, configuration, value_of};
use super::{
    Code, Known, PartitionList, QueueHandle, TopicHandle, c_string, milliseconds, raw, string,
    take_error,
};

/// What comes of the question how many partitions a topic has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Partitions(usize),
    /// The cluster's error for the topic.
    Refused(Code),
    /// No broker has answered, for this reason.
    NoAnswer(Code),
}

/// A librdkafka client. Whatever points into it holds an `Arc` of it.
///
/// Dropping the last `Arc` never blocks: the client is destroyed on a thread of its own.
pub(crate) struct Client {
    handle: ManuallyDrop<ClientHandle>,
    created: Instant,
    /// The assignment was seen to be lost, and is not given back yet.
    seen_lost: AtomicBool,
}

struct ClientHandle {
    client: NonNull<rd::rd_kafka_t>,
    /// Lets a test see the end, which nobody waits for.
    #[cfg(test)]
    destroyed: Arc<AtomicBool>,
}

// SAFETY: librdkafka's client may be used from all threads at once; its own locks see to it.
unsafe impl Send for ClientHandle {}
// SAFETY: as above.
unsafe impl Sync for ClientHandle {}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once. No handle into the client is left: each holds an
        // `Arc<Client>`, and the handle is dropped with the last of those.
        unsafe { rd::rd_kafka_destroy(self.client.as_ptr()) };
        #[cfg(test)]
        self.destroyed.store(true, Ordering::Release);
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
    pub(crate) fn create(
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
        let handle = ManuallyDrop::new(ClientHandle {
            client,
            #[cfg(test)]
            destroyed: Arc::default(),
        });
        Ok(Arc::new(Self { handle, created, seen_lost: AtomicBool::new(false) }))
    }

    pub(super) fn raw(&self) -> *mut rd::rd_kafka_t {
        self.handle.client.as_ptr()
    }

    /// Becomes true when the client is destroyed.
    #[cfg(test)]
    pub(crate) fn destroyed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.handle.destroyed)
    }

    #[cfg(test)]
    pub(crate) fn raise_fatal_error(&self) {
        let code = Known::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        // SAFETY: the client is valid, the string is copied.
        unsafe { rd::rd_kafka_test_fatal_error(self.raw(), code, c"a test".as_ptr()) };
    }

    /// A time just before the client began to count its age.
    pub(crate) fn created(&self) -> Instant {
        self.created
    }

    /// Joins the group.
    pub(crate) fn subscribe(&self, topics: &PartitionList<'_>) -> Result<(), Code> {
        // SAFETY: client and list are valid; the list is copied.
        Code::check(unsafe { raw::subscribe(self.raw(), topics.raw()) })
    }

    /// Has the group left as soon as everything is given back. Blocks until librdkafka's main thread has heard it, so
    /// not while the group ends or after it.
    pub(crate) fn unsubscribe(&self) -> Result<(), Code> {
        // SAFETY: the client is valid.
        Code::check(unsafe { raw::unsubscribe(self.raw()) })
    }

    /// Replaces the assignment.
    pub(crate) fn assign(&self, partitions: &PartitionList<'_>) -> Result<(), Code> {
        // SAFETY: as in `subscribe`.
        Code::check(unsafe { raw::assign(self.raw(), partitions.raw()) })
    }

    /// Ends the whole assignment.
    pub(crate) fn unassign(&self) -> Result<(), Code> {
        // SAFETY: null stands for "unassign".
        Code::check(unsafe { raw::assign(self.raw(), ptr::null()) })
    }

    pub(crate) fn incremental_assign(
        &self,
        list: &PartitionList<'_>,
    ) -> Result<(), (Code, String)> {
        // SAFETY: as in `subscribe`; the error object, if any, is ours.
        take_error(unsafe { rd::rd_kafka_incremental_assign(self.raw(), list.raw()) })
    }

    pub(crate) fn incremental_unassign(
        &self,
        list: &PartitionList<'_>,
    ) -> Result<(), (Code, String)> {
        // SAFETY: as in `incremental_assign`.
        take_error(unsafe { rd::rd_kafka_incremental_unassign(self.raw(), list.raw()) })
    }

    /// Whether the group changes assignments by parts (KIP-848, cooperative-sticky).
    pub(crate) fn is_cooperative(&self) -> bool {
        // SAFETY: returns a static string, or null.
        let protocol = unsafe { string(rd::rd_kafka_rebalance_protocol(self.raw())) };
        protocol == "COOPERATIVE"
    }

    /// Whether the assignment was lost, until [`given_back`](Client::given_back).
    ///
    /// librdkafka forgets it with every call of its `assign`, such as the empty one that has to
    /// answer a lost assignment; then the revocation that follows would look like an orderly one. So
    /// whoever is about to call `assign` asks here first, and it is remembered.
    pub(crate) fn assignment_lost(&self) -> bool {
        // SAFETY: reads a flag.
        if unsafe { rd::rd_kafka_assignment_lost(self.raw()) != 0 } {
            self.seen_lost.store(true, Ordering::Release);
        }
        self.seen_lost.load(Ordering::Acquire)
    }

    /// A revocation has been answered.
    pub(crate) fn given_back(&self) {
        self.seen_lost.store(false, Ordering::Release);
    }

    /// Sends a commit; its result comes as an event with this `id` on `replies`.
    pub(crate) fn commit(
        &self,
        offsets: &PartitionList<'_>,
        replies: &QueueHandle,
        id: usize,
    ) -> Result<(), Code> {
        // SAFETY: all are valid; the list is copied; the opaque is a number that nobody follows.
        let code = unsafe {
            rd::rd_kafka_commit_queue(
                self.raw(),
                offsets.raw(),
                replies.raw(),
                None,
                ptr::without_provenance_mut(id),
            )
        };
        Code::check(code as c_int)
    }

    /// Fills in committed offsets. Blocks.
    pub(crate) fn committed(
        &self,
        list: &mut PartitionList<'_>,
        timeout: Duration,
    ) -> Result<(), Code> {
        let timeout = milliseconds(timeout);
        // SAFETY: the list is valid and borrowed alone.
        let code = unsafe { raw::committed(self.raw(), list.raw(), timeout) };
        Code::check(code)
    }

    /// Moves the fetch positions. Blocks. Errors of single partitions are in the list.
    pub(crate) fn seek(
        &self,
        list: &mut PartitionList<'_>,
        timeout: Duration,
    ) -> Result<(), (Code, String)> {
        let timeout = milliseconds(timeout);
        // SAFETY: as in `committed`.
        take_error(unsafe { rd::rd_kafka_seek_partitions(self.raw(), list.raw(), timeout) })
    }

    /// Begins to leave the group; events go on coming on `queue` until [`closed`](Client::closed).
    pub(crate) fn close(&self, queue: &QueueHandle) -> Result<(), (Code, String)> {
        // SAFETY: both are valid.
        take_error(unsafe { rd::rd_kafka_consumer_close_queue(self.raw(), queue.raw()) })
    }

    pub(crate) fn closed(&self) -> bool {
        // SAFETY: reads a flag.
        unsafe { rd::rd_kafka_consumer_closed(self.raw()) != 0 }
    }

    /// Sends what comes on the main queue (log, errors, statistics) to the consumer queue.
    pub(crate) fn poll_set_consumer(&self) {
        // SAFETY: the client is valid; the error says "no consumer", which nothing follows from.
        unsafe { rd::rd_kafka_poll_set_consumer(self.raw()) };
    }

    /// Why the client cannot go on.
    pub(crate) fn fatal_error(&self) -> Option<(Code, String)> {
        let mut text: [c_char; 512] = [0; 512];
        // SAFETY: the buffer is as long as said; a string is written when there is an error.
        unsafe {
            let code = Code::of(raw::fatal_error(self.raw(), text.as_mut_ptr(), text.len()))?;
            Some((code, string(text.as_ptr())))
        }
    }

    /// Why the client takes no message any more, if it doesn't: what is purged or refused after a fatal error
    /// fails for that error's reason.
    pub(super) fn fatal_text(&self) -> Option<String> {
        self.fatal_error().map(|(_, text)| text)
    }

    /// The value of one of the client's properties; empty if it is not set.
    pub(crate) fn property(&self, name: &str) -> String {
        // SAFETY: the client is valid, and its configuration never changes.
        unsafe { value_of(rd::rd_kafka_conf(self.raw()), name) }
    }

    /// Fails all messages of a producer, queued and under way. Blocks until the client knows.
    pub(crate) fn purge(&self) {
        let all = rd::RD_KAFKA_PURGE_F_QUEUE | rd::RD_KAFKA_PURGE_F_INFLIGHT;
        // SAFETY: the client is valid.
        unsafe { rd::rd_kafka_purge(self.raw(), all) };
    }

    /// Messages without a report that was seen, and events not yet polled.
    pub(crate) fn outstanding(&self) -> usize {
        // SAFETY: reads counters.
        usize::try_from(unsafe { rd::rd_kafka_outq_len(self.raw()) }).unwrap_or(0)
    }

    /// How many partitions a topic has. Blocks.
    pub(crate) fn partition_count(&self, topic: &TopicHandle, timeout: Duration) -> Counted {
        let mut metadata = ptr::null();
        // SAFETY: client and topic are valid; on success `metadata` is ours and freed below, after
        // it was read within the count it gives.
        unsafe {
            let (topic, timeout) = (topic.raw(), milliseconds(timeout));
            let code = raw::metadata(self.raw(), 0, topic, &raw mut metadata, timeout);
            if let Some(code) = Code::of(code) {
                return Counted::NoAnswer(code);
            }
            let answer = if (*metadata).topic_cnt < 1 {
                Counted::Refused(Known::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART.into())
            } else {
                let topic = (*metadata).topics;
                let code = (&raw const (*topic).err).cast::<c_int>().read();
                let count = usize::try_from((*topic).partition_cnt).unwrap_or(0);
                Code::of(code).map_or(Counted::Partitions(count), Counted::Refused)
            };
            rd::rd_kafka_metadata_destroy(metadata);
            answer
        }
    }

    /// Gives the client a token to authenticate with. `lifetime` is its end in milliseconds since
    /// 1970.
    pub(crate) fn set_token(
        &self,
        token: &str,
        lifetime: i64,
        principal: &str,
        extensions: &[(String, String)],
    ) -> Result<(), String> {
        let (token, principal) = (c_string(token), c_string(principal));
        let parts = extensions.iter().flat_map(|(name, value)| [c_string(name), c_string(value)]);
        let parts: Vec<std::ffi::CString> = parts.collect();
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
        match Code::of(code as c_int) {
            None => Ok(()),
            // SAFETY: on an error a string has been written.
            Some(_) => Err(unsafe { string(text.as_ptr()) }),
        }
    }

    /// Tells the client that there is no token; it asks again after a while.
    pub(crate) fn set_token_failure(&self, reason: &str) {
        let reason = c_string(reason);
        // SAFETY: the string is copied.
        unsafe { rd::rd_kafka_oauthbearer_set_token_failure(self.raw(), reason.as_ptr()) };
    }
}
