//! From a [`Builder`] to the properties of the two Kafka clients: checks, defaults, and the refusal
//! of what the library owns.

mod brokers;
mod names;

use std::time::Duration;

use self::names::{CONSUMER_ONLY, PRODUCER_ONLY, canonical};
use crate::broker::kafka::refusals;
use crate::builder::Builder;
use crate::error::{Error, Result};
use crate::fetch_ahead::FetchAhead;
use crate::settings::StartFrom;

/// Which rebalance protocol the group uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupProtocol {
    Classic,
    Consumer,
}

/// librdkafka's default, and Kafka's.
const MAX_POLL_INTERVAL: Duration = Duration::from_mins(5);

/// The most that librdkafka allows for `max.poll.interval.ms`: a day.
const MOST_POLL_INTERVAL_MS: u64 = 86_400_000;

/// The most that librdkafka allows for `message.timeout.ms`. It would cut a larger number to 32 bits and take
/// what is left, which may be anything.
const MOST_DELIVERY_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// What the checks found out.
pub(crate) struct Plan {
    /// As librdkafka reads the list.
    pub(crate) brokers: String,
    pub(crate) group_id: String,
    pub(crate) drain_deadline: Duration,
    pub(crate) commit_timeout: Duration,
    pub(crate) read_committed: bool,
}

impl Builder {
    /// The value that the user set for a property, under whichever of its names; the last one counts.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        let set = self.properties.iter().rev().find(|(set, _)| names::is_same(set, name));
        set.map(|(_, value)| value.as_str())
    }
}

/// Checks everything that can be checked without a broker.
///
/// # Errors
/// One error that lists every fault.
pub(crate) fn check(builder: &Builder) -> Result<Plan> {
    let mut faults = Vec::new();
    check_names(builder, &mut faults);
    check_limits(builder, &mut faults);
    let brokers = brokers::parse(&builder.brokers, builder.property("security.protocol"));
    let brokers = brokers.map_err(|more| faults.extend(more)).unwrap_or_default();
    check_properties(builder, &mut faults);
    check_protocol(builder, &mut faults);
    check_queue(builder, &mut faults);
    let max_poll_interval = max_poll_interval(builder, &mut faults);
    let default_deadline = Duration::from_secs(30).min(max_poll_interval / 2);
    let drain_deadline = builder.drain_deadline.unwrap_or(default_deadline);
    let default_timeout = Duration::from_secs(10).min(max_poll_interval / 4);
    let commit_timeout = builder.commit_timeout.unwrap_or(default_timeout);
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
    let default_group = || format!("kasper-topic-processor-{}", builder.name);
    Ok(Plan {
        brokers,
        group_id: builder.group_id.clone().unwrap_or_else(default_group),
        drain_deadline,
        commit_timeout,
        read_committed: !builder.property("isolation.level").is_some_and(is_read_uncommitted),
    })
}

/// As librdkafka reads the value: in upper or lower case, with spaces in front.
fn is_read_uncommitted(value: &str) -> bool {
    value.trim_start().eq_ignore_ascii_case("read_uncommitted")
}

