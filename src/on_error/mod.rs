//! [`ErrorPolicy`]: what happens when `process` fails.
//!
//! Place in the data path: behind a failed call. The lane asks the policy for a [`Verdict`] on each error
//! (`pipeline/recovery.rs`), and does as it says: call again, reject a message, or stop.

mod circuit;
mod letter;
mod process_error;
mod quarantine;
mod verdict;

use std::fmt;
use std::sync::Arc;

pub use self::circuit::Circuit;
pub(crate) use self::circuit::CircuitState;
pub use self::letter::LetterHeaders;
pub(crate) use self::letter::{LetterWriter, Reason};
pub use self::process_error::ProcessError;
pub use self::quarantine::Quarantine;
pub(crate) use self::verdict::{Budget, Verdict};
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};

/// What happens after an error: stop, or first call again; then stop, or reject the message that fails.
///
/// ```
/// use kasper::{Backoff, OnError};
///
/// let stop = OnError::stop();
/// let retry = OnError::retry(Backoff::new().max_retries(5));
/// let reject = OnError::dead_letter("orders-dead");
/// let both = OnError::retry(Backoff::new().max_retries(2)).then_dead_letter("orders-dead");
/// # let _ = (stop, retry, reject, both);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct OnError {
    retries: Option<Backoff>,
    then: Then,
}

/// What happens when the budget of retries is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Then {
    Stop,
    /// The messages that fail go to this topic.
    DeadLetter(Arc<str>),
    Skip,
}

impl OnError {
    /// The topic processor stops with the error. The default: nothing is lost, and a person decides.
    pub fn stop() -> Self {
        Self { retries: None, then: Then::Stop }
    }

    /// The batch is processed again, with waits between the calls; when the budget is used up, the topic processor
    /// stops. The other partitions continue meanwhile.
    pub fn retry(backoff: Backoff) -> Self {
        Self { retries: Some(backoff), then: Then::Stop }
    }

    /// The message that fails is sent to this topic, as a *letter*; the others of its batch are processed.
    ///
    /// To find it, the batch is divided in halves until the message that fails stands alone. That takes at most
    /// 2 · log2(n) + 2 calls for one message among n. Where the error names the message
    /// ([`ProcessError::poison`], or an error of kind [`Decode`](ErrorKind::Decode) from
    /// [`Message::decode`](crate::Message::decode) and its relatives), it takes one or two.
    ///
    /// Errors that are [retryable](Error::is_retryable) never lead to a letter: see [`ErrorPolicy`].
    pub fn dead_letter(topic: impl Into<String>) -> Self {
        Self::stop().then_dead_letter(topic)
    }

    /// As [`dead_letter`](Self::dead_letter), without a letter: the message is lost. Its position is logged as a
    /// warning, and counted.
    pub fn skip() -> Self {
        Self::stop().then_skip()
    }

    /// When the budget is used up, the message that fails is sent to this topic.
    pub fn then_dead_letter(self, topic: impl Into<String>) -> Self {
        Self { then: Then::DeadLetter(topic.into().into()), ..self }
    }

    /// When the budget is used up, the message that fails is skipped.
    pub fn then_skip(self) -> Self {
        Self { then: Then::Skip, ..self }
    }

    fn topic(&self) -> Option<&Arc<str>> {
        match &self.then {
            Then::DeadLetter(topic) => Some(topic),
            Then::Stop | Then::Skip => None,
        }
    }
}

type Predicate = Arc<dyn Fn(&Error) -> bool + Send + Sync>;

/// Which errors a rule is for.
#[derive(Clone)]
enum Matches {
    Kind(ErrorKind),
    If(Predicate),
}

impl Matches {
    fn matches(&self, error: &Error) -> bool {
        match self {
            Self::Kind(kind) => error.has_kind(*kind),
            Self::If(predicate) => predicate(error),
        }
    }
}

