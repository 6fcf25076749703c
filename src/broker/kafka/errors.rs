//! What error codes mean to the pipeline: one table for the answers to all requests.
//!
//! Place in the data path: beside it. A code has a [`Class`] and a kind. Whether an error is retryable,
//! whether a fetch goes on, and how an offset commit failed all follow from these two.

#[cfg(feature = "testkit")]
use rdkafka::error::KafkaError;

use super::ffi::{Client, Code, Known};
use crate::broker::{CommitError, CommitRefusal};
use crate::error::{Error, ErrorKind};

/// What a code says about making the same request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The cluster, or the way to it, is being repaired: a broker restarts, a leader is elected.
    /// Requests are repeated for as long as it takes.
    Transient,
    /// True or out of date: a broker that has just become a leader may not know a topic yet. Requests
    /// are repeated for [a bounded time](Error::doubted_for), and then the error is believed.
    Doubtful,
    /// Somebody has to grant a right. Doubted too, since a new right takes a moment to reach all
    /// brokers.
    NeedsRights,
    /// No retry helps.
    Final,
}

/// The table.
pub(super) fn classify(code: Code) -> (Class, ErrorKind) {
    use Known as K;
    let Some(known) = code.known() else {
        return (Class::Final, ErrorKind::Backend);
    };
    match known {
        // The connection, and what happens to requests when a broker leaves the cluster.
        K::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
        | K::RD_KAFKA_RESP_ERR__TRANSPORT
        | K::RD_KAFKA_RESP_ERR__SSL
        | K::RD_KAFKA_RESP_ERR__RESOLVE
        | K::RD_KAFKA_RESP_ERR__NODE_UPDATE
        | K::RD_KAFKA_RESP_ERR__DESTROY_BROKER
        | K::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE
        | K::RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION
        | K::RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED
        // What a broker says of itself when it fails in a way that the protocol has no code for.
        | K::RD_KAFKA_RESP_ERR_UNKNOWN
        // The group's coordinator moves, or the group is rebalancing.
        | K::RD_KAFKA_RESP_ERR__WAIT_COORD
        | K::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
        | K::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
        | K::RD_KAFKA_RESP_ERR_NOT_COORDINATOR
        | K::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS
        | K::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH
        | K::RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT
        // The partition's leader moves. A new leader answers OFFSET_NOT_AVAILABLE until its high
        // watermark has reached its epoch (KIP-207).
        | K::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
        | K::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION
        | K::RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE
        | K::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE
        | K::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH
        | K::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH
        | K::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR
        | K::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS
        | K::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
            (Class::Transient, ErrorKind::Unavailable)
        }
        K::RD_KAFKA_RESP_ERR__TIMED_OUT
        | K::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE
        | K::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT
        | K::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT => (Class::Transient, ErrorKind::Timeout),
        K::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
        | K::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
        | K::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID => (Class::Doubtful, ErrorKind::UnknownTopic),
        K::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION => (Class::Doubtful, ErrorKind::UnknownPartition),
        K::RD_KAFKA_RESP_ERR__AUTHENTICATION
        | K::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED
        | K::RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM
        | K::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        | K::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
        | K::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
        | K::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED => {
            (Class::NeedsRights, ErrorKind::Unauthorized)
        }
        K::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET | K::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => {
            (Class::Final, ErrorKind::OffsetOutOfRange)
        }
        _ => (Class::Final, ErrorKind::Backend),
    }
}

/// The library's error for a code, with librdkafka's name of it in the context.
pub(super) fn error(code: Code, text: impl Into<String>) -> Error {
    let text = text.into();
    let (class, _) = classify(code);
    let kind = kind_of(code, &text);
    let error = Error::new(kind, text).with("code", code.name());
    let transient = class == Class::Transient && kind != ErrorKind::Unauthorized;
    if transient { error.retryable() } else { error }
}

/// As [`error`], with librdkafka's own text.
pub(super) fn plain(code: Code) -> Error {
    error(code, code.text())
}

/// The library's error for one of the `rdkafka` crate's clients.
#[cfg(feature = "testkit")]
pub(crate) fn of_crate(error: &KafkaError) -> Error {
    let kind = match error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) => ErrorKind::Config,
        _ => error.rdkafka_error_code().map_or(ErrorKind::Backend, |c| kind(Code::of_crate(c))),
    };
    Error::new(kind, error.to_string())
}

/// The kind of error that a code stands for.
pub(super) fn kind(code: Code) -> ErrorKind {
    classify(code).1
}

/// As [`kind`], where librdkafka's text tells more than its code: a handshake that failed may succeed
/// the next time, but a certificate that is not trusted stays untrusted.
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

/// Names the group that refuses the client, which librdkafka's error does not.
pub(super) fn with_group(error: Error, code: Code, client: &Client) -> Error {
    match code.is(Known::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED) {
        true => error.with("group", client.property("group.id")),
        false => error,
    }
}

/// The error of an offset commit that failed for `topics`.
pub(super) fn commit(code: Code, topics: &str, client: &Client) -> CommitError {
    use Known as K;
    let refusal = match code.known() {
        Some(K::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID) => CommitRefusal::UnknownMember,
        Some(
            K::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS
            | K::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION
            | K::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH,
        ) => CommitRefusal::Rebalancing,
        _ => CommitRefusal::Other,
    };
    let (class, kind) = classify(code);
    let kind = if class == Class::NeedsRights { kind } else { ErrorKind::Commit };
    let error = Error::new(kind, code.text()).with("code", code.name());
    let error = if topics.is_empty() { error } else { error.with("topic", topics) };
    let error = with_group(error, code, client);
    let error = if class == Class::Transient { error.retryable() } else { error };
    CommitError { refusal, error }
}

/// Whether librdkafka goes on fetching a partition after this entry in its queue, and loses nothing.
///
/// Everything else stops the partition number. A corrupt message does, although librdkafka would go on
/// behind it: that would be a silent gap. So does an unknown topic or partition that librdkafka itself
/// reports, because it has seen by then in the metadata that they are gone.
pub(super) fn fetch_goes_on(code: Code) -> bool {
    let brokers_word = !code.is_local();
    match classify(code).0 {
        Class::Transient => true,
        Class::Doubtful => brokers_word,
        Class::NeedsRights | Class::Final => code.is(Known::RD_KAFKA_RESP_ERR__PARTITION_EOF),
    }
}

/// What to say where librdkafka has no memory or no client for a handle.
pub(super) fn no_handle(what: &str) -> Error {
    Error::new(ErrorKind::Backend, format!("librdkafka could not create a {what}"))
}
