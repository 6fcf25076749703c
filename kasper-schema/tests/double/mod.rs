//! A schema registry for tests of faults: it speaks the real REST API, counts what it is asked, and fails when told to.
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use kasper_schema::{Registry, RegistryConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What happens to a request instead of the right answer.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This status, and this body.
    Status(u16, &'static str),
    /// No answer, ever.
    Hang,
    /// The connection is closed.
    Close,
    /// A right answer, once this many requests wait for one.
    Gather(usize),
}

#[derive(Default)]
struct State {
    schemas: Vec<Value>,
    /// The ids of each subject's versions.
    subjects: HashMap<String, Vec<usize>>,
    faults: VecDeque<Fault>,
    always: Option<Fault>,
    /// Method, path, and `authorization`.
    requests: Vec<(String, String, Option<String>)>,
}

#[derive(Clone)]
pub(crate) struct Double {
    state: Arc<Mutex<State>>,
    waiting: Arc<tokio::sync::Semaphore>,
    pub(crate) url: String,
}

impl Double {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (state, waiting) = (Arc::default(), Arc::new(tokio::sync::Semaphore::new(0)));
        let double = Self { state, waiting, url };
        let serving = double.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(connection).await });
            }
        });
        double
    }

    /// A double, and a client of it that may register schemas.
    pub(crate) async fn with_registry() -> (Self, Registry) {
        let double = Self::start().await;
        let config = RegistryConfig::new(&double.url).auto_register(true);
        let registry = Registry::new(&config).unwrap();
        (double, registry)
    }

    /// Decodes bytes that were written as Avro, with the reader's schema.
    #[cfg(feature = "avro")]
    pub(crate) async fn decode_avro<T: serde::de::DeserializeOwned>(
        &self,
        registry: &Registry,
        writer: &str,
        bytes: &[u8],
        reader: &str,
    ) -> kasper::Result<T> {
        use kasper::codec::Decode as _;

        let id = self.add_avro("x", writer);
        let bytes = [&[0][..], &id.to_be_bytes(), bytes].concat();
        let decoder = kasper_schema::AvroDecoder::<T>::new(registry, reader)?;
        decoder.load([&bytes[..]]).await?;
        decoder.decode(&bytes).map_err(|error| *error.downcast::<kasper::Error>().unwrap())
    }

    /// Registers a schema, and returns its id.
    pub(crate) fn add(&self, subject: &str, schema: Value) -> u32 {
        self.state.lock().unwrap().add(subject, schema)
    }

    pub(crate) fn add_avro(&self, subject: &str, schema: &str) -> u32 {
        self.add(subject, json!({ "schema": schema }))
    }

    /// The next requests fail, in this order.
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    /// All requests fail.
    pub(crate) fn fail_always(&self, fault: Option<Fault>) {
        self.state.lock().unwrap().always = fault;
    }

    /// How many requests there were.
    pub(crate) fn asked(&self) -> usize {
        self.state.lock().unwrap().requests.len()
    }

    pub(crate) fn requests(&self) -> Vec<(String, String, Option<String>)> {
        self.state.lock().unwrap().requests.clone()
    }

    /// The paths of the requests that registered schemas.
    pub(crate) fn registrations(&self) -> Vec<String> {
        let posted = self.requests().into_iter().filter(|(method, ..)| method == "POST");
        posted.map(|(_, path, _)| path).filter(|path| path.ends_with("/versions")).collect()
    }

    async fn serve(&self, connection: TcpStream) -> Option<()> {
        let mut connection = BufReader::new(connection);
        loop {
            let mut first = String::new();
            connection.read_line(&mut first).await.ok().filter(|read| *read > 0)?;
            let (mut length, mut login) = (0, None);
            loop {
                let mut line = String::new();
                connection.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
                let Some((name, value)) = line.trim().split_once(": ") else { break };
                match name.to_lowercase().as_str() {
                    "content-length" => length = value.parse().unwrap(),
                    "authorization" => login = Some(value.to_owned()),
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            connection.read_exact(&mut body).await.ok()?;
            let mut words = first.split(' ');
            let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
            let (status, body) = self.answer(method, path, login, &body).await?;
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
            connection.write_all((head + &body).as_bytes()).await.ok()?;
        }
    }

    async fn answer(
        &self,
        method: String,
        path: String,
        login: Option<String>,
        body: &[u8],
    ) -> Option<(u16, String)> {
        let (fault, asked) = {
            let mut state = self.state.lock().unwrap();
            state.requests.push((method.clone(), path.clone(), login));
            let next = state.faults.pop_front();
            (next.or(state.always.clone()), state.requests.len())
        };
        match fault {
            Some(Fault::Status(status, body)) => return Some((status, body.to_owned())),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Close) => return None,
            Some(Fault::Gather(number)) => {
                if asked == number {
                    self.waiting.add_permits(number);
                }
                self.waiting.acquire().await.unwrap().forget();
            }
            None => {}
        }
        let mut state = self.state.lock().unwrap();
        let parts: Vec<&str> = path.split('?').next()?.trim_matches('/').split('/').collect();
        let (status, value) = match (method.as_str(), parts.as_slice()) {
            ("GET", ["schemas", "ids", id]) => match id.parse::<i32>() {
                Ok(id) => state.by_id(usize::try_from(id).unwrap_or_default()),
                Err(_) => no_path(),
            },
            ("GET", ["subjects", subject, "versions", version]) => {
                let version: usize = version.parse().unwrap();
                let ids = state.subjects.get(*subject);
                match ids.and_then(|ids| ids.get(version - 1)) {
                    Some(id) => state.by_id(*id),
                    None => complaint(40402, "Version not found"),
                }
            }
            ("POST", ["subjects", subject]) => state.find(subject, body),
            ("POST", ["subjects", subject, "versions"]) => {
                let schema = serde_json::from_slice(body).unwrap();
                (200, json!({ "id": state.add(subject, schema) }))
            }
            _ => no_path(),
        };
        Some((status, value.to_string()))
    }
}

impl State {
    fn by_id(&self, id: usize) -> (u16, Value) {
        match self.schemas.get(id.wrapping_sub(1)) {
            Some(schema) => (200, schema.clone()),
            None => complaint(40403, "Schema not found"),
        }
    }

    fn find(&self, subject: &str, body: &[u8]) -> (u16, Value) {
        let schema: Value = serde_json::from_slice(body).unwrap();
        let Some(ids) = self.subjects.get(subject) else {
            return complaint(40401, "Subject not found");
        };
        match ids.iter().find(|id| self.schemas[**id - 1] == schema) {
            Some(id) => (200, json!({ "id": id, "subject": subject, "version": 1 })),
            None => complaint(40403, "Schema not found"),
        }
    }

    fn add(&mut self, subject: &str, schema: Value) -> u32 {
        let known = self.schemas.iter().position(|known| *known == schema);
        let index = known.unwrap_or_else(|| {
            self.schemas.push(schema);
            self.schemas.len() - 1
        });
        let ids = self.subjects.entry(subject.to_owned()).or_default();
        if !ids.contains(&(index + 1)) {
            ids.push(index + 1);
        }
        u32::try_from(index + 1).unwrap()
    }
}

fn complaint(code: u32, message: &str) -> (u16, Value) {
    (404, json!({ "error_code": code, "message": message }))
}

/// As Jersey answers, the web server of Confluent's registry: also if a part of the path is not the number that it should be.
fn no_path() -> (u16, Value) {
    (404, json!({ "error_code": 404, "message": "HTTP 404 Not Found" }))
}
