//! `/events`: the status once a second, as server-sent events.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use tokio::time::{MissedTickBehavior, interval};

use super::sampler::History;
use super::shared::{ServerState, Watched};
use super::status::{json, to_json};

const INTERVAL: Duration = Duration::from_secs(1);

/// Looks once a second, until nobody has the router any more.
pub(super) async fn run(shared: Weak<ServerState>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        shared.processors.iter().for_each(Watched::look);
        if shared.latest.receiver_count() > 0 {
            shared.latest.send_replace(json(&shared).into());
        }
    }
}

/// The history and the status at once, then a status at each look. A client that is slow misses some: nothing is
/// queued for it.
pub(super) async fn events(State(shared): State<Arc<ServerState>>) -> Response {
    let Ok(place) = shared.places.clone().try_acquire_owned() else {
        let message = "too many clients listen; ask for /status instead\n";
        let wait = [(header::RETRY_AFTER, "10")];
        return (StatusCode::SERVICE_UNAVAILABLE, wait, message).into_response();
    };
    let latest = shared.latest.subscribe();
    let histories: Vec<History> = shared.processors.iter().map(|p| p.history()).collect();
    let first =
        [Event::default().event("history").data(to_json(&histories)), status_event(&json(&shared))];
    // It must not hold what is shared: the router may go, and the looks with it.
    drop(shared);
    let looks = stream::unfold((latest, place), |(mut latest, place)| async move {
        latest.changed().await.ok()?;
        let status = latest.borrow_and_update().clone();
        Some((status_event(&status), (latest, place)))
    });
    Sse::new(stream::iter(first).chain(looks).map(Ok::<_, Infallible>)).into_response()
}

fn status_event(status: &str) -> Event {
    Event::default().event("status").data(status)
}
