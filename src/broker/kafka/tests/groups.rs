//! Assignments, revocations, commits.

use super::*;
use crate::broker::{CommitError, Sought};
use std::collections::BTreeSet;
use std::time::Instant;

/// That it leaves its group is shown on a real broker: [`a_member_leaves_its_group`].
#[tokio::test]
async fn a_member_reads_commits_and_hands_over() {
    let broker = Broker::any();
    let topics = [broker.topic("a", 2).await, broker.topic("b", 2).await];
    number(&broker, &topics[0], 1, 0, 10).await;
    number(&broker, &topics[1], 1, 0, 10).await;
    let group = unique("group");
    let mut member = Member::join(&broker, &topics, &group);
    let own = member.assign_from_zero().await;
    assert_eq!(own.len(), 4);
    let mut reader = member.reader(&topics, 1);
    reader.read(20).await;
    let commit = vec![(partition(&topics[0], 1), Offset::new(10))];
    member.consumer.commit(commit).await.unwrap();
    let settled = member
        .event("settled", |event| match event {
            Event::Settled { assigned } if assigned > 0 => Some(assigned),
            _ => None,
        })
        .await;
    assert_eq!(settled, 4);
    let left = Instant::now();
    patiently("the close", member.consumer.close()).await;
    assert!(left.elapsed() < Duration::from_secs(2), "{:?}", left.elapsed());
    let mut next = Member::join(&broker, &topics, &group);
    let own = next.assigned().await;
    assert_eq!(own.len(), 4);
    let committed = next.consumer.committed(vec![partition(&topics[0], 1)]).await.unwrap();
    assert_eq!(committed, [Some(Offset::new(10))]);
}

/// A member that does not leave its group is missed after this time.
const LONG_SESSION: (&str, &str) = ("session.timeout.ms", "30000");

/// Far less than that, and more than a rebalance takes on a busy machine.
const HAS_LEFT: Duration = Duration::from_secs(20);

/// Also where it is dropped without a close, as in a crash of the task.
#[tokio::test]
#[ignore = "the mock cluster waits for members that have left: set KASPER_TEST_KAFKA to a broker's address"]
async fn a_member_leaves_its_group() {
    let broker = Broker::real();
    let topics = [broker.topic("a", 2).await];
    for closes in [true, false] {
        let group = unique("group");
        let mut member = Member::join_with(&broker, &topics, &group, &[LONG_SESSION]);
        member.assign_from_zero().await;
        if closes {
            patiently("the close", member.consumer.close()).await;
        }
        let left = Instant::now();
        drop(member);
        assert!(left.elapsed() < Duration::from_millis(100));
        let mut next = Member::join(&broker, &topics, &group);
        assert_eq!(next.assigned().await.len(), 2);
        assert!(left.elapsed() < HAS_LEFT, "{:?}", left.elapsed());
    }
}

/// Answers rebalances until every member has as many partitions as expected, and is told that this
/// is all. (A cooperative member whose partitions went is also assigned "nothing more", and reads
/// nothing until it has answered that.)
async fn balance(members: &mut [(Member, BTreeSet<TopicPartition>)], expected: &[usize]) {
    let (started, mut settled) = (Instant::now(), BTreeSet::new());
    while settled.len() < members.len() {
        let own = || members.iter().map(|(_, own)| own).collect::<Vec<_>>();
        assert!(started.elapsed() < PATIENCE, "{:?}", own());
        for (index, (member, own)) in members.iter_mut().enumerate() {
            let wait = timeout(Duration::from_millis(20), member.events.recv());
            match wait.await.map(|event| event.expect("the events have ended")) {
                Ok(Event::Settled { assigned }) => {
                    if assigned == expected[index] && own.len() == assigned {
                        settled.insert(index);
                    }
                }
                Ok(event) => {
                    if matches!(event, Event::Assigned { .. } | Event::Revoked { .. }) {
                        settled.clear();
                    }
                    answer(member, own, event).await;
                }
                Err(_) => {}
            }
        }
    }
}

