//! Checks what the user chose, as far as that goes without a broker.

use std::time::Duration;

use super::brokers;
use super::names::{self, REFRESH};
use super::options::{GroupProtocol, Options};
use super::target;
use crate::broker::kafka::refusals;
use crate::error::{Error, Result};
use crate::settings::StartFrom;

/// librdkafka's default, and Kafka's.
const MAX_POLL_INTERVAL: Duration = Duration::from_mins(5);

/// The most that librdkafka allows for `max.poll.interval.ms`: a day.
const MOST_POLL_INTERVAL_MS: u64 = 86_400_000;

/// The most that librdkafka allows for `message.timeout.ms`. It would cut a larger number to 32 bits and take
/// what is left, which may be anything.
const MOST_DELIVERY_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// What the checks found out.
pub(super) struct Plan {
    /// As librdkafka reads the list.
    pub(crate) brokers: String,
    pub(crate) group_id: String,
    pub(crate) drain_deadline: Duration,
    pub(crate) commit_timeout: Duration,
    pub(crate) read_committed: bool,
}

/// Checks everything that can be checked without a broker.
///
/// # Errors
/// One error that lists every fault.
pub(super) fn check(options: &Options) -> Result<Plan> {
    let mut faults = options.faults.clone();
    check_names(options, &mut faults);
    check_limits(options, &mut faults);
    target::check(options, &mut faults);
    let brokers = brokers::parse(&options.brokers, options.property("security.protocol"));
    let brokers = brokers.map_err(|more| faults.extend(more)).unwrap_or_default();
    check_letters(options, &mut faults);
    check_properties(options, &mut faults);
    check_protocol(options, &mut faults);
    check_refresh(options, &mut faults);
    check_queue(options, &mut faults);
    let max_poll_interval = max_poll_interval(options, &mut faults);
    let default_deadline = Duration::from_secs(30).min(max_poll_interval / 2);
    let drain_deadline = options.drain_deadline.unwrap_or(default_deadline);
    let default_timeout = Duration::from_secs(10).min(max_poll_interval / 4);
    let commit_timeout = options.commit_timeout.unwrap_or(default_timeout);
    for (name, wanted, most, share) in [
        ("drain_deadline", drain_deadline, max_poll_interval * 3 / 4, "three quarters"),
        ("commit_timeout", commit_timeout, max_poll_interval / 4, "a quarter"),
    ] {
        if wanted > most {
            faults.push(format!(
                "`{name}` ({wanted:?}) is longer than {share} of `max.poll.interval.ms` ({most:?}): \
                 the group could remove this member before the offsets of its last batches are committed"
            ));
        }
    }
    if !faults.is_empty() {
        return Err(Error::faults(&faults));
    }
    let default_group = || format!("kasper-topic-processor-{}", options.name);
    Ok(Plan {
        brokers,
        group_id: options.group_id.clone().unwrap_or_else(default_group),
        drain_deadline,
        commit_timeout,
        read_committed: !options.property("isolation.level").is_some_and(is_read_uncommitted),
    })
}

/// As librdkafka reads the value: in upper or lower case, with spaces in front.
fn is_read_uncommitted(value: &str) -> bool {
    value.trim_start().eq_ignore_ascii_case("read_uncommitted")
}

fn check_names(options: &Options, faults: &mut Vec<String>) {
    if options.name.is_empty() {
        faults.push("the name is empty".into());
    }
    if options.group_id.as_ref().is_some_and(String::is_empty) {
        faults.push("`group_id` is empty".into());
    }
    if matches!(options.start_from, StartFrom::Timestamp(..0)) {
        faults.push("`start_from`: the timestamp is negative (milliseconds since 1970)".into());
    }
    if options.topics.is_empty() {
        faults.push("there are no input topics".into());
    }
    if options.topics.len() > usize::from(u16::MAX) {
        faults.push("there are more than 65,535 input topics".into());
    }
    for (index, topic) in options.topics.iter().enumerate() {
        check_topic_name(topic, faults);
        if options.topics[..index].contains(topic) {
            faults.push(format!("input topic `{topic}` is named twice"));
        }
    }
    if let Some(partitions) = &options.partitions {
        if partitions.is_empty() {
            faults.push("`partitions` is empty".into());
        }
        for (index, partition) in partitions.iter().enumerate() {
            if *partition < 0 {
                faults.push(format!("partition {partition} is negative"));
            }
            if partitions[..index].contains(partition) {
                faults.push(format!("partition {partition} is named twice"));
            }
        }
    }
}

