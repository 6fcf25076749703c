//! The signals that ask a process to end.

/// Completes at the first SIGINT (Ctrl-C in a terminal) or SIGTERM (an orchestrator's request to stop); on Windows, at
/// Ctrl-C. For [`run_until`](crate::TopicProcessor::run_until).
///
/// If a signal handler can't be installed, an error is logged, and the future never completes.
pub async fn shutdown_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(mut interrupt), Ok(mut terminate)) => {
                let name = tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                };
                tracing::info!(signal = name, "shutting down");
            }
            (Err(error), _) | (_, Err(error)) => never(&error).await,
        }
    }
    #[cfg(not(unix))]
    if let Err(error) = tokio::signal::ctrl_c().await {
        never(&error).await;
    }
}

async fn never(error: &std::io::Error) {
    tracing::error!(%error, "cannot listen for signals, so none will shut the processor down");
    std::future::pending::<()>().await;
}
