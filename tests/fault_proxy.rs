//! The fault proxy does to connections what it says.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use kasper::testkit::{Fault, FaultProxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// A server that sends back what it gets.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reads, mut writes) = stream.split();
                tokio::io::copy(&mut reads, &mut writes).await
            });
        }
    });
    address
}

async fn connect(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// What comes back; `None` if the connection ends.
async fn ask(stream: &mut TcpStream, bytes: usize) -> Option<()> {
    let sent = vec![7; bytes];
    stream.write_all(&sent).await.ok()?;
    let mut answer = vec![0; bytes];
    stream.read_exact(&mut answer).await.ok()?;
    assert_eq!(answer, sent);
    Some(())
}

#[tokio::test]
async fn passes_everything_on() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await;
    ask(&mut stream, 100_000).await.unwrap();
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn delays_and_throttles() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await;
    proxy.set(Fault::Delay(Duration::from_millis(60)));
    let begin = Instant::now();
    ask(&mut stream, 1).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(120), "both ways");
    proxy.set(Fault::Throttle(10_000));
    let begin = Instant::now();
    ask(&mut stream, 3_000).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_half_open_connection_says_nothing_and_stays() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await;
    proxy.set(Fault::HalfOpen);
    timeout(Duration::from_millis(100), ask(&mut stream, 1)).await.unwrap_err();
    proxy.set(Fault::None);
    ask(&mut stream, 1).await.unwrap();
}

#[tokio::test]
async fn cuts_and_refuses() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await;
    ask(&mut stream, 1).await.unwrap();
    proxy.cut();
    assert_eq!(ask(&mut stream, 1).await, None);
    let mut stream = connect(&proxy).await;
    ask(&mut stream, 1).await.unwrap();
    proxy.set(Fault::Refuse);
    assert_eq!(ask(&mut stream, 1).await, None);
    assert_eq!(ask(&mut connect(&proxy).await, 1).await, None);
    proxy.set(Fault::None);
    ask(&mut connect(&proxy).await, 1).await.unwrap();
}

#[tokio::test]
async fn cuts_in_the_middle_of_an_answer() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await;
    proxy.set(Fault::CutAfter(1_000));
    ask(&mut stream, 900).await.unwrap();
    assert_eq!(ask(&mut stream, 900).await, None);
    assert_eq!(ask(&mut connect(&proxy).await, 1).await, None, "refused from then on");
}

#[tokio::test]
async fn holds_what_is_under_way_and_passes_it_on_later() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    let mut stream = connect(&proxy).await;
    ask(&mut stream, 1).await.unwrap();
    proxy.set(Fault::Hold);
    stream.write_all(&[7; 5]).await.unwrap();
    let mut answer = [0; 5];
    timeout(Duration::from_millis(100), stream.read_exact(&mut answer)).await.unwrap_err();
    ask(&mut connect(&proxy).await, 1).await.unwrap();
    proxy.set(Fault::None);
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [7; 5]);
}

#[tokio::test]
async fn a_reset_overtakes_what_is_held() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = FaultProxy::start(server.local_addr().unwrap().to_string()).await.unwrap();
    for resets in [false, true] {
        let mut stream = connect(&proxy).await;
        let (mut served, _) = server.accept().await.unwrap();
        stream.write_all(b"1").await.unwrap();
        served.read_u8().await.unwrap();
        proxy.set(Fault::Hold);
        stream.write_all(b"2").await.unwrap();
        if resets {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
        proxy.set(Fault::None);
        let mut rest = Vec::new();
        served.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, if resets { &b""[..] } else { b"2" });
    }
}
