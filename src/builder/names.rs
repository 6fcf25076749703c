//! The names of properties: librdkafka has several for some, and each belongs to one client or to both.
//!
//! Every look-up of a property goes through [`canonical`]. Otherwise a second name for the same thing
//! would pass the refusal of what the library owns: `topic.message.timeout.ms` would set a time-out on
//! messages that the library promises to send without one.

/// How often librdkafka looks at the topics of its group.
pub(super) const REFRESH: &str = "topic.metadata.refresh.interval.ms";

/// Names that stand for another.
///
/// `enable.auto.commit` is missing on purpose: it is an alias among the topic properties alone. The
/// consumer has a property of that name, and both are owned by the library.
const ALIASES: &[(&str, &str)] = &[
    ("bootstrap.servers", "metadata.broker.list"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("retries", "message.send.max.retries"),
    ("compression.type", "compression.codec"),
    ("acks", "request.required.acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
];

/// Properties whose own names begin with `topic.`; the prefix of all others is dropped.
const BEGIN_WITH_TOPIC: &[&str] = &[
    REFRESH,
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.fast.cnt",
    "topic.metadata.refresh.sparse",
    "topic.metadata.propagation.max.ms",
    "topic.blacklist",
];

/// The one name that librdkafka gives to what `name` sets: aliases are resolved, and the prefix `topic.`,
/// which librdkafka accepts before the name of each topic property, is dropped.
///
/// Names are compared as librdkafka compares them: upper and lower case differ.
pub(super) fn canonical(name: &str) -> &str {
    let bare = match name.strip_prefix("topic.") {
        Some(bare) if !BEGIN_WITH_TOPIC.contains(&name) => bare,
        _ => name,
    };
    ALIASES.iter().find(|(alias, _)| *alias == bare).map_or(bare, |(_, canonical)| canonical)
}

/// Whether both names set the same property.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    canonical(one) == canonical(other)
}

/// Why the user may not set this property, if the library owns it.
pub(super) fn owned(name: &str) -> Option<&'static str> {
    OWNED.iter().find(|(owned, _)| is_same(owned, name)).map(|(_, reason)| *reason)
}

/// Whether one of `names` sets the same property.
pub(super) fn is_in(names: &[&str], name: &str) -> bool {
    names.iter().any(|listed| is_same(listed, name))
}

/// Properties that the user may not set, and why.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use `brokers`"),
    ("group.id", "use `group_id`"),
    ("enable.auto.commit", OFFSETS),
    ("auto.commit.enable", OFFSETS),
    ("auto.commit.interval.ms", "use `commit_interval`"),
    ("enable.auto.offset.store", OFFSETS),
    ("offset.store.method", OFFSETS),
    ("offset.store.path", OFFSETS),
    ("offset.store.sync.interval.ms", OFFSETS),
    (
        "auto.offset.reset",
        "use `start_from` and `out_of_range`: this property cannot tell a new \
        group from lost messages",
    ),
    ("enable.partition.eof", "it can skip messages; use `run_until_caught_up`"),
    ("group.protocol", "use `consumer_protocol`"),
    ("group.remote.assignor", "use `consumer_protocol`: joins need the range assignor"),
    ("partitioner", "use `partitioner`"),
    ("partitioner_cb", "use `partitioner`"),
    ("acks", "a batch counts as sent when all in-sync replicas have it"),
    ("enable.idempotence", "without it, retries reorder and duplicate messages"),
    ("message.timeout.ms", "use `delivery_timeout`"),
    ("transactional.id", "transactions are not supported"),
    ("queued.max.messages.kbytes", "use `max_buffered_bytes`"),
    ("queued.min.messages", "use `max_buffered_bytes`"),
    ("dr_cb", "the library counts delivery reports"),
    ("dr_msg_cb", "the library counts delivery reports"),
    ("delivery.report.only.error", "the library counts every delivery report"),
    ("rebalance_cb", "use `on_rebalance`"),
    ("offset_commit_cb", "the library watches commits"),
    ("consume_cb", "messages are passed to `process`"),
    ("stats_cb", "the library reads the statistics"),
    ("statistics.interval.ms", "the library reads the statistics"),
    ("oauthbearer_token_refresh_cb", "use `oauth_token`"),
    ("log_cb", "the client's log goes to `tracing`"),
    ("log.queue", "the client's log goes to `tracing`"),
    ("opaque", "the library uses it itself"),
];

