//! Dropping and closing in every order.

use super::*;

async fn is_destroyed(destroyed: &Arc<std::sync::atomic::AtomicBool>) {
    patiently("the client's end", async {
        while !destroyed.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn static_member(broker: &Broker) -> (Member, [Arc<str>; 2]) {
    let topics = [broker.topic("a", 1).await, broker.topic("b", 1).await];
    number(broker, &topics[0], 0, 0, 500).await;
    number(broker, &topics[1], 0, 0, 500).await;
    let own = topics.iter().map(|topic| partition(topic, 0)).collect();
    (Member::fixed(broker, &topics, own).await, topics)
}

/// A processor may be built long before it runs: nobody takes the events out meanwhile.
#[tokio::test]
async fn nothing_is_reported_before_the_start() {
    let broker = Broker::mock();
    let topics = [broker.topic("a", 1).await];
    let group = unique("group");
    let options = MemberOptions {
        group: &group,
        properties: &[("statistics.interval.ms", "20")],
        ..MemberOptions::default()
    };
    let mut member = Member::new(&broker, &topics, options);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(member.events.len(), 0);
    member.consumer.start().unwrap();
    member.assign_from_zero().await;
}

/// As when the future that runs everything is dropped: nothing is closed, and everything ends.
#[tokio::test]
async fn dropping_everything_ends_everything() {
    let broker = Broker::any();
    let (mut member, topics) = static_member(&broker).await;
    let destroyed = member.consumer.destroyed();
    let mut reader = member.reader(&topics, 0);
    reader.some().await.unwrap();
    drop(member.consumer);
    drop(reader);
    is_destroyed(&destroyed).await;
    patiently("the end of the events", async { while member.events.recv().await.is_some() {} })
        .await;
}

#[tokio::test]
async fn messages_outlive_the_consumer() {
    let broker = Broker::any();
    let (member, topics) = static_member(&broker).await;
    let destroyed = member.consumer.destroyed();
    let mut reader = member.reader(&topics, 0);
    let records = reader.some().await.unwrap();
    let keepalive = reader.queue.keepalive();
    patiently("the close", member.consumer.close()).await;
    drop(member);
    let values: Vec<_> = records.iter().map(|record| reader.own(record).value).collect();
    assert!(values.iter().all(Option::is_some));
    drop(reader);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!destroyed.load(Ordering::Acquire), "messages are still there");
    drop(records);
    drop(keepalive);
    is_destroyed(&destroyed).await;
}

#[tokio::test]
async fn closing_twice_and_after_the_end_is_harmless() {
    let broker = Broker::any();
    let (member, _) = static_member(&broker).await;
    let (one, two) = (member.consumer.close(), member.consumer.close());
    patiently("the close", async { tokio::join!(one, two) }).await;
    patiently("the close", member.consumer.close()).await;
    let own = partition(&Arc::from("a"), 0);
    member.consumer.assign(LATEST, &[]).unwrap();
    member.consumer.unassign(LATEST, &[own]).unwrap();
    assert!(member.consumer.queue(0).is_err());
    let destroyed = member.consumer.destroyed();
    drop(member);
    is_destroyed(&destroyed).await;
}

#[tokio::test]
async fn closing_before_the_start_is_harmless() {
    let broker = Broker::mock();
    let topics = [broker.topic("a", 1).await];
    let group = unique("group");
    let options = MemberOptions { group: &group, ..MemberOptions::default() };
    let member = Member::new(&broker, &topics, options);
    let destroyed = member.consumer.destroyed();
    patiently("the close", member.consumer.close()).await;
    drop(member);
    is_destroyed(&destroyed).await;
}

/// An assignment that was reported and never answered must not keep the group waiting.
#[tokio::test]
async fn an_unanswered_assignment_does_not_hold_up_the_end() {
    let broker = Broker::any();
    let topics = [broker.topic("a", 2).await];
    let group = unique("group");
    for closes in [true, false] {
        let mut member = Member::join(&broker, &topics, &group);
        assert_eq!(member.assigned().await.len(), 2);
        let destroyed = member.consumer.destroyed();
        if closes {
            patiently("the close", member.consumer.close()).await;
        }
        drop(member);
        is_destroyed(&destroyed).await;
    }
}

/// Closed and dropped at all sorts of moments, among them the one where the group just ends.
#[tokio::test]
async fn many_come_and_go() {
    let broker = Broker::any();
    let topics = [broker.topic("a", 2).await];
    number(&broker, &topics[0], 0, 0, 1000).await;
    for round in 0..60_u64 {
        let group = unique("group");
        let partitions = Some(vec![partition(&topics[0], 0), partition(&topics[0], 1)]);
        let options = MemberOptions { group: &group, partitions, ..MemberOptions::default() };
        let mut member = Member::new(&broker, &topics, options);
        let destroyed = member.consumer.destroyed();
        if round % 4 > 0 {
            member.consumer.start().unwrap();
        }
        if round % 4 > 1 {
            member.assign_from_zero().await;
        }
        if round % 4 > 2 {
            let mut reader = member.reader(&topics, 0);
            reader.some().await.unwrap();
            let position = (partition(&topics[0], 0), Offset::new(1));
            drop(member.consumer.commit(vec![position.clone()]));
            tokio::spawn(member.consumer.seek(vec![position]));
            tokio::task::yield_now().await;
        }
        if round % 3 > 0 {
            patiently("the close", member.consumer.close()).await;
        }
        drop(member);
        is_destroyed(&destroyed).await;
    }
}

/// librdkafka calls a consumer dead that is not polled for `max.poll.interval.ms`. However long
/// the reader does nothing, its thread polls.
#[tokio::test]
async fn a_reader_that_rests_keeps_its_partitions() {
    let broker = Broker::any();
    let topics = [broker.topic("a", 2).await];
    let options = MemberOptions {
        group: &unique("group"),
        properties: &[("max.poll.interval.ms", "6000"), ("auto.commit.interval.ms", "1000")],
        ..MemberOptions::default()
    };
    let mut member = Member::new(&broker, &topics, options);
    member.consumer.start().unwrap();
    member.assign_from_zero().await;
    let revoked = async { member.revoked().await };
    assert!(timeout(Duration::from_secs(8), revoked).await.is_err());
}

#[tokio::test]
async fn a_fatal_error_is_told_and_ends_all() {
    let broker = Broker::mock();
    let topics = [broker.topic("a", 1).await];
    let options = MemberOptions {
        group: &unique("group"),
        // Only such a member can have a fatal error, librdkafka thinks.
        properties: &[("group.instance.id", "one")],
        ..MemberOptions::default()
    };
    let mut member = Member::new(&broker, &topics, options);
    member.consumer.start().unwrap();
    member.assign_from_zero().await;
    let destroyed = member.consumer.destroyed();
    member.consumer.raise_fatal_error();
    let wait = async {
        loop {
            // `event` would stop at it.
            if let Some(Event::Fatal(error)) = member.events.recv().await {
                return error;
            }
        }
    };
    let error = patiently("the fatal error", wait).await;
    assert!(error.to_string().contains("a test"), "{error}");
    assert!(!error.is_retryable());
    let commit = member.consumer.commit(vec![(partition(&topics[0], 0), Offset::new(1))]);
    assert!(patiently("the commit's end", commit).await.is_err());
    patiently("the close", member.consumer.close()).await;
    drop(member);
    is_destroyed(&destroyed).await;
}

#[tokio::test]
async fn an_unreachable_broker_does_not_hold_up_the_end() {
    let broker = Broker { mock: None, address: "127.0.0.1:1".into() };
    let topics: [Arc<str>; 1] = ["a".into()];
    let mut member = Member::join(&broker, &topics, "group");
    let warning = member
        .event("a warning", |event| match event {
            Event::Warning(error) => Some(error),
            _ => None,
        })
        .await;
    assert_eq!(warning.kind(), crate::ErrorKind::Unavailable, "{warning}");
    assert!(warning.is_retryable());
    let commit = member.consumer.commit(vec![(partition(&topics[0], 0), Offset::new(1))]);
    let destroyed = member.consumer.destroyed();
    patiently("the close", member.consumer.close()).await;
    drop(member);
    assert!(patiently("the commit's end", commit).await.is_err());
    is_destroyed(&destroyed).await;
}

#[test]
fn a_refused_property_is_named_and_a_secret_is_not_shown() {
    let error = |name: &str, value: &str| {
        let properties = vec![(name.to_owned(), value.to_owned())];
        KafkaProducer::new(properties, None).unwrap_err()
    };
    let unknown = error("linger.mss", "5");
    assert_eq!(unknown.kind(), crate::ErrorKind::Config);
    assert_eq!(unknown.get("property"), Some("linger.mss"));
    assert!(unknown.to_string().contains("No such configuration property"), "{unknown}");
    let invalid = error("compression.type", "five");
    assert!(invalid.to_string().contains("five"), "{invalid}");
    for name in ["ssl.key.pem", "ssl.keystore.password", "sasl.oauthbearer.client.secret"] {
        assert!(super::super::refusals::is_secret(name), "{name}");
    }
    let options = KafkaOptions {
        consumer_properties: vec![("sasl.password".into(), "hunter2".into())],
        producer_properties: Vec::new(),
        topics: Arc::from([]),
        partitions: None,
        isolation_read_committed: false,
        token_provider: None,
    };
    assert!(!format!("{options:?}").contains("hunter2"));
}
