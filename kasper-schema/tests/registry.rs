//! How the registry is asked: what is remembered, what is asked again, which errors come out.
#![cfg(feature = "avro")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod double;

use std::time::Duration;

use double::{Double, Fault};
use kasper::codec::{Decode, Encode};
use kasper::{Error, ErrorKind, Result};
use kasper_schema::{AvroDecoder, AvroEncoder, Registry, RegistryConfig, Subject};

const STRING: &str = r#""string""#;

/// `"x"`, written with the schema of this id.
fn encoded(id: u32) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), b"\x02x"].concat()
}

/// Gives up in half a second, so that errors come soon.
fn config(double: &Double) -> RegistryConfig {
    RegistryConfig::new(&double.url).timeout(Duration::from_millis(500))
}

fn decoder(config: &RegistryConfig) -> AvroDecoder<String> {
    AvroDecoder::new(&Registry::new(config).unwrap(), STRING).unwrap()
}

async fn load(decoder: &AvroDecoder<String>, ids: &[u32]) -> Result<()> {
    let values: Vec<_> = ids.iter().map(|id| encoded(*id)).collect();
    decoder.load(values.iter().map(Vec::as_slice)).await
}

fn decode(decoder: &AvroDecoder<String>, id: u32) -> Result<String> {
    let decoded = decoder.decode(&encoded(id));
    decoded.map_err(|error| *error.downcast::<Error>().unwrap())
}

#[tokio::test]
async fn a_schema_is_asked_for_once() {
    let double = Double::start().await;
    let id = double.add_avro("a", STRING);
    let registry = Registry::new(&config(&double)).unwrap();
    let first = AvroDecoder::<String>::new(&registry, STRING).unwrap();
    for _ in 0..3 {
        load(&first, &[id, id]).await.unwrap();
        assert_eq!(decode(&first, id).unwrap(), "x");
    }
    // Other decoders of the same registry know it too.
    let second = AvroDecoder::<String>::new(&registry, STRING).unwrap();
    load(&second, &[id]).await.unwrap();
    assert_eq!(decode(&second, id).unwrap(), "x");
    assert_eq!(double.asked(), 1);
}

