//! Consuming, processing, sending and committing, on a real Kafka.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests and what they print"
)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{
    Collect, Each, builder, committed, eventually, group_of, read_all, send_numbers, topic,
};
use kasper::testkit::TestMessage;
use kasper::{ErrorKind, OutOfRange, OutgoingMessage, StartFrom, TopicPartition, TopicProcessor};

const NEEDS_KAFKA: Duration = Duration::from_secs(30);

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn static_partitions_are_processed_to_their_end_and_committed() {
    common::log();
    let (a, b) = (topic("a", 3).await, topic("b", 2).await);
    for partition in 0..3 {
        send_numbers(&a, partition, 1000).await;
    }
    send_numbers(&b, 1, 500).await;
    let all = Collect::default();
    let collect = all.clone();
    let processor = builder("static", &[&a, &b]).partitions(0..3).build(move |_| collect.clone());
    let processor = processor.await.unwrap();
    let group = group_of(processor.handle().name());
    let report = processor.run_until_caught_up().await.unwrap();
    assert_eq!(report.messages, 3500);
    assert_eq!(all.len(), 3500);
    assert_eq!(report.next_offsets[&TopicPartition::new(a.as_str(), 2)].get(), 1000);
    assert_eq!(report.next_offsets[&TopicPartition::new(b.as_str(), 0)].get(), 0);
    assert!(!report.next_offsets.contains_key(&TopicPartition::new(b.as_str(), 2)));
    assert_eq!(committed(&group, &a, 0), Some(1000));
    assert_eq!(committed(&group, &b, 1), Some(500));
}

