//! `/health/live` and `/health/ready`, for an orchestrator.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use super::shared::ServerState;
use crate::status::{PartitionState, PartitionStatus, ProcessorState, Retrying, Status};

/// Always 200 while the process can answer: restarting it would not fix a broker outage.
pub(super) async fn live() -> &'static str {
    "live\n"
}

pub(super) async fn ready(State(shared): State<Arc<ServerState>>) -> (StatusCode, String) {
    let mut reasons = String::new();
    for processor in &shared.processors {
        if let Some(reason) = unready(&processor.handle.status()) {
            let _never_fails = writeln!(reasons, "{}: {reason}", processor.handle.name());
        }
    }
    match reasons.is_empty() {
        true => (StatusCode::OK, "ready\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, reasons),
    }
}

/// Why it is not ready, if it is not.
pub(super) fn unready(status: &Status) -> Option<String> {
    if let Some(failure) = &status.failure {
        return Some(format!("failed: {failure}"));
    }
    for PartitionStatus { partition, state, stalled, .. } in &status.partitions {
        if *state == PartitionState::Failed || *stalled {
            let what = if *stalled { "stalled" } else { "failed" };
            return Some(format!("{partition} {what}"));
        }
    }
    for PartitionStatus { partition, retrying, .. } in &status.partitions {
        if let Some(Retrying { attempt, since, error, .. }) = retrying {
            let seconds = since.as_secs();
            return Some(format!(
                "{partition} is retrying (attempt {attempt}, for {seconds} s): {error}"
            ));
        }
    }
    if let Some(warning) = status.topics.iter().find(|warning| warning.change.stops()) {
        return Some(format!("topic {}: {}", warning.topic, warning.message));
    }
    match status.state {
        ProcessorState::Starting => Some("does not run yet".to_owned()),
        ProcessorState::Running if !status.settled => Some("waits for its partitions".to_owned()),
        ProcessorState::Running => None,
        ProcessorState::Closing => Some("is closing".to_owned()),
        ProcessorState::Closed => Some("is closed".to_owned()),
    }
}