/// What happens when `process` returns an error or panics; set with `Builder::on_error`.
///
/// Without a policy, the topic processor stops at the first error. A policy says, for each kind of error, whether the
/// batch is processed again and what then: stop, or reject the message that fails.
///
/// # Which errors are which
/// - A **retryable** error may go away by itself: a store or a broker is not reachable. It is one of the library's errors
///   that [says so](Error::is_retryable), or one that you mark with [`ProcessError::retryable`]. The batch is processed
///   again until the [backoff for such errors](Self::retryable) is used up, and then the topic processor *stops*. It never
///   leads to a dead letter or a skip, so an outage of the store does not empty a topic into the dead letters.
/// - A **fatal** error, [`ProcessError::fatal`], stops the topic processor at once.
/// - Every **other** error, and a panic, does what the first rule says that matches it ([`of_kind`](Self::of_kind),
///   [`matching`](Self::matching)), or else what the policy was made with.
///
/// The marks are found through the whole chain of causes; the outermost one counts, before any rule. After a panic the factory
/// makes a fresh processor; after an error, the same processor gets the batch again.
///
/// # What stays true
/// Batches of a partition are processed in order: while one is tried again, later ones wait; other partitions continue.
/// A message is never dropped, except by [`OnError::skip`]: its offset is committed when it was processed, or when its
/// letter is acknowledged. What a failed call had put into the [`Context`](crate::Context) is discarded, except what was
/// flushed.
///
/// ```
/// use std::time::Duration;
///
/// use kasper::testkit::{ProcessorTester, TestMessage};
/// use kasper::{Batch, BoxError, Context, ErrorPolicy, OnError, OutgoingMessage, Processor};
///
/// struct Totals;
///
/// impl Processor for Totals {
///     async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
///         for message in batch.iter() {
///             let amount: u64 = message.key_str()?.parse()?;
///             context.send(OutgoingMessage::new("totals").value(amount.to_string()));
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kasper::Result<()> {
/// let policy = ErrorPolicy::new(OnError::dead_letter("orders-dead"));
/// let mut tester = ProcessorTester::new(["orders"], |_| Totals).on_error(policy);
/// for key in ["1", "two", "3"] {
///     tester.push(TestMessage::new("orders").key(key));
/// }
/// tester.run_all().await?;
/// let topics: Vec<_> = tester.outgoing().into_iter().map(|message| message.topic).collect();
/// assert_eq!(topics, ["totals", "totals", "orders-dead"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct ErrorPolicy {
    rules: Vec<(Matches, OnError)>,
    otherwise: OnError,
    retryable: Option<Backoff>,
    circuit: Circuit,
    headers: Vec<LetterHeaders>,
    topic: Option<Arc<str>>,
    undeliverable: OnError,
    quarantine: Option<Quarantine>,
}

impl Default for ErrorPolicy {
    fn default() -> Self {
        Self::new(OnError::stop())
    }
}

impl From<OnError> for ErrorPolicy {
    fn from(otherwise: OnError) -> Self {
        Self::new(otherwise)
    }
}

impl ErrorPolicy {
    /// A policy that does this after every error that is not retryable.
    pub fn new(otherwise: OnError) -> Self {
        Self {
            rules: Vec::new(),
            otherwise,
            retryable: None,
            circuit: Circuit::default(),
            headers: Vec::new(),
            topic: None,
            undeliverable: OnError::stop(),
            quarantine: None,
        }
    }

    /// What happens when an *outgoing* message cannot be produced because of what it is: it is larger than the client,
    /// the topic or the broker allows, or the broker refuses the record. Default: stop.
    ///
    /// With [`OnError::dead_letter`] or [`OnError::skip`], the incoming messages that it was
    /// [made from](crate::OutgoingMessage::caused_by) are rejected. The partition goes back to the first message that is not
    /// finished for that, so what was in flight is processed and sent once more. If nothing says what the message was
    /// made from, its batch is divided until the incoming message is found whose output is refused; the acks of each part are awaited.
    /// Retries have no meaning here.
    ///
    /// Brokers that are away, a topic that is missing or a right are no fault of a message: then the topic processor
    /// stops, as without this setting. It also does where a `tick` or `closing` has sent the message.
    pub fn undeliverable(mut self, action: OnError) -> Self {
        self.undeliverable = action;
        self
    }

    /// What happens after an error of this kind. The kind is looked for in all of the library's errors in the chain of
    /// causes: [`Process`](ErrorKind::Process) matches every error that `process` returns,
    /// [`Decode`](ErrorKind::Decode) one that came of [`Message::decode`](crate::Message::decode),
    /// [`Panic`](ErrorKind::Panic) a panic. Of several rules, the first that matches counts.
    ///
    /// ```
    /// use kasper::{ErrorKind, ErrorPolicy, OnError};
    ///
    /// let policy = ErrorPolicy::new(OnError::stop()).of_kind(ErrorKind::Decode, OnError::dead_letter("malformed"));
    /// # let _ = policy;
    /// ```
    pub fn of_kind(mut self, kind: ErrorKind, action: OnError) -> Self {
        self.rules.push((Matches::Kind(kind), action));
        self
    }

