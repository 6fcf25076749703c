//! Messages as they arrive, byte for byte.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::error::ErrorKind;

#[tokio::test]
async fn two_topics_of_a_number_come_through_one_queue() {
    let broker = Broker::any();
    let topics = [broker.topic("a", 2).await, broker.topic("b", 2).await];
    for topic in &topics {
        number(&broker, topic, 0, 0, 5).await;
        number(&broker, topic, 1, 100, 3).await;
    }
    let own = topics.iter().flat_map(|topic| [partition(topic, 0), partition(topic, 1)]).collect();
    let member = Member::fixed(&broker, &topics, own).await;
    let mut reader = member.reader(&topics, 0);
    let zero = reader.read(10).await;
    let one = member.reader(&topics, 1).read(6).await;
    for topic in &topics {
        let of = |messages: &[OwnedMessage]| -> Vec<_> {
            let own = messages.iter().filter(|message| message.topic == *topic);
            own.map(|message| (message.offset.get(), message.value.clone().unwrap())).collect()
        };
        let expected = |first: i64, count: i64| -> Vec<_> {
            (0..count).map(|n| (n, (first + n).to_string().into_bytes())).collect()
        };
        assert_eq!(of(&zero), expected(0, 5));
        assert_eq!(of(&one), expected(100, 3));
    }
    assert_eq!(reader.queue.length()(), 0);
    member.consumer.close().await;
}

#[tokio::test]
async fn what_is_sent_is_what_arrives() {
    let broker = Broker::any();
    let topics = [broker.topic("parts", 1).await];
    let topic = &*topics[0];
    produce(
        &broker,
        [
            OutgoingMessage::new(topic).key("k").value("v"),
            OutgoingMessage::new(topic),
            OutgoingMessage::new(topic).key("").value(""),
            OutgoingMessage::tombstone(topic, "gone"),
            OutgoingMessage::new(topic).value("t").timestamp(1_234_567),
            OutgoingMessage::new(topic).key("").header("a", "1").header("", "").null_header("a"),
            OutgoingMessage::new(topic).value("").header("ü", vec![0, 255]).timestamp(7),
        ],
    )
    .await;
    let member = Member::fixed(&broker, &topics, vec![partition(&topics[0], 0)]).await;
    let messages = member.reader(&topics, 0).read(7).await;
    let bytes = |text: &str| Some(text.as_bytes().to_vec());
    let parts: Vec<_> = messages.iter().map(|m| (m.key.clone(), m.value.clone())).collect();
    let expected = [
        (bytes("k"), bytes("v")),
        (None, None),
        (bytes(""), bytes("")),
        (bytes("gone"), None),
        (None, bytes("t")),
        (bytes(""), None),
        (None, bytes("")),
    ];
    assert_eq!(parts, expected);
    assert_eq!(messages[4].timestamp, Some(1_234_567));
    assert_eq!(messages[6].timestamp, Some(7));
    assert!(messages[0].timestamp.unwrap() > 1_600_000_000_000);
    let header = |name: &str, value: Option<Vec<u8>>| (name.to_owned(), value);
    let first = [header("a", bytes("1")), header("", bytes("")), header("a", None)];
    assert_eq!(messages[5].headers, first);
    assert_eq!(messages[6].headers, [header("ü", Some(vec![0, 255]))]);
    assert!(messages[0].headers.is_empty());
}