fn check_topic_name(topic: &str, faults: &mut Vec<String>) {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_dots = topic == "." || topic == "..";
    if topic.is_empty() || topic.len() > 249 || is_dots || !topic.chars().all(legal) {
        faults.push(format!(
            "`{topic}` is not a valid topic name (1 to 249 of a-z, A-Z, 0-9, `.`, `_`, `-`)"
        ));
    }
}

fn check_letters(options: &Options, faults: &mut Vec<String>) {
    faults.extend(options.on_error.fault());
    for topic in options.on_error.topics() {
        check_topic_name(topic, faults);
        if options.topics.iter().any(|input| **input == **topic) {
            faults.push(format!(
                "`on_error`: the dead letter topic `{topic}` is an input topic: what cannot be processed would come \
                 again and again"
            ));
        }
    }
}

fn check_limits(options: &Options, faults: &mut Vec<String>) {
    let at_least_one = [
        ("max_batch_messages", options.max_batch_messages),
        ("max_batch_bytes", options.max_batch_bytes),
        ("max_in_flight", options.max_in_flight),
        ("max_in_flight_bytes", options.max_in_flight_bytes.unwrap_or(1)),
    ];
    for (name, value) in at_least_one {
        if value == 0 {
            faults.push(format!("`{name}` is 0; it must be at least 1"));
        }
    }
    if options.max_buffered_bytes.is_some_and(|bytes| bytes < 64 << 10) {
        faults.push("`max_buffered_bytes` is below 64 KiB".into());
    }
    let at_least_a_millisecond = [
        ("metrics_interval", Some(options.metrics_interval)),
        ("lag_interval", Some(options.lag_interval)),
        ("commit_interval", options.commit_interval),
        ("stall_timeout", Some(options.stall_timeout)),
        ("connect_timeout", Some(options.connect_timeout)),
        ("commit_timeout", options.commit_timeout),
        ("tick_every", options.tick_interval),
    ];
    for (name, value) in at_least_a_millisecond {
        if value.is_some_and(|value| value < Duration::from_millis(1)) {
            faults.push(format!("`{name}` is below 1 ms"));
        }
    }
    if options.topic_check_interval < Duration::from_millis(1) {
        faults.push("`topic_check_interval` is below 1 ms".into());
    }
    if options.offset_refresh_interval < Duration::from_millis(1) {
        faults.push("`offset_refresh_interval` is below 1 ms".into());
    }
    if options.delivery_timeout.is_some_and(|timeout| timeout < Duration::from_millis(1)) {
        faults.push("`delivery_timeout` is below 1 ms; leave it out to wait without end".into());
    }
    if options.delivery_timeout.is_some_and(|timeout| timeout > MOST_DELIVERY_TIMEOUT) {
        faults.push(
            "`delivery_timeout` is above 2,147,483,647 ms (24.8 days); leave it out to wait without end"
                .into(),
        );
    }
}

/// A message that the producer's queue has no room for, also where it is empty, would be waited for without end.
fn check_queue(options: &Options, faults: &mut Vec<String>) {
    // librdkafka's defaults. What is not a number is a fault of its own.
    let number = |name, default| match options.property(name) {
        Some(value) => value.parse::<u64>().unwrap_or(default),
        None => default,
    };
    let queue = number("queue.buffering.max.kbytes", 1_048_576).saturating_mul(1024);
    let message = number("message.max.bytes", 1_000_000);
    if queue < message {
        faults.push(format!(
            "property `queue.buffering.max.kbytes` is {} KiB, which is less than one message may have \
             (`message.max.bytes`, {message}): such a message would be waited for without end",
            queue / 1024
        ));
    }
}

