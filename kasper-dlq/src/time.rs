//! Points in time, as letters and arguments have them: RFC 3339.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat};

/// Milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(i64);

impl Time {
    pub(crate) fn from_millis(millis: i64) -> Self {
        Self(millis)
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = DateTime::parse_from_rfc3339(text);
        let time =
            time.map_err(|_| "write it as 2026-12-01T03:33:22Z or 2026-12-01T05:33:22.5+02:00")?;
        Ok(Self(time.timestamp_millis()))
    }
}

/// As letters have it: `2026-12-01T03:33:22.123Z`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_millis(self.0) {
            Some(time) => f.pad(&time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{} ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        let time = |text: &str| text.parse::<Time>().unwrap();
        assert_eq!(time("1970-01-01T00:00:01Z"), Time(1000));
        assert_eq!(time("2026-12-01T05:33:22.123+02:00"), time("2026-12-01T03:33:22.123Z"));
        assert!(time("2026-12-01T03:33:22Z") < time("2026-12-01T03:33:22.001Z"));
        let text = "2026-12-01T03:33:22.120Z";
        assert_eq!(time(text).to_string(), text);
        for wrong in ["", "2026-12-01", "yesterday", "2026-13-01T00:00:00Z", "2026-12-01T03:33:22"]
        {
            assert!(wrong.parse::<Time>().unwrap_err().contains("write it as"), "{wrong}");
        }
        assert_eq!(Time(i64::MAX).to_string(), format!("{} ms", i64::MAX));
    }
}
