//! `/status`: what handles report, as JSON. The fields are documented in [the module above](super).

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::health::unready;
use super::sampler::Rates;
use super::shared::{ServerState, Watched};
use crate::message::Offset;
use crate::status::{PartitionState, PartitionStatus, ProcessorState, TopicWarning};

/// Changes when a field goes or gets another meaning.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct All {
    version: u32,
    at_ms: u128,
    control: bool,
    processors: Vec<One>,
}

#[derive(Serialize)]
struct One {
    id: usize,
    name: String,
    state: &'static str,
    ready: bool,
    paused: bool,
    failure: Option<String>,
    target_missed_ms: Option<u128>,
    lag: u64,
    rate: Option<f64>,
    messages: u64,
    batches: u64,
    bytes: u64,
    rejected: u64,
    topics: Vec<Topic>,
    partitions: Vec<Partition>,
}

/// An input topic that is not as it should be.
#[derive(Serialize)]
struct Topic {
    topic: String,
    change: &'static str,
    message: String,
    since_ms: u128,
}

#[derive(Serialize)]
struct Partition {
    topic: String,
    partition: i32,
    state: &'static str,
    epoch: u64,
    next_offset: i64,
    end_offset: i64,
    lag: u64,
    committed_offset: Option<i64>,
    committed_lag: u64,
    rate: Option<f64>,
    quarantined_keys: usize,
    in_flight: usize,
    buffered_bytes: u64,
    last_progress_ms: u128,
    stalled: bool,
    last_error: Option<String>,
    retrying: Option<Retrying>,
}

#[derive(Serialize)]
struct Retrying {
    attempt: u32,
    since_ms: u128,
    error: String,
}

pub(super) async fn status(State(shared): State<Arc<ServerState>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], json(&shared)).into_response()
}

pub(super) fn json(shared: &ServerState) -> String {
    let all = All {
        version: VERSION,
        at_ms: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis(),
        control: shared.token.is_some(),
        processors: shared.processors.iter().enumerate().map(|(id, p)| one(id, p)).collect(),
    };
    to_json(&all)
}

/// Numbers, texts and lists of them, under names: there is nothing in it that JSON has not.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn one(id: usize, watched: &Watched) -> One {
    let (status, rates) = (watched.handle.status(), watched.rates());
    One {
        id,
        name: watched.handle.name().to_owned(),
        state: match status.state {
            ProcessorState::Starting => "starting",
            ProcessorState::Running => "running",
            ProcessorState::Closing => "closing",
            ProcessorState::Closed => "closed",
        },
        ready: unready(&status).is_none(),
        paused: status.paused,
        lag: status.partitions.iter().map(|partition| partition.lag).sum(),
        rate: rates.messages,
        messages: status.messages,
        batches: status.batches,
        bytes: status.bytes,
        rejected: status.rejected,
        failure: status.failure,
        target_missed_ms: status.target_missed.map(|missed| missed.as_millis()),
        topics: status.topics.into_iter().map(topic).collect(),
        partitions: status.partitions.into_iter().map(|p| partition(p, &rates)).collect(),
    }
}

fn topic(warning: TopicWarning) -> Topic {
    Topic {
        topic: warning.topic.to_string(),
        change: warning.change.as_str(),
        message: warning.message,
        since_ms: warning.since.as_millis(),
    }
}

fn partition(status: PartitionStatus, rates: &Rates) -> Partition {
    Partition {
        rate: rates.of(&status.partition),
        topic: status.partition.topic.to_string(),
        partition: status.partition.number,
        state: match status.state {
            PartitionState::Starting => "starting",
            PartitionState::Running => "running",
            PartitionState::Paused => "paused",
            PartitionState::Retrying => "retrying",
            PartitionState::Draining => "draining",
            PartitionState::Failed => "failed",
        },
        epoch: status.epoch,
        next_offset: status.next_offset.get(),
        end_offset: status.end_offset.get(),
        lag: status.lag,
        committed_offset: status.committed_offset.map(Offset::get),
        committed_lag: status.committed_lag,
        quarantined_keys: status.quarantined_keys,
        in_flight: status.in_flight,
        buffered_bytes: status.buffered_bytes,
        last_progress_ms: status.last_progress.as_millis(),
        stalled: status.stalled,
        last_error: status.last_error,
        retrying: status.retrying.map(|retrying| Retrying {
            attempt: retrying.attempt,
            since_ms: retrying.since.as_millis(),
            error: retrying.error,
        }),
    }
}
