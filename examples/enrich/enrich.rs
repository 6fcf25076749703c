//! The job itself: parses lines of a web server's log; what can't be parsed goes to a topic of its own.

use kasper::codec::Json;
use kasper::{Batch, BoxError, Context, Message, OutgoingMessage, Processor};
use serde::{Deserialize, Serialize};

/// From this many milliseconds on a request was slow.
pub(crate) const SLOW_MILLIS: u32 = 500;

/// A request, as it is sent on: what the line says (`GET /shop/cart 200 35`), and what that means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The first part of the path.
    pub(crate) section: String,
    pub(crate) status: u16,
    pub(crate) failed: bool,
    pub(crate) millis: u32,
    pub(crate) slow: bool,
}

/// Without state: a batch that comes again sends the same messages again.
pub(crate) struct Enrich {
    /// The topic for requests.
    pub(crate) enriched: String,
    /// The topic for what is no request, as it came, with the header `reason`.
    pub(crate) rejected: String,
}

impl Processor for Enrich {
    async fn process(&mut self, batch: &Batch, context: &mut Context) -> Result<(), BoxError> {
        for message in batch.iter() {
            match parse(message.value()) {
                Ok(request) => {
                    context.send_encoded(copy(&self.enriched, &message), &request, Json)?;
                }
                // No error: one bad line would stop the job, at every start again.
                Err(reason) => context.send(
                    copy(&self.rejected, &message).value(message.value()).header("reason", reason),
                ),
            }
        }
        Ok(())
    }
}

/// A message without a value yet: with the key, headers and time of this one, and a header more that
/// says where it comes from. In the partition of the same number, so that the order is kept.
fn copy<'a>(topic: &'a str, message: &Message<'a>) -> OutgoingMessage<'a> {
    let (partition, offset) = (message.partition(), message.offset());
    let source = format!("{}/{partition}@{offset}", message.topic());
    OutgoingMessage::like(topic, message).partition(partition).header("source", source)
}

/// # Errors
/// What is wrong with the line.
fn parse(line: Option<&[u8]>) -> Result<Request, String> {
    let line = line.ok_or("no value")?;
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
    let fields: Vec<&str> = line.split(' ').collect();
    let [method, path, status, millis] = fields[..] else {
        return Err(format!("{} fields instead of 4", fields.len()));
    };
    let section = path.strip_prefix('/').ok_or("a path without a `/`")?;
    let section = section.split('/').next().unwrap_or_default();
    let status = status.parse().map_err(|_| "the status is no number")?;
    let millis = millis.parse().map_err(|_| "the time is no number")?;
    Ok(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        section: section.to_owned(),
        status,
        failed: status >= 400,
        millis,
        slow: millis >= SLOW_MILLIS,
    })
}
