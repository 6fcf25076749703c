//! What exists on the cluster: a client for the one question that is asked before everything else, and
//! what the consumer's client asks about its topics while it runs.
//!
//! Place in the data path: before it, at `build`, and beside it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use tracing::debug;

use super::control::POLL;
use super::errors;
use super::ffi::{
    Client, ClientEvent, Code, Counted, EventKind, Known, QueueHandle, Role, TopicHandle,
};
use super::log;
use super::offsets::blocking;
use super::token::{self, TokenProvider};
use super::{create_client, main_queue, spawn};
use crate::broker::TopicState;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::Mutex;

/// How long the other brokers have to answer when one has refused this client.
const OTHERS: Duration = Duration::from_secs(1);

/// How long the brokers have to say how the topics are.
const STATES: Duration = Duration::from_secs(5);

/// A topic and its number of partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicMetadata {
    pub(crate) topic: String,
    /// 0: there is no such topic.
    pub(crate) partitions: usize,
}

/// Asks for topics. Dropping it blocks nobody.
pub(crate) struct MetadataClient {
    client: Arc<Client>,
    brokers: String,
    shared: Arc<MetadataShared>,
    queue: Arc<QueueHandle>,
}

#[derive(Default)]
struct MetadataShared {
    over: AtomicBool,
    trouble: Mutex<Trouble>,
    /// The user's provider was called and has not returned.
    awaits_token: AtomicBool,
}

/// Why no broker answers, which the answer to a question does not say.
#[derive(Default)]
struct Trouble {
    error: Option<(Code, String)>,
    /// When a broker first refused this client, or it the broker.
    refused: Option<Instant>,
    /// librdkafka takes a connection that is closed for nothing worth an error. But a broker that is
    /// spoken to in the wrong protocol closes it, and the log tells.
    closed: Option<String>,
}

impl fmt::Debug for MetadataClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataClient").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

impl MetadataClient {
    /// # Errors
    /// A property is refused, or there are no more threads.
    pub(crate) fn new(
        properties: &[(String, String)],
        token_provider: Option<TokenProvider>,
    ) -> Result<Self> {
        let brokers = properties.iter().rfind(|(name, _)| name == "bootstrap.servers");
        let brokers = brokers.map(|(_, value)| value.clone()).unwrap_or_default();
        let client = create_client(Role::Consumer, properties.to_vec())?;
        let queue = main_queue(&client)?;
        let shared = Arc::new(MetadataShared::default());
        let token_provider = token_provider.map(|provider| watched(provider, &shared));
        let polled = (Arc::clone(&queue), Arc::clone(&shared));
        spawn("kasper-metadata", move || {
            let (queue, shared) = polled;
            while !shared.over.load(Ordering::Acquire) {
                if let Some(event) = queue.poll(POLL) {
                    shared.handle(&event, queue.client(), token_provider.as_ref());
                }
            }
        })?;
        Ok(Self { client, brokers, shared, queue })
    }

    /// The topics, in the order asked for.
    ///
    /// # Errors
    /// No broker answers in time, or it refuses to.
    pub(crate) async fn topics<T: AsRef<str>>(
        &self,
        topics: &[T],
        timeout: Duration,
    ) -> Result<Vec<TopicMetadata>> {
        let topics: Vec<String> = topics.iter().map(|topic| topic.as_ref().to_owned()).collect();
        let client = Arc::clone(&self.client);
        let (shared, brokers) = (Arc::clone(&self.shared), self.brokers.clone());
        blocking(move || {
            let end = Instant::now() + timeout;
            topics.into_iter().map(|topic| shared.ask(&client, topic, end, &brokers)).collect()
        })
        .await
    }
}

/// How the cluster has these topics now. Blocks.
///
/// # Errors
/// No broker answers in time.
pub(super) fn topic_states(client: &Arc<Client>, topics: &[Arc<str>]) -> Result<Vec<TopicState>> {
    let described = client.describe_topics(topics, STATES);
    let described = described
        .map_err(|(code, text)| errors::error(code, text).with("operation", "describe_topics"))?;
    let state = |topic: &Arc<str>| {
        let found = described.iter().find(|described| *described.topic == **topic);
        match found.map(|described| &described.state) {
            Some(Ok((id, partitions))) => {
                TopicState::Exists { id: id.clone(), partitions: *partitions }
            }
            Some(Err(code)) if errors::kind(*code) == ErrorKind::UnknownTopic => {
                TopicState::Missing
            }
            Some(Err(code)) => {
                debug!(%topic, code = code.name(), "the cluster does not say how the topic is");
                TopicState::Unknown
            }
            None => TopicState::Unknown,
        }
    };
    Ok(topics.iter().map(state).collect())
}

