//! `/status` as Kasper's documentation of `kasper::admin` has it, as far as it is shown. Other fields are passed over.

use serde::Deserialize;

/// The version that this program can read.
pub(crate) const VERSION: u64 = 1;

/// A process.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Status {
    pub(crate) processors: Vec<Processor>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Processor {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) ready: bool,
    pub(crate) paused: bool,
    pub(crate) failure: Option<String>,
    pub(crate) lag: u64,
    pub(crate) rate: Option<f64>,
    pub(crate) messages: u64,
    pub(crate) partitions: Vec<Partition>,
    /// Of a release that has them.
    #[serde(default)]
    pub(crate) topics: Vec<Topic>,
}

/// An input topic that is not as it should be.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Topic {
    pub(crate) topic: String,
    pub(crate) change: String,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Partition {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) state: String,
    pub(crate) next_offset: i64,
    pub(crate) end_offset: i64,
    pub(crate) lag: u64,
    pub(crate) rate: Option<f64>,
    pub(crate) in_flight: u64,
    pub(crate) last_progress_ms: u64,
    pub(crate) stalled: bool,
    pub(crate) last_error: Option<String>,
    /// Of a release that has it.
    #[serde(default)]
    pub(crate) quarantined_keys: u64,
    /// Of a release that has it.
    #[serde(default)]
    pub(crate) retrying: Option<Retrying>,
}

/// Its processor fails and is called again.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Retrying {
    pub(crate) attempt: u32,
    pub(crate) since_ms: u64,
    pub(crate) error: String,
}

/// Looked at before all else: another version may have the same fields with another meaning.
#[derive(Deserialize)]
struct Version {
    version: u64,
}

impl Status {
    /// # Errors
    /// A sentence that says why it is not what is expected.
    pub(crate) fn parse(json: &str) -> Result<Self, String> {
        let Ok(Version { version }) = serde_json::from_str(json) else {
            return Err("this is not the status of Kasper's admin server".into());
        };
        if version != VERSION {
            return Err(format!(
                "its status has version {version}, and this kasper-top reads {VERSION}: take one of the same release"
            ));
        }
        serde_json::from_str(json).map_err(|error| format!("its status can't be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_passed_over() {
        let status = Status::parse(r#"{"version":1,"new":{},"processors":[]}"#).unwrap();
        assert!(status.processors.is_empty());
    }

    #[test]
    fn what_is_not_a_status_is_said_to_be_none() {
        for (json, said) in [
            ("<html>", "not the status"),
            ("{}", "not the status"),
            (r#"{"version":2,"processors":[]}"#, "version 2"),
            (r#"{"version":1}"#, "processors"),
        ] {
            let error = Status::parse(json).unwrap_err();
            assert!(error.contains(said), "{json}: {error}");
        }
    }
}
