//! [`Verdict`]: what a policy says about one error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::process_error::Position;
use super::{ErrorPolicy, OnError, ProcessError, Then};
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};
use crate::message::Offset;
use crate::message::undelivered::Fault;

/// What to do about an error.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    /// Which budget of retries the error uses, and how large that is. `None`: not again.
    pub(crate) retries: Option<(Budget, Backoff)>,
    pub(crate) then: Then,
    /// The message that is to be rejected.
    pub(crate) culprit: Option<Position>,
}

/// Errors of different rules don't use up each other's retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Budget {
    Retryable,
    Rule(usize),
    /// Only used by a message that stands alone: others are divided at once.
    Alone,
}

/// How often a message is processed again whose output is refused, and is not for certain at fault.
const ALONE: u32 = 5;

impl Verdict {
    fn stop() -> Self {
        Self { retries: None, then: Then::Stop, culprit: None }
    }
}

/// What the errors in a chain of causes say.
enum Mark {
    Fatal,
    Retryable,
    /// An outgoing message cannot be produced.
    Undeliverable,
    /// Outgoing messages were refused; one of them may be at fault, or all together.
    Refused,
    /// An outgoing message was refused with another.
    BesideAnother,
    Poison(Position),
    None,
}

/// The outermost mark counts. What names a culprit is retryable if it is caused by what is.
fn mark(error: &Error) -> Mark {
    let mut culprit = None;
    for error in error.chain() {
        if let Some(marked) = error.downcast_ref::<ProcessError>() {
            if marked.is_fatal() {
                return Mark::Fatal;
            }
            if marked.is_retryable() {
                return Mark::Retryable;
            }
            culprit = culprit.or_else(|| marked.culprit().cloned());
        }
        if let Some(error) = error.downcast_ref::<Error>() {
            if error.is_marked_retryable() {
                return Mark::Retryable;
            }
            match error.fault() {
                Fault::Message(_) => return Mark::Undeliverable,
                Fault::Request => return Mark::Refused,
                Fault::Beside => return Mark::BesideAnother,
                // Of a flush: no fault of the messages that came in.
                Fault::None if error.kind() == ErrorKind::Delivery => return Mark::Fatal,
                Fault::None => {}
            }
            culprit = culprit.or_else(|| undecodable(error));
        }
    }
    culprit.map_or(Mark::None, Mark::Poison)
}

/// The message that could not be decoded, if this is what the error says.
fn undecodable(error: &Error) -> Option<Position> {
    if error.kind() != ErrorKind::Decode {
        return None;
    }
    Some(Position {
        topic: error.get("topic")?.into(),
        partition: error.get("partition")?.parse().ok()?,
        offset: Offset::new(error.get("offset")?.parse().ok()?),
    })
}

impl ErrorPolicy {
    /// What to do about an error of the user's code.
    ///
    /// # Errors
    /// A predicate panicked.
    pub(crate) fn judge(&self, error: &Error) -> Result<Verdict, Error> {
        let (rule, action) = self.action(error)?;
        let verdict = match mark(error) {
            Mark::Fatal => Verdict::stop(),
            Mark::Refused | Mark::BesideAnother | Mark::Undeliverable
                if !self.rejects_undeliverable() =>
            {
                Verdict::stop()
            }
            Mark::Undeliverable => {
                Verdict { then: self.undeliverable.then.clone(), ..Verdict::stop() }
            }
            // Alone, what is not at fault succeeds sooner or later.
            Mark::Refused => Verdict {
                retries: Some((Budget::Alone, Backoff::new().max_retries(ALONE))),
                then: self.undeliverable.then.clone(),
                culprit: None,
            },
            // The other one is rejected by the lane that sent it.
            Mark::BesideAnother => {
                let retries = Some((Budget::Retryable, self.letter_backoff()));
                Verdict { retries, ..Verdict::stop() }
            }
            Mark::Retryable if !fault!(RejectRetryable) => {
                let backoff = self.retryable_backoff(action);
                let retries = backoff.map(|backoff| (Budget::Retryable, backoff));
                Verdict { retries, ..Verdict::stop() }
            }
            // What is named is taken out at once.
            Mark::Poison(position) if action.then != Then::Stop => {
                Verdict { retries: None, then: action.then.clone(), culprit: Some(position) }
            }
            Mark::Poison(_) | Mark::Retryable | Mark::None => Verdict {
                retries: action.retries.map(|backoff| (Budget::Rule(rule), backoff)),
                then: action.then.clone(),
                culprit: None,
            },
        };
        Ok(verdict)
    }

