//! From a [`Builder`] to the properties of the two Kafka clients: checks, defaults, and the refusal
//! of what the library owns.

use std::time::Duration;

use crate::builder::Builder;
use crate::error::{Error, Result};

/// Which rebalance protocol the group uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupProtocol {
    Classic,
    Consumer,
}

/// Properties that the user may not set, and why.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use `brokers`"),
    ("metadata.broker.list", "use `brokers`"),
    ("group.id", "use `group_id`"),
    ("enable.auto.commit", "offsets are recorded when a batch is finished, never before"),
    ("auto.commit.enable", "offsets are recorded when a batch is finished, never before"),
    ("auto.commit.interval.ms", "use `commit_interval`"),
    ("enable.auto.offset.store", "offsets are recorded when a batch is finished, never before"),
    (
        "auto.offset.reset",
        "use `start_from` and `out_of_range`: this property cannot tell a new \
        group from lost messages",
    ),
    ("enable.partition.eof", "it can skip messages; use `run_until_caught_up`"),
    ("group.protocol", "use `consumer_protocol`"),
    ("group.remote.assignor", "use `consumer_protocol`: joins need the range assignor"),
    ("partitioner", "use `partitioner`"),
    ("acks", "a batch counts as sent when all in-sync replicas have it"),
    ("request.required.acks", "a batch counts as sent when all in-sync replicas have it"),
    ("enable.idempotence", "without it, retries reorder and duplicate messages"),
    ("message.timeout.ms", "use `delivery_timeout`"),
    ("delivery.timeout.ms", "use `delivery_timeout`"),
    ("transactional.id", "transactions are not supported"),
    ("queued.max.messages.kbytes", "use `max_buffered_bytes`"),
    ("queued.min.messages", "use `max_buffered_bytes`"),
    ("dr_cb", "delivery reports are counted by the library"),
    ("dr_msg_cb", "delivery reports are counted by the library"),
    ("delivery.report.only.error", "every delivery report is counted"),
    ("rebalance_cb", "use `on_rebalance`"),
    ("offset_commit_cb", "commits are watched by the library"),
    ("stats_cb", "statistics are read by the library"),
    ("statistics.interval.ms", "statistics are read by the library"),
    ("oauthbearer_token_refresh_cb", "use `oauth_token`"),
    ("log_cb", "the client's log goes to `tracing`"),
    ("log.queue", "the client's log goes to `tracing`"),
    ("opaque", "it is the library's"),
];

/// Client settings that only one of the two clients knows; librdkafka would warn about the others.
const PRODUCER_ONLY: &[&str] = &[
    "linger.ms",
    "queue.buffering.max.ms",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "queue.buffering.backpressure.threshold",
    "batch.size",
    "batch.num.messages",
    "compression.codec",
    "compression.type",
    "compression.level",
    "message.send.max.retries",
    "retries",
    "retry.backoff.ms",
    "retry.backoff.max.ms",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "request.timeout.ms",
    "sticky.partitioning.linger.ms",
    "enable.gapless.guarantee",
    "topic.metadata.propagation.max.ms",
];
const CONSUMER_ONLY: &[&str] = &[
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "group.instance.id",
    "partition.assignment.strategy",
    "isolation.level",
    "fetch.wait.max.ms",
    "fetch.queue.backoff.ms",
    "fetch.message.max.bytes",
    "max.partition.fetch.bytes",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "fetch.error.backoff.ms",
    "check.crcs",
    "client.rack",
    "coordinator.query.interval.ms",
    "allow.auto.create.topics",
];

/// librdkafka's default, and Kafka's.
const MAX_POLL_INTERVAL: Duration = Duration::from_mins(5);

/// What the checks found out.
pub(crate) struct Plan {
    pub(crate) group_id: String,
    pub(crate) drain_deadline: Duration,
    pub(crate) commit_timeout: Duration,
    pub(crate) read_committed: bool,
}

impl Builder {
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        let set = self.properties.iter().rev().find(|(property, _)| property == name);
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
    for (property, _) in &builder.properties {
        if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| owned == property) {
            faults.push(format!("property `{property}` is set by the library: {reason}"));
        }
    }
    check_protocol(builder, &mut faults);
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
                 the group could go on without this member before what it has drained is recorded"
            ));
        }
    }
    if !faults.is_empty() {
        return Err(Error::faults(&faults));
    }
    let default_group = || format!("kasper-topic-processor-{}", builder.name);
    Ok(Plan {
        group_id: builder.group_id.clone().unwrap_or_else(default_group),
        drain_deadline,
        commit_timeout,
        read_committed: builder.property("isolation.level") != Some("read_uncommitted"),
    })
}

