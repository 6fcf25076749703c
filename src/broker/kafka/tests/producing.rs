//! Delivery, its failures, a full queue.

use std::sync::Weak;

use super::*;
use crate::error::ErrorKind;

#[tokio::test]
async fn a_message_that_is_too_large_fails_its_delivery() {
    let broker = Broker::any();
    let topic = broker.topic("small", 1).await;
    let producer = producer(&broker, &[("message.max.bytes", "2000")]);
    let large = "x".repeat(3000);
    let delivery = delivery([
        OutgoingMessage::new(&*topic).value("fits"),
        OutgoingMessage::new(&*topic).value(large),
        OutgoingMessage::new(&*topic).value("behind"),
    ]);
    hand_over(&producer, &delivery).await;
    let error = reports(&delivery).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Delivery);
    assert_eq!(error.get("topic"), Some(&*topic));
    assert!(error.to_string().contains("too large"), "{error}");
    released(delivery).await;
}

/// Many are handed over in one call, which goes on behind a message that is refused.
#[tokio::test]
async fn nothing_behind_a_message_that_is_too_large_is_sent() {
    let broker = Broker::any();
    let topics = [broker.topic("small", 1).await];
    let producer = producer(&broker, &[("message.max.bytes", "2000")]);
    let (mut sent, mut refused) = (Vec::new(), 0);
    for size in (1850..2050).step_by(10) {
        let before = (0..5).map(|n| format!("{size} before {n}"));
        let mut values: Vec<String> = before.chain([format!("{size:0>size$}")]).collect();
        values.extend((0..5).map(|n| format!("{size} behind {n}")));
        let message = |value| OutgoingMessage::new(&*topics[0]).value(value);
        let delivery = delivery(values.iter().map(message));
        hand_over(&producer, &delivery).await;
        if reports(&delivery).await.is_err() {
            refused += 1;
            values.truncate(5);
        }
        sent.extend(values);
        released(delivery).await;
    }
    assert!((5..15).contains(&refused), "{refused}");
    let member = Member::fixed(&broker, &topics, vec![partition(&topics[0], 0)]).await;
    let messages = member.reader(&topics, 0).read(sent.len()).await;
    assert_eq!(values(&messages), sent);
}

#[tokio::test]
async fn a_partition_that_does_not_exist_fails_its_delivery() {
    let broker = Broker::any();
    let topic = broker.topic("few", 1).await;
    let producer = producer(&broker, &[]);
    // Twice: before the client knows the topic, and after.
    for _ in 0..2 {
        let delivery = delivery([
            OutgoingMessage::new(&*topic).partition(0).value("a"),
            OutgoingMessage::new(&*topic).partition(9).value("b"),
            OutgoingMessage::new(&*topic).partition(0).value("c"),
        ]);
        hand_over(&producer, &delivery).await;
        let error = reports(&delivery).await.unwrap_err();
        assert!(error.to_string().contains("nknown partition"), "{error}");
        released(delivery).await;
    }
}

#[tokio::test]
#[ignore = "the mock cluster makes every topic: set KASPER_TEST_KAFKA to a broker's address"]
async fn a_topic_that_does_not_exist_fails_its_delivery() {
    let producer = producer(&Broker::real(), &[("topic.metadata.propagation.max.ms", "500")]);
    let topic = unique("missing");
    let delivery = delivery([OutgoingMessage::new(&*topic).value("a")]);
    hand_over(&producer, &delivery).await;
    let error = reports(&delivery).await.unwrap_err();
    assert_eq!(error.get("topic"), Some(&*topic));
    assert!(error.to_string().contains("nknown topic"), "{error}");
    // The client knows by now, and refuses at once, alone or among others.
    for count in [1, 2, 5, 256, 300] {
        let delivery =
            super::delivery((0..count).map(|_| OutgoingMessage::new(&*topic).value("some value")));
        hand_over(&producer, &delivery).await;
        let error = reports(&delivery).await.unwrap_err();
        assert!(error.to_string().contains("nknown topic"), "{error}");
        assert_eq!(error.get("topic"), Some(&*topic));
        released(delivery).await;
    }
}

#[tokio::test]
async fn an_impossible_topic_name_fails_its_delivery() {
    let broker = Broker::mock();
    let producer = producer(&broker, &[]);
    let name = "x".repeat(600);
    let delivery = delivery([OutgoingMessage::new(&*name).value("a")]);
    hand_over(&producer, &delivery).await;
    assert!(reports(&delivery).await.is_err());
    released(delivery).await;
}

/// librdkafka ends a name at its first zero byte: the message would arrive in another topic, acknowledged.
#[tokio::test]
async fn a_topic_name_with_a_zero_byte_fails_its_delivery() {
    let broker = Broker::mock();
    let topic = broker.topic("named", 1).await;
    let producer = producer(&broker, &[]);
    let name = format!("{topic}\0more");
    let delivery = delivery([OutgoingMessage::new(&*name).value("a")]);
    hand_over(&producer, &delivery).await;
    let error = reports(&delivery).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Delivery);
    assert!(error.to_string().contains("name"), "{error}");
    released(delivery).await;
}

