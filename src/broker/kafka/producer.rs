//! The producer: hands deliveries to librdkafka, and counts its reports.
//!
//! Place in the data path: its end. What is counted down here lets a batch be committed.
//!
//! Values are not copied: librdkafka reads them from the [`Delivery`], which `ffi` keeps alive until
//! the report of its last message. So every message must get its report, whatever happens: when the
//! producer is dropped, its thread purges what is left and counts until nothing is.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::control::POLL;
use super::errors;
use super::ffi::{
    self, Client, ClientEvent, EventKind, HandedOver, QueueHandle, Role, TopicHandle,
};
use super::log::{self, Repetitions};
use super::token::{self, TokenProvider};
use super::{create_client, main_queue, spawn};
use crate::broker::{Handover, Producer};
use crate::error::Result;
use crate::lock::Mutex;
use crate::message::delivery::Delivery;
use futures_util::future::BoxFuture;

/// A wake-up for room is not stored: one may come between the look at the full queue and the wait.
const ROOM_SAFETY_NET: Duration = Duration::from_millis(10);

/// A producer of librdkafka's. Dropping it blocks nobody; what is not delivered by then fails.
pub(crate) struct KafkaProducer {
    client: Arc<Client>,
    queue: Arc<QueueHandle>,
    topics: Mutex<HashMap<Arc<str>, Arc<TopicHandle>>>,
    shared: Arc<ProducerShared>,
}

#[derive(Default)]
struct ProducerShared {
    over: AtomicBool,
    room: Notify,
}

impl fmt::Debug for KafkaProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaProducer").finish_non_exhaustive()
    }
}

impl KafkaProducer {
    /// # Errors
    /// A property is refused, or there are no more threads.
    pub(super) fn new(
        properties: Vec<(String, String)>,
        token_provider: Option<TokenProvider>,
    ) -> Result<Self> {
        let client = create_client(Role::Producer, properties)?;
        let queue = main_queue(&client)?;
        let shared = Arc::new(ProducerShared::default());
        let reports = Reports {
            client: Arc::clone(&client),
            queue: Arc::clone(&queue),
            shared: Arc::clone(&shared),
            token_provider,
            repetitions: Repetitions::default(),
        };
        spawn("kasper-producer", move || reports.run())?;
        Ok(Self { client, queue, topics: Mutex::default(), shared })
    }

    #[cfg(test)]
    pub(super) fn raise_fatal_error(&self) {
        self.client.raise_fatal_error();
    }

    /// Handles for all topics of a delivery: once a delivery, not once a message.
    fn handles(&self, delivery: &Delivery) -> Result<Vec<Arc<TopicHandle>>, (usize, ffi::Code)> {
        let mut known = self.topics.lock();
        let topics = delivery.topics().iter().enumerate();
        let handles = topics.map(|(index, topic)| {
            if let Some(handle) = known.get(topic) {
                return Ok(Arc::clone(handle));
            }
            let handle = TopicHandle::new(&self.client, topic).map_err(|code| (index, code))?;
            let handle = Arc::new(handle);
            known.insert(Arc::clone(topic), Arc::clone(&handle));
            Ok(handle)
        });
        handles.collect()
    }
}

impl Producer for KafkaProducer {
    fn produce(&self, delivery: &Arc<Delivery>) -> Handover {
        let handles = match self.handles(delivery) {
            Ok(handles) => handles,
            Err((topic, code)) => {
                let reason =
                    format!("librdkafka does not accept the topic's name: {}", code.text());
                ffi::refuse(delivery, &delivery.topics()[topic], &reason);
                return Handover::Complete;
            }
        };
        match ffi::hand_over(delivery, &handles) {
            HandedOver::All | HandedOver::Refused => Handover::Complete,
            HandedOver::QueueFull => Handover::QueueFull,
        }
    }

    fn abandon(&self, delivery: &Arc<Delivery>) {
        ffi::refuse(delivery, "", "the batch was abandoned before all its messages were sent");
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // Over the time or not: the caller looks again.
            let _ = timeout(ROOM_SAFETY_NET, self.shared.room.notified()).await;
        })
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        self.queue.wake();
    }
}

/// The thread that counts delivery reports.
struct Reports {
    client: Arc<Client>,
    queue: Arc<QueueHandle>,
    shared: Arc<ProducerShared>,
    token_provider: Option<TokenProvider>,
    repetitions: Repetitions,
}

impl Reports {
    fn run(mut self) {
        while !self.shared.over.load(Ordering::Acquire) {
            self.serve();
        }
        // Nobody produces any more. Destroying the client would drop its messages without a report,
        // and their deliveries would never end.
        while self.client.outstanding() > 0 {
            self.client.purge();
            self.serve();
        }
    }

    fn serve(&mut self) {
        let queue = Arc::clone(&self.queue);
        if let Some(mut event) = queue.poll(POLL) {
            self.handle(&mut event);
        }
    }

    fn handle(&mut self, event: &mut ClientEvent<'_>) {
        match event.kind() {
            EventKind::Deliveries => {
                event.settle_deliveries(&self.client);
                self.shared.room.notify_waiters();
            }
            EventKind::Log => log::log("producer", event),
            EventKind::TokenRefresh => token::refresh(&self.client, self.token_provider.as_ref()),
            EventKind::Error => self.error(event),
            _ => {}
        }
    }

    fn error(&mut self, event: &ClientEvent<'_>) {
        let Some(code) = event.error() else { return };
        if event.is_fatal() {
            // librdkafka sends nothing any more, and waits for the messages' own time-outs, of which
            // there may be none. Purged, they get their reports now.
            tracing::error!(
                code = code.name(),
                "the Kafka producer failed for good, and all its messages with it: {}",
                event.error_text()
            );
            self.client.purge();
        } else if self.shared.over.load(Ordering::Acquire) {
            // Nobody produces any more. The brokers may be gone too, as at the end of a test, and a warning then would
            // come after the processor's last word.
        } else if self.repetitions.is_new(code, Instant::now()) {
            let error = errors::warning(code, event.error_text());
            tracing::warn!(?error, "the Kafka producer reports an error and keeps trying");
        }
    }
}
