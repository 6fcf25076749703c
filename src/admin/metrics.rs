//! `/metrics`: the text that the user gave, or that of the recorder of the processors.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::shared::ServerState;
use crate::handle::Handle;

/// Makes the text of `/metrics`.
pub(super) type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

pub(super) async fn metrics(State(shared): State<Arc<ServerState>>) -> Response {
    match &shared.metrics {
        Some(text) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The text of the one recorder for Prometheus that the processors report to.
///
/// The texts of two recorders do not make one: the format has each metric's help and type only once.
#[cfg(feature = "prometheus")]
pub(super) fn recorded(processors: &[Handle]) -> Option<MetricsText> {
    let mut recorders = processors.iter().filter_map(|handle| handle.metrics().prometheus());
    let first = recorders.next()?;
    if recorders.any(|other| !first.shares_metrics_with(&other)) {
        tracing::warn!(
            "the processors report to several Prometheus recorders, so `/metrics` is not served: give them one \
             recorder, or the text with `Admin::metrics`"
        );
        return None;
    }
    Some(Arc::new(move || first.render()))
}

#[cfg(not(feature = "prometheus"))]
pub(super) fn recorded(_: &[Handle]) -> Option<MetricsText> {
    None
}

#[cfg(all(test, feature = "prometheus"))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, NoopRecorder, prometheus};
    use crate::pipeline::progress::Board;

    #[test]
    fn one_recorder_is_found_and_two_are_not_mixed() {
        let (one, two) = (prometheus().unwrap(), prometheus().unwrap());
        Metrics::new("a", one.clone()).counter("seen_total", "Seen.", &[]).increment(1);
        let handle = |metrics| Handle::new(Board::new(), "test".into(), metrics);
        let handles = [
            handle(Metrics::global("a")),
            handle(Metrics::new("b", NoopRecorder)),
            handle(Metrics::new("c", one.clone())),
            handle(Metrics::new("d", Arc::new(one))),
            handle(Metrics::new("e", two)),
        ];
        let text = |handles| recorded(handles).map(|text| text());
        assert_eq!(text(&handles[..2]), None);
        assert!(text(&handles[..4]).unwrap().contains("seen_total{processor=\"a\"} 1"));
        assert!(text(&handles[3..4]).unwrap().contains("seen_total{processor=\"a\"} 1"));
        assert_eq!(text(&handles), None);
    }
}
