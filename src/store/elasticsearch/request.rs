//! The requests `_mget` and `_bulk` as text, and what their answers say.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::call::{JSON, LINES, Request};
use super::config::{ElasticsearchEncoding, ElasticsearchRefresh};
use super::fault::Fault;
use super::index::ElasticsearchIndex;
use crate::error::{Error, ErrorKind, Result};

/// Where a value is.
#[derive(Debug, Clone, Copy)]
pub(super) struct DocumentId<'a> {
    /// For errors.
    pub(super) tenant: Option<&'a str>,
    pub(super) index: &'a ElasticsearchIndex,
    pub(super) id: &'a str,
}

/// A value to set, or a deletion.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) place: DocumentId<'a>,
    pub(super) value: Option<&'a Bytes>,
}

impl DocumentId<'_> {
    /// About how many bytes it takes in a request.
    pub(super) fn size(&self) -> usize {
        64 + self.index.name.len() + self.id.len()
    }

    /// `"_index":"…","_id":"…"`
    fn write(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(b"{\"_index\":");
        write_text(body, &self.index.name);
        if let Some(document_type) = &self.index.document_type {
            body.extend_from_slice(b",\"_type\":");
            write_text(body, document_type);
        }
        body.extend_from_slice(b",\"_id\":");
        write_text(body, self.id);
        body.push(b'}');
    }

    /// Says in an error about more than one key where they are, if they are all in one index.
    pub(super) fn name_index(&self, error: Error) -> Error {
        match self.tenant {
            Some(_) => error,
            None => error.with("index", &self.index.name),
        }
    }

    /// Says in an error which key of whom it is.
    pub(super) fn name(&self, error: Error) -> Error {
        let error = error.with("key", crate::store::limits::shortened(self.id));
        match self.tenant {
            Some(tenant) => error.with("tenant", tenant),
            None => error.with("index", &self.index.name),
        }
    }
}

impl Change<'_> {
    /// About how many bytes it takes in a request.
    pub(super) fn size(&self, encoding: ElasticsearchEncoding) -> usize {
        let value = self.value.map_or(0, Bytes::len);
        self.place.size()
            + if encoding == ElasticsearchEncoding::Binary { value / 3 * 4 + 16 } else { value }
    }

    /// Whether it can be a line of a `_bulk` request and stay as it is: JSON may have line breaks between
    /// its tokens, and the servers take a carriage return at the end of a line away.
    pub(super) fn fits_a_line(&self, encoding: ElasticsearchEncoding) -> bool {
        let is_line = |value: &Bytes| !value.contains(&b'\n') && value.last() != Some(&b'\r');
        encoding == ElasticsearchEncoding::Binary || self.value.is_none_or(is_line)
    }
}

/// Text as JSON.
fn write_text(body: &mut Vec<u8>, text: &str) {
    // Writing text to memory cannot fail.
    let _ = serde_json::to_writer(body, text);
}

fn write_value(body: &mut Vec<u8>, value: &Bytes, encoding: ElasticsearchEncoding) {
    match encoding {
        ElasticsearchEncoding::Json => body.extend_from_slice(value),
        ElasticsearchEncoding::Binary => {
            body.extend_from_slice(b"{\"value\":\"");
            let mut text = String::with_capacity(value.len() / 3 * 4 + 4);
            STANDARD.encode_string(value, &mut text);
            body.extend_from_slice(text.as_bytes());
            body.extend_from_slice(b"\"}");
        }
    }
}

/// Reads these.
pub(super) fn mget(places: &[DocumentId<'_>]) -> Request {
    let mut body = Vec::with_capacity(16 + places.iter().map(DocumentId::size).sum::<usize>());
    body.extend_from_slice(b"{\"docs\":[");
    for (index, place) in places.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        place.write(&mut body);
    }
    body.extend_from_slice(b"]}");
    Request {
        method: Method::POST,
        path: "/_mget".to_owned(),
        content_type: JSON,
        body: body.into(),
        reads: true,
    }
}

