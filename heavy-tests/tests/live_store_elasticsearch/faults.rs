//! Servers and networks that fail.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kasper::multitenant::{MultiElasticsearchStore, MultiStore, TenantKey, TenantMap};
use kasper::store::{ElasticsearchClient, ElasticsearchConfig, ElasticsearchStore, Retry, Store};
use kasper::testkit::{Fault, FaultProxy};
use kasper::{Bytes, Error, ErrorKind, Result};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::attempts::Attempts;
use crate::server::{Server, config, new_index, new_name};

const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(60);

fn behind(proxy: &FaultProxy) -> ElasticsearchConfig {
    config(&proxy.address().to_string(), new_index("behind"))
}

fn check(error: &Error, kind: ErrorKind, retryable: bool) {
    assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{error:?}");
    assert!(error.get("operation").is_some(), "{error:?}");
}

pub(crate) async fn a_read_only_index_is_told(server: &Server) {
    let index = new_name("blocked");
    let store = ElasticsearchStore::connect(&server.config_of(index.as_str())).await.unwrap();
    store.put("a", "{\"x\":1}").await.unwrap();
    let set = async |name: &str, value: &str| {
        let body = format!("{{\"index.blocks.{name}\":{value}}}");
        server.ask(Method::PUT, &format!("/{index}/_settings"), &body).await;
    };
    // What an operator sets, and what the server itself sets when its disk is full.
    for (block, kind, retryable) in [
        ("write", ErrorKind::Unauthorized, false),
        ("read_only", ErrorKind::Unauthorized, false),
        ("read_only_allow_delete", ErrorKind::NoSpace, true),
    ] {
        set(block, "true").await;
        let changes = [("a", Some(Bytes::from("{}"))), ("b", Some(Bytes::from("{}")))];
        let error = store.write_many(&changes).await.unwrap_err();
        check(&error, kind, retryable);
        assert_eq!(error.get("key"), Some("a"), "{error}");
        assert_eq!(store.get("a").await.unwrap(), Some("{\"x\":1}".into()));
        set(block, "null").await;
    }
    store.put("a", "{}").await.unwrap();
}

pub(crate) async fn no_setting_is_too_large(server: &Server) {
    let (time, size) = (Duration::MAX, usize::MAX);
    let config = server.config().timeout(time).request_timeout(time).connect_timeout(time);
    let config = config.max_request_items(size).max_request_bytes(size).max_value_bytes(size);
    let store = server.store(config.concurrency(size)).await;
    store.put("a", "{\"x\":1}").await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), Some("{\"x\":1}".into()));
}

/// An alias of two indexes can be written and not read; a closed index neither. The errors say what to do.
pub(crate) async fn an_index_that_fits_no_store_is_told(server: &Server) {
    let [one, other, alias] = ["one", "other", "alias"].map(new_name);
    for index in [&one, &other] {
        server.ask(Method::PUT, &format!("/{index}"), "{}").await;
    }
    let add = |index: &str, writes: bool| json!({"add": {"index": index, "alias": alias, "is_write_index": writes}});
    let actions = json!({"actions": [add(&one, true), add(&other, false)]});
    server.ask(Method::POST, "/_aliases", &actions.to_string()).await;
    let store = ElasticsearchStore::connect(&server.config_of(&*alias)).await.unwrap();
    store.put("a", "{}").await.unwrap();
    let error = store.get("a").await.unwrap_err();
    check(&error, ErrorKind::Config, false);
    assert!(error.to_string().contains("needs one index"), "{error}");

    server.ask(Method::POST, &format!("/{one}/_close"), "").await;
    let store = ElasticsearchStore::connect(&server.config_of(&*one)).await.unwrap();
    for error in [store.put("a", "{}").await.unwrap_err(), store.get("a").await.unwrap_err()] {
        check(&error, ErrorKind::Backend, false);
        assert_eq!(error.get("index"), Some(&*one), "{error}");
        assert!(error.to_string().contains("_open"), "{error}");
    }

    // Its name has an `index.mapping.total_fields.limit` of 1,000 fields.
    let store = ElasticsearchStore::connect(&server.config()).await.unwrap();
    let fields: Vec<String> = (0..1100).map(|field| format!("\"f{field}\":1")).collect();
    let error = store.put("many", format!("{{{}}}", fields.join(","))).await.unwrap_err();
    check(&error, ErrorKind::InvalidInput, false);
    assert_eq!(error.get("key"), Some("many"), "{error}");
    assert!(error.to_string().contains("create_index_if_missing"), "{error}");
}

