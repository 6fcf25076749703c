//! The admin server over HTTP, with processors that do nothing by themselves.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::page::{PAGE, inside};
use super::server::{HEAD_TIMEOUT, WRITE_TIMEOUT, serve_connection};
use super::shared::MAX_LISTENERS;
use super::{Admin, AdminServer};
use crate::error::{Error, ErrorKind};
use crate::handle::Handle;
use crate::message::{Offset, TopicPartition};
use crate::metrics::Metrics;
use crate::pipeline::epoch::Epoch;
use crate::pipeline::progress::{Board, LaneProgress};
use crate::pipeline::topic_progress::TopicProgress;
use crate::status::{PartitionState, ProcessorState, TopicChange, TopicWarning};

const TOKEN: &str = "0123456789abcdef";

/// A processor that runs and has one partition with 10 messages of lag.
fn running(name: &str) -> (Arc<Board>, Arc<LaneProgress>, Handle) {
    let board = Board::new();
    let partition = TopicPartition::new("in", 3);
    let topic =
        TopicProgress::new(0, partition, Epoch::new(1, None), Offset::new(40), Offset::new(50));
    let lane = LaneProgress::new(3, vec![topic], Arc::new(|| 0), board.changed.clone());
    let lane = Arc::new(lane);
    lane.set_state(PartitionState::Running);
    board.insert(lane.clone());
    board.set_state(ProcessorState::Running);
    board.set_settled(true);
    let handle = Handle::new(board.clone(), name.into(), Metrics::global(name));
    (board, lane, handle)
}

async fn serve(admin: Admin) -> AdminServer {
    admin.serve("127.0.0.1:0").await.unwrap()
}

async fn ask(
    server: &AdminServer,
    method: Method,
    path: &str,
    token: Option<&str>,
) -> Response<Incoming> {
    let stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = match token {
        Some(token) => request.header("authorization", token),
        None => request,
    };
    sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
}

async fn text(answer: Response<Incoming>) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

async fn get(server: &AdminServer, path: &str) -> (StatusCode, String) {
    let answer = ask(server, Method::GET, path, None).await;
    (answer.status(), text(answer).await)
}

#[tokio::test]
async fn status_says_what_the_handles_say() {
    let (_first, _lane, handle) = running("first");
    let (second, _, other) = running("second");
    second.note_failure(&Error::new(ErrorKind::Process, "it broke").with_source("of old age"));
    second.close_for_good();
    let server = serve(Admin::new().processor(handle).processor(other)).await;
    let answer = ask(&server, Method::GET, "/status", None).await;
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let status: Value = serde_json::from_str(&text(answer).await).unwrap();
    assert_eq!((&status["version"], &status["control"]), (&1.into(), &false.into()));
    assert!(status["at_ms"].as_u64().unwrap() > 1_700_000_000_000);
    let [first, second] = &status["processors"].as_array().unwrap()[..] else { panic!("{status}") };
    for (field, value) in [
        ("id", Value::from(0)),
        ("name", "first".into()),
        ("state", "running".into()),
        ("ready", true.into()),
        ("paused", false.into()),
        ("failure", Value::Null),
        ("lag", 10.into()),
        ("messages", 0.into()),
        ("batches", 0.into()),
        ("bytes", 0.into()),
    ] {
        assert_eq!(first[field], value, "{field}");
    }
    let partition = &first["partitions"][0];
    for (field, value) in [
        ("topic", Value::from("in")),
        ("partition", 3.into()),
        ("state", "running".into()),
        ("epoch", 1.into()),
        ("next_offset", 40.into()),
        ("end_offset", 50.into()),
        ("lag", 10.into()),
        ("in_flight", 0.into()),
        ("stalled", false.into()),
        ("last_error", Value::Null),
    ] {
        assert_eq!(partition[field], value, "{field}");
    }
    assert!(partition["last_progress_ms"].is_u64());
    assert_eq!((&second["id"], &second["state"]), (&1.into(), &"closed".into()));
    assert_eq!((&second["ready"], &second["partitions"]), (&false.into(), &Value::Array(vec![])));
    assert_eq!(second["failure"], "process failed: it broke: of old age");
}

fn warn_of_topic(board: &Board, change: TopicChange) {
    let (topic, since) = (Arc::from("in"), Duration::ZERO);
    let warning = TopicWarning { topic, change, message: "it is gone".into(), since };
    board.set_topic_warnings(vec![(warning, Instant::now())]);
}