/// A member that hears of one topic's new partitions much later than of another's would stop: see
/// [`Builder::topic_check_interval`](super::Builder::topic_check_interval).
fn check_refresh(options: &Options, faults: &mut Vec<String>) {
    let is_joined = options.is_joined() && options.group_protocol == GroupProtocol::Classic;
    // What is not a number is a fault of its own.
    let value = options.property(REFRESH).and_then(|value| value.parse::<i64>().ok());
    let Some(value) = value.filter(|_| is_joined) else { return };
    let interval = options.topic_check_interval;
    let is_within = u64::try_from(value)
        .is_ok_and(|value| Duration::from_millis(value) <= interval.saturating_mul(2));
    if !is_within {
        faults.push(format!(
            "property `{REFRESH}` is {value}, which is not within twice `topic_check_interval` ({interval:?}): the group \
             would give out new partitions of one input topic long before those of another; leave it out, or set \
             `topic_check_interval` too"
        ));
    }
}

fn check_protocol(options: &Options, faults: &mut Vec<String>) {
    if options.group_protocol == GroupProtocol::Classic {
        return;
    }
    if options.partitions.is_some() {
        faults.push("`consumer_protocol` has no meaning with static `partitions`".into());
    }
    for property in ["partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"]
    {
        if options.property(property).is_some() {
            faults.push(format!(
                "property `{property}` has no meaning with `consumer_protocol`: the broker decides"
            ));
        }
    }
}

/// What the user set for librdkafka itself: names and values that it takes, none that the library owns.
fn check_properties(options: &Options, faults: &mut Vec<String>) {
    for (property, value) in &options.properties {
        if let Some(reason) = names::owned(property) {
            faults.push(format!("property `{property}` is set by the library: {reason}"));
        } else if property.contains('\0') || value.contains('\0') {
            faults.push(format!("property {property:?}: the name or the value has a zero byte"));
        } else if let Some(reason) = refusals::of_property(property, value) {
            faults.push(format!("property `{property}`: {reason}"));
        }
    }
    if let Some(protocol) = options.property("security.protocol") {
        faults.extend(refusals::of_login(protocol, options.property("sasl.mechanism")));
    }
}

