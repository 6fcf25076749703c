//! `_mget` and `_bulk` by reqwest, a few requests of a large call at a time.

use futures_util::future::try_join_all;
use kasper::Bytes;
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Values;
use crate::common::BoxError;
use crate::place::Place;

/// Documents of one request.
const DOCUMENTS: usize = 1000;

pub(crate) struct Elasticsearch {
    client: Client,
    /// With the index.
    url: String,
}

impl Elasticsearch {
    pub(crate) fn new(place: &Place) -> Self {
        let url = format!("http://{}/{}", place.first_address(), place.name);
        Self { client: Client::new(), url }
    }

    pub(crate) async fn get_many(&self, keys: &[&str]) -> Result<Values, BoxError> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            docs: Vec<Doc<'a>>,
        }
        #[derive(Deserialize)]
        struct Doc<'a> {
            #[serde(borrow, rename = "_source")]
            source: Option<&'a RawValue>,
        }
        let parts = keys.chunks(DOCUMENTS).map(async |keys| {
            let body = format!("{{\"ids\":{}}}", serde_json::to_string(keys)?);
            let answer = self.ask("_mget", "application/json", body).await?;
            let answer: Answer<'_> = serde_json::from_slice(&answer)?;
            let values = answer.docs.into_iter().map(|doc| {
                doc.source.map(|source| Bytes::copy_from_slice(source.get().as_bytes()))
            });
            Ok::<Values, BoxError>(values.collect())
        });
        Ok(try_join_all(parts).await?.concat())
    }

    pub(crate) async fn write_many(&self, changes: &[(&str, Bytes)]) -> Result<(), BoxError> {
        #[derive(Deserialize)]
        struct Answer {
            errors: bool,
        }
        let parts = changes.chunks(DOCUMENTS).map(async |changes| {
            let mut body = Vec::new();
            for (key, value) in changes {
                body.extend_from_slice(b"{\"index\":{\"_id\":");
                serde_json::to_writer(&mut body, key)?;
                body.extend_from_slice(b"}}\n");
                body.extend_from_slice(value);
                body.push(b'\n');
            }
            let answer = self.ask("_bulk", "application/x-ndjson", body).await?;
            let Answer { errors } = serde_json::from_slice(&answer)?;
            if errors { Err("a document was refused".into()) } else { Ok::<(), BoxError>(()) }
        });
        try_join_all(parts).await?;
        Ok(())
    }

    async fn ask(
        &self,
        what: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<Bytes, BoxError> {
        let request = self.client.post(format!("{}/{what}", self.url));
        let request = request.header(CONTENT_TYPE, content_type).body(body);
        Ok(request.send().await?.error_for_status()?.bytes().await?)
    }
}