async fn group_run(configure: impl Fn(kasper::Builder) -> kasper::Builder) {
    common::log();
    let (a, b) = (topic("a", 4).await, topic("b", 4).await);
    for partition in 0..4 {
        send_numbers(&a, partition, 500).await;
        send_numbers(&b, partition, 300).await;
    }
    let all = Collect::default();
    let collect = all.clone();
    let builder = configure(builder("group", &[&a, &b]));
    let processor = builder.build(move |_| collect.clone()).await.unwrap();
    let group = group_of(processor.handle().name());
    let report = processor.run_until_caught_up().await.unwrap();
    assert_eq!((report.messages, all.len()), (3200, 3200));
    for partition in 0..4 {
        assert_eq!(committed(&group, &a, partition), Some(500));
        assert_eq!(committed(&group, &b, partition), Some(300));
    }
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_classic_group_is_processed_to_its_end() {
    group_run(|builder| builder).await;
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_kip_848_group_is_processed_to_its_end() {
    group_run(kasper::Builder::consumer_protocol).await;
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_cooperative_group_is_processed_to_its_end() {
    group_run(|builder| builder.kafka("partition.assignment.strategy", "cooperative-sticky")).await;
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_second_run_goes_on_where_the_first_committed() {
    let input = topic("input", 1).await;
    send_numbers(&input, 0, 100).await;
    let name = common::unique("twice");
    let run = || async {
        let all = Collect::default();
        let collect = all.clone();
        let builder = TopicProcessor::builder(&name, [&input]).brokers(common::brokers());
        let processor = builder.partitions([0]).build(move |_| collect.clone()).await.unwrap();
        processor.run_until_caught_up().await.unwrap();
        all.len()
    };
    assert_eq!(run().await, 100);
    send_numbers(&input, 0, 7).await;
    assert_eq!(run().await, 7);
    assert_eq!(run().await, 0);
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn everything_of_a_message_comes_in_and_goes_out() {
    let (input, output) = (topic("input", 1).await, topic("output", 2).await);
    common::client().send(TestMessage::new(&input).value("")).await.unwrap();
    let out = output.clone();
    let send = move |_: &kasper::Batch, context: &mut kasper::Context| {
        let full = OutgoingMessage::new(out.as_str()).key("k").value("v").timestamp(1234);
        context.send(full.header("h", "1").header("h", "2").null_header("n").partition(1));
        context.send(OutgoingMessage::tombstone(out.as_str(), "gone").partition(1));
        context.send(OutgoingMessage::new(out.as_str()).value("").partition(1));
        Ok(())
    };
    let processor = builder("out", &[&input]).partitions([0]);
    let processor = processor.build(move |_| Each(send.clone())).await.unwrap();
    processor.run_until_caught_up().await.unwrap();

    let seen = Arc::new(Mutex::new(Vec::new()));
    let (notes, copy) = (seen.clone(), topic("copy", 1).await);
    let target = copy.clone();
    let look = move |batch: &kasper::Batch, context: &mut kasper::Context| {
        for message in batch.iter() {
            context.forward(&target, &message);
        }
        notes.lock().unwrap().extend(batch.iter().map(|message| message.to_owned()));
        Ok(())
    };
    let processor = builder("in", &[&output]).partitions([1]);
    processor
        .build(move |_| Each(look.clone()))
        .await
        .unwrap()
        .run_until_caught_up()
        .await
        .unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(seen[0].timestamp, Some(1234));
    let header = |value: &str| ("h".to_owned(), Some(value.as_bytes().to_vec()));
    assert_eq!(seen[0].headers, [header("1"), header("2"), ("n".to_owned(), None)]);
    assert_eq!((seen[1].key.as_deref(), &seen[1].value), (Some(&b"gone"[..]), &None));
    assert_eq!((&seen[2].key, seen[2].value.as_deref()), (&None, Some(&b""[..])));

    let third = Collect::default();
    let collect = third.clone();
    let processor = builder("copy", &[&copy]).partitions([0]).build(move |_| collect.clone());
    processor.await.unwrap().run_until_caught_up().await.unwrap();
    let copies = third.0.lock().unwrap();
    for (copy, original) in copies.iter().zip(seen.iter()) {
        assert_eq!((&copy.key, &copy.value), (&original.key, &original.value));
        assert_eq!((&copy.headers, copy.timestamp), (&original.headers, original.timestamp));
    }
    assert_eq!(copies.len(), 3);
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn an_undeliverable_message_is_an_error_and_its_batch_is_not_committed() {
    let (input, output) = (topic("input", 1).await, topic("output", 1).await);
    send_numbers(&input, 0, 30).await;
    for (target, value, reason) in [
        (output.clone(), vec![0; 2_000_000], "too large"),
        (common::unique("nowhere"), vec![0], "unknown topic"),
    ] {
        let destination = target.clone();
        let send = move |batch: &kasper::Batch, context: &mut kasper::Context| {
            let twenty = batch.iter().any(|message| message.offset().get() == 20);
            if twenty {
                context.send(OutgoingMessage::new(destination.as_str()).value(&value));
            }
            Ok(())
        };
        let processor = builder("undeliverable", &[&input])
            .partitions([0])
            .max_batch_messages(10)
            .kafka("topic.metadata.propagation.max.ms", "1000")
            .build(move |_| Each(send.clone()))
            .await
            .unwrap();
        let group = group_of(processor.handle().name());
        let error = tokio::time::timeout(NEEDS_KAFKA, processor.run()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Delivery, "{error}");
        assert_eq!(error.get("topic"), Some(target.as_str()), "{error}");
        assert!(error.to_string().to_lowercase().contains(reason), "{error}");
        assert!(error.get("batch").unwrap().contains("20..=29"), "{error}");
        assert_eq!(committed(&group, &input, 0), Some(20));
    }
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_failed_process_stops_everything_and_finished_batches_are_committed() {
    let input = topic("input", 1).await;
    send_numbers(&input, 0, 30).await;
    let fail = |batch: &kasper::Batch, _: &mut kasper::Context| {
        let last = batch.iter().next_back().unwrap();
        if last.offset().get() >= 20 {
            let number: u32 = std::str::from_utf8(b"x")?.parse()?;
            unreachable!("{number}");
        }
        Ok(())
    };
    let builder = builder("failing", &[&input]).partitions([0]).max_batch_messages(10);
    let processor = builder.build(move |_| Each(fail)).await.unwrap();
    let (handle, group) = (processor.handle(), group_of(processor.handle().name()));
    let error = processor.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Process);
    assert_eq!(error.get("topic"), Some(input.as_str()));
    assert_eq!((error.get("partition"), error.get("offsets")), (Some("0"), Some("20..=29")));
    assert!(error.find::<std::num::ParseIntError>().is_some());
    assert_eq!(committed(&group, &input, 0), Some(20));
    handle.closed().await;
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn an_offset_that_is_not_in_the_log_is_an_error_or_skipped_by_choice() {
    common::log();
    let input = topic("input", 1).await;
    send_numbers(&input, 0, 10).await;
    for (policy, processed) in
        [(OutOfRange::Fail, None), (OutOfRange::Earliest, Some(10)), (OutOfRange::Latest, Some(0))]
    {
        let all = Collect::default();
        let collect = all.clone();
        let builder = builder("range", &[&input]).partitions([0]).out_of_range(policy);
        let processor = builder.build(move |_| collect.clone()).await.unwrap();
        let handle = processor.handle();
        let group = group_of(handle.name());
        common::commit(&group, &input, 0, 5000);
        let Some(processed) = processed else {
            let error = processor.run().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error:?}");
            assert_eq!(error.get("topic"), Some(input.as_str()));
            assert_eq!((error.get("offset"), error.get("log")), (Some("5000"), Some("0..10")));
            continue;
        };
        let running = tokio::spawn(processor.run());
        eventually(NEEDS_KAFKA, || handle.has_consumed_all()).await;
        assert_eq!(all.len(), processed);
        handle.close();
        running.await.unwrap().unwrap();
        assert_eq!(committed(&group, &input, 0), Some(10));
    }
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_new_group_starts_where_it_is_told() {
    let input = topic("input", 1).await;
    send_numbers(&input, 0, 10).await;
    let second = read_all(&input).await[9].timestamp.unwrap() + 1;
    tokio::time::sleep(Duration::from_millis(20)).await;
    send_numbers(&input, 0, 5).await;
    let cases = [
        (StartFrom::Earliest, 15),
        (StartFrom::Latest, 0),
        (StartFrom::Timestamp(second), 5),
        (StartFrom::Timestamp(second + 3_600_000), 0),
    ];
    for (start, expected) in cases {
        let all = Collect::default();
        let collect = all.clone();
        let builder = builder("start", &[&input]).partitions([0]).start_from(start);
        let processor = builder.build(move |_| collect.clone()).await.unwrap();
        let group = group_of(processor.handle().name());
        processor.run_until_caught_up().await.unwrap();
        assert_eq!(all.len(), expected, "{start:?}");
        assert_eq!(committed(&group, &input, 0), Some(15), "the start itself is committed");
    }
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn missing_topics_and_partitions_are_named_at_build() {
    let present = topic("present", 2).await;
    let missing = common::unique("missing");
    let error = builder("missing", &[&present, &missing]).build(|_| Collect::default()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
    assert_eq!(error.get("topic"), Some(missing.as_str()));

    let builder_of = || builder("missing", &[&present]);
    let error = builder_of().partitions([1, 2, 7]).build(|_| Collect::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.get("partition")), (ErrorKind::UnknownPartition, Some("2, 7")));

    let other = topic("other", 3).await;
    let error = builder("unaligned", &[&present, &other]).build(|_| Collect::default()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Config);
    let allowed = builder("unaligned", &[&present, &other]).allow_unaligned_topics();
    drop(allowed.build(|_| Collect::default()).await.unwrap());
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn build_waits_for_a_topic_if_asked_to() {
    let late = common::unique("late");
    let waiting = builder("waiting", &[&late]).wait_for_topics(Duration::from_secs(20));
    let waiting = tokio::spawn(waiting.build(|_| Collect::default()));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!waiting.is_finished());
    common::create(&late, 1, &[]).await;
    drop(waiting.await.unwrap().unwrap());
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_transactional_tail_does_not_hang_the_run_to_the_end() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let input = topic("input", 1).await;
    let id = common::unique("transaction");
    let producer: BaseProducer = common::config_of(&[("transactional.id", &id)]).create().unwrap();
    let timeout = Duration::from_secs(20);
    producer.init_transactions(timeout).unwrap();
    for (round, commits) in [(0, true), (1, false), (2, true), (3, false)] {
        producer.begin_transaction().unwrap();
        for number in 0..10 {
            let value = format!("{round}/{number}");
            producer.send(BaseRecord::<(), _>::to(&input).payload(&value)).unwrap();
        }
        match commits {
            true => producer.commit_transaction(timeout).unwrap(),
            false => {
                producer.flush(timeout).unwrap();
                producer.abort_transaction(timeout).unwrap();
            }
        }
    }
    for isolation in ["read_committed", "read_uncommitted"] {
        let all = Collect::default();
        let collect = all.clone();
        let builder =
            builder("tail", &[&input]).partitions([0]).kafka("isolation.level", isolation);
        let processor = builder.build(move |_| collect.clone()).await.unwrap();
        let run = tokio::time::timeout(NEEDS_KAFKA, processor.run_until_caught_up());
        run.await.expect("control records at the end must not hang it").unwrap();
        let expected = if isolation == "read_committed" { 20 } else { 40 };
        assert_eq!(all.len(), expected, "{isolation}");
    }
}

/// The second of two members for one partition is told that there is nothing for it.
async fn none_assigned(configure: impl Fn(kasper::Builder) -> kasper::Builder) {
    let input = topic("one", 1).await;
    let name = common::unique("none");
    let build = || {
        let builder = TopicProcessor::builder(&name, [&input]).brokers(common::brokers());
        configure(builder).build(|_| Collect::default())
    };
    let first = build().await.unwrap();
    let handle = first.handle();
    let running = tokio::spawn(first.run());
    eventually(NEEDS_KAFKA, || handle.status().partitions.len() == 1).await;
    let second = build().await.unwrap();
    let run = tokio::time::timeout(NEEDS_KAFKA, second.run_until_caught_up());
    let report = run.await.expect("a member without partitions is caught up").unwrap();
    assert_eq!(report.messages, 0);
    handle.close();
    running.await.unwrap().unwrap();
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_member_without_partitions_is_caught_up() {
    none_assigned(|builder| builder.kafka("heartbeat.interval.ms", "300")).await;
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_member_without_partitions_is_caught_up_in_a_kip_848_group() {
    none_assigned(kasper::Builder::consumer_protocol).await;
}

#[tokio::test]
#[ignore = "needs a Kafka; run `cargo xtask test`"]
async fn a_dry_partition_does_not_stall_the_others() {
    let input = topic("input", 4).await;
    for partition in 0..3 {
        send_numbers(&input, partition, 13_334).await;
    }
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let processor = builder("drain", &[&input]).partitions(0..4).max_batch_messages(100);
    let processor = processor.build(move |_| {
        let counter = counter.clone();
        Each(move |batch: &kasper::Batch, _: &mut kasper::Context| {
            counter.fetch_add(batch.len(), Ordering::Relaxed);
            Ok(())
        })
    });
    let processor = processor.await.unwrap();
    let started = Instant::now();
    processor.run_until_caught_up().await.unwrap();
    println!("40 k messages to the end, with a dry partition: {:?}", started.elapsed());
    assert_eq!(count.load(Ordering::Relaxed), 3 * 13_334);
}
