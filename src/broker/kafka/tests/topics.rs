//! How the cluster has the input topics, and what comes of rights that are taken away.

use std::time::Instant;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::broker::TopicState;
use crate::{Batch, BoxError, Context, ErrorKind, Processor, TopicProcessor};

fn consumer(broker: &Broker, topics: &[Arc<str>]) -> Member {
    Member::new(broker, topics, MemberOptions { group: "topics", ..MemberOptions::default() })
}

fn exists(state: &TopicState) -> (String, i32) {
    match state {
        TopicState::Exists { id: Some(id), partitions } => (id.clone(), *partitions),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn topics_have_ids_and_partition_counts() {
    let broker = Broker::any();
    let topics = [broker.topic("a", 1).await, broker.topic("b", 3).await];
    let member = consumer(&broker, &topics);
    let states = member.consumer.topics().await.unwrap();
    let [a, b] = [exists(&states[0]), exists(&states[1])];
    assert_eq!((a.1, b.1), (1, 3));
    assert_ne!(a.0, b.0);
    assert_eq!(member.consumer.topics().await.unwrap(), states, "ids stay");
}

#[tokio::test]
#[ignore = "the mock cluster makes every topic: set KASPER_TEST_KAFKA to a broker's address"]
async fn a_topic_that_does_not_exist_is_missing() {
    let broker = Broker::real();
    let topics = [unique("none"), broker.topic("a", 2).await];
    let states = consumer(&broker, &topics).consumer.topics().await.unwrap();
    assert_eq!(states[0], TopicState::Missing);
    assert_eq!(exists(&states[1]).1, 2);
}

/// Nobody waits for the answer, but the runtime's end does.
#[tokio::test]
async fn without_a_broker_there_is_an_error_soon() {
    let broker = Broker { mock: None, address: "127.0.0.1:1".into() };
    let asked = Instant::now();
    let error = consumer(&broker, &["a".into()]).consumer.topics().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_topic_that_may_not_be_described_is_not_taken_for_missing() {
    let broker = Broker::mock();
    let topics = [broker.topic("a", 1).await];
    let member = consumer(&broker, &topics);
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    broker.cluster().topic_error(&topics[0], denied).unwrap();
    assert_eq!(member.consumer.topics().await.unwrap(), [TopicState::Unknown]);
}

struct Idle;

impl Processor for Idle {
    async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_taken_away_stop_the_processor() {
    let broker = Broker::mock();
    let topic = broker.topic("a", 1).await;
    let builder = TopicProcessor::builder("rights", [&*topic]).brokers(&broker.address);
    let processor = builder.partitions([0]).build(|_| Idle).await.unwrap();
    let handle = processor.handle();
    let running = tokio::spawn(processor.run());
    patiently("the start", async {
        while !handle.has_consumed_all() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    broker.cluster().request_errors(RDKafkaApiKey::Fetch, &[denied; 100]);
    let error = patiently("the error", running).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert_eq!(error.get("topic"), Some(&*topic));
}
