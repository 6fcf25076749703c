//! Reading and writing documents, of one index or many: what both stores do. Large calls in parts, and what
//! a busy server refuses again.

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::client::{Answer, Call, ElasticsearchClient};
use super::config::Encoding;
use super::error::Fault;
use super::request::{self, Change, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::store::chunks::in_order;

/// How many failed keys an error lists.
const LISTED: usize = 10;

impl ElasticsearchClient {
    /// The values at these places, by position.
    pub(super) async fn read(
        &self,
        operation: &'static str,
        places: &[Place<'_>],
    ) -> Result<Vec<Option<Bytes>>> {
        let call = self.call(operation);
        let config = self.config();
        let chunks =
            chunks(places, config.max_request_items, config.max_request_bytes, Place::size);
        let mut reads = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            reads.push(self.read_chunk(call, chunk));
        }
        Ok(in_order(config.concurrency, reads).await?.into_iter().flatten().collect())
    }

    /// One request's worth of [`read`](Self::read); what a busy shard refuses is asked for again.
    async fn read_chunk(&self, call: Call, places: &[Place<'_>]) -> Result<Vec<Option<Bytes>>> {
        let mut values = vec![None; places.len()];
        let mut left: Vec<usize> = (0..places.len()).collect();
        let mut waits = Call::waits();
        let mut refusal = None;
        loop {
            let asked: Vec<Place<'_>> = left.iter().map(|index| places[*index]).collect();
            let Answer { body, server } = match self.send(call, &request::mget(&asked)).await {
                Err(error) if call.is_cut_short(&error) => return Err(refusal.unwrap_or(error)),
                sent => sent?,
            };
            let found = request::found(&body, &asked, self.config().encoding)
                .map_err(|error| error.with("operation", call.operation).with("server", server))?;
            let mut faults = Vec::new();
            let mut refused = Vec::new();
            for ((index, place), found) in left.iter().zip(asked).zip(found) {
                match found {
                    Ok(value) => values[*index] = value,
                    Err(fault) => {
                        refused.push(*index);
                        faults.push((place, fault));
                    }
                }
            }
            if faults.is_empty() {
                return Ok(values);
            }
            let hopeless = faults.iter().any(|(_, fault)| !fault.verdict.again);
            let error = report(call, faults, places.len()).with("server", server);
            if hopeless || !call.wait(&mut waits).await {
                return Err(error);
            }
            refusal = Some(error);
            left = refused;
        }
    }

    /// Makes these changes, which are of different places.
    ///
    /// What can be no line of a `_bulk` request, being text with line breaks, has a request of its own.
    pub(super) async fn write(
        &self,
        operation: &'static str,
        changes: &[Change<'_>],
    ) -> Result<()> {
        let call = self.call(operation);
        let config = self.config();
        let encoding = config.encoding;
        check_documents(operation, changes, encoding)?;
        let (lines, others): (Vec<_>, Vec<_>) =
            changes.iter().copied().partition(|change| change.fits_a_line(encoding));
        let size = |change: &Change<'_>| change.size(encoding);
        let mut writes = Vec::new();
        for chunk in chunks(&lines, config.max_request_items, config.max_request_bytes, size) {
            writes.push(self.write_chunk(call, chunk, true));
        }
        for other in others.chunks(1) {
            writes.push(self.write_chunk(call, other, false));
        }
        in_order(config.concurrency, writes).await.map(drop)
    }

    /// One request's worth of [`write`](Self::write); what a busy shard refuses is sent again.
    async fn write_chunk(&self, call: Call, changes: &[Change<'_>], bulk: bool) -> Result<()> {
        let (encoding, refresh) = (self.config().encoding, self.config().refresh);
        if let (false, [Change { place, value: Some(value) }]) = (bulk, changes) {
            let sent = self.send(call, &request::put(*place, value, refresh)).await;
            return sent.map(drop).map_err(|error| place.name(error));
        }
        let mut left = changes.to_vec();
        let mut waits = Call::waits();
        loop {
            let Answer { body, server } =
                match self.send(call, &request::bulk(&left, encoding, refresh)).await {
                    // A request with one key can be at fault for that key alone.
                    Err(error) if left.len() == 1 => return Err(left[0].place.name(error)),
                    sent => sent?,
                };
            let failed = request::failed(&body, &left)
                .map_err(|error| error.with("operation", call.operation).with("server", server))?;
            if failed.is_empty() {
                return Ok(());
            }
            let hopeless = failed.iter().any(|(_, fault)| !fault.verdict.again);
            if hopeless || !call.wait(&mut waits).await {
                let failed = failed.into_iter().map(|(change, fault)| (change.place, fault));
                return Err(report(call, failed.collect(), changes.len()).with("server", server));
            }
            left = failed.into_iter().map(|(change, _)| change).collect();
        }
    }
}

/// Parts of at most so many items and bytes; a larger item is a part of its own.
fn chunks<T>(items: &[T], most: usize, bytes: usize, size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut chunks = Vec::new();
    let (mut begin, mut filled) = (0, 0);
    for (index, item) in items.iter().enumerate() {
        let size = size(item);
        if index > begin && (index - begin == most || filled + size > bytes) {
            chunks.push(&items[begin..index]);
            (begin, filled) = (index, 0);
        }
        filled += size;
    }
    if begin < items.len() {
        chunks.push(&items[begin..]);
    }
    chunks
}

/// Rule 8 of [`Store`](crate::store::Store): refuses what is no document, before anything is written.
fn check_documents(
    operation: &'static str,
    changes: &[Change<'_>],
    encoding: Encoding,
) -> Result<()> {
    if encoding == Encoding::Binary {
        return Ok(());
    }
    changes.iter().try_for_each(|change| {
        let Some(value) = change.value else { return Ok(()) };
        let checked = check_document(value).and_then(|()| match change.place.id {
            "." | ".." if !change.fits_a_line(encoding) => Err(Error::new(
                ErrorKind::InvalidInput,
                "a value with line breaks has a URL, which no key `.` or `..` can be a part of",
            )),
            _ => Ok(()),
        });
        checked.map_err(|error| change.place.name(error).with("operation", operation))
    })
}

fn check_document(value: &[u8]) -> Result<()> {
    let refuse = |message: &str| Error::new(ErrorKind::InvalidInput, message);
    let not_json = "the value is no JSON document (for any bytes there is the encoding `binary`)";
    let text = std::str::from_utf8(value).map_err(|error| refuse(not_json).with_source(error))?;
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|error| refuse(not_json).with_source(error))?;
    match text.trim_start().starts_with('{') {
        true => Ok(()),
        false => Err(refuse("the value is JSON, but no object, and only objects are documents")),
    }
}

/// One error for all keys that failed: of the kind of the first that trying again does not help, if there is one.
fn report(call: Call, faults: Vec<(Place<'_>, Fault)>, total: usize) -> Error {
    let failed = faults.len();
    let names: Vec<String> = faults
        .iter()
        .take(LISTED)
        .map(|(place, _)| crate::store::limits::shortened(place.id))
        .collect();
    let worst = faults.iter().position(|(_, fault)| !fault.verdict.retryable).unwrap_or(0);
    let Some((place, fault)) = faults.into_iter().nth(worst) else {
        return Error::new(ErrorKind::Internal, "a failure without a fault");
    };
    let error = place.name(fault.error).with("operation", call.operation);
    if total == 1 {
        return error;
    }
    let more = if failed > LISTED { ", …" } else { "" };
    error.with(
        "failed",
        format!("{failed} of {total} keys of a request: {}{more}", names.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_to_items_and_bytes() {
        let sizes = [1, 1, 1, 9, 2, 3, 3];
        let parts = chunks(&sizes, 2, 5, |size| *size);
        let expected: [&[usize]; 5] = [&[1, 1], &[1], &[9], &[2, 3], &[3]];
        assert_eq!(parts, expected);
        assert!(chunks(&[] as &[usize], 2, 5, |size| *size).is_empty());
    }

    #[test]
    fn only_json_objects_are_documents() {
        for good in ["{}", " {\"a\":\n[1e400,null]} ", "{\"a\":\"\\ud83d\"}"] {
            check_document(good.as_bytes()).unwrap();
        }
        let bad: [&[u8]; 8] =
            [b"", b"1", b"[{}]", b"\"a\"", b"{\"a\":", b"{}{}", b"{\"a\":\"\xff\"}", b"null"];
        for bad in bad {
            assert_eq!(check_document(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }
}