fn check_names(builder: &Builder, faults: &mut Vec<String>) {
    if builder.name.is_empty() {
        faults.push("the name is empty".into());
    }
    if builder.brokers.trim().is_empty() {
        faults.push("`brokers` is not set (host:port, several separated by commas)".into());
    }
    if builder.topics.is_empty() {
        faults.push("there are no input topics".into());
    }
    if builder.topics.len() > usize::from(u16::MAX) {
        faults.push("there are more than 65,535 input topics".into());
    }
    for (index, topic) in builder.topics.iter().enumerate() {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic.is_empty() || topic.len() > 249 || !topic.chars().all(legal) {
            faults.push(format!(
                "`{topic}` is no topic name (1 to 249 of a-z, A-Z, 0-9, `.`, `_`, `-`)"
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
    if builder.metrics_interval < Duration::from_millis(1) {
        faults.push("`metrics_interval` is below 1 ms".into());
    }
    if builder.lag_interval < Duration::from_millis(1) {
        faults.push("`lag_interval` is below 1 ms".into());
    }
    if builder.commit_interval < Duration::from_millis(1) {
        faults.push("`commit_interval` is below 1 ms".into());
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

fn max_poll_interval(builder: &Builder, faults: &mut Vec<String>) -> Duration {
    let Some(value) = builder.property("max.poll.interval.ms") else { return MAX_POLL_INTERVAL };
    match value.parse() {
        Ok(milliseconds) => Duration::from_millis(milliseconds),
        Err(_) => {
            faults.push("property `max.poll.interval.ms` is no number of milliseconds".into());
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
        let producer = layered(producer_defaults(builder), builder, CONSUMER_ONLY);
        (consumer, producer)
    }

    fn consumer_defaults(&self, builder: &Builder, numbers: usize, topics: usize) -> Properties {
        let queue = queue_bytes(builder.max_buffered_bytes, numbers);
        let fetch = fetch_bytes(builder.max_buffered_bytes, numbers * topics);
        let mut properties = vec![
            ("bootstrap.servers".into(), builder.brokers.clone()),
            ("group.id".into(), self.group_id.clone()),
            ("enable.auto.commit".into(), "false".into()),
            ("enable.auto.offset.store".into(), "false".into()),
            ("enable.partition.eof".into(), "false".into()),
            // Offsets are always assigned explicitly; what is out of range is told, not guessed.
            ("auto.offset.reset".into(), "error".into()),
            ("statistics.interval.ms".into(), "500".into()),
            ("queued.max.messages.kbytes".into(), (queue >> 10).max(1).to_string()),
            // The byte limit alone decides how much is fetched ahead.
            ("queued.min.messages".into(), "1000000".into()),
            ("fetch.message.max.bytes".into(), fetch.to_string()),
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
}

fn producer_defaults(builder: &Builder) -> Properties {
    // 0 is librdkafka's word for "without end".
    let timeout = builder.delivery_timeout.map_or(0, |timeout| timeout.as_millis());
    vec![
        ("bootstrap.servers".into(), builder.brokers.clone()),
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

/// The library's defaults, overridden and completed by what the user set, without what only the other
/// client knows.
fn layered(defaults: Properties, builder: &Builder, not: &[&str]) -> Properties {
    let mut all = defaults;
    let own = builder.properties.iter().filter(|(name, _)| !not.contains(&name.as_str()));
    for (name, value) in own {
        let name =
            if name == "max.partition.fetch.bytes" { "fetch.message.max.bytes" } else { name };
        match all.iter_mut().find(|(set, _)| set == name) {
            Some(set) => set.1.clone_from(value),
            None => all.push((name.to_owned(), value.clone())),
        }
    }
    all
}

/// The share of one partition number's queue: of seven eighths of the budget, since a fetch can come
/// on top. librdkafka counts the payload; with its own overhead a message of 1 KiB takes up to 1.75
/// times as much (measured).
fn queue_bytes(budget: usize, numbers: usize) -> usize {
    (budget / 8 * 7 / numbers.max(1)).max(16 << 10)
}

/// How much one fetch may bring per topic-partition, on top of a queue that was just not full.
/// 1 MiB at most, librdkafka's default; a larger message is still fetched.
fn fetch_bytes(budget: usize, topic_partitions: usize) -> usize {
    (budget / 8 / topic_partitions.max(1)).clamp(16 << 10, 1 << 20)
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
    fn owned_properties_are_refused_with_the_reason() {
        for (property, reason) in OWNED {
            let text = faults(&builder().kafka(*property, "secret-value"));
            assert!(text.contains(property) && text.contains(reason), "{text}");
            assert!(!text.contains("secret-value"), "{text}");
        }
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
    fn debug_output_holds_no_values() {
        let text = format!("{:?}", builder().kafka("sasl.password", "hunter2"));
        assert!(text.contains("sasl.password") && !text.contains("hunter2"), "{text}");
    }
}