/// Makes these changes, each of which fits a line.
pub(super) fn bulk(
    changes: &[Change<'_>],
    encoding: ElasticsearchEncoding,
    refresh: ElasticsearchRefresh,
) -> Request {
    let size = changes.iter().map(|change| change.size(encoding)).sum();
    let mut body = Vec::with_capacity(size);
    for Change { place, value } in changes {
        let action: &[u8] = if value.is_some() { b"{\"index\":" } else { b"{\"delete\":" };
        body.extend_from_slice(action);
        place.write(&mut body);
        body.extend_from_slice(b"}\n");
        if let Some(value) = value {
            write_value(&mut body, value, encoding);
            body.push(b'\n');
        }
    }
    Request {
        method: Method::POST,
        path: format!("/_bulk{}", refresh.parameter()),
        content_type: LINES,
        body: body.into(),
        reads: false,
    }
}

/// Sets one value that does not fit a line.
pub(super) fn put(place: DocumentId<'_>, value: &Bytes, refresh: ElasticsearchRefresh) -> Request {
    let document_type = place.index.document_type.as_deref().unwrap_or("_doc");
    let path = format!(
        "/{}/{}/{}{}",
        path_segment(&place.index.name),
        if document_type == "_doc" { "_doc".to_owned() } else { path_segment(document_type) },
        path_segment(place.id),
        refresh.parameter()
    );
    Request { method: Method::PUT, path, content_type: JSON, body: value.clone(), reads: false }
}

/// Makes searches see what was written to these indexes and, since each is named, to no other.
pub(super) fn refresh<'a>(indexes: impl IntoIterator<Item = &'a str>) -> Request {
    let names: Vec<String> = indexes.into_iter().map(path_segment).collect();
    Request {
        method: Method::POST,
        path: format!("/{}/_refresh?ignore_unavailable=true", names.join(",")),
        content_type: JSON,
        body: Bytes::new(),
        reads: true,
    }
}

/// Makes an index whose documents are kept and not indexed.
pub(super) fn create(index: &ElasticsearchIndex) -> Request {
    let mut mappings = serde_json::json!({"enabled": false});
    if let Some(document_type) = &index.document_type {
        mappings = serde_json::json!({ document_type.as_str(): mappings });
    }
    // Newer servers take no types unless told to, and older ones don't know that they can be told.
    Request {
        method: Method::PUT,
        path: format!("/{}", path_segment(&index.name)),
        content_type: JSON,
        body: serde_json::json!({ "mappings": mappings }).to_string().into(),
        reads: false,
    }
}

pub(super) fn path_segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The values in the answer to [`mget`], or why there is none, by position.
pub(super) fn found(
    body: &Bytes,
    places: &[DocumentId<'_>],
    encoding: ElasticsearchEncoding,
) -> Result<Vec<Result<Option<Bytes>, Fault>>> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        docs: Vec<Doc<'a>>,
    }
    #[derive(Deserialize)]
    struct Doc<'a> {
        #[serde(default)]
        found: bool,
        #[serde(borrow, rename = "_source")]
        source: Option<&'a RawValue>,
        error: Option<Value>,
    }
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(strange)?;
    check_count(answer.docs.len(), places.len())?;
    let values =
        answer.docs.into_iter().zip(places).map(|(doc, place)| match (doc.error, doc.source) {
            // The index does not exist before the first write.
            (Some(error), _) if type_of(&error) == NO_INDEX => Ok(Ok(None)),
            (Some(error), _) => Ok(Err(Fault::of_server(0, &error))),
            (None, _) if !doc.found => Ok(Ok(None)),
            (None, Some(source)) => decode(body, source.get(), encoding)
                .map(|value| Ok(Some(value)))
                .map_err(|error| place.name(error)),
            (None, None) => Err(place.name(Error::new(
                ErrorKind::Backend,
                "the index keeps no `_source`, which is where values are",
            ))),
        });
    values.collect()
}

const NO_INDEX: &str = "index_not_found_exception";