/// A server that answers each request with the next of these: status and body. Counts the requests and
/// keeps the last one.
async fn scripted(
    answers: &'static [(u16, &'static str)],
) -> (String, Arc<AtomicUsize>, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (count, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
    let (counted, kept) = (Arc::clone(&count), Arc::clone(&last));
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            // One request a connection, of which body and head have come when its length is there.
            loop {
                let read = connection.read(&mut buffer).await.unwrap_or(0);
                request.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&request);
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length = length.map_or(0, |length| length.trim().parse().unwrap());
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
                if read == 0 || body.is_some_and(|body| body >= length) {
                    break;
                }
            }
            *kept.lock().unwrap() = String::from_utf8_lossy(&request).into_owned();
            let index = counted.fetch_add(1, Ordering::SeqCst);
            let (status, body) = answers[index.min(answers.len() - 1)];
            if (status, body) == NO_ANSWER {
                std::future::pending::<()>().await;
            }
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    (address, count, last)
}

const BUSY: &str =
    r#"{"error":{"type":"es_rejected_execution_exception","reason":"full"},"status":429}"#;
const HALF_BUSY: &str = r#"{"errors":true,"items":[{"index":{"status":201}},
    {"index":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"full"}}},
    {"delete":{"status":503,"error":{"type":"unavailable_shards_exception","reason":"none"}}}]}"#;
const DONE: &str =
    r#"{"errors":false,"items":[{"index":{"status":201}},{"delete":{"status":404}}]}"#;
const HALF_READ: &str = r#"{"docs":[{"found":true,"_source":{"n":1}},
    {"error":{"type":"es_rejected_execution_exception","reason":"full"}}]}"#;
const NO_ANSWER: (u16, &str) = (0, "");
const READ: &str = r#"{"docs":[{"found":true,"_source":{"n":2}}]}"#;

