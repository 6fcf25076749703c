//! librdkafka goes on without an answer: a classic member that learns of a new topic joins its group again, whatever it
//! has asked.

use std::sync::Arc;

use super::*;
use crate::broker::{Answer, RebalanceId};

const REFRESH: &[(&str, &str)] = &[("topic.metadata.refresh.interval.ms", "300")];

/// A member of a group that subscribes to `a`, and to `b`, which does not exist yet.
fn member(broker: &Broker, topics: &[Arc<str>], group: &str) -> Member {
    Member::join_with(broker, topics, group, REFRESH)
}

async fn next_assigned(member: &mut Member) -> (RebalanceId, Vec<TopicPartition>, bool) {
    member
        .event("an assignment", |event| match event {
            Event::Assigned { id, partitions, replaces } => Some((id, partitions, replaces)),
            Event::Revoked { .. } => panic!("revoked: {event:?}"),
            _ => None,
        })
        .await
}

fn at_zero(partitions: &[TopicPartition]) -> Vec<(TopicPartition, Option<Offset>)> {
    partitions.iter().map(|p| (p.clone(), Some(Offset::new(0)))).collect()
}

#[tokio::test]
async fn an_assignment_may_follow_one_that_was_not_answered() {
    let broker = Broker::mock();
    let topics = [broker.topic("a", 2).await, unique("b")];
    let group = unique("group");
    let mut member = member(&broker, &topics, &group);
    let (first, partitions, replaces) = next_assigned(&mut member).await;
    assert!(replaces);
    assert_eq!(partitions.len(), 2, "of the first topic");
    broker.cluster().create_topic(&topics[1], 2, 1).unwrap();
    number(&broker, &topics[0], 0, 0, 5).await;
    number(&broker, &topics[1], 0, 0, 5).await;
    let (second, all, replaces) = next_assigned(&mut member).await;
    assert!(replaces && second > first);
    assert_eq!(all.len(), 4);
    let commit = member.consumer.commit(vec![(partition(&topics[0], 0), Offset::new(1))]);
    assert!(
        commit.await.unwrap_err().error.is_retryable(),
        "it would go out with the new generation"
    );
    let answer = member.consumer.assign(first, &at_zero(&partitions)).unwrap();
    assert_eq!(answer, Answer::Superseded);
    let answer = member.consumer.assign(second, &at_zero(&all)).unwrap();
    assert_eq!(answer, Answer::Taken);
    let mut reader = member.reader(&topics, 0);
    assert_eq!(reader.read(10).await.len(), 10, "of both topics");
    let commit = member.consumer.commit(vec![(partition(&topics[0], 0), Offset::new(5))]);
    commit.await.unwrap();
}

/// The first assignment was answered, and the second takes its place without a revocation: all that is read is read
/// again from where it is assigned.
#[tokio::test]
async fn an_assignment_replaces_the_one_before() {
    let broker = Broker::mock();
    let topics = [broker.topic("a", 2).await, unique("b")];
    let group = unique("group");
    let mut member = member(&broker, &topics, &group);
    number(&broker, &topics[0], 0, 0, 5).await;
    let (first, partitions, _) = next_assigned(&mut member).await;
    broker.cluster().create_topic(&topics[1], 2, 1).unwrap();
    number(&broker, &topics[1], 0, 0, 5).await;
    let (second, all, _) = next_assigned(&mut member).await;
    assert!(second > first && all.len() > partitions.len());
    member.consumer.assign(second, &at_zero(&all)).unwrap();
    let mut reader = member.reader(&topics, 0);
    assert_eq!(reader.read(10).await.len(), 10);
    drop(reader);
    // As librdkafka has it where its state changes between the look and the call.
    member.consumer.assign(second, &at_zero(&all)).unwrap();
    let mut reader = member.reader(&topics, 0);
    assert_eq!(reader.read(10).await.len(), 10, "once more, and no forwarding is lost");
}

#[tokio::test]
async fn a_revocation_that_is_not_answered_in_time_is_superseded() {
    let broker = Broker::mock();
    let topics = [broker.topic("a", 2).await, unique("b")];
    let group = unique("group");
    let mut first = member(&broker, &topics, &group);
    let (id, partitions, _) = next_assigned(&mut first).await;
    first.consumer.assign(id, &at_zero(&partitions)).unwrap();
    let mut second = member(&broker, &topics, &group);
    let (revocation, revoked) = first
        .event("a revocation", |event| match event {
            Event::Revoked { id, partitions, .. } => Some((id, partitions)),
            _ => None,
        })
        .await;
    broker.cluster().create_topic(&topics[1], 2, 1).unwrap();
    let (assignment, all, replaces) = next_assigned(&mut first).await;
    assert!(replaces && assignment > revocation);
    let moved = takes_one_of(&mut second, &revoked).await;
    let commit = first.consumer.commit(vec![(moved, Offset::new(1))]);
    assert!(commit.await.is_err(), "another member has it");
    first.consumer.unassign(revocation, &revoked).unwrap();
    let answer = first.consumer.assign(assignment, &at_zero(&all)).unwrap();
    assert_eq!(answer, Answer::Taken);
}

/// Answers what the member is asked until it has one of these partitions.
async fn takes_one_of(member: &mut Member, partitions: &[TopicPartition]) -> TopicPartition {
    loop {
        let event = member.event("a rebalance", Some).await;
        match event {
            Event::Assigned { id, partitions: own, .. } => {
                let answer = member.consumer.assign(id, &at_zero(&own)).unwrap();
                let taken = own.into_iter().find(|partition| partitions.contains(partition));
                if let Some(taken) = taken.filter(|_| answer == Answer::Taken) {
                    return taken;
                }
            }
            Event::Revoked { id, partitions, .. } => {
                member.consumer.unassign(id, &partitions).unwrap();
            }
            _ => {}
        }
    }
}