/// Answers a rebalance; a revocation late, to see that the group waits.
async fn answer(member: &mut Member, own: &mut BTreeSet<TopicPartition>, event: Event) {
    match event {
        Event::Assigned { partitions: new, .. } => {
            let starts: Vec<_> = new.iter().map(|p| (p.clone(), Some(Offset::new(0)))).collect();
            member.consumer.assign(LATEST, &starts).unwrap();
            own.extend(new);
        }
        Event::Revoked { partitions, lost, .. } => {
            assert!(!lost);
            tokio::time::sleep(Duration::from_millis(700)).await;
            let number = partitions.first().unwrap().number;
            // The mock cluster takes no commits during a rebalance; a real broker does.
            let commit = vec![(partitions[0].clone(), Offset::new(1))];
            if let Err(CommitError { error, .. }) = member.consumer.commit(commit).await {
                assert_eq!(error.get("code"), Some("REBALANCE_IN_PROGRESS"), "{error}");
                assert!(live().is_none(), "{error}");
            }
            member.consumer.unassign(LATEST, &partitions).unwrap();
            partitions.iter().for_each(|partition| assert!(own.remove(partition)));
            let still = own.iter().any(|partition| partition.number == number);
            assert_eq!(member.consumer.queue(number).is_ok(), still);
        }
        Event::Fatal(error) => panic!("{error}"),
        _ => {}
    }
}

async fn a_second_member_takes_its_share(broker: &Broker, more: &[(&str, &str)]) {
    let topics = [broker.topic("a", 2).await, broker.topic("b", 2).await];
    let group = unique("group");
    let join = || {
        let member = Member::join_with(broker, &topics, &group, more);
        (member, BTreeSet::new())
    };
    let mut members = vec![join()];
    balance(&mut members, &[4]).await;
    for topic in &topics {
        number(broker, topic, 0, 0, 20).await;
        number(broker, topic, 1, 0, 20).await;
    }
    let mut old: Vec<_> = (0..2).map(|number| members[0].0.reader(&topics, number)).collect();
    for reader in &mut old {
        reader.read(40).await;
    }
    members.push(join());
    balance(&mut members, &[2, 2]).await;
    for (member, own) in &members {
        let numbers: BTreeSet<_> = own.iter().map(|partition| partition.number).collect();
        for number in numbers {
            let read: Vec<_> = own.iter().filter(|p| p.number == number).collect();
            for partition in &read {
                super::number(broker, &partition.topic, number, 20, 5).await;
            }
            let mut reader = member.reader(&topics, number);
            let mut seen = BTreeSet::new();
            patiently("all messages", async {
                // Whoever got the partition anew reads it from the beginning.
                while read.iter().any(|p| !seen.contains(&(p.topic.clone(), 24))) {
                    for record in reader.some().await.unwrap() {
                        let message = reader.own(&record);
                        assert!(own.contains(&partition(&message.topic, number)));
                        seen.insert((message.topic, message.offset.get()));
                    }
                }
            })
            .await;
        }
    }
    // The first one leaves, the second gets everything.
    let (first, _) = members.remove(0);
    patiently("the close", first.consumer.close()).await;
    balance(&mut members, &[4]).await;
    assert!(old.iter_mut().all(|old| old.queue.take(100, &mut Vec::new()).messages == 0));
}

#[tokio::test]
async fn range() {
    a_second_member_takes_its_share(&Broker::any(), &[]).await;
}

#[tokio::test]
async fn cooperative_sticky() {
    let strategy = [("partition.assignment.strategy", "cooperative-sticky")];
    a_second_member_takes_its_share(&Broker::any(), &strategy).await;
}

#[tokio::test]
#[ignore = "the mock cluster has no KIP-848 groups: set KASPER_TEST_KAFKA to a broker's address"]
async fn consumer_protocol() {
    let protocol = [("group.protocol", "consumer"), ("group.remote.assignor", "range")];
    a_second_member_takes_its_share(&Broker::real(), &protocol).await;
}

/// A member without partitions is told that the group has settled.
#[tokio::test]
async fn a_member_too_many_settles_with_nothing() {
    let broker = Broker::any();
    let topics = [broker.topic("a", 1).await];
    let group = unique("group");
    let join = || (Member::join(&broker, &topics, &group), BTreeSet::new());
    let mut members = vec![join()];
    balance(&mut members, &[1]).await;
    members.push(join());
    let started = Instant::now();
    // One of them, nobody knows which.
    let settled = 'settled: loop {
        assert!(started.elapsed() < PATIENCE);
        for (index, (member, own)) in members.iter_mut().enumerate() {
            let wait = timeout(Duration::from_millis(20), member.events.recv());
            match wait.await.ok().flatten() {
                Some(Event::Settled { assigned: 0 }) if own.is_empty() => break 'settled index,
                Some(event) => answer(member, own, event).await,
                None => {}
            }
        }
    };
    assert!(members[settled].1.is_empty());
}