#[tokio::test]
async fn concurrent_calls_ask_once() {
    let double = Double::start().await;
    let ids = [double.add_avro("a", STRING), double.add_avro("b", r#""bytes""#)];
    // The answers come when there are as many requests as there are schemas: both are asked for at the same time.
    double.fail([Fault::Gather(2), Fault::Gather(2)]);
    let decoder = decoder(&config(&double));
    let calls = (0..10).map(|_| load(&decoder, &ids));
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    assert_eq!(double.asked(), 2);
}

#[tokio::test]
async fn a_dropped_call_leaves_the_question_to_the_next() {
    let double = Double::start().await;
    let id = double.add_avro("a", STRING);
    double.fail([Fault::Hang]);
    let decoder = decoder(&config(&double));
    let dropped = tokio::spawn({
        let decoder = decoder.clone();
        async move { load(&decoder, &[id]).await }
    });
    while double.asked() == 0 {
        tokio::task::yield_now().await;
    }
    let ids = [id];
    let (next, ()) = tokio::join!(load(&decoder, &ids), async { dropped.abort() });
    next.unwrap();
    assert_eq!((decode(&decoder, id).unwrap().as_str(), double.asked()), ("x", 2));
}

#[tokio::test]
async fn an_unknown_id_is_an_error_of_its_message_and_is_asked_for_again_later() {
    let double = Double::start().await;
    let id = double.add_avro("a", STRING);
    for (again, asked) in [(Duration::from_secs(60), 2), (Duration::ZERO, 3)] {
        let before = double.asked();
        let decoder = decoder(&config(&double).ask_again_after(again));
        for _ in 0..2 {
            load(&decoder, &[id, 99]).await.unwrap();
            assert_eq!(decode(&decoder, id).unwrap(), "x");
            let error = decode(&decoder, 99).unwrap_err();
            assert_eq!((error.kind(), error.get("schema_id")), (ErrorKind::NotFound, Some("99")));
            assert!(!error.is_retryable());
        }
        assert_eq!(double.asked() - before, asked);
    }
}

#[tokio::test]
async fn an_id_that_was_unknown_is_found_when_it_is_registered() {
    let double = Double::start().await;
    let decoder = decoder(&config(&double).ask_again_after(Duration::ZERO));
    load(&decoder, &[1]).await.unwrap();
    assert_eq!(decode(&decoder, 1).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(double.add_avro("a", STRING), 1);
    load(&decoder, &[1]).await.unwrap();
    assert_eq!(decode(&decoder, 1).unwrap(), "x");
}

#[tokio::test]
async fn an_unknown_id_stays_loaded_while_another_call_asks_again() {
    let double = Double::start().await;
    let decoder = decoder(&config(&double).ask_again_after(Duration::ZERO));
    load(&decoder, &[7]).await.unwrap();
    let (encoded, other) = (encoded(7), decoder.clone());
    let asking = other.load([&encoded[..]]);
    assert_eq!(decode(&decoder, 7).unwrap_err().kind(), ErrorKind::NotFound);
    asking.await.unwrap();
    assert_eq!(double.asked(), 2);
}

#[tokio::test]
async fn times_without_end_are_accepted() {
    let double = Double::start().await;
    let id = double.add_avro("a", STRING);
    let endless = config(&double).timeout(Duration::MAX).request_timeout(Duration::MAX);
    let decoder = decoder(&endless.connect_timeout(Duration::MAX).ask_again_after(Duration::MAX));
    for _ in 0..2 {
        load(&decoder, &[id, 99]).await.unwrap();
        assert_eq!(decode(&decoder, id).unwrap(), "x");
        assert_eq!(decode(&decoder, 99).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(double.asked(), 2);
}

#[tokio::test]
async fn what_was_not_loaded_is_told() {
    let double = Double::start().await;
    let error = decode(&decoder(&config(&double)), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("load_values"), "{error}");
}

#[tokio::test]
async fn other_bytes_are_errors_of_their_message() {
    let double = Double::start().await;
    let decoder = decoder(&config(&double));
    decoder.load([&b"{}"[..], b"", b"\0\0\0"]).await.unwrap();
    assert_eq!(double.asked(), 0);
    for bytes in [&b"{}"[..], b"", b"\0\0\0"] {
        let error: Result<String, _> = decoder.decode(bytes);
        let error = *error.unwrap_err().downcast::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::Decode);
    }
}

#[tokio::test]
async fn short_failures_are_waited_out() {
    let double = Double::start().await;
    let id = double.add_avro("a", STRING);
    double.fail([Fault::Status(503, "<html>"), Fault::Close, Fault::Status(429, "")]);
    let decoder = decoder(&config(&double).timeout(Duration::from_secs(60)));
    load(&decoder, &[id]).await.unwrap();
    assert_eq!(decode(&decoder, id).unwrap(), "x");
    // The HTTP client asks once more by itself when a connection that it had used before is closed.
    assert!((4..=5).contains(&double.asked()));
}

#[tokio::test]
async fn a_registry_that_is_away_is_a_retryable_error_and_is_not_remembered() {
    let double = Double::start().await;
    let id = double.add_avro("a", STRING);
    let quick = config(&double).request_timeout(Duration::from_millis(100));
    let decoder = decoder(&quick);
    for (fault, kind) in [
        (Fault::Status(500, r#"{"error_code":50001,"message":"no disk"}"#), ErrorKind::Unavailable),
        (Fault::Close, ErrorKind::Unavailable),
        (Fault::Hang, ErrorKind::Timeout),
    ] {
        double.fail_always(Some(fault));
        let error = load(&decoder, &[id]).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert_eq!((error.kind(), error.get("operation")), (kind, Some("get_schema")));
        assert_eq!(error.get("schema_id"), Some("1"));
        assert!(error.get("server").unwrap().starts_with(&double.url));
    }
    double.fail_always(None);
    load(&decoder, &[id]).await.unwrap();
    assert_eq!(decode(&decoder, id).unwrap(), "x");
}

#[tokio::test]
async fn a_server_that_nobody_listens_at_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let decoder = decoder(&RegistryConfig::new(url).timeout(Duration::from_millis(200)));
    let error = load(&decoder, &[1]).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
}

#[tokio::test]
async fn another_server_is_asked_and_then_stays_the_first() {
    let (away, well) = (Double::start().await, Double::start().await);
    let ids = [well.add_avro("a", STRING), well.add_avro("b", r#""bytes""#)];
    away.fail_always(Some(Fault::Close));
    let decoder = decoder(&config(&away).url(&well.url).timeout(Duration::from_secs(60)));
    load(&decoder, &ids[..1]).await.unwrap();
    let asked = away.asked();
    assert!(asked >= 1);
    load(&decoder, &ids[1..]).await.unwrap();
    assert_eq!((away.asked(), well.asked()), (asked, 2));
}

#[tokio::test]
async fn an_id_that_no_registry_can_have_is_not_asked_for() {
    let double = Double::start().await;
    let id = double.add_avro("a", STRING);
    let decoder = decoder(&config(&double));
    load(&decoder, &[id, u32::MAX, 1 << 31]).await.unwrap();
    assert_eq!((decode(&decoder, id).unwrap().as_str(), double.asked()), ("x", 1));
    for id in [u32::MAX, 1 << 31] {
        assert_eq!(decode(&decoder, id).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn an_answer_that_concerns_one_id_is_an_error_of_its_messages() {
    for fault in [
        Fault::Status(400, r#"{"error_code":400,"message":"no"}"#),
        Fault::Status(422, r#"{"error_code":42201,"message":"no"}"#),
        Fault::Status(200, r#"{"id":7}"#),
        Fault::Status(200, r#"{"schema":7}"#),
    ] {
        let double = Double::start().await;
        let id = double.add_avro("a", STRING);
        let decoder = decoder(&config(&double));
        load(&decoder, &[id]).await.unwrap();
        double.fail([fault.clone()]);
        load(&decoder, &[id, 7]).await.unwrap();
        assert_eq!(decode(&decoder, id).unwrap(), "x");
        let error = decode(&decoder, 7).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::NotFound, false), "{fault:?}");
        assert_eq!(error.get("schema_id"), Some("7"));
    }
}

#[tokio::test]
async fn a_server_that_is_wrong_is_passed_over() {
    for fault in [
        Fault::Status(401, ""),
        Fault::Status(403, ""),
        Fault::Status(302, ""),
        Fault::Status(404, "<html>"),
        Fault::Status(404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#),
        Fault::Status(200, "<html>"),
        Fault::Status(200, "{}"),
    ] {
        let (wrong, well) = (Double::start().await, Double::start().await);
        let ids = [well.add_avro("a", STRING), well.add_avro("b", r#""bytes""#)];
        wrong.fail_always(Some(fault.clone()));
        let decoder = decoder(&config(&wrong).url(&well.url));
        for id in ids {
            load(&decoder, &[id]).await.unwrap();
            assert_eq!(decode(&decoder, id).unwrap(), "x", "{fault:?}");
        }
        assert_eq!((wrong.asked(), well.asked()), (1, 2), "{fault:?}");
        // If the right one becomes wrong too, what it says first counts; once it is right again, so is the answer.
        let id = well.add_avro("c", r#""long""#);
        well.fail([Fault::Status(403, "")]);
        let error = load(&decoder, &[id]).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unauthorized, false));
        assert!(error.get("server").unwrap().starts_with(&well.url));
        load(&decoder, &[id]).await.unwrap();
        assert_eq!((wrong.asked(), well.asked()), (2, 4), "{fault:?}");
    }
}

#[tokio::test]
async fn refusals_are_final() {
    let double = Double::start().await;
    let id = double.add_avro("a", STRING);
    let decoder = decoder(&config(&double));
    for (status, kind) in
        [(401, ErrorKind::Unauthorized), (404, ErrorKind::Config), (302, ErrorKind::Backend)]
    {
        let before = double.asked();
        double.fail([Fault::Status(status, "")]);
        let error = load(&decoder, &[id]).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, false));
        assert_eq!(double.asked() - before, 1);
    }
}

#[tokio::test]
async fn user_and_password_are_sent_and_shown_nowhere() {
    let double = Double::start().await;
    let config = config(&double).user("me").password("secret");
    let registry = Registry::new(&config).unwrap();
    let decoder = AvroDecoder::<String>::new(&registry, STRING).unwrap();
    load(&decoder, &[1]).await.unwrap();
    assert_eq!(double.requests()[0].2.as_deref(), Some("Basic bWU6c2VjcmV0"));
    let shown = format!("{config:?} {registry:?} {decoder:?}");
    assert!(shown.contains(&double.url) && !shown.contains("secret") && !shown.contains("bWU6"));
}

#[tokio::test]
async fn an_encoder_looks_its_schema_up_and_registers_it_only_if_told_to() {
    let double = Double::start().await;
    let look_up = Registry::new(&config(&double)).unwrap();
    let encoder = |registry| AvroEncoder::<str>::new(registry, Subject::topic_value("a/b"), STRING);
    let error = encoder(&look_up).await.unwrap_err();
    assert_eq!((error.kind(), error.get("subject")), (ErrorKind::NotFound, Some("a/b-value")));
    assert!(error.to_string().contains("auto_register"), "{error}");

    let register = Registry::new(&config(&double).auto_register(true)).unwrap();
    let registered = encoder(&register).await.unwrap();
    let found = encoder(&look_up).await.unwrap();
    assert_eq!(found.schema_id(), registered.schema_id());
    let bytes = found.encode("x").unwrap();
    assert_eq!(bytes[..], encoded(found.schema_id()));
    let paths: Vec<_> = double.requests().into_iter().map(|request| request.1).collect();
    let subject = "/subjects/a%2Fb-value";
    let (normalized, versions) =
        (format!("{subject}?normalize=true"), format!("{subject}/versions"));
    let missing = [subject, &normalized];
    assert_eq!(paths, [&missing[..], &missing, &[&versions, subject]].concat());
}

#[tokio::test]
async fn a_schema_that_the_registry_does_not_accept_is_final() {
    let double = Double::start().await;
    let missing = || Fault::Status(404, r#"{"error_code":40403,"message":"no"}"#);
    let refused = Fault::Status(409, r#"{"error_code":409,"message":"incompatible"}"#);
    double.fail([missing(), missing(), refused]);
    let registry = Registry::new(&config(&double).auto_register(true)).unwrap();
    let subject = Subject::topic_value("a");
    let error = AvroEncoder::<str>::new(&registry, subject, STRING).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::InvalidInput, false));
    assert_eq!(error.get("reason"), Some("incompatible"));
}