    /// What happens after an error for which this is true. The error is of kind [`Process`](ErrorKind::Process) or
    /// [`Panic`](ErrorKind::Panic), with yours as its source: find it with [`Error::find`]. The predicate is called
    /// in the task of the partition: don't block. If it panics, the topic processor stops.
    ///
    /// ```
    /// use kasper::{ErrorPolicy, OnError};
    ///
    /// let policy = ErrorPolicy::new(OnError::stop())
    ///     .matching(|error| error.find::<std::num::ParseIntError>().is_some(), OnError::skip());
    /// # let _ = policy;
    /// ```
    pub fn matching(
        mut self,
        predicate: impl Fn(&Error) -> bool + Send + Sync + 'static,
        action: OnError,
    ) -> Self {
        self.rules.push((Matches::If(Arc::new(predicate)), action));
        self
    }

    /// How retryable errors are tried again; after that, the topic processor stops. Default: the backoff of the action that the
    /// error would have otherwise, if it has one; otherwise [`Backoff::new`] (5 minutes) if the action rejects messages,
    /// and no retry if it is [`OnError::stop`].
    pub fn retryable(mut self, backoff: Backoff) -> Self {
        self.retryable = Some(backoff);
        self
    }

    /// When so many messages are rejected that the topic processor should stop instead; see [`Circuit`].
    pub fn circuit(mut self, circuit: Circuit) -> Self {
        self.circuit = circuit;
        self
    }

    /// Letters also get the headers that tools of this kind read. Default: only Kafka's own and the library's.
    pub fn letter_headers(mut self, headers: LetterHeaders) -> Self {
        if !self.headers.contains(&headers) {
            self.headers.push(headers);
        }
        self
    }

    /// Where [`Context::dead_letter`](crate::Context::dead_letter) sends letters. Default: the topic of the first
    /// [`OnError::dead_letter`].
    pub fn dead_letter_topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into().into());
        self
    }

    /// Once a message is rejected, the later messages of its key follow it to the dead letter topic, until they were replayed;
    /// see [`Quarantine`]. Default: only the message that fails becomes a letter.
    ///
    /// A processor that rejects messages with [`Context::dead_letter`](crate::Context::dead_letter) asks
    /// [`Context::is_quarantined`](crate::Context::is_quarantined) before it processes a later one in the same call.
    pub fn quarantine_by_key(mut self, quarantine: Quarantine) -> Self {
        self.quarantine = Some(quarantine);
        self
    }

    pub(crate) fn quarantine(&self) -> Option<&Quarantine> {
        self.quarantine.as_ref()
    }

    fn actions(&self) -> impl Iterator<Item = &OnError> {
        let rules = self.rules.iter().map(|(_, action)| action);
        rules.chain([&self.otherwise, &self.undeliverable])
    }

    /// All topics that letters may go to.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topic.iter().chain(self.actions().filter_map(OnError::topic))
    }

    /// What happens to messages whose output cannot be produced.
    pub(crate) fn undeliverable_action(&self) -> &Then {
        &self.undeliverable.then
    }

    pub(crate) fn rejects_undeliverable(&self) -> bool {
        self.undeliverable.then != Then::Stop
    }

    pub(crate) fn circuit_settings(&self) -> Circuit {
        self.circuit
    }

    /// Where the user's code sends a letter.
    fn own_topic(&self) -> Option<&Arc<str>> {
        self.topic.as_ref().or_else(|| self.actions().find_map(OnError::topic))
    }

    #[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "the builder asks"))]
    pub(crate) fn fault(&self) -> Option<String> {
        let quarantine = self.quarantine.as_ref().and_then(|quarantine| {
            let has_letters = self.topics().next().is_some();
            if !has_letters {
                return Some(
                    "`on_error`: `quarantine_by_key` needs a dead letter topic".to_owned(),
                );
            }
            (quarantine.max_messages == 0).then(|| {
                "`on_error`: a quarantine's `max_messages` has to be at least 1".to_owned()
            })
        });
        self.circuit.fault().or(quarantine)
    }
}

impl fmt::Debug for ErrorPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorPolicy")
            .field("rules", &self.rules.len())
            .field("otherwise", &self.otherwise)
            .field("retryable", &self.retryable)
            .field("circuit", &self.circuit)
            .field("quarantine", &self.quarantine)
            .finish_non_exhaustive()
    }
}