/// Hands over all events until a member that has just come hears what it gets.
async fn until_told(
    members: &mut [(Member, BTreeSet<TopicPartition>)],
    newcomer: usize,
) -> Duration {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < PATIENCE);
        for (index, (member, own)) in members.iter_mut().enumerate() {
            let wait = timeout(Duration::from_millis(20), member.events.recv());
            let Some(event) = wait.await.ok().flatten() else { continue };
            let is_told = matches!(event, Event::Assigned { .. });
            answer(member, own, event).await;
            if is_told && index == newcomer {
                return started.elapsed();
            }
        }
    }
}

/// One that had no partition, too: else the next rebalance, and with it each commit, waits for it until its session ends.
///
/// The mock cluster ends a rebalance only after a time that the session sets, and refuses a follower's SyncGroup that
/// comes after the leader's: then that rebalance is made twice.
#[tokio::test]
#[ignore = "the mock cluster takes its time for rebalances: set KASPER_TEST_KAFKA to a broker's address"]
async fn a_cooperative_member_without_partitions_leaves_its_group() {
    let broker = Broker::real();
    let topics = [broker.topic("a", 1).await];
    let group = unique("group");
    let properties = [("partition.assignment.strategy", "cooperative-sticky"), LONG_SESSION];
    let join = || {
        let member = Member::join_with(&broker, &topics, &group, &properties);
        (member, BTreeSet::new())
    };
    let mut members = vec![join()];
    balance(&mut members, &[1]).await;
    members.push(join());
    until_told(&mut members, 1).await;
    let (idle, own) = members.pop().unwrap();
    assert!(own.is_empty());
    patiently("the close", idle.consumer.close()).await;
    members.push(join());
    let told = until_told(&mut members, 1).await;
    assert!(told < HAS_LEFT, "{told:?}");
}

/// The group's coordinator is away, so that the client puts a commit off. It takes no further step in
/// the group before the commit is done with, and so the commit never goes out with a later generation
/// than it was made in. Without the commit it leaves at once.
#[tokio::test]
async fn a_commit_that_is_put_off_comes_before_the_goodbye() {
    let mock = MockCluster::new(2).unwrap();
    let broker = Broker { address: mock.bootstrap_servers(), mock: Some(mock) };
    let topics = [broker.topic("a", 1).await];
    broker.cluster().partition_leader(&topics[0], 0, Some(1)).unwrap();
    for commits in [false, true] {
        let group = unique("group");
        broker.cluster().coordinator(MockCoordinator::Group(group.to_string()), 2).unwrap();
        let mut member = Member::join(&broker, &topics, &group);
        let own = member.assign_from_zero().await;
        broker.cluster().broker_down(2).unwrap();
        if commits {
            drop(member.consumer.commit(vec![(own[0].clone(), Offset::new(1))]));
        }
        let mut closed = member.consumer.close();
        let left = timeout(Duration::from_secs(1), &mut closed).await;
        assert_eq!(left.is_err(), commits, "it waits for its commit, and for nothing else");
        broker.cluster().broker_up(2).unwrap();
        if commits {
            patiently("the close", closed).await;
            let next = Member::join(&broker, &topics, &group);
            let committed = next.consumer.committed(vec![own[0].clone()]).await.unwrap();
            assert_eq!(committed, [Some(Offset::new(1))]);
        }
    }
}

/// A member finishes a batch so late that the group has gone on without it: the new owner has committed
/// more. The late commit is refused, and rewinds nothing.
///
/// It is made before the revocation is answered, as the topic processor does. Made behind the answer, it
/// would go out as the new generation's, and the group would take it.
#[tokio::test]
#[ignore = "the mock cluster waits for each member: set KASPER_TEST_KAFKA to a broker's address"]
async fn a_commit_that_meets_a_later_generation_is_refused() {
    let broker = Broker::real();
    let topics = [broker.topic("a", 2).await];
    let (group, first_of) = (unique("group"), partition(&topics[0], 0));
    // As long as the group waits for a member that was told to give its partitions up.
    let properties = [("max.poll.interval.ms", "6000")];
    let join = || Member::join_with(&broker, &topics, &group, &properties);
    let mut late = join();
    assert_eq!(late.assign_from_zero().await.len(), 2);
    let mut next = join();
    let (revoked, lost) = late.revoked().await;
    assert_eq!((revoked.len(), lost), (2, false));
    // No answer: the group goes on without it.
    let own = next.assign_from_zero().await;
    assert_eq!(own.len(), 2, "both partitions have a new owner");
    next.consumer.commit(vec![(first_of.clone(), Offset::new(10))]).await.unwrap();
    let commit = late.consumer.commit(vec![(first_of.clone(), Offset::new(5))]);
    let error = patiently("the late commit", commit).await.unwrap_err();
    assert!(error.is_rebalance(), "{error:?}");
    let code = error.error.get("code").unwrap();
    assert!(["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID"].contains(&code), "{error:?}");
    let observer = Arc::clone(&next.consumer);
    let committed = || observer.committed(vec![first_of.clone()]);
    assert_eq!(committed().await.unwrap(), [Some(Offset::new(10))]);
    // It answers at last and joins again. No commit of before is made up for then.
    late.consumer.unassign(LATEST, &revoked).unwrap();
    next.revoked().await;
    next.consumer.unassign(LATEST, &own).unwrap();
    late.assigned().await;
    assert_eq!(committed().await.unwrap(), [Some(Offset::new(10))]);
}

