//! What failed: what a server answered, or that no server answered, as an error of the library.

use serde_json::Value;

use super::error::{Verdict, error_of, meaning};
use crate::error::{Error, ErrorKind};

/// What a server refused, as far as the store itself acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The user may not do this (403).
    Forbidden,
    /// The server, or a proxy before it, takes no request of this size (413).
    TooLarge,
    /// The index exists.
    AlreadyExists,
    Other,
}

impl Refusal {
    fn of(status: u16, type_name: &str) -> Self {
        match status {
            403 => Self::Forbidden,
            413 => Self::TooLarge,
            // `index_already_exists_exception` in version 5, `resource_already_exists_exception` since.
            _ if type_name.ends_with("already_exists_exception") => Self::AlreadyExists,
            _ => Self::Other,
        }
    }
}

/// An error of a server, and whether the store itself tries again.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) error: Error,
    pub(super) verdict: Verdict,
    pub(super) refusal: Refusal,
}

/// Why a request failed. Becomes the [`Error`] in it when it leaves the store.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// `None` if no server answered.
    pub(super) refusal: Option<Refusal>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, refusal: None }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl Fault {
    /// Of a status, and the `error` that the server gave with it: an object, or a text.
    pub(super) fn of_server(status: u16, error: &Value) -> Self {
        let type_name = error.get("type").and_then(Value::as_str).unwrap_or_default();
        let mut text = error
            .get("reason")
            .or(Some(error))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let mut cause = error.get("caused_by");
        while let Some(inner) = cause {
            let reason = inner.get("reason").and_then(Value::as_str).unwrap_or_default();
            text.push_str(": ");
            text.push_str(reason);
            cause = inner.get("caused_by");
        }
        let (verdict, advice) = meaning(status, type_name, &text);
        let mut message = "the server answered".to_owned();
        for part in [status.to_string(), type_name.to_owned()] {
            if !part.is_empty() && part != "0" {
                message = format!("{message} {part}");
            }
        }
        if !text.is_empty() {
            message = format!("{message}: {}", shown(&text));
        }
        if !advice.is_empty() {
            message = format!("{message} ({advice})");
        }
        let refusal = Refusal::of(status, type_name);
        Self { error: error_of(verdict, message), verdict, refusal }
    }

    /// Of a document that the server took and did not store.
    pub(super) fn dropped() -> Self {
        let message = "a pipeline of the index (`index.default_pipeline`, `final_pipeline`) dropped the document: it is \
                       not stored";
        let verdict = Verdict { kind: ErrorKind::Config, retryable: false, again: false };
        Self { error: error_of(verdict, message.to_owned()), verdict, refusal: Refusal::Other }
    }

    /// Of an answer whose status is an error.
    pub(super) fn of_answer(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(answer) => Self::of_server(status, answer.get("error").unwrap_or(&Value::Null)),
            Err(_) => {
                Self::of_server(status, &Value::String(String::from_utf8_lossy(body).into_owned()))
            }
        }
    }
}

/// A reason as it may be shown. Elasticsearch quotes the whole HTTP request, credentials included, behind
/// `[Source:` when a document is not JSON.
fn shown(reason: &str) -> String {
    const LONGEST: usize = 300;
    let mut shown = String::new();
    let mut rest = reason;
    while let Some((before, after)) = rest.split_once("[Source:") {
        shown.push_str(before.trim_end().trim_end_matches("at").trim_end());
        // It ends with the place; what is quoted has lines and columns of its own, so the last one counts.
        rest = after
            .rsplit_once("; line:")
            .map_or("", |(_, place)| place.split_once(']').map_or("", |(_, rest)| rest));
    }
    shown.push_str(rest);
    match shown.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

/// What an error of the client that the user gave means.
pub(super) fn of_driver(error: reqwest::Error) -> Error {
    // The address is said besides, without what must not be shown.
    let error = error.without_url();
    if error.is_builder() {
        return Error::new(ErrorKind::Config, "the request cannot be made").with_source(error);
    }
    let text = chain(&error);
    no_answer(error.is_timeout(), error.is_connect(), &text)
}

/// What an error of a connection means, which may be one in the making.
pub(super) fn of_connection(error: impl std::error::Error + 'static, is_connecting: bool) -> Error {
    let text = chain(&error);
    let mut is_late = false;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        is_late |= io.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut);
        cause = error.source();
    }
    no_answer(is_late, is_connecting, &text)
}

