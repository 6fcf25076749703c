//! [`Registry`]: schemas by id, and ids of schemas, remembered.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use kasper::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::client::{Answer, Client, Request};
use crate::config::RegistryConfig;

/// A Confluent-compatible schema registry: Confluent's, Apicurio's, Karapace, Redpanda's.
///
/// Clones share connections and what is known. Schemas by id are kept for good; concurrent calls that miss the same id
/// ask once.
///
/// # Errors
/// What the decoders and encoders return if the registry gives no schema:
/// - [`Unavailable`](ErrorKind::Unavailable) and [`Timeout`](ErrorKind::Timeout), retryable: none of the servers could
///   be reached, or all failed, until the configured [`timeout`](RegistryConfig::timeout) was over;
/// - [`Unauthorized`](ErrorKind::Unauthorized): the registry refuses the user;
/// - [`Config`](ErrorKind::Config): there is something else at the URL;
/// - [`NotFound`](ErrorKind::NotFound): the registry does not know the id, the subject or the schema, or gives no schema
///   for the id;
/// - [`InvalidInput`](ErrorKind::InvalidInput): the registry does not accept a schema that is registered.
///
/// They have the `operation`, the `server`, and the `schema_id` or the `subject`.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    config: RegistryConfig,
    schemas: Mutex<HashMap<u32, Arc<OnceCell<Arc<Registered>>>>>,
}

/// A schema as the registry has it.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) kind: String,
    pub(crate) text: String,
    /// The schemas that it refers to, and those that they refer to; what is referred to stands first.
    #[cfg_attr(not(feature = "avro"), allow(dead_code, reason = "Protobuf needs no other files"))]
    pub(crate) references: Vec<String>,
}

pub(crate) const AVRO: &str = "AVRO";
#[cfg(feature = "protobuf")]
pub(crate) const PROTOBUF: &str = "PROTOBUF";

#[derive(Deserialize)]
struct SchemaAnswer {
    schema: String,
    /// Old registries, which know only Avro, don't say it.
    #[serde(rename = "schemaType", default)]
    kind: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: u32,
}

#[derive(Serialize)]
struct SchemaQuestion<'a> {
    schema: &'a str,
    #[serde(rename = "schemaType", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
}

#[derive(Deserialize)]
struct IdAnswer {
    id: u32,
}

impl Registry {
    /// The registry of this configuration. No I/O: it is asked when an encoder is made, and when a decoder meets the
    /// first id.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config): all faults of the configuration.
    pub fn new(config: &RegistryConfig) -> Result<Self> {
        let (client, config) = (Client::new(config)?, config.clone());
        Ok(Self { inner: Arc::new(Inner { client, config, schemas: Mutex::default() }) })
    }

    pub(crate) fn config(&self) -> &RegistryConfig {
        &self.inner.config
    }