/// The commit at a revocation, while the group waits for it: it is taken with the generation in which the
/// partitions were the member's, and the next owner begins there.
#[tokio::test]
#[ignore = "the mock cluster takes no commits during a rebalance: set KASPER_TEST_KAFKA to a broker's address"]
async fn a_commit_before_the_answer_is_where_the_next_owner_begins() {
    let broker = Broker::real();
    let topics = [broker.topic("a", 1).await];
    let group = unique("group");
    let mut first = Member::join(&broker, &topics, &group);
    let own = first.assign_from_zero().await;
    let mut second = Member::join(&broker, &topics, &group);
    let (revoked, lost) = first.revoked().await;
    assert!(!lost);
    // The commit is on its way when the revocation is answered.
    let commit = first.consumer.commit(vec![(own[0].clone(), Offset::new(7))]);
    first.consumer.unassign(LATEST, &revoked).unwrap();
    patiently("the commit", commit).await.unwrap();
    let mut assigned = Vec::new();
    while assigned.is_empty() {
        for member in [&mut first, &mut second] {
            let event = timeout(Duration::from_millis(20), member.events.recv()).await;
            if let Ok(Some(Event::Assigned { partitions, .. })) = event {
                assigned.extend(partitions);
            }
        }
    }
    assert_eq!(second.consumer.committed(assigned).await.unwrap(), [Some(Offset::new(7))]);
}

/// The session ends while the member does not answer the broker: the assignment is lost.
#[tokio::test]
async fn a_lost_assignment_is_reported_as_lost() {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    let broker = Broker::mock();
    let topics = [broker.topic("a", 2).await];
    let mut member = Member::join(&broker, &topics, &unique("group"));
    let own = member.assign_from_zero().await;
    let unknown = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID];
    broker.cluster().request_errors(RDKafkaApiKey::Heartbeat, &unknown);
    let (partitions, lost) = member.revoked().await;
    assert!(lost && member.consumer.assignment_lost());
    assert_eq!(partitions.len(), own.len());
    member.consumer.unassign(LATEST, &partitions).unwrap();
    assert!(!member.consumer.assignment_lost());
    number(&broker, &topics[0], 0, 0, 3).await;
    member.assign_from_zero().await;
    member.reader(&topics, 0).read(3).await;
}

/// The thread has not heard of the rebalance yet: to stop and start partitions then would be taken for the answer.
#[tokio::test]
async fn a_seek_waits_for_a_rebalance_that_is_on_its_way_to_us() {
    let broker = Broker::mock();
    let topics = [broker.topic("a", 4).await];
    let group = unique("group");
    let properties =
        [("partition.assignment.strategy", "cooperative-sticky"), ("statistics.interval.ms", "0")];
    let join = || Member::join_with(&broker, &topics, &group, &properties);
    let mut first = join();
    let own = first.assigned().await;
    // Out of range: librdkafka stops reading them.
    let starts: Vec<_> = own.iter().map(|p| (p.clone(), Some(Offset::new(999)))).collect();
    first.consumer.assign(LATEST, &starts).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let held = first.consumer.hold_thread();
    let _second = join();
    patiently("the rebalance", async {
        // The thread has it in hand when it no longer turns.
        let mut turns = 0;
        while std::mem::replace(&mut turns, first.consumer.turns()) < turns {
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    })
    .await;
    let sought = tokio::spawn(first.consumer.seek(vec![(own[0].clone(), Offset::new(0))]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(held);
    assert_eq!(sought.await.unwrap().unwrap(), Sought::AfterAnswer);
    let (gone, lost) = first.revoked().await;
    assert!(!gone.is_empty() && !lost);
}
