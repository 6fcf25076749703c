//! What a real Kafka refuses: each error names the message, its batch and what to do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

mod common;

use common::{Collect, Each, builder, read_all, send_numbers, topic, topic_with};
use kasper::{Batch, Builder, Context, Error, ErrorKind, Message, OutgoingMessage};

/// Sends on what `outgoing` makes of each of 100 messages, in batches of 10 that share produce requests.
async fn sent_on(
    configure: impl FnOnce(Builder) -> Builder,
    output: &str,
    outgoing: impl Fn(usize, &Message<'_>, OutgoingMessage<'static>) -> OutgoingMessage<'static>
    + Clone
    + Send
    + Sync
    + 'static,
) -> (String, kasper::Result<kasper::Report>) {
    common::log();
    let input = topic("in", 1).await;
    send_numbers(&input, 0, 100).await;
    let (name, output) = (input.clone(), output.to_owned());
    // Long enough for batches of one moment to be sent in one request.
    let builder = builder("refused", &[&input]).max_batch_messages(10).kafka("linger.ms", "300");
    let processor = configure(builder).build(move |_| {
        let (output, outgoing) = (output.clone(), outgoing.clone());
        Each(move |batch: &Batch, context: &mut Context| {
            for message in batch {
                let number: usize = std::str::from_utf8(message.value().unwrap())?.parse()?;
                context.send(outgoing(number, &message, OutgoingMessage::new(output.clone())));
            }
            Ok(())
        })
    });
    (name, processor.await.unwrap().run_until_caught_up().await)
}

/// The error names the message of offset 37: the eighth of the batch with the offsets 30 to 39.
fn assert_names_the_37th(error: &Error, input: &str, output: &str) {
    assert_eq!(error.kind(), ErrorKind::Delivery, "{error}");
    assert_eq!(error.get("topic"), Some(output), "{error}");
    assert_eq!(error.get("output_partition"), Some("0"), "{error}");
    assert_eq!(error.get("message"), Some("8 of 10"), "{error}");
    let batch = error.get("refused_batch").or(error.get("batch")).unwrap();
    assert_eq!(batch, format!("{input}/0 30..=39"), "{error}");
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_message_without_a_key_to_a_compacted_topic_is_named_with_the_brokers_words() {
    let output = topic_with("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let (input, result) = sent_on(
        |builder| builder,
        &output,
        |number, _, message| {
            let message = message.value(format!("value {number}"));
            if number == 37 { message } else { message.key(format!("{number}")) }
        },
    )
    .await;
    let error = result.unwrap_err();
    assert_names_the_37th(&error, &input, &output);
    assert_eq!(error.get("key_bytes"), Some("none"), "{error}");
    assert_eq!(error.get("value_bytes"), Some("8"), "{error}");
    assert!(error.to_string().contains("without key"), "the broker's own words: {error}");
    // The first batch was in the same request.
    assert_eq!(error.get("batch"), Some(&*format!("{input}/0 0..=9")), "{error}");
    assert!(error.to_string().contains("same produce request"), "{error}");
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn several_refused_messages_are_told_from_the_others() {
    let output = topic_with("compacted", 1, &[("cleanup.policy", "compact")]).await;
    let (input, result) = sent_on(
        |builder| builder,
        &output,
        |number, _, message| {
            let message = message.value("v");
            if [37, 38, 55].contains(&number) { message } else { message.key(format!("{number}")) }
        },
    )
    .await;
    let error = result.unwrap_err();
    assert_names_the_37th(&error, &input, &output);
    assert!(error.to_string().contains("without key"), "{error}");
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_time_stamp_out_of_range_is_named_with_the_brokers_words() {
    let limit = ("message.timestamp.after.max.ms", "3600000");
    let output = topic_with("timed", 1, &[limit]).await;
    let (input, result) = sent_on(
        |builder| builder,
        &output,
        |number, incoming, message| {
            let message = message.key("k").value("v");
            let now = incoming.timestamp().unwrap();
            let later = if number == 37 { 365 * 24 * 3_600_000 } else { 0 };
            message.timestamp(now + later)
        },
    )
    .await;
    let error = result.unwrap_err();
    assert_names_the_37th(&error, &input, &output);
    assert_eq!(error.get("code"), Some("INVALID_TIMESTAMP"), "{error}");
    assert!(error.to_string().to_lowercase().contains("timestamp"), "{error}");
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_message_over_the_clients_limit_names_the_clients_property() {
    let output = topic("out", 1).await;
    let (input, result) = sent_on(
        |builder| builder.kafka("message.max.bytes", "2000"),
        &output,
        |number, _, message| message.value("x".repeat(if number == 37 { 3000 } else { 10 })),
    )
    .await;
    let error = result.unwrap_err();
    assert_eq!(error.get("topic"), Some(&*output));
    assert_eq!(error.get("message"), Some("8 of 10"), "{error}");
    assert_eq!(error.get("value_bytes"), Some("3000"), "{error}");
    assert_eq!(error.get("batch"), Some(&*format!("{input}/0 30..=39")), "{error}");
    let text = error.to_string();
    assert!(text.contains("the client, which takes 2000 bytes"), "{text}");
    assert!(!text.contains("Broker:"), "{text}");
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_message_over_the_topics_limit_names_the_topics_property() {
    let output = topic_with("small", 1, &[("max.message.bytes", "5000")]).await;
    let (input, result) = sent_on(
        |builder| builder,
        &output,
        |number, _, message| message.value("x".repeat(if number == 37 { 6000 } else { 10 })),
    )
    .await;
    let error = result.unwrap_err();
    assert_names_the_37th(&error, &input, &output);
    assert_eq!(error.get("value_bytes"), Some("6000"), "{error}");
    assert!(error.to_string().contains("`max.message.bytes`"), "{error}");
    // Small messages, too many for one request: there is another way out than a higher limit.
    let output = topic_with("small", 1, &[("max.message.bytes", "5000")]).await;
    let small = |_: usize, _: &Message<'_>, message: OutgoingMessage<'static>| {
        message.value("x".repeat(100))
    };
    let (_, result) = sent_on(|builder| builder, &output, small).await;
    assert!(result.unwrap_err().to_string().contains("`batch.size`"));
    let (_, result) = sent_on(|builder| builder.kafka("batch.size", "4000"), &output, small).await;
    result.unwrap();
    assert_eq!(read_all(&output).await.len(), 100);
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn an_unreadable_codec_names_the_codec_and_the_feature() {
    common::log();
    // The broker compresses what it is sent.
    let input = topic_with("zstd", 1, &[("compression.type", "zstd")]).await;
    send_numbers(&input, 0, 100).await;
    let all = Collect::default();
    let collect = all.clone();
    let processor = builder("zstd", &[&input]).build(move |_| collect.clone()).await.unwrap();
    let result = processor.run_until_caught_up().await;
    let compressed = builder("zstd", &[&input]).kafka("compression.type", "zstd");
    let compressed = compressed.build(|_| Collect::default()).await;
    if cfg!(feature = "zstd") {
        assert_eq!(result.unwrap().messages, 100);
        drop(compressed.unwrap());
        return;
    }
    let error = result.unwrap_err();
    assert_eq!(error.get("codec"), Some("zstd"), "{error}");
    assert_eq!(error.get("topic"), Some(&*input), "{error}");
    assert_eq!(error.get("partition"), Some("0"), "{error}");
    assert!(error.to_string().contains("enable the feature `zstd`"), "{error}");
    assert_eq!(all.len(), 0);
    let error = compressed.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("enable the feature `zstd`"), "{error}");
}