fn check_names(builder: &Builder, faults: &mut Vec<String>) {
    if builder.name.is_empty() {
        faults.push("the name is empty".into());
    }
    if builder.group_id.as_ref().is_some_and(String::is_empty) {
        faults.push("`group_id` is empty".into());
    }
    if matches!(builder.start_from, StartFrom::Timestamp(..0)) {
        faults.push("`start_from`: the timestamp is negative (milliseconds since 1970)".into());
    }
    if builder.topics.is_empty() {
        faults.push("there are no input topics".into());
    }
    if builder.topics.len() > usize::from(u16::MAX) {
        faults.push("there are more than 65,535 input topics".into());
    }
    for (index, topic) in builder.topics.iter().enumerate() {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_dots = topic == "." || topic == "..";
        if topic.is_empty() || topic.len() > 249 || is_dots || !topic.chars().all(legal) {
            faults.push(format!(
                "`{topic}` is not a valid topic name (1 to 249 of a-z, A-Z, 0-9, `.`, `_`, `-`)"
            ));
        }
        if builder.topics[..index].contains(topic) {
            faults.push(format!("input topic `{topic}` is named twice"));
        }
    }
    if let Some(partitions) = &builder.partitions {
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

fn check_limits(builder: &Builder, faults: &mut Vec<String>) {
    let at_least_one = [
        ("max_batch_messages", builder.max_batch_messages),
        ("max_batch_bytes", builder.max_batch_bytes),
        ("max_in_flight", builder.max_in_flight),
        ("max_in_flight_bytes", builder.max_in_flight_bytes),
    ];
    for (name, value) in at_least_one {
        if value == 0 {
            faults.push(format!("`{name}` is 0; it must be at least 1"));
        }
    }
    if builder.max_buffered_bytes < 64 << 10 {
        faults.push("`max_buffered_bytes` is below 64 KiB".into());
    }
    let at_least_a_millisecond = [
        ("metrics_interval", Some(builder.metrics_interval)),
        ("lag_interval", Some(builder.lag_interval)),
        ("commit_interval", Some(builder.commit_interval)),
        ("stall_timeout", Some(builder.stall_timeout)),
        ("connect_timeout", Some(builder.connect_timeout)),
        ("commit_timeout", builder.commit_timeout),
    ];
    for (name, value) in at_least_a_millisecond {
        if value.is_some_and(|value| value < Duration::from_millis(1)) {
            faults.push(format!("`{name}` is below 1 ms"));
        }
    }
    if builder.topic_check_interval < Duration::from_millis(1) {
        faults.push("`topic_check_interval` is below 1 ms".into());
    }
    if builder.offset_refresh_interval < Duration::from_millis(1) {
        faults.push("`offset_refresh_interval` is below 1 ms".into());
    }
    if builder.delivery_timeout.is_some_and(|timeout| timeout < Duration::from_millis(1)) {
        faults.push("`delivery_timeout` is below 1 ms; leave it out to wait without end".into());
    }
    if builder.delivery_timeout.is_some_and(|timeout| timeout > MOST_DELIVERY_TIMEOUT) {
        faults.push(
            "`delivery_timeout` is above 2,147,483,647 ms (24.8 days); leave it out to wait without end"
                .into(),
        );
    }
}

/// A message that the producer's queue has no room for, also where it is empty, would be waited for without end.
fn check_queue(builder: &Builder, faults: &mut Vec<String>) {
    // librdkafka's defaults. What is not a number is a fault of its own.
    let number = |name, default| match builder.property(name) {
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

fn check_protocol(builder: &Builder, faults: &mut Vec<String>) {
    if builder.group_protocol == GroupProtocol::Classic {
        return;
    }
    if builder.partitions.is_some() {
        faults.push("`consumer_protocol` has no meaning with static `partitions`".into());
    }
    for property in ["partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"]
    {
        if builder.property(property).is_some() {
            faults.push(format!(
                "property `{property}` has no meaning with `consumer_protocol`: the broker decides"
            ));
        }
    }
}

/// What the user set for librdkafka itself: names and values that it takes, none that the library owns.
fn check_properties(builder: &Builder, faults: &mut Vec<String>) {
    for (property, value) in &builder.properties {
        if let Some(reason) = names::owned(property) {
            faults.push(format!("property `{property}` is set by the library: {reason}"));
        } else if property.contains('\0') || value.contains('\0') {
            faults.push(format!("property {property:?}: the name or the value has a zero byte"));
        } else if let Some(reason) = refusals::of_property(property, value) {
            faults.push(format!("property `{property}`: {reason}"));
        }
    }
    if let Some(protocol) = builder.property("security.protocol") {
        faults.extend(refusals::of_login(protocol, builder.property("sasl.mechanism")));
    }
}

/// librdkafka reads numbers as C does: `0x10` is 16, `010` is 8, and what is too long for 32 bits is cut. Only
/// what has one meaning is taken, because the deadlines of the library depend on it.
fn max_poll_interval(builder: &Builder, faults: &mut Vec<String>) -> Duration {
    let Some(value) = builder.property("max.poll.interval.ms") else { return MAX_POLL_INTERVAL };
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

type Properties = Vec<(String, String)>;

impl Plan {
    /// The properties of the consumer and of the producer, for a process that gets `numbers`
    /// partition numbers of `topics` topics.
    pub(crate) fn clients(
        &self,
        builder: &Builder,
        numbers: usize,
        topics: usize,
    ) -> (Properties, Properties) {
        let consumer =
            layered(self.consumer_defaults(builder, numbers, topics), builder, PRODUCER_ONLY);
        let producer = layered(self.producer_defaults(builder), builder, CONSUMER_ONLY);
        (consumer, producer)
    }

    fn consumer_defaults(&self, builder: &Builder, numbers: usize, topics: usize) -> Properties {
        let ahead = FetchAhead::new(builder.max_buffered_bytes, numbers, topics);
        let mut properties = vec![
            ("bootstrap.servers".into(), self.brokers.clone()),
            ("group.id".into(), self.group_id.clone()),
            ("enable.auto.commit".into(), "false".into()),
            ("enable.auto.offset.store".into(), "false".into()),
            ("enable.partition.eof".into(), "false".into()),
            // Offsets are always assigned explicitly; what is out of range is told, not guessed.
            ("auto.offset.reset".into(), "error".into()),
            ("statistics.interval.ms".into(), "500".into()),
            ("queued.max.messages.kbytes".into(), (ahead.value_bytes >> 10).to_string()),
            ("queued.min.messages".into(), ahead.messages.to_string()),
            ("fetch.message.max.bytes".into(), ahead.fetch_bytes.to_string()),
            // The default of a second costs a factor of 5 to 9 in throughput: a queue that was full
            // once is not fetched into for so long.
            ("fetch.queue.backoff.ms".into(), "5".into()),
            // A broker answers one fetch at a time: one that waits for a dry partition holds up the
            // others for so long. (The default is 500.)
            ("fetch.wait.max.ms".into(), "50".into()),
            ("reconnect.backoff.max.ms".into(), "2000".into()),
        ];
        match builder.group_protocol {
            GroupProtocol::Classic => {
                properties.push(("partition.assignment.strategy".into(), "range".into()));
            }
            GroupProtocol::Consumer => {
                properties.push(("group.protocol".into(), "consumer".into()));
                properties.push(("group.remote.assignor".into(), "range".into()));
            }
        }
        properties
    }

    fn producer_defaults(&self, builder: &Builder) -> Properties {
        // 0 is librdkafka's word for "without end".
        let timeout = builder.delivery_timeout.map_or(0, |timeout| timeout.as_millis());
        vec![
            ("bootstrap.servers".into(), self.brokers.clone()),
            ("acks".into(), "all".into()),
            ("enable.idempotence".into(), "true".into()),
            ("message.timeout.ms".into(), timeout.to_string()),
            ("partitioner".into(), builder.partitioner.name().into()),
            // A batch is handed over whole, so there is little to wait for.
            ("linger.ms".into(), "1".into()),
            // Batches in flight are bounded per partition, in number and bytes.
            ("queue.buffering.max.messages".into(), "2000000".into()),
            ("reconnect.backoff.max.ms".into(), "2000".into()),
        ]
    }
}

/// The library's defaults, overridden and completed by what the user set, without what only the other
/// client knows.
fn layered(defaults: Properties, builder: &Builder, not: &[&str]) -> Properties {
    let mut all = defaults;
    let own = builder.properties.iter().filter(|(name, _)| !names::is_in(not, name));
    for (name, value) in own {
        match all.iter_mut().find(|(set, _)| names::is_same(set, name)) {
            Some(set) => set.1.clone_from(value),
            None => all.push((canonical(name).to_owned(), value.clone())),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopicProcessor;

    fn builder() -> Builder {
        TopicProcessor::builder("test", ["a"]).brokers("localhost:9092")
    }

    fn faults(builder: &Builder) -> String {
        check(builder).map(|_| ()).unwrap_err().to_string()
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
        assert!(check(&fits.kafka("message.max.bytes", "500000")).is_ok());
    }

    #[test]
    fn draining_and_recording_must_fit_the_poll_interval() {
        let short = || builder().kafka("max.poll.interval.ms", "5000");
        let text = faults(&short().drain_deadline(Duration::from_secs(4)));
        assert!(text.contains("drain_deadline") && !text.contains("commit_timeout"), "{text}");
        let text = faults(&short().commit_timeout(Duration::from_secs(2)));
        assert!(text.contains("commit_timeout") && !text.contains("drain_deadline"), "{text}");
        let plan = check(&short()).unwrap();
        assert_eq!(plan.drain_deadline, Duration::from_millis(2500));
        assert_eq!(plan.commit_timeout, Duration::from_millis(1250));
        let plan = check(&builder()).unwrap();
        assert_eq!(plan.drain_deadline, Duration::from_secs(30));
        assert_eq!(plan.commit_timeout, Duration::from_secs(10));
    }

    #[test]
    fn a_property_reaches_the_clients_that_have_it() {
        let builder = builder()
            .kafka("linger.ms", "20")
            .kafka("session.timeout.ms", "9000")
            .kafka("client.id", "me");
        let (consumer, producer) = check(&builder).unwrap().clients(&builder, 4, 1);
        let get = |properties: &Properties, name: &str| {
            let found = properties.iter().filter(|(property, _)| property == name);
            found.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(get(&producer, "linger.ms"), ["20"], "overrides the default");
        assert!(get(&consumer, "linger.ms").is_empty());
        assert_eq!(get(&consumer, "session.timeout.ms"), ["9000"]);
        assert!(get(&producer, "session.timeout.ms").is_empty());
        assert_eq!(get(&consumer, "client.id"), ["me"]);
        assert_eq!(get(&producer, "client.id"), ["me"]);
    }

    #[test]
    fn a_property_has_one_value_under_all_its_names() {
        let builder = builder()
            .kafka("queue.buffering.max.ms", "20")
            .kafka("max.partition.fetch.bytes", "1000")
            .kafka("compression.codec", "gzip")
            .kafka("topic.compression.type", "lz4");
        let (consumer, producer) = check(&builder).unwrap().clients(&builder, 4, 1);
        let get = |properties: &Properties, name: &str| {
            let found = properties.iter().filter(|(property, _)| names::is_same(property, name));
            found.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        assert_eq!(get(&producer, "linger.ms"), ["20"]);
        assert_eq!(get(&consumer, "linger.ms"), [""; 0]);
        assert_eq!(get(&consumer, "fetch.message.max.bytes"), ["1000"]);
        assert_eq!(get(&producer, "max.partition.fetch.bytes"), [""; 0]);
        assert_eq!(get(&producer, "compression.type"), ["lz4"], "the last one counts");
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
            let plan = check(&builder().kafka("isolation.level", value)).unwrap();
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
