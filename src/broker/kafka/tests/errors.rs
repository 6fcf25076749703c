//! What processors do when brokers answer with errors: each code, for each request.

use futures_util::future::join_all;
use rdkafka::types::{RDKafkaApiKey as Request, RDKafkaRespErr as Code};

use super::*;
use crate::error::{Error, ErrorKind};
use crate::status::Report;
use crate::{Batch, BoxError, Builder, Context, Processor, TopicProcessor};

struct Ignores;

impl Processor for Ignores {
    async fn process(&mut self, _: &Batch, _: &mut Context) -> Result<(), BoxError> {
        Ok(())
    }
}

/// What ends while brokers come back, and leaders and coordinators are elected.
const TRANSIENT: [Code; 14] = [
    Code::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
    Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
    Code::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
    Code::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
    Code::RD_KAFKA_RESP_ERR_UNKNOWN,
    Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
    Code::RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE,
    Code::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
    Code::RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION,
    Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    // What librdkafka answers itself when a broker goes away.
    Code::RD_KAFKA_RESP_ERR__DESTROY_BROKER,
    // Out of date where a broker has just become the leader.
    Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
];

/// The same of a group's coordinator.
const TRANSIENT_OF_GROUPS: [Code; 6] = [
    Code::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
    Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
    Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
    Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    Code::RD_KAFKA_RESP_ERR_UNKNOWN,
    Code::RD_KAFKA_RESP_ERR__TRANSPORT,
];

/// Five messages in each of two partitions, and brokers that answer so many requests with an error.
async fn run(
    request: Request,
    code: Code,
    times: usize,
    set: impl FnOnce(Builder) -> Builder,
) -> Result<Report> {
    let broker = Broker::mock();
    let topic = broker.topic("a", 2).await;
    number(&broker, &topic, 0, 0, 5).await;
    number(&broker, &topic, 1, 0, 5).await;
    let builder = TopicProcessor::builder("errors", [&*topic]).brokers(&broker.address);
    // Before the clients are made: they look for the group's coordinator at once.
    broker.cluster().request_errors(request, &vec![code; times]);
    let processor = set(builder).build(|_| Ignores).await.unwrap();
    let run = processor.run_until_caught_up();
    timeout(PATIENCE, run).await.unwrap_or_else(|_| panic!("{request:?} {code:?}: no end"))
}

/// The processor goes on to the end when brokers answer this request three times with this error.
async fn goes_on(request: Request, codes: &[Code]) {
    let each = codes.iter().map(|code| async move {
        let report = run(request, *code, 3, |builder| builder.partitions(0..2)).await;
        match report {
            Ok(report) => (report.messages != 10).then(|| format!("{code:?}: {report:?}")),
            Err(error) => Some(format!("{code:?}: {error}")),
        }
    });
    let failed: Vec<String> = join_all(each).await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{request:?}: {failed:#?}");
}

/// The processor ends with an error of this kind when brokers always answer this request with this
/// error.
async fn ends(request: Request, code: Code, kind: ErrorKind, is_static: bool) -> Error {
    let report = run(request, code, 10_000, |builder| match is_static {
        true => builder.partitions(0..2),
        false => builder,
    });
    let error = report.await.unwrap_err();
    assert_eq!(error.kind(), kind, "{request:?} {code:?}: {error:?}");
    assert!(!error.is_retryable(), "{request:?} {code:?}: {error:?}");
    error
}

/// A right that was granted a moment ago has not reached all brokers.
#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_doubted_for_a_while() {
    let topic = [Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED];
    let group = [Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED];
    tokio::join!(
        goes_on(Request::ListOffsets, &topic),
        goes_on(Request::OffsetFetch, &topic),
        goes_on(Request::OffsetFetch, &group),
        goes_on(Request::FindCoordinator, &group),
        goes_on(Request::OffsetCommit, &topic),
        goes_on(Request::OffsetCommit, &group),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_to_the_topic_end_the_processor() {
    let denied = Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    let of = |request| ends(request, denied, ErrorKind::Unauthorized, true);
    let errors = tokio::join!(
        of(Request::ListOffsets),
        of(Request::OffsetFetch),
        of(Request::OffsetCommit),
        of(Request::Fetch),
    );
    // The mock cluster refuses the second as a whole, without naming a topic.
    for error in [errors.0, errors.2, errors.3] {
        assert!(error.get("topic").is_some_and(|topic| topic.starts_with("a-")), "{error}");
    }
}

/// Whichever request the group's coordinator refuses.
#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_to_the_group_end_the_processor() {
    let denied = Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    let of = |request, is_static| ends(request, denied, ErrorKind::Unauthorized, is_static);
    let (coordinator, of_static, join, offsets, commits) = tokio::join!(
        of(Request::FindCoordinator, false),
        of(Request::FindCoordinator, true),
        of(Request::JoinGroup, false),
        of(Request::OffsetFetch, true),
        of(Request::OffsetCommit, true),
    );
    for error in [coordinator, of_static, join, offsets, commits] {
        assert_eq!(error.get("group"), Some("kasper-topic-processor-errors"), "{error}");
    }
}

/// A refused `JoinGroup` has no counterpart here: librdkafka takes a refused heartbeat for fatal.
#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_to_the_group_end_a_member_of_the_newer_protocol() {
    let denied = Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    let run = run(Request::FindCoordinator, denied, 10_000, Builder::consumer_protocol);
    let error = run.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error:?}");
    assert_eq!(error.get("group"), Some("kasper-topic-processor-errors"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn final_errors_end_the_processor_at_once() {
    for (request, code) in [
        (Request::ListOffsets, Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION),
        (Request::OffsetFetch, Code::RD_KAFKA_RESP_ERR_INVALID_GROUP_ID),
        (Request::Fetch, Code::RD_KAFKA_RESP_ERR_INVALID_MSG),
    ] {
        ends(request, code, ErrorKind::Backend, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_leaders_that_cannot_answer_yet() {
    goes_on(Request::ListOffsets, &TRANSIENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_the_group_s_coordinator() {
    goes_on(Request::OffsetFetch, &TRANSIENT_OF_GROUPS).await;
    goes_on(Request::OffsetFetch, &TRANSIENT[12..]).await;
    goes_on(Request::FindCoordinator, &TRANSIENT_OF_GROUPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fetching_goes_on_after_transient_errors() {
    goes_on(Request::Fetch, &TRANSIENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_made_again_after_transient_errors() {
    goes_on(Request::OffsetCommit, &TRANSIENT_OF_GROUPS).await;
}