    fn action(&self, error: &Error) -> Result<(usize, &OnError), Error> {
        for (index, (rule, action)) in self.rules.iter().enumerate() {
            let matches = catch_unwind(AssertUnwindSafe(|| rule.matches(error)));
            let matches = matches.map_err(|panic| {
                let told = crate::error::panic_error("a predicate of `on_error` panicked", &*panic);
                told.with("judging", error)
            })?;
            if matches {
                return Ok((index, action));
            }
        }
        Ok((self.rules.len(), &self.otherwise))
    }

    pub(crate) fn retryable_backoff(&self, action: &OnError) -> Option<Backoff> {
        let rejects = action.then != Then::Stop;
        self.retryable.or(action.retries).or_else(|| rejects.then(Backoff::new))
    }

    /// How a letter that is not delivered is sent again.
    pub(crate) fn letter_backoff(&self) -> Backoff {
        self.retryable.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(source: impl Into<crate::BoxError>) -> Error {
        Error::new(ErrorKind::Process, "process returned an error").with_source(source)
    }

    fn outage() -> Error {
        Error::new(ErrorKind::Unavailable, "refused").retryable()
    }

    fn position() -> Position {
        Position { topic: "a".into(), partition: 1, offset: Offset::new(7) }
    }

    fn undecodable_at() -> Error {
        let error = Error::new(ErrorKind::Decode, "no JSON").with("topic", "a");
        error.with("partition", 1).with("offset", 7)
    }

    #[derive(Debug, thiserror::Error)]
    #[error("mine")]
    struct Mine(#[source] Error);

    fn rejecting() -> ErrorPolicy {
        ErrorPolicy::new(OnError::dead_letter("dead"))
    }

    #[test]
    fn what_is_retryable_is_never_rejected() {
        for error in [
            wrapped(outage()),
            wrapped(Mine(outage())),
            wrapped(ProcessError::retryable("later")),
            wrapped(ProcessError::retryable(undecodable_at())),
            wrapped(ProcessError::retryable(ProcessError::fatal("x"))),
            wrapped(undecodable_at().with_source(outage())),
        ] {
            let verdict = rejecting().judge(&error).unwrap();
            assert_eq!(verdict.then, Then::Stop, "{error:?}");
            assert_eq!(verdict.retries, Some((Budget::Retryable, Backoff::new())), "{error:?}");
        }
    }

    #[test]
    fn what_is_fatal_stops_at_once() {
        for error in [
            wrapped(ProcessError::fatal("no")),
            wrapped(ProcessError::fatal(outage())),
            wrapped(Error::new(ErrorKind::Delivery, "timed out")),
        ] {
            assert_eq!(rejecting().judge(&error).unwrap(), Verdict::stop(), "{error:?}");
        }
    }

    #[test]
    fn a_message_is_named_by_the_user_or_by_a_decoder() {
        let error = wrapped(Mine(undecodable_at()));
        let policy = ErrorPolicy::new(OnError::retry(Backoff::new()).then_skip());
        let verdict = policy.judge(&error).unwrap();
        assert_eq!((verdict.retries, verdict.culprit), (None, Some(position())));
        // A value in a store has no position.
        let stored = wrapped(Error::new(ErrorKind::Decode, "no JSON").with("key", "7"));
        let verdict = policy.judge(&stored).unwrap();
        assert_eq!((verdict.retries.is_some(), verdict.culprit), (true, None));
    }

    #[test]
    fn without_a_policy_everything_stops_at_once() {
        for error in [wrapped(outage()), wrapped("x"), wrapped(undecodable_at())] {
            assert_eq!(ErrorPolicy::default().judge(&error).unwrap(), Verdict::stop());
        }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let policy = rejecting()
            .of_kind(ErrorKind::Decode, OnError::skip())
            .matching(|error| error.find::<Mine>().is_some(), OnError::retry(Backoff::new()));
        let then = |error| policy.judge(&error).unwrap().then;
        assert_eq!(then(wrapped(Mine(undecodable_at()))), Then::Skip);
        let timeout = || Error::new(ErrorKind::Timeout, "x");
        assert_eq!(then(wrapped(Mine(timeout()))), Then::Stop);
        assert_eq!(then(wrapped(timeout())), Then::DeadLetter("dead".into()));
    }

    #[test]
    fn a_predicate_that_panics_is_an_error() {
        let policy = rejecting().matching(|_| panic!("odd"), OnError::skip());
        let error = policy.judge(&wrapped("x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panic);
        assert!(error.to_string().contains("odd"), "{error}");
    }
}