fn type_of(error: &Value) -> &str {
    error.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Which of the changes failed, from the answer to [`bulk`].
pub(super) fn failed<'a>(body: &[u8], changes: &[Change<'a>]) -> Result<Vec<(Change<'a>, Fault)>> {
    #[derive(Deserialize)]
    struct Outcome {
        errors: bool,
        items: Vec<IgnoredAny>,
    }
    #[derive(Deserialize)]
    struct Answer {
        items: Vec<BTreeMap<String, Item>>,
    }
    #[derive(Deserialize)]
    struct Item {
        status: u16,
        error: Option<Value>,
        result: Option<String>,
    }
    let outcome: Outcome = serde_json::from_slice(body).map_err(strange)?;
    check_count(outcome.items.len(), changes.len())?;
    if !outcome.errors && !is_dropped(body) {
        return Ok(Vec::new());
    }
    let answer: Answer = serde_json::from_slice(body).map_err(strange)?;
    let items = answer.items.into_iter().flat_map(BTreeMap::into_values);
    let failed = changes.iter().zip(items).filter_map(|(change, item)| {
        let Some(error) = item.error else {
            let is_dropped = item.result.as_deref() == Some("noop");
            return is_dropped.then(|| (*change, Fault::dropped()));
        };
        // Nothing is there to be deleted, not even the index.
        let is_gone = change.value.is_none() && type_of(&error) == NO_INDEX;
        (!is_gone).then(|| (*change, Fault::of_server(item.status, &error)))
    });
    Ok(failed.collect())
}

/// Whether the answer to a write says of a document that it is not stored: a pipeline dropped it, which is no error to
/// the server. No text within the answer can look so: its quotes have backslashes.
pub(super) fn is_dropped(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|body| body.contains("\"result\":\"noop\""))
}

fn check_count(answered: usize, asked: usize) -> Result<()> {
    if answered == asked {
        return Ok(());
    }
    let message = format!("the server answered for {answered} documents instead of {asked}");
    Err(Error::new(ErrorKind::Backend, message))
}

fn strange(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Backend, "the server's answer is not understood").with_source(error)
}

/// The value of a document; `source` lies in `body`.
fn decode(body: &Bytes, source: &str, encoding: ElasticsearchEncoding) -> Result<Bytes> {
    #[derive(Deserialize)]
    struct Encoded<'a> {
        #[serde(borrow)]
        value: std::borrow::Cow<'a, str>,
    }
    match encoding {
        // Copied, so that a value which is kept does not keep the whole answer.
        ElasticsearchEncoding::Json => Ok(Bytes::copy_from_slice(with_spaces(body, source))),
        ElasticsearchEncoding::Binary => {
            let not_ours =
                || Error::new(ErrorKind::Backend, "not a document of the encoding `binary`");
            let encoded: Encoded<'_> =
                serde_json::from_str(source).map_err(|error| not_ours().with_source(error))?;
            let value =
                STANDARD.decode(&*encoded.value).map_err(|error| not_ours().with_source(error))?;
            Ok(value.into())
        }
    }
}