/// The client holds no reference to a delivery whose messages are all counted.
async fn released(delivery: Arc<Delivery>) {
    patiently("the client's reference", async {
        while Arc::strong_count(&delivery) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_is_resumed_where_it_was_full() {
    let broker = Broker::any();
    let topics = [broker.topic("much", 1).await];
    let topic = &*topics[0];
    let producer = producer(&broker, &[("queue.buffering.max.messages", "10"), ("linger.ms", "0")]);
    let mut weak: Vec<Weak<Delivery>> = Vec::new();
    for round in 0..5 {
        let message = |n: usize| {
            let message = OutgoingMessage::new(topic).value((100 * round + n).to_string());
            // With headers messages are handed over one by one, else many at once.
            if round % 2 == 0 && n.is_multiple_of(3) { message.header("h", "1") } else { message }
        };
        let delivery = delivery((0..100).map(message));
        let mut full = 0;
        while producer.produce(&delivery) == Handover::QueueFull {
            full += 1;
            patiently("room", producer.room()).await;
        }
        assert!(full > 0);
        assert_eq!(delivery.next(), 100);
        weak.push(Arc::downgrade(&delivery));
        if round % 2 == 0 {
            reports(&delivery).await.unwrap();
            released(delivery).await;
        }
    }
    let member = Member::fixed(&broker, &topics, vec![partition(&topics[0], 0)]).await;
    let messages = member.reader(&topics, 0).read(500).await;
    assert_eq!(values(&messages), (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(weak.iter().all(|weak| weak.strong_count() == 0), "a delivery is not released");
}

/// A delivery that nobody waits for is kept until the client is done with its bytes.
#[tokio::test]
async fn bytes_outlive_the_one_who_sent_them() {
    let broker = Broker::mock();
    let topics = [broker.topic("left", 1).await];
    let topic = &*topics[0];
    broker.cluster().broker_round_trip_time(1, Duration::from_millis(300)).unwrap();
    let producer = producer(&broker, &[]);
    let text = |n: usize| format!("{n}-{}", "y".repeat(1000));
    let weak = {
        let delivery = delivery((0..200).map(|n| OutgoingMessage::new(topic).value(text(n))));
        hand_over(&producer, &delivery).await;
        Arc::downgrade(&delivery)
    };
    assert!(weak.strong_count() > 0);
    let member = Member::fixed(&broker, &topics, vec![partition(&topics[0], 0)]).await;
    let messages = member.reader(&topics, 0).read(200).await;
    assert_eq!(values(&messages), (0..200).map(text).collect::<Vec<_>>());
    patiently("the release", async {
        while weak.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_dropped_producer_fails_what_it_has() {
    let broker = Broker::mock();
    let topic = broker.topic("never", 1).await;
    broker.cluster().broker_round_trip_time(1, Duration::from_secs(30)).unwrap();
    let producer = producer(&broker, &[("message.timeout.ms", "0")]);
    let delivery = delivery((0..100).map(|n| OutgoingMessage::new(&*topic).value(n.to_string())));
    hand_over(&producer, &delivery).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(producer);
    let error = reports(&delivery).await.unwrap_err();
    assert!(error.to_string().contains("Purged"), "{error}");
    released(delivery).await;
}

/// librdkafka would keep what it has for good: deliveries have no time-out.
#[tokio::test]
async fn a_fatal_error_fails_what_is_under_way_and_what_comes() {
    let broker = Broker::mock();
    let topic = broker.topic("never", 1).await;
    broker.cluster().broker_round_trip_time(1, Duration::from_secs(30)).unwrap();
    let producer = producer(&broker, &[("message.timeout.ms", "0")]);
    let make = || delivery((0..100).map(|n| OutgoingMessage::new(&*topic).value(n.to_string())));
    let (under_way, coming) = (make(), make());
    hand_over(&producer, &under_way).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    producer.raise_fatal_error();
    let error = reports(&under_way).await.unwrap_err();
    assert!(error.to_string().contains("a test"), "{error}");
    hand_over(&producer, &coming).await;
    let error = reports(&coming).await.unwrap_err();
    assert!(error.to_string().contains("a test"), "{error}");
    released(under_way).await;
    released(coming).await;
}

#[tokio::test]
async fn an_unreachable_broker_fails_a_delivery_by_its_time_out() {
    let broker = Broker { mock: None, address: "127.0.0.1:1".into() };
    let producer = producer(&broker, &[("message.timeout.ms", "500")]);
    let delivery = delivery([OutgoingMessage::new("t").value("a")]);
    hand_over(&producer, &delivery).await;
    let error = reports(&delivery).await.unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");
    released(delivery).await;
}
