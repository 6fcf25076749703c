//! Asks the registry over HTTP: one server after the other, and again while all are away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kasper::{Error, ErrorKind, Result};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::config::RegistryConfig;

/// The first pause before servers that are all away are asked again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A point in time that is farther away may not be representable.
const LONGEST_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

const REFUSES: &str = "the schema registry refuses the request";
const FORMAT: &str = "application/vnd.schemaregistry.v1+json";

pub(crate) struct Client {
    http: reqwest::Client,
    urls: Vec<Url>,
    /// The index of the server that gave the last answer.
    preferred: AtomicUsize,
    login: Option<HeaderValue>,
    timeout: Duration,
    request_timeout: Duration,
}

/// One question. All can be asked again: registering a schema twice gives the same id.
pub(crate) struct Request<'a> {
    pub(crate) operation: &'static str,
    /// The path below the registry's URL; each part is percent-encoded.
    pub(crate) path: &'a [&'a str],
    pub(crate) query: Option<&'a str>,
    /// What to post; `None` gets.
    pub(crate) body: Option<Vec<u8>>,
}

/// An answer that another server would give too.
pub(crate) enum Answer<T> {
    Found(T),
    /// What was asked for does not exist; the registry's words.
    Missing(String),
    /// The registry does not accept the schema: it is invalid, or incompatible; the registry's words.
    Refused(String),
    /// What answers speaks as a registry does, but does not answer this question.
    Odd(Error),
}

#[derive(Deserialize)]
struct Complaint {
    error_code: u32,
    #[serde(default)]
    message: String,
}

impl Client {
    pub(crate) fn new(config: &RegistryConfig) -> Result<Self> {
        let (urls, login) = config.check()?;
        let http = match config.http.clone() {
            Some(client) => client,
            // Redirects would take the credentials elsewhere; a proxy is for what is far away.
            None => reqwest::Client::builder()
                .connect_timeout(config.connect_timeout)
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .build()
                .map_err(|cause| {
                    Error::new(ErrorKind::Backend, "the HTTP client can't be set up")
                        .with_source(cause)
                })?,
        };
        let (timeout, request_timeout) = (config.timeout, config.request_timeout);
        Ok(Self { http, urls, preferred: AtomicUsize::new(0), login, timeout, request_timeout })
    }

    /// When a question that is asked now has to be answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout.min(LONGEST_TIME)
    }

    /// Asks until there is an answer, an error that is the same everywhere, or no time left.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Answer<T>> {
        let (mut pause, mut before) = (FIRST_PAUSE, None);
        loop {
            let error = match self.ask_each(request, deadline).await {
                Err(error) if error.is_retryable() => error,
                outcome => return outcome,
            };
            if Instant::now() >= deadline {
                // Why it was asked again says more than that the last attempt had little time.
                return Err(before.unwrap_or(error));
            }
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            tracing::debug!(target: "kasper", ?error, "asking the schema registry again");
            before = Some(error);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks each server once, until one gives an answer that counts. If none does, what the first one said counts.
    ///
    /// A server that says that the user is unknown, or that is no registry, is passed over like one that is away, and
    /// never becomes the preferred one: otherwise one wrong server among several would be asked for good.
    async fn ask_each<T: DeserializeOwned>(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Answer<T>> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut said = None;
        for index in (0..self.urls.len()).map(|step| (first + step) % self.urls.len()) {
            let url = &self.urls[index];
            let time = deadline.saturating_duration_since(Instant::now()).min(self.request_timeout);
            if time.is_zero() {
                break;
            }
            match self.ask_one(url, request, time).await {
                outcome @ (Err(_) | Ok(Answer::Odd(_))) => said = said.or(Some(outcome)),
                answer => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        said.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Timeout, "the time to ask the schema registry is over")
                .with("operation", request.operation)
                .retryable())
        })
    }

    async fn ask_one<T: DeserializeOwned>(
        &self,
        url: &Url,
        request: &Request<'_>,
        time: Duration,
    ) -> Result<Answer<T>> {
        let named =
            |error: Error| error.with("operation", request.operation).with("server", url.as_str());
        let failed = |error: reqwest::Error| named(no_answer(error));
        let method = if request.body.is_some() { Method::POST } else { Method::GET };
        let mut http = self.http.request(method, below(url, request)).timeout(time);
        http = http.header(ACCEPT, FORMAT);
        if let Some(login) = &self.login {
            http = http.header(AUTHORIZATION, login);
        }
        if let Some(body) = &request.body {
            http = http.header(CONTENT_TYPE, FORMAT).body(body.clone());
        }
        let answer = http.send().await.map_err(failed)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(failed)?;
        match understand(status, &body).map_err(named)? {
            Answer::Odd(error) => Ok(Answer::Odd(named(error))),
            answer => Ok(answer),
        }
    }
}