const OFFSETS: &str = "the library commits offsets when a batch is finished, never before";

/// Properties for the producer alone; librdkafka would warn about most of them at a consumer. It takes
/// `max.in.flight` for both, but it is meant for the producer: a consumer whose fetches wait for each other
/// would send its commits late.
pub(super) const PRODUCER_ONLY: &[&str] = &[
    "linger.ms",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "queue.buffering.backpressure.threshold",
    "batch.size",
    "batch.num.messages",
    "compression.codec",
    "compression.level",
    "retries",
    "max.in.flight",
    "request.timeout.ms",
    "sticky.partitioning.linger.ms",
    "enable.gapless.guarantee",
    "transaction.timeout.ms",
    "topic.metadata.propagation.max.ms",
    "queuing.strategy",
    "produce.offset.report",
    "msg_order_cmp",
];

/// Properties for the consumer alone; librdkafka would warn about most of them at a producer.
pub(super) const CONSUMER_ONLY: &[&str] = &[
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "group.instance.id",
    "group.protocol.type",
    "partition.assignment.strategy",
    "isolation.level",
    "fetch.wait.max.ms",
    "fetch.queue.backoff.ms",
    "fetch.message.max.bytes",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "fetch.error.backoff.ms",
    "check.crcs",
    "client.rack",
    "coordinator.query.interval.ms",
    "allow.auto.create.topics",
    "consume.callback.max.messages",
];

#[cfg(test)]
mod tests {
    use super::super::check::check;
    use super::*;
    use crate::TopicProcessor;
    use crate::broker::kafka::table_of_properties;

    fn faults(property: &str) -> String {
        let builder = TopicProcessor::builder("test", ["a"]).brokers("localhost:9092");
        let builder = builder.kafka(property, "secret-value");
        check(&builder.options).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn owned_properties_are_refused_with_the_reason_under_each_of_their_names() {
        for (property, reason) in OWNED {
            let aliases = ALIASES.iter().filter(|(_, name)| *name == canonical(property));
            let names = aliases.map(|(alias, _)| *alias).chain([*property, canonical(property)]);
            for name in names.flat_map(|name| [name.to_owned(), format!("topic.{name}")]) {
                let text = faults(&name);
                assert!(text.contains(&name) && text.contains(reason), "{text}");
                assert!(!text.contains("secret-value"), "{text}");
            }
        }
    }

    /// librdkafka tells its aliases itself, so a new version of it cannot bring one unnoticed.
    #[test]
    fn every_alias_of_librdkafka_is_known() {
        let table = table_of_properties();
        let aliases: Vec<_> = table
            .iter()
            .filter_map(|(name, _, description)| {
                let (_, of) = description.split_once("Alias for `")?;
                Some((name.as_str(), of.split('`').next()?))
            })
            .collect();
        assert!(aliases.len() >= ALIASES.len(), "{aliases:?}");
        for (alias, of) in &aliases {
            if *alias == "enable.auto.commit" {
                assert!(owned(alias).is_some() && owned(of).is_some());
                continue;
            }
            assert_eq!(canonical(alias), canonical(of), "{alias}");
            assert_eq!(canonical(&format!("topic.{alias}")), canonical(of), "{alias}");
        }
        for known in ALIASES {
            assert!(aliases.contains(known), "{known:?} is not an alias");
        }
        for (name, _, _) in table.iter().filter(|(name, _, _)| name.starts_with("topic.")) {
            assert_eq!(canonical(name), name);
        }
    }

    #[test]
    fn each_property_of_one_client_alone_is_known_as_such() {
        for (name, role, _) in table_of_properties() {
            let (is_producers, is_consumers) =
                (is_in(PRODUCER_ONLY, &name), is_in(CONSUMER_ONLY, &name));
            match role.as_str() {
                _ if owned(&name).is_some() => assert!(!is_producers && !is_consumers, "{name}"),
                "P" => assert!(is_producers && !is_consumers, "{name}"),
                "C" => assert!(is_consumers && !is_producers, "{name}"),
                _ => assert!(!(is_consumers && is_producers), "{name}"),
            }
        }
    }
}
