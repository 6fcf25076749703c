//! What is wrong with a backend's configuration: collected, and reported in one error.

use std::time::Duration;

use crate::error::{Error, Result};

#[cfg(any(feature = "redis", feature = "cassandra", feature = "elasticsearch"))]
pub(crate) const NO_PASSWORD: &str = "there is a user but no password";

/// The faults found so far.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<String>);

impl Faults {
    pub(crate) fn push(&mut self, fault: impl Into<String>) {
        self.0.push(fault.into());
    }

    /// A time limit has to leave some time.
    pub(crate) fn time_limit(&mut self, name: &str, time: Duration) {
        if time.is_zero() {
            self.push(format!("`{name}` is zero, which leaves no time for an answer"));
        }
    }

    /// Who logs in has a name and a password.
    #[cfg(any(feature = "cassandra", feature = "elasticsearch"))]
    pub(crate) fn login(&mut self, user: Option<&str>, password: Option<&str>) {
        match (user, password) {
            (Some(_), None) => self.push(NO_PASSWORD),
            (None, Some(_)) => self.push("there is a password but no user"),
            _ => {}
        }
    }

    #[cfg(any(feature = "cassandra", feature = "elasticsearch"))]
    pub(crate) fn at_least_one(&mut self, name: &str, value: usize) {
        if value == 0 {
            self.push(format!("`{name}` is 0; it must be at least 1"));
        }
    }

    /// A time to live is a whole number of the server's units, up to its limit.
    #[cfg(any(feature = "redis", feature = "cassandra"))]
    pub(crate) fn ttl(
        &mut self,
        ttl: Option<Duration>,
        (unit, units): (Duration, &str),
        (most, most_shown): (Duration, &str),
    ) {
        let Some(ttl) = ttl else { return };
        if ttl.is_zero() || !ttl.as_nanos().is_multiple_of(unit.as_nanos()) {
            self.push(format!("`ttl` has to be a whole number of {units}, at least 1"));
        }
        if ttl > most {
            self.push(format!("`ttl` can be {most_shown} at most"));
        }
    }

    /// The value, or `None` if there is a fault instead.
    #[cfg(any(
        feature = "redis-tls",
        feature = "cassandra",
        feature = "elasticsearch",
        feature = "local"
    ))]
    pub(crate) fn take<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|fault| self.push(fault)).ok()
    }

    /// # Errors
    /// [`Config`](crate::ErrorKind::Config), with every fault, if there is one.
    pub(crate) fn refuse(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::faults(&self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn every_fault_is_in_the_error() {
        Faults::default().refuse().unwrap();
        let mut faults = Faults::default();
        faults.push("one");
        faults.time_limit("timeout", Duration::ZERO);
        faults.time_limit("connect_timeout", Duration::from_nanos(1));
        let error = faults.refuse().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = "configuration: one; `timeout` is zero, which leaves no time for an answer";
        assert_eq!(error.to_string(), text);
    }

    #[cfg(any(feature = "redis", feature = "cassandra"))]
    #[test]
    fn a_time_to_live_is_whole_and_within_the_limit() {
        let check = |millis: u64| {
            let mut faults = Faults::default();
            let ttl = Some(Duration::from_millis(millis));
            let (unit, most) = (Duration::from_secs(1), Duration::from_secs(10));
            faults.ttl(ttl, (unit, "seconds"), (most, "10 s"));
            faults.0.len()
        };
        assert_eq!([0, 1, 1000, 1500, 10_000, 10_001, 11_000].map(check), [1, 1, 0, 1, 0, 2, 1]);
    }
}