impl Trouble {
    /// "All brokers are down" says less than what each of them said before, and a refusal says most.
    fn note(&mut self, code: Code, text: String) {
        let refuses = errors::kind_of(code, &text) == ErrorKind::Unauthorized;
        if refuses {
            self.refused.get_or_insert_with(Instant::now);
        }
        let all = code.is(Known::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN);
        if refuses || (self.refused.is_none() && !all) {
            self.error = Some((code, text));
        }
    }
}

impl MetadataShared {
    fn handle(&self, event: &ClientEvent<'_>, client: &Arc<Client>, token: Option<&TokenProvider>) {
        match event.kind() {
            EventKind::Log => {
                log::log("metadata", event);
                let line = event.log_line().filter(|(_, facility, _)| facility == "FAIL");
                if let Some((_, _, text)) = line {
                    // Without the thread's name, which stands in brackets.
                    let text = text.split_once("]: ").map_or(&*text, |(_, text)| text);
                    self.trouble().closed = Some(text.to_owned());
                }
            }
            EventKind::TokenRefresh => token::refresh(client, token),
            EventKind::Error => {
                let Some(code) = event.error() else { return };
                self.trouble().note(code, event.error_text());
            }
            _ => {}
        }
    }

    /// What went wrong since the last answer.
    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock()
    }

    fn ask(
        &self,
        client: &Arc<Client>,
        topic: String,
        end: Instant,
        brokers: &str,
    ) -> Result<TopicMetadata> {
        let handle = TopicHandle::new(client, &topic)
            .map_err(|code| errors::plain(code).with("topic", &topic))?;
        let handle = Arc::new(handle);
        let mut counted = Counted::NoAnswer(Known::RD_KAFKA_RESP_ERR__TIMED_OUT.into());
        // librdkafka gives up before the time is over where a broker refuses the connection.
        while let Counted::NoAnswer(_) = counted {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_refused() {
                break;
            }
            counted = self.partition_count(client, &handle, left)?;
        }
        let answer = match counted {
            Counted::NoAnswer(code) => return Err(self.unavailable(code, brokers)),
            Counted::Partitions(partitions) => Ok(TopicMetadata { topic, partitions }),
            Counted::Refused(code) if errors::kind(code) == ErrorKind::UnknownTopic => {
                Ok(TopicMetadata { topic, partitions: 0 })
            }
            Counted::Refused(code) => Err(errors::plain(code).with("topic", topic)),
        };
        *self.trouble() = Trouble::default();
        answer
    }

    /// The answer to one question. Asked from a thread of its own: librdkafka would wait for the
    /// whole time though the brokers have refused this client, and nobody need wait with it.
    fn partition_count(
        &self,
        client: &Arc<Client>,
        topic: &Arc<TopicHandle>,
        timeout: Duration,
    ) -> Result<Counted> {
        let (sender, receiver) = mpsc::channel();
        let (client, topic) = (Arc::clone(client), Arc::clone(topic));
        spawn("kasper-question", move || {
            // Nobody may be left who wants to know.
            let _ = sender.send(client.partition_count(&topic, timeout));
        })?;
        loop {
            match receiver.recv_timeout(POLL) {
                Ok(counted) => return Ok(counted),
                Err(mpsc::RecvTimeoutError::Timeout) if !self.is_refused() => {}
                Err(_) => {
                    return Ok(Counted::NoAnswer(Known::RD_KAFKA_RESP_ERR__TIMED_OUT.into()));
                }
            }
        }
    }

    /// Whether the brokers refuse this client, or it them: no use waiting for another answer.
    fn is_refused(&self) -> bool {
        self.trouble().refused.is_some_and(|since| since.elapsed() >= OTHERS)
    }

    fn unavailable(&self, code: Code, brokers: &str) -> Error {
        let mut trouble = self.trouble();
        let (code, text) = match (trouble.error.take(), trouble.closed.take()) {
            (Some((code, text)), _) => (code, text),
            (None, _) if self.awaits_token.load(Ordering::Acquire) => {
                (code, "the token provider has not returned".to_owned())
            }
            (None, Some(text)) => (
                code,
                format!("{text}; does `security.protocol` fit what the broker expects there?"),
            ),
            (None, None) => (code, code.text()),
        };
        let kind = match errors::kind_of(code, &text) {
            ErrorKind::Unauthorized => ErrorKind::Unauthorized,
            _ => ErrorKind::Unavailable,
        };
        let error = Error::new(kind, text).with("code", code.name());
        let error = error.with("bootstrap.servers", brokers);
        if kind == ErrorKind::Unavailable { error.retryable() } else { error }
    }
}

/// The same provider, of which is known whether it is being waited for.
fn watched(provider: TokenProvider, shared: &Arc<MetadataShared>) -> TokenProvider {
    let shared = Arc::clone(shared);
    Arc::new(move || {
        shared.awaits_token.store(true, Ordering::Release);
        let token = provider();
        shared.awaits_token.store(false, Ordering::Release);
        token
    })
}

impl Drop for MetadataClient {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        self.queue.wake();
    }
}
