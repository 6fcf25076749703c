//! Letters: what a rejected message becomes on a dead letter topic.
//!
//! Place in the data path: behind a rejection; a letter is sent as any outgoing message is.
//!
//! A letter has the key, value, headers and timestamp of the message, and behind its headers a block of its own. The
//! block begins with `__dlq.errors.topic`; Kafka's names come first (KIP-1191), the library's and those that other
//! tools read follow. `kasper-dlq` relies on that to tell them from the message's own.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{ErrorPolicy, ProcessError};
use crate::error::{BoxError, Error, chain};
use crate::message::{Message, OutgoingMessage};

/// Texts of errors are cut to this number of bytes: a letter with all of a long one may be too large for its topic.
const LONGEST_TEXT: usize = 4096;

/// Headers that a letter has besides Kafka's and the library's own, for tools that look for other names.
///
/// Where such a tool expects a Java class, it gets the name of the error's [kind](crate::ErrorKind).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LetterHeaders {
    /// `kafka_dlt-original-topic`, `kafka_dlt-exception-message` and the like, as Spring for Apache Kafka's
    /// `DeadLetterPublishingRecoverer` writes them: partition, offset and timestamp are big-endian numbers.
    Spring,
    /// `__connect.errors.topic`, `__connect.errors.exception.message` and the like, as Kafka Connect writes them (KIP-298).
    Connect,
    /// `__streams.errors.topic`, `__streams.errors.exception` and the like, as Kafka Streams writes them (KIP-1034).
    Streams,
}

/// Why a message is rejected.
#[derive(Debug, Clone)]
pub(crate) struct Reason {
    kind: &'static str,
    message: String,
    causes: String,
    /// How often the message was given to `process`: never where it is held in a quarantine.
    deliveries: u32,
}

impl Reason {
    /// `error` is the one of the failed call, which wraps the user's.
    pub(crate) fn of(error: &Error, deliveries: u32) -> Self {
        // The call's error says in which batch, which the letter's position says better; a mark is not the reason.
        let is_mark = |error: &&(dyn StdError + 'static)| error.is::<ProcessError>();
        let causes: Vec<_> =
            error.chain().skip(1).skip_while(is_mark).map(|e| e.to_string()).collect();
        let (message, causes) = match causes.first() {
            Some(own) => (own.clone(), causes.join("\n")),
            None => (error.to_string(), error.to_string()),
        };
        let inner = error.find::<Error>().unwrap_or(error);
        Self {
            kind: inner.kind().as_str(),
            message: cut(&message).into(),
            causes: cut(&causes).into(),
            deliveries,
        }
    }

    /// The user's code rejects the message itself.
    pub(crate) fn told(reason: &BoxError, deliveries: u32) -> Self {
        let causes: Vec<String> = chain(&**reason).map(ToString::to_string).collect();
        Self {
            kind: "rejected",
            message: cut(&causes[0]).into(),
            causes: cut(&causes.join("\n")).into(),
            deliveries,
        }
    }

    /// The message is not processed: an earlier one of its key was rejected.
    pub(crate) fn held(message: String) -> Self {
        Self { kind: "quarantined", causes: message.clone(), message, deliveries: 0 }
    }

    /// Whether the message itself failed, or follows another one.
    pub(crate) fn is_held(&self) -> bool {
        self.deliveries == 0
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// With the position of the message, for a line of the log.
    pub(crate) fn at(&self, message: &Message<'_>) -> String {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        format!("{topic}/{partition} at offset {offset}: {}", self.message)
    }
}

/// At most [`LONGEST_TEXT`] bytes of it.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_TEXT)]
}

/// How a topic processor rejects messages.
pub(crate) struct LetterWriter {
    pub(crate) policy: ErrorPolicy,
    processor: Arc<str>,
    group: String,
    /// The numbers of partitions of the dead letter topics; of one that is not here a letter goes to the same number.
    partitions: BTreeMap<Arc<str>, i32>,
}

impl LetterWriter {
    pub(crate) fn new(
        policy: ErrorPolicy,
        processor: Arc<str>,
        group: String,
        partitions: BTreeMap<Arc<str>, i32>,
    ) -> Self {
        Self { policy, processor, group, partitions }
    }

    /// Of a processor that has no policy.
    #[cfg(test)]
    pub(crate) fn off() -> Arc<Self> {
        let policy = ErrorPolicy::default();
        Arc::new(Self::new(policy, "test".into(), "test".into(), BTreeMap::new()))
    }

    /// The name of the store's entry in which the held keys of a topic's partition are.
    pub(crate) fn quarantine_entry(&self, topic: &str, partition: i32) -> String {
        format!("kasper.quarantine/{}/{topic}/{partition}", self.group)
    }

