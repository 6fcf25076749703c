//! The admin server of a processor that runs, over HTTP.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kasper::admin::Admin;
use kasper::metrics::prometheus;
use kasper::testkit::{EmbeddedBroker, Feeder};
use kasper::{Batch, BoxError, Builder, Context, ErrorKind, Processor, TopicProcessor};
use prometheus_parse::Scrape;
use reqwest::StatusCode;
use serde_json::Value;

/// Does nothing, but fails at the value `bad`.
struct Read;

impl Processor for Read {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        match batch.iter().any(|message| message.value() == Some(b"bad")) {
            true => Err("bad".into()),
            false => Ok(()),
        }
    }
}

fn broker() -> EmbeddedBroker {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("in", 2).unwrap();
    broker
}

fn builder(broker: &EmbeddedBroker) -> Builder {
    TopicProcessor::builder("read", ["in"]).brokers(broker.brokers()).partitions(0..2)
}

async fn get(address: SocketAddr, path: &str) -> (StatusCode, String) {
    let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

async fn status(address: SocketAddr) -> Value {
    serde_json::from_str(&get(address, "/status").await.1).unwrap()
}

async fn until(address: SocketAddr, path: &str, wanted: impl Fn(StatusCode, &str) -> bool) {
    let started = Instant::now();
    loop {
        let (status, text) = get(address, path).await;
        if wanted(status, &text) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{path} is still {status} {text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_processor_is_shown_from_its_build_to_its_end() {
    let broker = broker();
    let builder = builder(&broker).metrics(prometheus().unwrap()).admin("127.0.0.1:0");
    let processor = builder.build(|_| Read).await.unwrap();
    let address = processor.admin_addr().unwrap();
    let (code, reason) = get(address, "/health/ready").await;
    assert_eq!((code, &*reason), (StatusCode::SERVICE_UNAVAILABLE, "read: does not run yet\n"));
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    until(address, "/health/ready", |code, _| code == StatusCode::OK).await;
    let mut feeder = Feeder::new(&broker.brokers(), "in", 2, handle.clone()).unwrap();
    for _ in 0..100 {
        feeder.send(b"good").await.unwrap();
    }
    feeder.finish().await.unwrap();
    // The fetches tell of the ends.
    until(address, "/status", |_, text| text.matches("\"end_offset\":50,").count() == 2).await;
    let status = status(address).await;
    let read = &status["processors"][0];
    assert_eq!((&read["name"], &read["state"]), (&"read".into(), &"running".into()));
    assert_eq!((&read["messages"], &read["bytes"]), (&100.into(), &400.into()));
    assert_eq!((&read["lag"], &read["ready"]), (&0.into(), &true.into()));
    for (number, partition) in read["partitions"].as_array().unwrap().iter().enumerate() {
        assert_eq!((&partition["topic"], &partition["partition"]), (&"in".into(), &number.into()));
        assert_eq!((&partition["next_offset"], &partition["end_offset"]), (&50.into(), &50.into()));
    }
    let scraped = get(address, "/metrics").await.1;
    let scrape = Scrape::parse(scraped.lines().map(|line| Ok(line.to_owned()))).unwrap();
    assert!(scrape.samples.iter().any(|s| s.metric == "kasper_incoming_messages_total"));
    handle.close();
    running.await.unwrap().unwrap();
    assert!(reqwest::get(format!("http://{address}/status")).await.is_err(), "it has ended");
}

#[tokio::test]
async fn operators_choose_the_address_and_the_token() {
    let broker = broker();
    let token = "correct-horse-battery";
    let variables = [("READ_ADMIN", "127.0.0.1:0"), ("READ_ADMIN_TOKEN", token)];
    let builder = builder(&broker).admin("nonsense").config_from_vars("READ", variables);
    let processor = builder.build(|_| Read).await.unwrap();
    let address = processor.admin_addr().unwrap();
    assert_eq!(status(address).await["control"], true);
    let pause = reqwest::Client::new().post(format!("http://{address}/processors/0/pause"));
    let answer = pause.bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert!(processor.handle().status().paused);
}

#[tokio::test]
async fn a_failure_stays_to_be_seen_where_the_server_is_the_users() {
    let broker = broker();
    let processor = builder(&broker).build(|_| Read).await.unwrap();
    let handle = processor.handle();
    let server = Admin::new().processor(handle.clone()).serve("127.0.0.1:0").await.unwrap();
    let running = tokio::spawn(processor.run());
    let mut feeder = Feeder::new(&broker.brokers(), "in", 2, handle).unwrap();
    feeder.send(b"bad").await.unwrap();
    let error = running.await.unwrap().unwrap_err();
    let status = status(server.local_addr()).await;
    let read = &status["processors"][0];
    assert_eq!((&read["state"], &read["ready"]), (&"closed".into(), &false.into()));
    assert_eq!(read["failure"], format!("{error:?}"));
    let (code, reason) = get(server.local_addr(), "/health/ready").await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reason.starts_with("read: failed: ") && reason.contains("in"), "{reason}");
}

#[tokio::test]
async fn build_refuses_an_address_before_it_connects() {
    // Nobody listens there: connecting would fail, too, and later.
    let builder = || TopicProcessor::builder("read", ["in"]).brokers("127.0.0.1:1");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    for address in ["0.0.0.0:0", "nonsense", &taken] {
        let error = builder().admin(address).build(|_| Read).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.get("address").is_some(), "{error}");
    }
}
