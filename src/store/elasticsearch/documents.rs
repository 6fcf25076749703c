//! Reading and writing documents, of one index or many: what both stores do. Large calls in parts, and what
//! a busy server refuses again.

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::call::{Answer, Call};
use super::client::ElasticsearchClient;
use super::config::ElasticsearchEncoding;
use super::fault::{Failure, Fault, Refusal};
use super::request::{self, Change, DocumentId};
use crate::concurrent::in_order;
use crate::error::{Error, ErrorKind, Result};

/// How many failed keys an error lists.
const LISTED: usize = 10;

impl ElasticsearchClient {
    /// The values at these places, by position.
    pub(super) async fn read(
        &self,
        operation: &'static str,
        places: &[DocumentId<'_>],
    ) -> Result<Vec<Option<Bytes>>> {
        let call = self.call(operation);
        let config = self.config();
        let chunks =
            chunks(places, config.max_request_items, self.request_bytes(), DocumentId::size);
        let mut reads = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            reads.push(self.read_chunk(call, chunk));
        }
        Ok(in_order(config.concurrency, reads).await?.into_iter().flatten().collect())
    }

    /// One request's worth of [`read`](Self::read); what a busy shard refuses is asked for again.
    async fn read_chunk(
        &self,
        call: Call,
        places: &[DocumentId<'_>],
    ) -> Result<Vec<Option<Bytes>>> {
        let mut values = vec![None; places.len()];
        let mut left: Vec<usize> = (0..places.len()).collect();
        let mut waits = Call::waits();
        let mut refusal = None;
        loop {
            let asked: Vec<DocumentId<'_>> = left.iter().map(|index| places[*index]).collect();
            let request = request::mget(&asked);
            let Answer { body, server } = match self.send(call, &request).await {
                Err(failure) if call.is_cut_short(&failure.error) => {
                    return Err(refusal.unwrap_or(failure.error));
                }
                Err(failure) if failure.refusal == Some(Refusal::TooLarge) => {
                    let [one, other] = self.halves(&asked, request.body.len());
                    if other.is_empty() {
                        return Err(self.too_large(failure.error, asked[0], request.body.len()));
                    }
                    let mut read = Box::pin(self.read_chunk(call, one)).await?;
                    read.extend(Box::pin(self.read_chunk(call, other)).await?);
                    left.into_iter().zip(read).for_each(|(index, value)| values[index] = value);
                    return Ok(values);
                }
                Err(failure) => return Err(asked[0].name_index(failure.error)),
                Ok(answer) => answer,
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
        for chunk in chunks(&lines, config.max_request_items, self.request_bytes(), size) {
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
            return match sent {
                Ok(answer) if request::is_dropped(&answer.body) => {
                    Err(report(call, vec![(*place, Fault::dropped())], 1)
                        .with("server", answer.server))
                }
                Ok(_) => Ok(()),
                Err(failure) => Err(self.of_one(failure, *place, value.len())),
            };
        }
        let mut left = changes.to_vec();
        let mut waits = Call::waits();
        loop {
            let request = request::bulk(&left, encoding, refresh);
            let Answer { body, server } = match self.send(call, &request).await {
                // A request with one key can be at fault for that key alone.
                Err(failure) if left.len() == 1 => {
                    return Err(self.of_one(failure, left[0].place, request.body.len()));
                }
                Err(failure) if failure.refusal == Some(Refusal::TooLarge) => {
                    let [one, other] = self.halves(&left, request.body.len());
                    Box::pin(self.write_chunk(call, one, true)).await?;
                    return Box::pin(self.write_chunk(call, other, true)).await;
                }
                Err(failure) => return Err(left[0].place.name_index(failure.error)),
                Ok(answer) => answer,
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

    /// The halves of a request with these items, which was refused for its size; the second is empty where there is
    /// one item only.
    fn halves<'a, T>(&self, items: &'a [T], request_bytes: usize) -> [&'a [T]; 2] {
        if items.len() > 1 {
            self.make_requests_smaller_than(request_bytes);
        }
        let (one, other) = items.split_at(items.len().div_ceil(2));
        [one, other]
    }

    /// The error of a request for this key alone.
    fn of_one(&self, failure: Failure, place: DocumentId<'_>, request_bytes: usize) -> Error {
        match failure.refusal {
            Some(Refusal::TooLarge) => self.too_large(failure.error, place, request_bytes),
            _ => place.name(failure.error),
        }
    }

    /// A request that was refused for its size, and cannot be divided.
    fn too_large(&self, refusal: Error, place: DocumentId<'_>, request_bytes: usize) -> Error {
        let message = format!(
            "the server, or a proxy before it, refuses a request with one key, of {request_bytes} bytes, as too large \
             (413): keep the value smaller, or raise their limit (`http.max_content_length`; in nginx \
             `client_max_body_size`)"
        );
        let mut error = Error::new(ErrorKind::InvalidInput, message);
        for name in ["operation", "server", "status"] {
            if let Some(value) = refusal.get(name) {
                error = error.with(name, value);
            }
        }
        let error = place.name(error).with("request_bytes", request_bytes);
        error.with("max_request_bytes", self.config().max_request_bytes).with_source(refusal)
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

/// Rule 8 of [`Store`](crate::store::Store): refuses what is not a document, before anything is written.
fn check_documents(
    operation: &'static str,
    changes: &[Change<'_>],
    encoding: ElasticsearchEncoding,
) -> Result<()> {
    if encoding == ElasticsearchEncoding::Binary {
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
fn report(call: Call, faults: Vec<(DocumentId<'_>, Fault)>, total: usize) -> Error {
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
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::super::client::ACCEPTED_BEFORE_LARGER;
    use super::super::{ElasticsearchConfig, ElasticsearchStore};
    use super::*;
    use crate::store::Store;

    /// A server that takes requests of at most so many bytes, as a proxy does before real ones. Returns its address,
    /// and for each request its bytes and how many keys it had.
    async fn limited(limit: usize) -> (String, Arc<Mutex<Vec<(usize, usize)>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let mut connection = BufReader::new(connection);
                let (mut head, mut length) = (String::new(), 0);
                while !head.ends_with("\r\n\r\n")
                    && connection.read_line(&mut head).await.unwrap() > 0
                {}
                for line in head.lines() {
                    if let Some(value) = line.strip_prefix("content-length: ") {
                        length = value.parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                connection.read_exact(&mut body).await.unwrap();
                let keys = String::from_utf8(body).unwrap().matches("\"_index\"").count();
                seen.lock().unwrap().push((length, keys));
                let each = |one: &str| vec![one; keys].join(",");
                let (status, answer) = match head.split(' ').nth(1).unwrap() {
                    _ if length > limit => {
                        (413, "<html>413 Request Entity Too Large</html>".to_owned())
                    }
                    "/_mget" => {
                        (200, format!("{{\"docs\":[{}]}}", each("{\"found\":true,\"_source\":{}}")))
                    }
                    _ => (
                        200,
                        format!(
                            "{{\"errors\":false,\"items\":[{}]}}",
                            each("{\"index\":{\"status\":201}}")
                        ),
                    ),
                };
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close",
                    answer.len()
                );
                let _ = connection.write_all(format!("{head}\r\n\r\n{answer}").as_bytes()).await;
            }
        });
        (address, requests)
    }

    fn store(address: &str) -> ElasticsearchStore {
        let client = ElasticsearchClient::new(&ElasticsearchConfig::new(address, "i")).unwrap();
        ElasticsearchStore::from_client(client, "i").unwrap()
    }

    #[tokio::test]
    async fn requests_that_are_refused_for_their_size_are_divided() {
        const LIMIT: usize = 100_000;
        let (address, requests) = limited(LIMIT).await;
        let store = store(&address);
        let keys: Vec<String> = (0..101).map(|index| index.to_string()).collect();
        let value = format!("{{\"a\":\"{}\"}}", "x".repeat(3000));
        let changes: Vec<_> =
            keys.iter().map(|key| (&**key, Some(Bytes::from(value.clone())))).collect();
        for refused in [true, false] {
            store.write_many(&changes).await.unwrap();
            let requests = std::mem::take(&mut *requests.lock().unwrap());
            let (large, taken): (Vec<_>, Vec<_>) =
                requests.into_iter().partition(|(bytes, _)| *bytes > LIMIT);
            assert_eq!(taken.iter().map(|(_, keys)| keys).sum::<usize>(), keys.len());
            // What was learned holds for the next call.
            assert_eq!(!large.is_empty(), refused, "{large:?}");
        }
    }

    /// The limit was raised, or something else was wrong with one request.
    #[tokio::test]
    async fn after_many_accepted_requests_larger_ones_are_tried_again() {
        let (address, _) = limited(1 << 20).await;
        let client = ElasticsearchClient::new(&ElasticsearchConfig::new(address, "i")).unwrap();
        client.make_requests_smaller_than(0);
        let small = client.request_bytes();
        let store = ElasticsearchStore::from_client(client.clone(), "i").unwrap();
        let value = format!("{{\"a\":\"{}\"}}", "x".repeat(small / 2));
        for _ in 1..ACCEPTED_BEFORE_LARGER {
            store.put("a", value.clone()).await.unwrap();
            store.put("b", "{}").await.unwrap();
        }
        assert_eq!(client.request_bytes(), small);
        store.put("a", value).await.unwrap();
        assert_eq!(client.request_bytes(), 2 * small);
    }

    #[tokio::test]
    async fn reads_that_are_refused_for_their_size_are_divided() {
        let (address, _) = limited(1000).await;
        let store = store(&address);
        let keys: Vec<String> = (0..101).map(|index| index.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(store.get_many(&keys).await.unwrap(), vec![Some(Bytes::from("{}")); keys.len()]);
    }

    #[tokio::test]
    async fn a_single_key_that_is_refused_for_its_size_is_named() {
        let (address, requests) = limited(40).await;
        let store = store(&address);
        // A value with a line break has a request of another kind.
        for value in ["{\"a\": 1}", &format!("{{{}\n}}", " ".repeat(40))] {
            let changes = [("large", Some(Bytes::from(value.to_owned())))];
            let error = store.write_many(&changes).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.is_retryable()),
                (ErrorKind::InvalidInput, false),
                "{error}"
            );
            let bytes = requests.lock().unwrap().pop().unwrap().0.to_string();
            let expected =
                [("key", "large"), ("request_bytes", &bytes), ("max_request_bytes", "5242880")];
            for (name, expected) in expected {
                assert_eq!(error.get(name), Some(expected), "{error}");
            }
            assert!(error.to_string().contains("client_max_body_size"), "{error}");
        }
        let error = store.get("a long key").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(error.get("key"), Some("a long key"), "{error}");
    }

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
