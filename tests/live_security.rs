//! A broker that wants to know with whom it speaks: TLS, passwords, tokens that end while messages flow.
//!
//! Its listeners and users are set up in `xtask/src/servers/kafka/security.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::{Collect, Each, committed, eventually, group_of, read_all, send_numbers, topic};
use kasper::testkit::TestMessage;
use kasper::{Batch, BoxError, Builder, Context, Error, ErrorKind, OauthToken, TopicProcessor};

const USER: &str = "alice";
const PASSWORD: &str = "open-sesame";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("this test needs a secured Kafka: run it with `cargo xtask test`, or set {name}")
    })
}

/// A builder that asks the encrypted listener which lets everybody in.
fn over_tls(input: &str) -> Builder {
    TopicProcessor::builder(common::unique("secure"), [input])
        .brokers(variable("KASPER_TEST_KAFKA_SSL"))
        .kafka("security.protocol", "ssl")
        .kafka("ssl.ca.location", variable("KASPER_TEST_KAFKA_CA"))
}

/// A builder that asks the listener which wants a user, and does not say yet who that is.
fn with_sasl(input: &str, mechanism: &str) -> Builder {
    TopicProcessor::builder(common::unique("secure"), [input])
        .brokers(variable("KASPER_TEST_KAFKA_SASL_SSL"))
        .kafka("security.protocol", "sasl_ssl")
        .kafka("ssl.ca.location", variable("KASPER_TEST_KAFKA_CA"))
        .kafka("sasl.mechanism", mechanism)
}

fn with_password(input: &str, mechanism: &str, password: &str) -> Builder {
    with_sasl(input, mechanism).kafka("sasl.username", USER).kafka("sasl.password", password)
}

