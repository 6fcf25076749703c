//! A latency target: what it implies, and what it cannot be set with.

use std::time::Duration;

use super::options::Options;

/// Kafka alone takes some milliseconds.
const LEAST_TARGET: Duration = Duration::from_millis(10);

/// The default.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// More commits would burden the group's coordinator.
const LEAST_IMPLIED_INTERVAL: Duration = Duration::from_millis(5);

/// A target needs commits more often: four while it lasts. More would be more requests, and let batches wait a little longer.
pub(super) fn commit_interval(options: &Options) -> Duration {
    let implied = options.target_latency.map_or(COMMIT_INTERVAL, |target| target / 4);
    let implied = implied.clamp(LEAST_IMPLIED_INTERVAL, COMMIT_INTERVAL);
    options.commit_interval.unwrap_or(implied)
}

/// A target that no batch could meet, or that is no longer the only one to say how long a batch waits.
pub(super) fn check(options: &Options, faults: &mut Vec<String>) {
    let Some(target) = options.target_latency else { return };
    if target < LEAST_TARGET {
        faults.push(format!(
            "`target_latency` ({target:?}) is below {LEAST_TARGET:?}: a call of a store and an offset commit take longer"
        ));
    }
    if let Some(interval) = options.commit_interval.filter(|interval| *interval >= target) {
        faults.push(format!(
            "`commit_interval` ({interval:?}) is not shorter than `target_latency` ({target:?}): offsets would be \
             committed too late; leave it out, or set it to a quarter of the target"
        ));
    }
    if !options.max_batch_wait.is_zero() {
        faults.push(
            "`target_latency` and `max_batch_wait` both say how long a batch waits; set one of them".into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::Builder;
    use super::*;
    use crate::TopicProcessor;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn builder() -> Builder {
        TopicProcessor::builder("test", ["a"]).brokers("localhost:9092")
    }

    fn found(builder: &Builder) -> String {
        let mut faults = Vec::new();
        check(&builder.options, &mut faults);
        faults.join("; ")
    }

    #[test]
    fn a_latency_target_is_the_only_one_to_say_how_long_a_batch_waits_and_can_be_met() {
        let target = || builder().target_latency(ms(100));
        assert!(found(&builder().target_latency(ms(9))).contains("`target_latency` (9ms)"));
        let text = found(&target().commit_interval(ms(100)));
        assert!(text.contains("`commit_interval` (100ms)"), "{text}");
        assert!(text.contains("`target_latency` (100ms)"), "{text}");
        assert!(found(&target().max_batch_wait(ms(1))).contains("`max_batch_wait`"));
        assert_eq!(found(&target().commit_interval(ms(99)).max_batch_wait(ms(0))), "");
    }

    #[test]
    fn a_target_implies_a_commit_interval() {
        let of = |builder: Builder| commit_interval(&builder.options);
        assert_eq!(of(builder()), ms(1000));
        for (target, interval) in [(10, 5), (100, 25), (4000, 1000), (60_000, 1000)] {
            assert_eq!(of(builder().target_latency(ms(target))), ms(interval));
        }
        assert_eq!(of(builder().target_latency(ms(100)).commit_interval(ms(60))), ms(60));
    }
}