/// librdkafka reads numbers as C does: `0x10` is 16, `010` is 8, and what is too long for 32 bits is cut. Only
/// what has one meaning is taken, because the deadlines of the library depend on it.
fn max_poll_interval(options: &Options, faults: &mut Vec<String>) -> Duration {
    let Some(value) = options.property("max.poll.interval.ms") else { return MAX_POLL_INTERVAL };
    let is_plain = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    match value.parse() {
        Ok(milliseconds @ 1..=MOST_POLL_INTERVAL_MS) if is_plain => {
            Duration::from_millis(milliseconds)
        }
        _ => {
            faults.push(
                "property `max.poll.interval.ms` is not a number of milliseconds from 1 to 86400000"
                    .into(),
            );
            MAX_POLL_INTERVAL
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Builder;
    use super::*;
    use crate::TopicProcessor;

    fn builder() -> Builder {
        TopicProcessor::builder("test", ["a"]).brokers("localhost:9092")
    }

    fn faults(builder: &Builder) -> String {
        check(&builder.options).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let text = faults(
            &TopicProcessor::builder("", ["a", "a", "b/c"])
                .max_in_flight(0)
                .kafka("enable.auto.commit", "true")
                .partitions([]),
        );
        for part in [
            "name is empty",
            "`brokers`",
            "named twice",
            "b/c",
            "max_in_flight",
            "auto.commit",
            "`partitions` is empty",
        ] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }

    #[test]
    fn the_producers_queue_has_room_for_the_largest_message() {
        let text = faults(&builder().kafka("queue.buffering.max.kbytes", "512"));
        assert!(text.contains("queue.buffering.max.kbytes") && text.contains("1000000"), "{text}");
        let fits = builder().kafka("queue.buffering.max.kbytes", "512");
        assert!(check(&fits.kafka("message.max.bytes", "500000").options).is_ok());
    }

    #[test]
    fn draining_and_committing_must_fit_the_poll_interval() {
        let short = || builder().kafka("max.poll.interval.ms", "5000");
        let text = faults(&short().drain_deadline(Duration::from_secs(4)));
        assert!(text.contains("drain_deadline") && !text.contains("commit_timeout"), "{text}");
        let text = faults(&short().commit_timeout(Duration::from_secs(2)));
        assert!(text.contains("commit_timeout") && !text.contains("drain_deadline"), "{text}");
        let plan = check(&short().options).unwrap();
        assert_eq!(plan.drain_deadline, Duration::from_millis(2500));
        assert_eq!(plan.commit_timeout, Duration::from_millis(1250));
        let plan = check(&builder().options).unwrap();
        assert_eq!(plan.drain_deadline, Duration::from_secs(30));
        assert_eq!(plan.commit_timeout, Duration::from_secs(10));
    }

    #[test]
    fn all_members_hear_of_new_partitions_in_time() {
        let joined = || TopicProcessor::builder("test", ["a", "b"]).brokers("localhost:9092");
        let late = |builder: Builder| builder.kafka(REFRESH, "20001");
        assert!(faults(&late(joined())).contains("20001"));
        assert!(faults(&joined().kafka(REFRESH, "-1")).contains(REFRESH), "never");
        for builder in [
            joined().kafka(REFRESH, "20000"),
            late(joined().topic_check_interval(Duration::from_secs(11))),
            late(builder()),
            late(joined().allow_unaligned_topics()),
            late(joined().partitions([0])),
            late(joined().consumer_protocol()),
        ] {
            assert!(check(&builder.options).is_ok());
        }
    }

    #[test]
    fn the_isolation_level_is_read_as_librdkafka_reads_it() {
        for (value, is_committed) in [
            ("read_uncommitted", false),
            ("READ_UNCOMMITTED", false),
            (" Read_Uncommitted", false),
            ("read_committed", true),
            ("Read_Committed", true),
        ] {
            let plan = check(&builder().kafka("isolation.level", value).options).unwrap();
            assert_eq!(plan.read_committed, is_committed, "{value}");
        }
        // librdkafka takes none of these, so nobody has to read them.
        for value in ["read_uncommitted ", "read-uncommitted", "uncommitted", "0", ""] {
            let text = faults(&builder().kafka("isolation.level", value));
            assert!(text.contains("isolation.level"), "{value}: {text}");
        }
    }

    #[test]
    fn numbers_that_librdkafka_reads_differently_are_refused() {
        for value in
            ["0x493e0", "0300000", "300000ms", " 300000", "+300000", "4295267296", "-1", "0"]
        {
            let text = faults(&builder().kafka("max.poll.interval.ms", value));
            assert!(text.contains("max.poll.interval.ms"), "{value}: {text}");
        }
    }

    #[test]
    fn every_fault_of_librdkafkas_properties_is_reported_at_once() {
        let text = faults(
            &builder()
                .brokers("host:99999,kafka://host")
                .kafka("no.such.thing", "1")
                .kafka("fetch.min.bytes", "many")
                .kafka("sasl.password\0", "hunter2")
                .kafka("topic.acks", "1"),
        );
        for part in [
            "`host:99999`",
            "`kafka://host`",
            "`no.such.thing`",
            "`fetch.min.bytes`",
            "zero byte",
            "`topic.acks` is set by the library",
        ] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn debug_output_holds_no_values() {
        let text = format!("{:?}", builder().kafka("sasl.password", "hunter2"));
        assert!(text.contains("sasl.password") && !text.contains("hunter2"), "{text}");
    }
}
