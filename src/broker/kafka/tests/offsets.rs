//! Committed, earliest, end, by time, out of range.

use std::time::Instant;

use super::super::metadata::{MetadataClient, TopicMetadata};
use super::*;
use crate::broker::{CommitError, CommitRefusal, FetchPosition, OffsetSpec};
use crate::error::ErrorKind;

#[tokio::test]
async fn offsets_of_the_log_come_in_the_order_asked_for() {
    let broker = Broker::any();
    let topics = [broker.topic("log", 3).await];
    let topic = &*topics[0];
    let at = |p, time: i64| OutgoingMessage::new(topic).partition(p).value("x").timestamp(time);
    produce(&broker, (0..5).map(|n| at(1, 1000 + 10 * n)).chain([at(2, 5000)])).await;
    let own = partition(&topics[0], 0);
    let member = Member::fixed(&broker, &topics, vec![own]).await;
    let ask = |p, spec| (partition(&topics[0], p), spec);
    let mut queries = vec![
        ask(2, OffsetSpec::End),
        ask(1, OffsetSpec::Earliest),
        ask(1, OffsetSpec::End),
        ask(0, OffsetSpec::End),
    ];
    let mut expected = vec![1, 0, 5, 0];
    // The mock cluster does not know its messages' times: it answers -1, "none".
    if broker.mock.is_none() {
        queries.push(ask(1, OffsetSpec::Timestamp(1011)));
        queries.push(ask(1, OffsetSpec::Timestamp(1020)));
        expected.extend([2, 2]);
    }
    queries.push(ask(1, OffsetSpec::Timestamp(i64::MAX)));
    queries.push(ask(0, OffsetSpec::Timestamp(1)));
    expected.extend([5, 0]);
    let offsets = member.consumer.list_offsets(queries, SOON).await.into_iter();
    assert_eq!(offsets.map(|offset| offset.unwrap().get()).collect::<Vec<_>>(), expected);
    assert!(member.consumer.list_offsets(Vec::new(), SOON).await.is_empty());
}

/// A partition without a leader is assigned, and nothing of it is handed out before it is sought.
#[tokio::test]
async fn a_partition_that_is_assigned_without_a_start() {
    let broker = Broker::mock();
    for strategy in ["range", "cooperative-sticky"] {
        let topics = [broker.topic("a", 2).await];
        number(&broker, &topics[0], 0, 0, 5).await;
        number(&broker, &topics[0], 1, 0, 5).await;
        broker.cluster().partition_leader(&topics[0], 1, None).unwrap();
        let group = unique("group");
        let properties = [("partition.assignment.strategy", strategy)];
        let mut member = Member::join_with(&broker, &topics, &group, &properties);
        let own = member.assigned().await;
        let ask = |own: &[TopicPartition]| {
            let queries = own.iter().map(|partition| (partition.clone(), OffsetSpec::Earliest));
            member.consumer.list_offsets(queries.collect(), SOON)
        };
        let answers = patiently("answers", ask(&own)).await;
        assert_eq!(*answers[0].as_ref().unwrap(), Offset::new(0));
        let error = answers[1].as_ref().unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        let starts = [(own[0].clone(), Some(Offset::new(0))), (own[1].clone(), None)];
        member.consumer.assign(LATEST, &starts).unwrap();
        let (mut zero, mut one) = (member.reader(&topics, 0), member.reader(&topics, 1));
        zero.read(5).await;
        broker.cluster().partition_leader(&topics[0], 1, Some(1)).unwrap();
        number(&broker, &topics[0], 1, 5, 5).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(one.queue.take(100, &mut Vec::new()).messages, 0);
        member.consumer.seek(vec![(own[1].clone(), Offset::new(3))]).await.unwrap();
        let values = values(&one.read(7).await);
        assert_eq!(values.first().map(String::as_str), Some("3"));
        // The other partition goes on as if nothing had been.
        number(&broker, &topics[0], 0, 5, 2).await;
        assert_eq!(super::values(&zero.read(2).await), ["5", "6"]);
        member.consumer.close().await;
    }
}

#[tokio::test]
async fn a_static_consumer_commits_to_its_group() {
    let broker = Broker::any();
    let topics = [broker.topic("a", 2).await, broker.topic("b", 2).await];
    let own: Vec<_> = topics.iter().flat_map(|t| [partition(t, 0), partition(t, 1)]).collect();
    let member = Member::fixed(&broker, &topics, own.clone()).await;
    let nothing = member.consumer.committed(own.clone()).await.unwrap();
    assert_eq!(nothing, [None; 4]);
    let offset = |n| Offset::new(n);
    let commit = vec![(own[2].clone(), offset(7)), (own[1].clone(), offset(0))];
    member.consumer.commit(commit).await.unwrap();
    let committed = member.consumer.committed(own).await.unwrap();
    assert_eq!(committed, [None, Some(offset(0)), Some(offset(7)), None]);
    member.consumer.commit(Vec::new()).await.unwrap();
    member.consumer.close().await;
    let error = member.consumer.commit(vec![(partition(&topics[0], 0), offset(1))]).await;
    assert_eq!(error.unwrap_err().error.kind(), ErrorKind::Commit);
}

