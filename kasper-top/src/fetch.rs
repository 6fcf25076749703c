//! Asking processes for their status.

use std::error::Error as _;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use reqwest::{Client, Url};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::status::Status;

/// How long a process may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// More than a hundred thousand partitions have.
const MOST_BYTES: usize = 64 << 20;

/// Where an admin server listens.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// As it was given.
    text: String,
    status: Url,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let with_scheme =
            if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let wrong = |why: &str| format!("{why}; give host:port, or http://host:port/path");
        let mut status = Url::parse(&with_scheme).map_err(|error| wrong(&error.to_string()))?;
        if status.scheme() != "http" {
            return Err(wrong("only http is understood"));
        }
        let path = format!("{}/status", status.path().trim_end_matches('/'));
        status.set_path(&path);
        Ok(Self { text: text.trim_start_matches("http://").to_owned(), status })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a process answered, or why there is no answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) process: usize,
    pub(crate) result: Result<Status, String>,
}

/// Asks again and again, until nobody wants to know.
pub(crate) async fn poll(
    process: usize,
    address: Address,
    interval: Duration,
    answers: mpsc::Sender<Answer>,
) {
    let client = client();
    loop {
        let result = status(&client, &address).await;
        if answers.send(Answer { process, result }).await.is_err() {
            return;
        }
        sleep(interval).await;
    }
}

pub(crate) fn client() -> Client {
    // Where somebody has set a proxy for the web, the processes are hardly behind it.
    let client = Client::builder().timeout(TIMEOUT).no_proxy().build();
    // Only TLS could fail, and there is none.
    client.unwrap_or_default()
}

pub(crate) async fn status(client: &Client, address: &Address) -> Result<Status, String> {
    let answer = client.get(address.status.clone()).send().await.map_err(|error| cause(&error))?;
    if !answer.status().is_success() {
        return Err(format!("it answers {} to {}", answer.status(), address.status.path()));
    }
    let mut answer = answer;
    let mut json = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|error| cause(&error))? {
        json.extend_from_slice(&part);
        if json.len() > MOST_BYTES {
            return Err(format!("its answer has more than {MOST_BYTES} bytes"));
        }
    }
    Status::parse(&String::from_utf8_lossy(&json))
}

/// The last cause says it best: "connection refused", say.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", TIMEOUT.as_secs());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_to_the_status() {
        for (text, status, shown) in [
            ("localhost:9400", "http://localhost:9400/status", "localhost:9400"),
            ("http://a:1/", "http://a:1/status", "a:1/"),
            ("http://a:1/kasper", "http://a:1/kasper/status", "a:1/kasper"),
            ("[::1]:9400", "http://[::1]:9400/status", "[::1]:9400"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.status.as_str(), address.to_string().as_str()), (status, shown));
        }
        for text in ["https://a:1", "http://", "a b:1"] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains("give host:port"), "{text}: {error}");
        }
    }
}