/// There was no answer in this time.
pub(super) fn late(time: std::time::Duration) -> Error {
    no_answer(true, false, &format!("it had {time:?}"))
}

/// The request did not get through, or its answer did not.
fn no_answer(is_late: bool, is_connecting: bool, text: &str) -> Error {
    // Of two sides that speak TLS, one refuses the other's certificate: "received fatal alert: CertificateRequired".
    let lower = text.to_ascii_lowercase();
    let is_refused = ["certificate", "fatal alert"].iter().any(|word| lower.contains(word));
    let (kind, retryable, message) = if is_refused {
        (ErrorKind::Unauthorized, false, "a certificate is not trusted, or one is missing")
    } else if is_connecting {
        // Late or refused: nothing was sent, so another server may be tried even for a write.
        (ErrorKind::Unavailable, true, "cannot connect")
    } else if is_late {
        (ErrorKind::Timeout, true, "no answer in time")
    } else {
        (ErrorKind::Unavailable, true, "the connection broke")
    };
    let verdict = Verdict { kind, retryable, again: false };
    error_of(verdict, format!("{message}: {text}"))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::error::OTHER_TYPE;
    use super::*;

    #[test]
    fn what_the_store_acts_on_is_told_from_other_refusals() {
        let exists =
            br#"{"error":{"type":"resource_already_exists_exception","reason":"index [k/x]"}}"#;
        let old = br#"{"error":{"type":"index_already_exists_exception","reason":"exists"}}"#;
        let quoted = br#"{"error":{"type":"x","reason":"no already_exists_exception"}}"#;
        for (status, body, refusal) in [
            (400, &exists[..], Refusal::AlreadyExists),
            (400, &old[..], Refusal::AlreadyExists),
            (400, &quoted[..], Refusal::Other),
            (403, b"{}", Refusal::Forbidden),
            (413, b"<html>413 Request Entity Too Large</html>", Refusal::TooLarge),
            (401, b"", Refusal::Other),
        ] {
            assert_eq!(Fault::of_answer(status, body).refusal, refusal, "{status}");
        }
    }

    #[test]
    fn a_refused_certificate_is_no_broken_connection() {
        for text in [
            "invalid peer certificate: UnknownIssuer",
            "received fatal alert: CertificateRequired",
            "received fatal alert: HandshakeFailure",
        ] {
            for is_connecting in [false, true] {
                let error = of_connection(std::io::Error::other(text), is_connecting);
                let seen = (error.kind(), error.is_retryable());
                assert_eq!(seen, (ErrorKind::Unauthorized, false), "{error:?}");
            }
        }
        let error = of_connection(std::io::Error::other("reset by peer"), false);
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
    }

    #[test]
    fn what_the_server_quotes_of_the_request_is_not_shown() {
        let quoted = "Duplicate field 'a'\n at [Source: (byte[])\"POST /_bulk HTTP/1.1\r\nauthorization: \
                      Basic c2VjcmV0\r\n\r\n{\"a\":\"; line: 1, column: 1]\"; line: 1, column: 11]";
        let error = json!({
            "type": "mapper_parsing_exception", "reason": "failed to parse",
            "caused_by": {"type": "json_parse_exception", "reason": quoted}
        });
        let text = Fault::of_server(400, &error).error.to_string();
        assert_eq!(
            text,
            format!(
                "invalid input: the server answered 400 mapper_parsing_exception: failed to parse: Duplicate field 'a' \
                 ({OTHER_TYPE})"
            )
        );
        // Cut off in the middle.
        assert_eq!(shown("x at [Source: secret"), "x");
    }

    #[test]
    fn answers_that_are_no_json_are_told() {
        let fault = Fault::of_answer(401, b"Unauthorized");
        assert_eq!(fault.error.to_string(), "unauthorized: the server answered 401: Unauthorized");
        let fault = Fault::of_answer(400, br#"{"error":"no handler found for uri [/x]"}"#);
        assert!(fault.error.to_string().ends_with("no handler found for uri [/x]"));
    }
}