    /// Where `Context::dead_letter` sends letters.
    pub(crate) fn own_topic(&self) -> Option<&Arc<str>> {
        self.policy.own_topic()
    }

    pub(crate) fn letter<'a>(
        &'a self,
        topic: &'a str,
        message: &Message<'a>,
        reason: &'a Reason,
    ) -> OutgoingMessage<'a> {
        let number = message.partition();
        let partition = self.partitions.get(topic).map_or(number, |count| number % count);
        let letter =
            OutgoingMessage::like(topic, message).value(message.value()).partition(partition);
        let letter = self.own_headers(letter, message, reason);
        let headers = self.policy.headers.iter();
        headers.fold(letter, |letter, headers| match headers {
            LetterHeaders::Spring => self.spring(letter, message, reason),
            LetterHeaders::Connect => self.connect(letter, message, reason),
            LetterHeaders::Streams => streams(letter, message, reason),
        })
    }

    fn own_headers<'a>(
        &'a self,
        letter: OutgoingMessage<'a>,
        message: &Message<'a>,
        reason: &'a Reason,
    ) -> OutgoingMessage<'a> {
        let replayed = message.header(REDRIVEN).unwrap_or(b"0");
        letter
            .header("__dlq.errors.topic", message.topic())
            .header("__dlq.errors.partition", message.partition().to_string())
            .header("__dlq.errors.offset", message.offset().to_string())
            .header("__dlq.errors.group", &self.group)
            .header("__dlq.errors.delivery.count", reason.deliveries.to_string())
            .header("__dlq.errors.message", reason.message.as_str())
            .header("kasper.error.kind", reason.kind)
            .header("kasper.error.causes", reason.causes.as_str())
            .header("kasper.error.processor", self.processor.as_bytes())
            .header("kasper.error.time", rfc3339(SystemTime::now()))
            .header("kasper.error.replayed", replayed)
    }

    fn spring<'a>(
        &'a self,
        letter: OutgoingMessage<'a>,
        message: &Message<'a>,
        reason: &'a Reason,
    ) -> OutgoingMessage<'a> {
        let timestamp = message.timestamp().unwrap_or(-1);
        letter
            .header("kafka_dlt-original-topic", message.topic())
            .header("kafka_dlt-original-partition", message.partition().to_be_bytes().to_vec())
            .header("kafka_dlt-original-offset", message.offset().get().to_be_bytes().to_vec())
            .header("kafka_dlt-original-timestamp", timestamp.to_be_bytes().to_vec())
            .header("kafka_dlt-original-consumer-group", &self.group)
            .header("kafka_dlt-exception-fqcn", reason.kind)
            .header("kafka_dlt-exception-message", reason.message.as_str())
            .header("kafka_dlt-exception-stacktrace", reason.causes.as_str())
    }

    fn connect<'a>(
        &'a self,
        letter: OutgoingMessage<'a>,
        message: &Message<'a>,
        reason: &'a Reason,
    ) -> OutgoingMessage<'a> {
        letter
            .header("__connect.errors.topic", message.topic())
            .header("__connect.errors.partition", message.partition().to_string())
            .header("__connect.errors.offset", message.offset().to_string())
            .header("__connect.errors.connector.name", self.processor.as_bytes())
            .header("__connect.errors.task.id", message.partition().to_string())
            .header("__connect.errors.stage", "TASK_PUT")
            .header("__connect.errors.class.name", "kasper")
            .header("__connect.errors.exception.class.name", reason.kind)
            .header("__connect.errors.exception.message", reason.message.as_str())
            .header("__connect.errors.exception.stacktrace", reason.causes.as_str())
    }
}

fn streams<'a>(
    letter: OutgoingMessage<'a>,
    message: &Message<'a>,
    reason: &'a Reason,
) -> OutgoingMessage<'a> {
    letter
        .header("__streams.errors.exception", reason.kind)
        .header("__streams.errors.stacktrace", reason.causes.as_str())
        .header("__streams.errors.message", reason.message.as_str())
        .header("__streams.errors.topic", message.topic())
        .header("__streams.errors.partition", message.partition().to_string())
        .header("__streams.errors.offset", message.offset().to_string())
}

/// How often a message was replayed from a dead letter topic; `kasper-dlq` sets it.
const REDRIVEN: &str = "kasper.redriven";

/// As in `2026-12-01T03:33:22.123Z`. A clock beyond the year 9999 is shown as its last moment.
fn rfc3339(time: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_millis(time.min(last)).to_string()
}
