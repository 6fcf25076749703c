//! Commands to processors, for those who know the token.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tracing::info;

use super::shared::ServerState;
use crate::handle::Handle;

/// The request has the token. Checked first, so that a client without it learns nothing.
struct Authorized;

impl FromRequestParts<Arc<ServerState>> for Authorized {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<ServerState>,
    ) -> Result<Self, Response> {
        let given = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        match (&shared.token, given) {
            (Some(token), Some((scheme, given)))
                if scheme.eq_ignore_ascii_case("bearer") && token.is(given.trim()) =>
            {
                Ok(Self)
            }
            _ => {
                let how = [(header::WWW_AUTHENTICATE, "Bearer")];
                Err((StatusCode::UNAUTHORIZED, how, "the token is missing or wrong\n")
                    .into_response())
            }
        }
    }
}

pub(super) fn routes() -> Router<Arc<ServerState>> {
    let whole = |name, act: fn(&Handle)| {
        let handler = move |_: Authorized,
                            State(shared): State<Arc<ServerState>>,
                            Path(id): Path<String>| async move {
            command(&shared, &id, None, name, act)
        };
        post(handler)
    };
    let single = |name, act: fn(&Handle, i32)| {
        let handler = move |_: Authorized,
                            State(shared): State<Arc<ServerState>>,
                            Path((id, number)): Path<(String, String)>| async move {
            let Ok(number) = number.parse() else {
                return (StatusCode::NOT_FOUND, "no such partition number\n");
            };
            command(&shared, &id, Some(number), name, |handle| act(handle, number))
        };
        post(handler)
    };
    let partition = "/processors/{id}/partitions/{number}";
    Router::new()
        .route("/processors/{id}/pause", whole("pause", Handle::pause))
        .route("/processors/{id}/resume", whole("resume", Handle::resume))
        .route("/processors/{id}/close", whole("close", Handle::close))
        .route(&format!("{partition}/pause"), single("pause", Handle::pause_partition))
        .route(&format!("{partition}/resume"), single("resume", Handle::resume_partition))
}

fn command(
    shared: &ServerState,
    id: &str,
    partition: Option<i32>,
    name: &str,
    act: impl FnOnce(&Handle),
) -> (StatusCode, &'static str) {
    let found = id.parse::<usize>().ok().and_then(|id| shared.processors.get(id));
    let Some(processor) = found else { return (StatusCode::NOT_FOUND, "no such processor\n") };
    info!(
        processor = processor.handle.name(),
        partition,
        command = name,
        "told by the admin server"
    );
    act(&processor.handle);
    // What it takes, a batch in flight say, goes on.
    (StatusCode::ACCEPTED, "accepted\n")
}