    /// The schema with this id. Cancel-safe: if a call that asks is dropped, one that waits for it asks instead.
    pub(crate) async fn schema(&self, id: u32) -> Result<Arc<Registered>> {
        // A registry's ids are Java's `int`s: it would take a larger one for a wrong path.
        if i32::try_from(id).is_err() {
            let error = Error::new(ErrorKind::NotFound, "no registry has an id as large as this");
            return Err(error.with("schema_id", id));
        }
        // Those who wait for the same id take turns in the order in which they came, each until its own deadline: none
        // waits longer than its own.
        let deadline = self.inner.client.deadline();
        let cell = {
            let mut schemas = self.inner.schemas.lock().unwrap_or_else(PoisonError::into_inner);
            schemas.entry(id).or_default().clone()
        };
        let found = cell.get_or_try_init(|| async move { self.fetch(id, deadline).await }).await;
        found.cloned().map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                self.forget(id);
            }
            error.with("schema_id", id)
        })
    }

    /// Ids that don't exist take no memory.
    fn forget(&self, id: u32) {
        let mut schemas = self.inner.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if schemas.get(&id).is_some_and(|cell| !cell.initialized()) {
            schemas.remove(&id);
        }
    }

    async fn fetch(&self, id: u32, deadline: Instant) -> Result<Arc<Registered>> {
        let path = ["schemas", "ids", &id.to_string()];
        let answer = self.get("get_schema", &path, deadline).await?;
        let kind = answer.kind.unwrap_or_else(|| AVRO.to_owned());
        let references = match kind.as_str() {
            AVRO => self.referenced(answer.references.unwrap_or_default(), deadline).await?,
            _ => Vec::new(),
        };
        Ok(Arc::new(Registered { kind, text: answer.schema, references }))
    }

    /// The schemas that are referred to, directly or not.
    async fn referenced(&self, direct: Vec<Reference>, deadline: Instant) -> Result<Vec<String>> {
        /// What is still to do; the last first.
        enum Step {
            Visit(Reference),
            Take(String),
        }
        let visits = |references: Vec<Reference>| references.into_iter().rev().map(Step::Visit);
        let (mut taken, mut seen) = (Vec::new(), HashSet::new());
        let mut steps: Vec<Step> = visits(direct).collect();
        while let Some(step) = steps.pop() {
            let Reference { subject, version } = match step {
                Step::Take(text) => {
                    taken.push(text);
                    continue;
                }
                Step::Visit(reference) => reference,
            };
            if !seen.insert((subject.clone(), version)) {
                continue;
            }
            let path = ["subjects", &subject, "versions", &version.to_string()];
            let answer = self.get("get_referenced_schema", &path, deadline).await;
            let answer = answer.map_err(|error| error.with("subject", &subject))?;
            steps.push(Step::Take(answer.schema));
            steps.extend(visits(answer.references.unwrap_or_default()));
        }
        Ok(taken)
    }

    async fn get(
        &self,
        operation: &'static str,
        path: &[&str],
        deadline: Instant,
    ) -> Result<SchemaAnswer> {
        let request = Request { operation, path, query: None, body: None };
        let none = Error::new(ErrorKind::NotFound, "the registry has no such schema");
        match self.inner.client.ask(&request, deadline).await? {
            Answer::Found(answer) => Ok(answer),
            Answer::Missing(reason) | Answer::Refused(reason) => {
                Err(none.with("operation", operation).with("reason", reason))
            }
            // Of this id alone, too: other messages of the batch need not wait for it.
            Answer::Odd(error) => Err(none.with("reason", &error).with_source(error)),
        }
    }

    /// The id of the schema under the subject; registers it if it is missing and that is configured.
    pub(crate) async fn id_of(&self, subject: &str, kind: &str, text: &str) -> Result<u32> {
        let deadline = self.inner.client.deadline();
        // Old registries, which know only Avro, refuse the field.
        let question = SchemaQuestion { schema: text, kind: Some(kind).filter(|it| *it != AVRO) };
        let body = serde_json::to_vec(&question)
            .map_err(|cause| Error::new(ErrorKind::InvalidInput, "no schema").with_source(cause))?;
        let (look_up, register) = (["subjects", subject], ["subjects", subject, "versions"]);
        // First as it is, as most clients ask; then so that spaces and the order of attributes don't matter.
        let mut questions: Vec<(_, &[&str], _)> = vec![
            ("look_up_schema", &look_up, None),
            ("look_up_schema", &look_up, Some("normalize=true")),
        ];
        if self.inner.config.auto_register {
            questions.push(("register_schema", &register, None));
        }
        let told = |error: Error| error.with("subject", subject);
        let mut missing = String::new();
        for (operation, path, query) in questions {
            let request = Request { operation, path, query, body: Some(body.clone()) };
            match self.inner.client.ask::<IdAnswer>(&request, deadline).await.map_err(told)? {
                Answer::Found(IdAnswer { id }) => return Ok(id),
                Answer::Missing(reason) => missing = reason,
                Answer::Odd(error) => return Err(told(error)),
                Answer::Refused(reason) => {
                    let message = "the registry does not accept the schema";
                    let error = Error::new(ErrorKind::InvalidInput, message);
                    return Err(told(error.with("operation", operation)).with("reason", reason));
                }
            }
        }
        let message = "the schema is not registered: register it, or set `auto_register`";
        let error = Error::new(ErrorKind::NotFound, message).with("operation", "look_up_schema");
        Err(told(error).with("reason", missing))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("config", &self.inner.config).finish_non_exhaustive()
    }
}
