//! Made-up lines of a log, and what should come out of them.

use std::collections::BTreeMap;

use kasper::BoxError;
use kasper::codec::{Decode, Json};
use kasper::testkit::TestMessage;

use crate::common::random::Random;
use crate::enrich::{Request, SLOW_MILLIS};

/// A line, the server that it comes from (the message's key), and what it should become.
pub(crate) struct Line {
    pub(crate) server: String,
    pub(crate) text: String,
    expected: Result<Request, &'static str>,
}

/// One of twenty is broken.
pub(crate) fn generate(seed: u64, count: u64) -> Vec<Line> {
    let mut random = Random::new(seed);
    (0..count).map(|_| line(&mut random)).collect()
}

fn line(random: &mut Random) -> Line {
    let server = format!("web-{}", random.below(30));
    let broken = [
        ("", "1 fields instead of 4"),
        ("GET /shop 200", "3 fields instead of 4"),
        ("GET shop 200 35", "a path without a `/`"),
        ("GET /shop ok 35", "the status is no number"),
        ("GET /shop 200 -1", "the time is no number"),
    ];
    if random.below(20) == 0 {
        let (text, reason) = random.choose(&broken);
        return Line { server, text: text.to_owned(), expected: Err(reason) };
    }
    let method = random.choose(&["GET", "POST", "DELETE"]);
    let section = random.choose(&["shop", "help", "account"]);
    let page = random.below(100);
    let (status, failed) = random.choose(&[(200, false), (304, false), (404, true), (503, true)]);
    let (millis, slow) =
        random.choose(&[(3, false), (SLOW_MILLIS - 1, false), (SLOW_MILLIS, true)]);
    let path = format!("/{section}/{page}");
    let text = format!("{method} {path} {status} {millis}");
    let (method, section) = (method.to_owned(), section.to_owned());
    let request = Request { method, path, section, status, failed, millis, slow };
    Line { server, text, expected: Ok(request) }
}

/// Checks what came out; the header `line` says of which line. Returns how many messages came more
/// than once: delivery is at least once.
pub(crate) fn check(
    lines: &[Line],
    enriched: &[TestMessage],
    rejected: &[TestMessage],
) -> Result<u64, BoxError> {
    let mut seen: BTreeMap<usize, u64> = BTreeMap::new();
    for message in enriched.iter().chain(rejected) {
        let number: usize = header(message, "line")?.parse()?;
        let line = lines.get(number).ok_or("a message of a line that there is not")?;
        *seen.entry(number).or_default() += 1;
        let value = message.value.as_deref().unwrap_or_default();
        let is_right = match &line.expected {
            Ok(request) => {
                is_in(message, enriched) && Json.decode(value).ok().as_ref() == Some(request)
            }
            Err(reason) => {
                is_in(message, rejected)
                    && value == line.text.as_bytes()
                    && header(message, "reason")? == *reason
            }
        };
        let has_key = message.key.as_deref() == Some(line.server.as_bytes());
        if !is_right || !has_key || !header(message, "source")?.contains('@') {
            return Err(format!("line {number} (`{}`) became {message:?}", line.text).into());
        }
    }
    if let Some(missing) = (0..lines.len()).find(|number| !seen.contains_key(number)) {
        return Err(
            format!("nothing came out of line {missing} (`{}`)", lines[missing].text).into()
        );
    }
    Ok(seen.values().map(|times| times - 1).sum())
}

/// Whether this message is one of this topic's.
fn is_in(message: &TestMessage, topic: &[TestMessage]) -> bool {
    topic.first().is_some_and(|first| first.topic == message.topic)
}

fn header<'a>(message: &'a TestMessage, name: &str) -> Result<&'a str, BoxError> {
    let value = message.header_text(name);
    Ok(value.ok_or_else(|| format!("no header `{name}` in {message:?}"))?)
}