#[tokio::test]
async fn a_commit_is_under_way_when_the_call_returns() {
    let broker = Broker::any();
    let topics = [broker.topic("a", 1).await];
    let own = partition(&topics[0], 0);
    let member = Member::fixed(&broker, &topics, vec![own.clone()]).await;
    drop(member.consumer.commit(vec![(own.clone(), Offset::new(3))]));
    patiently("the commit", async {
        while member.consumer.committed(vec![own.clone()]).await.unwrap() != [Some(Offset::new(3))]
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_commit_says_why() {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    let broker = Broker::mock();
    let topics = [broker.topic("a", 1).await];
    let member = Member::fixed(&broker, &topics, vec![partition(&topics[0], 0)]).await;
    for (error, name) in [
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, "ILLEGAL_GENERATION"),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, "UNKNOWN_MEMBER_ID"),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, "REBALANCE_IN_PROGRESS"),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH, "STALE_MEMBER_EPOCH"),
    ] {
        broker.cluster().request_errors(RDKafkaApiKey::OffsetCommit, &[error]);
        let commit = vec![(partition(&topics[0], 0), Offset::new(1))];
        let CommitError { refusal, error } = member.consumer.commit(commit).await.unwrap_err();
        let expected = match name {
            "UNKNOWN_MEMBER_ID" => CommitRefusal::UnknownMember,
            _ => CommitRefusal::Rebalancing,
        };
        assert_eq!(refusal, expected, "{name}");
        assert_eq!(error.kind(), ErrorKind::Commit);
        assert_eq!(error.get("code"), Some(name));
        assert_eq!(error.get("topic"), Some(&*topics[0]));
        let is_retryable = ["REBALANCE_IN_PROGRESS", "STALE_MEMBER_EPOCH"].contains(&name);
        assert_eq!(error.is_retryable(), is_retryable, "{name}");
    }
}

/// Positions must never be older than the assignment or the seek that they are seen after.
#[tokio::test]
async fn positions_reach_the_end_and_go_back_with_a_seek() {
    let broker = Broker::any();
    let topics = [broker.topic("a", 1).await, broker.topic("empty", 1).await];
    number(&broker, &topics[0], 0, 0, 50).await;
    let own = vec![partition(&topics[0], 0), partition(&topics[1], 0)];
    let mut member = Member::fixed(&broker, &topics, own.clone()).await;
    let mut reader = member.reader(&topics, 0);
    reader.read(50).await;
    let at_end = |positions: Vec<FetchPosition>| {
        let at = |topic: &Arc<str>, end: i64| {
            positions.iter().any(|position| {
                position.partition.topic == *topic
                    && position.end == Some(Offset::new(end))
                    && position.fetched == position.end
            })
        };
        (at(&topics[0], 50) && at(&topics[1], 0)).then_some(())
    };
    member
        .event("positions at the end", |event| match event {
            Event::Positions { positions, .. } => at_end(positions),
            _ => None,
        })
        .await;
    let ended = |event: Event| match event {
        Event::Positions { positions, .. } => positions
            .iter()
            .any(|p| p.partition.topic == topics[0] && p.fetched == p.end)
            .then_some(()),
        _ => None,
    };
    for _ in 0..10 {
        member.consumer.seek(vec![(own[0].clone(), Offset::new(10))]).await.unwrap();
        while member.events.try_recv().is_ok() {}
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(250) {
            let Ok(Some(event)) = timeout(Duration::from_millis(50), member.events.recv()).await
            else {
                continue;
            };
            if ended(event).is_some() {
                let left = reader.queue.length()();
                assert!(left >= 40, "at the end, with messages still to come");
            }
        }
        reader.read(40).await;
        member.event("a position at the end", ended).await;
    }
    let settled = member
        .event("settled", |event| match event {
            Event::Settled { assigned } => Some(assigned),
            _ => None,
        })
        .await;
    assert_eq!(settled, 2);
}

#[tokio::test]
async fn metadata_counts_partitions() {
    let broker = Broker::any();
    let topics = [broker.topic("three", 3).await, broker.topic("one", 1).await];
    let properties = properties(&broker, &[("group.id", "g")]);
    let client = MetadataClient::new(&properties, None).unwrap();
    let found = client.topics(&topics, PATIENCE).await.unwrap();
    let expected =
        |topic: &Arc<str>, partitions| TopicMetadata { topic: topic.to_string(), partitions };
    assert_eq!(found, [expected(&topics[0], 3), expected(&topics[1], 1)]);
    if broker.mock.is_none() {
        let missing = client.topics(&[unique("missing")], PATIENCE).await.unwrap();
        assert_eq!(missing[0].partitions, 0);
    }
}

#[tokio::test]
async fn an_unreachable_broker_is_named() {
    let properties = [
        ("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned()),
        ("group.id".to_owned(), "g".to_owned()),
    ];
    let client = MetadataClient::new(&properties, None).unwrap();
    let error = client.topics(&["a"], Duration::from_millis(700)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.get("bootstrap.servers"), Some("127.0.0.1:1"));
    assert!(error.is_retryable());
    assert!(error.to_string().contains("refused"), "{error}");
}