#[tokio::test]
async fn take_gives_no_more_than_asked_for() {
    let broker = Broker::any();
    let topics = [broker.topic("max", 1).await];
    number(&broker, &topics[0], 0, 0, 10).await;
    let member = Member::fixed(&broker, &topics, vec![partition(&topics[0], 0)]).await;
    let mut reader = member.reader(&topics, 0);
    patiently("messages", async {
        while reader.queue.length()() < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut records = Vec::new();
    assert_eq!(reader.queue.take(3, &mut records).messages, 3);
    assert_eq!(reader.queue.take(4, &mut records).messages, 4);
    assert_eq!(reader.queue.take(4, &mut records).messages, 3);
    assert_eq!(reader.queue.take(4, &mut records).messages, 0);
    let offsets: Vec<_> = records.iter().map(|record| record.offset().get()).collect();
    assert_eq!(offsets, (0..10).collect::<Vec<_>>());
    assert_eq!(records.iter().map(Record::size).sum::<usize>(), 10);
}

/// Each message is sent only when the one before has been seen: a lost wake-up stops it for good.
#[tokio::test]
async fn no_wake_up_is_lost() {
    let broker = Broker::any();
    // The mock cluster answers a fetch only when the fetch's waiting time is over.
    let messages = if broker.mock.is_some() { 300 } else { 5000 };
    let topics = [broker.topic("ping", 1).await];
    let topic = &*topics[0];
    let member = Member::fixed(&broker, &topics, vec![partition(&topics[0], 0)]).await;
    let mut reader = member.reader(&topics, 0);
    let producer = producer(&broker, &[("linger.ms", "0")]);
    for n in 0..messages {
        let delivery = delivery([OutgoingMessage::new(topic).value(n.to_string())]);
        hand_over(&producer, &delivery).await;
        assert_eq!(values(&reader.read(1).await), [n.to_string()]);
    }
}

/// Status asks for it, and status must never wait.
#[tokio::test]
async fn a_seek_keeps_nobody_from_asking_how_much_waits() {
    let broker = Broker::any();
    let topics = [broker.topic("length", 1).await];
    let member = Member::fixed(&broker, &topics, vec![partition(&topics[0], 0)]).await;
    let length = member.reader(&topics, 0).queue.length();
    let (sender, answer) = std::sync::mpsc::channel();
    let answer = member.consumer.as_during_a_seek(|| {
        std::thread::spawn(move || sender.send(length()));
        answer.recv_timeout(PATIENCE)
    });
    assert!(answer.is_ok(), "it waits for the seek");
}

#[tokio::test]
async fn seek_goes_back_and_forth() {
    let broker = Broker::any();
    let topics = [broker.topic("a", 1).await, broker.topic("b", 1).await];
    number(&broker, &topics[0], 0, 0, 100).await;
    number(&broker, &topics[1], 0, 0, 100).await;
    let own = vec![partition(&topics[0], 0), partition(&topics[1], 0)];
    let member = Member::fixed(&broker, &topics, own.clone()).await;
    let mut reader = member.reader(&topics, 0);
    reader.read(200).await;
    for (offset, expected) in [(40, 60), (90, 10), (0, 100), (99, 1)] {
        let positions = vec![(own[0].clone(), Offset::new(offset))];
        member.consumer.seek(positions).await.unwrap();
        let messages = reader.read(expected).await;
        assert_eq!(messages[0].offset, Offset::new(offset));
        assert!(messages.iter().all(|message| message.topic == topics[0]));
    }
    // While messages still wait in the queue, and more of them are fetched.
    number(&broker, &topics[0], 0, 100, 100).await;
    number(&broker, &topics[1], 0, 100, 50).await;
    reader.some().await.unwrap();
    let positions = own.iter().map(|own| (own.clone(), Offset::new(20))).collect();
    member.consumer.seek(positions).await.unwrap();
    let mut offsets = reader.read(180 + 130).await;
    offsets.sort_by_key(|message| (message.topic.clone(), message.offset));
    assert!(offsets.iter().zip((20..200).chain(20..150)).all(|(m, n)| m.offset.get() == n));
    let unknown = vec![(partition(&topics[0], 7), Offset::new(0))];
    let error = member.consumer.seek(unknown).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownPartition);
}

/// Messages before the error come first; a seek then gets the partition going again, and the other
/// topic of the number goes on as if nothing had been.
async fn an_offset_beyond_the_end_is_an_error(mut member: Member, topics: &[Arc<str>]) {
    let partitions = member.assigned().await;
    let start = |p: &TopicPartition| Offset::new(if p.topic == topics[1] { 1000 } else { 0 });
    let starts: Vec<_> = partitions.iter().map(|p| (p.clone(), Some(start(p)))).collect();
    member.consumer.assign(LATEST, &starts).unwrap();
    let mut reader = member.reader(topics, 0);
    let (mut good, started) = (0, Instant::now());
    let error = loop {
        match reader.some().await {
            Ok(records) => good += records.len(),
            Err(error) => break error,
        }
        assert!(started.elapsed() < PATIENCE);
    };
    assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error}");
    assert_eq!(error.get("topic"), Some(&*topics[1]));
    assert_eq!(error.get("partition"), Some("0"));
    assert_eq!(error.get("offset"), Some("1000"));
    let positions = vec![(partition(&topics[1], 0), Offset::new(3))];
    member.consumer.seek(positions).await.unwrap();
    let mut rest = reader.read(10 + 7 - good).await;
    rest.retain(|message| message.topic == topics[1]);
    let offsets: Vec<_> = rest.iter().map(|message| message.offset.get()).collect();
    assert_eq!(offsets, (3..10).collect::<Vec<_>>());
    member.consumer.close().await;
}

async fn two_topics_of_ten(broker: &Broker) -> [Arc<str>; 2] {
    let topics = [broker.topic("good", 1).await, broker.topic("bad", 1).await];
    number(broker, &topics[0], 0, 0, 10).await;
    number(broker, &topics[1], 0, 0, 10).await;
    topics
}

#[tokio::test]
async fn out_of_range_with_static_partitions() {
    let broker = Broker::any();
    let topics = two_topics_of_ten(&broker).await;
    let group = unique("group");
    let partitions = Some(topics.iter().map(|topic| partition(topic, 0)).collect());
    let options = MemberOptions { group: &group, partitions, ..MemberOptions::default() };
    let member = Member::new(&broker, &topics, options);
    member.consumer.start().unwrap();
    an_offset_beyond_the_end_is_an_error(member, &topics).await;
}

#[tokio::test]
async fn out_of_range_in_a_group() {
    let broker = Broker::any();
    let topics = two_topics_of_ten(&broker).await;
    let member = Member::join(&broker, &topics, &unique("group"));
    an_offset_beyond_the_end_is_an_error(member, &topics).await;
}

#[tokio::test]
async fn out_of_range_in_a_cooperative_group() {
    let broker = Broker::any();
    let topics = two_topics_of_ten(&broker).await;
    let options = MemberOptions {
        group: &unique("group"),
        properties: &[("partition.assignment.strategy", "cooperative-sticky")],
        ..MemberOptions::default()
    };
    let member = Member::new(&broker, &topics, options);
    member.consumer.start().unwrap();
    an_offset_beyond_the_end_is_an_error(member, &topics).await;
}
