//! Partitions that no broker leads, and what starting them later does to the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::broker::{OffsetSpec, Sought};
use crate::{Batch, BoxError, Context, Processor, TopicProcessor};

#[tokio::test]
async fn a_partition_without_a_leader_can_be_asked_for_again() {
    let broker = Broker::mock();
    let topics = [broker.topic("a", 2).await];
    number(&broker, &topics[0], 0, 0, 5).await;
    broker.cluster().partition_leader(&topics[0], 1, None).unwrap();
    let own = [partition(&topics[0], 0), partition(&topics[0], 1)];
    let member = Member::fixed(&broker, &topics, own[..1].to_vec()).await;
    let query = |index: usize| (own[index].clone(), OffsetSpec::End);
    // Asked alone, librdkafka does not say why there is no answer. Asked together with others, it
    // holds up none of them.
    for queries in [vec![query(1)], vec![query(1), query(0)]] {
        let mut answers = member.consumer.list_offsets(queries, SOON).await.into_iter();
        let error = answers.next().unwrap().unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert!(answers.all(|answer| answer.unwrap() == Offset::new(5)));
    }
    broker.cluster().partition_leader(&topics[0], 1, Some(1)).unwrap();
    patiently("the answer", async {
        while member.consumer.list_offsets(vec![query(1)], SOON).await[0].is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// Takes its time, and counts.
struct Slow(Arc<AtomicUsize>);

impl Processor for Slow {
    async fn process(&mut self, batch: &Batch, _: &mut Context) -> Result<(), BoxError> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.0.fetch_add(batch.len(), Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_partition_of_a_static_consumer_ends_no_run_too_early() {
    runs_to_the_end(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_partition_of_a_group_ends_no_run_too_early() {
    runs_to_the_end(false).await;
}

/// The leader comes back while the other partition's messages wait in its queue. Starting the late
/// one has them fetched anew: for a moment the queue is empty, and that is not the end.
async fn runs_to_the_end(is_static: bool) {
    let broker = Broker::mock();
    let topic = broker.topic("a", 2).await;
    number(&broker, &topic, 0, 0, 300).await;
    broker.cluster().partition_leader(&topic, 1, None).unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    let builder = TopicProcessor::builder("leaderless", [&*topic])
        .brokers(&broker.address)
        .max_batch_messages(1);
    let builder = if is_static { builder.partitions(0..2) } else { builder };
    let processor = builder.build(move |_| Slow(counted.clone())).await.unwrap();
    let handle = processor.handle();
    let leader_returns = async {
        while seen.load(Ordering::SeqCst) < 100 {
            assert!(!handle.has_consumed_all());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        broker.cluster().partition_leader(&topic, 1, Some(1)).unwrap();
    };
    let both = async { tokio::join!(processor.run_until_caught_up(), leader_returns) };
    let (report, ()) = patiently("the end", both).await;
    assert_eq!(report.unwrap().messages, 300);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kafka broker; run with cargo xtask test"]
async fn starting_a_partition_again_answers_no_revocation() {
    let broker = Broker::real();
    let topics = [broker.topic("a", 4).await];
    let group = unique("group");
    let protocol = [("group.protocol", "consumer"), ("group.remote.assignor", "range")];
    let join = || Member::join_with(&broker, &topics, &group, &protocol);
    let mut first = join();
    let own = loop {
        let own = first.assigned().await;
        if !own.is_empty() {
            break own;
        }
        first.consumer.assign(LATEST, &[]).unwrap();
    };
    // Out of range: librdkafka stops reading them.
    let starts: Vec<_> = own.iter().map(|p| (p.clone(), Some(Offset::new(999)))).collect();
    first.consumer.assign(LATEST, &starts).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut second = join();
    let gone = first.event("a revocation", |event| match event {
        Event::Revoked { partitions, .. } => Some(partitions),
        _ => None,
    });
    let gone = gone.await;
    let kept = own.iter().find(|partition| !gone.contains(partition)).unwrap();
    let back = vec![(kept.clone(), Offset::new(0))];
    assert_eq!(first.consumer.seek(back.clone()).await.unwrap(), Sought::AfterAnswer);
    // Nothing of what is still being worked on is given to the other.
    let given = async {
        loop {
            match second.events.recv().await {
                Some(Event::Assigned { partitions, .. }) if partitions.is_empty() => {
                    second.consumer.assign(LATEST, &[]).unwrap();
                }
                Some(Event::Assigned { partitions, .. }) => break partitions,
                Some(_) => {}
                None => panic!("no more events"),
            }
        }
    };
    let mut given = std::pin::pin!(given);
    let early = timeout(Duration::from_secs(7), &mut given).await;
    assert!(early.is_err(), "{early:?} before the answer");
    first.consumer.unassign(LATEST, &gone).unwrap();
    let goes_back = async {
        while first.consumer.seek(back.clone()).await.unwrap() == Sought::AfterAnswer {
            // The group has something more to say.
            assert!(first.assigned().await.is_empty());
            first.consumer.assign(LATEST, &[]).unwrap();
        }
    };
    patiently("going back", goes_back).await;
    let mut given = patiently("what was given back", given).await;
    let mut gone = gone;
    given.sort();
    gone.sort();
    assert_eq!(given, gone);
}

/// Ten of them have no leader for three seconds, for which the others do not wait. How often is asked and
/// sought is counted in `coordinator/tests/starting.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_partitions_start_with_ten_that_are_late() {
    let broker = Broker::mock();
    let topic = broker.topic("a", 1000).await;
    let each = (0..1000).map(|n| OutgoingMessage::new(&*topic).partition(n).value("x"));
    produce(&broker, each).await;
    let late: Vec<i32> = (0..10).map(|n| n * 100).collect();
    let lead = |leader| {
        late.iter().for_each(|n| broker.cluster().partition_leader(&topic, *n, leader).unwrap());
    };
    lead(None);
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    let builder = TopicProcessor::builder("thousand", [&*topic]).brokers(&broker.address);
    let builder = builder.partitions(0..1000);
    let processor = builder.build(move |_| Slow(counted.clone())).await.unwrap();
    let leaders_return = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(seen.load(Ordering::SeqCst) > 0, "the others did not wait");
        lead(Some(1));
    };
    let both = async { tokio::join!(processor.run_until_caught_up(), leaders_return) };
    let (report, ()) = patiently("the end", both).await;
    assert_eq!(report.unwrap().messages, 1000);
}
