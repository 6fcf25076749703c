//! Whether the group refuses this client, for longer than a new right takes to reach all brokers.
//!
//! Place in the data path: beside it. The control thread notes each refusal that librdkafka reports,
//! and at each statistics event what librdkafka knows of the group's coordinator.
//!
//! librdkafka asks again for good, and nothing else would tell that it asks in vain: a member that is
//! refused looks like one that waits for others. It reports a refused `JoinGroup` each time, which is
//! once a second, and a refused `FindCoordinator` only once; then it stays without a coordinator.

use std::time::{Duration, Instant};

use crate::error::Error;

/// Without another refusal for this time, the group has let the client in.
const QUIET: Duration = Duration::from_secs(3);

/// Refusals of the group.
#[derive(Default)]
pub(super) struct Denial(Option<Refused>);

struct Refused {
    error: Error,
    since: Instant,
    last: Instant,
}

impl Denial {
    /// The group has refused a request.
    pub(super) fn refused(&mut self, error: Error, now: Instant) {
        match &mut self.0 {
            Some(refused) => (refused.error, refused.last) = (error, now),
            None => self.0 = Some(Refused { error, since: now, last: now }),
        }
    }

    /// Something else went wrong, such as a broker that is away. The client may have no coordinator because of that: it
    /// counts anew from here.
    pub(super) fn disturbed(&mut self, now: Instant) {
        if let Some(refused) = &mut self.0 {
            (refused.since, refused.last) = (now, now);
        }
    }

    /// The group has let the client in.
    pub(super) fn let_in(&mut self) {
        self.0 = None;
    }

    /// Looks at the state of the group's client; returns the error if it is to be believed.
    pub(super) fn look(&mut self, state: &str, now: Instant) -> Option<Error> {
        let refused = self.0.as_mut()?;
        if matches!(state, "init" | "query-coord" | "wait-coord") {
            refused.last = now;
        }
        if now - refused.last > QUIET {
            self.0 = None;
        } else if refused.last - refused.since >= refused.error.doubted_for() {
            return self.0.take().map(|refused| refused.error);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn denied() -> Error {
        Error::new(ErrorKind::Unauthorized, "denied")
    }

    fn at(begun: Instant, tenths: u32) -> Instant {
        begun + Duration::from_millis(100) * tenths
    }

    #[test]
    fn a_group_that_refuses_every_join_is_believed_after_a_while() {
        let (mut denial, begun) = (Denial::default(), Instant::now());
        for tenths in 0..100 {
            if tenths % 10 == 0 {
                denial.refused(denied(), at(begun, tenths));
            }
            assert!(denial.look("up", at(begun, tenths)).is_none(), "{tenths}");
        }
        denial.refused(denied(), at(begun, 100));
        assert!(denial.look("up", at(begun, 101)).is_some());
    }

    #[test]
    fn without_a_coordinator_one_refusal_counts_on() {
        let (mut denial, begun) = (Denial::default(), Instant::now());
        denial.refused(denied(), begun);
        for tenths in (0..100).step_by(5) {
            assert!(denial.look("query-coord", at(begun, tenths)).is_none(), "{tenths}");
        }
        assert!(denial.look("wait-coord", at(begun, 100)).is_some());
    }

    /// One refusal, and then the coordinator is away.
    #[test]
    fn an_outage_after_a_refusal_is_not_believed_to_refuse() {
        let (mut denial, begun) = (Denial::default(), Instant::now());
        denial.refused(denied(), begun);
        for tenths in (0..300).step_by(5) {
            if tenths % 50 == 0 {
                denial.disturbed(at(begun, tenths));
            }
            assert!(denial.look("query-coord", at(begun, tenths)).is_none(), "{tenths}");
        }
    }

    /// A join that is answered late, because others still drain, is not refused.
    #[test]
    fn a_group_that_is_only_slow_is_not_believed_to_refuse() {
        let (mut denial, begun) = (Denial::default(), Instant::now());
        denial.refused(denied(), begun);
        denial.refused(denied(), at(begun, 20));
        for tenths in (20..600).step_by(5) {
            assert!(denial.look("up", at(begun, tenths)).is_none(), "{tenths}");
        }
        denial.refused(denied(), at(begun, 600));
        assert!(denial.look("up", at(begun, 600)).is_none(), "it counts from the beginning");
        denial.let_in();
        assert!(denial.look("query-coord", at(begun, 900)).is_none());
    }
}
