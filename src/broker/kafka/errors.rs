//! What librdkafka's error codes mean to the pipeline: a kind, and whether trying again may help.

use super::ffi::{Code, Known};
use crate::error::{Error, ErrorKind};

/// The library's error for a code, with librdkafka's name of it in the context. Retryable where the
/// broker or the way to it was at fault.
pub(super) fn error(code: Code, text: impl Into<String>) -> Error {
    let text = text.into();
    let kind = kind_of(code, &text);
    let error = Error::new(kind, text).with("code", code.name());
    if passes(kind) { error.retryable() } else { error }
}

/// As [`kind`], where librdkafka's text tells more than its code: a handshake that failed may pass the
/// next time, a certificate that is not trusted won't.
pub(super) fn kind_of(code: Code, text: &str) -> ErrorKind {
    let untrusted = text.contains("certificate verify failed");
    match code.is(Known::RD_KAFKA_RESP_ERR__SSL) && untrusted {
        true => ErrorKind::Unauthorized,
        false => kind(code),
    }
}

/// The error for what the client reports and deals with by itself: retryable, except for missing
/// rights, which somebody has to grant.
pub(super) fn warning(code: Code, text: impl Into<String>) -> Error {
    let error = error(code, text);
    if error.kind() == ErrorKind::Unauthorized { error } else { error.retryable() }
}

/// The error of a commit that failed for `topics`.
///
/// During a rebalance a commit may be refused and pass later; a member that is no longer one is
/// refused for good.
pub(super) fn commit(code: Code, topics: &str) -> Error {
    let error = Error::new(ErrorKind::Commit, code.text()).with("code", code.name());
    let error = if topics.is_empty() { error } else { error.with("topic", topics) };
    let rebalance = code.is(Known::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS)
        || code.is(Known::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH);
    if rebalance || passes(kind(code)) { error.retryable() } else { error }
}

/// As [`error`], with librdkafka's own text.
pub(super) fn plain(code: Code) -> Error {
    error(code, code.text())
}

/// The kind of error that a code stands for.
pub(super) fn kind(code: Code) -> ErrorKind {
    use Known as K;
    let Some(known) = code.known() else {
        return ErrorKind::Backend;
    };
    match known {
        K::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
        | K::RD_KAFKA_RESP_ERR__TRANSPORT
        | K::RD_KAFKA_RESP_ERR__RESOLVE
        | K::RD_KAFKA_RESP_ERR__WAIT_COORD
        | K::RD_KAFKA_RESP_ERR__NODE_UPDATE
        | K::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE
        | K::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
        | K::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
        | K::RD_KAFKA_RESP_ERR_NOT_COORDINATOR
        | K::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
        | K::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION
        | K::RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE
        | K::RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT
        | K::RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION => ErrorKind::Unavailable,
        K::RD_KAFKA_RESP_ERR__TIMED_OUT
        | K::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE
        | K::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT
        | K::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT => ErrorKind::Timeout,
        K::RD_KAFKA_RESP_ERR__AUTHENTICATION
        | K::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED
        | K::RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM
        | K::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        | K::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
        | K::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
        | K::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED => ErrorKind::Unauthorized,
        K::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
        | K::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
        | K::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID => ErrorKind::UnknownTopic,
        K::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION => ErrorKind::UnknownPartition,
        K::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET | K::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => {
            ErrorKind::OffsetOutOfRange
        }
        _ => ErrorKind::Backend,
    }
}

fn passes(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout)
}

/// Whether librdkafka deals with a partition's error by itself and goes on fetching.
///
/// Everything not listed stops the partition number. A corrupt message is not listed, though
/// librdkafka would go on behind it: that would be a silent gap.
pub(super) fn passes_by_itself(code: Code) -> bool {
    use Known as K;
    let Some(known) = code.known() else {
        return false;
    };
    matches!(
        known,
        K::RD_KAFKA_RESP_ERR__PARTITION_EOF
            | K::RD_KAFKA_RESP_ERR__TRANSPORT
            | K::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
            | K::RD_KAFKA_RESP_ERR__RESOLVE
            | K::RD_KAFKA_RESP_ERR__TIMED_OUT
            | K::RD_KAFKA_RESP_ERR__WAIT_COORD
            | K::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT
            | K::RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION
            | K::RD_KAFKA_RESP_ERR_UNKNOWN
            | K::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | K::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
            | K::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION
            | K::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE
            | K::RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE
            | K::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE
            | K::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH
            | K::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH
            | K::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID
            | K::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR
            | K::RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED
    )
}