#[tokio::test]
async fn a_topic_that_changed_is_told_of_and_not_ready() {
    let (board, _lane, handle) = running("orders");
    let server = serve(Admin::new().processor(handle)).await;
    warn_of_topic(&board, TopicChange::PartitionsAdded);
    assert_eq!(get(&server, "/health/ready").await.0, StatusCode::OK, "it goes on");
    warn_of_topic(&board, TopicChange::Recreated);
    let (code, reason) = get(&server, "/health/ready").await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reason, "orders: topic in: it is gone\n");
    let status: Value = serde_json::from_str(&get(&server, "/status").await.1).unwrap();
    let topic = &status["processors"][0]["topics"][0];
    assert_eq!((&topic["topic"], &topic["change"]), (&"in".into(), &"recreated".into()));
    assert_eq!(topic["message"], "it is gone");
}

/// Every field of `/status` is in the documentation, and the other way round.
#[tokio::test]
async fn the_fields_of_status_are_documented() {
    let (board, _lane, handle) = running("p");
    warn_of_topic(&board, TopicChange::Deleted);
    let server = serve(Admin::new().processor(handle)).await;
    let status: Value = serde_json::from_str(&get(&server, "/status").await.1).unwrap();
    let mut fields: Vec<String> = status.as_object().unwrap().keys().cloned().collect();
    let processor = &status["processors"][0];
    fields.extend(processor.as_object().unwrap().keys().map(|field| format!("….{field}")));
    let partition = processor["partitions"][0].as_object().unwrap();
    fields.extend(partition.keys().map(|field| format!("….partitions.{field}")));
    let topic = processor["topics"][0].as_object().unwrap();
    fields.extend(topic.keys().map(|field| format!("….topics.{field}")));
    fields.sort();
    let table = include_str!("mod.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
    let first_cells = table.map(|line| line.split(" | ").next().unwrap());
    let names = first_cells.flat_map(|cell| cell.split(", ")).map(|name| name.replace('`', ""));
    let mut documented: Vec<String> = names.filter(|name| !name.starts_with('/')).collect();
    documented.sort();
    assert_eq!(documented, fields);
}

#[tokio::test]
async fn ready_names_each_reason_why_not() {
    let (board, lane, handle) = running("orders");
    let (other, _, idle) = running("bills");
    let server = serve(Admin::new().processor(handle).processor(idle)).await;
    let ready = || get(&server, "/health/ready");
    assert_eq!(ready().await, (StatusCode::OK, "ready\n".into()));
    let not = |reason: &str| (StatusCode::SERVICE_UNAVAILABLE, reason.to_owned());
    lane.watch(Duration::ZERO);
    assert_eq!(ready().await, not("orders: in/3 stalled\n"));
    lane.finish_batch(&[], None);
    assert_eq!(ready().await.0, StatusCode::OK);
    board.set_settled(false);
    other.set_state(ProcessorState::Starting);
    assert_eq!(ready().await, not("orders: waits for its partitions\nbills: does not run yet\n"));
    board.set_settled(true);
    other.set_state(ProcessorState::Closing);
    assert_eq!(ready().await, not("bills: is closing\n"));
    other.remove(3);
    other.set_state(ProcessorState::Running);
    assert_eq!(ready().await.0, StatusCode::OK, "it is known to have nothing");
    lane.fail(&Error::new(ErrorKind::Process, "x"));
    assert_eq!(ready().await, not("orders: in/3 failed\n"));
    board.note_failure(&Error::new(ErrorKind::Process, "x"));
    board.close_for_good();
    assert_eq!(ready().await, not("orders: failed: process failed: x\n"));
    assert_eq!(get(&server, "/health/live").await, (StatusCode::OK, "live\n".into()));
}

#[tokio::test]
async fn what_is_not_switched_on_is_not_found() {
    let (_board, _lane, handle) = running("p");
    let server = serve(Admin::new().processor(handle.clone())).await;
    for path in ["/metrics", "/processors/0/pause", "/nothing", "/status/"] {
        assert_eq!(get(&server, path).await.0, StatusCode::NOT_FOUND, "{path}");
        let posted = ask(&server, Method::POST, path, Some("Bearer ")).await;
        assert_eq!(posted.status(), StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/", "/status", "/events", "/health/live", "/health/ready"] {
        let posted = ask(&server, Method::POST, path, None).await;
        assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    let server = serve(Admin::new().processor(handle).metrics(|| "up 1\n".into())).await;
    let answer = ask(&server, Method::GET, "/metrics", None).await;
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(text(answer).await, "up 1\n");
}

#[tokio::test]
async fn commands_need_the_token_and_nothing_less() {
    let (board, _lane, handle) = running("p");
    let server = serve(Admin::new().processor(handle.clone()).control(TOKEN)).await;
    let right = format!("Bearer {TOKEN}");
    let longer = format!("Bearer {TOKEN}0");
    let tell = async |path: &str, token: Option<&str>| {
        ask(&server, Method::POST, path, token).await.status()
    };
    for wrong in [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some(TOKEN),
        Some("Bearer 0123456789abcdeg"),
        Some("Bearer 0123456789abcde"),
        Some(&*longer),
        Some("Basic 0123456789abcdef"),
    ] {
        for path in ["/processors/0/close", "/processors/9/close", "/processors/0/pause"] {
            assert_eq!(tell(path, wrong).await, StatusCode::UNAUTHORIZED, "{wrong:?}");
        }
    }
    let refused = ask(&server, Method::POST, "/processors/0/close", None).await;
    assert_eq!(refused.headers()["www-authenticate"], "Bearer");
    let paused = || board.control.borrow().clone();
    assert!(!paused().is_over() && !paused().is_paused(3), "none of these did anything");
    for path in ["/processors/1/pause", "/processors/x/pause", "/processors/0/partitions/x/pause"] {
        assert_eq!(tell(path, Some(&right)).await, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/processors/0/pause", "/processors/0/partitions/3/resume"] {
        let got = ask(&server, Method::GET, path, Some(&right)).await;
        assert_eq!(got.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    assert_eq!(tell("/processors/0/partitions/3/pause", Some(&right)).await, StatusCode::ACCEPTED);
    assert!(paused().is_paused(3) && !paused().is_paused(2));
    assert_eq!(tell("/processors/0/partitions/3/resume", Some(&right)).await, StatusCode::ACCEPTED);
    assert!(!paused().is_paused(3));
    assert_eq!(tell("/processors/0/pause", Some(&right)).await, StatusCode::ACCEPTED);
    assert!(handle.status().paused && paused().is_paused(2));
    assert_eq!(tell("/processors/0/resume", Some(&right)).await, StatusCode::ACCEPTED);
    assert!(!handle.status().paused && !paused().is_over());
    assert_eq!(tell("/processors/0/close", Some(&right)).await, StatusCode::ACCEPTED);
    assert!(paused().is_over());
}

/// The next event of a stream: its name and data.
async fn event(stream: &mut Response<Incoming>, rest: &mut String) -> (String, Value) {
    loop {
        if let Some((event, after)) = rest.split_once("\n\n") {
            let field = |name: &str| {
                event.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
            };
            let found = (field("event:"), serde_json::from_str(&field("data:")).unwrap());
            *rest = after.to_owned();
            return found;
        }
        let frame = timeout(Duration::from_secs(30), stream.body_mut().frame()).await.unwrap();
        let data = frame.unwrap().unwrap().into_data().unwrap();
        rest.push_str(std::str::from_utf8(&data).unwrap());
    }
}

#[tokio::test]
async fn events_come_by_themselves_and_to_a_bounded_number_of_clients() {
    let (_board, lane, handle) = running("p");
    let server = serve(Admin::new().processor(handle)).await;
    let mut streams = Vec::new();
    for _ in 0..MAX_LISTENERS {
        streams.push(ask(&server, Method::GET, "/events", None).await);
    }
    let refused = ask(&server, Method::GET, "/events", None).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "10");
    let mut stream = streams.pop().unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut rest = String::new();
    let (name, history) = event(&mut stream, &mut rest).await;
    assert_eq!(name, "history");
    assert!(history[0]["rate"].is_array() && history[0]["lag"].is_array());
    let (name, status) = event(&mut stream, &mut rest).await;
    assert_eq!((&*name, &status["processors"][0]["lag"]), ("status", &10.into()));
    lane.finish_batch(&[(0, Offset::new(45))], None);
    let moved = loop {
        let (_, status) = event(&mut stream, &mut rest).await;
        if status["processors"][0]["lag"] != 10 {
            break status;
        }
    };
    assert_eq!(moved["processors"][0]["partitions"][0]["next_offset"], 45);
    // A client that leaves makes room.
    drop(stream);
    let started = Instant::now();
    while ask(&server, Method::GET, "/events", None).await.status() != StatusCode::OK {
        assert!(started.elapsed() < Duration::from_secs(30), "no room within 30 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_are_slow_to_ask_or_to_take_are_cut_off() {
    let (_board, _lane, handle) = running("p");
    let router = Admin::new().processor(handle).router().unwrap();
    // Half a head.
    let (mut client, server) = tokio::io::duplex(64);
    let begun = Instant::now();
    let serving = tokio::spawn(serve_connection(server, router.clone()));
    client.write_all(b"GET /status HTTP/1.1\r\nhost:").await.unwrap();
    serving.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), HEAD_TIMEOUT.as_secs());
    // Nothing after the first answer.
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let begun = Instant::now();
    let serving = tokio::spawn(serve_connection(server, router.clone()));
    client.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    serving.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), HEAD_TIMEOUT.as_secs());
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("live\n"), "{answer}");
    // Takes 64 bytes of the answer and no more.
    for path in ["/", "/events"] {
        let (mut client, server) = tokio::io::duplex(64);
        let begun = Instant::now();
        let serving = tokio::spawn(serve_connection(server, router.clone()));
        client
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
            .await
            .unwrap();
        serving.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), WRITE_TIMEOUT.as_secs(), "{path}");
    }
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let (_board, _lane, handle) = running("p");
    let server = serve(Admin::new().processor(handle)).await;
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 << 10));
    for (request, status) in [("nonsense\r\n\r\n", "400"), (&long, "431")] {
        let mut connection = TcpStream::connect(server.local_addr()).await.unwrap();
        // It may be closed before all is sent.
        let _sent = connection.write_all(request.as_bytes()).await;
        let mut answer = [0; 12];
        let read = timeout(Duration::from_secs(30), connection.read_exact(&mut answer)).await;
        read.unwrap().unwrap();
        assert_eq!(answer, format!("HTTP/1.1 {status}").as_bytes());
    }
}