/// Not on the server itself, which can't be made busy for certain: on one that says what it says.
pub(crate) async fn busy_keys_are_tried_again_alone(_: &Server) {
    let (address, requests, last) = scripted(&[(429, BUSY), (200, HALF_BUSY), (200, DONE)]).await;
    let store = |address: &str, deadline: Duration| {
        let config = config(address, "i").timeout(deadline);
        let client = ElasticsearchClient::new(&config).unwrap();
        ElasticsearchStore::from_client(client, "i").unwrap()
    };
    let changes = [("a", Some(Bytes::from("{}"))), ("b", Some("{}".into())), ("c", None)];
    store(&address, LONG).write_many(&changes).await.unwrap();
    assert_eq!(requests.load(Ordering::SeqCst), 3);
    let body = last.lock().unwrap().split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(
        body,
        "{\"index\":{\"_index\":\"i\",\"_id\":\"b\"}}\n{}\n{\"delete\":{\"_index\":\"i\",\"_id\":\"c\"}}\n"
    );

    let (address, requests, last) = scripted(&[(200, HALF_READ), (200, READ)]).await;
    let found = store(&address, LONG).get_many(&["a", "b"]).await.unwrap();
    assert_eq!(found, [Some("{\"n\":1}".into()), Some("{\"n\":2}".into())]);
    assert_eq!(requests.load(Ordering::SeqCst), 2);
    assert!(last.lock().unwrap().ends_with(r#"{"docs":[{"_index":"i","_id":"b"}]}"#));

    // Until the deadline, and no longer.
    let (address, _, _) = scripted(&[(429, BUSY)]).await;
    let began = Instant::now();
    let error = store(&address, SHORT).get("a").await.unwrap_err();
    check(&error, ErrorKind::Unavailable, true);
    assert!(began.elapsed() < Duration::from_secs(20));
    // What the deadline cuts short does not take the place of the reason for trying again.
    let (busy, ..) = scripted(&[(429, BUSY), NO_ANSWER]).await;
    let (half_busy, ..) = scripted(&[(200, HALF_READ), NO_ANSWER]).await;
    for address in [busy, half_busy] {
        let error = store(&address, SHORT).get_many(&["a", "b"]).await.unwrap_err();
        check(&error, ErrorKind::Unavailable, true);
    }
}

/// The test servers ask for no password: one that does stands in.
pub(crate) async fn a_wrong_password_is_told_and_not_shown(_: &Server) {
    let (address, _, last) = scripted(&[(401, "Unauthorized")]).await;
    let url = format!("http://{address}");
    let config = ElasticsearchConfig::new(&url, "i").user("me").password("secret");
    let error = ElasticsearchStore::connect(&config).await.unwrap_err();
    check(&error, ErrorKind::Unauthorized, false);
    assert!(error.get("server").is_some_and(|server| server == url), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    assert!(last.lock().unwrap().contains("\r\nauthorization: Basic bWU6c2VjcmV0\r\n"));
    let config = ElasticsearchConfig::new(&url, "i").api_key("a2V5");
    ElasticsearchStore::connect(&config).await.unwrap_err();
    assert!(last.lock().unwrap().contains("\r\nauthorization: ApiKey a2V5\r\n"));
}

pub(crate) async fn a_cut_in_a_request_is_retryable(server: &Server) {
    let proxy = FaultProxy::start(server.address.clone()).await.unwrap();
    let store = server.store(behind(&proxy)).await;
    store.put("a", "{\"x\":1}").await.unwrap();
    // In the middle of an answer, of a write and of a read.
    let changes: Vec<(String, Option<Bytes>)> =
        (0..100).map(|index| (index.to_string(), Some("{}".into()))).collect();
    let changes: Vec<(&str, Option<Bytes>)> =
        changes.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    proxy.set(Fault::CutAfter(100));
    check(&store.write_many(&changes).await.unwrap_err(), ErrorKind::Unavailable, true);
    proxy.set(Fault::None);
    store.write_many(&changes).await.unwrap();
    proxy.set(Fault::CutAfter(10));
    check(&store.get("a").await.unwrap_err(), ErrorKind::Unavailable, true);
    proxy.set(Fault::None);
    assert_eq!(store.get("a").await.unwrap(), Some("{\"x\":1}".into()));
    // Go's `Delete` panics where there is no answer.
    proxy.set(Fault::Refuse);
    let error = store.delete("a").await.unwrap_err();
    check(&error, ErrorKind::Unavailable, true);
    assert_eq!(error.get("server"), Some(&*format!("http://{}", proxy.address())), "{error}");
    proxy.set(Fault::None);
    // A connection that was closed while nobody used it is no error.
    proxy.cut();
    tokio::task::yield_now().await;
    let _ = store.get("a").await;
    assert_eq!(store.get("a").await.unwrap(), Some("{\"x\":1}".into()));
}

/// A proxy that keeps what it was sent, and drops it when the connection is reset.
pub(crate) async fn a_write_that_was_given_up_is_not_made_later(server: &Server) {
    let proxy = FaultProxy::start(server.address.clone()).await.unwrap();
    let direct = server.store(server.config()).await;
    let index = new_index("late");
    let client = ElasticsearchClient::new(&behind(&proxy)).unwrap();
    let patient = ElasticsearchStore::from_client(client, index.clone()).unwrap();
    patient.put("a", "{\"x\":1}").await.unwrap();
    let client = ElasticsearchClient::new(&behind(&proxy).request_timeout(SHORT)).unwrap();
    let hurried = ElasticsearchStore::from_client(client, index).unwrap();
    // It has a connection.
    hurried.get("a").await.unwrap();
    proxy.set(Fault::Hold);
    check(&hurried.put("a", "{\"x\":2}").await.unwrap_err(), ErrorKind::Timeout, true);
    // By a new connection, which is not held.
    hurried.put("a", "{\"x\":3}").await.unwrap();
    proxy.set(Fault::None);
    for _ in 0..100 {
        direct.put("b", "{}").await.unwrap();
        assert_eq!(hurried.get("a").await.unwrap(), Some("{\"x\":3}".into()));
    }
}

pub(crate) async fn a_hung_server_ends_within_the_deadline(server: &Server) {
    let proxy = FaultProxy::start(server.address.clone()).await.unwrap();
    let store = server.store(behind(&proxy)).await;
    store.put("a", "{}").await.unwrap();
    let client = ElasticsearchClient::new(&behind(&proxy).timeout(SHORT)).unwrap();
    let hurried = ElasticsearchStore::from_client(client.clone(), new_index("hung")).unwrap();
    let tenants =
        MultiElasticsearchStore::from_client_with(client, |tenant: &str| tenant.to_owned());
    let changes: TenantMap = [("kasper-hung", "a", Some("{}"))].into_iter().collect();
    proxy.set(Fault::HalfOpen);
    let began = Instant::now();
    check(&hurried.get("a").await.unwrap_err(), ErrorKind::Timeout, true);
    check(&hurried.put("a", "{}").await.unwrap_err(), ErrorKind::Timeout, true);
    check(&hurried.flush().await.unwrap_err(), ErrorKind::Timeout, true);
    let keys = [TenantKey::new("kasper-hung", "a")];
    check(&tenants.fetch(&keys).await.unwrap_err(), ErrorKind::Timeout, true);
    check(&tenants.push(&changes).await.unwrap_err(), ErrorKind::Timeout, true);
    check(&MultiStore::flush(&tenants).await.unwrap_err(), ErrorKind::Timeout, true);
    let connected = ElasticsearchStore::connect(&behind(&proxy).timeout(SHORT)).await;
    check(&connected.unwrap_err(), ErrorKind::Timeout, true);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    proxy.set(Fault::None);
    store.put("a", "{}").await.unwrap();
}

pub(crate) async fn a_slow_server_is_waited_for(server: &Server) {
    let proxy = FaultProxy::start(server.address.clone()).await.unwrap();
    let store = server.store(behind(&proxy)).await;
    proxy.set(Fault::Delay(Duration::from_millis(200)));
    store.put("a", "{\"x\":1}").await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), Some("{\"x\":1}".into()));
}

/// Three addresses: one that refuses, one that hangs, and one that works.
pub(crate) async fn another_server_steps_in(server: &Server) {
    let refusing = FaultProxy::start(server.address.clone()).await.unwrap();
    let hanging = FaultProxy::start(server.address.clone()).await.unwrap();
    refusing.set(Fault::Refuse);
    let config = behind(&refusing)
        .node(format!("http://{}", hanging.address()))
        .node(format!("http://{}", server.address));
    let store = server.store(config.request_timeout(Duration::from_secs(3))).await;
    for _ in 0..3 {
        store.put("a", "{\"x\":1}").await.unwrap();
        assert_eq!(store.get("a").await.unwrap(), Some("{\"x\":1}".into()));
    }
    hanging.set(Fault::HalfOpen);
    // Reads go elsewhere in the same call.
    for _ in 0..3 {
        assert_eq!(store.get("a").await.unwrap(), Some("{\"x\":1}".into()));
    }
    assert!(refusing.connections() > 0 && hanging.connections() > 0);
}

pub(crate) async fn a_restart_in_mid_write_is_survived(server: &Server) {
    let store = server.store(server.config()).await;
    let Some(kill) = &server.kill else {
        panic!(
            "the variable with the script that kills the server is not set: cargo xtask test sets it"
        );
    };
    let retried = Attempts::new(server.store(server.config()).await);
    let patient = Retry::new(retried.clone()).deadline(Duration::from_secs(120));
    let keys: Vec<String> = (0..20_000).map(|index| index.to_string()).collect();
    let value = Some(Bytes::from("{\"x\":1}"));
    let changes: Vec<_> = keys.iter().map(|key| (key.as_str(), value.clone())).collect();
    let kill = async {
        // When both writes are under way: some of each can be read.
        while store.get("0").await.is_ok_and(|found| found.is_none()) {}
        while patient.get("0").await.is_ok_and(|found| found.is_none()) {}
        assert!(Command::new("sh").arg(kill).status().unwrap().success());
    };
    let (written, with_retry, ()) =
        tokio::join!(store.write_many(&changes), patient.write_many(&changes), kill);
    check(&written.unwrap_err(), ErrorKind::Unavailable, true);
    with_retry.unwrap();
    assert!(retried.writes() > 1, "the server was killed too late");
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert!(patient.get_many(&keys).await.unwrap().iter().all(|found| *found == value));
    // The same call again is all that the other store needs.
    store.write_many(&changes).await.unwrap();
    assert!(store.get_many(&keys).await.unwrap().iter().all(|found| *found == value));
}

/// The server looks at its disk every ten seconds: both are waited for at the same time.
pub(crate) async fn a_full_disk_is_told_until_there_is_room(servers: [&Server; 2]) {
    let [one, other] = servers;
    tokio::join!(full_disk(one), full_disk(other));
}

/// Makes the server take its disk for full, and itself make all indexes read-only.
async fn full_disk(server: &Server) {
    let store = server.store(server.config()).await;
    store.put("a", "{\"x\":1}").await.unwrap();
    watermarks(server, Some("900tb")).await;
    let error = until_refused(async || store.put("a", "{\"x\":2}").await).await;
    let read = store.get("a").await;
    let attempts = Attempts::new(store);
    let patient = Retry::new(attempts.clone()).deadline(LONG);
    let make_room = async {
        // When it has failed once more.
        while attempts.writes() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        watermarks(server, Some("1b")).await;
    };
    let (written, ()) = tokio::join!(patient.put("a", "{\"x\":3}"), make_room);
    watermarks(server, None).await;

    // Retryable: the server lifts the block by itself when there is room again.
    check(&error, ErrorKind::NoSpace, true);
    assert_eq!(error.get("key"), Some("a"), "{error}");
    assert!(error.to_string().contains("disk usage exceeded flood-stage watermark"), "{error}");
    assert_eq!(read.unwrap(), Some("{\"x\":2}".into()));
    written.unwrap();
    assert_eq!(patient.get("a").await.unwrap(), Some("{\"x\":3}".into()));
}

/// The error that the call ends in, sooner or later.
async fn until_refused(mut call: impl AsyncFnMut() -> Result<()>) -> Error {
    let began = Instant::now();
    loop {
        match call().await {
            Err(error) => return error,
            Ok(()) if began.elapsed() > LONG => panic!("the server finds room"),
            Ok(()) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// How much has to be free; with `None` the server does not look.
async fn watermarks(server: &Server, free: Option<&str>) {
    let disk = "cluster.routing.allocation.disk";
    let mut settings = serde_json::json!({"transient": {
        format!("{disk}.threshold_enabled"): free.map(|_| true),
        format!("{disk}.watermark.low"): free,
        format!("{disk}.watermark.high"): free,
        format!("{disk}.watermark.flood_stage"): free,
    }});
    if server.is_opensearch && free.is_none() {
        // It takes no new indexes, either, until it looks the next time, which it does no more.
        settings["persistent"] = serde_json::json!({"cluster.blocks.create_index": null});
    }
    let answer = server.ask(Method::PUT, "/_cluster/settings", &settings.to_string()).await;
    assert_eq!(answer["acknowledged"], true, "{answer}");
}