fn below(url: &Url, request: &Request<'_>) -> Url {
    let mut url = url.clone();
    // Fails for URLs that have no path, which the configuration refuses.
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(request.path);
    }
    url.set_query(request.query);
    url
}

/// No server, no connection, no time, or an answer that breaks off: another attempt may go better.
fn no_answer(error: reqwest::Error) -> Error {
    let error = error.without_url();
    let (kind, message) = if error.is_timeout() {
        (ErrorKind::Timeout, "the schema registry gives no answer in time")
    } else if error.is_builder() {
        return Error::new(ErrorKind::Backend, "the request can't be made").with_source(error);
    } else {
        (ErrorKind::Unavailable, "the schema registry can't be reached")
    };
    Error::new(kind, message).with_source(error).retryable()
}

fn understand<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<Answer<T>> {
    if status.is_success() {
        let odd = |message, cause| Error::new(ErrorKind::Backend, message).with_source(cause);
        let json: serde_json::Value = serde_json::from_slice(body)
            .map_err(|cause| odd("what answers is not a schema registry", cause))?;
        return Ok(T::deserialize(json).map_or_else(
            |cause| Answer::Odd(odd("the schema registry's answer has another form", cause)),
            Answer::Found,
        ));
    }
    let complaint: Option<Complaint> = serde_json::from_slice(body).ok();
    let code = complaint.as_ref().map(|complaint| complaint.error_code);
    let words = complaint.map_or_else(String::new, |complaint| complaint.message);
    let error = |kind, message: &str| {
        let error = Error::new(kind, message).with("status", status.as_u16());
        if words.is_empty() { error } else { error.with("reason", &words) }
    };
    match status {
        // Codes of a registry's own have five digits.
        StatusCode::NOT_FOUND if code.is_some_and(|code| code > 40_000) => {
            Ok(Answer::Missing(words))
        }
        // It comes from something else at this address, or the path is wrong. Not an error of one message: with a wrong
        // address, a program that skips messages of unknown schemas would skip all.
        StatusCode::NOT_FOUND => {
            Err(error(ErrorKind::Config, "there is no schema registry at this address"))
        }
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => Ok(Answer::Refused(words)),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(error(ErrorKind::Unauthorized, "the schema registry refuses the user"))
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Err(error(ErrorKind::Unavailable, "the schema registry is busy").retryable())
        }
        _ if status.is_server_error() => {
            Err(error(ErrorKind::Unavailable, "the schema registry has failed").retryable())
        }
        StatusCode::BAD_REQUEST if code.is_some() => {
            Ok(Answer::Odd(error(ErrorKind::Backend, REFUSES)))
        }
        _ => Err(error(ErrorKind::Backend, REFUSES)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_to_ask_again() {
        let told = |status: u16, body: &str| {
            understand::<u32>(StatusCode::from_u16(status).unwrap(), body.as_bytes())
                .err()
                .map(|error| (error.kind(), error.is_retryable()))
        };
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(told(status, ""), Some((ErrorKind::Unavailable, true)), "{status}");
        }
        assert_eq!(told(401, ""), Some((ErrorKind::Unauthorized, false)));
        assert_eq!(told(403, ""), Some((ErrorKind::Unauthorized, false)));
        assert_eq!(told(404, "<html>"), Some((ErrorKind::Config, false)));
        let no_path = r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#;
        assert_eq!(told(404, no_path), Some((ErrorKind::Config, false)));
        assert_eq!(told(301, ""), Some((ErrorKind::Backend, false)));
        assert_eq!(told(200, "<html>"), Some((ErrorKind::Backend, false)));
        assert_eq!(told(200, "7"), None);
        assert_eq!(told(400, "<html>"), Some((ErrorKind::Backend, false)));
        assert_eq!(told(404, r#"{"error_code":40403,"message":"no"}"#), None);
        assert_eq!(told(409, r#"{"error_code":409,"message":"no"}"#), None);
    }

    #[test]
    fn an_answer_of_a_registry_that_is_none_to_the_question_is_odd() {
        for (status, body) in
            [(400, r#"{"error_code":400,"message":"no"}"#), (200, r#"{"schemas":[]}"#)]
        {
            let answer =
                understand::<u32>(StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap();
            assert!(matches!(answer, Answer::Odd(error) if !error.is_retryable()), "{status}");
        }
    }

    #[test]
    fn a_path_stays_below_the_url_and_is_encoded() {
        for (base, expected) in [
            ("http://a", "http://a/subjects/x%2Fy%20z"),
            ("http://a/api/v7", "http://a/api/v7/subjects/x%2Fy%20z"),
            ("http://a/api/v7/", "http://a/api/v7/subjects/x%2Fy%20z"),
        ] {
            let path = &["subjects", "x/y z"][..];
            let request = Request { operation: "x", path, query: None, body: None };
            let url = below(&Url::parse(base).unwrap(), &request);
            assert_eq!(url.as_str(), expected);
        }
    }
}