#[tokio::test]
async fn it_listens_to_this_machine_unless_told_otherwise() {
    let (_board, _lane, handle) = running("p");
    let admin = || Admin::new().processor(handle.clone());
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9400"] {
        let error = admin().serve(address).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("allow_remote"), "{error}");
    }
    let server = admin().allow_remote().serve("0.0.0.0:0").await.unwrap();
    assert!(server.local_addr().ip().is_unspecified());
    let server = admin().serve("localhost:0").await.unwrap();
    assert!(server.local_addr().ip().is_loopback());
    // Taken, no port, no address.
    let taken = server.local_addr().to_string();
    for address in [taken.as_str(), "localhost", "127.0.0.1:x", ""] {
        let error = admin().serve(address).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert_eq!(error.get("address"), Some(address), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let (_board, _lane, handle) = running("p");
    let admin = Admin::new().processor(handle);
    for wrong in [
        Admin::new(),
        admin.clone().control(""),
        admin.clone().control("0123456789abcde"),
        admin.clone().control("0123456789 abcdef"),
        admin.clone().control("0123456789abcdeé"),
    ] {
        assert!(!format!("{wrong:?}").contains("0123456789"));
        let error = wrong.router().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(!error.to_string().contains("0123456789"), "{error}");
    }
    let error = std::thread::spawn(|| admin.router().unwrap_err()).join().unwrap();
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}

#[tokio::test]
async fn a_dropped_server_ends_its_connections() {
    let (_board, _lane, handle) = running("p");
    let server = serve(Admin::new().processor(handle)).await;
    let address = server.local_addr();
    let mut stream = ask(&server, Method::GET, "/events", None).await;
    event(&mut stream, &mut String::new()).await;
    drop(server);
    let rest = async { while let Some(Ok(_)) = stream.body_mut().frame().await {} };
    timeout(Duration::from_secs(30), rest).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn it_can_be_mounted_below_a_path() {
    let (_board, _lane, handle) = running("p");
    let router = Admin::new().processor(handle).router().unwrap();
    let mounted = axum::Router::new().nest("/admin", router);
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(serve_connection(server, mounted));
    for path in ["/admin", "/admin/status", "/admin/health/live"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 15];
        client.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 OK", "{path}");
        let mut rest = [0; 64 << 10];
        assert!(client.read(&mut rest).await.unwrap() > 0);
    }
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn the_page_is_small_and_loads_nothing() {
    let (_board, _lane, handle) = running("p");
    let server = serve(Admin::new().processor(handle)).await;
    let answer = ask(&server, Method::GET, "/", None).await;
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(text(answer).await, PAGE);
    assert!(PAGE.len() < 60_000, "{} bytes", PAGE.len());
    assert!(!inside(PAGE, "style").is_empty() && !inside(PAGE, "script").is_empty());
    // One of each: another would not be run.
    for tag in ["<style", "<script", "</style", "</script"] {
        assert_eq!(PAGE.matches(tag).count(), 1, "{tag}");
    }
    for outside in
        ["http:", "https:", "url(", "@import", "src=", "innerHTML", "outerHTML", "insertAdjacent"]
    {
        assert!(!PAGE.contains(outside), "{outside}");
    }
}