/// A token as the broker takes it: who it is for and when it ends, signed by nobody.
fn token(lifetime: Duration) -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let (from, to) = (now.as_secs_f64() - 1.0, (now + lifetime).as_secs_f64());
    let claims = format!(r#"{{"sub":"{USER}","iat":{from:.3},"exp":{to:.3}}}"#);
    format!("{}.{}.", base64url(br#"{"alg":"none"}"#), base64url(claims.as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit =
        |group: u32, index: usize| char::from(DIGITS[(group >> (18 - 6 * index) & 63) as usize]);
    let groups = bytes.chunks(3).flat_map(|chunk| {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        (0..=chunk.len()).map(move |index| digit(group, index))
    });
    groups.collect()
}

/// Sends 500 messages through this builder's processor, and looks at what comes out from outside.
async fn passes_messages_through(configure: impl FnOnce(&str) -> Builder) {
    common::log();
    let (input, output) = (topic("in", 2).await, topic("out", 1).await);
    send_numbers(&input, 0, 300).await;
    send_numbers(&input, 1, 200).await;
    let target = output.clone();
    let forward = move |batch: &Batch, context: &mut Context| {
        batch.iter().for_each(|message| context.forward(&target, &message));
        Ok(())
    };
    let processor = configure(&input).build(move |_| Each(forward.clone())).await.unwrap();
    let group = group_of(processor.handle().name());
    let run = tokio::time::timeout(Duration::from_secs(30), processor.run_until_caught_up());
    assert_eq!(run.await.unwrap().unwrap().messages, 500);
    assert_eq!(read_all(&output).await.len(), 500);
    assert_eq!(
        (committed(&group, &input, 0), committed(&group, &input, 1)),
        (Some(300), Some(200))
    );
}

#[tokio::test]
#[ignore = "needs a secured Kafka; run `cargo xtask test`"]
async fn messages_pass_through_over_tls() {
    passes_messages_through(over_tls).await;
}

#[tokio::test]
#[ignore = "needs a secured Kafka; run `cargo xtask test`"]
async fn messages_pass_through_with_a_password() {
    passes_messages_through(|input| with_password(input, "PLAIN", PASSWORD)).await;
}

#[tokio::test]
#[ignore = "needs a secured Kafka; run `cargo xtask test`"]
async fn messages_pass_through_with_a_scram_password() {
    passes_messages_through(|input| with_password(input, "SCRAM-SHA-256", PASSWORD)).await;
}

#[tokio::test]
#[ignore = "needs a secured Kafka; run `cargo xtask test`"]
async fn messages_pass_through_with_a_token() {
    let provider = || {
        let lifetime = Duration::from_secs(60);
        Ok(OauthToken::new(token(lifetime), USER, lifetime))
    };
    passes_messages_through(|input| with_sasl(input, "OAUTHBEARER").oauth_token(provider)).await;
}

/// The error that `build` returns, which it does within `limit`.
async fn refusal(builder: Builder, limit: Duration) -> Error {
    common::log();
    let started = Instant::now();
    let error = builder.build(|_| Collect::default()).await.unwrap_err();
    println!("after {:?}: {error:?}", started.elapsed());
    assert!(started.elapsed() < limit, "took {:?}: {error}", started.elapsed());
    error
}

/// How long a broker that refuses may take to do so; far less than the connect time-out.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
#[ignore = "needs a secured Kafka; run `cargo xtask test`"]
async fn a_wrong_password_is_named_and_not_shown() {
    let input = topic("in", 1).await;
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let error = refusal(with_password(&input, mechanism, "hunter2-wrong"), SOON).await;
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(!error.is_retryable());
        let text = format!("{error:?}").to_lowercase();
        assert!(text.contains("authentication failed"), "{text}");
        assert!(text.contains(&variable("KASPER_TEST_KAFKA_SASL_SSL")), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
#[ignore = "needs a secured Kafka; run `cargo xtask test`"]
async fn a_mechanism_that_the_broker_does_not_have_is_named() {
    let input = topic("in", 1).await;
    let error = refusal(with_password(&input, "SCRAM-SHA-512", PASSWORD), SOON).await;
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(error.to_string().to_lowercase().contains("mechanism"), "{error}");
}

#[tokio::test]
#[ignore = "needs a secured Kafka; run `cargo xtask test`"]
async fn a_certificate_that_is_not_trusted_is_named() {
    let input = topic("in", 1).await;
    let stranger = TopicProcessor::builder("stranger", [input.as_str()])
        .brokers(variable("KASPER_TEST_KAFKA_SSL"))
        .kafka("security.protocol", "ssl");
    let error = refusal(stranger, SOON).await;
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(error.to_string().contains("certificate verify failed"), "{error}");
    assert!(error.to_string().contains("ssl.ca.location"), "says what to do: {error}");

    // Trusted, but not for this name.
    let address = variable("KASPER_TEST_KAFKA_SSL").replace("127.0.0.1", "localhost");
    let error = refusal(over_tls(&input).brokers(address), SOON).await;
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(error.to_string().contains("certificate verify failed"), "{error}");

    let missing = over_tls(&input).kafka("ssl.ca.location", "/no/such/file.pem");
    let error = refusal(missing, SOON).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("ssl.ca.location"), "{error}");
}

#[tokio::test]
#[ignore = "needs a secured Kafka; run `cargo xtask test`"]
async fn a_broker_that_wants_tls_or_a_user_and_gets_neither_is_an_error() {
    let input = topic("in", 1).await;
    for listener in ["KASPER_TEST_KAFKA_SSL", "KASPER_TEST_KAFKA_SASL_SSL"] {
        let plain = TopicProcessor::builder("plain", [input.as_str()])
            .brokers(variable(listener))
            .connect_timeout(Duration::from_secs(3));
        let error = refusal(plain, SOON).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("security.protocol"), "{error}");
    }
}

#[tokio::test]
#[ignore = "needs a secured Kafka; run `cargo xtask test`"]
async fn a_token_provider_that_fails_is_an_error_at_build() {
    let input = topic("in", 1).await;
    type Provider = fn() -> Result<OauthToken, BoxError>;
    let cases: [(&str, Provider); 6] = [
        ("the identity server is on fire", || Err("the identity server is on fire".into())),
        // librdkafka refuses an empty reason, and would never ask again.
        ("the token provider failed", || Err("".into())),
        ("panicked", || panic!("on purpose")),
        ("lifetime", || Ok(OauthToken::new("secret-token", USER, Duration::ZERO))),
        ("character", || Ok(OauthToken::new("secret-töken", USER, Duration::from_secs(9)))),
        ("invalid_token", || Ok(OauthToken::new("secret-token", USER, Duration::MAX))),
    ];
    for (expected, provider) in cases {
        let builder = with_sasl(&input, "OAUTHBEARER").oauth_token(provider);
        let error = refusal(builder, SOON).await;
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(!format!("{error:?}").contains("secret-t"), "{error}");
    }
    let error = refusal(with_sasl(&input, "OAUTHBEARER"), SOON).await;
    assert!(error.to_string().contains("oauth_token"), "says what to do: {error}");
}

#[tokio::test]
#[ignore = "needs a secured Kafka; run `cargo xtask test`"]
async fn a_token_provider_that_does_not_return_is_an_error_at_build() {
    let input = topic("in", 1).await;
    let (released, provider) = std::sync::mpsc::channel::<()>();
    let provider = std::sync::Mutex::new(provider);
    let builder = with_sasl(&input, "OAUTHBEARER")
        .connect_timeout(Duration::from_secs(2))
        .oauth_token(move || {
            let _released = provider.lock().unwrap().recv();
            Err("too late".into())
        });
    let error = refusal(builder, SOON).await;
    drop(released);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("token"), "{error}");
}

/// A processor in a group, fed with a message every few milliseconds until it is asked to end.
struct Flow {
    input: String,
    output: String,
    received: Arc<AtomicUsize>,
}

impl Flow {
    async fn new() -> Self {
        common::log();
        let (input, output) = (topic("in", 1).await, topic("out", 1).await);
        Self { input, output, received: Arc::default() }
    }

    /// Runs for this long; every message that was sent must come out.
    async fn run(&self, builder: Builder, time: Duration) {
        let (received, target) = (self.received.clone(), self.output.clone());
        let forward = move |batch: &Batch, context: &mut Context| {
            batch.iter().for_each(|message| context.forward(&target, &message));
            received.fetch_add(batch.len(), Ordering::Relaxed);
            Ok(())
        };
        let processor = builder.build(move |_| Each(forward.clone())).await.unwrap();
        let (handle, group) = (processor.handle(), group_of(processor.handle().name()));
        let running = tokio::spawn(processor.run());
        let client = common::client();
        let (started, mut sent, mut longest, mut last) = (Instant::now(), 0, Duration::ZERO, 0);
        let mut arrived = Instant::now();
        while started.elapsed() < time {
            client.send(TestMessage::new(&self.input).value("v")).await.unwrap();
            sent += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(!running.is_finished(), "{:?}", running.await);
            let now = self.received.load(Ordering::Relaxed);
            if now > last {
                (last, arrived) = (now, Instant::now());
            }
            longest = longest.max(arrived.elapsed());
        }
        let all = || self.received.load(Ordering::Relaxed) == sent;
        eventually(Duration::from_secs(30), all).await;
        handle.close();
        running.await.unwrap().unwrap();
        println!("{sent} messages in {time:?}, longest pause {longest:?}");
        assert_eq!(read_all(&self.output).await.len(), sent, "each once");
        assert_eq!(committed(&group, &self.input, 0), i64::try_from(sent).ok());
    }
}

#[tokio::test]
#[ignore = "needs a secured Kafka; run `cargo xtask test`"]
async fn tokens_are_renewed_while_messages_flow() {
    let flow = Flow::new().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let provider = move || {
        count.fetch_add(1, Ordering::Relaxed);
        let lifetime = Duration::from_secs(4);
        Ok(OauthToken::new(token(lifetime), USER, lifetime))
    };
    let builder = with_sasl(&flow.input, "OAUTHBEARER").oauth_token(provider);
    flow.run(builder, Duration::from_secs(15)).await;
    // Three clients ask at `build`; two of them again every 3.2 s.
    let asked = asked.load(Ordering::Relaxed);
    println!("{asked} tokens of 4 s");
    assert!((7..=20).contains(&asked), "{asked}");
}

#[tokio::test]
#[ignore = "needs a secured Kafka; run `cargo xtask test`"]
async fn a_provider_that_fails_for_a_while_is_waited_out() {
    let flow = Flow::new().await;
    let (fails, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (now, count) = (fails.clone(), failed.clone());
    let provider = move || {
        if now.load(Ordering::Relaxed) {
            count.fetch_add(1, Ordering::Relaxed);
            return Err("the identity server is away".into());
        }
        let lifetime = Duration::from_secs(4);
        Ok(OauthToken::new(token(lifetime), USER, lifetime))
    };
    let builder = with_sasl(&flow.input, "OAUTHBEARER").oauth_token(provider);
    let switch = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        fails.store(true, Ordering::Relaxed);
        eventually(Duration::from_secs(20), || failed.load(Ordering::Relaxed) >= 2).await;
        fails.store(false, Ordering::Relaxed);
    });
    // It fails for both clients when the first token ends, and librdkafka asks again after 10 s.
    flow.run(builder, Duration::from_secs(15)).await;
    switch.await.unwrap();
}
