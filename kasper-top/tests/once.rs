//! The program against the admin servers of processors that run, and against what is none.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Output;
use std::time::{Duration, Instant};

use kasper::testkit::{EmbeddedBroker, Feeder};
use kasper::{Batch, BoxError, Context, Processor, TopicProcessor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;

struct Nothing;

impl Processor for Nothing {
    async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
        Ok(())
    }
}

async fn kasper_top(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kasper-top")).args(arguments).output().await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A server that answers everything with these bytes.
async fn server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                // The request, which has no body; the client may have seen enough.
                let _ = connection.read(&mut [0; 4096]).await;
                let _ = connection.write_all(answer).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn processors_are_shown_as_they_are() {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("in", 2).unwrap();
    let builder = TopicProcessor::builder("read", ["in"]).brokers(broker.brokers());
    let builder = builder.partitions(0..2).admin("127.0.0.1:0");
    let processor = builder.build(|_| Nothing).await.unwrap();
    let (handle, address) = (processor.handle(), processor.admin_addr().unwrap().to_string());
    let running = tokio::spawn(processor.run());
    let mut feeder = Feeder::new(&broker.brokers(), "in", 2, handle.clone()).unwrap();
    for _ in 0..1000 {
        feeder.send(b"value").await.unwrap();
    }
    feeder.finish().await.unwrap();

    let started = Instant::now();
    let shown = loop {
        let output = kasper_top(&["--once", &address]).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        let shown = text(&output.stdout).to_owned();
        if shown.contains("1,000 messages") && shown.contains("lag 0 ") {
            break shown;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{shown}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(shown.starts_with("1 process   lag 0   "), "{shown}");
    assert!(shown.contains(&address) && shown.contains("  read  running  lag 0"), "{shown}");
    for partition in ["in 0", "in 1"] {
        let line = shown.lines().find(|line| line.trim_start().starts_with(partition)).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((words[2], words[3]), ("running", "0"), "{line}");
        let status = handle.status();
        let status =
            status.partitions.iter().find(|s| partition == format!("in {}", s.partition.number));
        assert!(words.contains(&status.unwrap().next_offset.to_string().as_str()), "{line}");
    }
    handle.close();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_is_named_and_holds_up_nobody() {
    let status = b"HTTP/1.1 200 OK\r\ncontent-length: 29\r\nconnection: close\r\n\r\n{\"version\":1,\"processors\":[]}";
    let there = server(status).await;
    let other =
        server(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>").await;
    let missing =
        server(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let newer = server(
        b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\nconnection: close\r\n\r\n{\"version\":2}",
    )
    .await;
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let output = kasper_top(&["--once", &there, &other, &missing, &newer, &nobody]).await;
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stdout);
    let line = |address: &str| shown.lines().find(|line| line.starts_with(address)).unwrap();
    assert!(shown.starts_with("5 processes") && shown.contains("4 UNREACHABLE"), "{shown}");
    assert_eq!(line(&there), there);
    assert!(line(&other).contains("not the status of Kasper's admin server"), "{shown}");
    assert!(line(&missing).contains("it answers 404 Not Found to /status"), "{shown}");
    assert!(line(&newer).contains("version 2"), "{shown}");
    assert!(line(&nobody).to_lowercase().contains("refused"), "{shown}");
}

#[tokio::test]
async fn arguments_are_checked() {
    for (arguments, said) in [
        (&["--once"][..], "ADDRESS"),
        (&["--once", "https://a:1"], "only http is understood"),
        (&["--interval", "0", "a:1"], "at least 0.1"),
        (&["--interval", "x", "a:1"], "invalid float"),
    ] {
        let output = kasper_top(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(said), "{arguments:?}: {}", text(&output.stderr));
    }
    let help = kasper_top(&["--help"]).await;
    assert!(help.status.success() && text(&help.stdout).contains("--interval"));
}

/// Standard input and output are none here.
#[tokio::test]
async fn without_a_terminal_it_says_so() {
    let output = kasper_top(&["127.0.0.1:1"]).await;
    assert!(!output.status.success());
    assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
}
