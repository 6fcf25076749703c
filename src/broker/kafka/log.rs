//! librdkafka's own log and errors, as `tracing` events of the target `librdkafka`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::ffi::{ClientEvent, Code};

/// The same error is passed on once in this time.
const PAUSE: Duration = Duration::from_secs(10);

/// Passes a line of the log on. librdkafka calls much "info" that is of no interest to anybody but
/// its developers, so that becomes `debug`. So do failed connections: each is an event too, of which
/// repetitions are held back, while the log has ten lines a second as long as a broker is away.
pub(super) fn log(client: &'static str, event: &ClientEvent<'_>) {
    let Some((level, facility, text)) = event.log_line() else {
        return;
    };
    match level {
        0..=3 if facility == "FAIL" => {
            tracing::debug!(target: "librdkafka", client, facility, "{text}");
        }
        0..=3 => tracing::error!(target: "librdkafka", client, facility, "{text}"),
        4 => tracing::warn!(target: "librdkafka", client, facility, "{text}"),
        5 | 6 => tracing::debug!(target: "librdkafka", client, facility, "{text}"),
        _ => tracing::trace!(target: "librdkafka", client, facility, "{text}"),
    }
}

/// Holds back repetitions: a broker that is down is reported by each of its connections, again and
/// again.
#[derive(Default)]
pub(super) struct Repetitions {
    last: HashMap<Code, Instant>,
}

impl Repetitions {
    /// Whether this error has not been passed on lately.
    pub(super) fn is_new(&mut self, code: Code, now: Instant) -> bool {
        let lately = self.last.get(&code).is_some_and(|last| now - *last < PAUSE);
        if !lately {
            self.last.insert(code, now);
        }
        !lately
    }
}