/// The part with the spaces around it, which the parser left out: servers give documents back with them, and
/// put none there themselves.
fn with_spaces<'a>(body: &'a [u8], part: &str) -> &'a [u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let begin = part.as_ptr() as usize - body.as_ptr() as usize;
    let end = begin + part.len();
    let before = body[..begin].iter().rev().take_while(|byte| is_space(byte)).count();
    let after = body[end..].iter().take_while(|byte| is_space(byte)).count();
    &body[begin - before..end + after]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place<'a>(index: &'a ElasticsearchIndex, id: &'a str) -> DocumentId<'a> {
        DocumentId { tenant: None, index, id }
    }

    fn text(request: &Request) -> &str {
        std::str::from_utf8(&request.body).unwrap()
    }

    #[test]
    fn requests_name_index_and_id_only() {
        let index = ElasticsearchIndex::new("i");
        let request = mget(&[place(&index, "a\"\n"), place(&index, "é")]);
        assert_eq!(
            text(&request),
            r#"{"docs":[{"_index":"i","_id":"a\"\n"},{"_index":"i","_id":"é"}]}"#
        );
        let value = Bytes::from("{\"a\" :1}");
        let changes = [
            Change { place: place(&index, "a"), value: Some(&value) },
            Change { place: place(&index, "b"), value: None },
        ];
        let request = bulk(&changes, ElasticsearchEncoding::Json, ElasticsearchRefresh::Later);
        assert_eq!(
            text(&request),
            "{\"index\":{\"_index\":\"i\",\"_id\":\"a\"}}\n{\"a\" :1}\n{\"delete\":{\"_index\":\"i\",\"_id\":\"b\"}}\n"
        );
        assert_eq!(request.path, "/_bulk");
        let request =
            bulk(&changes[..1], ElasticsearchEncoding::Binary, ElasticsearchRefresh::WaitFor);
        assert!(text(&request).ends_with("\n{\"value\":\"eyJhIiA6MX0=\"}\n"));
        assert_eq!(request.path, "/_bulk?refresh=wait_for");
    }

    #[test]
    fn older_servers_are_told_the_type() {
        let index = ElasticsearchIndex::new("i").document_type("t");
        assert_eq!(
            text(&mget(&[place(&index, "a")])),
            r#"{"docs":[{"_index":"i","_type":"t","_id":"a"}]}"#
        );
        let value = Bytes::from("{}");
        assert_eq!(
            put(place(&index, "a/\n"), &value, ElasticsearchRefresh::Later).path,
            "/i/t/a%2F%0A"
        );
        assert_eq!(text(&create(&index)), r#"{"mappings":{"t":{"enabled":false}}}"#);
    }

    #[test]
    fn spaces_around_a_document_come_back() {
        let index = ElasticsearchIndex::new("i");
        let body = "{\"docs\":[{\"found\":true,\"_source\":\n {\"a\": 1}\t },{\"found\":false},\
                    {\"error\":{\"type\":\"index_not_found_exception\"}}]}";
        let values =
            found(&body.into(), &[place(&index, "a"); 3], ElasticsearchEncoding::Json).unwrap();
        let values: Vec<_> = values.into_iter().map(|value| value.unwrap()).collect();
        assert_eq!(values, [Some("\n {\"a\": 1}\t ".into()), None, None]);
    }

    #[test]
    fn an_answer_for_other_documents_is_an_error() {
        let index = ElasticsearchIndex::new("i");
        let error =
            found(&"{\"docs\":[]}".into(), &[place(&index, "a")], ElasticsearchEncoding::Json)
                .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend);
        found(&"<html>".into(), &[], ElasticsearchEncoding::Json).unwrap_err();
        let changes = [Change { place: place(&index, "a"), value: None }];
        failed(b"{\"errors\":false,\"items\":[]}", &changes).unwrap_err();
    }

    #[test]
    fn a_document_that_a_pipeline_drops_is_an_error() {
        let (index, value) = (ElasticsearchIndex::new("i"), Bytes::from("{}"));
        let changes = ["a", "b"].map(|id| Change { place: place(&index, id), value: Some(&value) });
        let body = r#"{"took":1,"errors":false,"items":[{"index":{"_id":"a","result":"created","status":201}},
            {"index":{"_id":"b","_version":-3,"result":"noop","status":200}}]}"#;
        let failed = failed(body.as_bytes(), &changes).unwrap();
        let [(change, fault)] = &failed[..] else { panic!("{failed:?}") };
        assert_eq!((change.place.id, fault.error.kind()), ("b", ErrorKind::Config));
        assert!(fault.error.to_string().contains("default_pipeline"), "{}", fault.error);
    }

    #[test]
    fn what_no_line_can_hold_is_seen() {
        let index = ElasticsearchIndex::new("i");
        for (value, fits) in [("{}", true), ("{ }\r", false), ("{\n}", false), ("{\r}", true)] {
            let value = Bytes::from(value);
            let change = Change { place: place(&index, "a"), value: Some(&value) };
            assert_eq!(change.fits_a_line(ElasticsearchEncoding::Json), fits, "{value:?}");
            assert!(change.fits_a_line(ElasticsearchEncoding::Binary));
        }
    }
}
